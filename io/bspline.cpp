#include "io/bspline.hpp"

#include <algorithm>
#include <cmath>

#include "engine/parallel.hpp"

namespace semivox::io {
namespace {

const double kPole = std::sqrt(3.0) - 2;  // of the cubic B-spline's inverse filter

/// Samples of a line become spline coefficients: a causal and an anti-causal recursion over the line mirrored
/// at its first and last sample.
void to_coefficients(std::vector<double>& line) {
  const size_t n = line.size();
  if (n == 1) return;
  // The causal sum from minus infinity, over one period 2n - 2 of the mirrored line.
  double sum = line[0] + std::pow(kPole, static_cast<double>(n - 1)) * line[n - 1], power = kPole;
  double back = std::pow(kPole, static_cast<double>(2 * n - 3));
  for (size_t i = 1; i + 1 < n; ++i) {
    sum += (power + back) * line[i];
    power *= kPole;
    back /= kPole;
  }
  line[0] = 6 * sum / (1 - std::pow(kPole, static_cast<double>(2 * n - 2)));
  for (size_t i = 1; i < n; ++i) line[i] = 6 * line[i] + kPole * line[i - 1];
  line[n - 1] = kPole / (kPole * kPole - 1) * (kPole * line[n - 2] + line[n - 1]);
  for (size_t i = n - 1; i-- > 0;) line[i] = kPole * (line[i + 1] - line[i]);
}

/// Index i of the mirrored line of n samples.
int64_t mirrored(int64_t i, int64_t n) {
  if (n == 1) return 0;
  const int64_t period = 2 * n - 2;
  i = ((i % period) + period) % period;
  return i < n ? i : period - i;
}

double spline_at(const std::vector<double>& coefficients, double position) {
  const double floor = std::floor(position), t = position - floor, u = 1 - t;
  const auto first = static_cast<int64_t>(floor) - 1, n = static_cast<int64_t>(coefficients.size());
  const double weights[4] = {u * u * u / 6, 2.0 / 3 - t * t * (2 - t) / 2, 2.0 / 3 - u * u * (2 - u) / 2,
                             t * t * t / 6};
  double value = 0;
  for (int64_t k = 0; k < 4; ++k) value += weights[k] * coefficients[mirrored(first + k, n)];
  return value;
}

/// The spline along one axis; the others keep their samples. Splines along different axes commute.
std::vector<float> along_axis(const std::vector<float>& values, const Extent3& shape, int axis, int64_t to,
                              double step) {
  Extent3 result_shape = shape;
  result_shape[axis] = to;
  std::vector<float> result(static_cast<size_t>(voxel_count(result_shape)));
  const int64_t inner = axis == 2 ? 1 : axis == 1 ? shape[2] : shape[1] * shape[2];
  const int64_t lines = voxel_count(shape) / shape[axis];
  parallel_blocks(lines, 64, [&](int64_t begin, int64_t end) {
    std::vector<double> line(static_cast<size_t>(shape[axis]));
    for (int64_t l = begin; l < end; ++l) {
      const int64_t outside = l / inner, inside = l % inner;
      const float* source = values.data() + outside * shape[axis] * inner + inside;
      for (int64_t i = 0; i < shape[axis]; ++i) line[i] = source[i * inner];
      to_coefficients(line);
      float* target = result.data() + outside * to * inner + inside;
      for (int64_t i = 0; i < to; ++i)
        target[i * inner] = static_cast<float>(spline_at(line, static_cast<double>(i) * step));
    }
  });
  return result;
}

}  // namespace

std::vector<float> resample_cubic(const std::vector<float>& values, const Extent3& shape, const Extent3& to,
                                  const std::array<double, 3>& step) {
  std::vector<float> result = values;
  Extent3 now = shape;
  for (int axis = 0; axis < 3; ++axis) {
    result = along_axis(result, now, axis, to[axis], step[axis]);
    now[axis] = to[axis];
  }
  return result;
}

}  // namespace semivox::io
