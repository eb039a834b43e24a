// Which cases make up the batch of an iteration: the two-stream sampler of semi-supervised training.
//
// An epoch is one fresh permutation of the labelled cases, cut into chunks, the incomplete last one dropped.
// The unlabelled stream is an endless concatenation of permutations, cut into chunks that may straddle two of
// them; it starts anew with every epoch (Yu et al., "Uncertainty-aware self-ensembling model for
// semi-supervised 3D left atrium segmentation", MICCAI 2019, and the code of the methods that follow it).
#pragma once

#include <cstdint>
#include <vector>

namespace semivox::io {

enum class Order {
  shuffled,  ///< a random permutation for every pass
  fixed,     ///< every pass in list order, for replays
};

/// A pure function of (seed, iteration): nothing has to be saved to resume a run.
class BatchSampler {
 public:
  /// `labeled` and `unlabeled` are the numbers handed out in batches (indices of cases). Without unlabelled
  /// cases per batch this is the one-stream sampler of supervised training. When there are fewer labelled
  /// cases than a batch takes, there are no epochs: both streams run on endlessly. Throws UsageError when a
  /// stream that a batch draws from is empty.
  BatchSampler(std::vector<int64_t> labeled, int64_t labeled_per_batch, std::vector<int64_t> unlabeled,
               int64_t unlabeled_per_batch, uint64_t seed, Order order);

  /// The cases of iteration 0, 1, ...: first the labelled ones, then the unlabelled ones.
  std::vector<int64_t> batch(int64_t iteration) const;

  /// Iterations of one pass over the labelled cases, at least 1.
  int64_t iterations_per_epoch() const;

 private:
  std::vector<int64_t> labeled_, unlabeled_;
  int64_t labeled_per_batch_, unlabeled_per_batch_;
  uint64_t seed_;
  Order order_;
};

}  // namespace semivox::io
