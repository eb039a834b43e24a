// CUDA builds only: the checked call, and the one stream that all of a device's work is queued on.
#pragma once

#ifdef SEMIVOX_CUDA
#include <cuda_runtime.h>

#include "engine/error.hpp"

namespace semivox::cuda {

/// Throws InternalError (OutOfMemory for that code) naming `what`, file and line unless `status` is success.
void check(cudaError_t status, const char* what, const char* file, int line);

/// The compute stream of the device; created at the first call, never the default stream.
cudaStream_t stream(int device_index);

/// Makes the device current for this thread.
void use(int device_index);

}  // namespace semivox::cuda

#define SEMIVOX_CUDA_CALL(call) ::semivox::cuda::check((call), #call, __FILE__, __LINE__)
#endif
