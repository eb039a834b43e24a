// The shapes of a synthetic scan: an atrium with its veins among look-alikes, different in every case.
//
// All structures are implicit: a function that gives about the distance (mm) to their surface, negative
// inside. A case is drawn once (positions, sizes, bends) and then asked at every voxel.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <vector>

#include "engine/random.hpp"

namespace semivox::io {

struct Vec {
  double x = 0, y = 0, z = 0;
  Vec operator+(const Vec& b) const { return {x + b.x, y + b.y, z + b.z}; }
  Vec operator-(const Vec& b) const { return {x - b.x, y - b.y, z - b.z}; }
  Vec operator*(double s) const { return {x * s, y * s, z * s}; }
};
inline double dot(const Vec& a, const Vec& b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
inline double length(const Vec& a) { return std::sqrt(dot(a, a)); }

/// Hands out the numbers of one random stream in order.
class Draws {
 public:
  explicit Draws(RandomStream stream) : stream_(stream) {}
  double uniform(double low, double high) { return low + (high - low) * stream_.uniform(next_++); }
  double normal() { return stream_.normal(next_++); }
  Vec uniform_vec(double low, double high) {
    const double x = uniform(low, high), y = uniform(low, high);
    return {x, y, uniform(low, high)};
  }

 private:
  RandomStream stream_;
  uint64_t next_ = 0;
};

/// A smooth random function of position: normal numbers on a grid, interpolated with smoothed trilinear
/// weights. Standard deviation about 0.6.
class SmoothField {
 public:
  /// `spacing` mm between grid points, for positions within `extent` mm of the origin along every axis.
  SmoothField(Draws& draws, double spacing, double extent);
  double operator()(const Vec& p) const;

 private:
  double spacing_;
  int64_t size_;
  std::vector<float> values_;  // (size, size, size)
};

/// An ellipsoid along the axes whose radius varies smoothly with direction.
struct Ellipsoid {
  Vec centre, radii;
  std::array<Vec, 3> bump_directions;
  double bump_height = 0;  ///< relative to the radius

  double distance(const Vec& p) const;
};

/// A curved tube whose radius changes along its length.
struct Tube {
  std::vector<Vec> points;
  std::vector<double> radii;
  Vec centre;  // of a ball of radius `reach` around all of it
  double reach = 0;

  struct Nearest {
    double distance;  ///< to the surface
    double along;     ///< position of the nearest point of the centre line, in points
  };
  Nearest nearest(const Vec& p) const;
};

/// Number of structures other than the atrium that carry blood: two ventricles, the other atrium, three
/// vessels.
constexpr int kNeighbors = 6;

/// Distances (mm, negative inside) of one position.
struct Site {
  double atrium;        ///< the labelled region: body, appendage and first stretch of the veins
  double atrium_blood;  ///< the same with the whole veins
  std::array<double, kNeighbors> neighbor;  ///< look-alikes, kept apart from the atrium by a thin wall
  double lung;
};

/// Everything about the shapes of one case. `unit` scales the heart: 1 for a box of 100 x 100 x 70 mm.
class Anatomy {
 public:
  Anatomy(Draws& draws, double unit);

  /// What lies at `p` (mm from the centre of the box).
  Site at(const Vec& p) const;

 private:
  void place_atrium(Draws& draws);
  void place_veins(Draws& draws);
  void place_neighbors(Draws& draws);
  Vec to_heart(const Vec& p) const;

  double unit_;
  Vec centre_;
  std::array<Vec, 3> axes_;  // of the heart
  std::array<SmoothField, 3> bend_;
  Ellipsoid body_, appendage_;
  std::vector<Tube> veins_;
  std::vector<double> labeled_until_;  // per vein, in points
  std::array<Ellipsoid, 3> chambers_;
  std::array<Tube, 3> vessels_;
  Vec valve_;
  double wall_ = 0, lung_at_ = 0;
  SmoothField lung_border_;
};

}  // namespace semivox::io
