// The random streams of an iteration that belong to the data side. The draws of methods and networks count up
// from stream 0 (class Random); these lie at the end of the 24-bit range, so the two never meet and switching
// an ingredient of a method off leaves the batches as they are.
#pragma once

#include <cstdint>

namespace semivox::io {

constexpr uint64_t kAugmentationStream = 0xfff000;  ///< + position of the sample in its batch, below 0xf00
constexpr uint64_t kLabeledStream = 0xfffffe;       ///< permutations of the labelled cases; step is the epoch
constexpr uint64_t kUnlabeledStream = 0xffffff;  ///< permutations of the unlabelled cases; step is the epoch

}  // namespace semivox::io
