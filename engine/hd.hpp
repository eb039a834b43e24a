// SEMIVOX_HD marks functions that run on the host and, in CUDA builds, on the device as well.
#pragma once

#ifdef __CUDACC__
#define SEMIVOX_HD __host__ __device__
#else
#define SEMIVOX_HD
#endif
