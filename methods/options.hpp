// Named options of a method: every constant has a name, a default and a line of help, and `--set name=value`
// changes it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace semivox {

/// What `semivox methods` prints of an option.
struct OptionInfo {
  std::string name, value, help;   ///< value: in force, as text
  std::vector<std::string> words;  ///< all that it can be, where those are words
};

/// Hands a method its options from the values the user set; remembers all of them for listings and for
/// config.toml.
class OptionReader {
 public:
  OptionReader() = default;
  /// `set`: the user's values by name; `origins`: where each was set, for messages.
  explicit OptionReader(std::map<std::string, std::string> set,
                        std::map<std::string, std::string> origins = {})
      : set_(std::move(set)), origins_(std::move(origins)) {}

  /// Throw UsageError naming option, found and expected for a text that is no number, or outside lowest ...
  /// highest.
  double number(const std::string& name, double value, const std::string& help, double lowest = -1e300,
                double highest = 1e300);
  int64_t integer(const std::string& name, int64_t value, const std::string& help, int64_t lowest = 0,
                  int64_t highest = int64_t{1} << 40);
  bool flag(const std::string& name, bool value, const std::string& help);
  /// One of `words`.
  std::string word(const std::string& name, const std::string& value, const std::vector<std::string>& words,
                   const std::string& help);
  /// Free text, checked by the method itself.
  std::string string(const std::string& name, const std::string& value, const std::string& help);

  /// Throws UsageError when the user set an option that nobody asked for; `owner` names the method.
  void finish(const std::string& owner) const;

  const std::vector<OptionInfo>& options() const { return options_; }

 private:
  /// The user's text for `name`, or `fallback`; records the option.
  std::string lookup(const std::string& name, const std::string& fallback, const std::string& help);

  /// "c.toml:8: option NAME", or without the place when nobody said it.
  std::string located(const std::string& name) const;

  std::map<std::string, std::string> set_, origins_;
  std::vector<OptionInfo> options_;
};

}  // namespace semivox
