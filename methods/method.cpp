#include "methods/method.hpp"

#include <algorithm>

namespace semivox {

namespace {

std::vector<MethodInfo>& registry() {
  static std::vector<MethodInfo> methods;
  return methods;
}

}  // namespace

RegisterMethod::RegisterMethod(MethodInfo info) {
  auto& methods = registry();
  methods.push_back(std::move(info));
  std::sort(methods.begin(), methods.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
}

const std::vector<MethodInfo>& registered_methods() { return registry(); }

const MethodInfo& find_method(const std::string& name) {
  std::string known;
  for (const MethodInfo& method : registry()) {
    if (method.name == name) return method;
    known += (known.empty() ? "" : ", ") + method.name;
  }
  throw UsageError(text("method: found '", name, "', expected one of ", known));
}

void require_network(const MethodInfo& method, const std::string& network, const std::string& setting) {
  if (method.networks.empty()) return;
  std::string known;
  for (const std::string& name : method.networks) {
    if (name == network) return;
    known += (known.empty() ? "" : ", ") + name;
  }
  throw UsageError(text(setting, ": found '", network, "', expected ",
                        method.networks.size() > 1 ? "one of " : "", known, " for method ", method.name));
}

std::vector<Phase> half_labeled_phase(const MethodSetup& setup) {
  const int64_t labeled = setup.batch / 2;
  if (labeled < 1)
    throw UsageError(text("--batch: found ", setup.batch, ", expected at least 2 (half is labelled)"));
  return {{"train", setup.iterations, labeled, setup.batch - labeled, setup.learning_rate, false}};
}

void StudentTeacher::build(const MethodSetup& setup, bool with_teacher) {
  student = make_network(setup.network);
  student->allocate(setup.precision, setup.device, true);
  student->parameters().initialize(setup.seed);
  optimizer = make_optimizer(setup.optimizer, student->parameters());
  if (!with_teacher) return;
  teacher = make_network(setup.network);
  teacher->allocate(setup.precision, setup.device, false);
  teacher->parameters().initialize(setup.seed + 0x7eac4e5);  // a network of its own until the first EMA step
}

void StudentTeacher::update(const Variable& loss, StepNumber learning_rate) {
  student->parameters().zero_gradients();
  loss.backward();
  optimizer->step(learning_rate);
}

std::vector<std::pair<std::string, Network*>> StudentTeacher::networks() const {
  std::vector<std::pair<std::string, Network*>> all{{"student", student.get()}};
  if (teacher) all.emplace_back("teacher", teacher.get());
  return all;
}

}  // namespace semivox
