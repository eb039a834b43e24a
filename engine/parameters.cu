#include "engine/parameters.hpp"

#include <algorithm>

#include "engine/launch.hpp"

namespace semivox {

namespace {

// Every parameter begins on a 64-byte boundary of the flat buffer; the elements between stay zero.
constexpr int64_t kAlignment = 16;

int64_t lay_out(std::deque<Parameter>& list) {
  int64_t offset = 0;
  for (Parameter& p : list) {
    p.offset = offset;
    offset += (p.count + kAlignment - 1) / kAlignment * kAlignment;
  }
  return std::max(offset, kAlignment);
}

template <class T>
struct Draw {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  T* values;
  RandomStream random;
  Initializer initializer;
  SEMIVOX_HD void operator()(int64_t i) const {
    const uint64_t index = static_cast<uint64_t>(i);
    const auto [kind, value, mean] = initializer;
    double drawn = value;
    if (kind == Initializer::Kind::uniform) drawn = value * (2.0 * random.uniform(index) - 1.0);
    if (kind == Initializer::Kind::normal) drawn = mean + value * random.normal(index);
    values[i] = static_cast<T>(drawn);
  }
};

template <class T>
struct Ema {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  T* teacher;
  const T* student;
  StepNumber alpha;
  SEMIVOX_HD void operator()(int64_t i) const {
    const double a = alpha.get();
    teacher[i] = static_cast<T>(a) * teacher[i] + static_cast<T>(1.0 - a) * student[i];
  }
};

Parameter make_parameter(std::string name, std::vector<int64_t> dims, Initializer initializer) {
  Parameter p;
  p.name = std::move(name);
  p.dims = std::move(dims);
  p.initializer = initializer;
  for (const int64_t d : p.dims) p.count *= d;
  return p;
}

template <class T>
void ema_tensor(Tensor& teacher, const Tensor& student, StepNumber alpha) {
  kernels::map(teacher.device(), "ema", teacher.elements(),
               Ema<T>{teacher.data<T>(), student.data<T>(), alpha});
}

}  // namespace

Parameter& ParameterSet::declare(std::string name, std::vector<int64_t> dims, Initializer initializer) {
  SEMIVOX_CHECK(!values_.defined(), "declare '", name, "' after allocate");
  return parameters_.emplace_back(make_parameter(std::move(name), std::move(dims), initializer));
}

Parameter& ParameterSet::declare_buffer(std::string name, std::vector<int64_t> dims, double initial,
                                        bool counter) {
  SEMIVOX_CHECK(!values_.defined(), "declare '", name, "' after allocate");
  Parameter& p =
      buffers_.emplace_back(make_parameter(std::move(name), std::move(dims), Initializer::constant(initial)));
  p.counter = counter;
  return p;
}

void ParameterSet::allocate(DType dtype, Device device, bool gradients) {
  const int64_t size = lay_out(parameters_), buffer_size = lay_out(buffers_);
  values_ = Tensor::zeros({1, size, 1, 1, 1}, dtype, device, MemoryTag::weights);
  buffer_values_ = Tensor::zeros({1, buffer_size, 1, 1, 1}, dtype, device, MemoryTag::weights);
  if (gradients) gradients_ = Tensor::zeros({1, size, 1, 1, 1}, dtype, device, MemoryTag::optimizer);
  for (Parameter& p : parameters_) {
    p.value = values_.slice(p.offset, p.count);
    if (gradients) p.gradient = gradients_.slice(p.offset, p.count);
  }
  for (Parameter& p : buffers_) p.value = buffer_values_.slice(p.offset, p.count);
}

void ParameterSet::initialize(uint64_t seed) {
  dispatch_float(values_.dtype(), [&](auto zero) {
    using T = decltype(zero);
    uint64_t index = 0;
    for (std::deque<Parameter>* list : {&parameters_, &buffers_}) {
      for (Parameter& p : *list) {
        kernels::map(p.value.device(), "initialize", p.count,
                     Draw<T>{p.value.data<T>(), {seed, 0, index++}, p.initializer});
      }
    }
  });
  touch();
}

void ParameterSet::zero_gradients() {
  if (gradients_.defined()) gradients_.fill_zero();
}

int64_t ParameterSet::parameter_count() const {
  int64_t total = 0;
  for (const Parameter& p : parameters_) total += p.count;
  return total;
}

void ParameterSet::copy_from(const ParameterSet& source) {
  values_.copy_from(source.values_);
  buffer_values_.copy_from(source.buffer_values_);
  touch();
}

double ramped_ema_decay(double decay, int64_t iteration) {
  return std::min(1.0 - 1.0 / static_cast<double>(iteration + 1), decay);
}

void ema_update(ParameterSet& teacher, const ParameterSet& student, StepNumber alpha, bool buffers) {
  SEMIVOX_CHECK(teacher.values().shape() == student.values().shape(), "teacher and student differ in layout");
  if (teacher.values().dtype() == DType::f64) {
    ema_tensor<double>(teacher.values(), student.values(), alpha);
    if (buffers) ema_tensor<double>(teacher.buffer_values(), student.buffer_values(), alpha);
  } else {
    ema_tensor<float>(teacher.values(), student.values(), alpha);
    if (buffers) ema_tensor<float>(teacher.buffer_values(), student.buffer_values(), alpha);
  }
  if (buffers) {
    for (size_t i = 0; i < teacher.buffers().size(); ++i) {  // an averaged counter would count nothing
      if (teacher.buffers()[i].counter) teacher.buffers()[i].value.copy_from(student.buffers()[i].value);
    }
  }
  teacher.touch();
}

}  // namespace semivox
