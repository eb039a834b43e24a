#include "kernels/norm.hpp"

#include "engine/arithmetic.hpp"
#include "kernels/norm_passes.hpp"

namespace semivox::kernels {

namespace {

using norm_passes::Activation;

// Layout and statistics shared by the two small kernels that turn sums into per-(sample, channel)
// coefficients.
template <class P>
struct Statistics {
  Norm norm;
  bool batch_statistics;
  int64_t samples, voxels, channels, groups;
  double epsilon;
  const double* sums;         // (N, 2, C) of y
  const P* running_mean;      // (C) or null
  const P* running_variance;  // (C) or null
  double dropout;
  RandomStream random;

  SEMIVOX_HD double drop(int64_t n, int64_t c) const {
    if (dropout <= 0) return 1.0;
    return random.uniform(static_cast<uint64_t>(n * channels + c)) < dropout ? 0.0 : 1.0 / (1.0 - dropout);
  }

  // Mean and variance that element (n, c) is normalised with, and the number of values they were taken over.
  SEMIVOX_HD void moments(int64_t n, int64_t c, double& mean, double& variance, double& count) const {
    if (norm == Norm::batch && !batch_statistics) {
      mean = running_mean[c];
      variance = running_variance[c];
      count = 1;
      return;
    }
    int64_t n0 = n, n1 = n + 1, c0 = c, c1 = c + 1;
    if (norm == Norm::batch) {
      n0 = 0;
      n1 = samples;
    } else if (norm == Norm::group) {
      const int64_t width = channels / groups;
      c0 = c / width * width;
      c1 = c0 + width;
    }
    double sum = 0, square = 0;
    for (int64_t i = n0; i < n1; ++i) {
      for (int64_t k = c0; k < c1; ++k) {
        sum += sums[(i * 2 + 0) * channels + k];
        square += sums[(i * 2 + 1) * channels + k];
      }
    }
    count = static_cast<double>((n1 - n0) * (c1 - c0) * voxels);
    mean = sum / count;
    variance = square / count - mean * mean;
    if (variance < 0) variance = 0;  // rounding of a constant channel
  }
};

template <class P>
struct FinalizeForward {
  static constexpr bool kHostOnly = std::is_same_v<P, double>;
  Statistics<P> statistics;
  const P* gamma;  // (C) or null
  const P* beta;   // (C) or null
  P* running_mean;
  P* running_variance;
  P* batches;  // (1) or null
  double momentum;
  P* scale;  // (N, C)
  P* shift;  // (N, C)
  SEMIVOX_HD void operator()(int64_t i) const {
    const int64_t n = i / statistics.channels, c = i % statistics.channels;
    double mean = 0, inverse_std = 1;
    if (statistics.norm != Norm::none) {
      double variance = 1, count = 1;
      statistics.moments(n, c, mean, variance, count);
      inverse_std = 1.0 / sqrt(variance + statistics.epsilon);
      if (statistics.norm == Norm::batch && statistics.batch_statistics && n == 0 &&
          running_mean != nullptr) {
        const double unbiased = count > 1 ? variance * count / (count - 1) : variance;
        running_mean[c] = static_cast<P>((1 - momentum) * running_mean[c] + momentum * mean);
        running_variance[c] = static_cast<P>((1 - momentum) * running_variance[c] + momentum * unbiased);
        if (c == 0 && batches != nullptr) batches[0] += P(1);
      }
    }
    const double m = statistics.drop(n, c);
    const double g = gamma != nullptr ? static_cast<double>(gamma[c]) : 1.0;
    const double b = beta != nullptr ? static_cast<double>(beta[c]) : 0.0;
    scale[i] = static_cast<P>(m * g * inverse_std);
    shift[i] = static_cast<P>(m * (b - mean * g * inverse_std));
  }
};

// Coefficients of d_y = a * dz + b * y + k, and the gradients of the block's parameters.
template <class P>
struct FinalizeBackward {
  static constexpr bool kHostOnly = std::is_same_v<P, double>;
  Statistics<P> statistics;
  const double* grad_sums;                 // (N, terms, C)
  int64_t terms;                           // 3 when the slope learns, else 2
  const P* gamma;                          // (C) or null
  P *d_gamma, *d_beta, *d_bias, *d_slope;  // (C) or null; added to
  P *a, *b, *k;                            // (N, C)

  SEMIVOX_HD double gamma_of(int64_t c) const {
    return gamma != nullptr ? static_cast<double>(gamma[c]) : 1.0;
  }
  SEMIVOX_HD double sum_dz(int64_t n, int64_t c) const {
    return statistics.drop(n, c) * grad_sums[(n * terms + 0) * statistics.channels + c];
  }
  SEMIVOX_HD double sum_dz_y(int64_t n, int64_t c) const {
    return statistics.drop(n, c) * grad_sums[(n * terms + 1) * statistics.channels + c];
  }

  SEMIVOX_HD void coefficients(int64_t n, int64_t c, double& ca, double& cb, double& ck) const {
    const double m = statistics.drop(n, c);
    if (statistics.norm == Norm::none) {
      ca = m;
      cb = ck = 0;
      return;
    }
    double mean, variance, count;
    statistics.moments(n, c, mean, variance, count);
    const double inverse_std = 1.0 / sqrt(variance + statistics.epsilon);
    ca = gamma_of(c) * inverse_std * m;
    cb = ck = 0;
    if (statistics.norm == Norm::batch && !statistics.batch_statistics)
      return;  // constants, no gradient through them
    int64_t n0 = n, n1 = n + 1, c0 = c, c1 = c + 1;
    if (statistics.norm == Norm::batch) {
      n0 = 0;
      n1 = statistics.samples;
    } else if (statistics.norm == Norm::group) {
      const int64_t width = statistics.channels / statistics.groups;
      c0 = c / width * width;
      c1 = c0 + width;
    }
    double
        t1 = 0,
        t2 = 0;  // sums of gamma*dz and of gamma*dz*normalised y over the values that share mean and variance
    for (int64_t i = n0; i < n1; ++i) {
      for (int64_t j = c0; j < c1; ++j) {
        t1 += gamma_of(j) * sum_dz(i, j);
        t2 += gamma_of(j) * (sum_dz_y(i, j) - mean * sum_dz(i, j)) * inverse_std;
      }
    }
    cb = -inverse_std * inverse_std * t2 / count;
    ck = -inverse_std * t1 / count - mean * cb;
  }

  SEMIVOX_HD void operator()(int64_t i) const {
    const int64_t n = i / statistics.channels, c = i % statistics.channels;
    double ca, cb, ck;
    coefficients(n, c, ca, cb, ck);
    a[i] = static_cast<P>(ca);
    b[i] = static_cast<P>(cb);
    k[i] = static_cast<P>(ck);
    if (n != 0) return;
    double gamma_sum = 0, beta_sum = 0, bias_sum = 0, slope_sum = 0;
    for (int64_t s = 0; s < statistics.samples; ++s) {
      coefficients(s, c, ca, cb, ck);
      bias_sum += ca * grad_sums[(s * terms + 0) * statistics.channels + c] +
                  cb * statistics.sums[(s * 2 + 0) * statistics.channels + c] +
                  ck * static_cast<double>(statistics.voxels);
      if (d_slope != nullptr) slope_sum += grad_sums[(s * terms + 2) * statistics.channels + c];
      beta_sum += sum_dz(s, c);
      if (d_gamma != nullptr) {
        double mean, variance, count;
        statistics.moments(s, c, mean, variance, count);
        gamma_sum += (sum_dz_y(s, c) - mean * sum_dz(s, c)) / sqrt(variance + statistics.epsilon);
      }
    }
    if (d_gamma != nullptr) d_gamma[c] += static_cast<P>(gamma_sum);
    if (d_beta != nullptr) d_beta[c] += static_cast<P>(beta_sum);
    if (d_bias != nullptr) d_bias[c] += static_cast<P>(bias_sum);
    if (d_slope != nullptr) d_slope[c] += static_cast<P>(slope_sum);
  }
};

template <class P>
struct FillDrop {
  static constexpr bool kHostOnly = std::is_same_v<P, double>;
  Statistics<P> statistics;
  P* drop;
  SEMIVOX_HD void operator()(int64_t i) const {
    drop[i] = static_cast<P>(statistics.drop(i / statistics.channels, i % statistics.channels));
  }
};

template <class P>
P* data_of(Parameter* p) {
  return p != nullptr ? p->value.data<P>() : nullptr;
}

template <class P>
P* gradient_of(Parameter* p) {
  return p != nullptr && p->gradient.defined() ? p->gradient.data<P>() : nullptr;
}

template <class P>
Statistics<P> statistics_of(const NormBlock& block, const NormCall& call, const Shape& shape,
                            const Tensor& sums) {
  return {block.norm,
          call.batch_statistics,
          shape.n,
          shape.voxels(),
          shape.c,
          block.groups,
          block.epsilon,
          sums.data<double>(),
          data_of<P>(block.running_mean),
          data_of<P>(block.running_variance),
          call.dropout,
          call.random};
}

template <class P>
Tensor per_channel(int64_t count, Device device) {
  return Tensor::empty({1, count, 1, 1, 1}, dtype_of<P>(), device, MemoryTag::workspace);
}

template <class P>
struct RepeatValue {
  static constexpr bool kHostOnly = std::is_same_v<P, double>;
  const P* value;  // (1)
  P* out;          // (C)
  SEMIVOX_HD void operator()(int64_t c) const { out[c] = value[0]; }
};

template <class P>
struct AddTotal {
  static constexpr bool kHostOnly = std::is_same_v<P, double>;
  const P* terms;  // (C)
  P* total;        // (1)
  int64_t channels;
  SEMIVOX_HD void operator()(int64_t) const {
    for (int64_t c = 0; c < channels; ++c) total[0] += terms[c];
  }
};

// PReLU's slopes (C), of which the parameter may hold one for all channels.
template <class P>
Tensor slopes_of(const Parameter& slope, int64_t channels, Device device) {
  if (slope.count == channels) return slope.value;
  SEMIVOX_CHECK(slope.count == 1, slope.name, ": ", slope.count, " slopes for ", channels, " channels");
  Tensor slopes = per_channel<P>(channels, device);
  map(device, "norm.repeat_slope", channels, RepeatValue<P>{slope.value.data<P>(), slopes.data<P>()});
  return slopes;
}

// Drop factors (N, C) as a tensor; needed by element kernels only where the skip enters before the
// activation.
template <class P>
Tensor drop_factors(const Statistics<P>& statistics, Skip mode, Device device) {
  if (mode != Skip::before) return {};
  Tensor drop = per_channel<P>(statistics.samples * statistics.channels, device);
  map(device, "norm.drop", drop.elements(), FillDrop<P>{statistics, drop.data<P>()});
  return drop;
}

template <class F>
void with_skip(Skip mode, const F& f) {
  switch (mode) {
    case Skip::none:
      return f(std::integral_constant<Skip, Skip::none>{});
    case Skip::after:
      return f(std::integral_constant<Skip, Skip::after>{});
    case Skip::before:
      return f(std::integral_constant<Skip, Skip::before>{});
  }
}

template <class T>
T* data_or_null(const Tensor& t) {
  return t.defined() ? t.data<T>() : nullptr;
}

template <class P, Skip kSkip>
Activation<P, kSkip> activation_of(const NormSaved& saved, const Tensor& drop, int64_t channels) {
  return {saved.scale.data<P>(), saved.shift.data<P>(), saved.slope.data<P>(), data_or_null<P>(drop),
          channels};
}

}  // namespace

Tensor norm_forward(const NormBlock& block, const NormCall& call, const Tensor& y, const Tensor& skip,
                    NormSaved& saved) {
  const Shape shape = y.shape();
  const Device device = y.device();
  SEMIVOX_CHECK((call.skip_mode != Skip::none) == skip.defined(), "skip given and skip mode disagree");
  SEMIVOX_CHECK(!skip.defined() || skip.shape() == shape, "skip ", skip.shape().str(), " for ", shape.str());
  SEMIVOX_CHECK(block.norm != Norm::group || shape.c % block.groups == 0, shape.c, " channels in ",
                block.groups, " groups");
  dispatch_float(y.dtype(), [&](auto zero) {
    using T = decltype(zero);
    using P = compute_t<T>;
    saved.sums = Tensor::zeros({1, shape.n * 2 * shape.c, 1, 1, 1}, DType::f64, device);
    if (block.norm != Norm::none && (call.batch_statistics || block.norm != Norm::batch)) {
      sum_channel_packs<2>(device, "norm.moments", shape.n, shape.voxels(), shape.c,
                           norm_passes::Moments<T>{y.data<T>()}, saved.sums.data<double>());
    }
    saved.scale = per_channel<P>(shape.n * shape.c, device);
    saved.shift = per_channel<P>(shape.n * shape.c, device);
    const Statistics<P> statistics = statistics_of<P>(block, call, shape, saved.sums);
    map(device, "norm.finalize", shape.n * shape.c,
        FinalizeForward<P>{statistics, data_of<P>(block.gamma), data_of<P>(block.beta),
                           data_of<P>(block.running_mean), data_of<P>(block.running_variance),
                           data_of<P>(block.batches), block.momentum, saved.scale.data<P>(),
                           saved.shift.data<P>()});
    if (block.prelu_slope != nullptr) {
      saved.slope = slopes_of<P>(*block.prelu_slope, shape.c, device);
    } else {
      saved.slope = per_channel<P>(shape.c, device);
      fill(saved.slope, block.slope);
    }
  });
  return norm_apply(block, call, y, skip, saved);
}

Tensor norm_apply(const NormBlock& block, const NormCall& call, const Tensor& y, const Tensor& skip,
                  const NormSaved& saved) {
  const Shape shape = y.shape();
  const Device device = y.device();
  Tensor out = Tensor::empty(shape, y.dtype(), device);
  dispatch_float(y.dtype(), [&](auto zero) {
    using T = decltype(zero);
    using P = compute_t<T>;
    const Tensor drop =
        drop_factors(statistics_of<P>(block, call, shape, saved.sums), call.skip_mode, device);
    with_skip(call.skip_mode, [&](auto mode) {
      map_channel_packs(device, "norm.apply", shape.n, shape.voxels(), shape.c,
                        norm_passes::Apply<T, mode.value>{activation_of<P, mode.value>(saved, drop, shape.c),
                                                          y.data<T>(), data_or_null<T>(skip), out.data<T>()});
    });
  });
  return out;
}

Tensor norm_backward(const NormBlock& block, const NormCall& call, const Tensor& y, const Tensor& skip,
                     const NormSaved& saved, const Tensor& d_out, Tensor* d_skip) {
  const Shape shape = y.shape();
  const Device device = y.device();
  Tensor d_y = d_out.sole_owner() ? d_out : Tensor::empty(shape, y.dtype(), device);
  dispatch_float(y.dtype(), [&](auto zero) {
    using T = decltype(zero);
    using P = compute_t<T>;
    const Statistics<P> statistics = statistics_of<P>(block, call, shape, saved.sums);
    const Tensor drop = drop_factors(statistics, call.skip_mode, device);
    if (call.skip_mode == Skip::before) *d_skip = Tensor::empty(shape, y.dtype(), device);
    const bool slope_learns = gradient_of<P>(block.prelu_slope) != nullptr;
    const int64_t terms = slope_learns ? 3 : 2;
    const Tensor sums =
        Tensor::empty({1, shape.n * terms * shape.c, 1, 1, 1}, DType::f64, device, MemoryTag::workspace);
    const Tensor a = per_channel<P>(shape.n * shape.c, device), b = per_channel<P>(shape.n * shape.c, device),
                 k = per_channel<P>(shape.n * shape.c, device);
    const bool shared_slope = slope_learns && block.prelu_slope->count < shape.c;
    Tensor d_slopes;
    if (shared_slope) {
      d_slopes = per_channel<P>(shape.c, device);
      d_slopes.fill_zero();
    }
    with_skip(call.skip_mode, [&](auto mode) {
      const auto activation = activation_of<P, mode.value>(saved, drop, shape.c);
      const auto add_up = [&](auto learns) {
        using Sums = norm_passes::BackwardSums<T, mode.value, learns.value>;
        sum_channel_packs<Sums::kSums>(device, "norm.backward_sums", shape.n, shape.voxels(), shape.c,
                                       Sums{activation, y.data<T>(), data_or_null<T>(skip), d_out.data<T>()},
                                       sums.data<double>());
      };
      slope_learns ? add_up(std::true_type{}) : add_up(std::false_type{});
      map(device, "norm.backward_finalize", shape.n * shape.c,
          FinalizeBackward<P>{statistics, sums.data<double>(), terms, data_of<P>(block.gamma),
                              gradient_of<P>(block.gamma), gradient_of<P>(block.beta),
                              gradient_of<P>(block.conv_bias),
                              shared_slope ? d_slopes.data<P>() : gradient_of<P>(block.prelu_slope),
                              a.data<P>(), b.data<P>(), k.data<P>()});
      map_channel_packs(device, "norm.backward_apply", shape.n, shape.voxels(), shape.c,
                        norm_passes::BackwardApply<T, mode.value>{
                            activation, y.data<T>(), data_or_null<T>(skip), d_out.data<T>(), d_y.data<T>(),
                            mode.value == Skip::before ? d_skip->data<T>() : nullptr, a.data<P>(),
                            b.data<P>(), k.data<P>()});
    });
    if (shared_slope)
      map(device, "norm.add_slope", 1,
          AddTotal<P>{d_slopes.data<P>(), gradient_of<P>(block.prelu_slope), shape.c});
  });
  return d_y;
}

void activate(Tensor& y, const Tensor& bias, double slope, const Tensor& skip) {
  const Shape shape = y.shape();
  SEMIVOX_CHECK(!bias.defined() || bias.elements() == shape.c, "bias ", bias.shape().str(), " for ",
                shape.str());
  dispatch_float(y.dtype(), [&](auto zero) {
    using T = decltype(zero);
    using P = compute_t<T>;
    with_skip(skip.defined() ? Skip::after : Skip::none, [&](auto mode) {
      map_channel_packs(y.device(), "activate", shape.n, shape.voxels(), shape.c,
                        norm_passes::Activate<T, mode.value>{y.data<T>(), data_or_null<T>(skip),
                                                             data_or_null<P>(bias), static_cast<P>(slope)});
    });
  });
}

}  // namespace semivox::kernels
