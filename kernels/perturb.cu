#include "kernels/perturb.hpp"

#include "kernels/channels.hpp"

namespace semivox::kernels {

namespace {

constexpr int64_t kMaxBlock = 1024;  // voxels that one index of LargestOfBlocks looks at

template <class T>
struct ChannelMean {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  using P = compute_t<T>;
  const T* x;  // (rows, C)
  P* mean;     // (rows)
  int64_t channels;
  SEMIVOX_HD void operator()(int64_t row) const {
    P sum = P(0);
    for (int64_t c = 0; c < channels; ++c) sum += static_cast<P>(x[row * channels + c]);
    mean[row] = sum / static_cast<P>(channels);
  }
};

/// The largest of every `block` neighbouring values of a sample.
template <class P>
struct LargestOfBlocks {
  static constexpr bool kHostOnly = std::is_same_v<P, double>;
  const P* values;  // (N, count)
  P* largest;       // (N, blocks)
  int64_t count, block, blocks;
  SEMIVOX_HD void operator()(int64_t i) const {
    const int64_t begin = i % blocks * block;
    const int64_t end = begin + block < count ? begin + block : count;
    const P* v = values + i / blocks * count;
    P highest = v[begin];
    for (int64_t k = begin + 1; k < end; ++k) highest = v[k] > highest ? v[k] : highest;
    largest[i] = highest;
  }
};

template <class P>
struct BelowThreshold {
  static constexpr bool kHostOnly = std::is_same_v<P, double>;
  const P* mean;     // (N, V)
  const P* largest;  // (N)
  uint8_t* mask;     // (N, V)
  int64_t voxels;
  StepNumber ratio;
  SEMIVOX_HD void operator()(int64_t row) const {
    mask[row] = mean[row] < largest[row / voxels] * static_cast<P>(ratio.get());
  }
};

template <class T>
struct MaskPositions {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  const T* x;           // (rows, C)
  const uint8_t* mask;  // (rows)
  T* out;               // (rows, C)
  int64_t channels;
  SEMIVOX_HD void operator()(int64_t, int64_t row, int64_t c) const {
    const int64_t i = row * channels + c;
    out[i] = mask[row] != 0 ? x[i] : static_cast<T>(compute_t<T>(0));
  }
};

template <class T>
struct ScaleByNoise {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  using P = compute_t<T>;
  const T* x;  // (N, V, C)
  T* out;      // likewise
  int64_t per_sample, elements;
  float bound;
  RandomStream random;
  SEMIVOX_HD void operator()(int64_t block) const {  // four elements of a sample from one block of numbers
    const PhiloxBlock words = random.block(static_cast<uint64_t>(block));
    for (int k = 0; k < 4; ++k) {
      const int64_t at = 4 * block + k;
      if (at >= per_sample) return;
      const P factor = P(1) + static_cast<P>(bound * (2.0f * unit_float(words.word[k]) - 1.0f));
      for (int64_t i = at; i < elements; i += per_sample) out[i] = static_cast<P>(x[i]) * factor;
    }
  }
};

}  // namespace

Tensor weak_positions(const Tensor& x, StepNumber ratio) {
  const Shape shape = x.shape();
  const int64_t voxels = shape.voxels(), blocks = (voxels + kMaxBlock - 1) / kMaxBlock;
  Tensor mask = Tensor::empty(shape.with_channels(1), DType::u8, x.device());
  dispatch_float(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    using P = compute_t<T>;
    const auto workspace = [&](const Shape& size) {
      return Tensor::empty(size, dtype_of<P>(), x.device(), MemoryTag::workspace);
    };
    const Tensor mean = workspace(shape.with_channels(1));
    const Tensor partial = workspace({shape.n, blocks, 1, 1, 1}), largest = workspace({shape.n, 1, 1, 1, 1});
    map(x.device(), "channel_mean", shape.rows(), ChannelMean<T>{x.data<T>(), mean.data<P>(), shape.c});
    map(x.device(), "largest_of_blocks", shape.n * blocks,
        LargestOfBlocks<P>{mean.data<P>(), partial.data<P>(), voxels, kMaxBlock, blocks});
    map(x.device(), "largest_of_blocks", shape.n,
        LargestOfBlocks<P>{partial.data<P>(), largest.data<P>(), blocks, blocks, 1});
    map(x.device(), "below_threshold", shape.rows(),
        BelowThreshold<P>{mean.data<P>(), largest.data<P>(), mask.data<uint8_t>(), voxels, ratio});
  });
  return mask;
}

Tensor mask_positions(const Tensor& x, const Tensor& mask) {
  const Shape shape = x.shape();
  SEMIVOX_CHECK(mask.shape() == shape.with_channels(1), "mask ", mask.shape().str(), " for ", shape.str());
  Tensor out = Tensor::empty(shape, x.dtype(), x.device());
  dispatch_float(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    map_channels(x.device(), "mask_positions", shape.n, shape.voxels(), shape.c,
                 MaskPositions<T>{x.data<T>(), mask.data<uint8_t>(), out.data<T>(), shape.c});
  });
  return out;
}

Tensor scale_by_noise(const Tensor& x, double bound, const RandomStream& random) {
  Tensor out = Tensor::empty(x.shape(), x.dtype(), x.device());
  const int64_t per_sample = x.shape().voxels() * x.shape().c;
  dispatch_float(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    map(x.device(), "scale_by_noise", (per_sample + 3) / 4,
        ScaleByNoise<T>{x.data<T>(), out.data<T>(), per_sample, x.elements(), static_cast<float>(bound),
                        random});
  });
  return out;
}

}  // namespace semivox::kernels
