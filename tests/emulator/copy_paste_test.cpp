// Kernels and losses of CML and CVBM, emulated, against the CPU.
#include "kernels/conflict.hpp"
#include "kernels/mixing.hpp"
#include "methods/bcp.hpp"
#include "methods/cvbm.hpp"
#include "tests/emulator/compare.hpp"

using namespace semivox;

TEST_CASE("emulated conflict of embeddings") {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    compare({1e-15, 1e-15, 0}, [&](Device device) {
      const Tensor pairs = noise({3, 34, 7, 9, 11}, 1, dtype).to(device);
      Tensor upstream = Tensor::empty({}, DType::f64, device);
      fill(upstream, 0.7);
      const Tensor cosines = kernels::pair_cosines(pairs);
      return std::vector{kernels::conflict_forward(cosines), cosines,
                         kernels::conflict_backward(pairs, cosines, upstream)};
    });
  }
}

TEST_CASE("emulated losses of CVBM") {
  for (const int64_t classes : {2, 3, 4}) {
    CAPTURE(classes);
    const int count = static_cast<int>(classes);
    const Shape shape{2, classes, 5, 23, 37};  // more voxels than one block adds up
    const std::array<int64_t, 3> size{5, 23, 37};
    const Tensor first = noise(shape, 1), second = noise(shape, 2);
    const Tensor y = labels(shape, 5, count), other = labels(shape, 6, count);
    const Tensor mask = kernels::box_mask(size, {kernels::box_at(size, 2.0 / 3.0, {1, 1, 1})}, kCpu);
    for (const bool flag : {false, true}) {
      compare({1e-12, 1e-6}, [&](Device device) {
        const Variable a(first.to(device), true), b(second.to(device), true), z(first.to(device), true),
            p(first.to(device), true);
        const LossValue distance = probability_distance(a, b, flag);
        const LossValue background = background_loss(z, {y.to(device), false}, {other.to(device), true},
                                                     mask.to(device), {1, 0.5, flag});
        const LossValue twice =
            bcp_loss(p, y.to(device), other.to(device), mask.to(device), {1, 0.5, flag, false, true});
        (distance.loss + background.loss + twice.loss).backward();
        Tensor results = Tensor::empty({1, 3, 1, 1, 1}, DType::f64, kCpu);
        const Tensor values[] = {distance.results, background.results, twice.results};
        for (size_t k = 0; k < 3; ++k) results.data<double>()[k] = values[k].to_doubles()[0];
        return std::vector{results.to(device), a.gradient(), b.gradient(), z.gradient(), p.gradient()};
      });
    }
    compare({0}, [&](Device device) { return std::vector{background_of(y.to(device))}; });
  }
}
