// Preprocessing of Pancreas-CT and BraTS as the semi-supervised field does it before training, volume by
// volume.
#pragma once

#include <string>

#include "io/stored_image.hpp"
#include "io/volume.hpp"

namespace semivox::io {

/// A prepared scan and its label on one grid.
struct PreparedCase {
  Image image;
  LabelMap label;
};

enum class PancreasPipeline {
  mc_net,   ///< 1 mm by cubic B-spline; crop in x and y; z-score of the crop (MC-Net, DTC, CVBM)
  rcps,     ///< 1 mm linearly, labels too; 0...1; crop in x, y and z (RCPS)
  coranet,  ///< in-plane spacing taken for all axes, 1 mm linearly; 0...1; crop in x, y and z (CoraNet, BCP)
};

/// Pancreas-CT: `image` in Hounsfield units and `label` 0/1 on one grid of the array order x, y, z. `file` is
/// for messages.
///
/// mc_net: size int(size * spacing), voxel i of the new grid at i / spacing of the old (what lies more than
/// half a voxel outside is 0); labels by the nearest voxel; (clip to [-125, 275] + 125) / 400; along x and y
/// the box of the label, at least 96 long, with 25 voxels of margin below and 24 above; (v - mean) /
/// population standard deviation of the crop. rcps: the same grid, image and label linear (up to half a voxel
/// outside the values of the border, then 0), label >= 0.5; clip to [-125, 275]; (v - min) / (max - min);
/// the same box along all three axes. coranet: size round(size * s) with the in-plane spacing s for
/// every axis, voxel i at i / s, linear and rounded to integers, outside 0; clip to [-125, 275]; (v - min) /
/// (max - min); along every axis the box of the label with 25 voxels below and 26 above, widened to 96,
/// filled up with 0 where the scan is shorter.
///
/// Throws DataError for a label without foreground, for shapes that differ and for unknown spacings.
PreparedCase prepare_pancreas(const Image& image, const LabelMap& label, PancreasPipeline pipeline,
                              const std::string& file);

/// BraTS: the FLAIR image and the challenge's label (0 ... 4) on one grid.
///
/// Crops to the box of the voxels that are not 0, whose last plane is lost along every axis, as in SSL4MIS;
/// clips above the smallest histogram value whose cumulative fraction is >= 0.999 (integers: one bin per
/// value; floats: 256 bins); (v - mean) / population standard deviation with the statistics of the voxels >
/// 0, applied to all; label 1 where it was > 0. `label` may have no voxels (an unlabelled case). Throws
/// DataError for an image without positive voxels and for shapes that differ.
PreparedCase prepare_brats(const StoredImage& image, const LabelMap& label, const std::string& file);

}  // namespace semivox::io
