// Voxel programs: a voxel-wise loss is written once, as the terms of one voxel and a function of their sums.
//
//   L = g(S),   S[n][k] = sum of f_k over the voxels of sample n
//
// f_k may use the logits at the voxel and whatever else the program reads there. A program is a struct with
//
//   kResults                                  how many numbers g gives; results[0] is the loss
//   sums(channels)                            how many sums there are per sample
//   terms<S>(z, channels, sample, voxel, t)   f: fills t[0 ... sums-1] for one voxel with logits z
//   results<S>(sums, channels, results)       g: from the sums of all samples
//
// all SEMIVOX_HD, and pointers to what it reads (labels, masks, another network's logits: channels-last, on
// the device). Pass 1 adds up f over the voxels. Pass 2 evaluates the same f on dual numbers, held in
// registers, and contracts it with the derivatives of g: the gradient of the logits without a hand-written
// derivative or an intermediate tensor. methods/supervised_loss.cu is a short example. Bytes: the logits are
// read twice and their gradient is written once. Sums are deterministic.
#pragma once

#include <type_traits>
#include <vector>

#include "engine/launch.hpp"
#include "engine/variable.hpp"
#include "kernels/dual.hpp"

// g++ makes vectors of a loop only when it has unrolled all loops in it, which it does by itself up to 16
// rounds.
#ifdef __NVCC__  // does not know the pragma
#define SEMIVOX_UNROLL_ON_HOST
#else
#define SEMIVOX_UNROLL_ON_HOST _Pragma("GCC unroll 64")
#endif

namespace semivox {

/// The sums S[n][k] as g sees them. As dual numbers they are made when they are read (an array of them would
/// be a thread's stack, which a GPU sets aside for every thread that it can hold).
template <class S>
struct SampleSums {
  const double* values;  // (samples, K)
  int64_t samples;
  int terms;
  int64_t variable = -1;  // index of the sum by which dual numbers are differentiated

  SEMIVOX_HD S operator()(int64_t sample, int k) const {
    const int64_t i = sample * terms + k;
    if constexpr (std::is_same_v<S, double>) {
      return values[i];
    } else {
      return i == variable ? S::variable(values[i], 0) : S(values[i]);
    }
  }
  /// Sum of term k over the samples first ... last-1.
  SEMIVOX_HD S total(int k, int64_t first, int64_t last) const {
    S sum = S(0);
    for (int64_t n = first; n < last; ++n) sum = sum + (*this)(n, k);
    return sum;
  }
  SEMIVOX_HD S total(int k) const { return total(k, 0, samples); }
};

/// What evaluating a program gives.
struct LossValue {
  Variable loss;   ///< scalar (f64)
  Tensor results;  ///< f64, kResults elements; results[0] is the loss
};

namespace voxel {

constexpr int kMaxChannels = 16;  // logits of all inputs together
constexpr int kMaxInputs = 4;
constexpr int kLanes = 32;  // voxels that the CPU calculates side by side: as many as a vector has labels

/// The differentiable inputs of a program: logits of one or more networks, seen as one array of channels.
struct Inputs {
  const void* data[kMaxInputs] = {};  // each (N, V, channels[i]), f32 or f64
  void* gradient[kMaxInputs] = {};    // likewise, or null
  int channels[kMaxInputs] = {};
  int count = 0;
  bool f64 = false;

  /// z[0 ... used-1]: all channels of a row. The loop counts to a constant, so that z stays in registers.
  template <class S, int kWidth>
  SEMIVOX_HD void load(int64_t row, int used, S (&z)[kWidth]) const {
    int i = 0, c = 0;
    SEMIVOX_UNROLL
    for (int k = 0; k < kWidth; ++k) {
      if (k >= used) continue;
      const int64_t at = row * channels[i] + c;
      z[k] = f64 ? S(static_cast<const double*>(data[i])[at]) : S(static_cast<const float*>(data[i])[at]);
      if (++c == channels[i]) ++i, c = 0;
    }
  }

  /// The f32 logits of the voxels `row` ... `row + kLanes - 1`, by channel.
  template <int kChannels>
  void load_lanes(int64_t row, float (&z)[kChannels][kLanes]) const {
    if (count == 1) {  // a stride known to the compiler
      const float* from = static_cast<const float*>(data[0]) + row * kChannels;
      for (int c = 0; c < kChannels; ++c)
        for (int lane = 0; lane < kLanes; ++lane) z[c][lane] = from[lane * kChannels + c];
      return;
    }
    for (int k = 0, i = 0, c = 0; k < kChannels; ++k) {
      const float* from = static_cast<const float*>(data[i]) + row * channels[i] + c;
      for (int lane = 0; lane < kLanes; ++lane) z[k][lane] = from[lane * channels[i]];
      if (++c == channels[i]) ++i, c = 0;
    }
  }

  /// The way back, to the inputs that want a gradient.
  template <int kChannels>
  void store_lanes(int64_t row, const float (&values)[kChannels][kLanes]) const {
    if (count == 1) {
      float* to = static_cast<float*>(gradient[0]) + row * kChannels;
      for (int c = 0; c < kChannels; ++c)
        for (int lane = 0; lane < kLanes; ++lane) to[lane * kChannels + c] = values[c][lane];
      return;
    }
    for (int k = 0, i = 0, c = 0; k < kChannels; ++k) {
      if (gradient[i] != nullptr) {
        float* to = static_cast<float*>(gradient[i]) + row * channels[i] + c;
        for (int lane = 0; lane < kLanes; ++lane) to[lane * channels[i]] = values[k][lane];
      }
      if (++c == channels[i]) ++i, c = 0;
    }
  }

  /// Writes the gradients of all channels of a row to the inputs that want them.
  template <class T, int kWidth>
  SEMIVOX_HD void store_gradient(int64_t row, int used, const T (&values)[kWidth]) const {
    int i = 0, c = 0;
    SEMIVOX_UNROLL
    for (int k = 0; k < kWidth; ++k) {
      if (k >= used) continue;
      const int64_t at = row * channels[i] + c;
      if (gradient[i] != nullptr && f64) static_cast<double*>(gradient[i])[at] = values[k];
      if (gradient[i] != nullptr && !f64)
        static_cast<float*>(gradient[i])[at] = static_cast<float>(values[k]);
      if (++c == channels[i]) ++i, c = 0;
    }
  }
};

// T is the type to calculate in. kChannels > 0 fixes the number of channels at compile time (registers,
// unrolled loops); 0 takes it from `channels`.
template <class Program, class T, int kChannels>
struct SumTerms {
  static constexpr int kWidth = kChannels > 0 ? kChannels : kMaxChannels;
  static constexpr int kSums = Program::sums(kWidth);
  Program program;
  Inputs inputs;
  int64_t voxels;
  int channels;
  SEMIVOX_HD void operator()(int64_t sample, int64_t v, double* sums) const {
    const int used = kChannels > 0 ? kChannels : channels;
    T z[kWidth], t[kSums] = {};
    inputs.load(sample * voxels + v, used, z);
    program.terms(static_cast<const T*>(z), used, sample, v, t);
    for (int k = 0; k < kSums; ++k) sums[k] += t[k];
  }

  void host_block(int64_t sample, int64_t begin, int64_t end, double* sums) const requires(kChannels > 0) {
    double lane_sums[kSums][kLanes] = {};
    int64_t v = begin;
    for (; v + kLanes <= end; v += kLanes) {
      T z[kChannels][kLanes], t[kSums][kLanes];
      inputs.load_lanes(sample * voxels + v, z);
      for (int lane = 0; lane < kLanes; ++lane) {
        T z_lane[kChannels], t_lane[kSums] = {};
        for (int c = 0; c < kChannels; ++c) z_lane[c] = z[c][lane];
        program.terms(static_cast<const T*>(z_lane), kChannels, sample, v + lane, t_lane);
        SEMIVOX_UNROLL_ON_HOST
        for (int k = 0; k < kSums; ++k) t[k][lane] = t_lane[k];
      }
      for (int k = 0; k < kSums; ++k)
        for (int lane = 0; lane < kLanes; ++lane) lane_sums[k][lane] += t[k][lane];
    }
    for (int k = 0; k < kSums; ++k)
      for (int lane = 0; lane < kLanes; ++lane) sums[k] += lane_sums[k][lane];
    for (; v < end; ++v) (*this)(sample, v, sums);
  }
};

/// Copies the used sums out of the rows that the driver made for the largest number of channels.
struct PackSums {
  const double* wide;  // (samples, wide_terms)
  double* sums;        // (samples, terms)
  int64_t wide_terms, terms;
  SEMIVOX_HD void operator()(int64_t i) const { sums[i] = wide[i / terms * wide_terms + i % terms]; }
};

/// results = g(sums), one thread.
template <class Program>
struct EvaluateResults {
  Program program;
  const double* sums;  // (samples, terms)
  double* results;
  double* loss;
  int64_t samples;
  int terms, channels;
  SEMIVOX_HD void operator()(int64_t) const {
    program.results(SampleSums<double>{sums, samples, terms}, channels, results);
    loss[0] = results[0];
  }
};

/// weights[n][k] = d results[0] / d S[n][k], one thread for each.
template <class Program>
struct DifferentiateResults {
  Program program;
  const double* sums;
  const double* upstream;  // (1)
  double* weights;         // (samples, terms)
  int64_t samples;
  int terms, channels;
  SEMIVOX_HD void operator()(int64_t i) const {
    Dual<double, 1> results[Program::kResults];
    program.results(SampleSums<Dual<double, 1>>{sums, samples, terms, i}, channels, results);
    weights[i] = results[0].d[0] * upstream[0];
  }
};

/// Gradient of the logits of one voxel: derivatives of all terms by a chunk of channels at a time, contracted
/// with `weights`.
template <class Program, class T, int kChannels>
struct Gradient {
  static constexpr int kWidth = kChannels > 0 ? kChannels : kMaxChannels;
  static constexpr int kChunk = kChannels > 0 ? kChannels : 4;
  static constexpr int kSums = Program::sums(kWidth);
  using S = Dual<T, kChunk>;
  Program program;
  Inputs inputs;
  const double* weights;  // (samples, terms)
  int64_t voxels;
  int terms, channels;
  SEMIVOX_HD void operator()(int64_t row) const {
    const int64_t sample = row / voxels, v = row % voxels;
    const int used = kChannels > 0 ? kChannels : channels;
    T gradient[kWidth] = {};
    for (int first = 0; first < used; first += kChunk) {
      S z[kWidth], t[kSums] = {};
      inputs.load(row, used, z);
      for (int i = 0; i < kChunk; ++i) {
        if (first + i < used) z[first + i] = S::variable(z[first + i].v, i);
      }
      program.terms(static_cast<const S*>(z), used, sample, v, t);
      for (int i = 0; i < kChunk; ++i) {
        if (first + i >= used) continue;
        T total = T(0);
        for (int k = 0; k < (kChannels > 0 ? kSums : terms); ++k) {
          total += static_cast<T>(weights[sample * terms + k]) * t[k].d[i];
        }
        gradient[first + i] = total;
      }
    }
    inputs.store_gradient(row, used, gradient);
  }

  void host_block(int64_t row, int64_t end) const requires(kChannels > 0) {
    while (row < end) {
      const int64_t sample = row / voxels, v = row % voxels;
      if (row + kLanes > end || v + kLanes > voxels) {
        (*this)(row++);
        continue;
      }
      T z[kChannels][kLanes], gradient[kChannels][kLanes], weight[kSums];
      for (int k = 0; k < kSums; ++k) weight[k] = static_cast<T>(weights[sample * terms + k]);
      inputs.load_lanes(row, z);
      for (int lane = 0; lane < kLanes; ++lane) {
        S z_lane[kChannels], t[kSums] = {};
        for (int c = 0; c < kChannels; ++c) z_lane[c] = S::variable(z[c][lane], c);
        program.terms(static_cast<const S*>(z_lane), kChannels, sample, v + lane, t);
        for (int c = 0; c < kChannels; ++c) {
          T total = T(0);
          SEMIVOX_UNROLL_ON_HOST
          for (int k = 0; k < kSums; ++k) total += weight[k] * t[k].d[c];
          gradient[c][lane] = total;
        }
      }
      inputs.store_lanes(row, gradient);
      row += kLanes;
    }
  }
};

/// Calls `f(T{}, std::integral_constant<int, C>{})` with the type to calculate in and the number of channels:
/// fixed, in f32, for two classes, for four, and for two decoders of two. All else is calculated in f64 with
/// the number taken at run time: oracles need not be fast, and every variant costs seconds to compile.
template <class F>
void with_variant(DType dtype, int channels, const F& f) {
  if (dtype == DType::f32 && channels == 2) return f(float{}, std::integral_constant<int, 2>{});
  if (dtype == DType::f32 && channels == 4) return f(float{}, std::integral_constant<int, 4>{});
  f(double{}, std::integral_constant<int, 0>{});
}

/// f32 or f64 logits; losses are never taken in bf16.
inline void check_logit_type(DType dtype) {
  SEMIVOX_CHECK(dtype == DType::f32 || dtype == DType::f64, "logits of dtype ", name_of(dtype));
}

}  // namespace voxel

/// Evaluates a program on the logits of `inputs` (same N and voxels each, f32 or f64). `reads` lists the
/// tensors that the program's pointers lead into; they are kept alive until the gradient has been taken.
/// `name` is a string literal.
template <class Program>
LossValue evaluate(const char* name, const Program& program, const std::vector<Variable>& inputs,
                   std::vector<Tensor> reads) {
  SEMIVOX_CHECK(!inputs.empty() && inputs.size() <= voxel::kMaxInputs, name, ": ", inputs.size(), " inputs");
  const Shape shape = inputs[0].shape();
  const Device device = inputs[0].value().device();
  const DType dtype = inputs[0].value().dtype();
  int channels = 0;
  for (const Variable& input : inputs) {
    SEMIVOX_CHECK(input.shape().with_channels(1) == shape.with_channels(1) && input.value().dtype() == dtype,
                  name, ": inputs of shapes ", shape.str(), " and ", input.shape().str());
    channels += static_cast<int>(input.shape().c);
  }
  if (channels > voxel::kMaxChannels) {
    throw UsageError(text(name, ": found ", channels,
                          " channels of logits (classes times networks or decoders), ", "expected at most ",
                          voxel::kMaxChannels));
  }
  voxel::check_logit_type(dtype);
  const int terms = Program::sums(channels);

  Tensor sums = Tensor::empty({1, shape.n * terms, 1, 1, 1}, DType::f64, device);
  LossValue value;
  value.results = Tensor::empty({1, Program::kResults, 1, 1, 1}, DType::f64, device);
  Tensor loss = Tensor::empty({}, DType::f64, device);
  voxel::Inputs in;
  in.f64 = dtype == DType::f64;
  for (const Variable& input : inputs) {
    in.data[in.count] = input.value().raw();
    in.channels[in.count++] = static_cast<int>(input.shape().c);
  }
  voxel::with_variant(dtype, channels, [&](auto zero, auto fixed) {
    using Sum = voxel::SumTerms<Program, decltype(zero), fixed.value>;
    const Tensor wide =
        Tensor::empty({1, shape.n * Sum::kSums, 1, 1, 1}, DType::f64, device, MemoryTag::workspace);
    kernels::sum_samples<Sum::kSums>(device, name, shape.n, shape.voxels(),
                                     Sum{program, in, shape.voxels(), channels},
                                     wide.template data<double>());
    kernels::map(device, "loss.pack", shape.n * terms,
                 voxel::PackSums{wide.template data<double>(), sums.data<double>(), Sum::kSums, terms});
  });
  kernels::map(device, "loss.results", 1,
               voxel::EvaluateResults<Program>{program, sums.data<double>(), value.results.data<double>(),
                                               loss.data<double>(), shape.n, terms, channels});
  value.loss = Variable::result(loss, inputs, false, [=, reads = std::move(reads)](const Tensor& upstream) {
    const Tensor weights = Tensor::empty(sums.shape(), DType::f64, device, MemoryTag::workspace);
    kernels::map(device, "loss.differentiate", shape.n * terms,
                 voxel::DifferentiateResults<Program>{program, sums.data<double>(), upstream.data<double>(),
                                                      weights.data<double>(), shape.n, terms, channels});
    voxel::Inputs in;
    in.f64 = dtype == DType::f64;
    in.count = static_cast<int>(inputs.size());
    std::vector<Tensor> gradients(inputs.size());
    for (size_t i = 0; i < inputs.size(); ++i) {
      in.data[i] = inputs[i].value().raw();
      in.channels[i] = static_cast<int>(inputs[i].shape().c);
      if (!inputs[i].needs_gradient()) continue;
      gradients[i] = Tensor::empty(inputs[i].shape(), dtype, device);
      in.gradient[i] = gradients[i].raw();
    }
    voxel::with_variant(dtype, channels, [&](auto zero, auto fixed) {
      kernels::map(device, "loss.gradient", shape.rows(),
                   voxel::Gradient<Program, decltype(zero), fixed.value>{program, in, weights.data<double>(),
                                                                         shape.voxels(), terms, channels});
    });
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (gradients[i].defined()) inputs[i].add_gradient(gradients[i]);
    }
  });
  return value;
}

}  // namespace semivox
