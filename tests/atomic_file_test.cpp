#include "engine/atomic_file.hpp"

#include <sys/resource.h>

#include <csignal>

#include "tests/temporary_folder.hpp"

using namespace semivox;

TEST_CASE("AtomicFile: the final name appears with commit, complete") {
  const TemporaryFolder folder;
  const std::string path = folder / "a.txt";
  write_file(path, "old");
  {
    AtomicFile file(path);
    file.write(std::as_bytes(std::span("ne", 2)));
    CHECK(read_bytes(path) == "old");
    CHECK(folder.entries() == 2);
    CHECK(mentions(file.temporary_path(), folder / ".a.txt.tmp-"));
    file.write(std::as_bytes(std::span("wer", 3)));
    file.commit();
    CHECK(read_bytes(path) == "newer");
  }
  CHECK(folder.entries() == 1);
}

TEST_CASE("AtomicFile: without commit nothing changes and nothing is left") {
  const TemporaryFolder folder;
  const std::string path = folder / "a.txt";
  write_file(path, "old");
  { AtomicFile(path).write(std::as_bytes(std::span("new", 3))); }
  CHECK(read_bytes(path) == "old");
  CHECK(folder.entries() == 1);
}

TEST_CASE("AtomicFile: what killed processes left can be cleared away, and nothing else is") {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "checkpoints");
  for (const char* name : {".a.txt.tmp-12", "checkpoints/.b.tmp-7", ".c.tmp-x", "d.tmp-12", "a.txt"})
    write_bytes(folder / name, "x");
  remove_stale_temporaries(folder / "");
  CHECK_FALSE(std::filesystem::exists(folder / ".a.txt.tmp-12"));
  CHECK_FALSE(std::filesystem::exists(folder / "checkpoints/.b.tmp-7"));
  CHECK(folder.entries() == 4);
}

TEST_CASE("AtomicFile: a library may write to the temporary name") {
  const TemporaryFolder folder;
  AtomicFile file(folder / "a.txt");
  write_bytes(file.temporary_path(), "by name");
  file.commit();
  CHECK(read_bytes(folder / "a.txt") == "by name");
}

TEST_CASE("AtomicFile: failures name the file and the reason, and leave no temporary file") {
  const TemporaryFolder folder;
  const std::string missing = folder / "missing/a.txt";
  CHECK(mentions(data_error([&] { write_file(missing, "x"); }), missing, "cannot create",
                 "No such file or directory"));
  std::filesystem::create_directory(folder / "taken");
  CHECK(mentions(data_error([&] { write_file(folder / "taken", "x"); }), folder / "taken", "found a folder",
                 "expected a file"));
  CHECK(folder.entries() == 1);

  SUBCASE("the disk takes no more") {  // a limit on the size of files stands for a full disk
    rlimit old_limit{};
    REQUIRE(getrlimit(RLIMIT_FSIZE, &old_limit) == 0);
    const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
    const rlimit small{1000, old_limit.rlim_max};
    REQUIRE(setrlimit(RLIMIT_FSIZE, &small) == 0);
    const std::string message = data_error([&] { write_file(folder / "big", std::string(5000, 'x')); });
    setrlimit(RLIMIT_FSIZE, &old_limit);
    std::signal(SIGXFSZ, old_handler);
    CHECK(mentions(message, folder / "big", "cannot write", "File too large"));
    CHECK(folder.entries() == 1);
  }
}
