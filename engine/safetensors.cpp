#include "engine/safetensors.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "engine/atomic_file.hpp"
#include "engine/error.hpp"

namespace semivox {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors bytes are little endian");

constexpr uint64_t kMaxHeaderBytes = 100'000'000;
constexpr const char* kMetadata = "__metadata__";

using Json = nlohmann::ordered_json;

/// Bytes per element, 0 for a type the format does not know.
int64_t element_size(const std::string& dtype) {
  static const std::map<std::string, int64_t> sizes{
      {"F64", 8}, {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"I64", 8},  {"I32", 4},     {"I16", 2},    {"I8", 1},
      {"U64", 8}, {"U32", 4}, {"U16", 2}, {"U8", 1},   {"BOOL", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1}};
  const auto found = sizes.find(dtype);
  return found == sizes.end() ? 0 : found->second;
}

/// Bytes of an array of that type and shape, or -1 when they do not fit int64_t.
int64_t byte_count(const std::string& dtype, const std::vector<int64_t>& dims) {
  if (std::find(dims.begin(), dims.end(), 0) != dims.end()) return 0;
  int64_t bytes = element_size(dtype);
  for (const int64_t dim : dims) {
    if (__builtin_mul_overflow(bytes, dim, &bytes)) return -1;
  }
  return bytes;
}

/// Parses the header; the JSON library would let the last of two equal keys win, so they are caught on the
/// way.
Json parse_header(const std::string& path, const std::string& header) {
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  const auto check_keys = [&](int, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::object_start) {
      keys.emplace_back();
    } else if (event == Json::parse_event_t::object_end) {
      keys.pop_back();
    } else if (event == Json::parse_event_t::key) {
      const auto& key = parsed.get_ref<const std::string&>();
      if (!keys.back().insert(key).second) {
        throw DataError(text(path, ": header: the name \"", key, "\" occurs twice, expected distinct names"));
      }
    }
    return true;
  };
  Json json;
  try {
    json = Json::parse(header, check_keys);
  } catch (const Json::exception& error) {
    throw DataError(text(path, ": header is not valid JSON: ", error.what()));
  }
  if (!json.is_object()) {
    throw DataError(text(path, ": header is a JSON ", json.type_name(), ", expected an object"));
  }
  return json;
}

struct Entry {
  NamedArray array;
  int64_t begin = 0;
  int64_t end = 0;
};

/// The non-negative integers of `description[key]`.
std::vector<int64_t> integers(const std::string& where, const Json& description, const char* key) {
  const auto list = description.find(key);
  if (list == description.end() || !list->is_array()) {
    throw DataError(text(where, ": \"", key, "\" is missing or no list, expected a list of integers"));
  }
  std::vector<int64_t> values;
  for (const Json& item : *list) {
    if (!item.is_number_unsigned() || item.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) {
      throw DataError(
          text(where, ": \"", key, "\" contains ", item.dump(), ", expected non-negative integers"));
    }
    values.push_back(item.get<int64_t>());
  }
  return values;
}

Entry parse_entry(const std::string& path, const std::string& name, const Json& description) {
  const std::string where = text(path, ": array \"", name, "\"");
  if (!description.is_object())
    throw DataError(text(where, " is described by ", description.dump(), ", expected an object"));
  for (const auto& [key, value] : description.items()) {
    if (key != "dtype" && key != "shape" && key != "data_offsets") {
      throw DataError(text(where, ": unknown field \"", key, "\", expected dtype, shape and data_offsets"));
    }
  }
  Entry entry;
  entry.array.name = name;
  const auto dtype = description.find("dtype");
  if (dtype == description.end() || !dtype->is_string() || element_size(dtype->get<std::string>()) == 0) {
    throw DataError(
        text(where, ": dtype is ", dtype == description.end() ? "missing" : dtype->dump(),
             ", expected one of F64 F32 F16 BF16 I64 I32 I16 I8 U64 U32 U16 U8 BOOL F8_E4M3 F8_E5M2"));
  }
  entry.array.dtype = dtype->get<std::string>();
  entry.array.dims = integers(where, description, "shape");
  const std::vector<int64_t> offsets = integers(where, description, "data_offsets");
  if (offsets.size() != 2 || offsets[0] > offsets[1]) {
    throw DataError(
        text(where, ": data_offsets is ", description["data_offsets"].dump(), ", expected [begin, end]"));
  }
  entry.begin = offsets[0];
  entry.end = offsets[1];
  const int64_t expected = byte_count(entry.array.dtype, entry.array.dims);
  if (expected < 0) {
    throw DataError(
        text(where, ": shape ", description["shape"].dump(), " has more bytes than a file can hold"));
  }
  if (entry.end - entry.begin != expected) {
    throw DataError(text(where, ": data_offsets span ", entry.end - entry.begin, " bytes, expected ",
                         expected, " for ", entry.array.dtype, " of shape ", description["shape"].dump()));
  }
  return entry;
}

/// Sorts entries by their bytes and checks that they cover the `data_bytes` of the file exactly once.
void check_coverage(const std::string& path, std::vector<Entry>& entries, int64_t data_bytes) {
  std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  int64_t end = 0;
  for (const Entry& entry : entries) {
    if (entry.begin != end) {
      throw DataError(text(path, ": array \"", entry.array.name, "\" begins at byte ", entry.begin,
                           " of the data, expected ", end, ": arrays must neither overlap nor leave holes"));
    }
    end = entry.end;
  }
  if (end != data_bytes) {
    throw DataError(text(path, ": ", data_bytes, " data bytes found, expected ", end,
                         end > data_bytes ? ": the file is truncated" : ": bytes that belong to no array"));
  }
}

void read_bytes(const std::string& path, std::ifstream& in, void* target, int64_t count) {
  in.read(static_cast<char*>(target), count);
  if (in.gcount() != count) throw DataError(text(path, ": read ", in.gcount(), " bytes, expected ", count));
}

}  // namespace

const NamedArray* SafetensorsFile::find(const std::string& name) const {
  for (const NamedArray& array : arrays) {
    if (array.name == name) return &array;
  }
  return nullptr;
}

SafetensorsFile read_safetensors(const std::string& path) {
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  if (!in) throw DataError(text(path, ": cannot open the file: ", std::strerror(errno)));
  const int64_t file_bytes = in.tellg();
  in.seekg(0);
  if (file_bytes < 8 || !in) {
    throw DataError(text(path, ": not a safetensors file: ", std::max<int64_t>(file_bytes, 0),
                         " bytes, expected at least 8"));
  }
  uint64_t header_bytes = 0;
  read_bytes(path, in, &header_bytes, 8);
  if (header_bytes > kMaxHeaderBytes) {
    throw DataError(text(path, ": not a safetensors file: header length is ", header_bytes,
                         ", expected at most ", kMaxHeaderBytes));
  }
  const int64_t data_bytes = file_bytes - 8 - static_cast<int64_t>(header_bytes);
  if (data_bytes < 0) {
    throw DataError(text(path, ": header length is ", header_bytes, ", but only ", file_bytes - 8,
                         " bytes follow: the file is truncated"));
  }
  std::string header(header_bytes, '\0');
  read_bytes(path, in, header.data(), static_cast<int64_t>(header_bytes));

  SafetensorsFile file;
  std::vector<Entry> entries;
  const Json json = parse_header(path, header);
  for (const auto& [name, description] : json.items()) {
    if (name != kMetadata) {
      entries.push_back(parse_entry(path, name, description));
      continue;
    }
    if (!description.is_object()) throw DataError(text(path, ": __metadata__ is no object of strings"));
    for (const auto& [key, value] : description.items()) {
      if (!value.is_string()) {
        throw DataError(text(path, ": __metadata__ \"", key, "\" is ", value.dump(), ", expected a string"));
      }
      file.metadata[key] = value.get<std::string>();
    }
  }
  check_coverage(path, entries, data_bytes);
  for (Entry& entry : entries) {
    entry.array.bytes.resize(static_cast<size_t>(entry.end - entry.begin));
    read_bytes(path, in, entry.array.bytes.data(), entry.end - entry.begin);
    file.arrays.push_back(std::move(entry.array));
  }
  return file;
}

void write_safetensors(const std::string& path, const SafetensorsFile& file) {
  Json json = Json::object();
  if (!file.metadata.empty()) json[kMetadata] = file.metadata;
  std::set<std::string> names{kMetadata};
  int64_t offset = 0;
  for (const NamedArray& array : file.arrays) {
    SEMIVOX_CHECK(names.insert(array.name).second, path, ": the name \"", array.name, "\" is taken");
    SEMIVOX_CHECK(element_size(array.dtype) > 0, path, ": \"", array.name, "\" has unknown dtype ",
                  array.dtype);
    const auto bytes = static_cast<int64_t>(array.bytes.size());
    SEMIVOX_CHECK(bytes == byte_count(array.dtype, array.dims), path, ": \"", array.name, "\" has ", bytes,
                  " bytes");
    json[array.name] = {
        {"dtype", array.dtype}, {"shape", array.dims}, {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  std::string header;
  try {
    header = json.dump();
  } catch (const Json::exception& error) {
    throw DataError(text(path, ": a name or metadata text is not UTF-8: ", error.what()));
  }
  header.resize((header.size() + 7) / 8 * 8,
                ' ');  // the format allows trailing spaces; data then lie aligned
  const uint64_t header_bytes = header.size();
  SEMIVOX_CHECK(header_bytes <= kMaxHeaderBytes, path, ": the header has ", header_bytes, " bytes");

  AtomicFile out(path);
  out.write(std::as_bytes(std::span(&header_bytes, 1)));
  out.write(std::as_bytes(std::span(header)));
  for (const NamedArray& array : file.arrays) out.write(array.bytes);
  out.commit();
}

}  // namespace semivox
