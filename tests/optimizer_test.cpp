// Optimisers against PyTorch's in f64 (goldens/make_optimizers.py), parameter sets, and the EMA rules.

#include <doctest/doctest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "engine/optimizer.hpp"

using namespace semivox;
using nlohmann::json;

namespace {

json golden() {
  std::ifstream file(std::string(SEMIVOX_TEST_DATA) + "/optimizers.json");
  REQUIRE(file.good());
  return json::parse(file);
}

void assign(Tensor& t, const std::vector<double>& values) {
  dispatch_float(t.dtype(), [&](auto zero) {
    using T = decltype(zero);
    for (size_t i = 0; i < values.size(); ++i)
      t.data<T>()[i] = static_cast<T>(static_cast<compute_t<T>>(values[i]));
  });
}

OptimizerOptions options_of(const json& c) {
  OptimizerOptions options;
  options.name = c["name"];
  options.momentum = c.value("momentum", options.momentum);
  options.beta1 = c.value("beta1", options.beta1);
  options.beta2 = c.value("beta2", options.beta2);
  options.epsilon = c.value("epsilon", options.epsilon);
  options.weight_decay = c["weight_decay"];
  return options;
}

/// Two parameters of 4 and 2 elements: the golden's six weights with the flat buffer's padding between them.
struct Pair {
  ParameterSet set;
  Parameter* first = &set.declare("first", {2, 2}, Initializer::constant(0));
  Parameter* second = &set.declare("second", {2}, Initializer::constant(0));
  explicit Pair(DType dtype) { set.allocate(dtype, {}, true); }

  static std::vector<double> part(const std::vector<double>& six, bool head) {
    return head ? std::vector<double>(six.begin(), six.begin() + 4)
                : std::vector<double>(six.begin() + 4, six.end());
  }
  void set_values(const std::vector<double>& six) {
    assign(first->value, part(six, true));
    assign(second->value, part(six, false));
  }
  void set_gradients(const std::vector<double>& six) {
    assign(first->gradient, part(six, true));
    assign(second->gradient, part(six, false));
  }
  std::vector<double> values() const {
    std::vector<double> six = first->value.to_doubles();
    for (const double v : second->value.to_doubles()) six.push_back(v);
    return six;
  }
};

}  // namespace

TEST_CASE("optimisers make PyTorch's steps") {
  const json reference = golden();
  for (const DType dtype : {DType::f64, DType::f32}) {
    for (const json& c : reference["cases"]) {
      INFO(c["name"].get<std::string>(), " in ", name_of(dtype), ", decay ", c["weight_decay"].get<double>());
      Pair pair(dtype);
      pair.set_values(reference["initial"]);
      const auto optimizer = make_optimizer(options_of(c), pair.set);
      double largest = 0;
      for (size_t step = 0; step < reference["gradients"].size(); ++step) {
        pair.set_gradients(reference["gradients"][step]);
        optimizer->step(reference["learning_rates"][step].get<double>());
        const std::vector<double> expected = c["weights"][step], found = pair.values();
        for (size_t i = 0; i < expected.size(); ++i)
          largest = std::max(largest, std::abs(found[i] - expected[i]));
      }
      CHECK(optimizer->steps() == 7);
      CHECK(largest < (dtype == DType::f64 ? 1e-15 : 2e-7));
    }
  }
}

TEST_CASE("an optimiser with restored state goes on as if nothing had happened") {
  const json reference = golden();
  for (const char* name : {"sgd", "adam", "adamw"}) {
    INFO(name);
    OptimizerOptions options;
    options.name = name;
    Pair whole(DType::f32), halves(DType::f32);
    whole.set_values(reference["initial"]);
    halves.set_values(reference["initial"]);
    const auto optimizer = make_optimizer(options, whole.set);
    auto stopped = make_optimizer(options, halves.set);
    for (size_t step = 0; step < 6; ++step) {
      if (step == 3) {
        auto resumed = make_optimizer(options, halves.set);
        auto from = stopped->state(), to = resumed->state();
        REQUIRE(from.size() == to.size());
        for (size_t i = 0; i < from.size(); ++i) {
          CHECK(from[i].first == to[i].first);
          to[i].second.copy_from(from[i].second);
        }
        resumed->set_steps(stopped->steps());
        stopped = std::move(resumed);
      }
      for (Pair* pair : {&whole, &halves}) pair->set_gradients(reference["gradients"][step]);
      optimizer->step(0.01);
      stopped->step(0.01);
    }
    CHECK(whole.values() == halves.values());
  }
}

TEST_CASE("an unknown optimiser is a usage error") {
  Pair pair(DType::f32);
  OptimizerOptions options;
  options.name = "sdg";
  CHECK_THROWS_WITH_AS(make_optimizer(options, pair.set),
                       "optimizer: found 'sdg', expected sgd, adam or adamw", UsageError);
}

TEST_CASE("a step changes the version of the weights") {
  Pair pair(DType::f32);
  const auto version = pair.set.version();
  const uint64_t before = *version;
  make_optimizer({}, pair.set)->step(0.1);
  CHECK(*version > before);
}

TEST_CASE("parameters lie in one flat buffer, aligned, with their names and counts") {
  Pair pair(DType::f32);
  CHECK(pair.first->offset == 0);
  CHECK(pair.second->offset % 16 == 0);
  CHECK(pair.set.parameter_count() == 6);
  CHECK(pair.set.parameters()[1].name == "second");
  pair.set_values({1, 2, 3, 4, 5, 6});
  CHECK(pair.set.values().to_doubles()[static_cast<size_t>(pair.second->offset)] == 5);
  pair.set_gradients({1, 2, 3, 4, 5, 6});
  pair.set.zero_gradients();
  CHECK(pair.second->gradient.to_doubles() == std::vector<double>{0, 0});
  CHECK_THROWS_AS(pair.set.declare("late", {1}, Initializer::constant(0)), InternalError);
}

TEST_CASE("initial values follow their distribution and the seed alone") {
  ParameterSet set;
  Parameter& uniform = set.declare("uniform", {100, 100}, Initializer::uniform(0.5));
  Parameter& normal = set.declare("normal", {100, 100}, Initializer::normal(2));
  Parameter& constant = set.declare("constant", {3}, Initializer::constant(0.25));
  Parameter& buffer = set.declare_buffer("running_var", {3}, 1);
  set.allocate(DType::f32, {}, false);
  set.initialize(5);
  const std::vector<double> u = uniform.value.to_doubles(), z = normal.value.to_doubles();
  double sum = 0, square = 0, normal_square = 0;
  for (size_t i = 0; i < u.size(); ++i) {
    CHECK_UNARY(std::abs(u[i]) < 0.5);
    sum += u[i];
    square += u[i] * u[i];
    normal_square += z[i] * z[i];
  }
  CHECK(std::abs(sum / 1e4) < 5 * 0.2887 / 100);
  CHECK(std::abs(square / 1e4 - 1.0 / 12) < 5 * 0.0745 / 100);
  CHECK(std::abs(normal_square / 1e4 - 4) < 5 * 4 * 1.4142 / 100);
  CHECK(constant.value.to_doubles() == std::vector<double>(3, 0.25));
  CHECK(buffer.value.to_doubles() == std::vector<double>(3, 1));
  CHECK_FALSE(set.trainable());
  set.initialize(6);
  CHECK(uniform.value.to_doubles() != u);
  set.initialize(5);
  CHECK(uniform.value.to_doubles() == u);
}

TEST_CASE("the decay of an average warms up by copying the student first") {
  CHECK(ramped_ema_decay(0.99, 0) == 0.0);
  CHECK(ramped_ema_decay(0.99, 1) == 0.5);
  CHECK(ramped_ema_decay(0.99, 2) == doctest::Approx(2.0 / 3).epsilon(1e-15));
  CHECK(ramped_ema_decay(0.99, 98) < 0.99);
  CHECK(ramped_ema_decay(0.99, 99) == doctest::Approx(0.99).epsilon(1e-15));
  CHECK(ramped_ema_decay(0.99, 100000) == 0.99);
}

TEST_CASE("the average moves parameters, and running statistics only when asked") {
  for (const DType dtype : {DType::f32, DType::f64}) {
    ParameterSet teacher, student;
    for (ParameterSet* set : {&teacher, &student}) {
      set->declare("weight", {2}, Initializer::constant(set == &teacher ? 1 : 3));
      set->declare_buffer("running_mean", {1}, set == &teacher ? 10 : 20);
      set->allocate(dtype, {}, set == &student);
      set->initialize(0);
    }
    const auto weight = [&] { return teacher.parameters()[0].value.to_doubles()[1]; };
    const auto mean = [&] { return teacher.buffers()[0].value.to_doubles()[0]; };
    const uint64_t before = *teacher.version();
    ema_update(teacher, student, 0.75, false);
    CHECK(*teacher.version() > before);
    CHECK(weight() == 1.5);
    CHECK(mean() == 10);
    ema_update(teacher, student, 0.5, true);
    CHECK(weight() == 2.25);
    CHECK(mean() == 15);
    ema_update(teacher, student, 0.0, true);
    CHECK(weight() == 3);
    CHECK(mean() == 20);
    CHECK(student.parameters()[0].value.to_doubles()[1] == 3);
    teacher.parameters()[0].value.fill_zero();
    teacher.copy_from(student);
    CHECK(weight() == 3);
  }
}
