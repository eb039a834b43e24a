// The emulator itself: what it computes, and that it sees what CUDA leaves undefined.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <set>
#include <string>
#include <vector>

#include "tests/emulator/include/cuda_runtime.h"

namespace {

/// A kernel's failure under several orders of the threads: the same for all, or the test fails.
std::string failure(dim3 grid, dim3 block, const std::function<void()>& kernel) {
  std::string found;
  for (const uint64_t seed : {0, 1, 2, 3}) {
    emulator::set_seed(seed);
    found = emulator::launch(grid, block, kernel);
    if (found.empty()) return found;
  }
  return found;
}

void contains(const std::string& text, const std::string& part) {
  INFO(text);
  CHECK(text.find(part) != std::string::npos);
}

/// Sum of the squares 0 ... n-1 by a tree in shared memory. `last_barrier` false leaves out the barrier
/// between the steps of the tree.
template <int kThreads>
void tree_sum(bool last_barrier, int64_t* sum) {
  SEMIVOX_SHARED(int64_t) values[kThreads];
  const unsigned t = threadIdx.x;
  values[t] = int64_t{t} * t;
  __syncthreads();
  for (unsigned half = kThreads / 2; half > 0; half /= 2) {
    if (t < half) values[t] += values[t + half];
    if (last_barrier) __syncthreads();
  }
  if (t == 0) *sum = values[0];
}

}  // namespace

TEST_CASE("emulator: every thread of every block runs once, with its indices") {
  for (const uint64_t seed : {0, 5}) {
    emulator::set_seed(seed);
    std::vector<int> visits(2 * 3 * 4 * 5 * 3 * 2);
    REQUIRE(emulator::launch({2, 3, 4}, {5, 3, 2}, [&] {
              const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
              const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
              ++visits[block * 30 + thread];
            }) == "");
    CHECK(std::set<int>(visits.begin(), visits.end()) == std::set<int>{1});
  }
}

TEST_CASE("emulator: a seed is an order of the threads, seed 0 the natural one") {
  const auto order = [](uint64_t seed) {
    emulator::set_seed(seed);
    std::vector<unsigned> threads;
    REQUIRE(emulator::launch(2, 64, [&] {
              __syncthreads();
              threads.push_back(blockIdx.x * 64 + threadIdx.x);
            }) == "");
    return threads;
  };
  std::vector<unsigned> natural(128);
  for (unsigned i = 0; i < 128; ++i) natural[i] = i;
  CHECK(order(0) == natural);
  CHECK(order(1) == order(1));
  CHECK(order(1) != order(2));
  CHECK(order(1) != natural);
}

TEST_CASE("emulator: shared memory with its barriers") {
  int64_t sum = 0;
  for (const uint64_t seed : {0, 1, 2, 3}) {
    emulator::set_seed(seed);
    REQUIRE(emulator::launch(3, 64, [&] { tree_sum<64>(true, &sum); }) == "");
    CHECK(sum == 63 * 64 * 127 / 6);
  }
}

TEST_CASE("emulator: a missing barrier is seen") {
  int64_t sum = 0;
  contains(failure(1, 64, [&] { tree_sum<64>(false, &sum); }), "with no barrier between");
  contains(failure(1, 64,
                   [] {
                     SEMIVOX_SHARED(int) word;
                     if (threadIdx.x == 0) word = 1;
                     __syncthreads();
                     const int seen = word;
                     if (threadIdx.x == 40) word = seen + 1;  // others may still have to read
                   }),
           "with no barrier between");
  contains(failure(1, 2,
                   [] {
                     SEMIVOX_SHARED(int) word;
                     word = 1;
                   }),
           "with no barrier between");
}

TEST_CASE("emulator: a missing barrier around global memory shows in the result") {
  const auto shift = [](uint64_t seed, bool synchronized) {
    emulator::set_seed(seed);
    std::vector<int> from(64, -1), to(64);
    REQUIRE(emulator::launch(1, 64, [&] {
              from[threadIdx.x] = static_cast<int>(threadIdx.x);
              if (synchronized) __syncthreads();
              to[threadIdx.x] = from[(threadIdx.x + 1) % 64];
            }) == "");
    return to;
  };
  CHECK(shift(1, true) == shift(2, true));
  CHECK(shift(1, false) != shift(2, false));
}

TEST_CASE("emulator: __syncwarp orders the shared memory of a warp, not of two") {
  const auto neighbour = [](unsigned distance) {
    SEMIVOX_SHARED(unsigned) words[64];
    words[threadIdx.x] = threadIdx.x;
    __syncwarp();
    if (words[threadIdx.x ^ distance] != (threadIdx.x ^ distance)) emulator::fail("wrong value");
  };
  CHECK(failure(1, 64, [&] { neighbour(1); }) == "");
  // Across warps the word may not even have been written: either is an error.
  contains(failure(1, 64, [&] { neighbour(32); }), "shared word");
}

TEST_CASE("emulator: a read of a never-written shared word is seen") {
  const auto read = [](unsigned word) {
    SEMIVOX_SHARED(float) words[8];
    if (threadIdx.x < 7 && blockIdx.x == 0) words[threadIdx.x] = 1.0f;
    __syncthreads();
    if (threadIdx.x == 0 && static_cast<float>(words[word]) < 0) emulator::fail("wrong value");
  };
  CHECK(failure(1, 8, [&] { read(6); }) == "");
  contains(failure(1, 8, [&] { read(7); }), "thread (0,0,0): read of a shared word that the block has not");
  // What the block before wrote does not count.
  contains(failure(2, 8, [&] { read(6); }), "block (1,0,0)");
}

TEST_CASE("emulator: barriers that not all threads reach are seen") {
  const std::string early = failure(1, 64, [] {
    if (threadIdx.x == 5) return;
    __syncthreads();
  });
  contains(early, "threads of the block do not meet: [");
  contains(early, "[5] ended");
  contains(early, "wait in __syncthreads (");
  contains(failure(1, 64,
                   [] {
                     if (threadIdx.x < 32) {
                       __syncthreads();
                     } else {
                       __syncthreads();
                     }
                   }),
           "do not meet");
  contains(failure(1, 64,
                   [] {
                     if (threadIdx.x == 3) {
                       __syncthreads();
                     } else {
                       __syncwarp();
                     }
                   }),
           "wait in __syncwarp");
}

TEST_CASE("emulator: an error of one thread ends the launch, and the next one is sound") {
  emulator::set_seed(1);
  contains(emulator::launch(2, 64,
                            [] {
                              __syncthreads();
                              if (threadIdx.x == 9) emulator::fail("nine");
                              __syncthreads();
                            }),
           "thread (9,0,0): nine");
  int64_t sum = 0;
  CHECK(emulator::launch(1, 64, [&] { tree_sum<64>(true, &sum); }) == "");
}

TEST_CASE("emulator: shuffles") {
  const auto equal = [](int found, unsigned expected) {
    if (found != static_cast<int>(expected)) emulator::fail("lane has " + std::to_string(found));
  };
  CHECK(failure(1, 64, [&] {
          const unsigned lane = threadIdx.x % 32;
          const int value = static_cast<int>(threadIdx.x);
          const unsigned warp = threadIdx.x - lane;
          equal(__shfl_down_sync(~0u, value, 3), lane + 3 < 32 ? threadIdx.x + 3 : threadIdx.x);
          equal(__shfl_up_sync(~0u, value, 5), lane >= 5 ? threadIdx.x - 5 : threadIdx.x);
          equal(__shfl_xor_sync(~0u, value, 6), threadIdx.x ^ 6);
          equal(__shfl_sync(~0u, value, 7), warp + 7);
          equal(__shfl_down_sync(~0u, value, 3, 8), lane % 8 + 3 < 8 ? threadIdx.x + 3 : threadIdx.x);
          equal(__shfl_up_sync(~0u, value, 3, 8), lane % 8 >= 3 ? threadIdx.x - 3 : threadIdx.x);
          equal(__shfl_sync(~0u, value, 9, 8), warp + lane / 8 * 8 + 1);
          if (__shfl_xor_sync(~0u, 0.5 * value, 1) != 0.5 * (value ^ 1)) emulator::fail("double");
          if (lane >= 16) equal(__shfl_xor_sync(0xffff0000u, value, 2), threadIdx.x ^ 2);
        }) == "");
}

TEST_CASE("emulator: votes") {
  CHECK(failure(1, 64, [] {
          const unsigned lane = threadIdx.x % 32;
          if (__ballot_sync(~0u, lane % 2) != 0xaaaaaaaau) emulator::fail("ballot");
          if (!__any_sync(~0u, lane == 31) || __any_sync(~0u, lane == 32)) emulator::fail("any");
          if (!__all_sync(~0u, lane < 32) || __all_sync(~0u, lane < 31)) emulator::fail("all");
        }) == "");
}

TEST_CASE("emulator: warp operations that some lane does not reach are seen") {
  contains(failure(1, 32,
                   [] {
                     if (threadIdx.x != 4) {
                       __shfl_xor_sync(~0u, 1, 1);
                     } else {
                       __syncthreads();
                     }
                   }),
           "wait in __shfl_xor_sync");
  contains(failure(1, 32, [] { __shfl_sync(0xffffu, 1, 0); }), "not in its own mask");
  // Lanes that have ended need not come (a whole-warp mask in a small block), but have nothing to give.
  CHECK(failure(1, 20, [] { __shfl_down_sync(~0u, 1, 1, 4); }) == "");
  contains(failure(1, 20, [] { __shfl_down_sync(~0u, 1, 1); }), "reads lane 20, which takes no part");
}

TEST_CASE("emulator: atomics, with other threads between them") {
  for (const uint64_t seed : {0, 1, 2}) {
    emulator::set_seed(seed);
    int count = 0, lowest = 1000, highest = -1000;
    float total = 0;
    std::vector<int> tickets;
    unsigned long long last = 0;
    REQUIRE(emulator::launch(4, 64, [&] {
              const int i = static_cast<int>(blockIdx.x * 64 + threadIdx.x);
              tickets.push_back(atomicAdd(&count, 1));
              atomicAdd(&total, 0.25f);
              atomicMin(&lowest, 7 - i);
              atomicMax(&highest, i - 7);
              while (true) {
                const unsigned long long old = last;
                if (atomicCAS(&last, old, old + 2) == old) break;
              }
            }) == "");
    CHECK(count == 256);
    CHECK(std::set<int>(tickets.begin(), tickets.end()).size() == 256);
    CHECK(total == 64);
    CHECK(lowest == 7 - 255);
    CHECK(highest == 255 - 7);
    CHECK(last == 512);
  }
}

TEST_CASE("emulator: device memory is NaN at first and out of the host's reach") {
  void* block = nullptr;
  REQUIRE(cudaMalloc(&block, 4 * sizeof(float)) == cudaSuccess);
  float values[4];
  REQUIRE(cudaMemcpyAsync(values, block, sizeof values, cudaMemcpyDefault, nullptr) == cudaSuccess);
  for (const float value : values) CHECK(value != value);
  REQUIRE(cudaMemsetAsync(block, 0, sizeof values, nullptr) == cudaSuccess);
  REQUIRE(cudaMemcpyAsync(values, block, sizeof values, cudaMemcpyDefault, nullptr) == cudaSuccess);
  for (const float value : values) CHECK(value == 0);

  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    close(STDERR_FILENO);                             // a sanitizer would report what is expected
    signal(SIGSEGV, SIG_DFL);                         // and doctest as well
    _exit(*static_cast<volatile char*>(block) == 0);  // never gets to the end
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFSIGNALED(status));
  CHECK(cudaFree(block) == cudaSuccess);
  CHECK(cudaFree(block) == cudaErrorInvalidValue);
  CHECK(cudaMalloc(&block, size_t{1} << 40) == cudaErrorMemoryAllocation);
}

namespace {
void add_kernel(int64_t n, float* values, float term) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < n) values[i] += term;
  if (term < 0) emulator::fail("negative term");
}
}  // namespace

TEST_CASE("emulator: a launch with its arguments, and what it reports") {
  void* block = nullptr;
  REQUIRE(cudaMalloc(&block, 100 * sizeof(float)) == cudaSuccess);
  REQUIRE(cudaMemsetAsync(block, 0, 100 * sizeof(float), nullptr) == cudaSuccess);
  int64_t n = 99;
  auto* values = static_cast<float*>(block);
  float term = 1.5f;
  void* arguments[] = {&n, &values, &term};
  CHECK(cudaLaunchKernel(add_kernel, 4, 32, arguments, 0, nullptr) == cudaSuccess);
  float found[100];
  REQUIRE(cudaMemcpyAsync(found, block, sizeof found, cudaMemcpyDefault, nullptr) == cudaSuccess);
  CHECK(found[98] == 1.5f);
  CHECK(found[99] == 0);
  term = -1;
  REQUIRE(cudaLaunchKernel(add_kernel, 4, 32, arguments, 0, nullptr) == cudaErrorLaunchFailure);
  contains(cudaGetErrorString(cudaErrorLaunchFailure), "negative term");
  CHECK(cudaLaunchKernel(add_kernel, 4, 2048, arguments, 0, nullptr) == cudaErrorInvalidConfiguration);
  CHECK(cudaLaunchKernel(add_kernel, {1, 70000}, 32, arguments, 0, nullptr) == cudaErrorInvalidConfiguration);
  CHECK(cudaLaunchKernel(add_kernel, 0, 32, arguments, 0, nullptr) == cudaErrorInvalidConfiguration);
  CHECK(cudaFree(block) == cudaSuccess);
}
