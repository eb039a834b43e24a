#include "io/gzip.hpp"

#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <utility>

#include "engine/error.hpp"

namespace semivox::io {

GzipReader::GzipReader(std::string path) : path_(std::move(path)), file_(gzopen(path_.c_str(), "rbe")) {
  if (file_ == nullptr) throw DataError(text(path_, ": cannot open the file: ", std::strerror(errno)));
  gzbuffer(static_cast<gzFile>(file_), 1 << 18);
}

GzipReader::~GzipReader() { gzclose(static_cast<gzFile>(file_)); }

std::vector<std::byte> GzipReader::read(int64_t count) {
  // Grown in steps, so that a header with absurd sizes fails at the end of the file and not for lack of
  // memory.
  constexpr int64_t kStep = 64 << 20;
  const auto file = static_cast<gzFile>(file_);
  std::vector<std::byte> bytes;
  while (static_cast<int64_t>(bytes.size()) < count) {
    const size_t before = bytes.size();
    const auto step = static_cast<unsigned>(std::min(count - static_cast<int64_t>(before), kStep));
    bytes.resize(before + step);
    const int got = gzread(file, bytes.data() + before, step);
    int code = Z_OK;
    std::string reason = gzerror(file, &code);
    if (code != Z_OK) {
      if (code == Z_ERRNO) reason = std::strerror(errno);
      if (reason.starts_with(path_ + ": ")) reason.erase(0, path_.size() + 2);  // zlib names the file, too
      throw DataError(text(path_, ": ", reason, ", expected a whole gzip file"));
    }
    bytes.resize(before + static_cast<size_t>(got));
    if (static_cast<unsigned>(got) < step) break;
  }
  return bytes;
}

std::vector<std::byte> gzip(std::span<const std::byte> bytes) {
  constexpr int kGzipWindow = 15 + 16;  // the largest window, with gzip's frame instead of zlib's
  z_stream stream{};
  SEMIVOX_CHECK(deflateInit2(&stream, 6, Z_DEFLATED, kGzipWindow, 8, Z_DEFAULT_STRATEGY) == Z_OK, "zlib");
  std::vector<std::byte> compressed(deflateBound(&stream, bytes.size()));
  // zlib counts in 32 bits: both buffers are handed over piece by piece.
  size_t read = 0;
  int code = Z_OK;
  while (code == Z_OK) {
    const size_t in = std::min<size_t>(bytes.size() - read, UINT_MAX);
    const size_t out = std::min<size_t>(compressed.size() - stream.total_out, UINT_MAX);
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(bytes.data() + read));
    stream.avail_in = static_cast<uInt>(in);
    stream.next_out = reinterpret_cast<Bytef*>(compressed.data() + stream.total_out);
    stream.avail_out = static_cast<uInt>(out);
    code = deflate(&stream, read + in == bytes.size() ? Z_FINISH : Z_NO_FLUSH);
    read += in - stream.avail_in;
  }
  const size_t size = stream.total_out;
  deflateEnd(&stream);
  SEMIVOX_CHECK(code == Z_STREAM_END, "zlib: code ", code);
  compressed.resize(size);
  return compressed;
}

}  // namespace semivox::io
