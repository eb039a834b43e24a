#include "engine/atomic_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <utility>

#include "engine/error.hpp"

namespace semivox {

namespace {
constexpr std::string_view kMark = ".tmp-";  // between the final name and the process
}

AtomicFile::AtomicFile(std::string path) : path_(std::move(path)) {
  namespace fs = std::filesystem;
  std::error_code missing;
  for (int links = 0; links < 40 && fs::is_symlink(path_, missing); ++links)
    path_ = (fs::path(path_).parent_path() / fs::read_symlink(path_)).string();
  // A rename would put a file in the place of a device or pipe.
  if (fs::exists(path_, missing) && !fs::is_regular_file(path_, missing))
    throw DataError(text(path_, ": found a folder, device or pipe, expected a file or nothing"));
  const fs::path final_path(path_);
  folder_ = final_path.has_parent_path() ? final_path.parent_path().string() : ".";
  temporary_ = text(folder_, "/.", final_path.filename().string(), kMark, getpid());
  descriptor_ = open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor_ < 0) fail("create", errno);
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) close(descriptor_);
  if (!committed_) unlink(temporary_.c_str());
}

void AtomicFile::fail(const char* action, int error_number) const {
  throw DataError(text(path_, ": cannot ", action, " the file: ", std::strerror(error_number)));
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      fail("write", errno);
    }
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
}

void AtomicFile::commit() {
  if (fsync(descriptor_) != 0) fail("flush", errno);
  const int descriptor = std::exchange(descriptor_, -1);
  if (close(descriptor) != 0) fail("close", errno);
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) fail("rename the temporary file to", errno);
  committed_ = true;
  // The rename itself reaches the disk with its folder; file systems without that notion may refuse, which is
  // fine.
  const int folder = open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder >= 0) {
    fsync(folder);
    close(folder);
  }
}

void remove_stale_temporaries(const std::string& folder) {
  std::error_code gone;
  std::filesystem::recursive_directory_iterator entry(folder, gone), end;
  for (; !gone && entry != end; entry.increment(gone)) {
    const std::string name = entry->path().filename().string();
    const size_t mark = name.rfind(kMark);
    const bool ours = name.front() == '.' && mark != std::string::npos &&
                      name.find_first_not_of("0123456789", mark + kMark.size()) == std::string::npos;
    if (ours) unlink(entry->path().c_str());
  }
}

void write_file(const std::string& path, std::span<const std::byte> bytes) {
  AtomicFile file(path);
  file.write(bytes);
  file.commit();
}

void write_file(const std::string& path, const std::string& content) {
  write_file(path, std::as_bytes(std::span(content)));
}

}  // namespace semivox
