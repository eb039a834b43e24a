#include "io/batch.hpp"

#include "io/streams.hpp"
#include "kernels/gather.hpp"
#include "kernels/grid_distortion.hpp"

namespace semivox::io {
namespace {

kernels::GatherSample gather_sample(const CachedCase& cached, const kernels::IndexMap& map) {
  return {.image = cached.image.raw(),
          .label = cached.label.defined() ? cached.label.data<uint8_t>() : nullptr,
          .dtype = cached.image.dtype(),
          .slope = cached.slope,
          .intercept = cached.intercept,
          .map = map};
}

}  // namespace

Batch make_batch(const std::vector<const CachedCase*>& cases, const Extent3& patch, AugmentMode mode,
                 uint64_t seed, uint64_t iteration) {
  SEMIVOX_CHECK(!cases.empty() && cases.size() < 0xf00, cases.size(), " samples");
  std::vector<kernels::GatherSample> samples;
  std::vector<Augmentation> augmentations;
  for (const CachedCase* cached : cases) {
    const RandomStream random{seed, iteration, kAugmentationStream + samples.size()};
    augmentations.push_back(draw_augmentation(mode, cached->shape, patch, random));
    samples.push_back(gather_sample(*cached, index_map(augmentations.back(), cached->shape, patch)));
  }
  const Shape shape{static_cast<int64_t>(cases.size()), cases.front()->image.shape().c, patch[0], patch[1],
                    patch[2]};
  const Device device = cases.front()->image.device();
  Batch batch{Tensor::empty(shape, DType::f32, device, MemoryTag::data),
              Tensor::empty(shape.with_channels(1), DType::u8, device, MemoryTag::data)};
  kernels::gather(samples, batch.image, batch.label);
  for (size_t i = 0; i < samples.size(); ++i) {
    if (augmentations[i].distortion[0].empty()) continue;
    const Extent3& size = cases[i]->shape;
    const auto n = static_cast<int64_t>(i);
    kernels::gather_distorted({samples[i], size, distorted_coordinates(augmentations[i], size, patch)},
                              batch.image.samples(n, 1), batch.label.samples(n, 1));
  }
  return batch;
}

Tensor whole_image(const CachedCase& cached) {
  const Tensor image =
      Tensor::empty(cached.image.shape(), DType::f32, cached.image.device(), MemoryTag::data);
  kernels::gather({gather_sample(cached, index_map(Augmentation{}, cached.shape, cached.shape))}, image,
                  Tensor{});
  return image;
}

}  // namespace semivox::io
