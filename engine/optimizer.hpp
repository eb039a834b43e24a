// Optimisers over a parameter set's flat buffer, with PyTorch's definitions of momentum and weight decay.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/parameters.hpp"

namespace semivox {

struct OptimizerOptions {
  std::string name = "sgd";  ///< sgd, adam or adamw
  double momentum = 0.9;     ///< sgd
  double weight_decay = 1e-4;
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;  ///< adam, adamw
};

class Optimizer {
 public:
  virtual ~Optimizer() = default;

  /// Updates the values from the gradients with this step's learning rate.
  virtual void step(StepNumber learning_rate) = 0;

  /// What has to be saved besides the weights: named state tensors, laid out like the flat buffer.
  virtual std::vector<std::pair<std::string, Tensor>> state() = 0;

  /// Number of steps made; saved and restored with the state.
  int64_t steps() const { return steps_; }
  void set_steps(int64_t steps) { steps_ = steps; }

 protected:
  int64_t steps_ = 0;
};

/// Throws UsageError for an unknown name.
std::unique_ptr<Optimizer> make_optimizer(const OptimizerOptions& options, ParameterSet& parameters);

}  // namespace semivox
