// Convolutions whose patches do not overlap (kernel = stride, no padding) as matrix products on the CPU: the
// V-Net's down- and up-sampling. A block of fine rows is copied to (or from) a matrix with one patch per
// line, small enough to stay in the cache; on the largest layers this is several times faster than the
// library's strided convolutions.
//
// Operands as in kernels/conv_grids.hpp; dtypes f32 or bf16; fine voxels outside all patches read as nothing,
// get zero.
#pragma once

#include "kernels/conv_grids.hpp"
#include "kernels/onednn_primitives.hpp"

namespace semivox::kernels::onednn {

/// True when the library multiplies matrices of this dtype on this processor.
bool has_products(DType dtype);

/// Both overwrite their last argument; `bias` may be undefined, `activation` none.
void patches_to_coarse(const ConvGeometry&, const Tensor& fine, const ConvWeights&, const Tensor& bias,
                       Activation activation, Tensor& coarse);
void patches_to_fine(const ConvGeometry&, const Tensor& coarse, const ConvWeights&, const Tensor& bias,
                     Activation activation, Tensor& fine);

/// Adds to dw (coarse, fine, kD, kH, kW). `fine` and `coarse` have the same dtype.
void patches_to_weights(const ConvGeometry&, const Tensor& fine, const Tensor& coarse, Tensor& dw);

}  // namespace semivox::kernels::onednn
