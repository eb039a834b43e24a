// SASSNet: shape-aware semi-supervised segmentation (Li, Zhang and He, "Shape-aware semi-supervised 3D
// semantic segmentation for medical images", MICCAI 2020).
//
//   network         L_G = Dice + beta mean (t - s)^2 + lambda(i) CE(D(t_u, x_u), 1)
//   discriminator   L_D = CE(D(t', x), 1 for labelled samples, 0 for the others)
//
// One network predicts a segmentation and a signed distance map t, negative inside. A discriminator D sees a
// map with its image and tells labelled cases from others; the network learns to pass maps of unlabelled ones
// for labelled. D never sees the labels' own distances s. t' are maps of the network after its step, with
// running statistics and without dropout, while the network's step sees D without dropout.
#include "methods/sassnet.hpp"

#include "engine/arithmetic.hpp"
#include "engine/safetensors.hpp"
#include "kernels/signed_distance.hpp"
#include "layers/discriminator.hpp"
#include "methods/method.hpp"
#include "methods/ramp_options.hpp"
#include "methods/weights.hpp"

namespace semivox {

namespace {

class SassNet : public StudentTeacherMethod {
 public:
  explicit SassNet(OptionReader& options)
      : distance_weight_(
            options.number("distance_weight", 0.3, "weight beta of the signed distance map's error", 0)),
        ramp_(options, 0.01, 40,
              {.name = "adversarial",
               .weight = "final weight of the adversarial term (8 labelled cases of LA: 0.015)"}),
        discriminator_filters_(
            options.integer("discriminator_filters", 64, "width of the discriminator's first stage", 1)),
        discriminator_dropout_(
            options.number("discriminator_dropout", 0.5, "channel dropout of the discriminator", 0, 0.99)),
        discriminator_rate_(
            options.number("discriminator_lr", 1e-4, "constant learning rate of the discriminator", 0)),
        discriminator_init_(options.string("discriminator_init", "",
                                           "safetensors file with first weights of the discriminator")) {
    adam_.name = "adam";
    adam_.weight_decay = 0;
    adam_.beta1 =
        options.number("discriminator_beta1", 0.9, "Adam's decay of the mean gradient", 0, 0.999999);
    adam_.beta2 =
        options.number("discriminator_beta2", 0.99, "Adam's decay of the squared gradient", 0, 0.999999);
  }

  void build(const MethodSetup& setup) override {
    require_network(find_method("sassnet"), setup.network.name, "network");
    nets_.build(setup, false);
    // Not in bf16: what the discriminator sees of the map would be too coarse around the surface.
    discriminator_ = std::make_unique<Discriminator>(discriminator_filters_, discriminator_dropout_);
    discriminator_->allocate(setup.precision == DType::f64 ? DType::f64 : DType::f32, setup.device, true);
    discriminator_->parameters().initialize(setup.seed + 0xd15c);
    if (!discriminator_init_.empty()) {
      load_weights(*discriminator_, read_safetensors(discriminator_init_), discriminator_init_);
    }
    discriminator_optimizer_ = make_optimizer(adam_, discriminator_->parameters());
  }

  StepReader queue(const Batch& batch, const StepContext& context) override {
    const Tensor images = cast(batch.image, discriminator_->precision());
    const StepNumber lambda = ramp_.in(context);
    const StepReader network = train_network(batch, images, lambda, context);
    const Tensor discriminator = train_discriminator(images, batch.labeled, context.random);
    return [=] {
      StepReport report = network();
      const std::vector<double> d = discriminator.to_doubles();
      report.insert(report.end(), {{"adversarial_weight", lambda.now()},
                                   {"loss_discriminator", d[0]},
                                   {"discriminator_accuracy", d[1]}});
      return report;
    };
  }

  std::vector<std::pair<std::string, Network*>> networks() override {
    auto all = nets_.networks();
    all.emplace_back("discriminator", discriminator_.get());
    return all;
  }
  std::vector<std::pair<std::string, Optimizer*>> optimizers() override {
    return {{"sgd", nets_.optimizer.get()}, {"discriminator", discriminator_optimizer_.get()}};
  }

 private:
  StepReader train_network(const Batch& batch, const Tensor& images, StepNumber lambda,
                           const StepContext& context) {
    const NetworkOutput output = nets_.student->forward_all(Variable(batch.image), {true, context.random});
    const Tensor labels = batch.labels();
    const LossValue supervised =
        sassnet_supervised_loss(take_channels(output.logits, 1, 1), output.distance, labels,
                                kernels::signed_distance(labels), distance_weight_);
    const int64_t unlabeled = images.shape().n - batch.labeled;
    const Variable judged =
        discriminator_->forward(concat_channels(output.distance.samples(batch.labeled, unlabeled),
                                                Variable(images.samples(batch.labeled, unlabeled))),
                                Pass{});
    const LossValue adversarial = discriminator_loss(judged, unlabeled);
    const Variable loss = supervised.loss + lambda * adversarial.loss;
    nets_.update(loss, context.learning_rate);
    return [total = loss.value(), of_labels = supervised.results, of_judge = adversarial.results] {
      const std::vector<double> r = of_labels.to_doubles();
      return StepReport{{"loss", total.to_doubles()[0]},
                        {"loss_dice", r[1]},
                        {"loss_distance", r[2]},
                        {"loss_adversarial", of_judge.to_doubles()[0]},
                        {"loss_ce", r[3]}};
    };
  }

  /// Results of `discriminator_loss`.
  Tensor train_discriminator(const Tensor& images, int64_t labeled, Random* random) {
    Tensor maps;
    {
      const NoGrad no_grad;
      maps = nets_.student->forward_all(Variable(images), Pass{}).distance.value();
    }
    const Variable judged =
        discriminator_->forward(concat_channels(Variable(maps), Variable(images)), {true, random});
    const LossValue loss = discriminator_loss(judged, labeled);
    discriminator_->parameters().zero_gradients();  // also of what the network's step left there
    loss.loss.backward();
    discriminator_optimizer_->step(discriminator_rate_);
    return loss.results;
  }

  double distance_weight_;
  RampOptions ramp_;
  int64_t discriminator_filters_;
  double discriminator_dropout_, discriminator_rate_;
  std::string discriminator_init_;
  OptimizerOptions adam_;
  std::unique_ptr<Discriminator> discriminator_;
  std::unique_ptr<Optimizer> discriminator_optimizer_;
};

const RegisterMethod register_sassnet(
    {"sassnet",
     "Li et al., Shape-aware semi-supervised 3D semantic segmentation, MICCAI 2020",
     "a discriminator makes signed distance maps of unlabelled cases look like those of labelled ones",
     [](OptionReader& options) { return std::make_unique<SassNet>(options); },
     {"vnet_sdf"}});

}  // namespace

}  // namespace semivox
