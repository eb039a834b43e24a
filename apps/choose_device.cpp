#include <iostream>
#include <utility>

#include "apps/commands.hpp"

namespace semivox {

Device choose_device(const std::string& word) {
  const Device device = parse_device(word);
  static bool said = false;  // once for the many runs of a comparison
  if (word == "auto" && cuda_compiled() && !device.is_cuda() && !std::exchange(said, true)) {
    std::cerr << "semivox: running on the CPU (" << cuda_unavailable_reason() << ")\n";
  }
  return device;
}

}  // namespace semivox
