// Reading files that may be gzip-compressed, and compressing bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace semivox::io {

/// Reads a file from its beginning; gzip streams are recognised by their content and decompressed on the way.
class GzipReader {
 public:
  /// Throws DataError when the file cannot be opened.
  explicit GzipReader(std::string path);
  ~GzipReader();
  GzipReader(const GzipReader&) = delete;
  GzipReader& operator=(const GzipReader&) = delete;

  /// Reads up to `count` bytes; fewer only at the end of the file. Throws DataError for a damaged or
  /// truncated stream.
  std::vector<std::byte> read(int64_t count);

 private:
  std::string path_;
  void* file_;  // zlib's gzFile
};

/// `bytes` as one gzip stream, the same for the same bytes (no time stamp, no name).
std::vector<std::byte> gzip(std::span<const std::byte> bytes);

}  // namespace semivox::io
