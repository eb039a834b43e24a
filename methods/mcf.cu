// MCF: mutual correction framework (Wang et al., "MCF: Mutual correction framework for semi-supervised
// medical image segmentation", CVPR 2023).
//
// A V-Net and a 3D-ResVNet learn side by side. With p their probabilities and y the label as 0 and 1:
//
//   L_i = CE_i + Dice_i + 1/2 mse_i  (+ w(t) cons_i for the loser)
//   mse_i  = sum_v m_v (p_i - y)^2 / sum_v m_v,  m_v = [the two hard predictions differ]   (labelled; CDR)
//   cons_i = mean_v (p_i - q)^2,                 q = the winner's sharpened prediction (unlabelled: DCPLG)
//
// The winner is the network whose labelled Dice loss is lower in this very iteration; q is a constant. The
// two losses share no graph, and the optimiser acts on every weight by itself, so one backward pass of
// L_vnet + L_resvnet and one optimiser over both are the two of the published code.
#include "methods/mcf.hpp"

#include "methods/method.hpp"
#include "methods/ramp_options.hpp"
#include "methods/terms.hpp"

namespace semivox {

namespace {

struct McfLoss {
  const uint8_t* labels;  // (L, V)
  int64_t labeled, voxels;
  double rectification;
  StepNumber consistency;
  double sharpness;  // 1 / T
  McfTeacher teacher;

  static constexpr int kNetworks = 2;
  static constexpr int kMaxClasses = voxel::kMaxChannels / kNetworks;
  static constexpr int kResults = 12;

  /// Sums of one network: CE and Dice | rectification | consistency. Behind both: voxels of disagreement.
  SEMIVOX_HD static constexpr int sums_per_network(int classes) {
    return terms::CrossEntropyDice::sums(classes) + 2;
  }
  SEMIVOX_HD static constexpr int sums(int channels) {
    return kNetworks * sums_per_network(channels / kNetworks) + 1;
  }

  /// Hard prediction, ties to the lower class.
  template <class S>
  SEMIVOX_HD static int decide(const S* z, int classes) {
    int best = 0;
    for (int c = 1; c < classes; ++c) best = value_of(z[c]) > value_of(z[best]) ? c : best;
    return best;
  }

  template <class S>
  SEMIVOX_HD void terms(const S* z, int channels, int64_t sample, int64_t v, S* t) const {
    using T = terms::scalar_of<S>;
    const int classes = channels / kNetworks, stride = sums_per_network(classes);
    const bool differ = decide(z, classes) != decide(z + classes, classes);
    if (sample < labeled && differ) t[kNetworks * stride] = S(1);
    for (int i = 0; i < kNetworks; ++i) {
      const S* own = z + i * classes;
      const S* other = z + (1 - i) * classes;
      S* sums = t + i * stride;
      S p[kMaxClasses];
      const S log_normalizer = softmax(own, classes, p);
      if (sample < labeled) {
        const int label = labels[sample * voxels + v];
        terms::CrossEntropyDice::voxel(own, p, log_normalizer, classes, label, sums);
        if (!differ) continue;
        S error = S(0);
        for (int c = 1; c < classes; ++c) error = error + square(p[c] - (c == label ? T(1) : T(0)));
        sums[stride - 2] = error / T(classes - 1);
      } else {
        T sharpened[kMaxClasses] = {}, q[kMaxClasses] = {};
        for (int c = 0; c < classes; ++c) sharpened[c] = value_of(other[c]) * T(sharpness);
        softmax(sharpened, classes, q);
        sums[stride - 1] = terms::squared_distance(p, q, classes);
      }
    }
  }

  template <class S>
  SEMIVOX_HD void results(const SampleSums<S>& sums, int channels, S* results) const {
    const int classes = channels / kNetworks, stride = sums_per_network(classes);
    const S disagreement = sums.total(kNetworks * stride, 0, labeled);
    const S unlabeled = S(static_cast<double>((sums.samples - labeled) * voxels * classes));
    S total[kNetworks], dice[kNetworks];
    for (int i = 0; i < kNetworks; ++i) {
      const S cross_entropy = terms::CrossEntropyDice::cross_entropy(sums, i * stride, labeled, voxels);
      dice[i] = terms::CrossEntropyDice::dice(sums, i * stride, 1, classes, labeled);
      const S mse = sums.total(i * stride + stride - 2, 0, labeled) / (disagreement + S(1e-16));
      total[i] = cross_entropy + dice[i] + S(rectification) * mse;
      results[3 + 3 * i] = cross_entropy;
      results[4 + 3 * i] = dice[i];
      results[5 + 3 * i] = mse;
    }
    int winner = teacher == McfTeacher::vnet ? 0 : 1;
    if (teacher == McfTeacher::compete) winner = value_of(dice[0]) < value_of(dice[1]) ? 0 : 1;
    for (int i = 0; i < kNetworks; ++i) {
      if (i == winner) continue;
      results[9] = sums.total(i * stride + stride - 1, labeled, sums.samples) / unlabeled;
      total[i] = total[i] + S(consistency.get()) * results[9];
    }
    results[0] = total[0] + total[1];
    results[1] = total[0];
    results[2] = total[1];
    results[10] = S(static_cast<double>(winner));
    results[11] = disagreement;
  }
};

class Mcf : public StudentTeacherMethod {
 public:
  explicit Mcf(OptionReader& options)
      : ramp_(options, 0.1, 40),
        rectification_(options.number("rectification", 0.5,
                                      "weight of the squared error where the networks disagree", 0)),
        temperature_(
            options.number("temperature", 0.1, "T of the sharpened pseudo-labels, p^(1/T)", 1e-3, 1e3)) {
    const std::string teacher = options.word("teacher", "compete", {"compete", "vnet", "resvnet"},
                                             "network that makes the pseudo-labels");
    teacher_ = teacher == "compete" ? McfTeacher::compete
                                    : (teacher == "vnet" ? McfTeacher::vnet : McfTeacher::resvnet);
  }

  void build(const MethodSetup& setup) override {
    require_network(find_method("mcf"), setup.network.name, "network");
    if (setup.network.classes < 2 || setup.network.classes > McfLoss::kMaxClasses) {
      throw UsageError(text("classes: found ", setup.network.classes, ", expected 2 to ",
                            McfLoss::kMaxClasses, " for method mcf"));
    }
    nets_.build(setup, false);
  }

  StepReader queue(const Batch& batch, const StepContext& context) override {
    const NetworkOutput output = nets_.student->forward_all(Variable(batch.image), {true, context.random});
    const StepNumber weight = ramp_.in(context);
    const LossValue loss = mcf_loss(output.auxiliary[0], output.auxiliary[1], batch.labels(),
                                    {rectification_, weight, temperature_, teacher_});
    nets_.update(loss.loss, context.learning_rate);
    return [results = loss.results, weight] {
      static constexpr const char* names[McfLoss::kResults] = {
          "loss",        "loss_vnet",        "loss_resvnet", "ce_vnet",
          "dice_vnet",   "mse_vnet",         "ce_resvnet",   "dice_resvnet",
          "mse_resvnet", "loss_consistency", "teacher",      "disagreement_voxels"};
      const std::vector<double> r = results.to_doubles();
      StepReport report;
      for (size_t i = 0; i < r.size(); ++i) report.emplace_back(names[i], r[i]);
      report.emplace_back("consistency_weight", weight.now());
      return report;
    };
  }

 private:
  RampOptions ramp_;
  double rectification_, temperature_;
  McfTeacher teacher_;
};

const RegisterMethod register_mcf({"mcf",
                                   "Wang et al., MCF: Mutual correction framework, CVPR 2023",
                                   "two different networks: errors where they disagree weigh more, and the "
                                   "one that is better at the moment teaches the other",
                                   [](OptionReader& options) { return std::make_unique<Mcf>(options); },
                                   {"mcf"}});

}  // namespace

LossValue mcf_loss(const Variable& vnet, const Variable& resvnet, const Tensor& labels,
                   const McfLossOptions& options) {
  terms::check_labels(labels, vnet.shape());
  return evaluate(
      "mcf_loss",
      McfLoss{labels.data<uint8_t>(), labels.shape().n, vnet.shape().voxels(), options.rectification,
              options.consistency, 1 / options.temperature, options.teacher},
      {vnet, resvnet}, {labels});
}

}  // namespace semivox
