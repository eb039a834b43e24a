// Compiled without fused multiply-add (CMakeLists.txt): the tables must round as SciPy's code does.
#include <cmath>

#include "kernels/zoom.hpp"

namespace semivox::kernels {

std::vector<int32_t> zoom_table(int64_t from, int64_t to) {
  SEMIVOX_CHECK(from > 0 && to > 0, from, " pixels to ", to);
  const double last = static_cast<double>(from - 1);
  const double scale = to > 1 ? last / static_cast<double>(to - 1) : 0.0;
  std::vector<int32_t> table;
  for (int64_t i = 0; i < to; ++i) {
    const double t = static_cast<double>(i) * scale;
    table.push_back(t > last ? -1 : static_cast<int32_t>(std::floor(t + 0.5)));
  }
  return table;
}

}  // namespace semivox::kernels
