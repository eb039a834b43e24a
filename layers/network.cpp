#include "layers/network.hpp"

#include "engine/arithmetic.hpp"
#include "layers/vnet.hpp"
#include "layers/vnet_original.hpp"

namespace semivox {

void Network::allocate(DType precision, Device device, bool trainable) {
  SEMIVOX_CHECK(precision == DType::f32 || precision == DType::bf16 || precision == DType::f64,
                name_of(precision));
  precision_ = precision;
  parameters_.allocate(precision == DType::f64 ? DType::f64 : DType::f32, device, trainable);
}

Variable Network::forward(const Variable& x, const Pass& pass) {
  const Shape s = x.shape();
  const auto divisors = divisor();
  if (s.d % divisors[0] != 0 || s.h % divisors[1] != 0 || s.w % divisors[2] != 0) {
    throw UsageError(text("network ", options_.name, ": patch ", s.d, "x", s.h, "x", s.w,
                          ", expected multiples of ", divisors[0], "x", divisors[1], "x", divisors[2]));
  }
  SEMIVOX_CHECK(s.c == options_.in_channels, "input ", s.str(), " for ", options_.in_channels, " channels");
  if (x.value().dtype() == precision_) return run(x, pass);
  // Images reach the network as f32; they need no gradient, so a bf16 copy is a leaf.
  SEMIVOX_CHECK(!x.needs_gradient(), "a differentiable input must have the network's dtype");
  return run(Variable(cast(x.value(), precision_)), pass);
}

std::unique_ptr<Network> make_network(const NetworkOptions& options) {
  if (options.in_channels < 1)
    throw UsageError(text("in_channels: found ", options.in_channels, ", expected >= 1"));
  if (options.classes < 1 || options.classes > 16) {
    throw UsageError(text("classes: found ", options.classes, ", expected 1 to 16"));
  }
  if (options.filters < 1) throw UsageError(text("filters: found ", options.filters, ", expected >= 1"));
  if (options.dropout < 0 || options.dropout >= 1) {
    throw UsageError(text("dropout: found ", options.dropout, ", expected 0 <= dropout < 1"));
  }
  if (options.name == "vnet") return std::make_unique<VNet>(options);
  if (options.name == "vnet_original") return std::make_unique<VNetOriginal>(options);
  std::string known;
  for (const std::string& name : network_names()) known += (known.empty() ? "" : ", ") + name;
  throw UsageError(text("network: found '", options.name, "', expected one of ", known));
}

std::vector<std::string> network_names() { return {"vnet", "vnet_original"}; }

kernels::Norm parse_norm(const std::string& word) {
  if (word == "none") return kernels::Norm::none;
  if (word == "batchnorm") return kernels::Norm::batch;
  if (word == "groupnorm") return kernels::Norm::group;
  if (word == "instancenorm") return kernels::Norm::instance;
  throw UsageError(text("norm: found '", word, "', expected none, batchnorm, groupnorm or instancenorm"));
}

}  // namespace semivox
