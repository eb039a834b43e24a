// Network weights in safetensors files: round trips, PyTorch's prefixes and number types, and what is
// refused.
#include "methods/weights.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "tests/temporary_folder.hpp"

using namespace semivox;

namespace {

std::unique_ptr<Network> small_network(uint64_t seed, DType precision = DType::f32) {
  NetworkOptions options;
  options.filters = 2;
  auto network = make_network(options);
  network->allocate(precision, Device{}, false);
  network->parameters().initialize(seed);
  return network;
}

SafetensorsFile file_of(const Network& network, const std::string& prefix = "") {
  SafetensorsFile file;
  append_weights(network, file, prefix);
  return file;
}

NamedArray& array_named(SafetensorsFile& file, const std::string& name) {
  const auto found = std::find_if(file.arrays.begin(), file.arrays.end(),
                                  [&](const NamedArray& array) { return array.name == name; });
  REQUIRE(found != file.arrays.end());
  return *found;
}

void remove_array(SafetensorsFile& file, const std::string& name) {
  std::erase_if(file.arrays, [&](const NamedArray& array) { return array.name == name; });
}

/// All values and running statistics, the padding of the flat buffers included.
std::vector<double> contents(const Network& network) {
  std::vector<double> values = network.parameters().values().to_doubles();
  const std::vector<double> buffers = network.parameters().buffer_values().to_doubles();
  values.insert(values.end(), buffers.begin(), buffers.end());
  return values;
}

template <class T>
void set_elements(NamedArray& array, const char* dtype, const std::vector<T>& elements) {
  array.dtype = dtype;
  array.bytes.resize(elements.size() * sizeof(T));
  std::memcpy(array.bytes.data(), elements.data(), array.bytes.size());
}

std::string refusal(const SafetensorsFile& file, const std::string& prefix = "") {
  const auto network = small_network(5);
  const std::vector<double> before = contents(*network);
  const std::string message = data_error([&] { load_weights(*network, file, "w.safetensors", prefix); });
  CHECK(contents(*network) == before);  // a refused file changes nothing
  return message;
}

}  // namespace

TEST_CASE("weights survive a file bit for bit") {
  const TemporaryFolder folder;
  const auto source = small_network(1);
  for (Parameter& buffer : source->parameters().buffers()) {
    float* values = buffer.value.data<float>();
    for (int64_t i = 0; i < buffer.count; ++i)
      values[i] = buffer.counter ? 41.0f : 0.25f + 0.1f * static_cast<float>(i);
  }
  write_safetensors(folder / "w.safetensors", file_of(*source));
  const auto target = small_network(2);
  REQUIRE(contents(*target) != contents(*source));
  const uint64_t version = *target->parameters().version();
  load_weights(*target, read_safetensors(folder / "w.safetensors"), folder / "w.safetensors");
  CHECK(contents(*target) == contents(*source));
  CHECK(*target->parameters().version() > version);  // packed copies of the old weights are stale
}

TEST_CASE("names and shapes in the file are PyTorch's") {
  SafetensorsFile file = file_of(*small_network(1));
  CHECK(array_named(file, "block_one.conv.0.weight").dims == std::vector<int64_t>{2, 1, 3, 3, 3});
  CHECK(array_named(file, "block_five_up.conv.0.weight").dims == std::vector<int64_t>{32, 16, 2, 2, 2});
  CHECK(array_named(file, "block_one.conv.1.running_var").dims == std::vector<int64_t>{2});
  CHECK(array_named(file, "out_conv.bias").dtype == "F32");
  const NamedArray& count = array_named(file, "block_one.conv.1.num_batches_tracked");
  CHECK(count.dtype == "I64");
  CHECK(count.dims.empty());
}

TEST_CASE("an f64 network is saved as F64 and loads F32") {
  const auto narrow = small_network(1);
  const auto wide = small_network(2, DType::f64);
  load_weights(*wide, file_of(*narrow), "w.safetensors");
  CHECK(contents(*wide) == contents(*narrow));
  SafetensorsFile file = file_of(*wide);
  CHECK(array_named(file, "out_conv.weight").dtype == "F64");
  const auto target = small_network(3);
  load_weights(*target, file, "w.safetensors");
  CHECK(contents(*target) == contents(*narrow));
}

TEST_CASE("half precision and bfloat16 are widened exactly") {
  SafetensorsFile file = file_of(*small_network(1));
  set_elements<uint16_t>(array_named(file, "out_conv.bias"), "F16", {0x3555, 0x8001});
  set_elements<uint16_t>(array_named(file, "block_one.conv.0.bias"), "BF16", {0xBFC0, 0x4049});
  const auto network = small_network(2);
  load_weights(*network, file, "w.safetensors");
  const SafetensorsFile loaded = file_of(*network);
  float halves[2], brains[2];
  std::memcpy(halves, loaded.find("out_conv.bias")->bytes.data(), sizeof halves);
  std::memcpy(brains, loaded.find("block_one.conv.0.bias")->bytes.data(), sizeof brains);
  CHECK(halves[0] == 1365.0f / 4096.0f);       // nearest half to 1/3
  CHECK(halves[1] == -std::ldexp(1.0f, -24));  // smallest subnormal
  CHECK(brains[0] == -1.5f);
  CHECK(brains[1] == 3.140625f);
}

TEST_CASE("wrappers' prefixes are stripped") {
  const auto source = small_network(1);
  SafetensorsFile file = file_of(*source);
  for (size_t i = 0; i < file.arrays.size(); ++i) {
    file.arrays[i].name = (i % 2 == 0 ? "module.encoder." : "module.decoder.") + file.arrays[i].name;
  }
  const auto target = small_network(2);
  load_weights(*target, file, "w.safetensors");
  CHECK(contents(*target) == contents(*source));
}

TEST_CASE("prefixes that are the network's own stay; every network loads what it saved") {
  for (const std::string& name : network_names()) {
    INFO(name);
    const auto make = [&](uint64_t seed) {
      auto network = make_network({.name = name, .filters = 2});
      network->allocate(DType::f32, {}, false);
      network->parameters().initialize(seed);
      return network;
    };
    const auto source = make(1), target = make(2), wrapped = make(3);
    SafetensorsFile file = file_of(*source, "student/");
    load_weights(*target, file, "latest.safetensors", "student/");
    CHECK(contents(*target) == contents(*source));
    for (NamedArray& array : file.arrays) array.name = "module." + array.name.substr(8);
    load_weights(*wrapped, file, "w.safetensors");
    CHECK(contents(*wrapped) == contents(*source));
  }
}

TEST_CASE("a prefix picks one network out of a file of several") {
  const auto student = small_network(1), teacher = small_network(2), target = small_network(3);
  SafetensorsFile file = file_of(*student, "student/");
  append_weights(*teacher, file, "teacher/");
  load_weights(*target, file, "latest.safetensors", "teacher/");
  CHECK(contents(*target) == contents(*teacher));
  load_weights(*target, file, "latest.safetensors", "student/");
  CHECK(contents(*target) == contents(*student));
  CHECK(mentions(refusal(file, "critic/"), "w.safetensors", "critic/block_one.conv.0.weight"));
}

TEST_CASE("num_batches_tracked may be missing and may have one axis") {
  const auto source = small_network(1);
  SafetensorsFile file = file_of(*source);
  std::erase_if(file.arrays,
                [](const NamedArray& a) { return a.name == "block_one.conv.1.num_batches_tracked"; });
  array_named(file, "block_two.conv.1.num_batches_tracked").dims = {1};
  const auto target = small_network(2);
  load_weights(*target, file, "w.safetensors");
  CHECK(contents(*target) == contents(*source));
}

TEST_CASE("each misfit has its message") {
  const SafetensorsFile good = file_of(*small_network(1));
  SafetensorsFile file = good;
  SUBCASE("missing parameter") {
    remove_array(file, "block_two.conv.0.weight");
    CHECK(mentions(refusal(file), "w.safetensors", "block_two.conv.0.weight", "(4, 4, 3, 3, 3)"));
  }
  SUBCASE("missing running statistics") {
    remove_array(file, "block_two.conv.1.running_var");
    CHECK(mentions(refusal(file), "w.safetensors", "block_two.conv.1.running_var", "batchnorm"));
  }
  SUBCASE("wrong shape") {
    NamedArray& array = array_named(file, "block_two.conv.1.bias");
    array.dims = {2, 2};
    CHECK(mentions(refusal(file), "w.safetensors", "block_two.conv.1.bias", "(2, 2)", "(4)"));
  }
  SUBCASE("wrong type") {
    set_elements<int32_t>(array_named(file, "block_two.conv.1.bias"), "I32", {1, 2, 3, 4});
    CHECK(mentions(refusal(file), "w.safetensors", "block_two.conv.1.bias", "I32", "F32"));
  }
  SUBCASE("not a number") {
    set_elements<float>(array_named(file, "block_two.conv.1.bias"), "F32",
                        {1, std::numeric_limits<float>::quiet_NaN(), 3, 4});
    CHECK(mentions(refusal(file), "w.safetensors", "block_two.conv.1.bias", "nan", "element 1"));
  }
  SUBCASE("unknown arrays, the first few named") {
    for (const char* name : {"head.a", "head.b", "head.c", "head.d", "head.e"}) {
      file.arrays.push_back({name, "U8", {1}, std::vector<std::byte>(1)});
    }
    CHECK(mentions(refusal(file), "w.safetensors", "head.a", "head.b", "head.c", "2 more", "vnet"));
  }
  SUBCASE("one parameter twice") {
    file.arrays.push_back(*good.find("out_conv.bias"));
    file.arrays.back().name = "module.out_conv.bias";
    CHECK(mentions(refusal(file), "w.safetensors", "\"out_conv.bias\"", "\"module.out_conv.bias\""));
  }
}

TEST_CASE("a file's metadata describes its network") {
  NetworkOptions options{.name = "vnet_original",
                         .in_channels = 3,
                         .classes = 5,
                         .filters = 8,
                         .norm = "instancenorm",
                         .dropout = 0.25,
                         .residual = true};
  std::map<std::string, std::string> metadata;
  describe_network(options, metadata);
  const NetworkOptions read = network_options_from(metadata, "w.safetensors");
  CHECK(read.name == "vnet_original");
  CHECK(read.in_channels == 3);
  CHECK(read.classes == 5);
  CHECK(read.filters == 8);
  CHECK(read.norm == "instancenorm");
  CHECK(read.dropout == 0.25);
  CHECK(read.residual);

  metadata.erase("semivox.classes");
  NetworkOptions defaults;
  defaults.classes = 7;
  CHECK(network_options_from(metadata, "w.safetensors", defaults).classes == 7);

  metadata["semivox.filters"] = "sixteen";
  CHECK(mentions(data_error([&] { network_options_from(metadata, "w.safetensors"); }), "w.safetensors",
                 "semivox.filters", "sixteen"));
  metadata["semivox.filters"] = "16";
  metadata["semivox.residual"] = "yes";
  CHECK(mentions(data_error([&] { network_options_from(metadata, "w.safetensors"); }), "w.safetensors",
                 "semivox.residual", "yes"));
}
