// Copy-paste mixing (Bai et al., "Bidirectional copy-paste for semi-supervised medical image segmentation",
// CVPR 2023).
//
// A mask M is 1 outside the pasted region and 0 inside, one (D, H, W) map shared by the whole batch.
#pragma once

#include <array>
#include <functional>
#include <string>
#include <vector>

#include "engine/random.hpp"
#include "engine/tensor.hpp"

namespace semivox::kernels {

/// A half-open box of voxels.
struct Box {
  std::array<int64_t, 3> begin{}, end{};
};

/// One box of side int(size * ratio) per axis; its corner is uniform in 0 ... size-side-1: as in the official
/// code, the last position that fits is never drawn (0 when nothing else fits). Draws 0, 1, 2 of `random` are
/// the three corners.
Box draw_box(std::array<int64_t, 3> size, double ratio, const RandomStream& random);

/// The box at a fixed corner; throws UsageError when it does not fit.
Box box_at(std::array<int64_t, 3> size, double ratio, std::array<int64_t, 3> corner);

/// Ablation "random": a 3x3x3 grid of cells (3x3 for D == 1), a box of about 2/3 of the cell's side drawn in
/// each.
std::vector<Box> draw_grid_boxes(std::array<int64_t, 3> size, const RandomStream& random);

/// Ablation "contact": a band of int(size * 8/27) slices along the last axis over the full width; for 2D (D
/// == 1) int(size * 4/9) rows along axis 1.
Box draw_band(std::array<int64_t, 3> size, const RandomStream& random);

/// u8 mask (1,1,D,H,W): 0 inside any box, 1 outside.
Tensor box_mask(std::array<int64_t, 3> size, const std::vector<Box>& boxes, Device device);

/// The same of boxes that `draw` gives, in a recorded iteration anew in every replay; their number is always
/// the same.
Tensor drawn_box_mask(std::array<int64_t, 3> size, const std::function<std::vector<Box>()>& draw,
                      Device device);

/// out = outer * M + inner * (1 - M); outer and inner (N,C,D,H,W) of one dtype (f32, bf16, f64 or u8), M
/// (1,1,D,H,W).
Tensor copy_paste(const Tensor& outer, const Tensor& inner, const Tensor& mask);

}  // namespace semivox::kernels
