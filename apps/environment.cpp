#include "apps/environment.hpp"

#include <ctime>

#include "build_info.hpp"
#include "engine/parallel.hpp"

namespace semivox {

nlohmann::json environment_json(Device device) {
  char date[32];
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  std::strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", &utc);
  return {{"version", build::kVersion},
          {"device", describe_device(device)},
          {"threads", thread_count()},
          {"compiler", build::kCompiler},
          {"date", date}};
}

}  // namespace semivox
