// A block emulator: runs kernel launches on the CPU, so that device code is tested, and can be stepped
// through in a debugger, where there is no GPU.
//
// Blocks run one after another, the threads of a block as fibers of one host thread. A thread runs until it
// waits (at a barrier, in a warp operation, sometimes before an atomic) or ends; which block and which thread
// comes next is drawn from a seed, so that a result that depends on the order shows. What CUDA leaves
// undefined is an error that the launch reports:
//
//   - a barrier that some threads of the block do not reach, or threads that wait at different barriers
//   - a warp operation that a lane named in its mask does not reach, a shuffle from a lane that takes no part
//   - a read of a shared word that no thread of the block has written
//   - two threads that access a shared word, one of them writing, with no barrier between them
//
// include/cuda_runtime.h puts CUDA's names on top of this file.
#pragma once

#include <cstdint>
#include <functional>
#include <source_location>
#include <string>

struct uint3 {
  unsigned x = 0, y = 0, z = 0;
};
struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

namespace emulator {

using Where = std::source_location;

constexpr unsigned kWarp = 32;

/// Chooses the order of blocks and threads in the launches to come. 0: in order, which is best for stepping.
void set_seed(uint64_t seed);

/// Runs `kernel` once for every thread of every block. Returns what went wrong, or an empty string.
std::string launch(dim3 grid, dim3 block, const std::function<void()>& kernel);

// The rest is called by kernels.

/// Ends the launch with an error of the running thread.
[[noreturn]] void fail(const std::string& message);

/// Waits for all threads of the block.
void barrier(const Where& where);

/// What a lane gets from a warp operation: the word of its source lane, and a bit for every lane with a
/// non-zero word.
struct Exchanged {
  uint64_t word;
  unsigned ballot;
};

/// Waits for the lanes of `mask`, each with a word to give and a lane to take one from. With `orders_memory`
/// shared memory is also synchronised, which CUDA promises for __syncwarp alone.
Exchanged exchange(const char* operation, unsigned mask, uint64_t word, unsigned source_lane,
                   const Where& where, bool orders_memory = false);

/// The running thread's lane in its warp.
unsigned lane();

/// Lets other threads run first, sometimes.
void pause();

/// Who last wrote and read a shared word, and when.
class SharedHistory {
 public:
  void read();
  void write();

 private:
  struct Access {
    int thread = -1, warp = -1;  // kSeveral: more than one
    int barriers = -1;           // passed by the block until then
    int warp_barriers = -1;      // passed by the warp until then
  };
  static constexpr int kSeveral = -2;
  static bool unordered(const Access& earlier, const Access& now);
  Access access_now();

  uint64_t block_ = 0;  // number of the block that the accesses belong to
  Access written_, read_;
};

/// A word of shared memory. Static, as shared variables are; what an earlier block left does not count.
template <class T>
class Shared {
 public:
  Shared() = default;
  Shared(const Shared&) = delete;

  operator T() const {
    history_.read();
    return value_;
  }
  Shared& operator=(T value) {
    history_.write();
    value_ = value;
    return *this;
  }
  Shared& operator=(const Shared& other) { return *this = static_cast<T>(other); }
  Shared& operator+=(T value) { return *this = static_cast<T>(*this) + value; }

 private:
  T value_{};
  mutable SharedHistory history_;
};

}  // namespace emulator
