// RCPS: losses against the published code's numbers, gradients by central differences, schedules, views, and
// iterations through the Method interface.
#include "methods/rcps.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <set>

#include "methods/checkpoint.hpp"
#include "methods/method.hpp"
#include "methods/rcps_views.hpp"
#include "tests/gradients.hpp"
#include "tests/hash_noise.hpp"
#include "tests/temporary_folder.hpp"

using namespace semivox;
using semivox::testing::by_formula;
using semivox::testing::hash_noise;

namespace {

doctest::Approx near(double value, double relative = 1e-10) {
  return doctest::Approx(value).epsilon(relative);
}

/// s sin(a i + b) at flat (N, C, D, H, W) index i.
Tensor waves(const Shape& shape, double a, double b, double s) {
  return by_formula<double>(shape, [&](int64_t i) { return s * std::sin(a * static_cast<double>(i) + b); });
}

const Shape kShape{1, 2, 3, 4, 5};

double number(const LossValue& value, int which) { return value.results.data<double>()[which]; }

Tensor noise_logits(const Shape& shape, int64_t seed) {
  return by_formula<double>(shape, [&](int64_t i) { return 3 * hash_noise(i, seed); });
}

}  // namespace

TEST_CASE("rcps: rectified pseudo supervision of the published code, and its gradient") {
  const Tensor q = waves(kShape, 0.7, 0.1, 2), t = waves(kShape, 0.9, 0.5, 2);
  // With equal views every sum counts twice, and the cosine term is at its minimum.
  const Variable first(q, true), second(q.clone(), true);
  const LossValue value = rcps_consistency_loss(first, second, t, 1, 0.5);
  CHECK(number(value, 0) == near(2 * 1.2870344049));
  CHECK(number(value, 1) == near(2 * (1.2870344049 - 0.9693799082), 5e-10));
  CHECK(number(value, 2) == near(2 * 0.9693799082));
  CHECK(std::abs(number(value, 3)) < 1e-15);
  value.loss.backward();
  const std::vector<double> g1 = first.gradient().to_doubles(), g2 = second.gradient().to_doubles();
  double sum = 0, asymmetry = 0;
  for (size_t i = 0; i < g1.size(); ++i) {
    sum += std::abs(g1[i]);
    asymmetry = std::max(asymmetry, std::abs(g1[i] - g2[i]));
  }
  CHECK(sum == near(0.8588601283));
  CHECK(asymmetry < 1e-16);  // the compiler may fuse other products in one than in the other
}

TEST_CASE("rcps: cosine and segmentation terms of the published code") {
  const Tensor q = waves(kShape, 0.7, 0.1, 2), t = waves(kShape, 0.9, 0.5, 2);
  CHECK(number(rcps_consistency_loss(Variable(q), Variable(t), t, 1, 0.5), 3) == near(1.0448422297));
  const Tensor labels = by_formula<uint8_t>({1, 1, 3, 4, 5}, [](int64_t i) { return 7 * i % 3 == 0; });
  const LossValue value = rcps_segmentation_loss(Variable(q), labels, {1, 10});
  CHECK(number(value, 0) == near(0.7942570053));
  CHECK(number(value, 1) == near(1.2835496267));
  CHECK(number(value, 2) == near(0.5608843459));
}

TEST_CASE("rcps: labelled and unlabelled samples have means of their own") {
  const Shape shape{3, 2, 3, 4, 5};
  const Tensor q1 = noise_logits(shape, 1), q2 = noise_logits(shape, 2), t = noise_logits(shape, 3);
  const LossValue all = rcps_consistency_loss(Variable(q1), Variable(q2), t, 1, 0.5);
  const auto part = [&](int64_t begin, int64_t count, int64_t labeled) {
    return rcps_consistency_loss(Variable(q1.samples(begin, count)), Variable(q2.samples(begin, count)),
                                 t.samples(begin, count), labeled, 0.5);
  };
  for (int k = 0; k < 4; ++k)
    CHECK(number(all, k) == near(number(part(0, 1, 1), k) + number(part(1, 2, 0), k), 1e-14));
}

TEST_CASE("rcps: gradients of the losses by both views, for any number of classes") {
  for (const int64_t classes : {2, 3, 8}) {
    CAPTURE(classes);
    const Shape shape{3, classes, 1, 2, 3};
    const Tensor q1 = noise_logits(shape, 1), q2 = noise_logits(shape, 2), t = noise_logits(shape, 3);
    const Variable first(q1, true), second(q2, true);
    const auto consistency = [&] { return rcps_consistency_loss(first, second, t, 2, 0.5); };
    consistency().loss.backward();
    const auto loss = [&] { return number(consistency(), 0); };
    testing::check_gradient("first", q1, first.gradient(), loss, {.tolerance = 1e-7, .floor = 1e-2});
    testing::check_gradient("second", q2, second.gradient(), loss, {.tolerance = 1e-7, .floor = 1e-2});
    const Tensor labels = by_formula<uint8_t>(shape.with_channels(1), [&](int64_t i) {
      return static_cast<double>(classes) * (hash_noise(i, 4) + 1) / 2;
    });
    std::vector<double> weights(static_cast<size_t>(classes), 10.0);
    weights[0] = 1;
    const Variable z(noise_logits(shape, 5), true);
    rcps_segmentation_loss(z, labels, weights).loss.backward();
    testing::check_gradient("logits", z.value(), z.gradient(),
                            [&] { return number(rcps_segmentation_loss(z, labels, weights), 0); },
                            {.tolerance = 1e-7, .floor = 1e-2});
  }
}

TEST_CASE("rcps: logits of 0 and saturated logits give finite gradients") {
  Tensor q = noise_logits(kShape, 1);
  for (int64_t i = 0; i < 4; ++i) q.data<double>()[i] = 0;
  for (int64_t i = 4; i < 8; ++i) q.data<double>()[i] = i % 2 == 0 ? 800 : -800;
  const Variable first(q, true), second(noise_logits(kShape, 2), true);
  const LossValue value = rcps_consistency_loss(first, second, noise_logits(kShape, 3), 1, 0.5);
  CHECK(std::isfinite(number(value, 0)));
  value.loss.backward();
  for (const double g : first.gradient().to_doubles()) CHECK(std::isfinite(g));
  for (const double g : second.gradient().to_doubles()) CHECK(std::isfinite(g));
}

TEST_CASE("rcps: learning rates of the warm-up and the decay, once per epoch") {
  LearningRate rate;
  rate.kind = LearningRate::Kind::warmup_poly;
  rate.every = 72;
  rate.iterations = 7200;
  const double expected[] = {1e-4, 2.08e-3, 4.06e-3, 6.04e-3, 8.02e-3, 1e-2};
  for (int64_t e = 0; e < 6; ++e) {
    CHECK(rate.at(72 * e) == near(expected[e], 1e-12));
    CHECK(rate.at(72 * e + 71) == rate.at(72 * e));
  }
  CHECK(rate.at(72 * 50) == near(5.612e-3, 1e-4));
  CHECK(rate.at(7199) == near(1.66e-4, 2e-3));
  CHECK(rate.at(7199) == near(0.01 * std::pow(1.0 / 95, 0.9), 1e-12));
  rate.warmup = 0;
  CHECK(rate.at(0) == 0.01);
  CHECK(rate.at(72 * 99) == near(0.01 * std::pow(0.01, 0.9), 1e-10));
  CHECK(staircase_rampup(71, 72, 100) == near(0.006737946999, 1e-9));
  CHECK(staircase_rampup(72 * 50, 72, 100) == near(std::exp(-5 * 0.25), 1e-12));
}

TEST_CASE("rcps views: ranges, frequencies, and every part can be switched off") {
  OptionReader defaults;
  const RcpsViews views(defaults);
  double lowest[3] = {9, 9, 9}, highest[3] = {-9, -9, -9};
  int noisy = 0;
  constexpr int kSteps = 2000;
  for (uint64_t step = 1; step <= kSteps; ++step) {
    const kernels::IntensityChange change = views.draw(3, 4, {5, step, 0}, {5, step, 1});
    const double drawn[] = {change.contrast, change.brightness, change.noise};
    noisy += change.noise > 0;
    for (int i = 0; i < 3; ++i) {
      lowest[i] = std::min(lowest[i], drawn[i]);
      highest[i] = std::max(highest[i], drawn[i]);
    }
  }
  CHECK(std::abs(noisy - kSteps / 2) < 100);  // 4.5 standard deviations
  const double expected_lowest[] = {0.5, -0.5, 0}, expected_highest[] = {1.5, 0.5, 0.1};
  for (int i = 0; i < 3; ++i) {
    const double width = expected_highest[i] - expected_lowest[i];
    CHECK(lowest[i] >= expected_lowest[i]);
    CHECK(highest[i] <= expected_highest[i]);
    CHECK(highest[i] - lowest[i] > 0.98 * width);
  }
  OptionReader off({{"contrast_range", "0"}, {"brightness_range", "0"}, {"noise_max", "0"}});
  const kernels::IntensityChange none = RcpsViews(off).draw(0, 4, {5, 1, 0}, {5, 1, 1});
  CHECK(none.contrast == 1);
  CHECK(none.brightness == 0);
  CHECK(none.noise == 0);
}

TEST_CASE("rcps views: fixed at the ends of the ranges, whatever is drawn") {
  OptionReader options({{"views_fixed", "true"}, {"contrast_range", "0.25"}, {"brightness_range", "0.125"}});
  const RcpsViews views(options);
  for (const int64_t k : {0, 1, 2, 3}) {
    const kernels::IntensityChange change = views.draw(k, 4, {5, 1, 0}, {5, 1, 1});
    CHECK(change.contrast == (k % 2 == 0 ? 0.75f : 1.25f));
    CHECK(change.brightness == (k % 2 == 0 ? -0.125f : 0.125f));
    CHECK(change.noise == 0);
  }
}

TEST_CASE("rcps views: sticky noise is that of the last view that drew some, over the iterations") {
  OptionReader fresh_options;
  OptionReader sticky_options(std::map<std::string, std::string>{{"noise_sticky", "true"}});
  const RcpsViews fresh(fresh_options), sticky(sticky_options);
  constexpr int64_t kViews = 4;
  float last = 0;
  RandomStream last_stream;
  std::set<std::pair<uint64_t, uint64_t>> streams;
  int repeated = 0;
  for (uint64_t step = 1; step <= 200; ++step) {
    for (int64_t k = 0; k < kViews; ++k) {
      const RandomStream draws{5, step, 0}, noise{5, step, 1};
      const kernels::IntensityChange own = fresh.draw(k, kViews, draws, noise);
      const kernels::IntensityChange found = sticky.draw(k, kViews, draws, noise);
      CHECK(found.contrast == own.contrast);
      CHECK(found.brightness == own.brightness);
      if (own.noise > 0) {
        last = own.noise;
        last_stream = own.random;
        CHECK(own.random.step.now() == step);
        CHECK(streams.insert({own.random.step.now(), own.random.stream}).second);  // never the same twice
      } else {
        ++repeated;
      }
      CHECK(found.noise == last);
      CHECK(found.random.step.now() == last_stream.step.now());
      CHECK(found.random.stream == last_stream.stream);
    }
  }
  CHECK(repeated > 300);
}

namespace {

struct Tiny {
  std::unique_ptr<Method> method;
  MethodSetup setup;

  explicit Tiny(std::map<std::string, std::string> set, uint64_t seed = 3, int64_t classes = 2) {
    set.insert({"negatives", "20"});
    set.insert({"rampup_unit", "1"});
    set.insert({"rampup_length", "2"});
    OptionReader options(set);
    method = find_method("rcps").make(options);
    options.finish("method rcps");
    setup.network.name = "unet3d_rcps";
    setup.network.filters = 2;
    setup.network.classes = classes;
    setup.seed = seed;
    setup.batch = 2;
    setup.iterations = 6;
    method->build(setup);
  }

  StepReport step(int64_t iteration) const {
    const Shape shape{2, 1, 32, 16, 16};
    Batch batch;
    batch.image = by_formula<float>(shape, [&](int64_t i) {
      return std::sin(0.02 * static_cast<double>(i)) + 0.3 * hash_noise(i, iteration);
    });
    batch.label =
        by_formula<uint8_t>(shape, [](int64_t i) { return std::sin(0.02 * static_cast<double>(i)) > 0.3; });
    batch.labeled = 1;
    Random random(3, static_cast<uint64_t>(iteration) + 1);
    return method->step(batch, {0, iteration, 0.01, &random});
  }

  static double value(const StepReport& report, const std::string& name) {
    for (const auto& [key, number] : report)
      if (key == name) return number;
    FAIL("no ", name);
    return 0;
  }
};

}  // namespace

TEST_CASE("rcps: iterations with all terms; two builds give the same numbers") {
  const Tiny one({}), two({});
  const std::vector<Phase> phases = one.method->phases(one.setup);
  REQUIRE(phases.size() == 1);
  CHECK(phases[0].labeled == 1);
  CHECK(phases[0].unlabeled == 1);
  double first = 0, last = 0;
  for (int64_t t = 0; t < 6; ++t) {
    const StepReport a = one.step(t), b = two.step(t);
    CHECK(a == b);
    for (const auto& [name, number] : a) {
      CAPTURE(name);
      CHECK(std::isfinite(number));
    }
    CHECK(Tiny::value(a, "loss_contrast_labeled") > 0);
    CHECK(Tiny::value(a, "loss_contrast_unlabeled") > 0);
    CHECK(Tiny::value(a, "loss_cosine") > 0);
    (t == 0 ? first : last) = Tiny::value(a, "loss_segmentation");
  }
  CHECK(last < first);
  CHECK(one.method->student().parameters().values().to_doubles() ==
        two.method->student().parameters().values().to_doubles());
}

TEST_CASE("rcps: the loss is the sum of its weighted terms") {
  const Tiny tiny({{"rectified_weight", "0.2"}, {"contrastive_weight", "0.3"}});
  for (int64_t t = 0; t < 3; ++t) {
    const StepReport r = tiny.step(t);
    const auto get = [&](const char* name) { return Tiny::value(r, name); };
    CHECK(get("ramp") == near(staircase_rampup(t, 1, 2)));
    CHECK(get("loss") ==
          near(get("loss_segmentation") +
                   get("ramp") * (0.2 * (get("loss_rectified") + get("loss_kl") + get("loss_cosine")) +
                                  0.3 * (get("loss_contrast_labeled") + get("loss_contrast_unlabeled"))),
               1e-12));
  }
}

TEST_CASE("rcps: terms and views can be switched off") {
  const Tiny none({{"rectified_weight", "0"}, {"contrastive_weight", "0"}});
  const StepReport plain = none.step(0);
  CHECK(Tiny::value(plain, "loss") == near(Tiny::value(plain, "loss_segmentation"), 1e-14));
  const Tiny equal({{"contrast_range", "0"}, {"brightness_range", "0"}, {"noise_max", "0"}});
  const StepReport same = equal.step(0);  // the three images of a patch are one
  CHECK(std::abs(Tiny::value(same, "loss_cosine")) < 1e-5);
  // At full resolution; the KL of the coarser scales is against the finest.
  CHECK(Tiny::value(same, "loss_kl") < Tiny::value(Tiny({}).step(0), "loss_kl"));
}

TEST_CASE("rcps: a saved state goes on identically") {
  const TemporaryFolder folder;
  const std::map<std::string, std::string> sticky{{"noise_sticky", "true"}};
  const Tiny one(sticky);
  for (int64_t t = 0; t < 3; ++t) one.step(t);
  save_checkpoint(folder / "state.safetensors", *one.method, {0, 3}, {});
  const Tiny two(sticky, 4);  // other first weights
  const Progress progress = load_checkpoint(folder / "state.safetensors", *two.method, {});
  CHECK(progress.iteration == 3);
  for (int64_t t = 3; t < 5; ++t) CHECK(one.step(t) == two.step(t));
  CHECK(one.method->student().parameters().values().to_doubles() ==
        two.method->student().parameters().values().to_doubles());
}

TEST_CASE("rcps: several foreground classes, with weights of their own") {
  CHECK(std::isfinite(
      Tiny(std::map<std::string, std::string>{{"class_weights", "10,2"}}, 3, 3).step(0)[0].second));
  CHECK(std::isfinite(Tiny({}, 3, 3).step(0)[0].second));
}

TEST_CASE("rcps: wrong networks and options are named") {
  const auto build = [](const std::string& network, int64_t classes, const std::string& weights) {
    OptionReader options(std::map<std::string, std::string>{{"class_weights", weights}});
    MethodSetup setup;
    setup.network.name = network;
    setup.network.classes = classes;
    find_method("rcps").make(options)->build(setup);
  };
  CHECK_THROWS_AS(build("vnet", 2, "10"), UsageError);
  CHECK_THROWS_WITH_AS(build("unet3d_rcps", 9, "10"), "rcps: found 9 classes, expected at most 8",
                       UsageError);
  for (const std::string wrong : {"", "x", "inf", "10,", "10,5,3,1", "-1", "10,5"}) {
    CAPTURE(wrong);
    CHECK_THROWS_AS(build("unet3d_rcps", 4, wrong), UsageError);
  }
}
