// ParameterSet: all parameters of a network in one flat buffer, all gradients in another, all running
// statistics in a third.
//
// An optimiser step, an EMA update or a checkpoint is then one pass over one array. Names and shapes are
// PyTorch's, so that weight files can be exchanged with the reference implementations.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "engine/random.hpp"
#include "engine/tensor.hpp"

namespace semivox {

/// How a parameter's first values are drawn.
struct Initializer {
  enum class Kind { constant, uniform, normal };
  Kind kind = Kind::constant;
  double value = 0;  ///< the constant; the bound of U(-value, value); the standard deviation
  double mean = 0;   ///< of the normal distribution

  static Initializer constant(double value) { return {Kind::constant, value}; }
  static Initializer uniform(double bound) { return {Kind::uniform, bound}; }
  static Initializer normal(double deviation, double mean = 0) { return {Kind::normal, deviation, mean}; }
};

struct Parameter {
  std::string name;
  std::vector<int64_t> dims;  ///< PyTorch's shape
  Initializer initializer;
  int64_t offset = 0;  ///< in the flat buffer, in elements
  int64_t count = 1;
  bool counter = false;  ///< a buffer that counts (`num_batches_tracked`): an integer scalar in files
  Tensor value;          ///< view of `count` elements
  Tensor gradient;       ///< likewise; undefined for buffers and in sets without gradients
};

class ParameterSet {
 public:
  ParameterSet() : version_(std::make_shared<uint64_t>(1)) {}
  ParameterSet(const ParameterSet&) = delete;
  ParameterSet& operator=(const ParameterSet&) = delete;

  /// Declares a parameter or buffer; all are declared before `allocate`. The reference stays valid.
  Parameter& declare(std::string name, std::vector<int64_t> dims, Initializer initializer);
  Parameter& declare_buffer(std::string name, std::vector<int64_t> dims, double initial,
                            bool counter = false);

  /// Makes the flat buffers and the views into them. dtype f32, or f64 for the oracle. Without `gradients`
  /// the set is a teacher.
  void allocate(DType dtype, Device device, bool gradients);

  /// Draws first values: element i of parameter p from stream (seed, p) at index i; buffers get their initial
  /// value.
  void initialize(uint64_t seed);

  /// To be called after every change of the values.
  void touch() {
    in_every_step([this] { ++*version_; });
    touch_buffers();
  }
  /// To be called after every change of the buffers alone.
  void touch_buffers() {
    in_every_step([this] { ++buffer_version_; });
  }
  std::shared_ptr<const uint64_t> version() const { return version_; }
  uint64_t buffer_version() const { return buffer_version_; }

  void zero_gradients();

  std::deque<Parameter>& parameters() { return parameters_; }
  const std::deque<Parameter>& parameters() const { return parameters_; }
  std::deque<Parameter>& buffers() { return buffers_; }
  const std::deque<Parameter>& buffers() const { return buffers_; }

  Tensor& values() { return values_; }
  const Tensor& values() const { return values_; }
  Tensor& gradients() { return gradients_; }
  const Tensor& gradients() const { return gradients_; }
  Tensor& buffer_values() { return buffer_values_; }
  const Tensor& buffer_values() const { return buffer_values_; }
  bool trainable() const { return gradients_.defined(); }

  /// Whether ops with these parameters make cheap results again for backward instead of keeping them.
  bool recompute() const { return recompute_; }
  void set_recompute(bool recompute) { recompute_ = recompute; }

  /// Number of trained scalars, as papers count them.
  int64_t parameter_count() const;

  /// Copies values and buffers of a set with the same layout.
  void copy_from(const ParameterSet& source);

 private:
  std::deque<Parameter> parameters_, buffers_;
  Tensor values_, gradients_, buffer_values_;
  bool recompute_ = false;
  std::shared_ptr<uint64_t> version_;
  uint64_t buffer_version_ = 1;  // grows with every change of values or buffers
};

/// The decay of an exponential moving average in iteration t = 0, 1, ... of methods that warm it up (Mean
/// Teacher, UA-MT): min(1 - 1/(t+1), decay), which copies the student at t = 0.
double ramped_ema_decay(double decay, int64_t iteration);

/// teacher = alpha * teacher + (1 - alpha) * student over all parameters; `buffers` includes the running
/// statistics.
void ema_update(ParameterSet& teacher, const ParameterSet& student, StepNumber alpha, bool buffers);

}  // namespace semivox
