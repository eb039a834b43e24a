#include "engine/launch.hpp"
#include "kernels/conv_direct.hpp"

namespace semivox::kernels::direct {

namespace {

/// Coarse rows of voxels (along w) that one thread adds up for one weight.
constexpr int64_t kRowsPerPartial = 64;

template <class T>
struct PackWeights {
  const float* values;  // (coarse, fine, taps)
  T* packed;            // (coarse, taps, fine)
  int64_t fine, taps;
  SEMIVOX_HD void operator()(int64_t i) const {
    const int64_t f = i % fine, k = i / fine % taps, c = i / fine / taps;
    packed[i] = static_cast<T>(values[(c * fine + f) * taps + k]);
  }
};

template <class T>
struct AddUnpacked {
  const T* gradient;  // (coarse, taps, fine)
  float* dw;          // (coarse, fine, taps)
  int64_t fine, taps;
  SEMIVOX_HD void operator()(int64_t i) const {
    const int64_t k = i % taps, f = i / taps % fine, c = i / taps / fine;
    dw[i] += static_cast<float>(gradient[(c * taps + k) * fine + f]);
  }
};

template <class From, class To>
struct Convert {
  const From* from;
  To* to;
  SEMIVOX_HD void operator()(int64_t i) const { to[i] = static_cast<To>(static_cast<float>(from[i])); }
};

/// The two grids, for device code.
struct Grids {
  Shape fine, coarse;
  int64_t kernel[3], stride[3], padding[3];

  Grids(const ConvGeometry& g, const Shape& f, const Shape& c) : fine(f), coarse(c) {
    for (size_t axis = 0; axis < 3; ++axis) {
      kernel[axis] = g.kernel[axis], stride[axis] = g.stride[axis], padding[axis] = g.padding[axis];
    }
  }

  SEMIVOX_HD int64_t taps() const { return kernel[0] * kernel[1] * kernel[2]; }

  /// Fine coordinate under coarse coordinate o and tap k, -1 outside.
  SEMIVOX_HD int64_t fine_index(int axis, int64_t o, int64_t k, int64_t size) const {
    const int64_t i = o * stride[axis] - padding[axis] + k;
    return i >= 0 && i < size ? i : -1;
  }

  /// Coarse coordinate over fine coordinate i with tap k, -1 when there is none.
  SEMIVOX_HD int64_t coarse_index(int axis, int64_t i, int64_t k, int64_t size) const {
    const int64_t scaled = i + padding[axis] - k;
    if (scaled < 0 || scaled % stride[axis] != 0 || scaled / stride[axis] >= size) return -1;
    return scaled / stride[axis];
  }
};

SEMIVOX_HD int64_t voxel_index(const Shape& s, int64_t n, int64_t d, int64_t h, int64_t w) {
  return ((n * s.d + d) * s.h + h) * s.w + w;
}

template <class T>
struct ToCoarse {
  Grids g;
  const T* fine;         // (N, D, H, W, fine channels)
  const float* weights;  // (coarse, fine, taps)
  T* coarse;             // (N, D', H', W', coarse channels)
  SEMIVOX_HD void operator()(int64_t i) const {
    const int64_t c = i % g.coarse.c, row = i / g.coarse.c;
    const int64_t ow = row % g.coarse.w, oh = row / g.coarse.w % g.coarse.h;
    const int64_t od = row / g.coarse.w / g.coarse.h % g.coarse.d,
                  n = row / g.coarse.w / g.coarse.h / g.coarse.d;
    const int64_t taps = g.taps();
    float sum = 0;
    for (int64_t k = 0; k < taps; ++k) {
      const int64_t d = g.fine_index(0, od, k / g.kernel[2] / g.kernel[1], g.fine.d);
      const int64_t h = g.fine_index(1, oh, k / g.kernel[2] % g.kernel[1], g.fine.h);
      const int64_t w = g.fine_index(2, ow, k % g.kernel[2], g.fine.w);
      if (d < 0 || h < 0 || w < 0) continue;
      const T* voxel = fine + voxel_index(g.fine, n, d, h, w) * g.fine.c;
      for (int64_t f = 0; f < g.fine.c; ++f) {
        sum += static_cast<float>(voxel[f]) * weights[(c * g.fine.c + f) * taps + k];
      }
    }
    coarse[i] = static_cast<T>(sum);
  }
};

template <class T>
struct ToFine {
  Grids g;
  const T* coarse;
  const float* weights;
  T* fine;
  SEMIVOX_HD void operator()(int64_t i) const {
    const int64_t f = i % g.fine.c, row = i / g.fine.c;
    const int64_t fw = row % g.fine.w, fh = row / g.fine.w % g.fine.h;
    const int64_t fd = row / g.fine.w / g.fine.h % g.fine.d, n = row / g.fine.w / g.fine.h / g.fine.d;
    const int64_t taps = g.taps();
    float sum = 0;
    for (int64_t k = 0; k < taps; ++k) {
      const int64_t d = g.coarse_index(0, fd, k / g.kernel[2] / g.kernel[1], g.coarse.d);
      const int64_t h = g.coarse_index(1, fh, k / g.kernel[2] % g.kernel[1], g.coarse.h);
      const int64_t w = g.coarse_index(2, fw, k % g.kernel[2], g.coarse.w);
      if (d < 0 || h < 0 || w < 0) continue;
      const T* voxel = coarse + voxel_index(g.coarse, n, d, h, w) * g.coarse.c;
      for (int64_t c = 0; c < g.coarse.c; ++c) {
        sum += static_cast<float>(voxel[c]) * weights[(c * g.fine.c + f) * taps + k];
      }
    }
    fine[i] = static_cast<T>(sum);
  }
};

/// Partial sums of the weight gradient over a fixed number of coarse rows.
template <class T>
struct WeightPartials {
  Grids g;
  const T* fine;
  const T* coarse;
  float* partials;  // (blocks of rows, coarse, fine, taps)
  SEMIVOX_HD void operator()(int64_t i) const {
    const int64_t taps = g.taps(), count = g.coarse.c * g.fine.c * taps, block = i / count;
    const int64_t k = i % taps, f = i / taps % g.fine.c, c = i % count / taps / g.fine.c;
    const int64_t rows = g.coarse.n * g.coarse.d * g.coarse.h;
    const int64_t end = (block + 1) * kRowsPerPartial < rows ? (block + 1) * kRowsPerPartial : rows;
    float sum = 0;
    for (int64_t row = block * kRowsPerPartial; row < end; ++row) {
      const int64_t oh = row % g.coarse.h, od = row / g.coarse.h % g.coarse.d,
                    n = row / g.coarse.h / g.coarse.d;
      const int64_t d = g.fine_index(0, od, k / g.kernel[2] / g.kernel[1], g.fine.d);
      const int64_t h = g.fine_index(1, oh, k / g.kernel[2] % g.kernel[1], g.fine.h);
      if (d < 0 || h < 0) continue;
      for (int64_t ow = 0; ow < g.coarse.w; ++ow) {
        const int64_t w = g.fine_index(2, ow, k % g.kernel[2], g.fine.w);
        if (w < 0) continue;
        sum += static_cast<float>(fine[voxel_index(g.fine, n, d, h, w) * g.fine.c + f]) *
               static_cast<float>(coarse[(row * g.coarse.w + ow) * g.coarse.c + c]);
      }
    }
    partials[i] = sum;
  }
};

struct AddPartials {
  const float* partials;  // (blocks, count)
  float* dw;
  int64_t blocks, count;
  SEMIVOX_HD void operator()(int64_t i) const {
    float sum = 0;
    for (int64_t b = 0; b < blocks; ++b) sum += partials[b * count + i];
    dw[i] += sum;
  }
};

/// Calls `f` with float{} or bf16{}.
template <class F>
void dispatch(DType dtype, const F& f) {
  SEMIVOX_CHECK(dtype == DType::f32 || dtype == DType::bf16, "convolution of ", name_of(dtype));
  if (dtype == DType::f32) return f(float{});
  f(bf16{});
}

}  // namespace

void pack_weights(const Tensor& values, int64_t fine_channels, int64_t taps, Tensor& packed) {
  dispatch(packed.dtype(), [&](auto zero) {
    using T = decltype(zero);
    map(values.device(), "conv.pack_weights", values.elements(),
        PackWeights<T>{values.data<float>(), packed.data<T>(), fine_channels, taps});
  });
}

void add_unpacked(const Tensor& gradient, int64_t fine_channels, int64_t taps, Tensor& dw) {
  dispatch(gradient.dtype(), [&](auto zero) {
    using T = decltype(zero);
    map(dw.device(), "conv.add_unpacked", dw.elements(),
        AddUnpacked<T>{gradient.data<T>(), dw.data<float>(), fine_channels, taps});
  });
}

void convert(const Tensor& from, Tensor& to) {
  dispatch(from.dtype(), [&](auto from_zero) {
    using From = decltype(from_zero);
    dispatch(to.dtype(), [&](auto to_zero) {
      using To = decltype(to_zero);
      map(from.device(), "conv.convert", from.elements(),
          Convert<From, To>{from.data<From>(), to.data<To>()});
    });
  });
}

void to_coarse(const ConvGeometry& g, const Tensor& fine, const Tensor& weights, Tensor& coarse) {
  const Grids grids(g, fine.shape(), coarse.shape());
  dispatch(fine.dtype(), [&](auto zero) {
    using T = decltype(zero);
    map(fine.device(), "conv.direct_to_coarse", coarse.elements(),
        ToCoarse<T>{grids, fine.data<T>(), weights.data<float>(), coarse.data<T>()});
  });
}

void to_fine(const ConvGeometry& g, const Tensor& coarse, const Tensor& weights, Tensor& fine) {
  const Grids grids(g, fine.shape(), coarse.shape());
  dispatch(fine.dtype(), [&](auto zero) {
    using T = decltype(zero);
    map(fine.device(), "conv.direct_to_fine", fine.elements(),
        ToFine<T>{grids, coarse.data<T>(), weights.data<float>(), fine.data<T>()});
  });
}

void to_weights(const ConvGeometry& g, const Tensor& fine, const Tensor& coarse, Tensor& dw) {
  const Grids grids(g, fine.shape(), coarse.shape());
  const int64_t rows = coarse.shape().n * coarse.shape().d * coarse.shape().h;
  const int64_t blocks = (rows + kRowsPerPartial - 1) / kRowsPerPartial, count = dw.elements();
  const Tensor partials =
      Tensor::empty({1, blocks * count, 1, 1, 1}, DType::f32, dw.device(), MemoryTag::workspace);
  dispatch(fine.dtype(), [&](auto zero) {
    using T = decltype(zero);
    map(dw.device(), "conv.direct_to_weights", blocks * count,
        WeightPartials<T>{grids, fine.data<T>(), coarse.data<T>(), partials.data<float>()});
  });
  map(dw.device(), "conv.add_partials", count,
      AddPartials{partials.data<float>(), dw.data<float>(), blocks, count});
}

}  // namespace semivox::kernels::direct
