// What methods that paste images into each other share (BCP, CVBM, CML): two phases, the pasted region,
// pseudo-labels.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "kernels/mixing.hpp"
#include "methods/method.hpp"

namespace semivox {

/// Pre-training on pairs of labelled images, then self-training.
class CopyPastePhases {
 public:
  /// Reads `pretrain` and `selftrain_from`.
  explicit CopyPastePhases(OptionReader& options);

  /// Pre-training sees the batch's labelled images at a constant learning rate; in self-training as many
  /// unlabelled ones come beside them. Throws UsageError for an odd batch, because images are mixed in pairs.
  std::vector<Phase> operator()(const MethodSetup& setup) const;

 private:
  double pretrain_;
  bool from_best_;
};

/// What part of an image is pasted into another.
class PastedRegion {
 public:
  /// Reads `mask_ratio`, `mask`, `mask_corner` and `mask_range`. Throws UsageError for a
  /// corner or range that cannot be read.
  explicit PastedRegion(OptionReader& options);

  /// u8 mask (1,1,D,H,W) for images of this size: 0 inside the region, 1 outside. Throws UsageError for a
  /// corner or range that does not fit.
  Tensor draw(const Tensor& image, const RandomStream& random) const;

 private:
  kernels::Box draw_box(const std::array<int64_t, 3>& size, const RandomStream& random) const;
  std::vector<kernels::Box> draw_boxes(const std::array<int64_t, 3>& size, const RandomStream& random) const;

  double ratio_;
  std::string shape_;
  std::optional<std::array<int64_t, 3>> corner_, range_;
};

/// Reads `neighbours`, the connectivity of the pseudo-labels' components; throws UsageError unless 6, 18 or
/// 26.
int read_neighbours(OptionReader& options);

/// Hard decisions (N,1,D,H,W) u8 of a network, p1 = 1/2 being foreground; only the largest component of each
/// class is kept.
Tensor pseudo_labels(const Tensor& logits, int neighbours);

/// The mask of a region that covers everything: 1 at every voxel of images of this size.
Tensor whole_mask(const Tensor& image);

}  // namespace semivox
