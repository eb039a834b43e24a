// Whole files that appear under their final name complete, or not at all.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace semivox {

/// A file under construction: bytes go to `.<name>.tmp-<pid>` in the folder of `path`, and `commit` flushes
/// them to the disk and renames. Without `commit` the destructor removes the temporary file and `path` stays
/// as it was. A link is followed; what is no file (a folder, a device) is refused. Every failure is a
/// DataError with the file and the system's reason (disk full, no permission, no such folder).
class AtomicFile {
 public:
  /// Creates the temporary file.
  explicit AtomicFile(std::string path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  /// Appends `bytes`.
  void write(std::span<const std::byte> bytes);

  /// Name of the temporary file, for a library that writes by name (instead of `write`, closed before
  /// `commit`).
  const std::string& temporary_path() const { return temporary_; }

  /// Flushes to the disk and renames to the final name.
  void commit();

 private:
  [[noreturn]] void fail(const char* action, int error_number) const;

  std::string path_;
  std::string folder_;
  std::string temporary_;
  int descriptor_ = -1;
  bool committed_ = false;
};

/// Removes the temporary files that killed processes left in a folder and the folders in it. No process may
/// be writing there.
void remove_stale_temporaries(const std::string& folder);

/// Writes `bytes` as the whole content of `path`, atomically.
void write_file(const std::string& path, std::span<const std::byte> bytes);

/// Writes `content` as the whole content of `path`, atomically.
void write_file(const std::string& path, const std::string& content);

}  // namespace semivox
