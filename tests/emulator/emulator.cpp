#include "tests/emulator/emulator.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <new>
#include <random>
#include <sstream>
#include <stdexcept>
#include <vector>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

// void emulator_switch(void** from, void* to): keeps the callee-saved registers on the running stack, whose
// top goes to *from, and goes on with the stack `to`. (swapcontext would make two system calls each time.)
asm(R"(
.text
.type emulator_switch, @function
emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emulator_switch, . - emulator_switch
)");
extern "C" void emulator_switch(void** from, void* to);

namespace emulator {
namespace {

/// A stack, and where it stopped.
struct Stack {
  void* top = nullptr;  // saved by emulator_switch
  const void* bottom = nullptr;
  size_t bytes = 0;
  void* fake = nullptr;  // AddressSanitizer's own
};

// AddressSanitizer has to be told of every switch.
void leave(Stack& from, const Stack& to) {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber(&from.fake, to.bottom, to.bytes);
#else
  (void)from, (void)to;
#endif
}
void arrive(const Stack& on, Stack* came_from) {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(on.fake, came_from ? &came_from->bottom : nullptr,
                                  came_from ? &came_from->bytes : nullptr);
#else
  (void)on, (void)came_from;
#endif
}

void switch_stack(Stack& from, const Stack& to) {
  leave(from, to);
  emulator_switch(&from.top, to.top);
  arrive(from, nullptr);
}

enum class State { ready, at_barrier, in_warp, done };

struct Thread {
  uint3 index;
  unsigned number = 0;
  State state = State::ready;
  Stack* stack = nullptr;  // null until the thread begins

  // Where it waits.
  const char* operation = "";
  Where where;

  // The warp operation it waits in.
  unsigned mask = 0, source_lane = 0;
  bool orders_memory = false, source_took_part = false;
  uint64_t word = 0;
  Exchanged received{};
};

struct Cancelled {};

/// The block that is running.
struct Block {
  uint64_t number = 0;  // counts all blocks of the program
  std::vector<Thread> threads;
  std::vector<Thread*> ready;      // the last one runs next
  std::vector<int> warp_barriers;  // passed, by warp
  int barriers = 0;                // passed
  size_t done = 0;
  bool cancelled = false;
  std::string error;
};

Block block;
Thread* current = nullptr;  // null outside of kernels
const std::function<void()>* current_kernel = nullptr;
Stack host;
std::deque<Stack> stacks;  // of all threads
std::vector<Stack*> free_stacks;

std::mt19937_64 generator;
bool in_order = true;

template <class T>
void shuffle(std::vector<T>& list) {
  if (!in_order) std::shuffle(list.begin(), list.end(), generator);
}

size_t draw(size_t count) { return in_order ? 0 : generator() % count; }

void make_ready(Thread& thread) {
  thread.state = State::ready;
  block.ready.insert(block.ready.begin() + static_cast<std::ptrdiff_t>(draw(block.ready.size() + 1)),
                     &thread);
}

std::string place(const Thread& thread) {
  std::ostringstream out;
  out << thread.operation << " (" << thread.where.file_name() << ":" << thread.where.line() << ")";
  return out.str();
}

bool same_place(const Thread& a, const Thread& b) {
  const char *file = a.where.file_name(), *other = b.where.file_name();
  return a.where.line() == b.where.line() && a.where.column() == b.where.column() &&
         (file == other || std::strcmp(file, other) == 0);
}

/// What the threads of the block are doing, one part for each thing that some of them do.
std::string describe_block() {
  std::vector<std::pair<std::string, std::string>> groups;  // what, which threads
  for (const Thread& thread : block.threads) {
    const std::string what = thread.state == State::done ? "ended" : "wait in " + place(thread);
    auto group = std::find_if(groups.begin(), groups.end(), [&](const auto& g) { return g.first == what; });
    if (group == groups.end()) {
      groups.emplace_back(what, std::to_string(thread.number));
    } else if (group->second.size() < 20) {
      group->second += " " + std::to_string(thread.number);
    } else if (group->second.back() != '.') {
      group->second += " ...";
    }
  }
  std::string text = "threads of the block do not meet:";
  for (const auto& [what, threads] : groups) text += " [" + threads + "] " + what + ";";
  text.pop_back();
  return text;
}

/// Lets a warp operation go on if all lanes of its mask have arrived, like the waiting `thread`, or ended.
void settle(const Thread& thread) {
  const unsigned warp = thread.number / kWarp, mask = thread.mask;
  Thread* const lanes = &block.threads[warp * kWarp];
  const unsigned count =
      std::min<unsigned>(kWarp, static_cast<unsigned>(block.threads.size()) - warp * kWarp);
  unsigned taking_part = 0, ballot = 0;
  for (unsigned l = 0; l < count; ++l) {
    if ((mask >> l & 1) == 0 || lanes[l].state == State::done) continue;
    if (lanes[l].state != State::in_warp || lanes[l].mask != mask || !same_place(lanes[l], thread)) return;
    taking_part |= 1u << l;
    if (lanes[l].word != 0) ballot |= 1u << l;
  }
  if (thread.orders_memory) ++block.warp_barriers[warp];
  for (unsigned l = 0; l < count; ++l) {
    if ((taking_part >> l & 1) == 0) continue;
    Thread& lane = lanes[l];
    lane.source_took_part = taking_part >> lane.source_lane & 1;
    lane.received = {lane.source_took_part ? lanes[lane.source_lane].word : 0, ballot};
    make_ready(lane);
  }
}

void run_thread() {
  try {
    if (!block.cancelled) (*current_kernel)();
  } catch (const Cancelled&) {
  } catch (const std::exception& error) {
    std::ostringstream out;
    out << "block (" << blockIdx.x << "," << blockIdx.y << "," << blockIdx.z << "), thread ("
        << current->index.x << "," << current->index.y << "," << current->index.z << "): " << error.what();
    if (block.error.empty()) block.error = out.str();
    block.cancelled = true;
  }
  current->state = State::done;
  ++block.done;
  const unsigned first = current->number / kWarp * kWarp;  // others of the warp need not wait for it any more
  for (unsigned i = first; i < first + kWarp && i < block.threads.size(); ++i) {
    if (block.threads[i].state == State::in_warp) settle(block.threads[i]);
  }
}

void begin(Thread& thread) {
  current = &thread;
  threadIdx = thread.index;
}

/// Runs threads on a stack of their own: the one that it was entered for and, while no thread that has begun
/// is next, others. A kernel in which nothing waits needs no switch between its threads.
void run_threads() {
  arrive(Stack{}, &host);
  while (true) {
    run_thread();
    Stack& stack = *current->stack;
    if (!block.ready.empty() && block.ready.back()->stack == nullptr) {
      begin(*block.ready.back());
      block.ready.pop_back();
      current->stack = &stack;
    } else {
      switch_stack(stack, host);
    }
  }
}

Stack* new_stack() {
  constexpr size_t kBytes = 256 << 10, kGuard = 4096;
  char* memory = static_cast<char*>(mmap(nullptr, kBytes + kGuard, PROT_READ | PROT_WRITE,
                                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  if (memory == MAP_FAILED) throw std::bad_alloc();
  mprotect(memory, kGuard, PROT_NONE);  // a stack that overflows stops the program
  // As emulator_switch leaves a stack: six registers, then the address to go on at, which finds no caller.
  void** top = reinterpret_cast<void**>(memory + kGuard + kBytes) - 8;
  std::fill(top, top + 8, nullptr);
  top[6] = reinterpret_cast<void*>(&run_threads);
  stacks.push_back({top, memory + kGuard, kBytes, nullptr});
  return &stacks.back();
}

void run_ready_threads() {
  while (!block.ready.empty()) {
    begin(*block.ready.back());
    block.ready.pop_back();
    if (current->stack == nullptr) {
      if (free_stacks.empty()) free_stacks.push_back(new_stack());
      current->stack = free_stacks.back();
      free_stacks.pop_back();
    }
    switch_stack(host, *current->stack);
    // `current` is the thread that came back: it waits, or it was the last one on its stack.
    if (current->state == State::done) free_stacks.push_back(current->stack);
  }
}

/// Nothing can run: true when all threads wait at one barrier, which then lets them go.
bool pass_barrier() {
  for (const Thread& thread : block.threads) {
    if (thread.state != State::at_barrier || !same_place(thread, block.threads[0])) return false;
  }
  ++block.barriers;
  for (Thread& thread : block.threads) make_ready(thread);
  return true;
}

void run_block() {
  const unsigned count = blockDim.x * blockDim.y * blockDim.z;
  ++block.number;
  block.threads.assign(count, {});
  block.warp_barriers.assign((count + kWarp - 1) / kWarp, 0);
  block.barriers = 0;
  block.done = 0;
  block.ready.resize(count);
  for (unsigned i = 0; i < count; ++i) {
    Thread& thread = block.threads[i];
    thread.number = i;
    thread.index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
    block.ready[count - 1 - i] = &thread;
  }
  shuffle(block.ready);
  while (block.done < count) {
    run_ready_threads();
    if (block.done == count || (!block.cancelled && pass_barrier())) continue;
    if (block.error.empty()) block.error = describe_block();
    block.cancelled = true;  // those that wait end with Cancelled
    for (Thread& thread : block.threads) {
      if (thread.state != State::done) make_ready(thread);
    }
  }
}

/// Lets others run until this thread is ready again.
void wait() {
  switch_stack(*current->stack, host);
  if (block.cancelled) throw Cancelled();
}

}  // namespace

void set_seed(uint64_t seed) {
  in_order = seed == 0;
  generator.seed(seed);
}

std::string launch(dim3 grid, dim3 block_size, const std::function<void()>& kernel) {
  gridDim = grid;
  blockDim = block_size;
  current_kernel = &kernel;
  block.cancelled = false;
  block.error.clear();
  std::vector<uint64_t> order(uint64_t{grid.x} * grid.y * grid.z);
  for (uint64_t i = 0; i < order.size(); ++i) order[i] = i;
  shuffle(order);
  for (const uint64_t i : order) {
    blockIdx = {static_cast<unsigned>(i % grid.x), static_cast<unsigned>(i / grid.x % grid.y),
                static_cast<unsigned>(i / grid.x / grid.y)};
    run_block();
    if (block.cancelled) break;
  }
  current = nullptr;
  return block.error;
}

void fail(const std::string& message) { throw std::runtime_error(message); }

unsigned lane() { return current->number % kWarp; }

void barrier(const Where& where) {
  current->operation = "__syncthreads";
  current->where = where;
  current->state = State::at_barrier;
  wait();
}

Exchanged exchange(const char* operation, unsigned mask, uint64_t word, unsigned source_lane,
                   const Where& where, bool orders_memory) {
  if ((mask >> lane() & 1) == 0) fail(std::string(operation) + ": the lane is not in its own mask");
  Thread& thread = *current;
  thread.operation = operation;
  thread.where = where;
  thread.mask = mask;
  thread.word = word;
  thread.source_lane = source_lane;
  thread.orders_memory = orders_memory;
  thread.state = State::in_warp;
  settle(thread);
  wait();
  if (!thread.source_took_part) {
    fail(place(thread) + " reads lane " + std::to_string(source_lane) + ", which takes no part");
  }
  return thread.received;
}

void pause() {
  if (current == nullptr || in_order || draw(4) != 0) return;
  make_ready(*current);
  wait();
}

SharedHistory::Access SharedHistory::access_now() {
  if (current == nullptr) fail("shared memory used outside of a kernel");
  if (block_ != block.number) *this = SharedHistory();
  block_ = block.number;
  const int thread = static_cast<int>(current->number), warp = thread / static_cast<int>(kWarp);
  return {thread, warp, block.barriers, block.warp_barriers[static_cast<size_t>(warp)]};
}

/// True when nothing makes sure that `earlier`, by another thread, comes before `now`.
bool SharedHistory::unordered(const Access& earlier, const Access& now) {
  return earlier.barriers == now.barriers && earlier.thread != now.thread &&
         (earlier.warp != now.warp || earlier.warp_barriers == now.warp_barriers);
}

void SharedHistory::read() {
  const Access now = access_now();
  if (written_.thread == -1) fail("read of a shared word that the block has not written");
  if (unordered(written_, now)) {
    fail("read of a shared word that thread " + std::to_string(written_.thread) +
         " has written, with no barrier between");
  }
  Access seen = now;
  if (read_.barriers == now.barriers && read_.warp != now.warp && read_.warp != -1) {
    seen.warp = seen.thread = kSeveral;
  } else if (unordered(read_, now)) {
    seen.thread = kSeveral;
  }
  read_ = seen;
}

void SharedHistory::write() {
  const Access now = access_now();
  if (unordered(written_, now)) {
    fail("write to a shared word that thread " + std::to_string(written_.thread) +
         " has written, with no barrier between");
  }
  if (unordered(read_, now)) {
    fail("write to a shared word that another thread has read, with no barrier between");
  }
  written_ = now;
}

}  // namespace emulator
