// Convolutions: the plain loops against an oracle written from the definition and against central
// differences; the library variants against the plain loops in f64.

#include "tests/conv_cases.hpp"

#include "kernels/conv_amx.hpp"
#include "kernels/conv_pairs.hpp"
#include "kernels/conv_thin.hpp"
#include "kernels/conv_winograd.hpp"
#include "kernels/norm.hpp"

using namespace semivox;
using namespace semivox::kernels;

TEST_CASE("convolution output shapes") {
  CHECK(same3(4, 8).output_shape({2, 4, 5, 6, 7}) == Shape{2, 8, 5, 6, 7});
  CHECK(down2(4, 8).output_shape({2, 4, 5, 6, 7}) == Shape{2, 8, 2, 3, 3});
  CHECK(up2(8, 4).output_shape({2, 8, 2, 3, 3}) == Shape{2, 4, 4, 6, 6});
  CHECK(slice3(1, 2).output_shape({1, 1, 1, 8, 9}) == Shape{1, 2, 1, 8, 9});
  CHECK_THROWS_AS(same3(4, 8).output_shape({2, 3, 5, 6, 7}), InternalError);
  CHECK_THROWS_AS(down2(4, 8).output_shape({2, 4, 1, 6, 7}), InternalError);
}

TEST_CASE("convolution refuses wrong operands") {
  const ConvGeometry g = same3(2, 3);
  const Tensor x = Tensor::zeros({1, 2, 3, 3, 3}, DType::f32, {});
  Tensor y = Tensor::zeros({1, 3, 3, 3, 3}, DType::f32, {}),
         small = Tensor::zeros({1, 3, 3, 3, 2}, DType::f32, {});
  Tensor labels = Tensor::zeros({1, 3, 3, 3, 3}, DType::i32, {});
  const ConvWeights good = layer_weights(Tensor::zeros({1, g.weight_count(), 1, 1, 1}, DType::f32, {}));
  const ConvWeights few = layer_weights(Tensor::zeros({1, g.weight_count() - 1, 1, 1, 1}, DType::f32, {}));
  CHECK_NOTHROW(conv_forward(g, x, good, {}, y));
  CHECK_THROWS_AS(conv_forward(g, x, good, {}, small), InternalError);
  CHECK_THROWS_AS(conv_forward(g, x, good, {}, labels), InternalError);
  CHECK_THROWS_AS(conv_forward(g, x, few, {}, y), InternalError);
  CHECK_THROWS_AS(conv_forward(g, x, good, Tensor::zeros({1, 2, 1, 1, 1}, DType::f32, {}), y), InternalError);
}

TEST_CASE("reference convolution equals the definition") {
  for (const Case& c : small_cases()) {
    INFO(describe(c));
    const Tensor x = random_tensor(c.input, 1), w = random_vector(c.g.weight_count(), 2);
    const Tensor b = random_vector(c.g.out_channels, 3);
    const std::vector<double> expected = oracle_forward(c.g, x, w, b);
    Tensor y = Tensor::empty(c.g.output_shape(c.input), DType::f64, {});
    reference::conv_forward(c.g, x, layer_weights(w), b, y);
    CHECK(relative_error(y.to_doubles(), expected) < 1e-14);

    Tensor y32 = Tensor::empty(c.g.output_shape(c.input), DType::f32, {});
    reference::conv_forward(c.g, converted(x, DType::f32), layer_weights(converted(w, DType::f32)),
                            converted(b, DType::f32), y32);
    CHECK(relative_error(y32.to_doubles(), expected) < 2e-6);
  }
}

TEST_CASE("reference convolution gradients equal central differences") {
  constexpr double kStep = 1e-3;  // the function is linear in x and in w: the step adds no truncation error
  for (const Case& c : small_cases()) {
    INFO(describe(c));
    const Tensor x = random_tensor(c.input, 1), w = random_vector(c.g.weight_count(), 2);
    const Tensor b = random_vector(c.g.out_channels, 3), dy = random_tensor(c.g.output_shape(c.input), 4);
    const std::vector<double> weights_of_loss = dy.to_doubles();
    Tensor dx = Tensor::empty(c.input, DType::f64, {});
    Tensor dw = Tensor::zeros(w.shape(), DType::f64, {});
    conv_backward_data(c.g, dy, layer_weights(w), dx);
    conv_backward_weights(c.g, x, dy, dw);
    for (const auto& [variable, gradient] : {std::pair{x, dx}, std::pair{w, dw}}) {
      double* values = variable.data<double>();
      const int64_t step = std::max<int64_t>(1, variable.elements() / 40);
      for (int64_t i = 0; i < variable.elements(); i += step) {
        const double kept = values[i];
        values[i] = kept + kStep;
        const double above = dot(oracle_forward(c.g, x, w, b), weights_of_loss);
        values[i] = kept - kStep;
        const double below = dot(oracle_forward(c.g, x, w, b), weights_of_loss);
        values[i] = kept;
        CHECK(gradient.data<double>()[i] == doctest::Approx((above - below) / (2 * kStep)).epsilon(1e-8));
      }
    }
  }
}

TEST_CASE("f32 convolution on the CPU equals the reference") {
  for (const Case& c : network_cases()) check_against_reference(c, DType::f32, DType::f32, {}, 4e-6);
}

TEST_CASE("bf16 convolution on the CPU equals the reference") {
  for (const Case& c : network_cases()) {
    const Tensor x = Tensor::zeros(c.input, DType::bf16, {});
    const Tensor y = Tensor::zeros(c.g.output_shape(c.input), DType::bf16, {});
    // A direct sum rounds its result alone; Winograd's also rounds the transformed operands, sums of up to
    // four values.
    const double tolerance = winograd::takes(c.g, x, y) ? 6e-3 : 5e-3;
    check_against_reference(c, DType::bf16, DType::bf16, {}, tolerance);
  }
}

TEST_CASE("layers that have a kernel of our own: the library equals the reference as well") {
  const Functions library{onednn::conv_forward, onednn::conv_backward_data, onednn::conv_backward_weights};
  for (const auto& [dtype, tolerance] : {std::pair{DType::f32, 6e-6}, std::pair{DType::bf16, 5e-3}}) {
    int layers = 0;
    for (const Case& c : network_cases()) {
      const Tensor x = Tensor::zeros(c.input, dtype, {}),
                   y = Tensor::zeros(c.g.output_shape(c.input), dtype, {});
      if (!thin::takes(c.g, x, y) && !pairs::takes(c.g, x, y) && !winograd::takes(c.g, x, y)) continue;
      check_against_reference(c, dtype, dtype, {}, tolerance, library);
      ++layers;
    }
    if (layers == 0) MESSAGE("skipped in " << name_of(dtype) << ": this processor has no 512-bit vectors");
  }
}

TEST_CASE("convolution, activation and skip in one call equal the three one after the other") {
  for (const Case& c : network_cases()) {
    const Shape out = c.g.output_shape(c.input);
    const Tensor x = random_tensor(c.input, 1), w = random_vector(c.g.weight_count(), 2);
    const Tensor b = random_vector(c.g.out_channels, 3), skip = random_tensor(out, 4);
    for (const DType dtype : {DType::f32, DType::bf16}) {
      for (const double slope : {0.0, 0.01}) {
        INFO(text(describe(c), " ", name_of(dtype), ", slope ", slope));
        const ConvWeights weights = layer_weights(converted(w, DType::f32));
        const Tensor bias = converted(b, DType::f32), input = converted(x, dtype),
                     other = converted(skip, dtype);
        Tensor expected = Tensor::empty(out, dtype, {}), found = Tensor::empty(out, dtype, {});
        conv_forward(c.g, input, weights, bias, expected);
        activate(expected, {}, slope, other);
        conv_forward_act(c.g, input, weights, bias, slope, other, found);
        // In bf16 the steps round in between.
        CHECK(relative_error(found.to_doubles(), expected.to_doubles()) <
              (dtype == DType::f32 ? 1e-6 : 2e-2));
      }
    }
  }
}

TEST_CASE("bf16 convolution to f32 logits on the CPU") {
  for (const int64_t channels : {4, 8, 16}) {
    check_against_reference({point(channels, 2), {2, channels, 6, 9, 12}}, DType::bf16, DType::f32, {}, 5e-3);
    check_against_reference({same3(channels, 3), {2, channels, 6, 9, 12}}, DType::bf16, DType::f32, {}, 5e-3);
  }
}

TEST_CASE("convolution packs again when the weights' version changes, and only then") {
  for (const Case& c : std::vector<Case>{{same3(16, 16), {1, 16, 4, 5, 6}}, {up2(8, 4), {1, 8, 2, 3, 4}}}) {
    INFO(describe(c));
    const Tensor x = converted(random_tensor(c.input, 1), DType::f32);
    const auto version = std::make_shared<uint64_t>(7);
    const ConvWeights weights{converted(random_vector(c.g.weight_count(), 2), DType::f32), version, nullptr};
    Tensor y = Tensor::empty(c.g.output_shape(c.input), DType::f32, {});
    conv_forward(c.g, x, weights, {}, y);
    const std::vector<double> before = y.to_doubles();
    for (int64_t i = 0; i < weights.values.elements(); ++i) weights.values.data<float>()[i] *= 2;
    conv_forward(c.g, x, weights, {}, y);
    CHECK(y.to_doubles() == before);
    *version += 1;
    conv_forward(c.g, x, weights, {}, y);
    std::vector<double> doubled = before;
    for (double& v : doubled) v *= 2;
    CHECK(y.to_doubles() == doubled);
  }
}

TEST_CASE("convolution gives the same bits again") {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const Case& c :
         std::vector<Case>{{same3(16, 16), {2, 16, 12, 11, 10}}, {down2(8, 16), {2, 8, 12, 10, 8}}}) {
      const Tensor x = random_tensor(c.input, 1), w = random_vector(c.g.weight_count(), 2);
      const Tensor dy = random_tensor(c.g.output_shape(c.input), 4);
      const Results first = run_all(c, dtype, dtype, {}, false, x, w, {}, dy);
      const Results second = run_all(c, dtype, dtype, {}, false, x, w, {}, dy);
      CHECK(first.y.to_doubles() == second.y.to_doubles());
      CHECK(first.dx.to_doubles() == second.dx.to_doubles());
      CHECK(first.dw.to_doubles() == second.dw.to_doubles());
    }
  }
}

TEST_CASE("our own CPU kernels give the same bits for any number of threads") {
  // Products on patches and Winograd's filtering in both dtypes; in bf16 matrix tiles where the processor has
  // them.
  const int threads = thread_count();
  const auto compare = [&](const Case& c, DType dtype) {
    INFO(text(describe(c), " ", name_of(dtype)));
    const Tensor x = random_tensor(c.input, 1), w = random_vector(c.g.weight_count(), 2);
    const Tensor dy = random_tensor(c.g.output_shape(c.input), 4);
    set_thread_count(1);
    const Results one = run_all(c, dtype, dtype, {}, false, x, w, {}, dy);
    set_thread_count(3);
    const Results three = run_all(c, dtype, dtype, {}, false, x, w, {}, dy);
    set_thread_count(threads);
    CHECK(one.dw.to_doubles() == three.dw.to_doubles());
    CHECK(one.y.to_doubles() == three.y.to_doubles());
    CHECK(one.dx.to_doubles() == three.dx.to_doubles());
  };
  for (const DType dtype : {DType::f32, DType::bf16}) {
    compare({down2(16, 32), {2, 16, 20, 24, 28}}, dtype);
    compare({up2(32, 16), {2, 32, 10, 12, 14}}, dtype);
  }
  int layers = 0;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const Case& c :
         std::vector<Case>{{same3(16, 16), {2, 16, 40, 30, 28}}, {same3(64, 32), {2, 64, 9, 14, 11}}}) {
      const bool tiles = dtype == DType::bf16 && amx::available();
      if (!tiles && !winograd::takes(c.g, Tensor::zeros(c.input, dtype, {}),
                                     Tensor::zeros(c.g.output_shape(c.input), dtype, {})))
        continue;
      compare(c, dtype);
      ++layers;
    }
  }
  if (amx::available()) compare({same3(80, 48), {2, 80, 5, 6, 7}}, DType::bf16);
  if (layers < 4) MESSAGE("skipped for some 3x3x3 layers: this processor has no 512-bit vectors or bf16");
}

TEST_CASE("convolution on the GPU equals the reference") {
  if (cuda_device_count() == 0) {
    MESSAGE("skipped: " << (cuda_compiled() ? cuda_unavailable_reason() : "built without CUDA"));
    return;
  }
  const Device gpu{DeviceKind::cuda, 0};
  for (const Case& c : network_cases()) {
    check_against_reference(c, DType::f32, DType::f32, gpu, 5e-6);
    check_against_reference(c, DType::bf16, DType::bf16, gpu, 1e-2);
    check_against_reference(c, DType::bf16, DType::f32, gpu, 5e-3);
  }
}
