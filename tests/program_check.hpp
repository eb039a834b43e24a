// The gradient of a voxel program (every voxel-wise loss is one) against central differences in f64.
#pragma once

#include "kernels/voxel_program.hpp"
#include "tests/gradients.hpp"

namespace semivox::testing {

/// Evaluates `program` on f64 logits on the CPU, takes the gradient of its loss by every input, and checks
/// all of them by central differences. `reads` are the tensors that the program's pointers lead into. A
/// program that takes decisions (thresholds, arg-max of the input) is constant in them; keep the data away
/// from their edges. Returns the largest relative error.
template <class Program>
double check_program_gradient(const Program& program, const std::vector<Tensor>& inputs,
                              const std::vector<Tensor>& reads,
                              const GradientOptions& options = {.floor = 1e-2}) {
  std::vector<Variable> variables;
  for (const Tensor& input : inputs) variables.emplace_back(input, true);
  const LossValue value = evaluate("program_check", program, variables, reads);
  value.loss.backward();
  CHECK(value.results.data<double>()[0] == value.loss.value().template data<double>()[0]);
  const auto loss = [&] {
    const NoGrad no_grad;
    return evaluate("program_check", program, variables, reads).loss.value().template data<double>()[0];
  };
  double largest = 0;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const std::string name = text("input ", i);
    largest = std::max(largest, check_gradient(name, inputs[i], variables[i].gradient(), loss, options));
  }
  return largest;
}

}  // namespace semivox::testing
