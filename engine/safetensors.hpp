// Safetensors: named arrays in one file. Eight bytes with the header's length (little endian), a JSON header
// with type, shape and byte range of every array, then the arrays' bytes in C order, without holes. Format:
// the README of the safetensors project, https://github.com/huggingface/safetensors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace semivox {

/// One array of a safetensors file.
struct NamedArray {
  std::string name;
  std::string dtype;  ///< F64, F32, F16, BF16, I64, I32, I16, I8, U64, U32, U16, U8, BOOL, F8_E4M3 or F8_E5M2
  std::vector<int64_t> dims;     ///< empty for a scalar
  std::vector<std::byte> bytes;  ///< little-endian elements, C order
};

/// The whole content of a safetensors file.
struct SafetensorsFile {
  std::vector<NamedArray> arrays;               ///< in the order of their bytes
  std::map<std::string, std::string> metadata;  ///< the header's `__metadata__`

  /// The array of that name, or null.
  const NamedArray* find(const std::string& name) const;
};

/// Reads and validates a file. Throws DataError, naming file and field, for everything the format forbids: a
/// header that is cut off, larger than 100 MB or not JSON, unknown types, duplicate names, sizes that do not
/// match the shape, byte ranges that overlap, leave holes or pass the end.
SafetensorsFile read_safetensors(const std::string& path);

/// Writes a file atomically; arrays lie in the given order, the first at a multiple of 8 bytes. Throws
/// DataError when the disk refuses, InternalError when `file` itself breaks the format.
void write_safetensors(const std::string& path, const SafetensorsFile& file);

}  // namespace semivox
