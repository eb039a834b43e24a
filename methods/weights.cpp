#include "methods/weights.hpp"

#include <charconv>
#include <cmath>
#include <cstring>
#include <set>
#include <utility>
#include <vector>

namespace semivox {
namespace {

std::string shape_text(const std::vector<int64_t>& dims) {
  std::string list;
  for (const int64_t dim : dims) list += (list.empty() ? "" : ", ") + std::to_string(dim);
  return "(" + list + ")";
}

/// An IEEE half-precision number: 1 sign, 5 exponent and 10 fraction bits.
struct Half {
  uint16_t bits;
  explicit operator double() const {
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    double magnitude = std::ldexp(1024 + fraction, exponent - 25);
    if (exponent == 0) magnitude = std::ldexp(fraction, -24);
    if (exponent == 31) magnitude = fraction == 0 ? INFINITY : NAN;
    return (bits & 0x8000) != 0 ? -magnitude : magnitude;
  }
};

template <class T>
std::vector<double> widen(const NamedArray& array) {
  std::vector<double> values(array.bytes.size() / sizeof(T));
  for (size_t i = 0; i < values.size(); ++i) {
    T value;
    std::memcpy(&value, array.bytes.data() + i * sizeof(T), sizeof(T));
    values[i] = static_cast<double>(value);
  }
  return values;
}

/// The name without one prefix that PyTorch's wrappers and split models put in front; "" when there is none.
std::string without_wrapper(const std::string& name) {
  for (const std::string wrapper : {"module.", "encoder.", "decoder."}) {
    if (name.starts_with(wrapper)) return name.substr(wrapper.size());
  }
  return "";
}

/// The file's arrays by the names that the network gives its parameters. Names that the network has itself
/// keep their prefixes.
std::map<std::string, const NamedArray*> arrays_by_name(const SafetensorsFile& file, const std::string& path,
                                                        const std::string& prefix, const Network& network) {
  std::set<std::string> own;
  for (const Parameter& parameter : network.parameters().parameters()) own.insert(parameter.name);
  for (const Parameter& buffer : network.parameters().buffers()) own.insert(buffer.name);
  std::map<std::string, const NamedArray*> arrays;
  for (const NamedArray& array : file.arrays) {
    if (!array.name.starts_with(prefix)) continue;
    std::string name = array.name.substr(prefix.size());
    while (!own.contains(name)) {
      const std::string inner = without_wrapper(name);
      if (inner.empty()) break;
      name = inner;
    }
    const auto [position, is_new] = arrays.emplace(name, &array);
    if (!is_new) {
      throw DataError(text(path, ": \"", position->second->name, "\" and \"", array.name,
                           "\" are both weights of ", position->first, ", expected one"));
    }
  }
  return arrays;
}

/// The array's values in the type and shape of the parameter, on the host.
Tensor decode(const std::string& path, const NamedArray& array, const Parameter& parameter) {
  const bool fits = array.dims == parameter.dims ||
                    (parameter.counter && array.dims == std::vector<int64_t>{1});  // PyTorch before 0.4.1
  if (!fits) {
    throw DataError(text(path, ": \"", array.name, "\" has shape ", shape_text(array.dims), ", expected ",
                         shape_text(parameter.dims)));
  }
  std::vector<double> values;
  if (parameter.counter && array.dtype == "I64") values = widen<int64_t>(array);
  if (!parameter.counter && array.dtype == "F32") values = widen<float>(array);
  if (!parameter.counter && array.dtype == "F64") values = widen<double>(array);
  if (!parameter.counter && array.dtype == "BF16") values = widen<bf16>(array);
  if (!parameter.counter && array.dtype == "F16") values = widen<Half>(array);
  if (values.empty()) {
    throw DataError(text(path, ": \"", array.name, "\" has dtype ", array.dtype, ", expected ",
                         parameter.counter ? "I64" : "F32, F64, F16 or BF16"));
  }
  const Tensor& target = parameter.value;
  Tensor host = Tensor::empty(target.shape(), target.dtype(), Device{}, MemoryTag::workspace);
  for (size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) {
      throw DataError(text(path, ": \"", array.name, "\" is ", values[i], " at element ", i,
                           ", expected finite weights"));
    }
    if (host.dtype() == DType::f64) {
      host.data<double>()[i] = values[i];
    } else {
      host.data<float>()[i] = static_cast<float>(values[i]);
    }
  }
  return host;
}

/// Throws for arrays that no parameter took, naming the first few.
void require_all_used(const std::map<std::string, const NamedArray*>& left, const std::string& path,
                      const Network& network) {
  if (left.empty()) return;
  constexpr size_t kNamed = 3;
  std::string names;
  for (size_t i = 0; const auto& [name, array] : left) {
    if (i++ == kNamed) break;
    names += (names.empty() ? "\"" : ", \"") + array->name + "\"";
  }
  if (left.size() > kNamed) names += text(" and ", left.size() - kNamed, " more");
  throw DataError(text(path, ": ", names, ": no such parameter in ", network.options().name, " (norm ",
                       network.options().norm, ")"));
}

template <class T>
T parse_number(const std::string& word, const std::string& path, const std::string& field) {
  T value = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (error != std::errc{} || end != word.data() + word.size()) {
    throw DataError(text(path, ": metadata ", field, ": found '", word, "', expected a number"));
  }
  return value;
}

bool parse_flag(const std::string& word, const std::string& path, const std::string& field) {
  if (word == "true" || word == "1") return true;
  if (word == "false" || word == "0") return false;
  throw DataError(text(path, ": metadata ", field, ": found '", word, "', expected true or false"));
}

}  // namespace

void load_weights(Network& network, const SafetensorsFile& file, const std::string& path,
                  const std::string& prefix) {
  auto arrays = arrays_by_name(file, path, prefix, network);
  std::vector<std::pair<Tensor, Parameter*>> decoded;  // nothing is changed before all of it is valid
  const auto match = [&](Parameter& parameter) {
    const auto found = arrays.find(parameter.name);
    if (found == arrays.end()) {
      if (parameter.counter) return;
      throw DataError(text(path, ": no array \"", prefix, parameter.name, "\", expected one of shape ",
                           shape_text(parameter.dims), " for ", network.options().name, " (norm ",
                           network.options().norm, ", ", network.options().filters, " filters)"));
    }
    decoded.emplace_back(decode(path, *found->second, parameter), &parameter);
    arrays.erase(found);
  };
  for (Parameter& parameter : network.parameters().parameters()) match(parameter);
  for (Parameter& buffer : network.parameters().buffers()) match(buffer);
  require_all_used(arrays, path, network);
  for (const auto& [values, parameter] : decoded) parameter->value.copy_from(values);
  network.parameters().touch();
}

namespace {

/// Weights that are no numbers could not be loaded again. values: f32 or f64 on the CPU.
void require_finite(const Tensor& values, const std::string& name) {
  const auto check = [&](const auto* begin) {
    const auto* end = begin + values.elements();
    if (std::all_of(begin, end, [](auto v) { return std::isfinite(v); })) return;
    throw UsageError(text("\"", name,
                          "\" is not finite any more, so the weights are not saved; a run with a lower "
                          "--lr may do better"));
  };
  if (values.dtype() == DType::f64) return check(values.data<double>());
  check(values.data<float>());
}

}  // namespace

void append_weights(const Network& network, SafetensorsFile& file, const std::string& prefix) {
  const auto append = [&](const Parameter& parameter) {
    NamedArray array;
    array.name = prefix + parameter.name;
    array.dims = parameter.dims;
    const Tensor host = parameter.value.to(Device{});
    if (parameter.counter) {
      const auto count = static_cast<int64_t>(std::llround(host.to_doubles()[0]));
      array.dtype = "I64";
      array.bytes.resize(sizeof count);
      std::memcpy(array.bytes.data(), &count, sizeof count);
    } else {
      require_finite(host, array.name);
      array.dtype = host.dtype() == DType::f64 ? "F64" : "F32";
      array.bytes.resize(static_cast<size_t>(host.bytes()));
      std::memcpy(array.bytes.data(), host.raw(), array.bytes.size());
    }
    file.arrays.push_back(std::move(array));
  };
  for (const Parameter& parameter : network.parameters().parameters()) append(parameter);
  for (const Parameter& buffer : network.parameters().buffers()) append(buffer);
}

void describe_network(const NetworkOptions& options, std::map<std::string, std::string>& metadata) {
  metadata["semivox.network"] = options.name;
  metadata["semivox.in_channels"] = text(options.in_channels);
  metadata["semivox.classes"] = text(options.classes);
  metadata["semivox.filters"] = text(options.filters);
  metadata["semivox.norm"] = options.norm;
  metadata["semivox.dropout"] = text(options.dropout);
  metadata["semivox.residual"] = options.residual ? "true" : "false";
}

NetworkOptions network_options_from(const std::map<std::string, std::string>& metadata,
                                    const std::string& path, const NetworkOptions& defaults) {
  NetworkOptions options = defaults;
  const auto read = [&](const char* field, auto&& assign) {
    if (const auto entry = metadata.find(field); entry != metadata.end()) assign(entry->second, field);
  };
  const auto integer = [&](int64_t& target) {
    return [&](const std::string& word, const char* field) {
      target = parse_number<int64_t>(word, path, field);
    };
  };
  read("semivox.network", [&](const std::string& word, const char*) { options.name = word; });
  read("semivox.in_channels", integer(options.in_channels));
  read("semivox.classes", integer(options.classes));
  read("semivox.filters", integer(options.filters));
  read("semivox.norm", [&](const std::string& word, const char*) { options.norm = word; });
  read("semivox.dropout", [&](const std::string& word, const char* field) {
    options.dropout = parse_number<double>(word, path, field);
  });
  read("semivox.residual",
       [&](const std::string& word, const char* field) { options.residual = parse_flag(word, path, field); });
  return options;
}

}  // namespace semivox
