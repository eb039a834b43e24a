// Radix selection: the numbers become unsigned integers of the same order, whose digits are found one after
// the other, the highest first, from a histogram of the next digit among the numbers that agree so far. Four
// digits of eight bits, one pass over the values each. Counts are integers: the order of the atomics does not
// matter.
#include "kernels/order_statistic.hpp"

#include <cstring>

#include "engine/launch.hpp"
#include "kernels/atomics.hpp"

namespace semivox::kernels {

namespace {

constexpr int kDigitBits = 8;
constexpr int64_t kDigits = int64_t{1} << kDigitBits;

/// Increases with x; a negative number's bits run backwards.
SEMIVOX_HD inline uint32_t ordered_bits(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

inline float from_ordered_bits(uint32_t ordered) {
  const uint32_t bits = (ordered & 0x80000000u) != 0 ? ordered & 0x7fffffffu : ~ordered;
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

struct CountDigits {
  const float* values;    // (count)
  const uint8_t* labels;  // (count)
  int32_t* histogram;     // (kDigits)
  int label, shift;
  uint64_t prefix;  // the digits above `shift + kDigitBits`
  SEMIVOX_HD void operator()(int64_t i) const {
    if (labels[i] != label) return;
    const uint64_t key = ordered_bits(values[i]);
    if (key >> (shift + kDigitBits) != prefix) return;
    atomic_add(histogram + ((key >> shift) & (kDigits - 1)), 1);
  }
};

}  // namespace

float order_statistic(const Tensor& values, const Tensor& labels, int label, int64_t rank) {
  const int64_t count = values.elements();
  SEMIVOX_CHECK(labels.elements() == count && count < (int64_t{1} << 31), values.shape().str(), " values, ",
                labels.shape().str(), " labels");
  uint64_t prefix = 0;
  for (int shift = 32 - kDigitBits; shift >= 0; shift -= kDigitBits) {
    const Tensor histogram = Tensor::zeros({1, kDigits, 1, 1, 1}, DType::i32, values.device());
    map(values.device(), "order_statistic", count,
        CountDigits{values.data<float>(), labels.data<uint8_t>(), histogram.data<int32_t>(), label, shift,
                    prefix});
    const Tensor counts = histogram.to(Device{});
    int64_t digit = 0;
    while (digit < kDigits && rank >= counts.data<int32_t>()[digit]) rank -= counts.data<int32_t>()[digit++];
    SEMIVOX_CHECK(digit < kDigits, "fewer values with label ", label, " than the rank asked for");
    prefix = prefix << kDigitBits | static_cast<uint64_t>(digit);
  }
  return from_ordered_bits(static_cast<uint32_t>(prefix));
}

}  // namespace semivox::kernels
