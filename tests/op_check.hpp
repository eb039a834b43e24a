// Ops on the tape against central differences in f64: gradients of all inputs and parameters.
#pragma once

#include <random>

#include "engine/arithmetic.hpp"
#include "engine/parameters.hpp"
#include "engine/variable.hpp"
#include "tests/gradients.hpp"

namespace semivox::testing {

/// Standard normal numbers, f64 on the CPU.
inline Tensor random_tensor(Shape shape, uint32_t seed) {
  Tensor t = Tensor::empty(shape, DType::f64, {});
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal;
  for (int64_t i = 0; i < t.elements(); ++i) t.data<double>()[i] = normal(generator);
  return t;
}

/// sum(weights * x) with fixed random weights.
inline Variable scalar_of(const Variable& x) {
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
inline void check_op(const std::vector<Tensor>& inputs, ParameterSet* set,
                     const std::function<Variable(const std::vector<Variable>&)>& graph) {
  const OneThread one_thread;
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
    check_gradient(text("input ", i), inputs[i], leaves[i].gradient(), loss);
  if (set == nullptr) return;
  for (Parameter& p : set->parameters()) check_gradient(p.name, p.value, p.gradient, loss);
}

/// Allocates in f64 and draws values.
inline void randomize(ParameterSet& set) {
  set.allocate(DType::f64, {}, true);
  uint32_t seed = 20;
  for (Parameter& p : set.parameters()) p.value.copy_from(random_tensor({1, p.count, 1, 1, 1}, ++seed));
  for (Parameter& p : set.buffers()) fill(p.value, p.initializer.value);
  set.touch();
}

}  // namespace semivox::testing
