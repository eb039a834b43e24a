// The 2D literature's zoom of slices to the network's size and back, by nearest neighbour
// (scipy.ndimage.zoom with order 0, in the data loaders of SSL4MIS and the code that descends from it).
#pragma once

#include <cstdint>
#include <vector>

#include "engine/tensor.hpp"

namespace semivox::kernels {

/// Which of `from` pixels each of `to` pixels shows; -1 where it shows nothing.
///
/// Pixel i lies at t = i ((from - 1) / (to - 1)) in double, so that the corners of both grids coincide, and
/// shows pixel floor(t + 1/2). Where rounding takes t of the last pixel beyond from - 1 it lies outside, as
/// in SciPy.
std::vector<int32_t> zoom_table(int64_t from, int64_t to);

/// Probabilities of slices zoomed back to their own grid: probabilities (S, K, 1, H, W) f32 = softmax of the
/// logits (S, K, 1, h, w) f32 at row rows[i], column columns[j] (zoom_table(h, H), zoom_table(w, W)); pixels
/// that show nothing are background.
void softmax_zoom(const Tensor& logits, const std::vector<int32_t>& rows, const std::vector<int32_t>& columns,
                  const Tensor& probabilities);

}  // namespace semivox::kernels
