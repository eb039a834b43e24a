// Data sets that the field preprocesses before training, brought into data set folders: Pancreas-CT,
// BraTS-2019 and ISLES-2022. The same rules as in io/import.hpp.
#pragma once

#include <string>

#include "io/import.hpp"
#include "io/prepare.hpp"

namespace semivox::io {

/// Pancreas-CT from NIfTI files: scans in `options.from`, labels in `labels`, matched by the last four digits
/// in a row in their names; `options`' lists are not used. Cases become pancreas_NNNN, prepared by
/// `prepare_pancreas`.
///
/// mc_net: 62 training cases in MC-Net's order, the 20 test cases of its list. rcps: the same split in the
/// order of the numbers. coranet: training 0001 to 0063, test 0064 to 0082, both without 0025 and 0070. The
/// papers validate on the test cases, too; here they are `test` alone.
void import_pancreas(const ImportOptions& options, const std::string& labels, PancreasPipeline pipeline);

/// BraTS: CASE/CASE_flair.nii.gz and CASE/CASE_seg.nii.gz (or .nii) anywhere below `options.from`, prepared
/// by `prepare_brats`; a case without the second is unlabelled. Lists: train, validation and test of
/// `options`; without a train list all cases that the others do not name, in ASCII order.
void import_brats(const ImportOptions& options);

/// ISLES-2022: sub-strokecaseNNNN/ses-0001/dwi/..._dwi.nii.gz and derivatives/..._msk.nii.gz anywhere below
/// `options.from`, images unchanged (dataset.json asks for the z-score over voxels > 0; how the field
/// prepares them is not published). DyCON's split `fold` (0, 1, 2): 25 validation and 25 test cases, the
/// others train in ascending order.
void import_isles(const ImportOptions& options, int fold);

}  // namespace semivox::io
