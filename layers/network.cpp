#include "layers/network.hpp"

#include "engine/arithmetic.hpp"
#include "layers/cml.hpp"
#include "layers/cvbm.hpp"
#include "layers/mc_net.hpp"
#include "layers/mcf.hpp"
#include "layers/resvnet.hpp"
#include "layers/ss_net.hpp"
#include "layers/unet2d.hpp"
#include "layers/unet2d_urpc.hpp"
#include "layers/unet3d.hpp"
#include "layers/unet3d_rcps.hpp"
#include "layers/vnet.hpp"
#include "layers/vnet_dycon.hpp"
#include "layers/vnet_original.hpp"
#include "layers/vnet_sdf.hpp"

namespace semivox {

void Network::allocate(DType precision, Device device, bool trainable) {
  SEMIVOX_CHECK(precision == DType::f32 || precision == DType::bf16 || precision == DType::f64,
                name_of(precision));
  precision_ = precision;
  parameters_.set_recompute(options_.recompute);
  parameters_.allocate(precision == DType::f64 ? DType::f64 : DType::f32, device, trainable);
}

Variable Network::input(const Variable& x) const {
  const Shape s = x.shape();
  const auto divisors = divisor();
  if (s.d % divisors[0] != 0 || s.h % divisors[1] != 0 || s.w % divisors[2] != 0) {
    throw UsageError(text("network ", options_.name, ": patch ", s.d, "x", s.h, "x", s.w,
                          ", expected multiples of ", divisors[0], "x", divisors[1], "x", divisors[2]));
  }
  SEMIVOX_CHECK(s.c == options_.in_channels, "input ", s.str(), " for ", options_.in_channels, " channels");
  if (x.value().dtype() == precision_) return x;
  // Images reach the network as f32; they need no gradient, so a bf16 copy is a leaf.
  SEMIVOX_CHECK(!x.needs_gradient(), "a differentiable input must have the network's dtype");
  return Variable(cast(x.value(), precision_));
}

Variable Network::forward(const Variable& x, const Pass& pass) { return run(input(x), pass); }

NetworkOutput Network::forward_all(const Variable& x, const Pass& pass) { return run_all(input(x), pass); }

namespace {

struct NetworkKind {
  const char* name;
  const char* norm;  // as published
  double dropout;    // as published
  std::unique_ptr<Network> (*make)(const NetworkOptions& options);
};

template <class N>
std::unique_ptr<Network> make(const NetworkOptions& options) {
  return std::make_unique<N>(options);
}

template <bool kASPP>
std::unique_ptr<Network> make_contrast(const NetworkOptions& options) {
  return std::make_unique<UNet3DContrast>(options, kASPP);
}

template <class N, int kDecoders>
std::unique_ptr<Network> make_decoders(const NetworkOptions& options) {
  return std::make_unique<N>(options, kDecoders);
}

template <bool kShared>
std::unique_ptr<Network> make_cml_2d(const NetworkOptions& options) {
  return std::make_unique<CML2D>(options, kShared);
}

constexpr NetworkKind kNetworks[] = {
    {"vnet", "batchnorm", 0.5, make<VNet>},
    {"vnet_original", "none", 0, make<VNetOriginal>},
    {"unet2d", "batchnorm", 0.5, make<UNet2D>},
    {"unet2d_urpc", "batchnorm", 0.5, make<UNet2DPyramid>},
    {"unet3d", "instancenorm", 0.3, make<UNet3D>},
    {"unet3d_ds", "instancenorm", 0.5, make<UNet3DDeepSupervision>},
    {"unet3d_dycon", "instancenorm", 0.3, make_contrast<false>},
    {"unet3d_dycon_aspp", "instancenorm", 0.3, make_contrast<true>},
    {"mc_net", "batchnorm", 0.5, make_decoders<MCNet, 2>},
    {"mc_net_plus", "batchnorm", 0.5, make_decoders<MCNet, 3>},
    {"mc_net_2d", "batchnorm", 0.5, make_decoders<MCNet2D, 2>},
    {"mc_net_plus_2d", "batchnorm", 0.5, make_decoders<MCNet2D, 3>},
    {"cvbm", "instancenorm", 0.5, make<CVBM>},
    {"cvbm_2d", "batchnorm", 0.5, make<CVBM2D>},
    {"cml", "batchnorm", 0.5, make<CML>},
    {"cml_2d", "batchnorm", 0.5, make_cml_2d<false>},
    {"cml_2d_shared", "batchnorm", 0.5, make_cml_2d<true>},
    {"vnet_sdf", "batchnorm", 0.5, make<VNetSDF>},
    {"vnet_dycon", "none", 0.5, make<VNetDycon>},
    {"resvnet", "batchnorm", 0.5, make<ResVNet>},
    {"mcf", "batchnorm", 0.5, make<MCF>},
    {"vnet_ss", "batchnorm", 0.5, make<VNetContrast>},
    {"unet2d_ss", "batchnorm", 0.5, make<UNet2DContrast>},
    {"unet3d_rcps", "batchnorm", 0, make<UNet3DRCPS>},
};

const NetworkKind& find_network(const std::string& name) {
  std::string known;
  for (const NetworkKind& kind : kNetworks) {
    if (name == kind.name) return kind;
    known += (known.empty() ? "" : ", ") + std::string(kind.name);
  }
  throw UsageError(text("network: found '", name, "', expected one of ", known));
}

}  // namespace

NetworkOptions resolved(NetworkOptions options) {
  const NetworkKind& kind = find_network(options.name);
  if (options.norm == "auto") options.norm = kind.norm;
  if (options.dropout == NetworkOptions::kPublished) options.dropout = kind.dropout;
  return options;
}

std::unique_ptr<Network> make_network(const NetworkOptions& given) {
  const NetworkOptions options = resolved(given);
  if (options.in_channels < 1)
    throw UsageError(text("in_channels: found ", options.in_channels, ", expected >= 1"));
  if (options.classes < 1 || options.classes > 16) {
    throw UsageError(text("classes: found ", options.classes, ", expected 1 to 16"));
  }
  if (options.filters < 1) throw UsageError(text("filters: found ", options.filters, ", expected >= 1"));
  if (!(options.dropout >= 0 && options.dropout < 1)) {
    throw UsageError(text("dropout: found ", options.dropout, ", expected 0 <= dropout < 1"));
  }
  return find_network(options.name).make(options);
}

std::vector<std::string> network_names() {
  std::vector<std::string> names;
  for (const NetworkKind& kind : kNetworks) names.emplace_back(kind.name);
  return names;
}

void require_norm(const NetworkOptions& options, const std::string& norm) {
  if (options.norm != norm) {
    throw UsageError(text("norm: found '", options.norm, "', expected ", norm, " for ", options.name));
  }
  if (options.residual) throw UsageError(text("residual: found true, expected false for ", options.name));
}

kernels::Norm parse_norm(const std::string& word) {
  if (word == "none") return kernels::Norm::none;
  if (word == "batchnorm") return kernels::Norm::batch;
  if (word == "groupnorm") return kernels::Norm::group;
  if (word == "instancenorm") return kernels::Norm::instance;
  throw UsageError(
      text("norm: found '", word, "', expected auto, none, batchnorm, groupnorm or instancenorm"));
}

}  // namespace semivox
