#include "io/synth_slices.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <numbers>
#include <vector>

#include "engine/error.hpp"
#include "engine/random.hpp"
#include "io/synth_anatomy.hpp"

namespace semivox::io {
namespace {

enum SliceStream : uint64_t { kSliceShapes, kSliceAppearance, kSliceNoise };

constexpr double kSliceDistance = 8;  // mm
constexpr int kWaves = 3;             // of an outline
constexpr int kPapillary = 2;
constexpr int kBlobs = 4;
constexpr int kRings = 2;
constexpr uint8_t kRight = 1, kMuscle = 2, kLeft = 3;

/// A closed curve about a centre: its radius is a smooth function of the direction.
struct Outline {
  double x = 0, y = 0, radius = 1, aspect = 1, axis = 0;  // mm; axis: direction of the longer half-axis
  std::array<double, kWaves> height{}, phase{};           // relative to the radius

  static Outline draw(Draws& draws, double radius, double roughness) {
    Outline outline;
    outline.radius = radius;
    outline.aspect = draws.uniform(1.0, 1.25);
    outline.axis = draws.uniform(0, std::numbers::pi);
    for (int k = 0; k < kWaves; ++k) {
      outline.height[k] = roughness * draws.normal() / (k + 1);
      outline.phase[k] = draws.uniform(0, 2 * std::numbers::pi);
    }
    return outline;
  }

  /// About the distance (mm) from (px, py) to the curve around (cx, cy), scaled by `scale`; negative inside.
  double distance(double px, double py, double cx, double cy, double scale) const {
    const double u = px - cx - x, v = py - cy - y;
    const double c = std::cos(axis), s = std::sin(axis);
    const double along = (c * u + s * v) / aspect, across = (c * v - s * u) * aspect;
    const double angle = std::atan2(across, along);
    double relative = 1;
    for (int k = 0; k < kWaves; ++k) relative += height[k] * std::cos((k + 2) * angle + phase[k]);
    return std::hypot(along, across) - radius * scale * relative;
  }
};

/// The shapes of a case, mm from the centre of the slice.
struct Heart {
  explicit Heart(Draws& draws, double unit) {
    x = unit * draws.uniform(-11, 11);
    y = unit * draws.uniform(-11, 11);
    left = Outline::draw(draws, unit * draws.uniform(13, 21), 0.05);
    wall = unit * draws.uniform(5.5, 10);
    side = draws.uniform(0, 2 * std::numbers::pi);
    right = Outline::draw(draws, left.radius * draws.uniform(1.0, 1.35), 0.06);
    const double apart = left.radius + wall * draws.uniform(0.2, 0.9);
    right.x = apart * std::cos(side);
    right.y = apart * std::sin(side);
    right_wall = unit * draws.uniform(1.2, 2.4);
    taper = draws.uniform(0.45, 0.75);
    right_until = draws.uniform(0.6, 0.95);
    for (int i = 0; i < kPapillary; ++i) {
      const double angle = draws.uniform(0, 2 * std::numbers::pi), at = draws.uniform(0.5, 0.72);
      papillary[i] = Outline::draw(draws, left.radius * draws.uniform(0.12, 0.22), 0.1);
      papillary[i].x = left.radius * at * std::cos(angle);
      papillary[i].y = left.radius * at * std::sin(angle);
    }
    for (Outline& blob : blobs) {
      const double angle = draws.uniform(0, 2 * std::numbers::pi), at = unit * draws.uniform(48, 66);
      blob = Outline::draw(draws, unit * draws.uniform(5, 15), 0.1);
      blob.x = at * std::cos(angle);
      blob.y = at * std::sin(angle);
    }
    for (Outline& ring : rings) {
      const double angle = draws.uniform(0, 2 * std::numbers::pi), at = unit * draws.uniform(48, 62);
      ring = Outline::draw(draws, unit * draws.uniform(9, 14), 0.06);
      ring.x = at * std::cos(angle);
      ring.y = at * std::sin(angle);
    }
    body = Outline::draw(draws, unit * draws.uniform(68, 84), 0.03);
    lung = Outline::draw(draws, unit * draws.uniform(26, 40), 0.12);
    const double lung_side = side + draws.uniform(1.8, 4.4);
    lung.x = unit * draws.uniform(46, 62) * std::cos(lung_side);
    lung.y = unit * draws.uniform(46, 62) * std::sin(lung_side);
  }

  double x, y, wall, side, right_wall, taper, right_until;
  Outline left, right, body, lung;
  std::array<Outline, kPapillary> papillary;
  std::array<Outline, kBlobs> blobs;
  std::array<Outline, kRings> rings;
};

/// Brightness of the tissues and faults of the scanner in one case.
struct SliceAppearance {
  explicit SliceAppearance(Draws draws)
      : coarse(draws, 13, 110), fine(draws, 5, 110), bias_field(draws, 45, 110) {
    tissue = draws.uniform(60, 110);
    blood = tissue * draws.uniform(1.35, 2.2);
    muscle = tissue * draws.uniform(0.55, 0.95);
    dark = tissue * draws.uniform(0.12, 0.35);
    right_factor = draws.uniform(0.82, 1.12);
    for (double& factor : blob_factor) factor = draws.uniform(0.75, 1.15);
    texture = draws.uniform(0.12, 0.3);
    bias = draws.uniform(0.15, 0.45);
    gain = draws.uniform(0.5, 2.5);
    gamma = draws.uniform(0.75, 1.35);
    noise = blood * draws.uniform(0.04, 0.1);
  }

  SmoothField coarse, fine, bias_field;
  double tissue, blood, muscle, dark, right_factor, texture, bias, gain, gamma, noise;
  std::array<double, kBlobs> blob_factor;
};

/// One slice: the heart's place and its size along the long axis.
struct Slice {
  double x, y, level, scale;
};

struct Pixel {
  double signal;
  uint8_t label;
};

Pixel draw_pixel(const Heart& heart, const SliceAppearance& look, const Slice& slice, const Vec& p,
                 double blur) {
  const auto paint = [blur](double under, double over,
                            double distance) {  // borders blurred by partial volume
    return under + std::clamp(0.5 - distance / (1.3 * blur), 0.0, 1.0) * (over - under);
  };
  const double left = heart.left.distance(p.x, p.y, slice.x, slice.y, slice.scale);
  const double muscle = left - heart.wall * (0.6 + 0.4 * slice.scale);
  // The right ventricle shrinks away before the apex; its crescent ends at the muscle of the left one.
  const double vanish = std::clamp((heart.right_until - slice.level) / 0.35, 0.0, 1.0);
  const double crescent =
      heart.right.distance(p.x, p.y, slice.x, slice.y, slice.scale * (0.3 + 0.7 * vanish));
  const double right = vanish > 0 ? std::max(crescent, -muscle) : 1e3;

  double value = look.tissue * (1 + look.texture * look.coarse(p));
  value = paint(value, look.dark, heart.lung.distance(p.x, p.y, heart.x, heart.y, 1));
  for (int i = 0; i < kBlobs; ++i) {
    value = paint(value, look.blood * look.blob_factor[i],
                  heart.blobs[i].distance(p.x, p.y, heart.x, heart.y, 1));
  }
  for (const Outline& ring : heart.rings) {
    const double inside = ring.distance(p.x, p.y, heart.x, heart.y, 1);
    value = paint(value, look.muscle, inside - 0.7 * heart.wall);
    value = paint(value, look.blood, inside);
  }
  value = paint(value, look.muscle, std::min(muscle, right - heart.right_wall));
  value = paint(value, look.blood * look.right_factor, right);
  value = paint(value, look.blood, left);
  for (const Outline& dot : heart.papillary) {
    value = paint(value, look.muscle, dot.distance(p.x, p.y, slice.x, slice.y, slice.scale));
  }
  value = paint(look.dark * 0.3, value, heart.body.distance(p.x, p.y, 0, 0, 1));
  value *= 1 + 0.5 * look.texture * look.fine(p);
  const double signal =
      100 * std::pow(std::max(value, 0.0) / 100, look.gamma) * std::exp(look.bias * look.bias_field(p));
  const uint8_t label = left <= 0 ? kLeft : muscle <= 0 ? kMuscle : right <= 0 ? kRight : 0;
  return {signal, label};
}

void check_options(const SynthSlicesOptions& options) {
  if (options.cases < 3) throw UsageError(text("--cases ", options.cases, ": expected at least 3"));
  for (int a = 0; a < 3; ++a) {
    const int64_t least = a < 2 ? 32 : 1;
    if (options.size[a] < least || options.size[a] > 1024) {
      throw UsageError(text("--size: found ", options.size[a], " along axis ", a, ", expected ", least,
                            "...1024 (pixels of a slice x pixels x slices)"));
    }
  }
  if (options.classes < 2 || options.classes > 4)
    throw UsageError(text("--classes ", options.classes, ": expected 2, 3 or 4 with --dims 2"));
  if (!(options.spacing > 0))
    throw UsageError(text("--spacing ", options.spacing, ": expected a positive number"));
}

}  // namespace

SynthCase synthesize_slices(const SynthSlicesOptions& options, int64_t index) {
  const auto step = static_cast<uint64_t>(index);
  const Extent3& size = options.size;
  // The heart fills the same part of the picture at any size; 1 for 144 mm.
  const double unit = options.spacing * static_cast<double>(std::min(size[0], size[1])) / 144;
  Draws draws({options.seed, step, kSliceShapes});
  const Heart heart(draws, unit);
  const double first_level = draws.uniform(0, 0.15), last_level = draws.uniform(0.75, 1.0);
  const SliceAppearance look(Draws({options.seed, step, kSliceAppearance}));
  const RandomStream noise{options.seed, step, kSliceNoise};

  Geometry geometry;
  geometry.spacing = {options.spacing, options.spacing, kSliceDistance};
  geometry.known = true;
  SynthCase result;
  result.label = {size, std::vector<uint8_t>(voxel_count(size)), geometry};
  std::vector<int16_t> voxels(voxel_count(size));
  for (int64_t k = 0; k < size[2]; ++k) {
    const double t = size[2] > 1 ? static_cast<double>(k) / static_cast<double>(size[2] - 1) : 0.3;
    const double level = first_level + t * (last_level - first_level);
    const Slice slice{heart.x + unit * draws.uniform(-1.5, 1.5), heart.y + unit * draws.uniform(-1.5, 1.5),
                      level, 1 - heart.taper * std::pow(level, 1.8)};
    for (int64_t i = 0; i < size[0]; ++i) {
      for (int64_t j = 0; j < size[1]; ++j) {
        const int64_t v = (i * size[1] + j) * size[2] + k;
        const Vec p{static_cast<double>(2 * i + 1 - size[0]) * options.spacing / 2,
                    static_cast<double>(2 * j + 1 - size[1]) * options.spacing / 2,
                    kSliceDistance * unit * level};
        const Pixel pixel = draw_pixel(heart, look, slice, p, options.spacing);
        // Classes are left out from the front: right ventricle, then myocardium.
        result.label.voxels[v] =
            static_cast<uint8_t>(std::max<int64_t>(pixel.label - (4 - options.classes), 0));
        const double value = look.gain * std::hypot(pixel.signal + look.noise * noise.normal(2 * v),
                                                    look.noise * noise.normal(2 * v + 1));
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

void write_synthetic_slices(const std::string& folder, const SynthSlicesOptions& options) {
  check_options(options);
  std::vector<std::string> names{"right_ventricle", "myocardium", "left_ventricle"};
  names.erase(names.begin(), names.begin() + (4 - options.classes));
  names.insert(names.begin(), "background");
  write_synth_folder(folder, {"synthetic heart", "rescale_to_0_1", names, options.cases},
                     [&](int64_t index) { return synthesize_slices(options, index); });
}

}  // namespace semivox::io
