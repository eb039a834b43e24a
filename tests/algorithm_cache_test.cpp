// The table of measured convolution algorithms: what it keeps, what it survives.

#include "kernels/algorithm_cache.hpp"

#include <stdlib.h>

#include <doctest/doctest.h>

#include <optional>

#include "temporary_folder.hpp"

using namespace semivox;
using kernels::algorithm_cache_path;
using kernels::AlgorithmCache;
using Choice = AlgorithmCache::Choice;

namespace {

/// Sets an environment variable, or removes it (nullptr), until the end of a test.
class Environment {
 public:
  Environment(const char* name, const char* value) : name_(name) {
    if (const char* before = getenv(name)) before_ = before;
    set(value);
  }
  ~Environment() { set(before_ ? before_->c_str() : nullptr); }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

 private:
  void set(const char* value) {
    if (value != nullptr) {
      setenv(name_, value, 1);
    } else {
      unsetenv(name_);
    }
  }
  const char* name_;
  std::optional<std::string> before_;
};

}  // namespace

TEST_CASE("a measured algorithm is found again, in this run and in the next one") {
  const TemporaryFolder folder;
  const std::string path = folder / "deep/er/cudnn.json";  // folders are made
  AlgorithmCache first(path);
  CHECK_FALSE(first.find("a").has_value());
  first.remember("a", {7, 3});
  first.remember("b", {0, 0});
  CHECK(first.find("a") == Choice{7, 3});
  const AlgorithmCache second(path);
  CHECK(second.find("a") == Choice{7, 3});
  CHECK(second.find("b") == Choice{0, 0});
  CHECK_FALSE(second.find("c").has_value());
  CHECK(second.problem().empty());
}

TEST_CASE("two runs that measure at the same time keep each other's entries") {
  const TemporaryFolder folder;
  const std::string path = folder / "cudnn.json";
  AlgorithmCache one(path), two(path);
  one.remember("a", {1, 0});
  two.remember("b", {2, 0});
  two.remember("a", {5, 0});  // what a run measured itself it also goes by
  one.remember("c", {3, 0});
  CHECK(one.find("a") == Choice{1, 0});
  CHECK(one.find("b") == Choice{2, 0});
  const AlgorithmCache later(path);
  for (const char* shape : {"a", "b", "c"}) CHECK(later.find(shape).has_value());
}

TEST_CASE("a damaged table is reported and replaced, good entries stay") {
  const TemporaryFolder folder;
  const std::string path = folder / "cudnn.json";
  write_bytes(path, "{\"a\": [1, 2], \"b\"");
  AlgorithmCache truncated(path);
  CHECK(mentions(truncated.problem(), path, "JSON object", "measured again"));
  CHECK_FALSE(truncated.find("a").has_value());
  truncated.remember("a", {4, 0});
  CHECK(AlgorithmCache(path).problem().empty());
  CHECK(AlgorithmCache(path).find("a") == Choice{4, 0});

  write_bytes(path, R"({"a": [1, 2], "b": ["one", 2], "c": 5, "d": [1, 2, 3]})");
  const AlgorithmCache partly(path);
  CHECK(mentions(partly.problem(), path, "'d'", "[1,2,3]", "expected"));
  CHECK(partly.find("a") == Choice{1, 2});
  for (const char* shape : {"b", "c", "d"}) CHECK_FALSE(partly.find(shape).has_value());
}

TEST_CASE("a table that cannot be written stays in memory and says why") {
  const TemporaryFolder folder;
  write_bytes(folder / "file", "");
  AlgorithmCache cache(folder / "file/cudnn.json");
  cache.remember("a", {1, 0});
  CHECK(mentions(cache.problem(), "file", "not kept"));
  CHECK(cache.find("a") == Choice{1, 0});
  AlgorithmCache nowhere("");
  nowhere.remember("a", {1, 0});
  CHECK(nowhere.find("a") == Choice{1, 0});
  CHECK(nowhere.problem().empty());
}

TEST_CASE("the table lies in the user's cache folder, a file for each library version and GPU") {
  const Environment home("HOME", "/home/someone");
  {
    const Environment chosen("SEMIVOX_CACHE", nullptr), caches("XDG_CACHE_HOME", nullptr);
    CHECK(algorithm_cache_path("cudnn-9.1.0", "NVIDIA H200 (MIG 1g/20)") ==
          "/home/someone/.cache/semivox/cudnn-9.1.0-NVIDIA_H200__MIG_1g_20_.json");
  }
  {
    const Environment chosen("SEMIVOX_CACHE", nullptr), caches("XDG_CACHE_HOME", "/caches");
    CHECK(algorithm_cache_path("cudnn-9", "A") == "/caches/semivox/cudnn-9-A.json");
  }
  {
    const Environment chosen("SEMIVOX_CACHE", "/scratch");
    CHECK(algorithm_cache_path("cudnn-9", "A") == "/scratch/cudnn-9-A.json");
  }
  {
    const Environment chosen("SEMIVOX_CACHE", "");
    CHECK(algorithm_cache_path("cudnn-9", "A").empty());
  }
}
