// What a result depends on besides configuration and data: program version, machine, threads, date.
#pragma once

#include <nlohmann/json.hpp>

#include "engine/device.hpp"

namespace semivox {

/// {"version", "device", "threads", "compiler", "date"}; the date is UTC, ISO 8601.
nlohmann::json environment_json(Device device);

}  // namespace semivox
