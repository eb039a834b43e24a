// The tape: a Variable is a value, a gradient slot and the closure that carries its gradient to its inputs.
//
// Values belong to the handles, not to the tape: a closure that needs an input's value keeps `for_backward()`
// of it, which gives the value up when the op that made it can compute it again. A block's activation is then
// freed as soon as the forward pass is done with it.
//
// Define-by-run: every differentiable op makes a new Variable. `backward` walks them in reverse order of
// creation and drops what a closure saved, and the gradient it used, as soon as it ran. Parameters are not on
// the tape: ops add their gradients straight into the parameter set's flat buffer.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "engine/step_value.hpp"
#include "engine/tensor.hpp"

namespace semivox {

class Variable {
 public:
  /// Receives the gradient of the op's result, shaped like the value, and hands gradients on with
  /// `add_gradient`.
  using Backward = std::function<void(const Tensor& gradient)>;

  Variable() = default;

  /// A leaf. With `needs_gradient` its gradient can be read after `backward`.
  explicit Variable(Tensor value, bool needs_gradient = false);

  /// The result of an op. When gradients are off or nothing needs one, the result is a plain leaf and
  /// `backward` is dropped. `trains_parameters` says that the op has parameters of its own that want
  /// gradients.
  ///
  /// `recompute`, if given, makes the value once more, with the same bits, until the op's backward has run.
  static Variable result(Tensor value, const std::vector<Variable>& inputs, bool trains_parameters,
                         Backward backward, std::function<Tensor()> recompute = {});

  bool defined() const { return node_ != nullptr; }
  Tensor value() const { return value_.defined() ? value_ : node_->recompute(); }
  const Tensor& gradient() const { return node_->gradient; }
  bool needs_gradient() const { return node_ && node_->needs_gradient; }
  const Shape& shape() const { return node_->shape; }

  /// Adds to the gradient slot; takes the tensor over when the slot is empty. Ignored when no gradient is
  /// needed.
  void add_gradient(const Tensor& gradient) const;

  /// The handle for a backward closure: without the value when it can be computed again.
  Variable for_backward() const;

  /// The value without its history.
  Variable detached() const { return Variable(value()); }

  /// A view of samples begin ... begin+count-1 that passes gradients back into those rows.
  Variable samples(int64_t begin, int64_t count) const;

  /// Runs the tape backwards from this scalar (one f64 element), starting with gradient 1.
  void backward() const;

 private:
  struct Node {
    Shape shape;
    Tensor gradient;
    bool needs_gradient = false;
    uint64_t order = 0;  // position on the tape
    std::vector<std::shared_ptr<Node>> inputs;
    Backward backward;
    std::function<Tensor()> recompute;
  };
  std::shared_ptr<Node> node_;
  Tensor value_;
};

/// While one is alive, ops of this thread record nothing.
class NoGrad {
 public:
  NoGrad();
  ~NoGrad();
  NoGrad(const NoGrad&) = delete;
  NoGrad& operator=(const NoGrad&) = delete;
};

/// False inside a NoGrad scope.
bool gradients_enabled();

/// a + b and factor * a for scalars (one f64 element), to put a method's loss together.
Variable operator+(const Variable& a, const Variable& b);
Variable operator*(StepNumber factor, const Variable& a);

}  // namespace semivox
