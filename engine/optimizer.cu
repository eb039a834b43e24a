#include "engine/optimizer.hpp"

#include <cmath>

#include "engine/launch.hpp"

namespace semivox {

namespace {

// g = gradient + weight_decay * w;  v = momentum * v + g (v starts at 0);  w = w - learning_rate * v.
template <class T>
struct SgdStep {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  T* weights;
  const T* gradients;
  T* velocity;
  StepNumber learning_rate;
  T momentum, weight_decay;
  SEMIVOX_HD void operator()(int64_t i) const {
    const T g = gradients[i] + weight_decay * weights[i];
    velocity[i] = momentum * velocity[i] + g;
    weights[i] -= static_cast<T>(learning_rate.get()) * velocity[i];
  }
};

// Adam (Kingma and Ba, ICLR 2015) and, with decoupled decay, AdamW (Loshchilov and Hutter, ICLR 2019).
template <class T>
struct AdamStep {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  T* weights;
  const T* gradients;
  T* mean;
  T* square;
  StepNumber step_size;          // learning rate / (1 - beta1^t)
  StepNumber inverse_root;       // 1 / sqrt(1 - beta2^t)
  StepNumber kept;               // 1 - learning rate * decoupled decay
  T beta1, rest1, beta2, rest2;  // rest = 1 - beta, rounded once: in f32, 1 - 0.999 would lose four digits
  T epsilon, coupled_decay;
  SEMIVOX_HD void operator()(int64_t i) const {
    const T g = gradients[i] + coupled_decay * weights[i];
    mean[i] = beta1 * mean[i] + rest1 * g;
    square[i] = beta2 * square[i] + rest2 * g * g;
    const T root = sqrt(square[i]) * static_cast<T>(inverse_root.get()) + epsilon;
    weights[i] = static_cast<T>(kept.get()) * weights[i] - static_cast<T>(step_size.get()) * mean[i] / root;
  }
};

Tensor state_like(const Tensor& values) {
  return Tensor::zeros(values.shape(), values.dtype(), values.device(), MemoryTag::optimizer);
}

class Sgd : public Optimizer {
 public:
  Sgd(const OptimizerOptions& options, ParameterSet& parameters)
      : options_(options), parameters_(parameters), velocity_(state_like(parameters.values())) {}

  void step(StepNumber learning_rate) override {
    if (parameters_.values().dtype() == DType::f64) {
      run<double>(learning_rate);
    } else {
      run<float>(learning_rate);
    }
    in_every_step([this] { ++steps_; });
    parameters_.touch();
  }

  std::vector<std::pair<std::string, Tensor>> state() override { return {{"momentum", velocity_}}; }

 private:
  template <class T>
  void run(StepNumber learning_rate) {
    Tensor& values = parameters_.values();
    kernels::map(
        values.device(), "sgd", values.elements(),
        SgdStep<T>{values.data<T>(), parameters_.gradients().data<T>(), velocity_.data<T>(), learning_rate,
                   static_cast<T>(options_.momentum), static_cast<T>(options_.weight_decay)});
  }

  OptimizerOptions options_;
  ParameterSet& parameters_;
  Tensor velocity_;
};

class Adam : public Optimizer {
 public:
  Adam(const OptimizerOptions& options, ParameterSet& parameters)
      : options_(options),
        parameters_(parameters),
        mean_(state_like(parameters.values())),
        square_(state_like(parameters.values())) {}

  void step(StepNumber learning_rate) override {
    in_every_step([this] { ++steps_; });
    if (parameters_.values().dtype() == DType::f64) {
      run<double>(learning_rate);
    } else {
      run<float>(learning_rate);
    }
    parameters_.touch();
  }

  std::vector<std::pair<std::string, Tensor>> state() override {
    return {{"mean", mean_}, {"square", square_}};
  }

 private:
  template <class T>
  void run(StepNumber learning_rate) {
    const bool decoupled = options_.name == "adamw";
    const StepNumber step_size =
        step_value([=, this] { return learning_rate.now() / (1.0 - std::pow(options_.beta1, steps_)); });
    const StepNumber inverse_root =
        step_value([this] { return 1.0 / std::sqrt(1.0 - std::pow(options_.beta2, steps_)); });
    const StepNumber kept =
        step_value([=, this] { return decoupled ? 1.0 - learning_rate.now() * options_.weight_decay : 1.0; });
    Tensor& values = parameters_.values();
    kernels::map(values.device(), "adam", values.elements(),
                 AdamStep<T>{values.data<T>(), parameters_.gradients().data<T>(), mean_.data<T>(),
                             square_.data<T>(), step_size, inverse_root, kept, static_cast<T>(options_.beta1),
                             static_cast<T>(1.0 - options_.beta1), static_cast<T>(options_.beta2),
                             static_cast<T>(1.0 - options_.beta2), static_cast<T>(options_.epsilon),
                             static_cast<T>(decoupled ? 0.0 : options_.weight_decay)});
  }

  OptimizerOptions options_;
  ParameterSet& parameters_;
  Tensor mean_, square_;
};

}  // namespace

std::unique_ptr<Optimizer> make_optimizer(const OptimizerOptions& options, ParameterSet& parameters) {
  if (options.name == "sgd") return std::make_unique<Sgd>(options, parameters);
  if (options.name == "adam" || options.name == "adamw") return std::make_unique<Adam>(options, parameters);
  throw UsageError(text("optimizer: found '", options.name, "', expected sgd, adam or adamw"));
}

}  // namespace semivox
