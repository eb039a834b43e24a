// Options that Mean Teacher and the methods derived from it share, with the defaults of their official code.
#pragma once

#include "engine/parameters.hpp"
#include "methods/options.hpp"
#include "methods/schedule.hpp"

namespace semivox {

struct ConsistencyOptions {
  double weight, ema_decay, noise, noise_clip;
  int64_t rampup_unit, rampup_length;

  /// `length`: default of the ramp's length, which is not the same in all methods.
  explicit ConsistencyOptions(OptionReader& options, int64_t length = 40)
      : weight(options.number("consistency", 0.1, "final weight of the consistency term", 0)),
        ema_decay(options.number("ema_decay", 0.99, "decay of the teacher's weights", 0, 1)),
        noise(options.number("noise", 0.1, "standard deviation of the noise on the teacher's input", 0)),
        noise_clip(options.number("noise_clip", 0.2, "the noise is clipped to +- this", 0)),
        rampup_unit(options.integer("rampup_unit", 150, "iterations per step of the weight's ramp-up", 1)),
        rampup_length(options.integer("rampup_length", length, "steps until the weight is reached")) {}

  /// lambda(t)
  double weight_at(int64_t iteration) const {
    return weight * staircase_rampup(iteration, rampup_unit, rampup_length);
  }

  /// alpha of the EMA update after iteration t: min(1 - 1/(t+1), decay).
  double ema_at(int64_t iteration) const {
    return semivox::ema_decay(ema_decay, EmaWarmup::ramped, iteration);
  }
};

}  // namespace semivox
