// Settings of a run: where values come from, how they are looked up, read and written.

#include "apps/run_config.hpp"

#include <doctest/doctest.h>

#include <filesystem>
#include <functional>

#include "apps/training_options.hpp"
#include "layers/network.hpp"
#include "methods/method.hpp"
#include "tests/temporary_folder.hpp"

using namespace semivox;

namespace {

std::string usage_error(const std::function<void()>& action) {
  try {
    action();
  } catch (const UsageError& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE(
    "run config: the file goes before the defaults, the command line before the file, --set before both") {
  const TemporaryFolder folder;
  write_bytes(folder / "a.toml",
              "[train]\nlr = 0.05\niterations = 700\nbatch = 6\n[data]\nspacing = 1.25\n"
              "[network]\nresidual = true\n[method]\npseudo_weight = 0.25\n");
  TrainingOptions options;
  options.config_file = folder / "a.toml";
  options.given = {{"train.iterations", "50"}, {"train.batch", "8"}};
  options.set = {"train.batch=2", "mask=grid"};
  const RunConfig config = options.resolve();
  CHECK(config.integer("train.seed", 0) == 1337);  // default
  CHECK(config.number("train.lr", 0) == 0.05);     // file
  CHECK(config.flag("network.residual"));
  CHECK(config.spacing("data.spacing") == std::array<double, 3>{1.25, 1.25, 1.25});
  CHECK(config.integer("train.iterations", 1) == 50);  // command line
  CHECK(config.integer("train.batch", 1) == 2);        // --set
  CHECK(config.method_options() ==
        std::map<std::string, std::string>{{"mask", "grid"}, {"pseudo_weight", "0.25"}});
}

TEST_CASE("run config: names with section, without, and of methods") {
  RunConfig config;
  config.set("train.lr", "1", "command line");
  CHECK(config.value("train.lr") == "1");
  config.set("lr", "2", "command line");
  CHECK(config.value("train.lr") == "2");
  config.set("stride", "8x8x4", "command line");
  CHECK(config.extent("window.stride") == std::array<int64_t, 3>{8, 8, 4});
  CHECK(mentions(usage_error([&] { config.set("batch", "2", "--set"); }), "train.batch", "window.batch"));
  config.set("method.noise", "0", "command line");
  config.set("passes", "4", "command line");
  CHECK(config.method_options() == std::map<std::string, std::string>{{"noise", "0"}, {"passes", "4"}});
  config.keep_options_of("mean_teacher", false);  // what was typed stays, for the method to refuse it
  CHECK(config.method_options().size() == 2);
  config.keep_options_of("mean_teacher", true);  // has noise, but no passes
  CHECK(config.method_options() == std::map<std::string, std::string>{{"noise", "0"}});
  config.set("method.passes", "4", "a.toml:9");
  config.keep_options_of("mean_teacher", false);  // a file may serve several methods
  CHECK(config.method_options() == std::map<std::string, std::string>{{"noise", "0"}});

  for (const char* key : {"foo", "train.foo", "method.foo", "method.lr", "", "lr.train"}) {
    CAPTURE(key);
    CHECK(mentions(usage_error([&] { config.set(key, "1", "--set"); }), "--set", text("'", key, "'")));
  }
  TrainingOptions options;
  options.set = {"no-equals"};
  CHECK(mentions(usage_error([&] { options.resolve(); }), "no-equals", "key=value"));
}

TEST_CASE("run config: a method's own section goes before [method], and only for that method") {
  const TemporaryFolder folder;
  write_bytes(
      folder / "a.toml",
      "[method]\nconsistency = 0.2\nnoise = 0.3\n"
      "[method.mean_teacher]\nconsistency = 0.5\nema_decay = 0.9\n[method.cvbm]\nsoftmax_twice = false\n");
  RunConfig file;
  file.read_file(folder / "a.toml");
  using Options = std::map<std::string, std::string>;
  const auto options_of = [](RunConfig config, const std::string& method) {
    config.keep_options_of(method, true);
    return config.method_options();
  };
  CHECK(options_of(file, "mean_teacher") ==
        Options{{"consistency", "0.5"}, {"ema_decay", "0.9"}, {"noise", "0.3"}});
  CHECK(options_of(file, "ua_mt") == Options{{"consistency", "0.2"}, {"noise", "0.3"}});
  CHECK(options_of(file, "cvbm") == Options{{"consistency", "0.2"}, {"softmax_twice", "false"}});
  file.set("consistency", "1", "command line");
  CHECK(options_of(file, "mean_teacher") ==
        Options{{"consistency", "1"}, {"ema_decay", "0.9"}, {"noise", "0.3"}});

  const auto refusal = [&](const std::string& content) {
    write_bytes(folder / "b.toml", content);
    RunConfig config;
    return usage_error([&] { config.read_file(folder / "b.toml"); });
  };
  CHECK(mentions(refusal("[method.bpc]\nmask = \"grid\"\n"), "b.toml:1", "no method 'bpc'"));
  CHECK(mentions(refusal("[method.bcp]\n\nnoise = 1\n"), "b.toml:3", "bcp has no option 'noise'"));
  CHECK(mentions(refusal("[method.bcp]\nmask = [1]\n"), "b.toml:2", "expected a number"));
}

TEST_CASE("run config: values of the wrong type are named with what was found and expected") {
  RunConfig config;
  const auto message = [&](const std::string& key, const std::string& value, const std::string& origin,
                           const std::function<void()>& read) {
    config.set(key, value, origin);
    return usage_error(read);
  };
  const auto batch = [&] { config.integer("train.batch", 1); };
  CHECK(mentions(message("train.batch", "x", "command line", batch), "train.batch", "found 'x'",
                 "integer >= 1"));
  CHECK(mentions(message("train.batch", "0", "command line", batch), "found '0'", ">= 1"));
  CHECK(mentions(message("train.batch", "2.5", "a.toml:7", batch), "a.toml:7", "found '2.5'"));
  CHECK(mentions(message("train.batch", "4 ", "command line", batch), "found '4 '"));
  CHECK(mentions(message("train.batch", "99999999999999999999", "command line", batch), "integer"));
  const auto rate = [&] { config.number("train.lr", 0); };
  for (const char* value : {"fast", "-0.1", "", "nan", "0.1x"}) {
    CAPTURE(value);
    CHECK(mentions(message("train.lr", value, "command line", rate), "train.lr", text("found '", value, "'"),
                   "number >= 0"));
  }
  CHECK(message("train.lr", "1e-3", "command line", rate) == "");
  CHECK(mentions(message("network.residual", "yes", "command line", [&] { config.flag("network.residual"); }),
                 "network.residual", "'yes'", "true or false"));
  const auto patch = [&] { config.extent("train.patch"); };
  for (const char* value : {"112", "axbxc", "1x2x3x4", "0x2x3", "-1x2x3"}) {
    CAPTURE(value);
    CHECK(mentions(message("train.patch", value, "command line", patch), "train.patch", "112x112x80"));
  }
  CHECK(mentions(message("data.spacing", "wide", "command line", [&] { config.spacing("data.spacing"); }),
                 "data.spacing", "'wide'", "mm"));
}

TEST_CASE("run config: files that cannot be used are named with the line") {
  const TemporaryFolder folder;
  const std::string path = folder / "a.toml";
  RunConfig config;
  const auto usage = [&](const std::string& content) {
    write_bytes(path, content);
    return usage_error([&] { config.read_file(path); });
  };
  CHECK(mentions(usage("[train]\nlr = 1\niteratons = 5\n"), path + ":3", "iteratons"));
  CHECK(mentions(usage("\n\nlr = 1\n"), path + ":3", "lr", "[section]"));
  CHECK(mentions(usage("[train]\npatch = [1, 2, 3]\n"), path + ":2", "list"));
  CHECK(mentions(usage("[trane]\nlr = 1\n"), path + ":2", "trane.lr"));
  write_bytes(path, "[train]\nlr = = 1\n");
  CHECK(mentions(usage_error([&] { config.read_file(path); }), path + ":2", "TOML"));
  CHECK(mentions(data_error([&] { config.read_file(folder / "none.toml"); }), folder / "none.toml",
                 "does not exist"));
}

TEST_CASE("run config: what is written reads back equal") {
  RunConfig config;
  config.set("data.folder", "/data/a \"quoted\" \\ folder", "command line");
  config.set("train.lr", "0.01234567890123457", "command line");
  config.set("data.normalize", "window:-100:240", "command line");
  config.set("network.residual", "true", "command line");
  config.set("train.init", "12", "command line");
  config.set("train.weight_decay", ".5", "command line");  // fine for us, no number for TOML
  config.set("train.seed", "007", "command line");
  config.set("train.momentum", "1e-07", "command line");
  const std::map<std::string, std::string> options{
      {"mask_corner", "3,4,2"}, {"pretrain", "0.25"}, {"ema_buffers", "false"}};

  const TemporaryFolder folder;
  write_bytes(folder / "config.toml", config.toml(options));
  RunConfig read;
  read.read_file(folder / "config.toml");
  CHECK(read.method_options() == options);
  REQUIRE(read.settings().size() == config.settings().size());
  for (size_t i = 0; i < read.settings().size(); ++i) {
    const Setting &a = config.settings()[i], &b = read.settings()[i];
    CAPTURE(a.key);
    CHECK(b.key == a.key);
    CHECK(b.value == a.value);
  }
  CHECK(read.toml(options) == config.toml(options));
}

TEST_CASE("run config: a method's network is taken when nobody names one, and others are refused") {
  RunConfig config;
  config.choose_network_for("supervised");  // trains any network
  CHECK(config.value("network.name") == "vnet");
  config.choose_network_for("dtc");
  CHECK(config.value("network.name") == "vnet_sdf");
  config.set("network.name", "unet3d", "command line");
  config.choose_network_for("supervised");
  CHECK(config.value("network.name") == "unet3d");
  CHECK(usage_error([&] { config.choose_network_for("dtc"); }) ==
        "network.name: found 'unet3d', expected vnet_sdf for method dtc");
  config.set("network.name", "vnet", "my.toml:4");
  CHECK(usage_error([&] { config.choose_network_for("dtc"); }) ==
        "my.toml:4: network.name: found 'vnet', expected vnet_sdf for method dtc");
}

TEST_CASE("run config: a method's option that is no number is refused with the place where it was set") {
  const TemporaryFolder folder;
  write_bytes(folder / "c.toml", "[train]\nmethod = \"mean_teacher\"\n[method]\nconsistency = \"x\"\n");
  RunConfig config;
  config.read_file(folder / "c.toml");
  OptionReader reader(config.method_options(), config.method_origins());
  const std::string message = usage_error([&] { find_method("mean_teacher").make(reader); });
  CHECK(mentions(message, "c.toml:4: option consistency", "'x'", "expected a number"));
}

TEST_CASE("presets: every file in configs/ is read, and its methods take its network, options and patch") {
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(SEMIVOX_TEST_DATA "/../../configs")) {
    const std::string path = entry.path().string();
    CAPTURE(path);
    RunConfig preset;
    preset.read_file(path);
    int methods = 0;
    for (const MethodInfo& info : registered_methods()) {
      const std::string method = preset.value("train.method");
      if (!method.empty() && method != info.name) continue;
      CAPTURE(info.name);
      RunConfig config = preset;
      config.keep_options_of(info.name, false);
      // A preset for any method may name a network that some do not train.
      if (method.empty() && !usage_error([&] { config.choose_network_for(info.name); }).empty()) continue;
      config.choose_network_for(info.name);
      OptionReader reader(config.method_options());
      CHECK(info.make(reader) != nullptr);
      CHECK_NOTHROW(reader.finish(info.name));
      const auto divisor = make_network({.name = config.value("network.name")})->divisor();
      const auto patch = config.extent("train.patch");
      for (size_t axis = 0; axis < 3; ++axis) CHECK(patch[axis] % divisor[axis] == 0);
      ++methods;
    }
    CHECK(methods > 0);
    ++files;
  }
  CHECK(files >= 35);
}
