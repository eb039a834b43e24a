// A few iterations of a method through the Method interface on a small random problem.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "methods/checkpoint.hpp"
#include "methods/method.hpp"
#include "tests/temporary_folder.hpp"

namespace semivox::testing {

class TinyRun {
 public:
  /// `dropout` of the student; the method's own random ingredients are options.
  TinyRun(const std::string& name, const std::map<std::string, std::string>& options, double dropout = 0,
          DType precision = DType::f32)
      : info_(find_method(name)) {
    OptionReader reader(options);
    method_ = info_.make(reader);
    reader.finish(name);
    setup_.network.name = info_.networks.empty() ? "vnet" : info_.networks.front();
    setup_.network.filters = 2;
    setup_.network.dropout = dropout;
    setup_.precision = precision;
    setup_.iterations = 100;
    method_->build(setup_);
  }

  /// A patch of noise with a brighter ball in it, somewhere else in every sample, and the ball's label.
  Batch batch(int64_t iteration) const {
    const Phase phase = method_->phases(setup_).front();
    const Shape shape{phase.labeled + phase.unlabeled, 1, 16, 16, 16};
    Batch batch{Tensor::empty(shape, DType::f32, {}), Tensor::zeros(shape, DType::u8, {}), phase.labeled};
    const RandomStream noise{11, static_cast<uint64_t>(iteration), 0};
    for (int64_t i = 0; i < shape.rows(); ++i) {
      const int64_t n = i / shape.voxels(), v = i % shape.voxels();
      const int64_t d = v / 256 - 6 - n, h = v / 16 % 16 - 8, w = v % 16 - 9 + iteration % 3;
      const bool ball = d * d + h * h + w * w <= 20;
      batch.image.data<float>()[i] = (ball ? 1.5f : 0.0f) + 0.3f * noise.normal(static_cast<uint64_t>(i));
      if (n < phase.labeled) batch.label.data<uint8_t>()[i] = ball;
    }
    return batch;
  }

  /// Iterations first ... first+count-1; `seed` is that of the random streams. All numbers are finite.
  std::vector<StepReport> steps(int64_t first, int64_t count, uint64_t seed = 3) {
    std::vector<StepReport> reports;
    for (int64_t i = first; i < first + count; ++i) {
      Random random(seed, static_cast<uint64_t>(i) + 1);
      reports.push_back(method_->step(batch(i), {0, i, 0.01, &random}));
      for (const auto& [term, value] : reports.back()) {
        INFO("iteration ", i, " ", term);
        CHECK(std::isfinite(value));
      }
    }
    return reports;
  }

  Method& method() { return *method_; }
  const MethodSetup& setup() const { return setup_; }

  /// One of `method().networks()`.
  Network& network(const std::string& name) {
    for (const auto& [known, network] : method_->networks()) {
      if (known == name) return *network;
    }
    throw InternalError("no network " + name);
  }

 private:
  const MethodInfo& info_;
  std::unique_ptr<Method> method_;
  MethodSetup setup_;
};

/// Four iterations in one go, and two, a checkpoint, and two more by a method built anew: the same numbers
/// and weights, bit for bit.
inline void check_resume(const std::string& name, const std::map<std::string, std::string>& options) {
  const TemporaryFolder folder;
  const std::string path = folder / "state.safetensors";
  TinyRun whole(name, options, 0.5), first(name, options, 0.5), second(name, options, 0.5);
  const std::vector<StepReport> expected = whole.steps(0, 4);
  first.steps(0, 2);
  save_checkpoint(path, first.method(), {0, 2}, {});
  CHECK(load_checkpoint(path, second.method(), {}).iteration == 2);
  const std::vector<StepReport> found = second.steps(2, 2);
  CHECK(found[0] == expected[2]);
  CHECK(found[1] == expected[3]);
  for (const auto& [network_name, network] : whole.method().networks()) {
    CAPTURE(network_name);
    Network& other = second.network(network_name);
    CHECK(network->parameters().values().to_doubles() == other.parameters().values().to_doubles());
    CHECK(network->parameters().buffer_values().to_doubles() ==
          other.parameters().buffer_values().to_doubles());
  }
}

}  // namespace semivox::testing
