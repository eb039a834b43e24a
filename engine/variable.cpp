#include "engine/variable.hpp"

#include <algorithm>
#include <unordered_set>

#include "engine/arithmetic.hpp"

namespace semivox {

namespace {

thread_local int no_grad_depth = 0;
thread_local uint64_t tape_position = 0;

}  // namespace

NoGrad::NoGrad() { ++no_grad_depth; }
NoGrad::~NoGrad() { --no_grad_depth; }
bool gradients_enabled() { return no_grad_depth == 0; }

Variable::Variable(Tensor value, bool needs_gradient) : node_(std::make_shared<Node>()) {
  node_->shape = value.shape();
  value_ = std::move(value);
  node_->needs_gradient = needs_gradient;
  node_->order = ++tape_position;
}

Variable Variable::result(Tensor value, const std::vector<Variable>& inputs, bool trains_parameters,
                          Backward backward, std::function<Tensor()> recompute) {
  Variable out(std::move(value));
  if (!gradients_enabled()) return out;
  bool needed = trains_parameters;
  for (const Variable& input : inputs) needed = needed || input.needs_gradient();
  if (!needed) return out;
  out.node_->needs_gradient = true;
  out.node_->backward = std::move(backward);
  out.node_->recompute = std::move(recompute);
  for (const Variable& input : inputs) {
    if (input.needs_gradient()) out.node_->inputs.push_back(input.node_);
  }
  return out;
}

Variable Variable::for_backward() const {
  Variable handle = *this;
  if (node_ && node_->recompute) handle.value_ = Tensor();
  return handle;
}

void Variable::add_gradient(const Tensor& gradient) const {
  if (!needs_gradient()) return;
  SEMIVOX_CHECK(gradient.shape() == shape(), "gradient ", gradient.shape().str(), " for a value ",
                shape().str());
  Tensor& slot = node_->gradient;
  if (!slot.defined()) {
    slot = gradient;
  } else if (slot.sole_owner()) {
    add_in_place(slot, gradient);
  } else {  // the slot shares its memory with another variable's gradient, which must stay as it is
    slot = add_scaled(slot, gradient, 1.0);
  }
}

Variable Variable::samples(int64_t begin, int64_t count) const {
  const Variable whole = for_backward();
  return result(value().samples(begin, count), {*this}, false, [whole, begin, count](const Tensor& gradient) {
    Tensor& slot = whole.node_->gradient;
    if (!slot.defined()) slot = Tensor::zeros(whole.shape(), gradient.dtype(), gradient.device());
    if (!slot.sole_owner()) slot = slot.clone();
    Tensor rows = slot.samples(begin, count);
    add_in_place(rows, gradient);
  });
}

void Variable::backward() const {
  SEMIVOX_CHECK(needs_gradient(), "backward from a value that depends on nothing trainable");
  SEMIVOX_CHECK(value().elements() == 1, "backward from a value of shape ", shape().str());
  std::vector<std::shared_ptr<Node>> order{node_};
  std::unordered_set<const Node*> seen{node_.get()};
  for (size_t i = 0; i < order.size(); ++i) {
    for (size_t k = 0; k < order[i]->inputs.size(); ++k) {
      std::shared_ptr<Node> input = order[i]->inputs[k];
      if (seen.insert(input.get()).second) order.push_back(std::move(input));
    }
  }
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) { return a->order > b->order; });
  Tensor one = Tensor::empty(shape(), value().dtype(), value().device());
  fill(one, 1.0);
  add_gradient(one);
  one = Tensor();
  for (std::shared_ptr<Node>& node : order) {
    if (node->backward) {
      if (node->gradient.defined()) node->backward(node->gradient);
      node->backward = nullptr;
      node->recompute = nullptr;
      node->inputs.clear();
      if (node != node_) node->gradient = Tensor();
    }
    node.reset();
  }
}

Variable operator+(const Variable& a, const Variable& b) {
  return Variable::result(add_scaled(a.value(), b.value(), 1.0), {a, b}, false,
                          [a = a.for_backward(), b = b.for_backward()](const Tensor& gradient) {
                            a.add_gradient(gradient);
                            b.add_gradient(gradient);
                          });
}

Variable operator*(StepNumber factor, const Variable& a) {
  Tensor zero = Tensor::zeros(a.shape(), a.value().dtype(), a.value().device());
  return Variable::result(
      add_scaled(zero, a.value(), factor), {a}, false, [a, factor](const Tensor& gradient) {
        const Tensor zero = Tensor::zeros(gradient.shape(), gradient.dtype(), gradient.device());
        a.add_gradient(add_scaled(zero, gradient, factor));
      });
}

}  // namespace semivox
