// Convolutions on the GPU by cuDNN's imperative interface, channels-last.
//
// For every layer shape the library's deterministic algorithms are timed once and the fastest is remembered,
// in a file for later runs, too. f32 is computed exactly (no TF32); bf16 adds up in f32. A shape that the
// library does not take in this layout goes to kernels/conv_direct.cu, with a note on stderr. 1x1x1 layers
// are matrix products (kernels/conv_pointwise.cpp): some methods run them on lists of voxels, of another
// length in every iteration, and each length would be a shape to measure. bf16 layers with f32 outputs
// (logits) are computed in f32.
#ifdef SEMIVOX_CUDA

#include <cudnn.h>

#include <algorithm>
#include <cstdio>
#include <limits>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "engine/arithmetic.hpp"
#include "engine/cuda_runtime.hpp"
#include "kernels/algorithm_cache.hpp"
#include "kernels/conv_direct.hpp"
#include "kernels/conv_grids.hpp"
#include "kernels/conv_pointwise.hpp"
#include "kernels/norm.hpp"

namespace semivox::kernels::cudnn {

namespace {

enum class Pass { to_coarse, to_fine, weights };

const char* name_of_pass(Pass pass) {
  switch (pass) {
    case Pass::to_coarse:
      return "to_coarse";
    case Pass::to_fine:
      return "to_fine";
    case Pass::weights:
      return "weights";
  }
  return "?";
}

/// What a call works on, for messages.
std::string describe(Pass pass, const ConvGeometry& g, const Tensor& fine, const Tensor& coarse) {
  return text("convolution ", name_of_pass(pass), ", fine ", fine.shape().str(), ", coarse ",
              coarse.shape().str(), ", ", name_of(fine.dtype()), ", kernel ", g.kernel[0], "x", g.kernel[1],
              "x", g.kernel[2]);
}

[[noreturn]] void fail(cudnnStatus_t status, const char* call, const char* file, int line,
                       const std::string& what) {
  char details[512] = "";
  cudnnGetLastErrorString(details, sizeof details);
  throw InternalError(
      text(file, ":", line, ": ", call, ": ", cudnnGetErrorString(status), " ", details, " (", what, ")"));
}

// `what` is evaluated for a message alone.
#define SEMIVOX_CUDNN_CALL(call, what)                                                                   \
  do {                                                                                                   \
    const cudnnStatus_t status_of_call = (call);                                                         \
    if (status_of_call != CUDNN_STATUS_SUCCESS) fail(status_of_call, #call, __FILE__, __LINE__, (what)); \
  } while (false)

/// The library's handle for the device, queuing on the device's stream.
cudnnHandle_t handle(int device_index) {
  static std::map<int, cudnnHandle_t> handles;
  cuda::use(device_index);
  auto found = handles.find(device_index);
  if (found == handles.end()) {
    cudnnHandle_t made = nullptr;
    SEMIVOX_CUDNN_CALL(cudnnCreate(&made), "device " + std::to_string(device_index));
    SEMIVOX_CUDNN_CALL(cudnnSetStream(made, cuda::stream(device_index)),
                       "device " + std::to_string(device_index));
    found = handles.emplace(device_index, made).first;
  }
  return found->second;
}

/// Scratch memory that an algorithm may ask for: a sixteenth of the device's. In f32 most algorithms turn
/// both operands to channels-first there: 1.2 GiB for 16 channels at 112x112x96, batch 8.
size_t workspace_limit(int device_index) {
  static std::map<int, size_t> limits;
  auto found = limits.find(device_index);
  if (found == limits.end()) {
    cudaDeviceProp properties{};
    SEMIVOX_CUDA_CALL(cudaGetDeviceProperties(&properties, device_index));
    const size_t share = properties.totalGlobalMem / 16;
    found = limits.emplace(device_index, std::clamp(share, size_t{1} << 29, size_t{1} << 32)).first;
  }
  return found->second;
}

cudnnDataType_t data_type(DType dtype) {
  SEMIVOX_CHECK(dtype == DType::f32 || dtype == DType::bf16, "GPU convolutions take f32 and bf16, found ",
                name_of(dtype));
  return dtype == DType::f32 ? CUDNN_DATA_FLOAT : CUDNN_DATA_BFLOAT16;
}

cudnnMathType_t math_type(DType dtype) {
  return dtype == DType::bf16 ? CUDNN_TENSOR_OP_MATH : CUDNN_FMA_MATH;
}

/// The descriptors of one convolution and the algorithm that runs it; `usable` is false when the library has
/// none.
struct Plan {
  cudnnTensorDescriptor_t fine = nullptr, coarse = nullptr;
  cudnnFilterDescriptor_t weights = nullptr;  // (coarse, kD, kH, kW, fine)
  cudnnConvolutionDescriptor_t convolution = nullptr;
  int algorithm = 0;
  size_t workspace_bytes = 0;
  bool usable = false;

  Plan() = default;
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;
  ~Plan() {
    if (convolution) cudnnDestroyConvolutionDescriptor(convolution);
    if (weights) cudnnDestroyFilterDescriptor(weights);
    if (coarse) cudnnDestroyTensorDescriptor(coarse);
    if (fine) cudnnDestroyTensorDescriptor(fine);
  }
};

std::array<int, 5> dims(const Shape& s) {
  return {static_cast<int>(s.n), static_cast<int>(s.c), static_cast<int>(s.d), static_cast<int>(s.h),
          static_cast<int>(s.w)};
}

std::array<int, 5> strides(const Shape& s) {
  return {static_cast<int>(s.c * s.voxels()), 1, static_cast<int>(s.c * s.h * s.w),
          static_cast<int>(s.c * s.w), static_cast<int>(s.c)};
}

std::array<int, 3> ints(const std::array<int64_t, 3>& a) {
  return {static_cast<int>(a[0]), static_cast<int>(a[1]), static_cast<int>(a[2])};
}

void describe_operands(Plan& plan, Pass pass, const ConvGeometry& g, const Tensor& fine,
                       const Tensor& coarse) {
  const std::string what = describe(pass, g, fine, coarse);
  const auto type = data_type(fine.dtype());
  const auto fine_dims = dims(fine.shape()), coarse_dims = dims(coarse.shape());
  const auto kernel = ints(g.kernel), stride = ints(g.stride), padding = ints(g.padding);
  const std::array<int, 5> weight_dims{coarse_dims[1], fine_dims[1], kernel[0], kernel[1], kernel[2]};
  const std::array<int, 3> dilation{1, 1, 1};
  SEMIVOX_CUDNN_CALL(cudnnCreateTensorDescriptor(&plan.fine), what);
  SEMIVOX_CUDNN_CALL(cudnnCreateTensorDescriptor(&plan.coarse), what);
  SEMIVOX_CUDNN_CALL(cudnnCreateFilterDescriptor(&plan.weights), what);
  SEMIVOX_CUDNN_CALL(cudnnCreateConvolutionDescriptor(&plan.convolution), what);
  // Dimensions and strides are given in the order N, C, D, H, W; C is innermost in memory.
  const auto fine_strides = strides(fine.shape()), coarse_strides = strides(coarse.shape());
  SEMIVOX_CUDNN_CALL(cudnnSetTensorNdDescriptor(plan.fine, type, 5, fine_dims.data(), fine_strides.data()),
                     what);
  SEMIVOX_CUDNN_CALL(
      cudnnSetTensorNdDescriptor(plan.coarse, type, 5, coarse_dims.data(), coarse_strides.data()), what);
  SEMIVOX_CUDNN_CALL(cudnnSetFilterNdDescriptor(plan.weights, type, CUDNN_TENSOR_NHWC, 5, weight_dims.data()),
                     what);
  SEMIVOX_CUDNN_CALL(
      cudnnSetConvolutionNdDescriptor(plan.convolution, 3, padding.data(), stride.data(), dilation.data(),
                                      CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT),
      what);
}

/// The library counts elements and strides in 32 bits; larger tensors are computed without it.
bool too_large(const Shape& shape) { return shape.elements() > std::numeric_limits<int>::max(); }

/// True when the library says that it cannot compute this shape in this layout, rather than that it failed.
bool refused(cudnnStatus_t status) {
  const int category = CUDNN_STATUS_CATEGORY(static_cast<int>(status));
  return category == CUDNN_STATUS_NOT_SUPPORTED || category == CUDNN_STATUS_BAD_PARAM;
}

/// The deterministic algorithms of the library's measurements that take the operands in this layout, the
/// fastest first, as the library sorts them. f32 stays f32: those that were measured in TF32 do not count,
/// and those that know no other arithmetic, which it calls the default, run as exact ones.
template <class Measurement>
std::vector<AlgorithmCache::Choice> admissible(cudnnStatus_t status, const std::vector<Measurement>& measured,
                                               int count, DType dtype, const std::string& what) {
  std::vector<AlgorithmCache::Choice> choices;
  if (refused(status)) return choices;
  SEMIVOX_CUDNN_CALL(status, what);
  for (int i = 0; i < count; ++i) {
    const Measurement& m = measured[static_cast<size_t>(i)];
    if (m.status != CUDNN_STATUS_SUCCESS || m.determinism != CUDNN_DETERMINISTIC) continue;
    const bool exact = m.mathType == CUDNN_FMA_MATH || m.mathType == CUDNN_DEFAULT_MATH;
    if (dtype == DType::f32 && !exact) continue;
    const cudnnMathType_t math = dtype == DType::f32 ? CUDNN_FMA_MATH : m.mathType;
    choices.push_back({static_cast<int>(m.algo), static_cast<int>(math)});
  }
  return choices;
}

/// Scratch memory to measure with: as much as an algorithm may ask for, on a full device less.
Tensor measuring_space(Device device) {
  for (auto bytes = static_cast<int64_t>(workspace_limit(device.index));; bytes /= 2) {
    try {
      return Tensor::empty({1, bytes, 1, 1, 1}, DType::u8, device, MemoryTag::workspace);
    } catch (const OutOfMemory&) {
      if (bytes <= int64_t{1} << 26) throw;
    }
  }
}

/// Measures on the operands themselves, overwriting the one that the pass computes.
std::vector<AlgorithmCache::Choice> measure(const Plan& plan, Pass pass, const Tensor& fine,
                                            const Tensor& coarse, const Tensor& weights,
                                            const std::string& what) {
  SEMIVOX_CUDNN_CALL(cudnnSetConvolutionMathType(plan.convolution, math_type(fine.dtype())), what);
  const cudnnHandle_t h = handle(fine.device().index);
  const Tensor workspace = measuring_space(fine.device());
  const auto bytes = static_cast<size_t>(workspace.elements());
  int count = 0;
  switch (pass) {
    case Pass::to_coarse: {
      std::vector<cudnnConvolutionFwdAlgoPerf_t> measured(CUDNN_CONVOLUTION_FWD_ALGO_COUNT);
      const auto status = cudnnFindConvolutionForwardAlgorithmEx(
          h, plan.fine, fine.raw(), plan.weights, weights.raw(), plan.convolution, plan.coarse, coarse.raw(),
          CUDNN_CONVOLUTION_FWD_ALGO_COUNT, &count, measured.data(), workspace.raw(), bytes);
      return admissible(status, measured, count, fine.dtype(), what);
    }
    case Pass::to_fine: {
      std::vector<cudnnConvolutionBwdDataAlgoPerf_t> measured(CUDNN_CONVOLUTION_BWD_DATA_ALGO_COUNT);
      const auto status = cudnnFindConvolutionBackwardDataAlgorithmEx(
          h, plan.weights, weights.raw(), plan.coarse, coarse.raw(), plan.convolution, plan.fine, fine.raw(),
          CUDNN_CONVOLUTION_BWD_DATA_ALGO_COUNT, &count, measured.data(), workspace.raw(), bytes);
      return admissible(status, measured, count, fine.dtype(), what);
    }
    case Pass::weights: {
      std::vector<cudnnConvolutionBwdFilterAlgoPerf_t> measured(CUDNN_CONVOLUTION_BWD_FILTER_ALGO_COUNT);
      const auto status = cudnnFindConvolutionBackwardFilterAlgorithmEx(
          h, plan.fine, fine.raw(), plan.coarse, coarse.raw(), plan.convolution, plan.weights, weights.raw(),
          CUDNN_CONVOLUTION_BWD_FILTER_ALGO_COUNT, &count, measured.data(), workspace.raw(), bytes);
      return admissible(status, measured, count, fine.dtype(), what);
    }
  }
  return {};
}

/// Makes the plan run `choice`, and asks the library how much scratch memory that takes. False when it does
/// not take the algorithm for this shape, which a table of another time may say.
bool adopt(Plan& plan, Pass pass, AlgorithmCache::Choice choice, int device_index) {
  const cudnnHandle_t h = handle(device_index);
  const auto math = static_cast<cudnnMathType_t>(choice.math);
  if (cudnnSetConvolutionMathType(plan.convolution, math) != CUDNN_STATUS_SUCCESS) return false;
  size_t bytes = 0;
  cudnnStatus_t status = CUDNN_STATUS_NOT_SUPPORTED;
  switch (pass) {
    case Pass::to_coarse:
      status = cudnnGetConvolutionForwardWorkspaceSize(
          h, plan.fine, plan.weights, plan.convolution, plan.coarse,
          static_cast<cudnnConvolutionFwdAlgo_t>(choice.algorithm), &bytes);
      break;
    case Pass::to_fine:
      status = cudnnGetConvolutionBackwardDataWorkspaceSize(
          h, plan.weights, plan.coarse, plan.convolution, plan.fine,
          static_cast<cudnnConvolutionBwdDataAlgo_t>(choice.algorithm), &bytes);
      break;
    case Pass::weights:
      status = cudnnGetConvolutionBackwardFilterWorkspaceSize(
          h, plan.fine, plan.coarse, plan.convolution, plan.weights,
          static_cast<cudnnConvolutionBwdFilterAlgo_t>(choice.algorithm), &bytes);
      break;
  }
  if (status != CUDNN_STATUS_SUCCESS || bytes > workspace_limit(device_index)) return false;
  plan.algorithm = choice.algorithm;
  plan.workspace_bytes = bytes;
  plan.usable = true;
  return true;
}

/// The choices of this run and of earlier ones on the same kind of GPU.
AlgorithmCache& cache(int device_index) {
  static std::map<std::string, AlgorithmCache> caches;
  static std::map<int, AlgorithmCache*> by_device;
  AlgorithmCache*& found = by_device[device_index];
  if (found == nullptr) {
    cudaDeviceProp properties{};
    SEMIVOX_CUDA_CALL(cudaGetDeviceProperties(&properties, device_index));
    const std::string path = algorithm_cache_path(text("cudnn-", cudnnGetVersion()), properties.name);
    found = &caches.try_emplace(path, path).first->second;
  }
  return *found;
}

/// One line on stderr for every new problem with the file.
void report_problem(const AlgorithmCache& cache) {
  static std::string reported;
  if (cache.problem() == reported) return;
  reported = cache.problem();
  std::fprintf(stderr, "note: %s\n", reported.c_str());
}

/// Takes the algorithm from the cache, or measures it.
void choose_algorithm(Plan& plan, Pass pass, const ConvGeometry& g, const Tensor& fine, const Tensor& coarse,
                      const Tensor& weights) {
  const auto three = [](const std::array<int64_t, 3>& a) { return text(a[0], "x", a[1], "x", a[2]); };
  const std::string shape =
      text(describe(pass, g, fine, coarse), ", stride ", three(g.stride), ", padding ", three(g.padding));
  const int device_index = fine.device().index;
  AlgorithmCache& known = cache(device_index);
  const auto remembered = known.find(shape);
  if (remembered) adopt(plan, pass, *remembered, device_index);
  if (!plan.usable) {
    for (const auto& choice : measure(plan, pass, fine, coarse, weights, shape)) {
      if (!adopt(plan, pass, choice, device_index)) continue;
      known.remember(shape, choice);
      break;
    }
  }
  if (!plan.usable) {
    std::fprintf(stderr,
                 "note: cuDNN has no deterministic algorithm for this shape, it is computed without, "
                 "slowly: %s\n",
                 shape.c_str());
  }
  report_problem(known);
}

std::mutex& plan_mutex() {
  static std::mutex mutex;
  return mutex;
}

/// The plan for these operands, made at the first call. `weights` holds packed weights or takes their
/// gradient.
const Plan& plan_for(Pass pass, const ConvGeometry& g, const Tensor& fine, const Tensor& coarse,
                     const Tensor& weights) {
  static std::map<std::vector<int64_t>, Plan> plans;
  const Shape f = fine.shape(), c = coarse.shape();
  std::vector<int64_t> key{static_cast<int64_t>(pass), static_cast<int64_t>(fine.dtype()),
                           fine.device().index};
  for (const Shape& s : {f, c}) key.insert(key.end(), {s.n, s.c, s.d, s.h, s.w});
  for (const auto& three : {g.kernel, g.stride, g.padding}) key.insert(key.end(), three.begin(), three.end());
  const std::lock_guard lock(plan_mutex());
  const auto [entry, fresh] = plans.try_emplace(std::move(key));
  if (fresh && !too_large(f) && !too_large(c)) {
    try {
      describe_operands(entry->second, pass, g, fine, coarse);
      choose_algorithm(entry->second, pass, g, fine, coarse, weights);
    } catch (...) {
      plans.erase(entry);
      throw;
    }
  }
  return entry->second;
}

Tensor workspace_for(const Plan& plan, Device device) {
  return Tensor::empty({1, static_cast<int64_t>(plan.workspace_bytes), 1, 1, 1}, DType::u8, device,
                       MemoryTag::workspace);
}

/// Packed weights by dtype, refreshed when the version changes.
struct Packed : PackedWeights {
  struct Copy {
    Tensor values;
    const void* source = nullptr;
    uint64_t version = 0;
  };
  std::map<DType, Copy> copies;
};

/// Weights as (coarse, taps, fine) in the dtype.
Tensor packed_weights(const ConvGeometry& g, const ConvWeights& weights, int64_t fine_channels, DType dtype) {
  if (!dynamic_cast<Packed*>(weights.packed.get())) weights.packed = std::make_shared<Packed>();
  Packed::Copy& copy = static_cast<Packed&>(*weights.packed).copies[dtype];
  const bool fresh = !copy.values.defined() || copy.values.device() != weights.values.device();
  if (fresh) {
    copy.values =
        Tensor::empty({1, g.weight_count(), 1, 1, 1}, dtype, weights.values.device(), MemoryTag::weights);
  }
  if (fresh || !weights.version || copy.version != *weights.version || copy.source != weights.values.raw()) {
    direct::pack_weights(weights.values, fine_channels, tap_count(g), copy.values);
    copy.source = weights.values.raw();
    copy.version = weights.version ? *weights.version : 0;
  }
  return copy.values;
}

void to_coarse(const ConvGeometry& g, const Tensor& fine, const ConvWeights& weights, Tensor& coarse) {
  const Tensor packed = packed_weights(g, weights, fine.shape().c, fine.dtype());
  const Plan& plan = plan_for(Pass::to_coarse, g, fine, coarse, packed);
  if (!plan.usable) return direct::to_coarse(g, fine, weights.values, coarse);
  const Tensor workspace = workspace_for(plan, fine.device());
  const float one = 1, zero = 0;
  SEMIVOX_CUDNN_CALL(cudnnConvolutionForward(
                         handle(fine.device().index), &one, plan.fine, fine.raw(), plan.weights, packed.raw(),
                         plan.convolution, static_cast<cudnnConvolutionFwdAlgo_t>(plan.algorithm),
                         workspace.raw(), plan.workspace_bytes, &zero, plan.coarse, coarse.raw()),
                     describe(Pass::to_coarse, g, fine, coarse));
}

void to_fine(const ConvGeometry& g, const Tensor& coarse, const ConvWeights& weights, Tensor& fine) {
  const Tensor packed = packed_weights(g, weights, fine.shape().c, fine.dtype());
  const Plan& plan = plan_for(Pass::to_fine, g, fine, coarse, packed);
  if (!plan.usable) return direct::to_fine(g, coarse, weights.values, fine);
  const Tensor workspace = workspace_for(plan, fine.device());
  const float one = 1, zero = 0;
  SEMIVOX_CUDNN_CALL(
      cudnnConvolutionBackwardData(handle(fine.device().index), &one, plan.weights, packed.raw(), plan.coarse,
                                   coarse.raw(), plan.convolution,
                                   static_cast<cudnnConvolutionBwdDataAlgo_t>(plan.algorithm),
                                   workspace.raw(), plan.workspace_bytes, &zero, plan.fine, fine.raw()),
      describe(Pass::to_fine, g, fine, coarse));
}

void to_weights(const ConvGeometry& g, const Tensor& fine, const Tensor& coarse, Tensor& dw) {
  // The library writes the gradient in the dtype of the activations.
  const Tensor gradient = Tensor::empty(dw.shape(), fine.dtype(), dw.device(), MemoryTag::workspace);
  const Plan& plan = plan_for(Pass::weights, g, fine, coarse, gradient);
  if (!plan.usable) return direct::to_weights(g, fine, coarse, dw);
  const Tensor workspace = workspace_for(plan, fine.device());
  const float one = 1, zero = 0;
  SEMIVOX_CUDNN_CALL(cudnnConvolutionBackwardFilter(
                         handle(fine.device().index), &one, plan.fine, fine.raw(), plan.coarse, coarse.raw(),
                         plan.convolution, static_cast<cudnnConvolutionBwdFilterAlgo_t>(plan.algorithm),
                         workspace.raw(), plan.workspace_bytes, &zero, plan.weights, gradient.raw()),
                     describe(Pass::weights, g, fine, coarse));
  direct::add_unpacked(gradient, fine.shape().c, tap_count(g), dw);
}

}  // namespace

void conv_forward(const ConvGeometry& g, const Tensor& x, const ConvWeights& weights, const Tensor& bias,
                  Tensor& y) {
  if (x.dtype() != y.dtype()) return cudnn::conv_forward(g, cast(x, DType::f32), weights, bias, y);
  if (pointwise::takes(g)) {
    pointwise::conv_forward(x, weights.values, y);
  } else if (g.transposed) {
    to_fine(g, x, weights, y);
  } else {
    to_coarse(g, x, weights, y);
  }
  if (bias.defined()) activate(y, bias, 1, {});
}

void conv_backward_data(const ConvGeometry& g, const Tensor& dy, const ConvWeights& weights, Tensor& dx) {
  if (dy.dtype() != dx.dtype()) {
    Tensor gradient = Tensor::empty(dx.shape(), DType::f32, dx.device(), MemoryTag::workspace);
    cudnn::conv_backward_data(g, dy, weights, gradient);
    return direct::convert(gradient, dx);
  }
  if (pointwise::takes(g)) return pointwise::conv_backward_data(dy, weights.values, dx);
  if (g.transposed) return to_coarse(g, dy, weights, dx);
  to_fine(g, dy, weights, dx);
}

void conv_backward_weights(const ConvGeometry& g, const Tensor& x, const Tensor& dy, Tensor& dw) {
  if (x.dtype() != dy.dtype()) return cudnn::conv_backward_weights(g, cast(x, DType::f32), dy, dw);
  if (pointwise::takes(g)) return pointwise::conv_backward_weights(x, dy, dw);
  if (g.transposed) return to_weights(g, dy, x, dw);
  to_weights(g, x, dy, dw);
}

}  // namespace semivox::kernels::cudnn

#endif  // SEMIVOX_CUDA
