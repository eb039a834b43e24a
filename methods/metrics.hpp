// Dice, Jaccard, 95 % Hausdorff distance and average surface distance as MedPy defines them.
#pragma once

#include <array>
#include <cstdint>

#include "io/volume.hpp"

namespace semivox {

/// What the distances of a class are that is empty in exactly one of prediction and reference, where they
/// have no definition. Dice and Jaccard are then 0 by theirs. Empty in both: Dice 1, Jaccard 1, distances 0,
/// always.
enum class EmptyPolicy {
  zero,      ///< 0, as the papers on LA count an empty prediction: good values for a failed case
  nan,       ///< not-a-number, left out of means, standard deviations and medians
  diagonal,  ///< the diagonal of the image, as BraTS does
};

/// Voxels of a class: in both, in the prediction alone, in the reference alone, in neither.
struct VoxelCounts {
  int64_t true_positive = 0, false_positive = 0, false_negative = 0, true_negative = 0;
};

constexpr int kScores = 4;
constexpr std::array<const char*, kScores> kScoreNames{"dice", "jaccard", "hd95", "asd"};

/// Scores of one class of one case: dice and jaccard in 0 ... 1, distances in the units of the spacing.
struct Scores {
  double dice = 0, jaccard = 0, hd95 = 0, asd = 0;
  VoxelCounts counts;

  std::array<double, kScores> values() const { return {dice, jaccard, hd95, asd}; }  ///< as kScoreNames
};

/// The scores of one class. With P, G the voxels of the class in prediction and reference:
///
/// - dice = 2|P and G| / (|P| + |G|), jaccard = |P and G| / |P or G|.
/// - The surface of a set is its voxels that a binary erosion with the 6-neighbour cross removes. Outside of
///   the array is background, so object voxels at the array's border are surface.
/// - asd = mean, over the surface voxels of P, of the distance to the nearest surface voxel of G: directed,
///   from the prediction to the reference, as `medpy.metric.binary.asd(prediction, reference)`.
/// - hd95 = 95th percentile of the distances of both directions together, linear between neighbouring values
///   (`medpy.metric.binary.hd95`).
///
/// prediction, reference: (shape[0], shape[1], shape[2]), C order. spacing: voxel size along axes 0, 1, 2;
/// {1, 1, 1} gives distances in voxels, as the literature has them for LA.
Scores segmentation_scores(const uint8_t* prediction, const uint8_t* reference, const io::Extent3& shape,
                           uint8_t label, const std::array<double, 3>& spacing, EmptyPolicy empty);

}  // namespace semivox
