#include "io/synth_anatomy.hpp"

#include <algorithm>

namespace semivox::io {
namespace {

constexpr int kTubePoints = 13;

/// Beyond this distance (mm) only a lower bound of it is computed: nothing that far from a border is drawn
/// differently.
constexpr double kFar = 10;

/// A quadratic Bezier curve from `start` over `bend` to `end`.
Tube make_tube(const Vec& start, const Vec& bend, const Vec& end, double radius_start, double radius_end) {
  Tube tube;
  for (int i = 0; i < kTubePoints; ++i) {
    const double t = static_cast<double>(i) / (kTubePoints - 1);
    tube.points.push_back(start * ((1 - t) * (1 - t)) + bend * (2 * t * (1 - t)) + end * (t * t));
    tube.radii.push_back(radius_start + t * (radius_end - radius_start));
  }
  tube.centre = bend;
  for (int i = 0; i < kTubePoints; ++i) {
    tube.reach = std::max(tube.reach, length(tube.points[i] - bend) + tube.radii[i]);
  }
  return tube;
}

Ellipsoid draw_ellipsoid(Draws& draws, const Vec& centre, double jitter, const Vec& radii, double spread,
                         double bump_height) {
  Ellipsoid ellipsoid;
  ellipsoid.centre = centre + draws.uniform_vec(-jitter, jitter);
  const Vec factor = draws.uniform_vec(1 - spread, 1 + spread);
  ellipsoid.radii = {radii.x * factor.x, radii.y * factor.y, radii.z * factor.z};
  for (Vec& direction : ellipsoid.bump_directions) direction = draws.uniform_vec(-3, 3);
  ellipsoid.bump_height = bump_height;
  return ellipsoid;
}

double smooth_step(double t) {
  t = std::clamp(t, 0.0, 1.0);
  return t * t * (3 - 2 * t);
}

Vec rotated(const Vec& v, int axis, double angle) {
  const double c = std::cos(angle), s = std::sin(angle);
  if (axis == 0) return {v.x, c * v.y - s * v.z, s * v.y + c * v.z};
  if (axis == 1) return {c * v.x + s * v.z, v.y, c * v.z - s * v.x};
  return {c * v.x - s * v.y, s * v.x + c * v.y, v.z};
}

}  // namespace

SmoothField::SmoothField(Draws& draws, double spacing, double extent)
    : spacing_(spacing), size_(2 * static_cast<int64_t>(std::ceil(extent / spacing)) + 2) {
  values_.resize(size_ * size_ * size_);
  for (float& value : values_) value = static_cast<float>(draws.normal());
}

double SmoothField::operator()(const Vec& p) const {
  const double position[3] = {p.x / spacing_, p.y / spacing_, p.z / spacing_};
  int64_t low[3];
  double weight[3];
  for (int a = 0; a < 3; ++a) {
    const double clamped =
        std::clamp(position[a] + static_cast<double>(size_) / 2, 0.0, static_cast<double>(size_) - 1.001);
    low[a] = static_cast<int64_t>(clamped);
    weight[a] = smooth_step(clamped - static_cast<double>(low[a]));
  }
  double sum = 0;
  for (int corner = 0; corner < 8; ++corner) {
    const int64_t dx = corner >> 2, dy = corner >> 1 & 1, dz = corner & 1;
    const double w = (dx ? weight[0] : 1 - weight[0]) * (dy ? weight[1] : 1 - weight[1]) *
                     (dz ? weight[2] : 1 - weight[2]);
    sum += w * values_[((low[0] + dx) * size_ + low[1] + dy) * size_ + low[2] + dz];
  }
  return sum;
}

double Ellipsoid::distance(const Vec& p) const {
  const Vec q = p - centre;
  const Vec relative{q.x / radii.x, q.y / radii.y, q.z / radii.z};
  const double k0 = length(relative);
  if (k0 < 1e-6) return -std::min({radii.x, radii.y, radii.z});
  // First-order distance: value of the implicit function over the length of its gradient.
  const Vec gradient{relative.x / radii.x, relative.y / radii.y, relative.z / radii.z};
  const double scale = k0 / length(gradient);
  const double bound = scale * (k0 - 1 - 3 * bump_height);
  if (bound > kFar) return bound;
  double bump = 0;
  for (const Vec& axis : bump_directions) bump += std::sin(dot(axis, relative) / k0 + axis.x);
  return scale * (k0 - 1 - bump_height * bump);
}

Tube::Nearest Tube::nearest(const Vec& p) const {
  const double bound = length(p - centre) - reach;
  if (bound > kFar) return {bound, 0};
  Nearest best{1e9, 0};
  for (size_t i = 0; i + 1 < points.size(); ++i) {
    const Vec segment = points[i + 1] - points[i], offset = p - points[i];
    const double t = std::clamp(dot(offset, segment) / dot(segment, segment), 0.0, 1.0);
    const double radius = radii[i] + t * (radii[i + 1] - radii[i]);
    const double distance = length(offset - segment * t) - radius;
    if (distance < best.distance) best = {distance, static_cast<double>(i) + t};
  }
  return best;
}

Anatomy::Anatomy(Draws& draws, double unit)
    : unit_(unit * draws.uniform(0.86, 1.14)),
      centre_(draws.uniform_vec(-7, 7) * unit),
      bend_{SmoothField(draws, 26, 90), SmoothField(draws, 26, 90), SmoothField(draws, 26, 90)},
      lung_border_(draws, 18, 90) {
  axes_ = {Vec{1, 0, 0}, Vec{0, 1, 0}, Vec{0, 0, 1}};
  for (int axis = 0; axis < 3; ++axis) {
    const double angle = draws.uniform(-0.4, 0.4);
    for (Vec& v : axes_) v = rotated(v, axis, angle);
  }
  place_atrium(draws);
  place_veins(draws);
  place_neighbors(draws);
  lung_at_ = draws.uniform(36, 46);
}

void Anatomy::place_atrium(Draws& draws) {
  body_ = draw_ellipsoid(draws, {0, 0, 0}, 0, {25, 18, 18}, 0.2, 0.07);
  // The appendage: a lobe at the front, on the left or the right of the midline.
  const double side = draws.uniform(0, 1) < 0.75 ? 1 : -1;
  appendage_ =
      draw_ellipsoid(draws, {side * body_.radii.x * 0.8, -body_.radii.y * 0.75, draws.uniform(-4, 8)}, 3,
                     {8, 9, 7}, 0.3, 0.1);
}

void Anatomy::place_veins(Draws& draws) {
  const int count = 3 + static_cast<int>(draws.uniform(0, 3));
  const double sides[5] = {1, -1, 1, -1, draws.uniform(0, 1) < 0.5 ? 1.0 : -1.0};
  const double heights[5] = {0.55, 0.55, -0.45, -0.45, 0.05};
  for (int i = 0; i < count; ++i) {
    const Vec ostium{sides[i] * body_.radii.x * draws.uniform(0.5, 0.75),
                     body_.radii.y * draws.uniform(0.1, 0.45),
                     body_.radii.z * (heights[i] + draws.uniform(-0.2, 0.2))};
    const Vec outward{sides[i] * draws.uniform(18, 28), draws.uniform(-4, 12),
                      heights[i] * 18 + draws.uniform(-8, 8)};
    const Vec bend = ostium + outward * 0.5 + draws.uniform_vec(-6, 6);
    const double radius = draws.uniform(4.2, 6.2);
    veins_.push_back(make_tube(ostium, bend, ostium + outward, radius, radius * draws.uniform(0.5, 0.8)));
    // The label ends a few millimetres after the vein has left the body.
    const Tube& vein = veins_.back();
    const double stretch = draws.uniform(5, 9);
    double outside = 0;
    size_t end = 1;
    while (end + 1 < vein.points.size() && outside < stretch) {
      if (body_.distance(vein.points[end]) > 0) outside += length(vein.points[end] - vein.points[end - 1]);
      ++end;
    }
    labeled_until_.push_back(static_cast<double>(end) - 0.5);
  }
}

void Anatomy::place_neighbors(Draws& draws) {
  chambers_ = {draw_ellipsoid(draws, {10, -33, -20}, 4, {20, 18, 22}, 0.2, 0.06),   // left ventricle
               draw_ellipsoid(draws, {-24, -34, -14}, 4, {18, 13, 20}, 0.2, 0.08),  // right ventricle
               draw_ellipsoid(draws, {-35, -8, -4}, 4, {15, 16, 19}, 0.2, 0.08)};   // right atrium
  valve_ = chambers_[0].centre * 0.5;
  const auto near = [&](double x, double y, double z) { return Vec{x, y, z} + draws.uniform_vec(-4, 4); };
  const Vec root = near(-4, -24, -4), arch = near(-8, -26, 18), top = near(-2, -10, 44);
  vessels_[0] = make_tube(root, arch, top, draws.uniform(8, 11), draws.uniform(7, 9));  // ascending aorta
  const Vec low = near(14, 27, -48), middle = near(10, 29, 0), high = near(12, 24, 48);
  vessels_[1] = make_tube(low, middle, high, draws.uniform(6, 9), draws.uniform(6, 9));  // descending aorta
  const Vec right = near(-34, 4, 22), over = near(-2, -4, 32), left = near(32, 6, 24);
  vessels_[2] = make_tube(right, over, left, draws.uniform(5, 8), draws.uniform(5, 8));  // pulmonary artery
  wall_ = draws.uniform(1.2, 2.6);
}

Vec Anatomy::to_heart(const Vec& p) const {
  const Vec q = p - centre_;
  const Vec turned{dot(axes_[0], q), dot(axes_[1], q), dot(axes_[2], q)};
  const Vec scaled = turned * (1 / unit_);
  return scaled + Vec{bend_[0](scaled), bend_[1](scaled), bend_[2](scaled)} * 5.0;
}

Site Anatomy::at(const Vec& p) const {
  const Vec q = to_heart(p);
  Site site{};
  site.atrium = std::min(body_.distance(q), appendage_.distance(q));
  site.atrium_blood = site.atrium;
  for (size_t i = 0; i < veins_.size(); ++i) {
    const Tube::Nearest nearest = veins_[i].nearest(q);
    site.atrium_blood = std::min(site.atrium_blood, nearest.distance);
    if (nearest.along <= labeled_until_[i]) site.atrium = std::min(site.atrium, nearest.distance);
  }
  // Neighbours give way to the atrium and leave a wall, except at the valve, where blood meets blood.
  const double wall = wall_ * smooth_step((length(q - valve_) - 7) / 7);
  for (int i = 0; i < 3; ++i) {
    site.neighbor[i] = std::max(chambers_[i].distance(q), wall - site.atrium_blood);
    site.neighbor[3 + i] = std::max(vessels_[i].nearest(q).distance, wall - site.atrium_blood);
  }
  site.lung = lung_at_ + 7 * lung_border_(q) - std::abs(q.x);
  for (double* distance : {&site.atrium, &site.atrium_blood, &site.lung}) *distance *= unit_;
  for (double& distance : site.neighbor) distance *= unit_;
  return site;
}

}  // namespace semivox::io
