// Weight of a method's unsupervised term over the training: named options, defaults by the caller.
#pragma once

#include "methods/method.hpp"

namespace semivox {

/// How a method names and explains its options.
struct RampWords {
  const char* name = "consistency";
  const char* weight = "final weight of the unsupervised term";
  const char* length = "steps until the weight is reached, 0: from the start";
};

struct RampOptions {
  double weight;
  int64_t unit, length;

  /// Reads the weight, `rampup_unit` and `rampup_length`.
  RampOptions(OptionReader& options, double default_weight, int64_t default_length,
              const RampWords& words = {})
      : weight(options.number(words.name, default_weight, words.weight, 0)),
        unit(options.integer("rampup_unit", 150, "iterations per step of the weight's ramp-up", 1)),
        length(options.integer("rampup_length", default_length, words.length)) {}

  /// lambda(t)
  double at(int64_t iteration) const { return weight * staircase_rampup(iteration, unit, length); }

  /// lambda in this iteration; `ahead` is added to its number.
  StepNumber in(const StepContext& context, int64_t ahead = 0) const {
    return step_value([ramp = *this, &context, ahead] { return ramp.at(context.iteration + ahead); });
  }
};

}  // namespace semivox
