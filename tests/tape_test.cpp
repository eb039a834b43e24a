// The tape: accumulation, shared sub-graphs, views of samples, NoGrad, and gradients that share memory.

#include <doctest/doctest.h>

#include "engine/arithmetic.hpp"
#include "engine/variable.hpp"

using namespace semivox;

namespace {

Tensor column(const std::vector<double>& values) {
  Tensor t = Tensor::empty({static_cast<int64_t>(values.size()), 1, 1, 1, 1}, DType::f64, {});
  for (size_t i = 0; i < values.size(); ++i) t.data<double>()[i] = values[i];
  return t;
}

Variable leaf(const std::vector<double>& values) { return Variable(column(values), true); }

/// sum(weights * x), whose gradient is `weights`.
Variable weighted_sum(const Variable& x, const std::vector<double>& weights) {
  double sum = 0;
  for (size_t i = 0; i < weights.size(); ++i) sum += weights[i] * x.value().data<double>()[i];
  return Variable::result(column({sum}), {x}, false, [x, weights](const Tensor& upstream) {
    Tensor gradient = column(weights);
    for (size_t i = 0; i < weights.size(); ++i) gradient.data<double>()[i] *= upstream.data<double>()[0];
    x.add_gradient(gradient);
  });
}

/// x * x, element by element.
Variable squared(const Variable& x) {
  Tensor y = x.value().clone();
  for (int64_t i = 0; i < y.elements(); ++i) y.data<double>()[i] *= y.data<double>()[i];
  return Variable::result(y, {x}, false, [x](const Tensor& upstream) {
    Tensor gradient = upstream.clone();
    for (int64_t i = 0; i < gradient.elements(); ++i)
      gradient.data<double>()[i] *= 2 * x.value().data<double>()[i];
    x.add_gradient(gradient);
  });
}

/// x + y as a skip connection does it: the very tensor of the upstream gradient goes to both.
Variable joined(const Variable& x, const Variable& y) { return x + y; }

/// An op that overwrites the upstream gradient when it has no other owner, like the fused blocks.
Variable doubled_in_place(const Variable& x) {
  return Variable::result(add_scaled(x.value(), x.value(), 1), {x}, false, [x](const Tensor& upstream) {
    Tensor gradient = upstream.sole_owner() ? upstream : upstream.clone();
    add_in_place(gradient, Tensor(gradient).clone());
    x.add_gradient(gradient);
  });
}

std::vector<double> gradient_of(const Variable& x) { return x.gradient().to_doubles(); }

using Values = std::vector<double>;

}  // namespace

TEST_CASE("gradients accumulate over uses and over backward passes") {
  const Variable x = leaf({2, 3});
  (weighted_sum(x, {1, 10}) + 3 * weighted_sum(x, {5, 7})).backward();
  CHECK(gradient_of(x) == Values{16, 31});
  weighted_sum(x, {100, 200}).backward();
  CHECK(gradient_of(x) == Values{116, 231});
}

TEST_CASE("a shared sub-graph is walked once, after all of its users") {
  const Variable x = leaf({2, -3});
  const Variable y = squared(x);
  const Variable loss = weighted_sum(y, {1, 1}) + weighted_sum(squared(y), {1, 1});  // sum x^2 + x^4
  CHECK(loss.value().data<double>()[0] == 4 + 9 + 16 + 81);
  loss.backward();
  CHECK(gradient_of(x) == Values{2 * 2 + 4 * 8, 2 * -3 + 4 * -27});
}

TEST_CASE("a value used many times costs no exponential walk") {
  const Variable x = leaf({1});
  Variable y = x;
  for (int i = 0; i < 60; ++i) y = 0.5 * (y + y);
  y.backward();
  CHECK(gradient_of(x) == Values{1});
}

TEST_CASE("a sum of a value with itself") {
  const Variable x = leaf({3});
  (x + x).backward();
  CHECK(gradient_of(x) == Values{2});
}

TEST_CASE("samples pass gradients back into their rows") {
  const Variable x = leaf({1, 2, 3, 4});
  const Variable y = squared(x);
  const Variable loss =
      weighted_sum(y.samples(0, 2), {1, 10}) + weighted_sum(y.samples(1, 3), {100, 1000, 1});
  loss.backward();
  CHECK(gradient_of(x) == Values{2 * 1, 4 * (10 + 100), 6 * 1000, 8 * 1});
  CHECK(x.samples(2, 1).value().data<double>() == x.value().data<double>() + 2);
}

TEST_CASE("samples of samples, and rows that nobody used get zero") {
  const Variable x = leaf({1, 2, 3, 4});
  weighted_sum(x.samples(1, 3).samples(1, 1), {5}).backward();
  CHECK(gradient_of(x) == Values{0, 0, 5, 0});
}

TEST_CASE("samples together with a use of the whole, in either order") {
  for (const bool whole_first : {true, false}) {
    const Variable x = leaf({1, 2, 3});
    const Variable part =
        weighted_sum(whole_first ? x.samples(1, 2) : x, whole_first ? Values{5, 7} : Values{1, 1, 1});
    const Variable other =
        weighted_sum(whole_first ? x : x.samples(1, 2), whole_first ? Values{1, 1, 1} : Values{5, 7});
    (part + other).backward();
    CHECK(gradient_of(x) == Values{1, 6, 8});
  }
}

TEST_CASE("rows do not write into a gradient that another variable shares") {
  const Variable x = leaf({1, 2}), y = leaf({10, 20});
  const Variable rows = weighted_sum(x.samples(0, 1), {5});  // earlier on the tape, so later in backward
  (weighted_sum(joined(x, y), {1, 2}) + rows).backward();
  CHECK(gradient_of(x) == Values{6, 2});
  CHECK(gradient_of(y) == Values{1, 2});
}

TEST_CASE("skip gradients share memory until one of them changes") {
  const Variable x = leaf({1, 2}), y = leaf({10, 20});
  const Variable more = weighted_sum(x, {100, 100});
  (weighted_sum(joined(x, y), {1, 2}) + more).backward();
  CHECK(gradient_of(x) == Values{101, 102});
  CHECK(gradient_of(y) == Values{1, 2});
}

TEST_CASE("an op that works in place leaves a shared gradient alone") {
  const Variable x = leaf({1, 2}), y = leaf({10, 20});
  const Variable h = doubled_in_place(x);
  weighted_sum(joined(h, y), {1, 2}).backward();
  CHECK(gradient_of(x) == Values{2, 4});
  CHECK(gradient_of(y) == Values{1, 2});
}

TEST_CASE("nothing is recorded where no gradient is needed") {
  const Variable constant(column({1, 2}));
  CHECK_FALSE(weighted_sum(constant, {1, 1}).needs_gradient());
  CHECK_THROWS_AS(weighted_sum(constant, {1, 1}).backward(), InternalError);
  const Variable x = leaf({1, 2});
  {
    const NoGrad outer;
    {
      const NoGrad inner;
      CHECK_FALSE(gradients_enabled());
    }
    CHECK_FALSE(squared(x).needs_gradient());
  }
  CHECK(gradients_enabled());
  CHECK(squared(x).needs_gradient());
  CHECK_FALSE(squared(x).detached().needs_gradient());
  (weighted_sum(x, {1, 1}) + weighted_sum(squared(x).detached(), {9, 9})).backward();
  CHECK(gradient_of(x) == Values{1, 1});
}

TEST_CASE("an op with parameters of its own is recorded without a trainable input") {
  int calls = 0;
  const Variable constant(column({1}));
  const Variable y = Variable::result(column({2}), {constant}, true, [&](const Tensor& upstream) {
    ++calls;
    CHECK(upstream.to_doubles() == Values{1});
    constant.add_gradient(upstream);
  });
  y.backward();
  CHECK(calls == 1);
  CHECK_FALSE(constant.gradient().defined());
}

TEST_CASE("a branch that does not reach the loss is not run") {
  int calls = 0;
  const Variable x = leaf({1});
  const Variable unused = Variable::result(column({2}), {x}, false, [&](const Tensor&) { ++calls; });
  weighted_sum(x, {4}).backward();
  CHECK(calls == 0);
  CHECK(gradient_of(x) == Values{4});
}

TEST_CASE("backward starts from a scalar, and gradients have the value's shape") {
  const Variable x = leaf({1, 2});
  CHECK_THROWS_AS(squared(x).backward(), InternalError);
  CHECK_THROWS_AS(x.add_gradient(column({1})), InternalError);
}

TEST_CASE("backward frees what the ops kept, and their gradients") {
  const Variable x = leaf({1, 2});
  const int64_t before = memory_statistics({}).live_total;
  {
    Variable loss = weighted_sum(squared(squared(x)), {1, 1});
    const Variable result(loss.value());
    loss.backward();
    CHECK(memory_statistics({}).live_total - before == 3 * 512);  // the loss, its gradient, the gradient of x
  }
  CHECK(memory_statistics({}).live_total - before == 512);
}
