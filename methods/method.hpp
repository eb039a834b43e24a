// Method: its networks, its losses and what one training iteration does. The trainer owns everything else.
//
// A method is one file in methods/ that ends in a RegisterMethod object; nothing else has to know of it.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/optimizer.hpp"
#include "layers/network.hpp"
#include "methods/options.hpp"
#include "methods/schedule.hpp"

namespace semivox {

/// One batch; the labelled samples come first.
struct Batch {
  Tensor image;         ///< (N, C, D, H, W) f32
  Tensor label;         ///< (N, 1, D, H, W) u8; rows of unlabelled samples are 0 and must not be read
  int64_t labeled = 0;  ///< how many samples are labelled

  Tensor labeled_images() const { return image.samples(0, labeled); }
  Tensor unlabeled_images() const { return image.samples(labeled, image.shape().n - labeled); }
  Tensor labels() const { return label.samples(0, labeled); }
};

/// A stretch of the training with one kind of batch.
struct Phase {
  std::string name;
  int64_t iterations = 0;
  int64_t labeled = 0, unlabeled = 0;  ///< samples per batch
  LearningRate learning_rate;
  /// The next phase starts from this one's best validated weights, if there are any.
  bool continue_from_best = false;
};

/// What a method needs to set itself up.
struct MethodSetup {
  NetworkOptions network;
  DType precision = DType::f32;
  Device device;
  uint64_t seed = 1337;
  int64_t iterations = 6000;  ///< of all phases together
  int64_t batch = 4;          ///< images that the student sees per iteration
  LearningRate learning_rate;
  OptimizerOptions optimizer;
};

/// Circumstances of one iteration.
struct StepContext {
  int64_t phase = 0;
  int64_t iteration = 0;  ///< within the phase, from 0
  StepNumber learning_rate;
  Random* random = nullptr;  ///< streams of this iteration
};

/// Named numbers of one iteration, in the order in which they are logged; the first is "loss".
using StepReport = std::vector<std::pair<std::string, double>>;

/// Reads the report of the iteration that the device has just made: waits for it.
using StepReader = std::function<StepReport()>;

class Method {
 public:
  virtual ~Method() = default;

  /// The method's phases for this setup; their iterations add up to setup.iterations.
  virtual std::vector<Phase> phases(const MethodSetup& setup) const = 0;

  /// Makes networks and optimisers.
  virtual void build(const MethodSetup& setup) = 0;

  /// Called before the first iteration of phase 1, 2, ...; the student holds the weights that the phase
  /// starts from.
  virtual void begin_phase(int64_t phase) { (void)phase; }

  /// Queues one iteration: forward passes, loss, backward, optimiser step, teacher update. No result of the
  /// device is read before the end, by the reader that is returned: reading waits for the GPU, which then has
  /// nothing queued.
  ///
  /// On a GPU an iteration is recorded and replayed. What depends on the iteration (ramps, decays, what the
  /// host draws) therefore goes through engine/step_value.hpp; functions handed to it, and the reader, may
  /// refer to the method and to `context`, which live on, and copy everything else.
  virtual StepReader queue(const Batch& batch, const StepContext& context) = 0;

  /// False when the host has to see results of an iteration in its middle, to decide what comes next.
  virtual bool replayable() const { return true; }

  /// One iteration, with its report.
  StepReport step(const Batch& batch, const StepContext& context) { return queue(batch, context)(); }

  /// The network that is validated, saved and used for prediction.
  virtual Network& student() = 0;

  /// Every network and optimiser with its name in checkpoints.
  virtual std::vector<std::pair<std::string, Network*>> networks() = 0;
  virtual std::vector<std::pair<std::string, Optimizer*>> optimizers() = 0;

  /// Every other tensor that the next iteration depends on (queues, prototypes, memory banks) with its name
  /// in checkpoints. Shapes and dtypes are fixed from `build` on; loading writes into the tensors' memory.
  virtual std::vector<std::pair<std::string, Tensor*>> buffers() { return {}; }
};

/// What is known of a method without building it.
struct MethodInfo {
  std::string name;
  std::string paper;    ///< authors, title, venue
  std::string summary;  ///< one sentence
  std::function<std::unique_ptr<Method>(OptionReader&)> make;
  std::vector<std::string> networks = {};  ///< that the method trains, its default first; empty: any network
};

/// Adds a method to the registry when the program starts.
struct RegisterMethod {
  explicit RegisterMethod(MethodInfo info);
};

/// All methods, by name.
const std::vector<MethodInfo>& registered_methods();

/// Throws UsageError listing the known names.
const MethodInfo& find_method(const std::string& name);

/// Throws UsageError listing the method's networks when `network` is none of them; `setting` says what was
/// set, as in "--network".
void require_network(const MethodInfo& method, const std::string& network, const std::string& setting);

/// The one phase of mean-teacher methods: half of every batch is labelled. Throws UsageError for a batch of
/// one.
std::vector<Phase> half_labeled_phase(const MethodSetup& setup);

/// Student, optimiser and, for mean-teacher methods, a teacher of the same architecture: what most methods
/// own.
class StudentTeacher {
 public:
  /// Builds the student from the setup's seed. The teacher gets first values of its own, as in the
  /// references, or none.
  void build(const MethodSetup& setup, bool with_teacher);

  /// Clears gradients, runs `loss` backwards, makes the optimiser step.
  void update(const Variable& loss, StepNumber learning_rate);

  std::vector<std::pair<std::string, Network*>> networks() const;

  std::unique_ptr<Network> student, teacher;
  std::unique_ptr<Optimizer> optimizer;
};

/// Base of the methods that own one such pair; half of every batch is labelled unless they say otherwise. A
/// method with another network that learns adds it by overriding `networks` and `optimizers`.
class StudentTeacherMethod : public Method {
 public:
  std::vector<Phase> phases(const MethodSetup& setup) const override { return half_labeled_phase(setup); }
  Network& student() override { return *nets_.student; }
  std::vector<std::pair<std::string, Network*>> networks() override { return nets_.networks(); }
  std::vector<std::pair<std::string, Optimizer*>> optimizers() override {
    return {{"sgd", nets_.optimizer.get()}};
  }

 protected:
  StudentTeacher nets_;
};

}  // namespace semivox
