#include "layers/voxel_contrast.hpp"

#include "kernels/info_nce.hpp"

namespace semivox {

Variable voxel_contrast(const Variable& a, const Variable& b, const Variable& negatives,
                        const Tensor& anchor_logits, const Tensor& negative_logits,
                        const VoxelContrastOptions& options) {
  const int64_t classes = anchor_logits.shape().c;
  SEMIVOX_CHECK(a.shape() == b.shape() && anchor_logits.shape() == a.shape().with_channels(classes),
                a.shape().str(), " and ", b.shape().str(), " with logits ", anchor_logits.shape().str());
  SEMIVOX_CHECK(negative_logits.shape() == negatives.shape().with_channels(classes), negatives.shape().str(),
                " with logits ", negative_logits.shape().str());
  kernels::InfoNce contrast;
  contrast.a = kernels::unit_rows(a.value());
  contrast.b = kernels::unit_rows(b.value());
  contrast.negatives = kernels::unit_rows(negatives.value());
  contrast.classes = kernels::confident_classes(anchor_logits).classes;
  contrast.lists = kernels::choose_negatives(kernels::confident_classes(negative_logits), classes,
                                             options.negatives, options.fill);
  contrast.temperature = options.temperature;
  const Tensor loss = kernels::info_nce_forward(contrast);
  const DType dtype = a.value().dtype();
  return Variable::result(loss, {a, b, negatives}, false,
                          [contrast, dtype, a = a.for_backward(), b = b.for_backward(),
                           negatives = negatives.for_backward()](const Tensor& upstream) {
                            const kernels::InfoNceGradients g =
                                kernels::info_nce_backward(contrast, upstream);
                            a.add_gradient(kernels::unit_rows_backward(contrast.a, g.a, a.shape(), dtype));
                            b.add_gradient(kernels::unit_rows_backward(contrast.b, g.b, b.shape(), dtype));
                            negatives.add_gradient(kernels::unit_rows_backward(
                                contrast.negatives, g.negatives, negatives.shape(), dtype));
                          });
}

}  // namespace semivox
