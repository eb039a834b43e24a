// Sliding-window prediction against a plain loop in f64, with a network whose answer depends on where in the
// window a voxel lies; and a V-Net's probabilities against PyTorch's.
#include "methods/sliding_window.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "engine/error.hpp"

using namespace semivox;

namespace {

using Axes = std::array<int64_t, 3>;
using Weighting = WindowOptions::Weighting;

/// Logit of class k from the voxel's value and its position (i, j, l) in the window.
double probe_logit(int64_t k, double value, int64_t i, int64_t j, int64_t l) {
  const double z = value * static_cast<double>(k + 1) + 0.05 * static_cast<double>(i * (k + 1)) -
                   0.03 * static_cast<double>(j * k) + 0.02 * static_cast<double>(l * (k - 1));
  return z;
}

/// A network without parameters, to see every window's place and content in the result.
class Probe : public Network {
 public:
  explicit Probe(int64_t classes, bool flat = false, Device device = {})
      : Network(NetworkOptions{.classes = classes}), flat_(flat) {
    allocate(DType::f32, device, false);
  }
  Axes divisor() const override { return {2, 1, 4}; }
  int64_t windows = 0, passes = 0;

 protected:
  Variable run(const Variable& x, const Pass& pass) override {
    CHECK_FALSE(pass.training);
    CHECK_FALSE(gradients_enabled());
    const Shape s = x.shape();
    windows += s.n;
    ++passes;
    const Tensor image = x.value().to(Device{});
    const Tensor logits = Tensor::zeros(s.with_channels(options_.classes), DType::f32, Device{});
    for (int64_t row = 0; row < s.rows() && !flat_; ++row) {
      const int64_t l = row % s.w, j = row / s.w % s.h, i = row / (s.w * s.h) % s.d;
      for (int64_t k = 0; k < options_.classes; ++k) {
        logits.data<float>()[row * options_.classes + k] =
            static_cast<float>(probe_logit(k, image.data<float>()[row], i, j, l));
      }
    }
    return Variable(logits.to(device()));
  }

 private:
  bool flat_;
};

Tensor wave(const Axes& shape) {
  const Tensor image = Tensor::empty({1, 1, shape[0], shape[1], shape[2]}, DType::f32, Device{});
  for (int64_t i = 0; i < image.elements(); ++i)
    image.data<float>()[i] = std::sin(0.37f * static_cast<float>(i));
  return image;
}

double gaussian(int64_t p, int64_t patch) {
  const double sigma = static_cast<double>(patch) / 8,
               x = static_cast<double>(p) - static_cast<double>(patch - 1) / 2;
  return std::exp(-x * x / (2 * sigma * sigma));
}

/// The definition, in f64: pads the volume, walks over the windows, adds and divides.
std::vector<double> plain_prediction(const Tensor& image, int64_t classes, const WindowOptions& options) {
  const Axes size{image.shape().d, image.shape().h, image.shape().w};
  Axes padded, before;
  for (int a = 0; a < 3; ++a) {
    padded[a] = std::max(size[a], options.patch[a]);
    before[a] = (padded[a] - size[a]) / 2;
  }
  const auto index = [](const Axes& shape, int64_t i, int64_t j, int64_t l) {
    return (i * shape[1] + j) * shape[2] + l;
  };
  std::vector<double> volume(padded[0] * padded[1] * padded[2], 0.0);
  for (int64_t i = 0; i < size[0]; ++i) {
    for (int64_t j = 0; j < size[1]; ++j) {
      for (int64_t l = 0; l < size[2]; ++l) {
        volume[index(padded, i + before[0], j + before[1], l + before[2])] =
            image.data<float>()[index(size, i, j, l)];
      }
    }
  }
  std::vector<double> score(volume.size() * classes, 0.0), weight(volume.size(), 0.0);
  Axes count;
  for (int a = 0; a < 3; ++a) {
    count[a] = static_cast<int64_t>(std::ceil(static_cast<double>(padded[a] - options.patch[a]) /
                                              static_cast<double>(options.stride[a]))) +
               1;
  }
  const Axes& p = options.patch;
  for (int64_t window = 0; window < count[0] * count[1] * count[2] * 8; ++window) {
    const int64_t number = window / 8;
    const bool flip[3] = {(window & 1) != 0, (window & 2) != 0, (window & 4) != 0};
    if (!options.mirror && (flip[0] || flip[1] || flip[2])) continue;
    const Axes step{number / (count[1] * count[2]), number / count[2] % count[1], number % count[2]};
    Axes start;
    for (int a = 0; a < 3; ++a) start[a] = std::min(step[a] * options.stride[a], padded[a] - p[a]);
    for (int64_t i = 0; i < p[0]; ++i) {
      for (int64_t j = 0; j < p[1]; ++j) {
        for (int64_t l = 0; l < p[2]; ++l) {
          const int64_t v = index(padded, start[0] + i, start[1] + j, start[2] + l);
          double sum = 0;
          std::vector<double> e(classes);
          for (int64_t k = 0; k < classes; ++k) {
            e[k] = std::exp(probe_logit(k, volume[v], flip[0] ? p[0] - 1 - i : i, flip[1] ? p[1] - 1 - j : j,
                                        flip[2] ? p[2] - 1 - l : l));
            sum += e[k];
          }
          const double w = options.weighting == Weighting::uniform
                               ? 1.0
                               : gaussian(i, p[0]) * gaussian(j, p[1]) * gaussian(l, p[2]);
          weight[v] += w;
          for (int64_t k = 0; k < classes; ++k) score[v * classes + k] += w * e[k] / sum;
        }
      }
    }
  }
  std::vector<double> result;
  for (int64_t i = 0; i < size[0]; ++i) {
    for (int64_t j = 0; j < size[1]; ++j) {
      for (int64_t l = 0; l < size[2]; ++l) {
        const int64_t v = index(padded, i + before[0], j + before[1], l + before[2]);
        for (int64_t k = 0; k < classes; ++k) result.push_back(score[v * classes + k] / weight[v]);
      }
    }
  }
  return result;
}

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  REQUIRE(a.size() == b.size());
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(a[i] - b[i]));
  return largest;
}

std::string usage_error(const std::function<void()>& action) {
  try {
    action();
  } catch (const UsageError& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("probabilities equal the plain definition") {
  const Axes shapes[] = {{13, 9, 17}, {8, 5, 8}, {5, 11, 3}, {1, 1, 1}, {7, 4, 21}};
  int compared = 0;
  for (const Axes& shape : shapes) {
    for (const Weighting weighting : {Weighting::uniform, Weighting::gaussian}) {
      for (const bool mirror : {false, true}) {
        for (const int64_t classes : {int64_t{2}, int64_t{5}}) {
          WindowOptions options{
              .patch = {8, 5, 8}, .stride = {3, 4, 5}, .weighting = weighting, .batch = 3, .mirror = mirror};
          const Tensor image = wave(shape);
          Probe network(classes);
          const Tensor probabilities = predict_probabilities(network, image, options);
          CHECK(probabilities.shape() == image.shape().with_channels(classes));
          CHECK(largest_difference(probabilities.to_doubles(), plain_prediction(image, classes, options)) <
                1e-6);
          ++compared;
        }
      }
    }
  }
  CHECK(compared == 40);
}

TEST_CASE("every voxel is covered, and divided by as many windows as cover it") {
  for (int64_t size = 1; size <= 23; ++size) {
    for (int64_t stride = 1; stride <= 4; ++stride) {
      Probe network(2, true);  // 1/2 everywhere: any missed or doubly counted window shows
      const WindowOptions options{.patch = {4, 3, 4}, .stride = {stride, 2, 3}, .batch = 7};
      const Tensor image = wave({size, 5, 6});
      for (const double p : predict_probabilities(network, image, options).to_doubles()) REQUIRE(p == 0.5);
      REQUIRE(network.windows == window_count(network, {size, 5, 6}, options));
    }
  }
}

TEST_CASE("windows start where the papers' do") {
  CHECK(window_starts(88, 80, 4) == std::vector<int64_t>{0, 4, 8});
  CHECK(window_starts(175, 112, 18) == std::vector<int64_t>{0, 18, 36, 54, 63});
  CHECK(window_starts(112, 112, 18) == std::vector<int64_t>{0});
  CHECK(window_starts(113, 112, 18) == std::vector<int64_t>{0, 1});
}

TEST_CASE("the batch of windows does not change a bit") {
  const Tensor image = wave({13, 9, 17});
  WindowOptions options{.patch = {8, 5, 8}, .stride = {3, 4, 5}, .batch = 1, .mirror = true};
  Probe one(3), many(3);
  const std::vector<double> expected = predict_probabilities(one, image, options).to_doubles();
  options.batch = 5;
  CHECK(predict_probabilities(many, image, options).to_doubles() == expected);
  CHECK(one.windows == many.windows);
  CHECK(many.passes == (many.windows + 4) / 5);
}

TEST_CASE("whole volume: one window, padded to what the network can take") {
  const Tensor image = wave({5, 7, 9});
  Probe network(2);
  const std::vector<double> found =
      predict_probabilities(network, image, {.patch = {}, .stride = {}, .whole_volume = true}).to_doubles();
  CHECK(network.windows == 1);
  CHECK(largest_difference(found, plain_prediction(image, 2, {.patch = {6, 7, 12}, .stride = {1, 1, 1}})) <
        1e-6);
}

TEST_CASE("options that cannot work are refused") {
  Probe network(2);
  const auto refusal = [&](const WindowOptions& options) {
    return usage_error([&] { predict_probabilities(network, wave({8, 8, 8}), options); });
  };
  CHECK(refusal({.patch = {8, 8, 8}, .stride = {8, 8, 8}}).empty());
  CHECK(refusal({.patch = {7, 8, 8}, .stride = {4, 4, 4}}) ==
        "patch: found 7x8x8, expected multiples of 2x1x4");
  CHECK(refusal({.patch = {8, 0, 8}, .stride = {4, 4, 4}}).find("8x0x8") != std::string::npos);
  CHECK(refusal({.patch = {8, 8, 8}, .stride = {4, 9, 4}}).find("leaves gaps") != std::string::npos);
  CHECK(refusal({.patch = {8, 8, 8}, .stride = {4, 0, 4}}).find("4x0x4") != std::string::npos);
  CHECK(refusal({.patch = {8, 8, 8}, .stride = {4, 4, 4}, .batch = 0}).find("batch") != std::string::npos);
}

TEST_CASE("labels: highest probability, ties to the lower class, largest component on request") {
  const Tensor probabilities = Tensor::zeros({1, 3, 1, 1, 6}, DType::f32, Device{});
  const float rows[6][3] = {{0.2f, 0.4f, 0.4f}, {0.5f, 0.5f, 0.0f}, {0.1f, 0.6f, 0.3f},
                            {0.2f, 0.5f, 0.3f}, {0.3f, 0.3f, 0.4f}, {1.0f, 0.0f, 0.0f}};
  for (int64_t i = 0; i < 18; ++i) probabilities.data<float>()[i] = rows[i / 3][i % 3];
  CHECK(argmax_labels(probabilities).to_doubles() == std::vector<double>{1, 0, 1, 1, 2, 0});
  CHECK(argmax_labels(probabilities, 6).to_doubles() == std::vector<double>{0, 0, 1, 1, 2, 0});
}

TEST_CASE("sliding window: CUDA equals the CPU") {
  if (cuda_device_count() == 0) {
    MESSAGE("skipped: " << cuda_unavailable_reason());
    return;
  }
  const Device gpu{DeviceKind::cuda, 0};
  const Tensor image = wave({13, 3, 17});
  Probe on_cpu(3), on_gpu(3, false, gpu);
  const WindowOptions options{
      .patch = {8, 5, 8}, .stride = {3, 4, 5}, .weighting = Weighting::gaussian, .batch = 3, .mirror = true};
  const Tensor expected = predict_probabilities(on_cpu, image, options);
  const Tensor found = predict_probabilities(on_gpu, image.to(gpu), options);
  CHECK(largest_difference(found.to_doubles(), expected.to_doubles()) < 1e-6);
  CHECK(argmax_labels(expected.to(gpu), 18).to_doubles() == argmax_labels(expected, 18).to_doubles());
}

// The reference's numbers: tests/goldens/make_sliding.py.
namespace {

/// u(i, number): a hash of both, in [-1, 1).
double golden_noise(uint32_t i, uint32_t number) {
  const uint32_t s = (i + 1) * 747796405u + (number + 1) * 2891336453u;
  const uint32_t w = ((s >> ((s >> 28) + 4)) ^ s) * 277803737u;
  return 2.0 * static_cast<double>((w >> 22) ^ w) / 4294967296.0 - 1.0;
}

void fill_with_noise(Parameter& parameter, uint32_t number, double base, double factor,
                     bool absolute = false) {
  for (int64_t i = 0; i < parameter.count; ++i) {
    const double u = golden_noise(static_cast<uint32_t>(i), number);
    parameter.value.data<float>()[i] = static_cast<float>(base + factor * (absolute ? std::abs(u) : u));
  }
}

/// Parameter p takes noise p: convolutions sqrt(6 / fan) u, norm weights 1 + 0.1 u, biases 0.05 u; norm j
/// takes noise 2000 + 2j for its running mean 0.05 u and 2001 + 2j for its running variance 1 + 0.3 |u|.
void fill_by_formula(Network& network) {
  uint32_t number = 0, norm = 2000;
  for (Parameter& parameter : network.parameters().parameters()) {
    const std::vector<int64_t>& dims = parameter.dims;
    const bool transposed = parameter.name.find("_up.conv.0.weight") != std::string::npos;
    if (dims.size() == 5) {
      const int64_t fan = transposed ? dims[0] : dims[1] * dims[2] * dims[3] * dims[4];
      fill_with_noise(parameter, number, 0.0, std::sqrt(6.0 / static_cast<double>(fan)));
    } else if (parameter.name.ends_with("weight")) {
      fill_with_noise(parameter, number, 1.0, 0.1);
    } else {
      fill_with_noise(parameter, number, 0.0, 0.05);
    }
    ++number;
  }
  for (Parameter& buffer : network.parameters().buffers()) {
    if (buffer.name.ends_with("running_mean")) fill_with_noise(buffer, norm++, 0.0, 0.05);
    if (buffer.name.ends_with("running_var")) fill_with_noise(buffer, norm++, 1.0, 0.3, true);
  }
  network.parameters().touch();
}

}  // namespace

TEST_CASE("a V-Net's sliding-window probabilities equal PyTorch's") {
  const auto golden = nlohmann::json::parse(std::ifstream(SEMIVOX_TEST_DATA "/sliding.json"));
  const auto network = make_network({.classes = 2, .filters = golden["network"]["filters"]});
  network->allocate(DType::f32, Device{}, false);
  fill_by_formula(*network);
  const WindowOptions options{.patch = golden["patch"], .stride = golden["stride"], .batch = 3};
  int volumes = 0;
  for (const auto& [name, expected] : golden["volumes"].items()) {
    CAPTURE(name);
    const Axes shape = expected["shape"];
    const Tensor image = Tensor::empty({1, 1, shape[0], shape[1], shape[2]}, DType::f32, Device{});
    double image_sum = 0;
    for (int64_t i = 0; i < image.elements(); ++i) {
      image.data<float>()[i] = static_cast<float>(std::sin(0.013 * static_cast<double>(i)) +
                                                  0.5 * golden_noise(static_cast<uint32_t>(i), 9999));
      image_sum += image.data<float>()[i];
    }
    REQUIRE(image_sum == doctest::Approx(expected["image_sum"].get<double>()).epsilon(1e-9));

    const Tensor probabilities = predict_probabilities(*network, image, options);
    const float* p = probabilities.data<float>();
    double largest = 0, sum = 0;
    const std::vector<int64_t> positions = expected["positions"];
    for (size_t i = 0; i < positions.size(); ++i) {
      largest =
          std::max(largest, std::abs(p[2 * positions[i] + 1] - expected["probabilities"][i].get<double>()));
    }
    for (int64_t i = 0; i < image.elements(); ++i) sum += p[2 * i + 1];
    CHECK(largest < 2e-6);
    CHECK(sum == doctest::Approx(expected["sum"].get<double>()).epsilon(1e-6));

    int64_t foreground = 0;
    const Tensor labels = argmax_labels(probabilities);
    for (int64_t i = 0; i < image.elements(); ++i) foreground += labels.data<uint8_t>()[i];
    // Rounding may turn only the voxels whose probability lies within 1e-5 of the decision.
    const int64_t undecided = expected["undecided"]["1e-05"];
    CHECK(std::abs(foreground - expected["foreground_voxels"].get<int64_t>()) <= undecided);
    ++volumes;
  }
  CHECK(volumes == 2);
}
