// A training iteration recorded as a CUDA graph: queued once by the host, then launched as a whole.
//
// To record it the host runs the iteration; its kernels are collected instead of run, made into a graph, and
// launched. To replay it the kept functions of engine/step_value.hpp calculate what has changed, one copy
// sends that to the device, one call launches the graph.
//
// A graph uses the addresses that it was recorded with, so every block of memory that the recorded iteration
// asked for stays set aside for it. While one is recorded the host cannot see the device's results: a copy to
// the host throws. Copies from the host are part of the replay with the bytes that they had.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "engine/tensor.hpp"

namespace semivox {

class StepRecording {
 public:
  /// `device` is a GPU.
  explicit StepRecording(Device device);
  ~StepRecording();
  StepRecording(const StepRecording&) = delete;
  StepRecording& operator=(const StepRecording&) = delete;

  /// Runs `queue`, which queues an iteration on the device's stream, records it and launches it. Called once;
  /// what `queue` throws leaves nothing recorded. Work that the iteration does for the first time (choosing
  /// algorithms, filling caches) should have been done before.
  void record(const std::function<void()>& queue);

  /// Launches the recorded iteration once more; what it wrote can be read when this returns, as after queuing
  /// it.
  void replay();

 private:
  friend struct StepRoom reserve_step_room(int64_t bytes);
  friend void keep_step_action(std::function<void()> action);

  void launch();

  Device device_;
  Tensor table_;                                // u8, on the device
  char* host_table_ = nullptr;                  // page-locked
  int64_t used_ = 0;                            // bytes of the table
  std::vector<std::function<void()>> actions_;  // of every replay
  int memory_ = 0;                              // the set of blocks that the recorded iteration uses
  void* graph_ = nullptr;                       // cudaGraphExec_t
};

}  // namespace semivox
