// Network: a parameter set and a forward pass from images to logits.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "engine/variable.hpp"
#include "kernels/norm.hpp"
#include "layers/ops.hpp"

namespace semivox {

/// What a network is built from; all but the last is written into every checkpoint.
struct NetworkOptions {
  static constexpr double kPublished = -1;

  std::string name = "vnet";
  int64_t in_channels = 1;
  int64_t classes = 2;
  int64_t filters = 16;         ///< width of the first stage
  std::string norm = "auto";    ///< none, batchnorm, groupnorm or instancenorm; auto: as published
  double dropout = kPublished;  ///< probability; what is dropped where depends on the network; 0: nothing
  bool residual = false;

  /// How it runs, not what it is: convolutions with few multiplications per output are computed again in
  /// backward instead of being kept. The same bits with less memory.
  bool recompute = false;
};

/// One forward pass's mode.
struct Pass {
  bool training = false;     ///< batch statistics and dropout; false: running statistics, no dropout
  Random* random = nullptr;  ///< draws the dropout; needed when training with dropout > 0
};

/// Everything that one pass through a network gives. What a network has beside `logits` stands in its header;
/// the rest is undefined or empty.
struct NetworkOutput {
  Variable logits;                  ///< what `forward` returns and predictions are made from
  std::vector<Variable> auxiliary;  ///< logits of further decoders or coarser levels, shaped like `logits`
  Variable distance;                ///< signed distance map in [-1, 1], at full resolution
  Variable features;                ///< embedding of every voxel of a grid, (N, F, d, h, w)
};

class Network {
 public:
  explicit Network(NetworkOptions options) : options_(std::move(options)) {}
  virtual ~Network() = default;

  /// x (N, in_channels, D, H, W) f32 (f64 for an f64 network) -> logits (N, classes, D, H, W), f32 (f64).
  /// Throws UsageError when an axis is not divisible by `divisor`.
  Variable forward(const Variable& x, const Pass& pass);

  /// The same with all further outputs of the network.
  NetworkOutput forward_all(const Variable& x, const Pass& pass);

  /// Sizes must be multiples of this along each axis.
  virtual std::array<int64_t, 3> divisor() const = 0;

  /// Makes parameter memory. precision f32, bf16 (activations; weights stay f32) or f64. Without `trainable`
  /// the network has no gradients: a teacher, or a network for prediction.
  void allocate(DType precision, Device device, bool trainable);

  const NetworkOptions& options() const { return options_; }
  ParameterSet& parameters() { return parameters_; }
  const ParameterSet& parameters() const { return parameters_; }
  DType precision() const { return precision_; }
  Device device() const { return parameters_.values().device(); }

 protected:
  virtual Variable run(const Variable& x, const Pass& pass) = 0;
  virtual NetworkOutput run_all(const Variable& x, const Pass& pass) { return {run(x, pass), {}, {}, {}}; }

  NetworkOptions options_;
  ParameterSet parameters_;

 private:
  /// Checks the image and brings it to the network's dtype.
  Variable input(const Variable& x) const;

  DType precision_ = DType::f32;
};

/// The options with the network's own norm and dropout where they are "auto" and kPublished. Throws
/// UsageError for an unknown network.
NetworkOptions resolved(NetworkOptions options);

/// Makes the network named in the options, without memory yet; its `options()` are resolved. Throws
/// UsageError naming the wrong option.
std::unique_ptr<Network> make_network(const NetworkOptions& options);

/// Names that `make_network` knows.
std::vector<std::string> network_names();

/// For networks that have only this norm and no residual variant: throws UsageError when the options say
/// otherwise.
void require_norm(const NetworkOptions& options, const std::string& norm);

/// "none", "batchnorm", "groupnorm" or "instancenorm"; throws UsageError for another word.
kernels::Norm parse_norm(const std::string& word);

}  // namespace semivox
