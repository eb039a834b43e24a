// DTC: dual-task consistency (Luo et al., "Semi-supervised medical image segmentation through dual-task
// consistency", AAAI 2021).
//
//   L = Dice  +  beta mean (t - s)^2  +  lambda(i) mean (sigmoid(-k t) - p)^2
//
// One network predicts a foreground probability p and a signed distance map t, negative inside. The steep
// sigmoid makes a mask of the map, and on labelled and unlabelled samples the two answers have to agree. Dice
// and the map's error against the labels' signed distances s are taken on the labelled samples.
#include "methods/dtc.hpp"

#include "kernels/signed_distance.hpp"
#include "methods/method.hpp"
#include "methods/ramp_options.hpp"
#include "methods/signed_distance_terms.hpp"

namespace semivox {

namespace {

struct DtcLoss {
  terms::ForegroundAndDistance supervised;
  double beta;
  StepNumber lambda;
  double steepness;

  static constexpr int kResults = 5;
  SEMIVOX_HD static constexpr int sums(int) { return terms::ForegroundAndDistance::kSums + 1; }

  // z: logit and map. The map is read as the last channel, which exists for every number of channels that
  // programs are compiled for.
  template <class S>
  SEMIVOX_HD void terms(const S* z, int channels, int64_t sample, int64_t v, S* t) const {
    const S &b = z[0], &distance = z[channels - 1];
    const S p = sigmoid(b);
    if (sample < supervised.labeled) supervised.voxel(b, p, distance, sample, v, t);
    t[terms::ForegroundAndDistance::kSums] = square(sigmoid(distance * S(-steepness)) - p);
  }

  template <class S>
  SEMIVOX_HD void results(const SampleSums<S>& sums, int, S* results) const {
    results[1] = supervised.dice(sums);
    results[2] = supervised.distance(sums);
    results[3] = sums.total(terms::ForegroundAndDistance::kSums) /
                 S(static_cast<double>(sums.samples * supervised.voxels));
    results[4] = supervised.cross_entropy(sums);
    results[0] = results[1] + S(beta) * results[2] + S(lambda.get()) * results[3];
  }
};

class Dtc : public StudentTeacherMethod {
 public:
  explicit Dtc(OptionReader& options) : ramp_(options, 1.0, 40) {
    loss_.distance_weight =
        options.number("distance_weight", 0.3, "weight beta of the signed distance map's error", 0);
    loss_.steepness =
        options.number("steepness", 1500, "k of sigmoid(-k t), which makes a mask of the map t", 0);
  }

  void build(const MethodSetup& setup) override {
    require_network(find_method("dtc"), setup.network.name, "network");
    nets_.build(setup, false);
  }

  StepReader queue(const Batch& batch, const StepContext& context) override {
    const NetworkOutput output = nets_.student->forward_all(Variable(batch.image), {true, context.random});
    const Tensor labels = batch.labels();
    const StepNumber lambda = ramp_.in(context);
    const LossValue loss = dtc_loss(take_channels(output.logits, 1, 1), output.distance, labels,
                                    kernels::signed_distance(labels), lambda, loss_);
    nets_.update(loss.loss, context.learning_rate);
    return [results = loss.results, lambda] {
      const std::vector<double> r = results.to_doubles();
      return StepReport{{"loss", r[0]},          {"loss_dice", r[1]},
                        {"loss_distance", r[2]}, {"loss_consistency", r[3]},
                        {"loss_ce", r[4]},       {"consistency_weight", lambda.now()}};
    };
  }

 private:
  RampOptions ramp_;
  DtcOptions loss_;
};

const RegisterMethod register_dtc(
    {"dtc",
     "Luo et al., Semi-supervised segmentation through dual-task consistency, AAAI 2021",
     "a segmentation and a signed distance map from one network have to agree",
     [](OptionReader& options) { return std::make_unique<Dtc>(options); },
     {"vnet_sdf"}});

}  // namespace

LossValue dtc_loss(const Variable& logit, const Variable& map, const Tensor& labels, const Tensor& target,
                   StepNumber lambda, const DtcOptions& options) {
  SEMIVOX_CHECK(logit.shape().c == 1 && map.shape().c == 1 && labels.shape() == target.shape(), "logit ",
                logit.shape().str(), ", map ", map.shape().str(), ", labels ", labels.shape().str(),
                ", target ", target.shape().str());
  terms::check_labels(labels, logit.shape());
  return evaluate(
      "dtc_loss",
      DtcLoss{{labels.data<uint8_t>(), target.data<float>(), labels.shape().n, logit.shape().voxels()},
              options.distance_weight,
              lambda,
              options.steepness},
      {logit, map}, {labels, target});
}

}  // namespace semivox
