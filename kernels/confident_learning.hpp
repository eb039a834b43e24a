// Confident learning (Northcutt, Jiang, Chuang, "Confident learning: Estimating uncertainty in dataset
// labels", Journal of Artificial Intelligence Research 2021): which of many given labels are wrong, judged by
// the class probabilities of another model. The rules are those of cleanlab 2, as AC-MT calls it.
#pragma once

#include <optional>
#include <vector>

#include "engine/tensor.hpp"

namespace semivox::kernels {

/// What the labels s and probabilities P of all samples together say about the classes. K classes.
struct ConfidentJoint {
  std::vector<int64_t> count;     ///< n_k, voxels labelled k
  std::vector<double> threshold;  ///< t_k, mean of P_k over them; 2 for a class without any
  std::vector<std::vector<int64_t>>
      joint;  ///< [i][j]: labelled i, confidently of class j; diagonal at least 1
  std::vector<std::vector<int64_t>> calibrated;  ///< the same in proportions, each row i adding up to n_i;
                                                 ///< diagonal at least 1 where n_i > 0
};

/// probabilities (N,K,D,H,W) f32, labels (N,1,D,H,W) u8 below K.
ConfidentJoint confident_joint(const Tensor& probabilities, const Tensor& labels);

enum class LabelIssues {
  by_class,       ///< the labels of lowest own probability, as many per class as the joint has wrong ones
  by_noise_rate,  ///< those of largest margin P_j - P_s, as many per pair of classes
  both            ///< those that both rules name
};

/// Mask (N,1,D,H,W) u8 of labels that are probably wrong; none where P is highest for the given label.
/// Nothing when fewer than two classes occur among the labels: there is nothing to estimate then.
std::optional<Tensor> label_issues(const Tensor& probabilities, const Tensor& labels, LabelIssues rule);

}  // namespace semivox::kernels
