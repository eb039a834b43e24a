// CUDA against CPU for everything a training step runs: one step of each kind of network and loss, op by op
// and as a whole.

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "engine/arithmetic.hpp"
#include "engine/optimizer.hpp"
#include "kernels/mixing.hpp"
#include "kernels/norm.hpp"
#include "kernels/pointwise.hpp"
#include "kernels/pool.hpp"
#include "kernels/resize.hpp"
#include "kernels/uncertainty.hpp"
#include "layers/network.hpp"
#include "methods/bcp.hpp"
#include "methods/mean_teacher.hpp"
#include "methods/supervised_loss.hpp"
#include "methods/ua_mt.hpp"

using namespace semivox;

namespace {

const Device kCpu{};
const Device kGpu{DeviceKind::cuda, 0};

/// False, with a message, on a machine where nothing can be compared.
bool have_gpu() {
  if (cuda_device_count() > 0) return true;
  MESSAGE("skipped: " << cuda_unavailable_reason());
  return false;
}

/// Uniform values in (-1, 1), the same on every device.
Tensor noise(Shape shape, uint64_t seed, DType dtype = DType::f32) {
  Tensor t = Tensor::empty(shape, DType::f32, kCpu);
  const RandomStream random{seed, 0, 0};
  for (int64_t i = 0; i < t.elements(); ++i)
    t.data<float>()[i] = 2 * random.uniform(static_cast<uint64_t>(i)) - 1;
  return dtype == DType::f32 ? t : cast(t, dtype);
}

Tensor labels(Shape shape, uint64_t seed, int classes) {
  Tensor t = Tensor::empty(shape.with_channels(1), DType::u8, kCpu);
  const RandomStream random{seed, 1, 0};
  for (int64_t i = 0; i < t.elements(); ++i) {
    t.data<uint8_t>()[i] = static_cast<uint8_t>(random.integer(static_cast<uint64_t>(i), classes));
  }
  return t;
}

/// Largest difference over the root mean square of the expected values.
double deviation(const Tensor& found, const Tensor& expected) {
  const std::vector<double> a = found.to_doubles(), b = expected.to_doubles();
  REQUIRE(a.size() == b.size());
  double largest = 0, square = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    largest = std::max(largest, std::abs(a[i] - b[i]));
    square += b[i] * b[i];
  }
  return largest / std::max(std::sqrt(square / static_cast<double>(b.size())), 1e-30);
}

/// Gradient of a loss by the logits, and its results, on a device.
template <class F>
std::pair<Tensor, Tensor> loss_on(Device device, const Tensor& logits, const F& loss) {
  const Variable z(logits.to(device), true);
  const LossValue value = loss(z, device);
  value.loss.backward();
  return {z.gradient(), value.results};
}

template <class F>
void check_loss(const Tensor& logits, const F& loss) {
  const auto [gradient, results] = loss_on(kGpu, logits, loss);
  const auto [expected_gradient, expected_results] = loss_on(kCpu, logits, loss);
  CHECK(deviation(gradient, expected_gradient) < 1e-4);
  CHECK(deviation(results, expected_results) < 1e-5);
}

}  // namespace

TEST_CASE("norm blocks: CUDA equals the CPU") {
  if (!have_gpu()) return;
  const Shape shape{2, 16, 5, 6, 7};
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const kernels::Norm norm :
         {kernels::Norm::none, kernels::Norm::batch, kernels::Norm::instance, kernels::Norm::group}) {
      for (const kernels::Skip mode : {kernels::Skip::none, kernels::Skip::after, kernels::Skip::before}) {
        CAPTURE(static_cast<int>(norm));
        CAPTURE(static_cast<int>(mode));
        Tensor out[2], dy[2], d_skip[2];
        for (int g = 0; g < 2; ++g) {
          const Device device = g == 0 ? kCpu : kGpu;
          kernels::NormBlock block;
          block.norm = norm;
          block.groups = 4;
          kernels::NormCall call;
          call.dropout = 0.5;
          call.random = {7, 1, 2};
          call.skip_mode = mode;
          const Tensor y = noise(shape, 1, dtype).to(device);
          const Tensor skip = mode == kernels::Skip::none ? Tensor() : noise(shape, 2, dtype).to(device);
          const Tensor d_out = noise(shape, 3, dtype).to(device);
          kernels::NormSaved saved;
          out[g] = kernels::norm_forward(block, call, y, skip, saved);
          const Tensor kept = d_out;  // a second owner: norm_backward must not write into it
          dy[g] = kernels::norm_backward(block, call, y, skip, saved, d_out, &d_skip[g]);
        }
        const double tolerance = dtype == DType::bf16 ? 2e-2 : 1e-5;
        CHECK(deviation(out[1], out[0]) < tolerance);
        CHECK(deviation(dy[1], dy[0]) < tolerance);
        if (mode == kernels::Skip::before) CHECK(deviation(d_skip[1], d_skip[0]) < tolerance);
      }
    }
  }
}

TEST_CASE("losses of the methods: CUDA equals the CPU") {
  if (!have_gpu()) return;
  for (const int64_t classes : {2, 3, 4}) {
    CAPTURE(classes);
    const Shape shape{4, classes, 6, 7, 8};
    const Tensor logits = noise(shape, 11), teacher = noise(shape.with_samples(2), 12);
    const Tensor mean = kernels::softmax(noise(shape.with_samples(2), 13));
    const Tensor y = labels(shape, 14, static_cast<int>(classes)),
                 y2 = labels(shape, 15, static_cast<int>(classes));
    const Tensor mask =
        kernels::box_mask({6, 7, 8}, {kernels::box_at({6, 7, 8}, 2.0 / 3.0, {1, 1, 1})}, kCpu);
    check_loss(logits, [&](const Variable& z, Device d) { return supervised_loss(z, y.to(d), false); });
    check_loss(logits, [&](const Variable& z, Device d) {
      return mean_teacher_loss(z, y.samples(0, 2).to(d), teacher.to(d), 0.1, true);
    });
    for (const bool kl : {false, true}) {
      check_loss(logits, [&](const Variable& z, Device d) {
        return ua_mt_loss(z, y.samples(0, 2).to(d), teacher.to(d), mean.to(d), 2, 0.1, 10.0, kl);
      });
    }
    check_loss(logits, [&](const Variable& z, Device d) {
      return bcp_loss(z, y.to(d), y2.to(d), mask.to(d), {1.0, 0.5, false, false});
    });
  }
}

TEST_CASE("mixing, softmax maps and noise: CUDA equals the CPU") {
  if (!have_gpu()) return;
  const Shape shape{2, 2, 8, 9, 10};
  const Tensor a = noise(shape, 21), b = noise(shape, 22);
  const Tensor cpu_mask =
      kernels::box_mask({8, 9, 10}, kernels::draw_grid_boxes({8, 9, 10}, {3, 1, 1}), kCpu);
  const Tensor gpu_mask =
      kernels::box_mask({8, 9, 10}, kernels::draw_grid_boxes({8, 9, 10}, {3, 1, 1}), kGpu);
  CHECK(deviation(gpu_mask, cpu_mask) == 0);
  CHECK(deviation(kernels::copy_paste(a.to(kGpu), b.to(kGpu), gpu_mask),
                  kernels::copy_paste(a, b, cpu_mask)) == 0);
  CHECK(deviation(kernels::softmax(a.to(kGpu)), kernels::softmax(a)) < 1e-6);
  CHECK(deviation(kernels::kl_divergence(a.to(kGpu), b.to(kGpu)), kernels::kl_divergence(a, b)) < 1e-4);
  CHECK(deviation(kernels::hard_labels(a.to(kGpu), false), kernels::hard_labels(a, false)) == 0);
  CHECK(deviation(kernels::noisy_copies(a.to(kGpu), 2, 0.1, 0.2, {5, 6, 7}),
                  kernels::noisy_copies(a, 2, 0.1, 0.2, {5, 6, 7})) < 1e-5);
}

TEST_CASE("pooling, resizing, tanh and dropout of elements: CUDA equals the CPU") {
  if (!have_gpu()) return;
  using kernels::Grid;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const double tolerance = dtype == DType::bf16 ? 2e-2 : 1e-5;
    const Tensor x = noise({2, 5, 4, 6, 8}, 1, dtype);
    const auto check = [&](const char* name, const auto& op) {
      CAPTURE(name);
      CHECK(deviation(op(x.to(kGpu)), op(x)) < tolerance);
    };
    for (const kernels::Interpolation interpolation :
         {kernels::Interpolation::nearest, kernels::Interpolation::linear,
          kernels::Interpolation::linear_aligned}) {
      check("resize", [&](const Tensor& t) { return kernels::resize(t, {8, 12, 16}, interpolation); });
      check("resize backward", [&](const Tensor& t) {
        return kernels::resize_backward(t, {2, 3, 4}, interpolation);
      });
    }
    for (const Grid grid : {Grid::volume, Grid::slice}) {
      check("max-pool", [&](const Tensor& t) { return kernels::max_pool(t, grid); });
      check("max-pool backward",
            [&](const Tensor& t) { return kernels::max_pool_backward(t, kernels::max_pool(t, grid), grid); });
    }
    check("global average", [](const Tensor& t) { return kernels::global_average(t); });
    check("tanh", [](const Tensor& t) { return kernels::tanh_forward(t); });
    check("dropout", [](const Tensor& t) { return kernels::dropout_elements(t, 0.3, {1, 2, 3}); });
  }
}

TEST_CASE("V-Net, three training steps with EMA: CUDA equals the CPU") {
  if (!have_gpu()) return;
  std::vector<double> losses[2];
  Tensor teachers[2];
  for (int g = 0; g < 2; ++g) {
    const Device device = g == 0 ? kCpu : kGpu;
    NetworkOptions options;
    options.filters = 8;
    const auto student = make_network(options), teacher = make_network(options);
    student->allocate(DType::f32, device, true);
    teacher->allocate(DType::f32, device, false);
    student->parameters().initialize(3);
    teacher->parameters().copy_from(student->parameters());
    const auto optimizer = make_optimizer({}, student->parameters());
    const Tensor image = noise({2, 1, 32, 32, 16}, 31).to(device);
    const Tensor label = labels({2, 1, 32, 32, 16}, 32, 2).to(device);
    for (uint64_t step = 1; step <= 3; ++step) {
      Random random(3, step);
      const LossValue loss =
          supervised_loss(student->forward(Variable(image), {true, &random}), label, false);
      student->parameters().zero_gradients();
      loss.loss.backward();
      optimizer->step(0.01);
      ema_update(teacher->parameters(), student->parameters(), 0.9, true);
      losses[g].push_back(loss.results.to_doubles()[0]);
    }
    teachers[g] = teacher->parameters().values().to(kCpu);
  }
  for (size_t i = 0; i < 3; ++i)
    CHECK(losses[1][i] == doctest::Approx(losses[0][i]).epsilon(i == 0 ? 1e-5 : 1e-3));
  CHECK(deviation(teachers[1], teachers[0]) < 1e-2);
}
