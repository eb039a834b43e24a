// The drivers of engine/launch.hpp, kernels/channels.hpp and kernels/channel_packs.hpp, emulated, around
// their block sizes. Values are small integers, so that sums are exact in any order.
#include "kernels/channel_packs.hpp"
#include "tests/emulator/compare.hpp"

using namespace semivox;

namespace {

/// Integers from -8 to 8.
Tensor integers(Shape shape, uint64_t seed) {
  Tensor t = noise(shape, seed);
  for (int64_t i = 0; i < t.elements(); ++i) t.data<float>()[i] = std::round(8 * t.data<float>()[i]);
  return t;
}

struct AddIndex {
  double* out;
  SEMIVOX_HD void operator()(int64_t i) const { out[i] += static_cast<double>(i + 1); }
};

struct CountVisit {
  uint8_t* visits;
  SEMIVOX_HD void operator()(int64_t i) const { ++visits[i]; }
};

struct AddPosition {
  double* out;  // (rows, channels)
  int64_t channels;
  SEMIVOX_HD void operator()(int64_t sample, int64_t row, int64_t c) const {
    out[row * channels + c] += static_cast<double>((sample + 1) * 1000000 + row * 1000 + c);
  }
};

template <int K>
struct VoxelTerms {
  const float* x;  // (samples, voxels)
  int64_t voxels;
  SEMIVOX_HD void operator()(int64_t sample, int64_t v, double* sums) const {
    for (int k = 0; k < K; ++k) sums[k] += (k + 1) * x[sample * voxels + v];
  }
};

template <int K>
struct ChannelTerms {
  const float* x;  // (rows, channels)
  int64_t channels;
  SEMIVOX_HD void operator()(int64_t, int64_t row, int64_t c, double (&terms)[K]) const {
    for (int k = 0; k < K; ++k) terms[k] = (k + 1) * x[row * channels + c];
  }
};

/// out += x * factor of (sample, channel); sums of x, 2x and 3x.
template <class T>
struct PackTerms {
  using element = T;
  struct Channel {
    float factor;
  };
  const T* x;  // (rows, channels)
  T* out;      // (rows, channels)
  SEMIVOX_HD Channel channel(int64_t sample, int64_t c) const {
    return {static_cast<float>(sample + c % 7 + 1)};
  }
  template <int W>
  SEMIVOX_HD void apply(const Channel (&channels)[W], int64_t i) const {
    const Pack<T, W> xs = load_pack<W>(x + i);
    Pack<T, W> outs = load_pack<W>(out + i);
    for (int w = 0; w < W; ++w) outs[w] = outs[w] + channels[w].factor * xs[w];
    store_pack(out + i, outs);
  }
  template <int W>
  SEMIVOX_HD void add(const Channel (&channels)[W], int64_t i, double (&sums)[3][W]) const {
    const Pack<T, W> xs = load_pack<W>(x + i);
    for (int w = 0; w < W; ++w) {
      for (int k = 0; k < 3; ++k) sums[k][w] += (k + 1) * xs[w] * channels[w].factor;
    }
  }
};

struct OnHost {
  static constexpr bool kHostOnly = true;
  void operator()(int64_t) const {}
};

struct Failing {
  SEMIVOX_HD void operator()(int64_t i) const {
    if (i == 300) emulator::fail("index 300");
  }
};

}  // namespace

TEST_CASE("emulated map") {
  for (const int64_t n : {0, 1, 255, 256, 257, 1000}) {
    CAPTURE(n);
    compare({0}, [&](Device device) {
      const Tensor out = Tensor::zeros({1, n + 1, 1, 1, 1}, DType::f64, device);
      kernels::map(device, "test", n, AddIndex{out.data<double>()});
      return std::vector{out};
    });
  }
}

TEST_CASE("emulated map over more indices than the largest grid has threads") {
  const int64_t n = 65536 * 256 + 300;
  const Tensor visits = Tensor::zeros({1, n, 1, 1, 1}, DType::u8, kEmulated);
  kernels::map(kEmulated, "test", n, CountVisit{visits.data<uint8_t>()});
  const Tensor found = visits.to(kCpu);
  const uint8_t* all = found.data<uint8_t>();
  CHECK(std::count(all, all + n, uint8_t{1}) == n);
}

TEST_CASE("emulated map_channels") {
  for (const int64_t channels : {1, 3, 16, 257}) {
    for (const int64_t voxels : {0, 1, 37, 300}) {
      CAPTURE(channels);
      CAPTURE(voxels);
      compare({0}, [&](Device device) {
        const Tensor out = Tensor::zeros({3, channels, 1, 1, voxels}, DType::f64, device);
        kernels::map_channels(device, "test", 3, voxels, channels, AddPosition{out.data<double>(), channels});
        return std::vector{out};
      });
    }
  }
}

TEST_CASE("emulated sum_samples") {
  for (const int64_t samples : {1, 3}) {
    for (const int64_t voxels : {0, 1, 255, 4096, 4097, 9001}) {
      CAPTURE(samples);
      CAPTURE(voxels);
      const Tensor values = integers({samples, 1, 1, 1, voxels}, 1);
      compare({0}, [&](Device device) {
        const Tensor x = values.to(device);
        const Tensor one = Tensor::empty({1, samples, 1, 1, 1}, DType::f64, device);
        const Tensor three = Tensor::empty({1, samples * 3, 1, 1, 1}, DType::f64, device);
        kernels::sum_samples<1>(device, "test", samples, voxels, VoxelTerms<1>{x.data<float>(), voxels},
                                one.data<double>());
        kernels::sum_samples<3>(device, "test", samples, voxels, VoxelTerms<3>{x.data<float>(), voxels},
                                three.data<double>());
        return std::vector{one, three};
      });
    }
  }
}

TEST_CASE("emulated sum_channels") {
  for (const int64_t channels : {1, 3, 16, 100, 256, 300}) {
    for (const int64_t voxels : {0, 1, 1024, 1025}) {
      CAPTURE(channels);
      CAPTURE(voxels);
      const Tensor values = integers({2, channels, 1, 1, voxels}, 2);
      compare({0}, [&](Device device) {
        const Tensor x = values.to(device);
        const Tensor one = Tensor::empty({1, 2 * channels, 1, 1, 1}, DType::f64, device);
        const Tensor three = Tensor::empty({1, 2 * 3 * channels, 1, 1, 1}, DType::f64, device);
        kernels::sum_channels<1>(device, "test", 2, voxels, channels,
                                 ChannelTerms<1>{x.data<float>(), channels}, one.data<double>());
        kernels::sum_channels<3>(device, "test", 2, voxels, channels,
                                 ChannelTerms<3>{x.data<float>(), channels}, three.data<double>());
        return std::vector{one, three};
      });
    }
  }
}

TEST_CASE("emulated packs of channels") {
  // 1, 3: no packs; 24: packs that do not divide a warp; 8, 64, 256: they do; 512: more than a warp of them
  // (f32).
  for (const int64_t channels : {1, 3, 8, 24, 64, 256, 512}) {
    for (const int64_t voxels : {0, 1, 129, 1030}) {
      CAPTURE(channels);
      CAPTURE(voxels);
      const Tensor values = integers({3, channels, 1, 1, voxels}, 3);
      compare({0}, [&](Device device) {
        std::vector<Tensor> results;
        for (const DType dtype : {DType::f32, DType::bf16}) {
          const Tensor x = cast(values, dtype).to(device);
          const Tensor out = Tensor::zeros(x.shape(), dtype, device);
          const Tensor sums = Tensor::empty({1, 3 * 3 * channels, 1, 1, 1}, DType::f64, device);
          const auto run = [&](auto zero) {
            using T = decltype(zero);
            const PackTerms<T> terms{x.data<T>(), out.data<T>()};
            kernels::map_channel_packs(device, "test", 3, voxels, channels, terms);
            kernels::sum_channel_packs<3>(device, "test", 3, voxels, channels, terms, sums.data<double>());
          };
          dtype == DType::f32 ? run(float{}) : run(bf16{});
          results.push_back(out);
          results.push_back(sums);
        }
        return results;
      });
    }
  }
}

TEST_CASE("emulated packs of channels: more of them than the largest grid has threads, one visit each") {
  const int64_t voxels = 2048 * 256 / 2 + 77, channels = 16;  // two turns of the loop, the second a short one
  Tensor ones = Tensor::empty({2, channels, 1, 1, voxels}, DType::bf16, kCpu);
  fill(ones, 1);
  const Tensor out = Tensor::zeros(ones.shape(), DType::bf16, kEmulated);
  const Tensor source = ones.to(kEmulated);
  kernels::map_channel_packs(kEmulated, "test", 2, voxels, channels,
                             PackTerms<bf16>{source.data<bf16>(), out.data<bf16>()});
  const Tensor found = out.to(kCpu);
  const bf16* all = found.data<bf16>();  // (2, V, C)
  int64_t wrong = 0;
  for (int64_t i = 0; i < found.elements(); ++i) {
    const int64_t sample = i / (voxels * channels), c = i % channels;
    if (static_cast<float>(all[i]) != static_cast<float>(sample + c % 7 + 1)) ++wrong;
  }
  CHECK(wrong == 0);
}

TEST_CASE("emulated drivers: errors") {
  CHECK_THROWS_WITH_AS(kernels::map(kEmulated, "test", 5, OnHost{}), doctest::Contains("no device code"),
                       InternalError);
  CHECK_THROWS_WITH_AS(kernels::map(kEmulated, "test", 500, Failing{}),
                       doctest::Contains("block (1,0,0), thread (44,0,0): index 300"), InternalError);
  CHECK_THROWS_AS(Tensor::empty({1, int64_t{1} << 40, 1, 1, 1}, DType::u8, kEmulated), OutOfMemory);
}
