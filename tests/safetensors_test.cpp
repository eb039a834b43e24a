#include "engine/safetensors.hpp"

#include <cstring>

#include "tests/temporary_folder.hpp"

using namespace semivox;

namespace {

NamedArray array(const std::string& name, const std::string& dtype, std::vector<int64_t> dims, size_t bytes) {
  NamedArray result{name, dtype, std::move(dims), std::vector<std::byte>(bytes)};
  for (size_t i = 0; i < bytes; ++i) result.bytes[i] = static_cast<std::byte>(i * 7 + name.size());
  return result;
}

/// A file of that header, `data_bytes` zeros, and the length field `length` (default: the true one).
std::string file_bytes(const std::string& header, size_t data_bytes, int64_t length = -1) {
  const uint64_t field = length < 0 ? header.size() : static_cast<uint64_t>(length);
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &field, 8);
  return bytes + header + std::string(data_bytes, '\0');
}

}  // namespace

TEST_CASE("safetensors: round trip of every type, scalars, empty arrays and metadata") {
  const TemporaryFolder folder;
  SafetensorsFile file;
  file.metadata = {{"step", "12"}, {"note", "Größe \"x\"\n"}};
  file.arrays = {
      array("z.weight", "F32", {2, 3}, 24), array("a", "BF16", {3}, 6),  array("scalar", "F64", {}, 8),
      array("empty", "I64", {4, 0, 2}, 0),  array("i64", "I64", {1}, 8), array("i32", "I32", {1}, 4),
      array("i16", "I16", {1}, 2),          array("i8", "I8", {1}, 1),   array("u64", "U64", {1}, 8),
      array("u32", "U32", {1}, 4),          array("u16", "U16", {1}, 2), array("u8", "U8", {3}, 3),
      array("bool", "BOOL", {1}, 1),        array("f16", "F16", {1}, 2), array("e4", "F8_E4M3", {1}, 1),
      array("e5", "F8_E5M2", {1}, 1)};
  const std::string path = folder / "a.safetensors";
  write_safetensors(path, file);
  CHECK(folder.entries() == 1);
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, read_bytes(path).data(), 8);
  CHECK(header_bytes % 8 == 0);

  const SafetensorsFile back = read_safetensors(path);
  CHECK(back.metadata == file.metadata);
  REQUIRE(back.arrays.size() == file.arrays.size());
  for (const NamedArray& expected : file.arrays) {
    const NamedArray* found = back.find(expected.name);
    REQUIRE(found != nullptr);
    CHECK(found->dtype == expected.dtype);
    CHECK(found->dims == expected.dims);
    CHECK(found->bytes == expected.bytes);
  }
  CHECK(back.find("absent") == nullptr);

  write_safetensors(folder / "none.safetensors", {});
  CHECK(read_safetensors(folder / "none.safetensors").arrays.empty());
}

TEST_CASE("safetensors: a file of known bytes") {
  const TemporaryFolder folder;
  std::string bytes = file_bytes(R"( {"b":{"dtype":"U8","shape":[2],"data_offsets":[4,6]},"a":)"
                                 R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]}}   )",
                                 0);
  bytes += std::string("\x00\x00\x80\x3f\x05\x06", 6);
  write_bytes(folder / "a", bytes);
  const SafetensorsFile file = read_safetensors(folder / "a");
  REQUIRE(file.arrays.size() == 2);
  CHECK(file.arrays[0].name == "a");
  float one = 0;
  std::memcpy(&one, file.arrays[0].bytes.data(), 4);
  CHECK(one == 1.0f);
  CHECK(file.arrays[1].bytes == std::vector<std::byte>{std::byte{5}, std::byte{6}});
}

TEST_CASE("safetensors: what the format forbids is refused by name") {
  const TemporaryFolder folder;
  const std::string path = folder / "bad.safetensors";
  CHECK(mentions(data_error([&] { read_safetensors(path); }), path, "No such file"));
  const auto message = [&](const std::string& bytes) {
    write_bytes(path, bytes);
    return data_error([&] { read_safetensors(path); });
  };
  /// Message for a header with one array "w" (or more entries) and 8 data bytes.
  const auto entry = [&](const std::string& fields, const std::string& more = "") {
    return message(file_bytes(R"({"w":{)" + fields + "}" + more + "}", 8));
  };
  CHECK(mentions(message(""), path, "0 bytes"));
  CHECK(mentions(message("1234567"), path, "7 bytes"));
  CHECK(mentions(message(file_bytes("{}", 0, 3)), path, "header length is 3", "2 bytes follow", "truncated"));
  CHECK(mentions(message(file_bytes("{}", 0, 100'000'001)), path, "100000001", "at most 100000000"));
  CHECK(mentions(message(file_bytes("{}", 0, INT64_MAX)), path, "at most 100000000"));
  CHECK(mentions(message(file_bytes("{\"w\":", 0)), path, "not valid JSON"));
  CHECK(mentions(message(file_bytes("", 0)), path, "not valid JSON"));
  CHECK(mentions(message(file_bytes("[1]", 0)), path, "array", "expected an object"));
  CHECK(mentions(message(file_bytes(R"({"w":3})", 0)), path, "\"w\"", "expected an object"));
  CHECK(mentions(message(file_bytes(R"({"__metadata__":{"a":1}})", 0)), path, "__metadata__",
                 "expected a string"));
  CHECK(mentions(message(file_bytes(R"({"__metadata__":"a"})", 0)), path, "__metadata__"));

  const std::string good = R"("dtype":"F32","shape":[2],"data_offsets":[0,8])";
  CHECK(entry(good) == "");
  CHECK(mentions(entry(good, R"(,"w":{)" + good + "}"), path, "\"w\"", "twice"));
  CHECK(mentions(entry(good + R"(,"shape":[2])"), path, "\"shape\"", "twice"));
  CHECK(mentions(entry(good + R"(,"strides":[1])"), path, "\"w\"", "unknown field \"strides\""));
  CHECK(mentions(entry(R"("shape":[2],"data_offsets":[0,8])"), "\"w\"", "dtype is missing"));
  CHECK(mentions(entry(R"("dtype":"F31","shape":[2],"data_offsets":[0,8])"), "\"w\"", "dtype is \"F31\""));
  CHECK(mentions(entry(R"("dtype":"F32","data_offsets":[0,8])"), "\"w\"", "\"shape\" is missing"));
  CHECK(mentions(entry(R"("dtype":"F32","shape":[-2],"data_offsets":[0,8])"), "\"w\"", "shape", "-2"));
  CHECK(mentions(entry(R"("dtype":"F32","shape":[2.0],"data_offsets":[0,8])"), "\"w\"", "shape", "2.0"));
  CHECK(mentions(entry(R"("dtype":"F32","shape":[2],"data_offsets":[8])"), "\"w\"", "data_offsets", "[8]"));
  CHECK(
      mentions(entry(R"("dtype":"F32","shape":[2],"data_offsets":[8,0])"), "\"w\"", "data_offsets", "[8,0]"));
  CHECK(mentions(entry(R"("dtype":"F32","shape":[3],"data_offsets":[0,8])"), "\"w\"", "8 bytes",
                 "expected 12"));
  CHECK(mentions(entry(R"("dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0])"), "\"w\"",
                 "more bytes"));
  CHECK(mentions(entry(R"("dtype":"F32","shape":[3],"data_offsets":[0,12])"), "8 data bytes", "expected 12",
                 "truncated"));
  CHECK(mentions(entry(R"("dtype":"F32","shape":[1],"data_offsets":[0,4])"), "8 data bytes", "expected 4"));
  CHECK(mentions(entry(R"("dtype":"F32","shape":[1],"data_offsets":[4,8])"), "\"w\"", "byte 4", "holes"));
  CHECK(mentions(entry(good, R"(,"v":{"dtype":"U8","shape":[2],"data_offsets":[6,8]})"), "\"v\"", "byte 6",
                 "overlap"));
}

TEST_CASE("safetensors: the writer refuses what it could not read back") {
  const TemporaryFolder folder;
  const std::string path = folder / "a";
  const auto write = [&](std::vector<NamedArray> arrays) {
    write_safetensors(path, {std::move(arrays), {}});
  };
  CHECK_THROWS_AS(write({array("a", "F32", {2}, 7)}), InternalError);
  CHECK_THROWS_AS(write({array("a", "F33", {1}, 4)}), InternalError);
  CHECK_THROWS_AS(write({array("a", "U8", {1}, 1), array("a", "U8", {1}, 1)}), InternalError);
  CHECK_THROWS_AS(write({array("__metadata__", "U8", {1}, 1)}), InternalError);
  CHECK(mentions(data_error([&] { write({array("\xff", "U8", {1}, 1)}); }), path, "UTF-8"));
  CHECK(folder.entries() == 0);
}
