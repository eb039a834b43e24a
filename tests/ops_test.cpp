// Differentiable ops on the tape in f64: gradients of inputs and parameters by central differences, odd
// sizes and size 1.

#include "layers/ops.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "engine/arithmetic.hpp"
#include "engine/memory.hpp"
#include "layers/block.hpp"
#include "tests/gradients.hpp"

using namespace semivox;
using kernels::ConvGeometry;
using kernels::Norm;
using kernels::Skip;

namespace {

Tensor random_tensor(Shape shape, uint32_t seed) {
  Tensor t = Tensor::empty(shape, DType::f64, {});
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal;
  for (int64_t i = 0; i < t.elements(); ++i) t.data<double>()[i] = normal(generator);
  return t;
}

/// sum(weights * x) with fixed random weights.
Variable scalar_of(const Variable& x) {
  const Tensor weights = random_tensor(x.shape(), 99);
  Tensor sum = Tensor::zeros({}, DType::f64, {});
  for (int64_t i = 0; i < weights.elements(); ++i)
    sum.data<double>()[0] += weights.data<double>()[i] * x.value().data<double>()[i];
  return Variable::result(sum, {x}, false, [x, weights](const Tensor& upstream) {
    const Tensor zero = Tensor::zeros(weights.shape(), DType::f64, {});
    x.add_gradient(add_scaled(zero, weights, upstream.data<double>()[0]));
  });
}

/// Runs `graph` on leaves of `inputs`, then checks the gradient of every input and of every parameter of
/// `set`.
void check_op(const std::vector<Tensor>& inputs, ParameterSet* set,
              const std::function<Variable(const std::vector<Variable>&)>& graph) {
  const testing::OneThread one_thread;
  std::vector<Variable> leaves;
  for (const Tensor& input : inputs) leaves.emplace_back(input, true);
  if (set != nullptr) set->zero_gradients();
  scalar_of(graph(leaves)).backward();
  const auto loss = [&] {
    if (set != nullptr) set->touch();
    const NoGrad no_grad;
    return scalar_of(graph(leaves)).value().data<double>()[0];
  };
  for (size_t i = 0; i < inputs.size(); ++i)
    testing::check_gradient(text("input ", i), inputs[i], leaves[i].gradient(), loss);
  if (set == nullptr) return;
  for (Parameter& p : set->parameters()) testing::check_gradient(p.name, p.value, p.gradient, loss);
}

int64_t activation_bytes() { return memory_statistics({}).live[static_cast<size_t>(MemoryTag::activations)]; }

void randomize(ParameterSet& set) {
  set.allocate(DType::f64, {}, true);
  uint32_t seed = 20;
  for (Parameter& p : set.parameters()) p.value.copy_from(random_tensor({1, p.count, 1, 1, 1}, ++seed));
  for (Parameter& p : set.buffers()) fill(p.value, p.initializer.value);
  set.touch();
}

const ConvGeometry kGeometries[] = {same_conv(2, 3, 3), same_conv(3, 2, 1),
                                    same_conv(2, 2, 5), down_conv(2, 3),
                                    up_conv(3, 2),      {2, 3, {1, 3, 3}, {1, 1, 1}, {0, 1, 1}, false}};

}  // namespace

TEST_CASE("conv: input, weight and bias, on odd sizes and size 1") {
  for (const ConvGeometry& g : kGeometries) {
    for (const Shape& size : {Shape{2, 1, 3, 5, 2}, Shape{1, 1, 1, 1, 1}, Shape{1, 1, 2, 3, 4}}) {
      if (g.stride[0] == 2 && !g.transposed && size.elements() == 1) continue;  // nothing to halve
      INFO(g.in_channels, " -> ", g.out_channels, " kernel ", g.kernel[2], " stride ", g.stride[2], " on ",
           size.str());
      const Shape shape = size.d == 3 && g.stride[0] == 2 && !g.transposed ? Shape{2, 1, 3, 5, 3} : size;
      ParameterSet set;
      const ConvLayer layer = declare_conv(set, "conv", g);
      randomize(set);
      check_op({random_tensor(shape.with_channels(g.in_channels), 1)}, &set,
               [&](const std::vector<Variable>& x) { return conv(x[0], layer); });
    }
  }
}

TEST_CASE("a convolution used twice adds up its gradients") {
  ParameterSet set;
  const ConvLayer layer = declare_conv(set, "conv", same_conv(2, 2, 3));
  randomize(set);
  check_op({random_tensor({1, 2, 2, 3, 2}, 1)}, &set,
           [&](const std::vector<Variable>& x) { return conv(conv(x[0], layer), layer); });
}

TEST_CASE("blocks: every norm with skips, PReLU and dropout, input to parameters") {
  for (const Norm norm : {Norm::none, Norm::batch, Norm::instance}) {
    for (const Skip mode : {Skip::none, Skip::after, Skip::before}) {
      for (const bool prelu : {false, true}) {
        for (const bool training : {true, false}) {
          INFO(static_cast<int>(norm), " skip ", static_cast<int>(mode), prelu ? " prelu" : " relu",
               training ? " train" : " eval");
          ParameterSet set;
          const Block block(set, "conv", "norm", {same_conv(2, 3, 3), norm, 0.0, prelu});
          randomize(set);
          std::vector<Tensor> inputs{random_tensor({2, 2, 3, 1, 2}, 1)};
          if (mode != Skip::none) inputs.push_back(random_tensor({2, 3, 3, 1, 2}, 2));
          check_op(inputs, &set, [&](const std::vector<Variable>& x) {
            Random random(5, 6);
            return block(x[0], {training, &random}, 0.3, mode == Skip::none ? Variable() : x[1], mode);
          });
        }
      }
    }
  }
}

TEST_CASE("group norm with PyTorch's 16 groups, one and two channels each") {
  for (const int64_t channels : {16, 32}) {
    ParameterSet set;
    const Block block(set, "conv", "norm", {same_conv(1, channels, 1), Norm::group});
    randomize(set);
    check_op({random_tensor({2, 1, 2, 1, 3}, 1)}, &set, [&](const std::vector<Variable>& x) {
      return block(x[0], {true, nullptr});
    });
  }
}

TEST_CASE("one value as input and as skip of a block") {
  for (const Skip mode : {Skip::after, Skip::before}) {
    ParameterSet set;
    const Block block(set, "conv", "norm", {same_conv(2, 2, 3), Norm::batch});
    randomize(set);
    check_op({random_tensor({2, 2, 2, 3, 1}, 1)}, &set, [&](const std::vector<Variable>& x) {
      const Variable h = block(x[0], {true, nullptr});
      return block(h, {true, nullptr}, 0, h, mode);
    });
  }
}

TEST_CASE("training with dropout asks for random numbers") {
  ParameterSet set;
  const Block block(set, "conv", "norm", {same_conv(1, 1, 1), Norm::none});
  randomize(set);
  const Variable x(random_tensor({1, 1, 1, 1, 2}, 1));
  CHECK_THROWS_AS(block(x, {true, nullptr}, 0.5), InternalError);
  CHECK_NOTHROW(block(x, {false, nullptr}, 0.5));
}

TEST_CASE("concat_channels joins, and gives each part its gradient") {
  const Tensor a = random_tensor({2, 3, 1, 2, 3}, 1), b = random_tensor({2, 2, 1, 2, 3}, 2);
  const Variable joined = concat_channels(Variable(a), Variable(b));
  CHECK(joined.shape() == Shape{2, 5, 1, 2, 3});
  for (int64_t row = 0; row < 12; ++row) {
    for (int64_t c = 0; c < 5; ++c) {
      CHECK_UNARY(joined.value().data<double>()[row * 5 + c] ==
                  (c < 3 ? a.data<double>()[row * 3 + c] : b.data<double>()[row * 2 + c - 3]));
    }
  }
  check_op({a, b}, nullptr, [](const std::vector<Variable>& x) { return concat_channels(x[0], x[1]); });
  check_op({a}, nullptr, [](const std::vector<Variable>& x) { return concat_channels(x[0], x[0]); });
  CHECK_THROWS_AS(concat_channels(Variable(a), Variable(random_tensor({2, 2, 1, 3, 2}, 2))), InternalError);
}

TEST_CASE("repeat_channel repeats, its gradient sums") {
  const Tensor x = random_tensor({2, 1, 3, 1, 2}, 1);
  const Variable repeated = repeat_channel(Variable(x), 4);
  for (int64_t i = 0; i < repeated.value().elements(); ++i)
    CHECK_UNARY(repeated.value().data<double>()[i] == x.data<double>()[i / 4]);
  for (const int64_t channels : {1, 4}) {
    check_op({x}, nullptr, [&](const std::vector<Variable>& in) { return repeat_channel(in[0], channels); });
  }
}

TEST_CASE("sums and multiples of scalars") {
  check_op({random_tensor({2, 1, 1, 1, 3}, 1), random_tensor({2, 1, 1, 1, 3}, 2)}, nullptr,
           [](const std::vector<Variable>& x) {
             const Variable a = scalar_of(x[0]), b = scalar_of(x[1]);
             return 0.5 * (a + 3.0 * b) + -2.0 * a;
           });
}

TEST_CASE("samples of a batch through a graph") {
  ParameterSet set;
  const ConvLayer layer = declare_conv(set, "conv", same_conv(2, 2, 3));
  randomize(set);
  check_op({random_tensor({3, 2, 2, 1, 3}, 1)}, &set, [&](const std::vector<Variable>& x) {
    const Variable h = conv(x[0], layer);
    return scalar_of(h.samples(0, 2)) + 2.0 * scalar_of(conv(h.samples(1, 2), layer));
  });
}

TEST_CASE("bf16 logits come out as f32") {
  ParameterSet set;
  const ConvLayer layer = declare_conv(set, "conv", same_conv(4, 2, 1));
  set.allocate(DType::f32, {}, true);
  set.initialize(3);
  const Variable x(cast(random_tensor({1, 4, 2, 3, 4}, 1), DType::bf16));
  CHECK(conv(x, layer, true).value().dtype() == DType::f32);
  CHECK(conv(x, layer).value().dtype() == DType::bf16);
}

TEST_CASE("a block's evaluation, with the norm in the weights, equals that with the norm apart") {
  for (const ConvGeometry& g :
       {same_conv(16, 32, 3), same_conv(2, 3, 3), up_conv(32, 16), down_conv(16, 32)}) {
    for (const Norm norm : {Norm::none, Norm::batch}) {
      for (const DType dtype : {DType::f32, DType::bf16}) {
        INFO(g.in_channels, " -> ", g.out_channels, " kernel ", g.kernel[2], ", norm ",
             static_cast<int>(norm), " ", name_of(dtype));
        ParameterSet set;
        const Block block(set, "conv", "norm", {g, norm, 0.01});
        set.allocate(DType::f32, {}, true);
        set.initialize(3);
        const Variable x(cast(cast(random_tensor({2, g.in_channels, 4, 6, 2}, 1), DType::f32), dtype));
        const Variable skip(cast(cast(random_tensor(g.output_shape(x.shape()), 2), DType::f32), dtype));
        const auto check = [&] {
          const Tensor apart = block(x, Pass{}, 0.0, skip, Skip::after).value();
          const NoGrad no_grad;
          const std::vector<double> a = apart.to_doubles(),
                                    b = block(x, Pass{}, 0.0, skip, Skip::after).value().to_doubles();
          double largest = 0;
          for (size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(a[i] - b[i]));
          CHECK(largest < (dtype == DType::f32 ? 5e-6 : 0.1));  // values up to 8; bf16 rounds at other places
        };
        check();
        Random random(1, 2);
        for (int i = 0; i < 3; ++i) block(x, Pass{true, &random});  // moves the running statistics
        check();
        for (Parameter& p : set.parameters()) p.value.copy_from(add_scaled(p.value, p.value, 0.5));
        set.touch();
        check();
      }
    }
  }
}

TEST_CASE("between forward and backward a chain of blocks keeps its convolutions' outputs alone") {
  ParameterSet set;
  std::vector<Block> blocks;
  for (int i = 0; i < 4; ++i) {
    blocks.emplace_back(set, text("conv", i), text("norm", i),
                        BlockOptions{same_conv(16, 16, 3), Norm::batch});
  }
  set.allocate(DType::f32, {}, true);
  set.initialize(3);
  Variable h(cast(random_tensor({1, 16, 16, 16, 16}, 1), DType::f32));
  const int64_t map = h.value().elements() * 4, before = activation_bytes();
  const Tensor input = h.value();
  Tensor last;
  for (const Block& block : blocks) {
    h = block(h, Pass{true, nullptr});
    last = h.value();
  }
  const int64_t kept = activation_bytes() - before;
  CHECK(kept >= 5 * map);
  CHECK(kept < 5 * map + map / 2);  // four outputs of convolutions, the last block's activation, statistics
  const std::vector<double> forward = last.to_doubles();
  CHECK(h.for_backward().value().to_doubles() == forward);
}
