// CML: its networks, its losses and a few iterations. Numbers are those of the published code.

#include <doctest/doctest.h>

#include "kernels/conflict.hpp"
#include "methods/cml.hpp"
#include "tests/network_check.hpp"
#include "tests/two_phase_check.hpp"

using namespace semivox;
using namespace semivox::testing;

namespace {

/// scale * u(i, tag), rounded to f32 like the reference's inputs.
double filled(double scale, int64_t i, uint32_t tag) {
  return static_cast<float>(scale * tag_noise(static_cast<uint32_t>(i), tag));
}

double norm(const std::vector<double>& values) {
  double total = 0;
  for (const double v : values) total += v * v;
  return std::sqrt(total);
}

/// The channels first ... first+count-1 in the order of (N, C, D, H, W).
std::vector<double> channels_of(const Tensor& t, int64_t first, int64_t count) {
  const std::vector<double> values = t.to_doubles();
  const Shape& s = t.shape();
  std::vector<double> part;
  for (int64_t n = 0; n < s.n; ++n) {
    for (int64_t c = first; c < first + count; ++c) {
      for (int64_t v = 0; v < s.voxels(); ++v)
        part.push_back(values[static_cast<size_t>((n * s.voxels() + v) * s.c + c)]);
    }
  }
  return part;
}

/// Two embeddings of 8 numbers with tags 1 and 2, through ReLU or not, side by side.
Tensor embeddings(bool relu) {
  return by_formula<double>({2, 16, 2, 2, 2}, [&](int64_t i) {
    const int64_t v = i % 8, c = i / 8 % 16, n = i / 128;
    const double value = filled(4, (n * 8 + c % 8) * 8 + v, c < 8 ? 1 : 2);
    return relu ? std::max(value, 0.0) : value;
  });
}

void check_mean_and_deviation(const std::vector<double>& values, double mean, double deviation,
                              double tolerance) {
  double sum = 0, squares = 0;
  for (const double v : values) sum += v;
  const double found = sum / static_cast<double>(values.size());
  for (const double v : values) squares += (v - found) * (v - found);
  CHECK(std::abs(found - mean) < tolerance);
  CHECK(std::abs(std::sqrt(squares / static_cast<double>(values.size())) - deviation) < tolerance);
}

/// `to` gets the parameters of `from` whose names begin with one of the prefixes, under the new prefix.
void copy_parameters(Network& from, Network& to, const std::map<std::string, std::string>& prefixes) {
  int copied = 0;
  for (const Parameter& p : from.parameters().parameters()) {
    for (const auto& [old_prefix, new_prefix] : prefixes) {
      if (p.name.rfind(old_prefix, 0) != 0) continue;
      const std::string name = new_prefix + p.name.substr(old_prefix.size());
      for (Parameter& q : to.parameters().parameters()) {
        if (q.name != name) continue;
        Tensor(q.value).copy_from(p.value);
        ++copied;
      }
    }
  }
  to.parameters().touch();
  CHECK(copied > 0);
}

TwoPhaseProblem slices(const std::string& network) {
  return {{{.name = network, .classes = 4, .filters = 2, .dropout = 0}, {4, 1, 1, 32, 16}}};
}

}  // namespace

TEST_CASE("CML 3D: PyTorch's logits and embeddings of both subnetworks") {
  const auto network = tagged_network({.name = "cml"}, 60);
  const NoGrad no_grad;
  const Variable x(tagged_image({2, 1, 32, 32, 32}, DType::f32));
  const NetworkOutput output = network->forward_all(x, {});
  REQUIRE(output.auxiliary.size() == 2);
  check_summary("logits 1", output.auxiliary[0], {0.1844685, 1.0689163, 0.2441888, 0.1407251}, 5e-6);
  check_summary("logits 2", output.auxiliary[1], {-0.1117836, 0.6302472, 0.5861254, -0.2826387}, 5e-6);
  REQUIRE(output.features.shape() == Shape{2, 512, 2, 2, 2});
  check_mean_and_deviation(channels_of(output.features.value(), 0, 256), 0.0540894, 0.0782367, 5e-7);
  check_mean_and_deviation(channels_of(output.features.value(), 256, 256), 0.0370122, 0.0548283, 5e-7);

  const std::vector<double> first = output.auxiliary[0].value().to_doubles(),
                            second = output.auxiliary[1].value().to_doubles(),
                            mean = output.logits.value().to_doubles();
  double worst = 0;
  for (size_t i = 0; i < mean.size(); ++i)
    worst = std::max(worst, std::abs(mean[i] - (first[i] + second[i]) / 2));
  CHECK(worst < 1e-6);
  CHECK(network->forward(x, {}).value().to_doubles() == mean);

  const NetworkOutput training = network->forward_all(x, {true, nullptr});
  check_summary("logits 1", training.auxiliary[0], {0.2789587, 0.7733981, -0.1281841, 0.7056029}, 3e-5);
  check_summary("logits 2", training.auxiliary[1], {-0.0464571, 0.9006363, 1.7207972, 0.0956528}, 3e-5);
  check_mean_and_deviation(channels_of(training.features.value(), 0, 256), 0.4077781, 0.5728689, 5e-6);
  check_mean_and_deviation(channels_of(training.features.value(), 256, 256), 0.4114798, 0.5728213, 5e-6);
}

TEST_CASE("CML 2D as released: PyTorch's logits of one network seen twice") {
  const auto network = tagged_network({.name = "cml_2d_shared", .classes = 4}, 36);
  const NoGrad no_grad;
  const Variable x(tagged_image({2, 1, 1, 64, 64}, DType::f32));
  const NetworkOutput output = network->forward_all(x, {});
  check_summary("logits", output.auxiliary[0], {-1.6201684, 3.6246195, 1.7074931, -0.1578386}, 2e-5);
  CHECK(output.auxiliary[1].value().to_doubles() == output.auxiliary[0].value().to_doubles());
  CHECK(output.logits.value().to_doubles() == output.auxiliary[0].value().to_doubles());
  check_summary("logits", network->forward_all(x, {true, nullptr}).auxiliary[0],
                {-0.0684529, 0.9452888, -0.0673096, 0.4003404}, 3e-5);
}

TEST_CASE("CML 2D: the subnetworks are the U-Net and MC-Net's transposed decoder behind another encoder") {
  const auto network = tagged_network({.name = "cml_2d", .classes = 4}, 46);
  const auto linear = tagged_network({.name = "unet2d", .classes = 4}, 23);
  const auto transposed = tagged_network({.name = "mc_net_2d", .classes = 4}, 36);
  copy_parameters(*network, *linear, {{"encoder1.", "encoder."}, {"decoder1.", "decoder."}});
  copy_parameters(*network, *transposed, {{"encoder2.", "encoder."}, {"decoder2.", "decoder2."}});
  const NoGrad no_grad;
  const Variable x(tagged_image({2, 1, 1, 64, 64}, DType::f32));
  const NetworkOutput output = network->forward_all(x, {});
  CHECK(output.auxiliary[0].value().to_doubles() == linear->forward(x, {}).value().to_doubles());
  CHECK(output.auxiliary[1].value().to_doubles() ==
        transposed->forward_all(x, {}).auxiliary[0].value().to_doubles());
  CHECK(output.features.shape() == Shape{2, 512, 1, 4, 4});
}

TEST_CASE("CML: parameter counts, and gradients of small networks with dropout") {
  CHECK(parameter_count({.name = "cml"}) == 19724612);
  CHECK(parameter_count({.name = "cml_2d", .classes = 4}) == 3758088);
  CHECK(parameter_count({.name = "cml_2d_shared", .classes = 4}) == 2577624);
  check_network_gradient({.name = "cml", .filters = 2}, {2, 1, 32, 16, 16});
  check_network_gradient({.name = "cml_2d", .filters = 2}, {2, 1, 1, 16, 32});
  check_network_gradient({.name = "cml_2d_shared", .filters = 2}, {2, 1, 1, 16, 32});
}

TEST_CASE("CML's supervision: value and gradient of the published code") {
  const auto check = [](const Shape& shape, double value, double first, double last, double length) {
    const Tensor z = by_formula<double>(shape, [](int64_t i) { return filled(4, i, 1); });
    const Tensor labels = by_formula<uint8_t>(shape.with_channels(1), [&](int64_t i) {
      const double u = tag_noise(static_cast<uint32_t>(i), 3);
      return shape.c == 2 ? (u > 0 ? 1.0 : 0.0) : std::floor(4 * (u + 0.5));
    });
    const Variable variable(z, true);
    const LossValue loss = cml_supervision(variable, labels);
    loss.loss.backward();
    const std::vector<double> gradient = variable.gradient().to_doubles();
    // The reference has seven digits, computed in f32.
    CHECK(loss.results.to_doubles()[0] == doctest::Approx(value).epsilon(2e-7));
    CHECK(gradient.front() == doctest::Approx(first).epsilon(2e-6));
    CHECK(gradient.back() == doctest::Approx(last).epsilon(2e-6));
    CHECK(norm(gradient) == doctest::Approx(length).epsilon(5e-7));
  };
  check({4, 2, 4, 4, 4}, 0.6959184, -1.913058e-3, -1.873080e-3, 3.159485e-2);
  check({2, 4, 1, 8, 8}, 1.3389773, 6.265365e-5, 3.450065e-4, 5.021541e-2);
}

TEST_CASE("CML's conflict: value and gradient of the published code") {
  const Variable features(embeddings(false), true);
  const LossValue conflict = conflict_loss(features);
  conflict.loss.backward();
  CHECK(conflict.results.to_doubles()[0] == doctest::Approx(2.0513620).epsilon(1e-7));
  CHECK(1 + conflict.results.to_doubles()[1] == doctest::Approx(1.0256810).epsilon(1e-7));
  const std::vector<double> first = channels_of(features.gradient(), 0, 8),
                            second = channels_of(features.gradient(), 8, 8);
  CHECK(first.front() == doctest::Approx(-6.877404e-3).epsilon(5e-7));
  CHECK(first.back() == doctest::Approx(-1.1910961e-2).epsilon(5e-7));
  CHECK(norm(first) == doctest::Approx(9.179471e-2).epsilon(5e-7));
  CHECK(second.front() == doctest::Approx(-7.229448e-3).epsilon(5e-7));
  CHECK(second.back() == doctest::Approx(-1.061971e-3).epsilon(1e-6));
  CHECK(norm(second) == doctest::Approx(7.022617e-2).epsilon(5e-7));

  // Embeddings behind ReLU; gradients with respect to ReLU's results.
  const Variable rectified(embeddings(true), true);
  const LossValue behind = conflict_loss(rectified);
  behind.loss.backward();
  CHECK(behind.results.to_doubles()[0] == doctest::Approx(2.6916833).epsilon(1e-7));
  CHECK(norm(channels_of(rectified.gradient(), 0, 8)) == doctest::Approx(0.1465441).epsilon(5e-7));
  CHECK(norm(channels_of(rectified.gradient(), 8, 8)) == doctest::Approx(0.1020406).epsilon(5e-7));
}

TEST_CASE("CML's conflict: the gradient is half that of the value, by central differences; zero vectors") {
  Tensor pairs = embeddings(false);
  for (int64_t c = 0; c < 8; ++c) pairs.data<double>()[3 * 16 + c] = 0;  // a at voxel 3 of sample 0
  const Variable features(pairs, true);
  conflict_loss(features).loss.backward();
  for (int64_t c = 0; c < 16; ++c) CHECK(features.gradient().data<double>()[3 * 16 + c] == 0);
  CHECK(kernels::pair_cosines(pairs).data<double>()[3 * 3] == 0);

  // Each embedding is constant in one of the two equal terms. A zero vector has no derivative.
  const Tensor others = pairs.samples(1, 1);
  const Variable smooth(others, true);
  conflict_loss(smooth).loss.backward();
  check_gradient("features", others, smooth.gradient(),
                 [&] { return conflict_loss(Variable(others)).results.data<double>()[0] / 2; },
                 {.tolerance = 1e-8, .floor = 1e-2});
}

TEST_CASE("CML's conflict in bf16 and f32: the features' dtype") {
  const Tensor exact = embeddings(true);
  const Variable features(exact, true);
  const LossValue conflict = conflict_loss(features);
  conflict.loss.backward();
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const Variable rounded(cast(exact, dtype), true);
    const LossValue close = conflict_loss(rounded);
    close.loss.backward();
    const double tolerance = dtype == DType::f32 ? 1e-6 : 1e-2;
    CHECK(close.results.data<double>()[0] ==
          doctest::Approx(conflict.results.data<double>()[0]).epsilon(tolerance));
    CHECK(rounded.gradient().dtype() == dtype);
    std::vector<double> difference = rounded.gradient().to_doubles();
    const std::vector<double> expected = features.gradient().to_doubles();
    for (size_t i = 0; i < expected.size(); ++i) difference[i] -= expected[i];
    CHECK(norm(difference) < tolerance * norm(expected));
  }
}

TEST_CASE("CML: both phases, in 3D and 2D") {
  const std::vector<StepReport> reports =
      check_two_phases("cml", {}, {{{.name = "cml", .filters = 2}, {4, 1, 16, 16, 32}, 6, 0.05, DType::f32}});
  CHECK(reports[0].size() == 3);
  CHECK(reports[5].size() == 4);
  check_two_phases("cml", {{"mask_ratio", "0.5"}}, slices("cml_2d"));
  check_two_phases("cml", {{"mask_ratio", "0.5"}, {"conflict_weight", "0.1"}}, slices("cml_2d_shared"));
}

TEST_CASE("CML: the loss is the weighted sum of its terms") {
  const StepReport report = first_selftraining(
      "cml", {{"labeled_weight", "0.7"}, {"unlabeled_weight", "0.3"}, {"conflict_weight", "0.2"}},
      slices("cml_2d"));
  const double sum = 0.7 * term_of(report, "loss_labeled") + 0.3 * term_of(report, "loss_unlabeled") +
                     0.2 * term_of(report, "loss_conflict");
  CHECK(report[0].second == doctest::Approx(sum).epsilon(1e-12));
}

TEST_CASE("CML: whose pseudo-labels are outside the box") {
  const auto loss = [](const std::string& network, const std::string& outside) {
    const StepReport report =
        first_selftraining("cml", {{"outside_from", outside}, {"mask_corner", "0,3,2"}}, slices(network));
    return term_of(report, "loss_unlabeled");
  };
  CHECK(loss("cml_2d", "other") != loss("cml_2d", "self"));
  // One network seen twice, without dropout, has only one opinion.
  CHECK(loss("cml_2d_shared", "other") == loss("cml_2d_shared", "self"));
}

TEST_CASE("CML: wrong networks and batches") {
  CHECK_THROWS_WITH_AS(require_network(find_method("cml"), "vnet", "--network"),
                       "--network: found 'vnet', expected one of cml, cml_2d, cml_2d_shared for method cml",
                       UsageError);
  MethodSetup setup = slices("cml_2d").setup();
  const auto method = build_method("cml", {}, setup);
  setup.batch = 3;
  CHECK_THROWS_WITH_AS(method->phases(setup),
                       "--batch: found 3, expected an even number: images are mixed in pairs", UsageError);
}
