// `semivox info`: what this program is built from and what it finds on this machine.
#include <hdf5.h>
#include <png.h>
#include <zlib.h>

#include <oneapi/dnnl/dnnl.h>
#include <CLI/CLI.hpp>
#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "apps/commands.hpp"
#include "build_info.hpp"
#include "engine/device.hpp"
#include "engine/error.hpp"
#include "engine/parallel.hpp"

#ifdef SEMIVOX_CUDA
#include <cublas_v2.h>
#include <cudnn.h>
#endif

namespace semivox {

namespace {

using Json = nlohmann::ordered_json;

/// Those of the processor's features that the kernels or oneDNN make use of.
std::vector<std::string> cpu_features() {
  std::ifstream cpuinfo("/proc/cpuinfo");
  std::string line;
  while (std::getline(cpuinfo, line) && line.rfind("flags", 0) != 0) {
  }
  std::vector<std::string> found;
  std::istringstream words(line);
  for (std::string word; words >> word;) {
    for (const char* useful : {"avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16"}) {
      if (word == useful) found.push_back(word);
    }
  }
  return found;
}

Json libraries() {
  const dnnl_version_t* onednn = dnnl_version();
  unsigned major = 0, minor = 0, release = 0;
  H5get_libversion(&major, &minor, &release);
  Json versions = {
      {"oneDNN", text(onednn->major, ".", onednn->minor, ".", onednn->patch)},
      {"Eigen", build::kEigen},
      {"HDF5", text(major, ".", minor, ".", release)},
      {"zlib", zlibVersion()},
      {"libpng", png_get_libpng_ver(nullptr)},
  };
#ifdef SEMIVOX_CUDA
  // The compiled-in numbers: asking the GPU libraries would start them, and that takes a device.
  versions["CUDA"] = text(CUDART_VERSION / 1000, ".", CUDART_VERSION % 1000 / 10);
  versions["cuBLAS"] = text(CUBLAS_VER_MAJOR, ".", CUBLAS_VER_MINOR, ".", CUBLAS_VER_PATCH);
  const size_t cudnn = cudnnGetVersion();
  versions["cuDNN"] = text(cudnn / 10000, ".", cudnn % 10000 / 100, ".", cudnn % 100);
#endif
  return versions;
}

Json collect() {
  Json devices = Json::array({describe_device({})});
  for (int i = 0; i < cuda_device_count(); ++i) devices.push_back(describe_device({DeviceKind::cuda, i}));
  return {
      {"version", build::kVersion},
      {"build", build::kType},
      {"compiler", build::kCompiler},
      {"flags", build::kFlags},
      {"sanitizers", std::string(build::kSanitizers) == "ON"},
      {"gpu_code", build::kGpu},
      {"devices", devices},
      {"cuda_unavailable", cuda_unavailable_reason()},
      {"threads", thread_count()},
      {"cpu_features", cpu_features()},
      {"libraries", libraries()},
  };
}

void print(const Json& facts) {
  const auto line = [](const std::string& name, const auto& value) {
    std::cout << name << std::string(name.size() < 14 ? 14 - name.size() : 1, ' ') << value << '\n';
  };
  line("semivox", facts["version"].get<std::string>());
  line("build", text(facts["build"].get<std::string>(), ", ", facts["compiler"].get<std::string>()));
  line("flags", facts["flags"].get<std::string>());
  if (facts["sanitizers"].get<bool>()) line("sanitizers", "address, undefined");
  line("gpu code", facts["gpu_code"].get<std::string>());
  for (const auto& device : facts["devices"]) line("device", device.get<std::string>());
  const auto unavailable = facts["cuda_unavailable"].get<std::string>();
  if (!unavailable.empty()) line("no GPU", unavailable);
  line("threads", facts["threads"].get<int>());
  std::string features;
  for (const auto& feature : facts["cpu_features"]) features += feature.get<std::string>() + " ";
  line("cpu features", features);
  for (const auto& [name, version] : facts["libraries"].items()) line(name, version.get<std::string>());
}

}  // namespace

void add_info_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("info", "Version, build, devices, libraries");
  const auto as_json = std::make_shared<bool>(false);
  command->add_flag("--json", *as_json, "Print JSON");
  command->callback([as_json] {
    const Json facts = collect();
    if (*as_json) {
      std::cout << facts.dump(2) << '\n';
    } else {
      print(facts);
    }
  });
}

}  // namespace semivox
