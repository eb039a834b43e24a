#include "kernels/conv.hpp"

namespace semivox::kernels {

Shape ConvGeometry::output_shape(const Shape& input) const {
  SEMIVOX_CHECK(input.c == in_channels, "convolution of ", input.str(), ": expected ", in_channels,
                " channels");
  SEMIVOX_CHECK(!transposed || dilation == 1, "transposed convolution with dilation ", dilation);
  const auto size = [&](int axis, int64_t i) {
    const int64_t extent = (kernel[axis] - 1) * dilation + 1;
    const int64_t reach = transposed ? (i - 1) * stride[axis] - 2 * padding[axis] + kernel[axis]
                                     : i + 2 * padding[axis] - extent;
    const int64_t o = transposed ? reach : reach / stride[axis] + 1;
    SEMIVOX_CHECK(reach >= 0 && o > 0, "convolution of ", input.str(), ": axis ", axis, " of size ", i,
                  " is too small for kernel ", kernel[axis]);
    return o;
  };
  return {input.n, out_channels, size(0, input.d), size(1, input.h), size(2, input.w)};
}

}  // namespace semivox::kernels
