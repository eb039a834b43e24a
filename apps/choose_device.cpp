#include <iostream>

#include "apps/commands.hpp"

namespace semivox {

Device choose_device(const std::string& word) {
  const Device device = parse_device(word);
  if (word == "auto" && cuda_compiled() && !device.is_cuda()) {
    std::cerr << "semivox: running on the CPU (" << cuda_unavailable_reason() << ")\n";
  }
  return device;
}

}  // namespace semivox
