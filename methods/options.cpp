#include "methods/options.hpp"

#include <algorithm>
#include <charconv>

#include "engine/error.hpp"

namespace semivox {

namespace {

template <class T>
T parse(const std::string& option, const std::string& value, const char* expected, T lowest, T highest) {
  T parsed{};
  const char* end = value.data() + value.size();
  const auto [position, error] = std::from_chars(value.data(), end, parsed);
  if (error != std::errc() || position != end) {
    throw UsageError(text(option, ": found '", value, "', expected ", expected));
  }
  if (!(parsed >= lowest && parsed <= highest)) {
    throw UsageError(text(option, ": found ", value, ", expected ", lowest, " to ", highest));
  }
  return parsed;
}

}  // namespace

std::string OptionReader::located(const std::string& name) const {
  const auto origin = origins_.find(name);
  return text(origin == origins_.end() ? "" : origin->second + ": ", "option ", name);
}

std::string OptionReader::lookup(const std::string& name, const std::string& fallback,
                                 const std::string& help) {
  const auto found = set_.find(name);
  const std::string value = found == set_.end() ? fallback : found->second;
  options_.push_back({name, value, help, {}});
  return value;
}

double OptionReader::number(const std::string& name, double value, const std::string& help, double lowest,
                            double highest) {
  char exact[64];  // shortest text that reads back equal
  const auto end = std::to_chars(exact, exact + sizeof exact, value).ptr;
  return parse<double>(located(name), lookup(name, {exact, end}, help), "a number", lowest, highest);
}

int64_t OptionReader::integer(const std::string& name, int64_t value, const std::string& help, int64_t lowest,
                              int64_t highest) {
  return parse<int64_t>(located(name), lookup(name, text(value), help), "an integer", lowest, highest);
}

bool OptionReader::flag(const std::string& name, bool value, const std::string& help) {
  return word(name, value ? "true" : "false", {"true", "false"}, help) == "true";
}

std::string OptionReader::word(const std::string& name, const std::string& value,
                               const std::vector<std::string>& words, const std::string& help) {
  const std::string chosen = lookup(name, value, help);
  options_.back().words = words;
  if (std::find(words.begin(), words.end(), chosen) == words.end()) {
    std::string expected;
    for (const std::string& w : words) expected += (expected.empty() ? "" : ", ") + w;
    throw UsageError(text(located(name), ": found '", chosen, "', expected one of ", expected));
  }
  return chosen;
}

std::string OptionReader::string(const std::string& name, const std::string& value, const std::string& help) {
  return lookup(name, value, help);
}

void OptionReader::finish(const std::string& owner) const {
  for (const auto& [name, value] : set_) {
    const bool known =
        std::any_of(options_.begin(), options_.end(), [&](const OptionInfo& o) { return o.name == name; });
    if (known) continue;
    std::string names;
    for (const OptionInfo& o : options_) names += (names.empty() ? "" : ", ") + o.name;
    throw UsageError(text(located(name), ": ", owner, " has no such option, expected one of ", names));
  }
}

}  // namespace semivox
