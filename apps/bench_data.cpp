// The way of a data set from files to batches: reading and caching, sampler, augmentation, gather.
#include <stdlib.h>

#include <cstdio>
#include <filesystem>
#include <numeric>

#include "apps/bench.hpp"
#include "engine/error.hpp"
#include "io/batch.hpp"
#include "io/sampler.hpp"
#include "io/synth.hpp"

namespace semivox {
namespace {

namespace fs = std::filesystem;

/// A new folder that goes when the benchmark ends.
class TemporaryFolder {
 public:
  TemporaryFolder() : path_((fs::temp_directory_path() / "semivox-bench-XXXXXX").string()) {
    if (mkdtemp(path_.data()) == nullptr) {
      throw DataError(text(path_, ": cannot make a folder for synthetic scans, expected one, or --data"));
    }
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

int64_t file_bytes(const io::DatasetFolder& folder) {
  uintmax_t bytes = 0;
  for (const io::CaseFiles& files : folder.cases) {
    for (const std::string& image : files.images) bytes += fs::file_size(image);
    if (!files.label.empty() && files.label != files.images.front()) bytes += fs::file_size(files.label);
  }
  return static_cast<int64_t>(bytes);
}

/// Prints and appends a row: `bytes` in `seconds`, `items` of the named kind.
void add_row(BenchReport& report, const char* work, double seconds, int64_t bytes, double items,
             const char* kind) {
  std::printf("%-26s %12.2f %12.2f %12.1f %12.2f %s/s\n", work, seconds * 1e3,
              static_cast<double>(bytes) * 1e-6, static_cast<double>(bytes) / seconds * 1e-6, items / seconds,
              kind);
  std::fflush(stdout);
  report.rows.push_back({{"work", work},
                         {"ms", seconds * 1e3},
                         {"bytes", bytes},
                         {"mb_per_second", static_cast<double>(bytes) / seconds * 1e-6},
                         {"per_second", items / seconds},
                         {"unit", kind}});
}

BenchReport measure(const io::DatasetFolder& folder, const BenchOptions& options) {
  std::vector<int64_t> all(folder.cases.size());
  std::iota(all.begin(), all.end(), 0);
  const io::Preparation preparation{{io::normalization_of_channel(folder.channels.front())}, {0, 0, 0}};
  BenchReport report;
  std::printf("%-26s %12s %12s %12s %12s\n", "work", "ms", "MB", "MB/s", "rate");

  const double start = now_seconds();  // once, as training does it
  const std::vector<io::CachedCase> cases =
      io::load_cases(folder, all, io::Labels::read, preparation, options.device);
  synchronize(options.device);
  const double seconds = now_seconds() - start;
  int64_t cached = 0;
  for (const io::CachedCase& one : cases) cached += one.bytes();
  add_row(report, "read and cache (cached)", seconds, cached, static_cast<double>(cases.size()), "cases");

  const io::BatchSampler sampler(all, options.batch, {}, 0, 1, io::Order::shuffled);
  int64_t iteration = 0;
  const double batch_seconds = median_seconds(options.device, options.iterations, [&] {
    std::vector<const io::CachedCase*> chosen;
    for (const int64_t i : sampler.batch(iteration)) chosen.push_back(&cases[static_cast<size_t>(i)]);
    io::make_batch(chosen, options.patch, io::AugmentMode::rotflip, 1, static_cast<uint64_t>(iteration++));
  });
  const int64_t batch_bytes = options.shape(1).elements() * (size_of(DType::f32) + size_of(DType::u8));
  add_row(report, "augmented batch (written)", batch_seconds, batch_bytes, 1, "batches");

  report.details["cases"] = cases.size();
  report.details["file_bytes"] = file_bytes(folder);
  report.details["cached_bytes"] = cached;
  return report;
}

}  // namespace

BenchReport bench_data(const BenchOptions& options) {
  if (!options.data.empty()) return measure(io::open_dataset(options.data), options);
  const TemporaryFolder folder;
  io::write_synthetic_dataset(folder.path(), {.cases = options.cases, .size = options.size});
  return measure(io::open_dataset(folder.path()), options);
}

}  // namespace semivox
