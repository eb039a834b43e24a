// SS-Net (Wu et al., "Exploring smoothness and class-separation for semi-supervised medical image
// segmentation", MICCAI 2022).
//
//   L = Dice(labelled)  +  w(t) * ( LDS(all)  +  0.1 * (C(labelled, y) + C(unlabelled, argmax p)) )
//
// Smoothness: LDS is the Dice distance between the prediction and the prediction of the adversarially
// perturbed image (methods/vat.hpp). Class separation: every voxel's feature vector is projected and drawn to
// stored prototypes of its class, weighted by a selector that the network learns (methods/prototypes.hpp).
// The prototypes are projections of rightly predicted labelled voxels of the present batch.
#include "layers/ss_net.hpp"
#include "engine/arithmetic.hpp"
#include "kernels/rows.hpp"
#include "kernels/uncertainty.hpp"
#include "layers/rows.hpp"
#include "methods/dice_loss.hpp"
#include "methods/method.hpp"
#include "methods/prototypes.hpp"
#include "methods/ramp_options.hpp"
#include "methods/vat.hpp"

namespace semivox {

namespace {

/// Voxels (over all samples) that have class c in `labels` and, where it is given, in `also`; both u8 (N, V).
std::vector<int32_t> voxels_of_class(const Tensor& labels, const Tensor& also, int64_t c) {
  const uint8_t* label = labels.data<uint8_t>();
  const uint8_t* second = also.defined() ? also.data<uint8_t>() : label;
  std::vector<int32_t> voxels;
  for (int64_t i = 0; i < labels.elements(); ++i) {
    if (label[i] == c && second[i] == c) voxels.push_back(static_cast<int32_t>(i));
  }
  return voxels;
}

class SSNet : public StudentTeacherMethod {
 public:
  explicit SSNet(OptionReader& options)
      : two_dimensional_(
            options.word("dice", "3d", {"3d", "2d"},
                         "Dice and distance of the 3D code (foreground, no squares) or of the 2D "
                         "code (mean over all classes, squares)") == "2d"),
        ramp_(options, 1.0, 40,
              {.weight = "final weight of smoothness and class separation (2D code: 0.1)",
               .length = "steps until the weight is reached, 0: from the start (2D code: 200)"}),
        rampup_first_(options.integer(
            "rampup_first", 1, "number that the ramp-up gives the first iteration (2D code: 0)", 0, 1)),
        contrast_(options.number("contrast", 0.1, "weight of class separation beside smoothness", 0)),
        prototypes_(options.integer("prototypes", 32, "vectors stored for a class", 2, 4096)),
        highest_(options.word("prototype_scores", "lowest", {"lowest", "highest"},
                              "which scores of the selector make prototypes (the paper: highest)") ==
                 "highest"),
        background_(options.flag("background_prototypes", false, "store prototypes of the background, too")),
        wave_(options.word("vat_start", "random", {"random", "wave"},
                           "first direction of the adversarial noise (wave: a fixed one, for replays)") ==
              "wave") {
    vat_.xi = options.number("vat_xi", 10, "length of the step that finds the adversarial direction", 1e-6);
    vat_.epsilon = options.number("vat_epsilon", 10, "length of the adversarial noise (2D code: 6)", 0);
    vat_.iterations = options.integer("vat_iterations", 1, "steps of the power iteration", 0, 16);
    vat_.per_class = two_dimensional_;
  }

  void build(const MethodSetup& setup) override {
    require_network(find_method("ss_net"), setup.network.name, "--network");
    nets_.build(setup, false);
    network_ = &dynamic_cast<ContrastNetwork&>(*nets_.student);
    frozen_ = make_network(setup.network);
    frozen_->allocate(setup.precision, setup.device, false);
    classes_ = setup.network.classes;
    wide_ = setup.precision == DType::f64 ? DType::f64 : DType::f32;
    memory_ = std::make_unique<PrototypeMemory>(classes_, 2 * setup.network.filters, prototypes_, wide_,
                                                setup.device);
  }

  StepReader queue(const Batch& batch, const StepContext& context) override {
    const Pass pass{true, context.random};
    const StepNumber weight = ramp_.in(context, rampup_first_);
    network_->parameters().zero_gradients();
    // The loss is a sum; taking the gradient of one part before the other part's passes begin keeps a single
    // tape in memory.
    const StepReader classes = separate_classes(batch, weight, pass);
    const Tensor distance = smooth(batch.image, weight, pass);
    nets_.optimizer->step(context.learning_rate);
    return [=] {
      StepReport report = classes();
      const double smoothness = distance.to_doubles()[0];
      report[0].second += weight.now() * smoothness;
      report.insert(report.begin() + 2, {"loss_smoothness", smoothness});
      report.emplace_back("consistency_weight", weight.now());
      return report;
    };
  }

  /// The host lists the voxels of every class, and chooses prototypes by their scores.
  bool replayable() const override { return false; }

  std::vector<std::pair<std::string, Tensor*>> buffers() override {
    return {{"prototypes", &memory_->vectors()}, {"prototype_counts", &memory_->counts()}};
  }

 private:
  /// Gradients of Dice and of the contrastive terms.
  StepReader separate_classes(const Batch& batch, StepNumber weight, const Pass& pass) {
    const int64_t labeled = batch.labeled, unlabeled = batch.image.shape().n - labeled;
    const NetworkOutput output = network_->forward_all(Variable(batch.image), pass);
    const Tensor decided = kernels::hard_labels(output.logits.value(), false).to(Device{});
    const Tensor labels = batch.labels(), truth = labels.to(Device{});
    remember(output.features.value(), truth, decided.samples(0, labeled), pass);
    const Variable known = contrast(output.features.samples(0, labeled), truth, pass);
    const Variable guessed =
        contrast(output.features.samples(labeled, unlabeled), decided.samples(labeled, unlabeled), pass);
    const LossValue dice = dice_loss(output.logits.samples(0, labeled), labels,
                                     two_dimensional_ ? kSquaredDice : kForegroundDice);
    const Variable loss = dice.loss + weight * (contrast_ * (known + guessed));
    loss.backward();
    double stored = 0;
    for (int64_t c = 0; c < classes_; ++c) stored += static_cast<double>(memory_->count(c));
    return [total = loss.value(), of_labels = dice.results, of_known = known.value(),
            of_guessed = guessed.value(), stored] {
      return StepReport{{"loss", total.to_doubles()[0]},
                        {"loss_dice", of_labels.to_doubles()[0]},
                        {"loss_contrast_labeled", of_known.to_doubles()[0]},
                        {"loss_contrast_unlabeled", of_guessed.to_doubles()[0]},
                        {"prototypes", stored}};
    };
  }

  /// Gradient of weight * LDS; returns LDS.
  Tensor smooth(const Tensor& batch, StepNumber weight, const Pass& pass) {
    const Tensor image = cast(batch, wide_);
    Tensor clean;
    {
      const NoGrad no_grad;
      clean = network_->forward(Variable(batch), pass).value();
    }
    const RandomStream stream = pass.random->next();
    const Tensor start = wave_ ? wave_direction(image.shape(), wide_, image.device())
                               : random_direction(image.shape(), wide_, image.device(), stream);
    frozen_->parameters().copy_from(network_->parameters());
    const Tensor direction = adversarial_direction(*frozen_, image, clean, start, vat_, pass);
    // The perturbed pass normalises with its own batch's statistics and leaves the running ones alone.
    ParameterSet& parameters = network_->parameters();
    const Tensor statistics = parameters.buffer_values().clone();
    const Variable logits =
        network_->forward(perturbed(*network_, image, direction, vat_.epsilon, false), pass);
    parameters.buffer_values().copy_from(statistics);
    parameters.touch_buffers();
    const LossValue distance = prediction_distance(logits, clean, vat_.per_class);
    (weight * distance.loss).backward();
    return distance.results;
  }

  /// Stores projections of the labelled voxels that are predicted rightly; a class without any keeps what it
  /// has. truth, decided: u8 (L, V) on the CPU.
  void remember(const Tensor& features, const Tensor& truth, const Tensor& decided, const Pass& training) {
    const NoGrad no_grad;
    for (int64_t c = background_ ? 0 : 1; c < classes_; ++c) {
      const std::vector<int32_t> right = voxels_of_class(truth, decided, c);
      if (right.empty()) continue;
      const Device device = features.device();
      const Tensor rows = kernels::gather_rows(features, kernels::row_list(right, device));
      Tensor embedded = network_->heads().projection(Variable(rows), {}).value();
      if (embedded.shape().w > memory_->capacity()) {
        const auto& selector = network_->heads().class_selectors[static_cast<size_t>(c)];
        const std::vector<double> scores = selector(Variable(embedded), training).value().to_doubles();
        embedded = kernels::gather_rows(
            embedded, kernels::row_list(ranked(scores, memory_->capacity(), highest_), device));
      }
      memory_->replace(c, embedded);
    }
  }

  /// Mean over classes of the distance between voxels and prototypes of their class. labels: u8 (N, V) on the
  /// CPU. A class with fewer than two voxels or prototypes counts 0.
  Variable contrast(const Variable& features, const Tensor& labels, const Pass& pass) {
    const ContrastHeads& heads = network_->heads();
    const Variable embedded = heads.prediction(heads.projection(features, pass), pass);
    const Device device = network_->device();
    Variable total(Tensor::zeros({}, DType::f64, device));
    for (int64_t c = 0; c < classes_; ++c) {
      if (memory_->count(c) < 2) continue;
      const std::vector<int32_t> voxels = voxels_of_class(labels, {}, c);
      if (voxels.size() < 2) continue;
      const Variable rows = take_rows(embedded, kernels::row_list(voxels, device));
      const Variable scores = heads.class_selectors[static_cast<size_t>(c)](rows.detached(), pass);
      total = total + prototype_distance(rows, scores, memory_->of_class(c));
    }
    return 1.0 / static_cast<double>(classes_) * total;
  }

  bool two_dimensional_;
  RampOptions ramp_;
  int64_t rampup_first_;
  double contrast_;
  int64_t prototypes_;
  bool highest_, background_, wave_;
  VatOptions vat_;
  int64_t classes_ = 2;
  DType wide_ = DType::f32;             // of images and directions
  ContrastNetwork* network_ = nullptr;  // the student
  std::unique_ptr<Network> frozen_;     // the student's weights without gradients, for the power iteration
  std::unique_ptr<PrototypeMemory> memory_;
};

const RegisterMethod register_ss_net(
    {"ss_net",
     "Wu et al., Exploring smoothness and class-separation, MICCAI 2022",
     "smooth under adversarial noise, with voxel features drawn to prototypes of their class",
     [](OptionReader& options) { return std::make_unique<SSNet>(options); },
     {"vnet_ss", "unet2d_ss"}});

}  // namespace

}  // namespace semivox
