// The drivers of engine/launch.hpp and kernels/channels.hpp, emulated, around their block sizes. Values are
// small integers, so that sums are exact in any order.
#include "kernels/channels.hpp"
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

TEST_CASE("emulated drivers: errors") {
  CHECK_THROWS_WITH_AS(kernels::map(kEmulated, "test", 5, OnHost{}), doctest::Contains("no device code"),
                       InternalError);
  CHECK_THROWS_WITH_AS(kernels::map(kEmulated, "test", 500, Failing{}),
                       doctest::Contains("block (1,0,0), thread (44,0,0): index 300"), InternalError);
  CHECK_THROWS_AS(Tensor::empty({1, int64_t{1} << 40, 1, 1, 1}, DType::u8, kEmulated), OutOfMemory);
}
