#include "kernels/distance.hpp"

#include <cmath>
#include <limits>

#include "engine/hd.hpp"
#include "engine/launch.hpp"

namespace semivox::kernels {
namespace {

/// First pass, along W: squared distance to the nearest object voxel of the same row, by a scan in each
/// direction.
template <class T>
struct RowDistance {
  const uint8_t* mask;  // (N, D, H, W)
  T* out;               // (N, D, H, W)
  int64_t width;
  double spacing;
  SEMIVOX_HD void operator()(int64_t row) const {
    const uint8_t* line = mask + row * width;
    T* out_line = out + row * width;
    int64_t nearest = -1;
    for (int64_t w = 0; w < width; ++w) {
      if (line[w] != 0) nearest = w;
      out_line[w] = nearest < 0 ? static_cast<T>(INFINITY) : square(w - nearest);
    }
    nearest = -1;
    for (int64_t w = width - 1; w >= 0; --w) {
      if (line[w] != 0) nearest = w;
      if (nearest < 0) continue;
      const T distance = square(nearest - w);
      if (distance < out_line[w]) out_line[w] = distance;
    }
  }
  SEMIVOX_HD T square(int64_t steps) const {
    const double distance = spacing * static_cast<double>(steps);
    return static_cast<T>(distance * distance);
  }
};

/// Pass along one strided axis: out(u) = min over i of (s (u - i))^2 + in(i), by the lower envelope of these
/// parabolas. The envelope of a line is kept in `site` and `start`, laid out as the volume: parabola
/// `site[k]` is the lowest from position `start[k]` on, up to `start[k+1]`.
template <class T>
struct LineEnvelope {
  const T* in;     // (N, D, H, W), squared distances along the axes done
  T* out;          // (N, D, H, W)
  int32_t* site;   // (N, D, H, W) workspace
  int32_t* start;  // (N, D, H, W) workspace
  int64_t length;  // voxels along the axis
  int64_t stride;  // elements between them
  double spacing_squared;
  SEMIVOX_HD void operator()(int64_t line) const {
    const int64_t base = line / stride * stride * length + line % stride;
    const T* f = in + base;
    T* result = out + base;
    int32_t* sites = site + base;
    int32_t* starts = start + base;
    int64_t top = -1;       // last parabola of the envelope
    int64_t site_top = 0;   // its position,
    int64_t start_top = 0;  // where it begins to be the lowest,
    double f_top = 0;       // and its value at the vertex
    for (int64_t u = 0; u < length; ++u) {
      const double f_u = f[u * stride];
      if (f_u == INFINITY) continue;
      while (top >= 0 && value(start_top, site_top, f_top) > value(start_top, u, f_u)) {
        --top;
        if (top < 0) break;
        site_top = sites[top * stride];
        start_top = starts[top * stride];
        f_top = f[site_top * stride];
      }
      int64_t begin = 0;
      if (top >= 0) {
        // The first position where the new parabola is the lower one. For unit spacing all terms are
        // integers, and a quotient that is no integer is further from the next one than its rounding error:
        // floor is exact.
        const double crossing =
            (spacing_squared * static_cast<double>(u * u - site_top * site_top) + f_u - f_top) /
            (2 * spacing_squared * static_cast<double>(u - site_top));
        if (crossing >= static_cast<double>(length - 1)) continue;
        begin = 1 + static_cast<int64_t>(floor(crossing));
      }
      ++top;
      site_top = u;
      start_top = begin;
      f_top = f_u;
      sites[top * stride] = static_cast<int32_t>(u);
      starts[top * stride] = static_cast<int32_t>(begin);
    }
    for (int64_t u = length - 1; u >= 0; --u) {
      // Parabolas that meet in one point may, by rounding, start at the same position: then the later one
      // counts.
      while (top > 0 && start_top > u) {
        --top;
        site_top = sites[top * stride];
        start_top = starts[top * stride];
        f_top = f[site_top * stride];
      }
      result[u * stride] = top < 0 ? static_cast<T>(INFINITY) : static_cast<T>(value(u, site_top, f_top));
    }
  }
  SEMIVOX_HD double value(int64_t position, int64_t vertex, double height) const {
    const double steps = static_cast<double>(position - vertex);
    return spacing_squared * steps * steps + height;
  }
};

template <class T>
void run_passes(const Tensor& mask, std::array<double, 3> spacing, Tensor& out) {
  const Shape shape = mask.shape();
  const Device device = mask.device();
  const Tensor other = Tensor::empty(shape, dtype_of<T>(), device, MemoryTag::workspace);
  const Tensor site = Tensor::empty(shape, DType::i32, device, MemoryTag::workspace);
  const Tensor start = Tensor::empty(shape, DType::i32, device, MemoryTag::workspace);
  map(device, "distance_rows", shape.n * shape.d * shape.h,
      RowDistance<T>{mask.data<uint8_t>(), out.data<T>(), shape.w, spacing[2]});
  map(device, "distance_columns", shape.n * shape.d * shape.w,
      LineEnvelope<T>{out.data<T>(), other.data<T>(), site.data<int32_t>(), start.data<int32_t>(), shape.h,
                      shape.w, spacing[1] * spacing[1]});
  map(device, "distance_slices", shape.n * shape.h * shape.w,
      LineEnvelope<T>{other.data<T>(), out.data<T>(), site.data<int32_t>(), start.data<int32_t>(), shape.d,
                      shape.h * shape.w, spacing[0] * spacing[0]});
}

}  // namespace

void squared_distance(const Tensor& mask, std::array<double, 3> spacing, Tensor& out) {
  SEMIVOX_CHECK(mask.shape().c == 1 && mask.shape() == out.shape() && mask.device() == out.device(), "mask ",
                mask.shape().str(), ", distances ", out.shape().str());
  SEMIVOX_CHECK(spacing[0] > 0 && spacing[1] > 0 && spacing[2] > 0, "spacing ", spacing[0], " x ", spacing[1],
                " x ", spacing[2]);
  if (out.dtype() == DType::f64) {
    run_passes<double>(mask, spacing, out);
  } else {
    run_passes<float>(mask, spacing, out);
  }
}

}  // namespace semivox::kernels
