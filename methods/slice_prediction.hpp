// Prediction of a volume slice by slice with a 2D network, as the 2D literature does it (test_2D_fully.py of
// SSL4MIS and its descendants): zoom the slice to the patch, predict, zoom back.
#pragma once

#include "methods/sliding_window.hpp"

namespace semivox {

/// Throws UsageError unless the patch is one slice (1, h, w) that the network takes, without mirroring.
void check_slice_windows(const Network& network, const WindowOptions& options);

/// Probabilities (1, classes, S, H, W) f32 of a stack of slices (1, C, S, H, W) f32 on the network's device.
///
/// Every slice is zoomed to (h, w) of the patch by nearest neighbour, goes through the network in evaluation
/// mode (`options.batch` slices per pass), and its softmax is zoomed back in the same way
/// (kernels::zoom_table); the few pixels that SciPy's zoom leaves out are background.
Tensor predict_zoomed_slices(Network& network, const Tensor& image, const WindowOptions& options);

}  // namespace semivox
