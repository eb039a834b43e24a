// RCPS: rectified contrastive pseudo supervision (Zhao et al., "RCPS: Rectified contrastive pseudo
// supervision for semi-supervised medical image segmentation", IEEE JBHI 2023).
//
// One network, no teacher. Every patch, labelled or not, is seen three times in one batch: as it is (t) and
// in two views of changed intensity (q1, q2).
//
//   L = sum_s [Dice + lambda CE](t_s, y)                                             labelled, s: four scales
//     + w(e) cps sum_s [R(q1_s, t) + R(q2_s, t) + cos(q1_s, q2_s)]                   labelled and unlabelled
//     + w(e) con [InfoNCE(q1, q2; negatives from the others' t)]                     both, at 1/4 resolution
//
// R supervises with the sharpened prediction of the unchanged patch, weighted by exp(-KL) of the two
// predictions. w(e) = exp(-5 (1 - e/E)^2) grows once per epoch.
#include "methods/rcps.hpp"

#include <cmath>
#include <sstream>

#include "kernels/intensity.hpp"
#include "kernels/resize.hpp"
#include "layers/voxel_contrast.hpp"
#include "methods/method.hpp"
#include "methods/rcps_views.hpp"

namespace semivox {

namespace {

/// Weights of all classes, 1 for the background, from "10" (every other class) or "10,5,2" (one each).
std::vector<double> parse_class_weights(const std::string& value, int64_t classes) {
  std::vector<double> weights{1.0};
  bool valid = true;
  std::istringstream in(value + ',');
  for (std::string entry; std::getline(in, entry, ',');) {
    char* end = nullptr;
    weights.push_back(std::strtod(entry.c_str(), &end));
    valid = valid && !entry.empty() && *end == 0 && weights.back() >= 0 && std::isfinite(weights.back());
  }
  if (weights.size() == 2) weights.resize(static_cast<size_t>(classes), weights.back());
  if (!valid || static_cast<int64_t>(weights.size()) != classes) {
    throw UsageError(text("option class_weights: found '", value, "', expected one number >= 0 or ",
                          classes - 1, " of them as 10,5,2"));
  }
  return weights;
}

class Rcps : public StudentTeacherMethod {
 public:
  explicit Rcps(OptionReader& options)
      : rectified_weight_(options.number("rectified_weight", 0.1,
                                         "weight of pseudo supervision and cosine terms (Pancreas: 0.2)", 0)),
        contrastive_weight_(options.number("contrastive_weight", 0.1, "weight of the contrastive term", 0)),
        rampup_unit_(options.integer("rampup_unit", 72, "iterations per step of the weights' ramp-up", 1)),
        rampup_length_(options.integer("rampup_length", 100, "steps until the weights are reached")),
        sharpening_(options.number("sharpening", 0.5, "temperature T of the pseudo-labels", 1e-3)),
        class_weights_(options.string("class_weights", "10",
                                      "weights of the foreground classes in CE: one for all, or a list")),
        views_(options) {
    contrast_.temperature = options.number("temperature", 0.1, "temperature of the contrastive term", 1e-3);
    contrast_.negatives = options.integer("negatives", 400, "negatives per voxel", 1);
    contrast_.fill = options.flag("negatives_fill", true,
                                  "with too few voxels of other classes, take voxels of the same class");
  }

  void build(const MethodSetup& setup) override {
    require_network(find_method("rcps"), setup.network.name, "network");
    if (2 * setup.network.classes > voxel::kMaxChannels)
      throw UsageError(text("rcps: found ", setup.network.classes, " classes, expected at most ",
                            voxel::kMaxChannels / 2));
    weights_ = parse_class_weights(class_weights_, setup.network.classes);
    nets_.build(setup, false);
  }

  StepReader queue(const Batch& batch, const StepContext& context) override {
    const int64_t n = batch.image.shape().n, labeled = batch.labeled;
    const Tensor images = with_views(batch.image, *context.random);
    const NetworkOutput output = nets_.student->forward_all(Variable(images), {true, context.random});
    const Tensor target = output.logits.value().samples(0, n);  // of the unchanged patches
    const auto ramp_to = [this, &context](double weight) {
      return step_value([this, &context, weight] {
        return staircase_rampup(context.iteration, rampup_unit_, rampup_length_) * weight;
      });
    };
    const StepNumber ramp = ramp_to(1), rectified = ramp_to(rectified_weight_),
                     contrastive = ramp_to(contrastive_weight_);
    std::vector<Variable> scales{output.logits};
    scales.insert(scales.end(), output.auxiliary.begin(), output.auxiliary.end());

    std::vector<LossValue> segmentations, consistencies;
    Variable loss;
    const auto add = [&](const Variable& term) { loss = loss.defined() ? loss + term : term; };
    for (const Variable& scale : scales) {
      segmentations.push_back(rcps_segmentation_loss(scale.samples(0, labeled), batch.labels(), weights_));
      add(segmentations.back().loss);
      if (rectified_weight_ == 0) continue;
      consistencies.push_back(
          rcps_consistency_loss(scale.samples(n, n), scale.samples(2 * n, n), target, labeled, sharpening_));
      add(rectified * consistencies.back().loss);
    }
    std::vector<Variable> contrasts;  // labelled anchors, unlabelled anchors
    for (int group = 0; group < 2 && contrastive_weight_ > 0; ++group) {
      contrasts.push_back(contrast_term(output.features, target, labeled, group == 0));
      add(contrastive * contrasts.back());
    }
    nets_.update(loss, context.learning_rate);
    return [=] {
      double segmentation = 0, cross_entropy = 0, kl = 0, cosine = 0, contrast[2] = {0, 0};
      for (const LossValue& value : segmentations) segmentation += value.results.to_doubles()[0];
      for (const LossValue& views : consistencies) {
        const std::vector<double> r = views.results.to_doubles();
        cross_entropy += r[1];
        kl += r[2];
        cosine += r[3];
      }
      for (size_t group = 0; group < contrasts.size(); ++group)
        contrast[group] = contrasts[group].value().to_doubles()[0];
      return StepReport{{"loss", loss.value().to_doubles()[0]},
                        {"loss_segmentation", segmentation},
                        {"loss_rectified", cross_entropy},
                        {"loss_kl", kl},
                        {"loss_cosine", cosine},
                        {"loss_contrast_labeled", contrast[0]},
                        {"loss_contrast_unlabeled", contrast[1]},
                        {"ramp", ramp.now()}};
    };
  }

 private:
  /// [images, first views, second views]
  Tensor with_views(const Tensor& images, Random& random) const {
    const int64_t n = images.shape().n;
    const RandomStream draws = random.next(), noise = random.next();
    for (int64_t k = 1; k < 2 * n; ++k) random.next();  // every view has a stream of noise
    Tensor all = Tensor::empty(images.shape().with_samples(3 * n), images.dtype(), images.device());
    all.samples(0, n).copy_from(images);
    for (int64_t view = 0; view < 2; ++view) {
      const auto change = [this, view, n, draws, noise](int64_t i) {
        return views_.draw(2 * i + view, 2 * n, draws.now(), noise.now());
      };
      all.samples((1 + view) * n, n).copy_from(kernels::change_intensity(images, change));
    }
    return all;
  }

  /// Anchors are the voxels of one group of patches, in both views; negatives come from the other group's
  /// unchanged patches.
  Variable contrast_term(const Variable& features, const Tensor& target, int64_t labeled,
                         bool of_labeled) const {
    const int64_t n = target.shape().n;
    const Shape grid = features.shape();
    const Tensor logits = kernels::resize(target, {grid.d, grid.h, grid.w}, kernels::Interpolation::linear);
    const int64_t own = of_labeled ? 0 : labeled, own_count = of_labeled ? labeled : n - labeled;
    const int64_t other = labeled - own, other_count = n - own_count;
    return voxel_contrast(features.samples(n + own, own_count), features.samples(2 * n + own, own_count),
                          features.samples(other, other_count), logits.samples(own, own_count),
                          logits.samples(other, other_count), contrast_);
  }

  double rectified_weight_, contrastive_weight_;
  int64_t rampup_unit_, rampup_length_;
  double sharpening_;
  std::string class_weights_;
  std::vector<double> weights_;
  RcpsViews views_;
  VoxelContrastOptions contrast_;
};

const RegisterMethod register_rcps({"rcps",
                                    "Zhao et al., Rectified contrastive pseudo supervision, JBHI 2023",
                                    "one network; rectified pseudo-labels and a voxel-wise contrast between "
                                    "two views of changed intensity",
                                    [](OptionReader& options) { return std::make_unique<Rcps>(options); },
                                    {"unet3d_rcps"}});

}  // namespace

}  // namespace semivox
