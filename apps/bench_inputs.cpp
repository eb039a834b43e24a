// What the benchmarks compute on.
#include "apps/bench.hpp"
#include "engine/arithmetic.hpp"
#include "engine/parallel.hpp"
#include "engine/random.hpp"

namespace semivox {

Tensor random_tensor(Shape shape, DType dtype, Device device, uint64_t seed) {
  const Tensor host = Tensor::empty(shape, DType::f32, Device{}, MemoryTag::data);
  float* values = host.data<float>();
  const RandomStream random{seed, 0, 0};
  parallel_blocks(host.elements(), 65536, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) values[i] = 2 * random.uniform(static_cast<uint64_t>(i)) - 1;
  });
  return cast(host.to(device), dtype);
}

Tensor ellipsoid_labels(Shape shape, Device device) {
  const Tensor host = Tensor::empty(shape.with_channels(1), DType::u8, Device{}, MemoryTag::data);
  const auto offset = [](int64_t i, int64_t size) {
    return (static_cast<double>(i) + 0.5) / static_cast<double>(size) - 0.5;
  };
  for (int64_t i = 0; i < shape.rows(); ++i) {
    const double d = offset(i / (shape.h * shape.w) % shape.d, shape.d);
    const double h = offset(i / shape.w % shape.h, shape.h), w = offset(i % shape.w, shape.w);
    host.data<uint8_t>()[i] = d * d + h * h + w * w < 0.09 ? 1 : 0;
  }
  return host.to(device);
}

}  // namespace semivox
