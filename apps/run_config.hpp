// The configuration of a run: named settings with where each value came from. Default < file < command line.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace semivox {

struct Setting {
  std::string key;    ///< "section.name", e.g. "train.iterations"
  std::string value;  ///< as text
  std::string help;
  std::string origin;  ///< "default", "FILE:LINE", "command line" or "--set"
};

class RunConfig {
 public:
  /// All settings of a training run with their defaults.
  RunConfig();

  /// Reads a TOML file of [sections]; [method.NAME] holds options for one method alone. Throws DataError for
  /// a file that cannot be read, UsageError naming file and line for what is no TOML and for an unknown key.
  void read_file(const std::string& path);

  /// Sets a value. A key without a section is looked up in the method's options first ("method."), then among
  /// all sections. Throws UsageError for an unknown one.
  void set(const std::string& key, const std::string& value, const std::string& origin);

  /// Another default, for a setting that nobody gave.
  void set_default(const std::string& key, const std::string& value);

  const std::string& value(const std::string& key) const;

  // Typed values. Each throws UsageError naming key, origin, found and expected.
  int64_t integer(const std::string& key, int64_t lowest) const;
  double number(const std::string& key, double lowest) const;
  bool flag(const std::string& key) const;
  std::array<int64_t, 3> extent(const std::string& key) const;
  std::array<double, 3> spacing(const std::string& key) const;

  /// Takes over the options of the method's own section, and drops those that the method does not have but
  /// another one has: of a file, which may serve several methods, and with `typed` of the command line as
  /// well (comparisons).
  void keep_options_of(const std::string& method, bool typed);

  /// The method's first network for the data's dimensions, when neither a file nor the command line names one
  /// (vnet or unet2d for methods that train any). Throws UsageError for
  /// a network that the method does not train.
  void choose_network_for(const std::string& method);

  /// The options of the method that were set, without the "method." in front.
  std::map<std::string, std::string> method_options() const;

  /// Where these were set.
  std::map<std::string, std::string> method_origins() const;

  /// The configuration as TOML, with the method's options as given.
  std::string toml(const std::map<std::string, std::string>& method_options) const;

  const std::vector<Setting>& settings() const { return settings_; }

 private:
  Setting* find(const std::string& key);
  [[noreturn]] void fail(const Setting& setting, const std::string& expected) const;
  const Setting& at(const std::string& key) const;

  std::vector<Setting> settings_;
  std::map<std::string, Setting> method_;  // options of the method, by name
  std::map<std::string, std::map<std::string, Setting>>
      own_sections_;  // of [method.NAME], by method and name
};

}  // namespace semivox
