#include "apps/run_config.hpp"

#include <toml++/toml.h>
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <set>

#include "apps/extent.hpp"
#include "engine/error.hpp"
#include "methods/method.hpp"

namespace semivox {

namespace {

std::set<std::string> option_names(const MethodInfo& info) {
  OptionReader reader;
  info.make(reader);
  std::set<std::string> names;
  for (const OptionInfo& option : reader.options()) names.insert(option.name);
  return names;
}

// What may stand in the [method] section: options of any method. The chosen method checks them again.
std::set<std::string> all_method_options() {
  std::set<std::string> names;
  for (const MethodInfo& info : registered_methods()) names.merge(option_names(info));
  return names;
}

// A number as TOML writes it, or true or false; everything else, also .5 and 007, goes into quotes.
bool is_plain_toml(const std::string& value) {
  if (value == "true" || value == "false") return true;
  size_t position = value.starts_with('-') ? 1 : 0;
  const auto digits = [&] {  // how many stand at the position, which moves behind them
    const size_t begin = position;
    while (position < value.size() && value[position] >= '0' && value[position] <= '9') ++position;
    return position - begin;
  };
  const auto skip = [&](const char* any) {
    const bool found = position < value.size() && std::strchr(any, value[position]) != nullptr;
    position += found ? 1 : 0;
    return found;
  };
  const size_t first = position, whole = digits();
  if (whole == 0 || (whole > 1 && value[first] == '0')) return false;
  if (skip(".") && digits() == 0) return false;
  if (skip("eE")) {
    skip("+-");
    if (digits() == 0) return false;
  }
  return position == value.size();
}

std::string toml_line(const std::string& name, const std::string& value) {
  if (is_plain_toml(value)) return text(name, " = ", value, "\n");
  std::string escaped;
  for (const char c : value) {
    if (c == '"' || c == '\\') escaped += '\\';
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      char code[8];
      std::snprintf(code, sizeof code, "\\u%04X", static_cast<unsigned>(c));
      escaped += code;
    } else {
      escaped += c;
    }
  }
  return text(name, " = \"", escaped, "\"\n");
}

std::string as_text(const toml::node& node, const std::string& where) {
  if (const auto* s = node.as_string()) return s->get();
  if (const auto* i = node.as_integer()) return text(i->get());
  if (const auto* b = node.as_boolean()) return b->get() ? "true" : "false";
  if (const auto* f = node.as_floating_point()) {
    // 0.0001, not 1e-04: as people write it, and as the defaults are written.
    const double size = std::abs(f->get());
    const auto format = size >= 1e-6 && size < 1e15 ? std::chars_format::fixed : std::chars_format::general;
    char buffer[64];
    return {buffer, std::to_chars(buffer, buffer + sizeof buffer, f->get(), format).ptr};
  }
  throw UsageError(text(where, ": found a table, list or date, expected a number, a word or true/false"));
}

bool is_typed(const Setting& setting) {
  return setting.origin == "command line" || setting.origin == "--set";
}

/// The options in the section [method.NAME] of a file.
std::map<std::string, Setting> read_own_section(const std::string& path, const std::string& method,
                                                const toml::table& table) {
  const auto& methods = registered_methods();
  const auto info =
      std::find_if(methods.begin(), methods.end(), [&](const MethodInfo& m) { return m.name == method; });
  if (info == methods.end())
    throw UsageError(text(path, ":", table.source().begin.line, ": [method.", method,
                          "]: there is no method '", method, "' (semivox methods lists them)"));
  const std::set<std::string> known = option_names(*info);
  std::map<std::string, Setting> options;
  for (const auto& [key, node] : table) {
    const std::string where = text(path, ":", node.source().begin.line), name(key.str());
    if (known.count(name) == 0) throw UsageError(text(where, ": ", method, " has no option '", name, "'"));
    options[name] = {name, as_text(node, where), "", where};
  }
  return options;
}

/// True for networks that do not halve the first axis, which is 1 in slices.
bool takes_slices(const std::string& network) {
  NetworkOptions options;
  options.name = network;
  return make_network(options)->divisor()[0] == 1;
}

/// The setting's key, behind file and line if it came from a file.
std::string located(const Setting& setting) {
  return setting.origin == "command line" ? setting.key : text(setting.origin, ": ", setting.key);
}

}  // namespace

RunConfig::RunConfig() {
  const auto add = [&](const char* key, const char* value, const char* help) {
    settings_.push_back({key, value, help, "default"});
  };
  add("data.folder", "", "data set folder");
  add("data.labeled", "8", "the first N training cases keep their labels");
  add("data.unlabeled", "-1", "number of the other training cases used, -1 = all");
  add("data.labeled_unit", "cases", "what labeled and unlabeled count: cases, patients or slices");
  add("data.dims", "3", "3 = volumes, 2 = their slices, for 2D networks");
  add("data.slice_axis", "auto", "array axis of the slices: 0, 1, 2; auto = 2 in NIfTI, 0 in HDF5 files");
  add("data.fit", "zoom", "how a slice gets the size of the patch: zoom (the whole slice) or crop");
  add("data.spacing", "0", "resample to this spacing in mm (one number, or AxBxC); 0 = as stored");
  add("data.normalize", "auto",
      "none, zscore, zscore_positive, minmax, window:LOW:HIGH, or one word per channel with commas between; "
      "auto = what "
      "dataset.json says");
  add("data.augment", "rotflip",
      "rotflip (quarter turn, flip, crop), crop, distort (grid distortion, crop), or none (centre crop); "
      "slices also rotate (up to 20 degrees) and rotflip_rotate (one, the other or nothing)");
  add("data.order", "shuffled", "shuffled, or fixed (batches in list order)");
  add("network.name", "vnet", "network, if the method has none of its own");
  add("network.filters", "16", "width of the first stage");
  add("network.norm", "auto", "none, batchnorm, groupnorm or instancenorm; auto = as published");
  add("network.dropout", "auto", "probability of dropout in training; auto = as published");
  add("network.residual", "false", "residual stages");
  add("train.method", "", "method");
  add("train.iterations", "6000", "iterations of all phases together");
  add("train.batch", "4", "images that the student sees per iteration");
  add("train.patch", "112x112x80", "patch size in voxels");
  add("train.lr", "0.01", "learning rate");
  add("train.schedule", "step", "constant, step, poly or warmup_poly (changes once per epoch)");
  add("train.lr_every", "2500", "step: iterations between two decays; warmup_poly: iterations per epoch");
  add("train.lr_factor", "0.1", "step: factor of a decay");
  add("train.lr_power", "0.9", "poly, warmup_poly: exponent");
  add("train.lr_warmup", "5", "warmup_poly: epochs until the learning rate is reached");
  add("train.optimizer", "sgd", "sgd, adam or adamw");
  add("train.momentum", "0.9", "momentum of sgd");
  add("train.weight_decay", "0.0001", "weight decay on all parameters");
  add("train.precision", "f32", "f32, bf16 (activations), or f64 (CPU, for checks)");
  add("train.seed", "1337", "seed of weights, batches, augmentation, dropout and noise");
  add("train.init", "", "safetensors file with first weights for all networks of its kind");
  add("train.graph", "true", "on a GPU: record the iteration as a CUDA graph and replay it");
  add("train.recompute", "false", "compute cheap convolutions again in backward: less memory, the same bits");
  add("train.device", "auto", "auto, cpu, cuda or cuda:N");
  add("train.validate_every", "200", "iterations between validations, 0 = never");
  add("train.checkpoint_every", "200", "iterations between two saves of the state");
  add("train.dump_every", "0", "iterations between snapshots of all networks, 0 = none");
  add("train.report_every", "50", "iterations per progress line when the output is no terminal");
  add("window.stride", "0", "stride of the sliding window of the final evaluation, 0 = patch/4");
  add("window.weighting", "uniform", "uniform or gaussian");
  add("window.batch", "4", "windows per forward pass");
  add("window.largest_component", "true", "evaluate the largest component of each class");
}

Setting* RunConfig::find(const std::string& key) {
  const auto found =
      std::find_if(settings_.begin(), settings_.end(), [&](const Setting& s) { return s.key == key; });
  return found == settings_.end() ? nullptr : &*found;
}

const Setting& RunConfig::at(const std::string& key) const {
  const Setting* found = const_cast<RunConfig*>(this)->find(key);
  SEMIVOX_CHECK(found != nullptr, "no setting ", key);
  return *found;
}

void RunConfig::set(const std::string& key, const std::string& value, const std::string& origin) {
  if (Setting* setting = find(key)) {
    setting->value = value;
    setting->origin = origin;
    return;
  }
  const bool sectioned = key.rfind("method.", 0) == 0;
  const std::string name = sectioned ? key.substr(7) : key;
  static const std::set<std::string> known = all_method_options();
  if (known.count(name) > 0) {
    method_[name] = {name, value, "", origin};
    return;
  }
  if (!sectioned && key.find('.') == std::string::npos) {
    Setting* found = nullptr;
    for (Setting& setting : settings_) {
      if (setting.key.substr(setting.key.find('.') + 1) != key) continue;
      if (found != nullptr)
        throw UsageError(text(origin, ": '", key, "' may be ", found->key, " or ", setting.key));
      found = &setting;
    }
    if (found != nullptr) {
      found->value = value;
      found->origin = origin;
      return;
    }
  }
  throw UsageError(text(origin, ": unknown option '", key,
                        "' (semivox methods lists the methods' options, semivox train "
                        "--help the others)"));
}

void RunConfig::set_default(const std::string& key, const std::string& value) {
  Setting* setting = find(key);
  SEMIVOX_CHECK(setting != nullptr, "no setting ", key);
  if (setting->origin == "default") setting->value = value;
}

void RunConfig::read_file(const std::string& path) {
  if (!std::filesystem::exists(path)) throw DataError(text(path, ": the configuration file does not exist"));
  if (!std::filesystem::is_regular_file(path))
    throw DataError(text(path, ": found a folder or device, expected a configuration file"));
  toml::table table;
  try {
    table = toml::parse_file(path);
  } catch (const toml::parse_error& error) {
    throw UsageError(text(path, ":", error.source().begin.line, ": no TOML: ", error.description()));
  }
  for (const auto& [section, content] : table) {
    const std::string at = text(path, ":", content.source().begin.line);
    if (!content.is_table())
      throw UsageError(text(at, ": '", section.str(), "' stands outside of a [section]"));
    for (const auto& [name, node] : *content.as_table()) {
      if (section.str() == "method" && node.is_table()) {
        const std::string method(name.str());
        own_sections_[method] = read_own_section(path, method, *node.as_table());
        continue;
      }
      const std::string where = text(path, ":", node.source().begin.line);
      set(text(section.str(), ".", name.str()), as_text(node, where), where);
    }
  }
}

const std::string& RunConfig::value(const std::string& key) const { return at(key).value; }

void RunConfig::fail(const Setting& setting, const std::string& expected) const {
  throw UsageError(text(located(setting), ": found '", setting.value, "', expected ", expected));
}

int64_t RunConfig::integer(const std::string& key, int64_t lowest) const {
  const Setting& s = at(key);
  int64_t parsed = 0;
  const auto [end, error] = std::from_chars(s.value.data(), s.value.data() + s.value.size(), parsed);
  if (error != std::errc() || end != s.value.data() + s.value.size() || parsed < lowest) {
    fail(s, text("an integer >= ", lowest));
  }
  return parsed;
}

double RunConfig::number(const std::string& key, double lowest) const {
  const Setting& s = at(key);
  double parsed = 0;
  const auto [end, error] = std::from_chars(s.value.data(), s.value.data() + s.value.size(), parsed);
  if (error != std::errc() || end != s.value.data() + s.value.size() || !(parsed >= lowest) ||
      !std::isfinite(parsed)) {
    fail(s, text("a number >= ", lowest));
  }
  return parsed;
}

bool RunConfig::flag(const std::string& key) const {
  const Setting& s = at(key);
  if (s.value != "true" && s.value != "false") fail(s, "true or false");
  return s.value == "true";
}

std::array<int64_t, 3> RunConfig::extent(const std::string& key) const {
  const auto parsed = parse_extent(at(key).value);
  if (!parsed) fail(at(key), "a size such as 112x112x80");
  return *parsed;
}

std::array<double, 3> RunConfig::spacing(const std::string& key) const {
  const auto parsed = parse_spacing(at(key).value);
  if (!parsed) fail(at(key), "mm, one number or three with x between");
  return *parsed;
}

void RunConfig::keep_options_of(const std::string& method, bool typed) {
  const std::set<std::string> own = option_names(find_method(method));
  std::erase_if(method_, [&](const auto& entry) {
    return own.count(entry.first) == 0 && (typed || !is_typed(entry.second));
  });
  for (const auto& [name, setting] : own_sections_[method]) {
    const auto given = method_.find(name);
    if (given == method_.end() || !is_typed(given->second)) method_[name] = setting;
  }
}

void RunConfig::choose_network_for(const std::string& method) {
  const MethodInfo& info = find_method(method);
  Setting& network = *find("network.name");
  const bool slices = value("data.dims") == "2";
  if (network.origin == "default") {
    const std::vector<std::string> any{slices ? "unet2d" : network.value};
    const std::vector<std::string>& candidates = info.networks.empty() ? any : info.networks;
    const auto found = std::find_if(candidates.begin(), candidates.end(),
                                    [&](const std::string& name) { return takes_slices(name) == slices; });
    if (found == candidates.end())
      throw UsageError(text("data.dims: found 2, but ", method, " has no network for slices, expected 3"));
    network.value = *found;
  }
  require_network(info, network.value, located(network));
}

std::map<std::string, std::string> RunConfig::method_options() const {
  std::map<std::string, std::string> options;
  for (const auto& [name, setting] : method_) options[name] = setting.value;
  return options;
}

std::map<std::string, std::string> RunConfig::method_origins() const {
  std::map<std::string, std::string> origins;
  for (const auto& [name, setting] : method_) origins[name] = setting.origin;
  return origins;
}

std::string RunConfig::toml(const std::map<std::string, std::string>& method_options) const {
  std::string out, section;
  for (const Setting& s : settings_) {
    const size_t dot = s.key.find('.');
    if (s.key.substr(0, dot) != section) {
      section = s.key.substr(0, dot);
      out += text(out.empty() ? "" : "\n", "[", section, "]\n");
    }
    out += toml_line(s.key.substr(dot + 1), s.value);
  }
  out += "\n[method]\n";
  for (const auto& [name, value] : method_options) out += toml_line(name, value);
  return out;
}

}  // namespace semivox
