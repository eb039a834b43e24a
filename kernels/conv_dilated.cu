// Dilated convolutions as matrix products: the voxels under the taps of every output voxel become a line of
// a matrix of patches, sample by sample. Networks dilate on small feature maps, where the matrix is small;
// its lines are in the order of the weights (Ci, kD, kH, kW), which therefore need no packing.
#include "engine/arithmetic.hpp"
#include "engine/launch.hpp"
#include "kernels/conv.hpp"
#include "kernels/conv_grids.hpp"
#include "kernels/matmul.hpp"

namespace semivox::kernels::dilated {

namespace {

/// Geometry and grids of one sample, for device code.
struct Taps {
  int64_t kernel[3], stride[3], padding[3];
  int64_t dilation;
  int64_t in[3], out[3];  // sizes of the grids
  int64_t channels;       // Ci

  Taps(const ConvGeometry& g, const Shape& x, const Shape& y)
      : dilation(g.dilation), in{x.d, x.h, x.w}, out{y.d, y.h, y.w}, channels(x.c) {
    for (size_t axis = 0; axis < 3; ++axis) {
      kernel[axis] = g.kernel[axis], stride[axis] = g.stride[axis], padding[axis] = g.padding[axis];
    }
  }

  SEMIVOX_HD int64_t taps() const { return kernel[0] * kernel[1] * kernel[2]; }

  /// Coordinate `axis` of tap k of a kernel, and of voxel v of a grid.
  SEMIVOX_HD static int64_t coordinate(const int64_t (&size)[3], int axis, int64_t i) {
    if (axis == 2) return i % size[2];
    return axis == 1 ? i / size[2] % size[1] : i / size[2] / size[1];
  }

  /// Input voxel under tap k of output voxel o, -1 outside.
  SEMIVOX_HD int64_t input_voxel(int64_t o, int64_t k) const {
    int64_t voxel = 0;
    for (int axis = 0; axis < 3; ++axis) {
      const int64_t i =
          coordinate(out, axis, o) * stride[axis] - padding[axis] + coordinate(kernel, axis, k) * dilation;
      if (i < 0 || i >= in[axis]) return -1;
      voxel = voxel * in[axis] + i;
    }
    return voxel;
  }

  /// Output voxel whose tap k lies on input voxel i, -1 when there is none.
  SEMIVOX_HD int64_t output_voxel(int64_t i, int64_t k) const {
    int64_t voxel = 0;
    for (int axis = 0; axis < 3; ++axis) {
      const int64_t scaled = coordinate(in, axis, i) + padding[axis] - coordinate(kernel, axis, k) * dilation;
      if (scaled < 0 || scaled % stride[axis] != 0 || scaled / stride[axis] >= out[axis]) return -1;
      voxel = voxel * out[axis] + scaled / stride[axis];
    }
    return voxel;
  }
};

template <class T>
struct GatherPatches {
  const T* x;      // (V, Ci)
  float* patches;  // (V', Ci, taps)
  Taps t;
  SEMIVOX_HD void operator()(int64_t index) const {
    const int64_t k = index % t.taps(), c = index / t.taps() % t.channels;
    const int64_t i = t.input_voxel(index / t.taps() / t.channels, k);
    patches[index] = i < 0 ? 0.0f : static_cast<float>(x[i * t.channels + c]);
  }
};

/// dx from the gradient of the patches: every input voxel collects what its taps received.
template <class T>
struct CollectPatches {
  const float* patches;  // (V', Ci, taps)
  T* dx;                 // (V, Ci)
  Taps t;
  SEMIVOX_HD void operator()(int64_t index) const {
    const int64_t c = index % t.channels, i = index / t.channels;
    float total = 0;
    for (int64_t k = 0; k < t.taps(); ++k) {
      const int64_t o = t.output_voxel(i, k);
      if (o >= 0) total += patches[(o * t.channels + c) * t.taps() + k];
    }
    dx[index] = static_cast<T>(total);
  }
};

template <class T>
struct StoreProduct {
  const float* product;  // (V', Co)
  const float* bias;     // (Co) or null
  T* y;                  // (V', Co)
  int64_t channels;
  SEMIVOX_HD void operator()(int64_t i) const {
    y[i] = static_cast<T>(product[i] + (bias != nullptr ? bias[i % channels] : 0.0f));
  }
};

/// Calls `f` with float{} or bf16{}.
template <class F>
void with_value_type(DType dtype, const F& f) {
  if (dtype == DType::bf16) return f(bf16{});
  f(float{});
}

Tensor make_patches(const Taps& taps, const Shape& y, Device device) {
  return Tensor::empty({1, taps.channels * taps.taps(), 1, 1, y.voxels()}, DType::f32, device,
                       MemoryTag::workspace);
}

void gather(const Taps& taps, const Tensor& x, Tensor& patches) {
  with_value_type(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    map(x.device(), "conv.patches", patches.elements(),
        GatherPatches<T>{x.data<T>(), patches.data<float>(), taps});
  });
}

/// Parameters (Co, Ci, taps) as the matrix (Co, Ci * taps).
Tensor weight_matrix(const ConvGeometry& g, const Tensor& values) {
  return values.reshaped({1, values.elements() / g.out_channels, 1, 1, g.out_channels});
}

}  // namespace

void conv_forward(const ConvGeometry& g, const Tensor& x, const ConvWeights& weights, const Tensor& bias,
                  Tensor& y) {
  const Taps taps(g, x.shape(), y.shape());
  Tensor patches = make_patches(taps, y.shape(), x.device());
  Tensor product = Tensor::empty(y.shape().with_samples(1), DType::f32, x.device(), MemoryTag::workspace);
  for (int64_t n = 0; n < x.shape().n; ++n) {
    gather(taps, x.samples(n, 1), patches);
    matmul(patches, false, weight_matrix(g, weights.values), true, 1, 0, product);
    with_value_type(y.dtype(), [&](auto zero) {
      using T = decltype(zero);
      map(x.device(), "conv.bias", product.elements(),
          StoreProduct<T>{product.data<float>(), bias.defined() ? bias.data<float>() : nullptr,
                          y.samples(n, 1).data<T>(), g.out_channels});
    });
  }
}

void conv_backward_data(const ConvGeometry& g, const Tensor& dy, const ConvWeights& weights, Tensor& dx) {
  const Taps taps(g, dx.shape(), dy.shape());
  const Tensor gradient = cast(dy, DType::f32);
  Tensor patches = make_patches(taps, dy.shape(), dx.device());
  for (int64_t n = 0; n < dx.shape().n; ++n) {
    matmul(gradient.samples(n, 1), false, weight_matrix(g, weights.values), false, 1, 0, patches);
    with_value_type(dx.dtype(), [&](auto zero) {
      using T = decltype(zero);
      map(dx.device(), "conv.collect", dx.elements() / dx.shape().n,
          CollectPatches<T>{patches.data<float>(), dx.samples(n, 1).data<T>(), taps});
    });
  }
}

void conv_backward_weights(const ConvGeometry& g, const Tensor& x, const Tensor& dy, Tensor& dw) {
  const Taps taps(g, x.shape(), dy.shape());
  const Tensor gradient = cast(dy, DType::f32);
  Tensor patches = make_patches(taps, dy.shape(), x.device());
  Tensor sum = weight_matrix(g, dw);
  for (int64_t n = 0; n < x.shape().n; ++n) {
    gather(taps, x.samples(n, 1), patches);
    matmul(gradient.samples(n, 1), true, patches, false, 1, 1, sum);
  }
}

}  // namespace semivox::kernels::dilated
