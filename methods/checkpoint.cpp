#include "methods/checkpoint.hpp"

#include <charconv>
#include <cstring>

#include "methods/weights.hpp"

namespace semivox {

namespace {

std::string exact(double value) {
  char buffer[64];
  const auto end =
      std::to_chars(buffer, buffer + sizeof buffer, value).ptr;  // shortest text that reads back equal
  return {buffer, end};
}

template <class T>
T read_number(const Metadata& metadata, const std::string& key, const std::string& path) {
  const auto found = metadata.find(key);
  if (found == metadata.end()) throw DataError(text(path, ": metadata field ", key, " is missing"));
  T value{};
  const std::string& s = found->second;
  const auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), value);
  if (error != std::errc() || end != s.data() + s.size()) {
    throw DataError(text(path, ": metadata field ", key, ": found '", s, "', expected a number"));
  }
  return value;
}

const char* file_dtype(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "F32";
    case DType::f64:
      return "F64";
    case DType::bf16:
      return "BF16";
    case DType::u8:
      return "U8";
    case DType::i16:
      return "I16";
    case DType::i32:
      return "I32";
  }
  throw InternalError("unknown dtype");
}

/// How optimiser states lie in the file: like the flat buffer that they belong to.
std::vector<int64_t> flat(const Tensor& tensor) { return {tensor.elements()}; }

/// How a method's buffers do: with their five axes, the elements in memory order.
std::vector<int64_t> memory_order(const Tensor& tensor) {
  const Shape& s = tensor.shape();
  return {s.n, s.d, s.h, s.w, s.c};
}

std::string describe(const std::string& dtype, const std::vector<int64_t>& dims) {
  std::string list;
  for (const int64_t dim : dims) list += (list.empty() ? "" : ", ") + std::to_string(dim);
  return dtype + " (" + list + ")";
}

NamedArray to_array(const std::string& name, const Tensor& tensor, const std::vector<int64_t>& dims) {
  const Tensor host = tensor.to(Device{});
  NamedArray array;
  array.name = name;
  array.dtype = file_dtype(tensor.dtype());
  array.dims = dims;
  array.bytes.resize(static_cast<size_t>(tensor.bytes()));
  std::memcpy(array.bytes.data(), host.raw(), array.bytes.size());
  return array;
}

void from_array(const SafetensorsFile& file, const std::string& name, const Tensor& target,
                const std::vector<int64_t>& dims, const std::string& path) {
  const NamedArray* array = file.find(name);
  if (array == nullptr) throw DataError(text(path, ": array ", name, " is missing"));
  const std::string dtype = file_dtype(target.dtype());
  if (array->dtype != dtype || array->dims != dims) {
    throw DataError(text(path, ": array ", name, ": found ", describe(array->dtype, array->dims),
                         ", expected ", describe(dtype, dims)));
  }
  copy_bytes(target.raw(), target.device(), array->bytes.data(), Device{}, array->bytes.size());
}

/// Equal as texts or as numbers: 1e-4 comes back from a configuration file as 0.0001.
bool same_value(const std::string& a, const std::string& b) {
  const auto parse = [](const std::string& s, double& value) {
    const auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), value);
    return error == std::errc() && end == s.data() + s.size();
  };
  double x = 0, y = 0;
  return a == b || (parse(a, x) && parse(b, y) && x == y);
}

void check_same_run(const SafetensorsFile& file, const std::string& path, const Metadata& metadata) {
  for (const auto& [key, value] : metadata) {
    if (key.rfind("run.", 0) != 0) continue;
    const auto found = file.metadata.find(key);
    const std::string saved = found == file.metadata.end() ? "(nothing)" : found->second;
    if (!same_value(saved, value)) {
      throw UsageError(text(path, ": made with ", key.substr(4), " = ", saved, ", this run has ", value));
    }
  }
}

}  // namespace

void check_same_run(const std::string& path, const Metadata& metadata) {
  check_same_run(read_safetensors(path), path, metadata);
}

void save_checkpoint(const std::string& path, Method& method, const Progress& progress,
                     const Metadata& metadata) {
  SafetensorsFile file;
  file.metadata = metadata;
  describe_network(method.student().options(), file.metadata);
  file.metadata["progress.phase"] = text(progress.phase);
  file.metadata["progress.iteration"] = text(progress.iteration);
  file.metadata["progress.best_dice"] = exact(progress.best_dice);
  file.metadata["progress.best_phase_dice"] = exact(progress.best_phase_dice);
  for (const auto& [name, network] : method.networks()) append_weights(*network, file, name + "/");
  for (const auto& [name, optimizer] : method.optimizers()) {
    file.metadata["progress.steps." + name] = text(optimizer->steps());
    for (const auto& [state, tensor] : optimizer->state()) {
      file.arrays.push_back(to_array(text("optimizer/", name, "/", state), tensor, flat(tensor)));
    }
  }
  for (const auto& [name, tensor] : method.buffers()) {
    file.arrays.push_back(to_array("buffer/" + name, *tensor, memory_order(*tensor)));
  }
  write_safetensors(path, file);
}

Progress load_checkpoint(const std::string& path, Method& method, const Metadata& metadata) {
  const SafetensorsFile file = read_safetensors(path);
  check_same_run(file, path, metadata);
  for (const auto& [name, network] : method.networks()) load_weights(*network, file, path, name + "/");
  for (const auto& [name, optimizer] : method.optimizers()) {
    optimizer->set_steps(read_number<int64_t>(file.metadata, "progress.steps." + name, path));
    for (const auto& [state, tensor] : optimizer->state()) {
      from_array(file, text("optimizer/", name, "/", state), tensor, flat(tensor), path);
    }
  }
  for (const auto& [name, tensor] : method.buffers()) {
    from_array(file, "buffer/" + name, *tensor, memory_order(*tensor), path);
  }
  return {read_number<int64_t>(file.metadata, "progress.phase", path),
          read_number<int64_t>(file.metadata, "progress.iteration", path),
          read_number<double>(file.metadata, "progress.best_dice", path),
          read_number<double>(file.metadata, "progress.best_phase_dice", path)};
}

void save_weights(const std::string& path, const Network& network, const Metadata& metadata) {
  SafetensorsFile file;
  file.metadata = metadata;
  describe_network(network.options(), file.metadata);
  append_weights(network, file);
  write_safetensors(path, file);
}

void save_networks(const std::string& path, Method& method, const Metadata& metadata) {
  SafetensorsFile file;
  file.metadata = metadata;
  for (const auto& [name, network] : method.networks()) append_weights(*network, file, name + "/");
  write_safetensors(path, file);
}

}  // namespace semivox
