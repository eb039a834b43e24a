// Products of matrices on the GPU by cuBLAS.
#ifdef SEMIVOX_CUDA

#include <cublas_v2.h>

#include <limits>
#include <map>

#include "engine/cuda_runtime.hpp"
#include "kernels/matmul.hpp"

namespace semivox::kernels::cublas {

namespace {

void check(cublasStatus_t status, const char* call, const char* file, int line, const std::string& what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw InternalError(
      text(file, ":", line, ": ", call, ": ", cublasGetStatusString(status), " (", what, ")"));
}

#define SEMIVOX_CUBLAS_CALL(call, what) check((call), #call, __FILE__, __LINE__, (what))

/// The library's handle for the device, queuing on the device's one stream: its results are then the same in
/// every run.
cublasHandle_t handle(int device_index) {
  static std::map<int, cublasHandle_t> handles;
  cuda::use(device_index);
  auto found = handles.find(device_index);
  if (found == handles.end()) {
    const std::string what = text("device ", device_index);
    cublasHandle_t made = nullptr;
    SEMIVOX_CUBLAS_CALL(cublasCreate(&made), what);
    SEMIVOX_CUBLAS_CALL(cublasSetStream(made, cuda::stream(device_index)), what);
    SEMIVOX_CUBLAS_CALL(cublasSetMathMode(made, CUBLAS_PEDANTIC_MATH), what);
    found = handles.emplace(device_index, made).first;
  }
  return found->second;
}

}  // namespace

void matmul(const Tensor& a, bool transpose_a, const Tensor& b, bool transpose_b, double alpha, double beta,
            Tensor& c) {
  const MatmulSizes sizes(a, transpose_a, b, transpose_b, c);
  const std::string what = text("product of ", a.shape().str(), " and ", b.shape().str());
  for (const int64_t size : {sizes.rows, sizes.columns, sizes.inner, a.shape().c, b.shape().c}) {
    SEMIVOX_CHECK(size <= std::numeric_limits<int>::max(), what);
  }
  // The library counts rows along memory: to it our matrices are transposed, and c' = op(b)' op(a)'.
  const auto size = [](int64_t i) { return static_cast<int>(i); };
  const auto operation = [](bool transpose) { return transpose ? CUBLAS_OP_T : CUBLAS_OP_N; };
  const float alpha_f32 = static_cast<float>(alpha), beta_f32 = static_cast<float>(beta);
  SEMIVOX_CUBLAS_CALL(cublasSgemm(handle(c.device().index), operation(transpose_b), operation(transpose_a),
                                  size(sizes.columns), size(sizes.rows), size(sizes.inner), &alpha_f32,
                                  b.data<float>(), size(b.shape().c), a.data<float>(), size(a.shape().c),
                                  &beta_f32, c.data<float>(), size(c.shape().c)),
                      what);
}

}  // namespace semivox::kernels::cublas
#endif
