#include "apps/extent.hpp"

#include <charconv>
#include <cmath>
#include <vector>

#include "engine/error.hpp"

namespace semivox {
namespace {

/// The numbers between the x of a word; empty when a part is not entirely a number.
template <class T>
std::vector<T> parse_parts(const std::string& word) {
  std::vector<T> parts;
  const char* position = word.data();
  const char* const end = word.data() + word.size();
  for (;;) {
    T value = 0;
    const auto [next, error] = std::from_chars(position, end, value);
    if (error != std::errc{}) return {};
    parts.push_back(value);
    if (next == end) return parts;
    if (*next != 'x') return {};
    position = next + 1;
  }
}

}  // namespace

std::optional<std::array<int64_t, 3>> parse_extent(const std::string& word) {
  std::vector<int64_t> parts = parse_parts<int64_t>(word);
  if (parts.size() == 2) parts.insert(parts.begin(), 1);
  if (parts.size() != 3 || parts[0] < 1 || parts[1] < 1 || parts[2] < 1) return std::nullopt;
  return std::array<int64_t, 3>{parts[0], parts[1], parts[2]};
}

std::optional<std::array<double, 3>> parse_spacing(const std::string& word) {
  std::vector<double> parts = parse_parts<double>(word);
  if (parts.size() == 1) parts.assign(3, parts[0]);
  if (parts.size() != 3) return std::nullopt;
  const bool all_zero = parts[0] == 0 && parts[1] == 0 && parts[2] == 0;
  for (const double part : parts) {
    if (!all_zero && !(part > 0 && std::isfinite(part))) return std::nullopt;
  }
  return std::array<double, 3>{parts[0], parts[1], parts[2]};
}

std::string extent_text(const std::array<int64_t, 3>& extent) {
  return text(extent[0], "x", extent[1], "x", extent[2]);
}

}  // namespace semivox
