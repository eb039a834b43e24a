#include "engine/step_recording.hpp"

#include <utility>

#include "engine/cuda_runtime.hpp"
#include "engine/step_value.hpp"

namespace semivox {

namespace {

StepRecording* active = nullptr;  // training is the work of one thread

}  // namespace

bool recording_step() { return active != nullptr; }

#ifdef SEMIVOX_CUDA

namespace {

constexpr int64_t kTableBytes = int64_t{1} << 20;  // ramps, boxes, small tables of one iteration
constexpr int64_t kRoomAlignment = 16;

/// A stream that collects its work instead of running it, until `end`.
class Capture {
 public:
  explicit Capture(cudaStream_t stream) : stream_(stream) {
    // Relaxed: allocating memory does not disturb the recording, since the blocks stay.
    SEMIVOX_CUDA_CALL(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeRelaxed));
  }
  ~Capture() {
    cudaGraph_t graph = nullptr;
    if (stream_ != nullptr && cudaStreamEndCapture(stream_, &graph) == cudaSuccess) cudaGraphDestroy(graph);
    if (stream_ != nullptr) cudaGetLastError();  // the error that is on its way says more
  }
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  cudaGraphExec_t end() {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    SEMIVOX_CUDA_CALL(cudaStreamEndCapture(std::exchange(stream_, nullptr), &graph));
    const cudaError_t status = cudaGraphInstantiateWithFlags(&executable, graph, 0);
    cudaGraphDestroy(graph);
    SEMIVOX_CUDA_CALL(status);
    return executable;
  }

 private:
  cudaStream_t stream_;
};

}  // namespace

StepRecording::StepRecording(Device device) : device_(device) {
  SEMIVOX_CHECK(device.is_cuda(), "an iteration can be recorded on a GPU, found ", device.name());
  cuda::use(device.index);
  table_ = Tensor::empty({1, kTableBytes, 1, 1, 1}, DType::u8, device, MemoryTag::workspace);
  void* host = nullptr;
  SEMIVOX_CUDA_CALL(cudaMallocHost(&host, static_cast<size_t>(kTableBytes)));
  host_table_ = static_cast<char*>(host);
}

StepRecording::~StepRecording() {
  // Nothing can be thrown here; what fails will be reported by the next checked call.
  cudaStreamSynchronize(cuda::stream(device_.index));
  if (graph_ != nullptr) cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph_));
  cudaFreeHost(host_table_);
  if (memory_ != 0) release_memory_set(device_, memory_);
}

void StepRecording::record(const std::function<void()>& queue) {
  SEMIVOX_CHECK(memory_ == 0 && active == nullptr, "a recording is under way or done");
  struct Scope {
    explicit Scope(StepRecording* recording) { active = recording; }
    ~Scope() {
      end_memory_set(active->device_);
      active = nullptr;
    }
  };
  Capture capture(cuda::stream(device_.index));
  memory_ = begin_memory_set(device_);
  {
    const Scope scope(this);
    queue();
  }
  graph_ = capture.end();
  launch();
}

void StepRecording::replay() {
  SEMIVOX_CHECK(graph_ != nullptr, "nothing was recorded");
  synchronize(device_);  // the last replay may still be reading the table
  for (const auto& action : actions_) action();
  launch();
}

void StepRecording::launch() {
  const cudaStream_t stream = cuda::stream(device_.index);
  SEMIVOX_CUDA_CALL(
      cudaMemcpyAsync(table_.raw(), host_table_, static_cast<size_t>(used_), cudaMemcpyDefault, stream));
  SEMIVOX_CUDA_CALL(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph_), stream));
}

StepRoom reserve_step_room(int64_t bytes) {
  SEMIVOX_CHECK(active != nullptr, "no recording is under way");
  const int64_t begin = (active->used_ + kRoomAlignment - 1) / kRoomAlignment * kRoomAlignment;
  SEMIVOX_CHECK(begin + bytes <= kTableBytes, "a recorded iteration has ", begin,
                " bytes of values, no room for ", bytes, " more; --graph false trains without recording");
  active->used_ = begin + bytes;
  return {active->host_table_ + begin, static_cast<char*>(active->table_.raw()) + begin};
}

void keep_step_action(std::function<void()> action) { active->actions_.push_back(std::move(action)); }

#else

// Without CUDA nothing is ever recorded.
StepRecording::StepRecording(Device device) : device_(device) {
  throw InternalError("an iteration can be recorded in a CUDA build alone");
}
StepRecording::~StepRecording() = default;
void StepRecording::record(const std::function<void()>&) {}
void StepRecording::replay() {}
void StepRecording::launch() {}
StepRoom reserve_step_room(int64_t) { throw InternalError("no recording is under way"); }
void keep_step_action(std::function<void()>) { throw InternalError("no recording is under way"); }

#endif

}  // namespace semivox
