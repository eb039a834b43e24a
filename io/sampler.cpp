#include "io/sampler.hpp"

#include <numeric>
#include <utility>

#include "engine/error.hpp"
#include "engine/random.hpp"
#include "io/streams.hpp"

namespace semivox::io {
namespace {

/// Appends elements begin ... begin+count-1 of an endless sequence of permutations of `list` to `out`.
/// Permutation p is drawn from the numbers p * 2^32 ... of `stream`.
void take(const std::vector<int64_t>& list, int64_t begin, int64_t count, RandomStream stream, Order order,
          std::vector<int64_t>& out) {
  const auto size = static_cast<int64_t>(list.size());
  std::vector<int64_t> permutation(list.size());
  int64_t drawn = -1;
  for (int64_t position = begin; position < begin + count; ++position) {
    const int64_t pass = position / size;
    if (pass != drawn) {
      std::iota(permutation.begin(), permutation.end(), int64_t{0});
      if (order == Order::shuffled) {
        const uint64_t first = static_cast<uint64_t>(pass) << 32;
        for (int64_t i = size - 1; i > 0; --i)
          std::swap(permutation[i], permutation[stream.integer(first + i, i + 1)]);
      }
      drawn = pass;
    }
    out.push_back(list[permutation[position % size]]);
  }
}

}  // namespace

BatchSampler::BatchSampler(std::vector<int64_t> labeled, int64_t labeled_per_batch,
                           std::vector<int64_t> unlabeled, int64_t unlabeled_per_batch, uint64_t seed,
                           Order order)
    : labeled_(std::move(labeled)),
      unlabeled_(std::move(unlabeled)),
      labeled_per_batch_(labeled_per_batch),
      unlabeled_per_batch_(unlabeled_per_batch),
      seed_(seed),
      order_(order) {
  if (labeled_per_batch < 1 || unlabeled_per_batch < 0) {
    throw UsageError(text("a batch of ", labeled_per_batch, " labelled and ", unlabeled_per_batch,
                          " unlabelled cases: expected at least 1 labelled and no negative count"));
  }
  if (labeled_.empty()) throw UsageError("a batch takes labelled cases, but there are none");
  if (unlabeled_.empty() && unlabeled_per_batch > 0) {
    throw UsageError(text("a batch takes ", unlabeled_per_batch, " unlabelled cases, but there are none"));
  }
}

int64_t BatchSampler::iterations_per_epoch() const {
  const int64_t chunks = static_cast<int64_t>(labeled_.size()) / labeled_per_batch_;
  return chunks > 0 ? chunks : 1;
}

std::vector<int64_t> BatchSampler::batch(int64_t iteration) const {
  const bool has_epochs = static_cast<int64_t>(labeled_.size()) >= labeled_per_batch_;
  const int64_t epoch = has_epochs ? iteration / iterations_per_epoch() : 0;
  const int64_t chunk = has_epochs ? iteration % iterations_per_epoch() : iteration;
  const auto step = static_cast<uint64_t>(epoch);
  std::vector<int64_t> cases;
  take(labeled_, chunk * labeled_per_batch_, labeled_per_batch_, {seed_, step, kLabeledStream}, order_,
       cases);
  take(unlabeled_, chunk * unlabeled_per_batch_, unlabeled_per_batch_, {seed_, step, kUnlabeledStream},
       order_, cases);
  return cases;
}

}  // namespace semivox::io
