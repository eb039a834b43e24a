// Products of matrices on the GPU by cuBLAS.
#ifdef SEMIVOX_CUDA

#include <cublas_v2.h>

#include <limits>
#include <map>

#include "engine/cuda_runtime.hpp"
#include "kernels/matmul.hpp"

namespace semivox::kernels::cublas {

namespace {

[[noreturn]] void fail(cublasStatus_t status, const char* call, const char* file, int line,
                       const std::string& what) {
  throw InternalError(
      text(file, ":", line, ": ", call, ": ", cublasGetStatusString(status), " (", what, ")"));
}

// `what` is evaluated for a message alone.
#define SEMIVOX_CUBLAS_CALL(call, what)                                                                   \
  do {                                                                                                    \
    const cublasStatus_t status_of_call = (call);                                                         \
    if (status_of_call != CUBLAS_STATUS_SUCCESS) fail(status_of_call, #call, __FILE__, __LINE__, (what)); \
  } while (false)

/// Scratch memory of the library: what it takes by default on the largest GPUs.
constexpr int64_t kWorkspaceBytes = int64_t{32} << 20;

struct Library {
  cublasHandle_t handle = nullptr;
  Tensor workspace;  // ours: the library's own would have to be allocated while an iteration is recorded
};

/// The library's handle for the device, queuing on the device's one stream: its results are then the same in
/// every run.
cublasHandle_t handle(int device_index) {
  static auto& libraries = *new std::map<int, Library>;  // never destroyed: the GPU may be gone before it
  cuda::use(device_index);
  auto found = libraries.find(device_index);
  if (found == libraries.end()) {
    const std::string what = text("device ", device_index);
    Library made;
    made.workspace = Tensor::empty({1, kWorkspaceBytes, 1, 1, 1}, DType::u8, {DeviceKind::cuda, device_index},
                                   MemoryTag::workspace);
    SEMIVOX_CUBLAS_CALL(cublasCreate(&made.handle), what);
    SEMIVOX_CUBLAS_CALL(cublasSetStream(made.handle, cuda::stream(device_index)), what);
    SEMIVOX_CUBLAS_CALL(
        cublasSetWorkspace(made.handle, made.workspace.raw(), static_cast<size_t>(kWorkspaceBytes)), what);
    SEMIVOX_CUBLAS_CALL(cublasSetMathMode(made.handle, CUBLAS_PEDANTIC_MATH), what);
    found = libraries.emplace(device_index, made).first;
  }
  return found->second.handle;
}

}  // namespace

void matmul(const Tensor& a, bool transpose_a, const Tensor& b, bool transpose_b, double alpha, double beta,
            Tensor& c) {
  const MatmulSizes sizes(a, transpose_a, b, transpose_b, c);
  const auto what = [&] { return text("product of ", a.shape().str(), " and ", b.shape().str()); };
  for (const int64_t size : {sizes.rows, sizes.columns, sizes.inner, a.shape().c, b.shape().c}) {
    SEMIVOX_CHECK(size <= std::numeric_limits<int>::max(), what());
  }
  // The library counts rows along memory: to it our matrices are transposed, and c' = op(b)' op(a)'.
  const auto size = [](int64_t i) { return static_cast<int>(i); };
  const auto operation = [](bool transpose) { return transpose ? CUBLAS_OP_T : CUBLAS_OP_N; };
  const float alpha_f32 = static_cast<float>(alpha), beta_f32 = static_cast<float>(beta);
  SEMIVOX_CUBLAS_CALL(cublasSgemm(handle(c.device().index), operation(transpose_b), operation(transpose_a),
                                  size(sizes.columns), size(sizes.rows), size(sizes.inner), &alpha_f32,
                                  b.data<float>(), size(b.shape().c), a.data<float>(), size(a.shape().c),
                                  &beta_f32, c.data<float>(), size(c.shape().c)),
                      what());
}

}  // namespace semivox::kernels::cublas
#endif
