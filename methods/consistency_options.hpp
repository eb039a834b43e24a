// Options that Mean Teacher and the methods derived from it share, with the defaults of their official code.
#pragma once

#include "engine/parameters.hpp"
#include "methods/ramp_options.hpp"

namespace semivox {

/// `ramped_ema_decay` in this iteration.
inline StepNumber ramped_ema_in(double decay, const StepContext& context) {
  return step_value([decay, &context] { return ramped_ema_decay(decay, context.iteration); });
}

struct ConsistencyOptions {
  RampOptions ramp;
  double ema_decay, noise, noise_clip;

  /// `length`: default of the ramp's length, which is not the same in all methods.
  explicit ConsistencyOptions(OptionReader& options, int64_t length = 40)
      : ramp(options, 0.1, length),
        ema_decay(options.number("ema_decay", 0.99, "decay of the teacher's weights", 0, 1)),
        noise(options.number("noise", 0.1, "standard deviation of the noise on the teacher's input", 0)),
        noise_clip(options.number("noise_clip", 0.2, "the noise is clipped to +- this", 0)) {}

  /// alpha of the EMA update after this iteration t: min(1 - 1/(t+1), decay).
  StepNumber ema_in(const StepContext& context) const { return ramped_ema_in(ema_decay, context); }
};

}  // namespace semivox
