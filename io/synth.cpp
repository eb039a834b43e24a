#include "io/synth.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "engine/error.hpp"
#include "engine/random.hpp"
#include "io/synth_anatomy.hpp"

namespace semivox::io {
namespace {

enum Stream : uint64_t { kShapes, kAppearance, kNoise };

/// Brightness of the tissues and faults of the scanner in one case.
class Appearance {
 public:
  explicit Appearance(Draws draws)
      : coarse_texture_(draws, 13, 90),
        fine_texture_(draws, 5, 90),
        scar_(draws, 9, 90),
        bias_field_(draws, 45, 90) {
    body_ = draws.uniform(70, 120);
    blood_ = body_ * draws.uniform(1.25, 2.1);
    myocardium_ = blood_ * draws.uniform(0.55, 0.85);
    lung_ = body_ * draws.uniform(0.15, 0.4);
    for (double& factor : neighbor_) factor = draws.uniform(0.82, 1.18);
    texture_ = draws.uniform(0.12, 0.3);
    muscle_width_ = draws.uniform(2, 5);
    bias_ = draws.uniform(0.15, 0.4);
    gain_ = draws.uniform(0.5, 2.5);
    gamma_ = draws.uniform(0.75, 1.35);
    noise_ = blood_ * draws.uniform(0.05, 0.12);
  }

  /// Signal without noise at `p`; every border is blurred over `voxel` mm, as partial volume does.
  double signal(const Vec& p, const Site& site, double voxel) const {
    const auto paint = [voxel](double under, double over, double distance) {
      const double cover = std::clamp(0.5 - distance / (1.3 * voxel), 0.0, 1.0);
      return under + cover * (over - under);
    };
    double value = body_ * (1 + texture_ * coarse_texture_(p));
    value = paint(value, lung_, site.lung);
    double blood_border = site.atrium_blood;
    for (int i = 0; i < 3; ++i) blood_border = std::min(blood_border, site.neighbor[i]);
    const double enhanced = scar_(p) > 0.9 ? 1.4 : 1.0;  // late enhancement in patches of the wall
    value = paint(value, myocardium_ * enhanced, blood_border - muscle_width_);
    for (int i = 0; i < kNeighbors; ++i) value = paint(value, blood_ * neighbor_[i], site.neighbor[i]);
    value = paint(value, blood_, site.atrium_blood);
    value *= 1 + 0.5 * texture_ * fine_texture_(p);
    return 100 * std::pow(std::max(value, 0.0) / 100, gamma_) * std::exp(bias_ * bias_field_(p));
  }

  /// Magnitude of the complex signal with noise in both parts.
  double measured(double signal, double noise_real, double noise_imaginary) const {
    return gain_ * std::hypot(signal + noise_ * noise_real, noise_ * noise_imaginary);
  }

 private:
  SmoothField coarse_texture_, fine_texture_, scar_, bias_field_;
  double body_, blood_, myocardium_, lung_, neighbor_[kNeighbors];
  double texture_, muscle_width_, bias_, gain_, gamma_, noise_;
};

void check_options(const SynthOptions& options) {
  if (options.cases < 3) throw UsageError(text("--cases ", options.cases, ": expected at least 3"));
  for (const int64_t size : options.size) {
    if (size < 16 || size > 1024)
      throw UsageError(text("--size: found ", size, " voxels along an axis, expected 16...1024"));
  }
  if (!(options.spacing >= 1e-3 && options.spacing <= 1e3))
    throw UsageError(text("--spacing: found ", options.spacing, " mm, expected 0.001 to 1000"));
}

}  // namespace

SynthCase synthesize_case(const SynthOptions& options, int64_t index) {
  const auto step = static_cast<uint64_t>(index);
  const Extent3& size = options.size;
  const double unit =
      options.spacing * std::min({static_cast<double>(size[0]) / 100, static_cast<double>(size[1]) / 100,
                                  static_cast<double>(size[2]) / 70});
  Draws shape_draws({options.seed, step, kShapes});
  const Anatomy anatomy(shape_draws, unit);
  const Appearance appearance(Draws({options.seed, step, kAppearance}));
  const RandomStream noise{options.seed, step, kNoise};

  Geometry geometry;
  geometry.spacing = {options.spacing, options.spacing, options.spacing};
  geometry.known = true;
  SynthCase result;
  result.label = {size, std::vector<uint8_t>(voxel_count(size)), geometry};
  std::vector<int16_t> voxels(voxel_count(size));
  int64_t v = 0;
  for (int64_t i = 0; i < size[0]; ++i) {
    for (int64_t j = 0; j < size[1]; ++j) {
      for (int64_t k = 0; k < size[2]; ++k, ++v) {
        const Vec p = Vec{static_cast<double>(2 * i + 1 - size[0]), static_cast<double>(2 * j + 1 - size[1]),
                          static_cast<double>(2 * k + 1 - size[2])} *
                      (options.spacing / 2);
        const Site site = anatomy.at(p);
        result.label.voxels[v] = site.atrium <= 0;
        const double value = appearance.measured(appearance.signal(p * (1 / unit), site, options.spacing),
                                                 noise.normal(2 * v), noise.normal(2 * v + 1));
        voxels[v] = static_cast<int16_t>(std::min(std::lround(value), 32767L));
      }
    }
  }
  result.image.shape = size;
  result.image.type = StoredType::i16;
  result.image.geometry = geometry;
  result.image.data.resize(voxels.size() * sizeof(int16_t));
  std::memcpy(result.image.data.data(), voxels.data(), result.image.data.size());
  return result;
}

void write_synthetic_dataset(const std::string& folder, const SynthOptions& options) {
  check_options(options);
  write_synth_folder(folder, {"synthetic atrium", "MRI", {"background", "atrium"}, options.cases},
                     [&](int64_t index) { return synthesize_case(options, index); });
}

}  // namespace semivox::io
