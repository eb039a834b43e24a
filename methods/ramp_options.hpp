// Weight of a method's unsupervised term over the training: named options, defaults by the caller.
#pragma once

#include "methods/options.hpp"
#include "methods/schedule.hpp"

namespace semivox {

struct RampOptions {
  double weight;
  int64_t unit, length;

  /// Reads `consistency`, `rampup_unit` and `rampup_length`.
  RampOptions(OptionReader& options, double default_weight, int64_t default_length)
      : weight(options.number("consistency", default_weight, "final weight of the unsupervised term", 0)),
        unit(options.integer("rampup_unit", 150, "iterations per step of the weight's ramp-up", 1)),
        length(options.integer("rampup_length", default_length,
                               "steps until the weight is reached, 0: from the start")) {}

  /// lambda(t)
  double at(int64_t iteration) const { return weight * staircase_rampup(iteration, unit, length); }
};

}  // namespace semivox
