#include "io/normalize.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <sstream>
#include <vector>

#include "engine/error.hpp"
#include "engine/parallel.hpp"
#include "io/voxel_check.hpp"

namespace semivox::io {
namespace {

constexpr int64_t kBlock = 65536;

struct Moments {
  double mean = 0, deviation = 0;
};

/// Mean over blocks of `f(voxel)`, added in block order.
template <class F>
double mean_of(const std::vector<float>& voxels, const F& f) {
  const auto n = static_cast<int64_t>(voxels.size());
  std::vector<double> sums((n + kBlock - 1) / kBlock, 0.0);
  parallel_blocks(n, kBlock, [&](int64_t begin, int64_t end) {
    double sum = 0;
    for (int64_t i = begin; i < end; ++i) sum += f(static_cast<double>(voxels[i]));
    sums[begin / kBlock] = sum;
  });
  double total = 0;
  for (const double sum : sums) total += sum;
  return total / static_cast<double>(n);
}

Moments moments_of(const std::vector<float>& voxels) {
  const double first = voxels.front();  // so that a constant scan has a deviation of exactly 0
  const double mean = first + mean_of(voxels, [first](double v) { return v - first; });
  return {mean, std::sqrt(mean_of(voxels, [mean](double v) { return (v - mean) * (v - mean); }))};
}

/// v -> (v - offset) / scale, 0 everywhere when `scale` is 0.
void shift_and_scale(std::vector<float>& voxels, double offset, double scale) {
  const double factor = scale > 0 ? 1 / scale : 0;
  parallel_blocks(static_cast<int64_t>(voxels.size()), kBlock, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      voxels[i] = static_cast<float>((static_cast<double>(voxels[i]) - offset) * factor);
    }
  });
}

}  // namespace

Normalization parse_normalization(const std::string& word) {
  using Kind = Normalization::Kind;
  if (word == "none") return {Kind::none};
  if (word == "zscore") return {Kind::zscore};
  if (word == "zscore_positive") return {Kind::zscore_positive};
  if (word == "minmax") return {Kind::minmax};
  if (word.starts_with("window:")) {
    std::istringstream in(word.substr(7));
    Normalization window{Kind::window};
    char colon = 0;
    if (in >> window.low >> colon >> window.high && colon == ':' && in.peek() == EOF &&
        window.low < window.high) {
      return window;
    }
  }
  throw UsageError(
      text("normalize: found '", word,
           "', expected none, zscore, zscore_positive, minmax or window:LOW:HIGH with LOW < HIGH"));
}

std::vector<Normalization> parse_normalizations(const std::string& words) {
  std::vector<Normalization> list;
  std::istringstream in(words);
  for (std::string word; std::getline(in, word, ',');) list.push_back(parse_normalization(word));
  if (list.empty()) return {parse_normalization(words)};  // which throws
  return list;
}

std::string names_of(const std::vector<Normalization>& normalizations) {
  std::string words;
  for (const Normalization& one : normalizations) {
    if (!words.empty()) words += ',';
    words += name_of(one);
  }
  return words.empty() ? "none" : words;
}

std::string name_of(const Normalization& normalization) {
  switch (normalization.kind) {
    case Normalization::Kind::none:
      return "none";
    case Normalization::Kind::zscore:
      return "zscore";
    case Normalization::Kind::zscore_positive:
      return "zscore_positive";
    case Normalization::Kind::minmax:
      return "minmax";
    case Normalization::Kind::window:
      break;
  }
  std::ostringstream out;
  out.precision(17);
  out << "window:" << normalization.low << ":" << normalization.high;
  return out.str();
}

Normalization normalization_of_channel(const std::string& channel) {
  if (channel == "noNorm") return {Normalization::Kind::none};
  if (channel == "rescale_to_0_1") return {Normalization::Kind::minmax};
  if (channel == "zscore_positive") return {Normalization::Kind::zscore_positive};
  if (channel == "rgb_to_0_1" || channel == "R" || channel == "G" || channel == "B") {
    return {Normalization::Kind::window, 0, 255};
  }
  if (channel == "CT") {
    throw UsageError(
        "dataset.json: channel_names: found 'CT', which needs a window: expected --normalize "
        "window:LOW:HIGH");
  }
  return {Normalization::Kind::zscore};
}

void normalize(Image& image, const Normalization& normalization, const std::string& file) {
  require_finite(file, image.voxels, image.shape);
  std::vector<float>& voxels = image.voxels;
  if (voxels.empty()) return;
  switch (normalization.kind) {
    case Normalization::Kind::none:
      break;
    case Normalization::Kind::zscore: {
      const Moments moments = moments_of(voxels);
      shift_and_scale(voxels, moments.mean, moments.deviation);
      break;
    }
    case Normalization::Kind::zscore_positive: {
      std::vector<float> positive;
      std::copy_if(voxels.begin(), voxels.end(), std::back_inserter(positive), [](float v) { return v > 0; });
      if (positive.empty()) break;
      const Moments moments = moments_of(positive);
      shift_and_scale(voxels, moments.mean, moments.deviation);
      break;
    }
    case Normalization::Kind::minmax: {
      const auto [low, high] = std::minmax_element(voxels.begin(), voxels.end());
      const double offset = *low, range = static_cast<double>(*high) - offset;
      shift_and_scale(voxels, offset, range);
      break;
    }
    case Normalization::Kind::window:
      shift_and_scale(voxels, normalization.low, normalization.high - normalization.low);
      for (float& v : voxels) v = std::clamp(v, 0.0f, 1.0f);
      break;
  }
}

}  // namespace semivox::io
