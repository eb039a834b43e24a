#include <cstdio>
#include <cstring>

#include "apps/bench.hpp"
#include "engine/arithmetic.hpp"
#include "engine/optimizer.hpp"
#include "engine/parallel.hpp"
#include "kernels/components.hpp"
#include "kernels/distance.hpp"
#include "kernels/gather.hpp"
#include "kernels/mixing.hpp"
#include "kernels/norm.hpp"
#include "kernels/pointwise.hpp"
#include "kernels/pool.hpp"
#include "kernels/resize.hpp"
#include "kernels/shuffle.hpp"
#include "kernels/signed_distance.hpp"
#include "kernels/uncertainty.hpp"
#include "kernels/window.hpp"
#include "methods/supervised_loss.hpp"

namespace semivox {
namespace {

using Json = nlohmann::ordered_json;

/// A copy at the full rate of the device: the yardstick. On the CPU with all threads, in blocks large enough
/// for the C library to write past the caches.
void copy(const Tensor& from, Tensor& to) {
  if (from.device().is_cuda()) return to.copy_from(from);
  constexpr int64_t kBlock = int64_t{32} << 20;
  parallel_blocks(from.bytes(), kBlock, [&](int64_t begin, int64_t end) {
    std::memcpy(static_cast<char*>(to.raw()) + begin, static_cast<const char*>(from.raw()) + begin,
                static_cast<size_t>(end - begin));
  });
}

/// The rows of the report, measured one after another.
class Bench {
 public:
  explicit Bench(const BenchOptions& options) : options_(options) {
    std::printf("%-34s %10s %10s %10s %8s\n", "kernel", "MB", "ms", "GB/s", "of copy");
  }

  /// A row that passes the filter; the first one, the copy, always does.
  ///
  /// `bytes`: what the op has to read and write at least, with every operand counted as often as the op's
  /// description says that it is read.
  template <class F>
  void row(const std::string& name, int64_t bytes, const F& work) {
    if (!rows_.empty() && name.find(options_.filter) == std::string::npos) return;
    const double seconds = median_seconds(options_.device, options_.iterations, work);
    const double rate = static_cast<double>(bytes) / seconds * 1e-9;
    if (rows_.empty()) copy_rate_ = rate;
    std::printf("%-34s %10.2f %10.3f %10.1f %7.1f%%\n", name.c_str(), static_cast<double>(bytes) * 1e-6,
                seconds * 1e3, rate, 100 * rate / copy_rate_);
    std::fflush(stdout);
    rows_.push_back({{"kernel", name},
                     {"bytes", bytes},
                     {"ms", seconds * 1e3},
                     {"gb_per_second", rate},
                     {"share_of_copy", rate / copy_rate_}});
  }

  /// The rows; the first is the copy.
  Json rows() const {
    if (rows_.size() == 1) {
      throw UsageError(text("--filter: found '", options_.filter, "', expected a part of a kernel's name"));
    }
    return rows_;
  }

 private:
  const BenchOptions& options_;
  Json rows_ = Json::array();
  double copy_rate_ = 1;
};

/// Blocks behind the convolutions, on the V-Net's first level: (N, filters, D, H, W).
void bench_norm(Bench& bench, const BenchOptions& options) {
  using namespace kernels;
  const Device device = options.device;
  const int64_t channels = options.network.filters;
  const Tensor y = random_tensor(options.shape(channels), options.precision, device, 1);
  const Tensor skip = random_tensor(y.shape(), options.precision, device, 2);
  const Tensor d_out = skip.clone();

  ParameterSet set;
  NormBlock block;
  block.norm = Norm::batch;
  block.gamma = &set.declare("gamma", {channels}, Initializer::constant(1));
  block.beta = &set.declare("beta", {channels}, Initializer::constant(0));
  block.conv_bias = &set.declare("bias", {channels}, Initializer::constant(0));
  block.running_mean = &set.declare_buffer("mean", {channels}, 0);
  block.running_variance = &set.declare_buffer("variance", {channels}, 1);
  block.batches = &set.declare_buffer("batches", {}, 0, true);
  set.allocate(DType::f32, device, true);
  set.initialize(1);

  NormCall train, evaluate, residual;
  evaluate.batch_statistics = false;
  residual.skip_mode = Skip::after;
  NormSaved saved;
  bench.row("norm forward (y twice, out)", 3 * y.bytes(), [&] { norm_forward(block, train, y, {}, saved); });
  bench.row("norm backward (y, d_out twice, d_y)", 5 * y.bytes(),
            [&] { norm_backward(block, train, y, {}, saved, d_out, nullptr); });
  bench.row("norm forward + skip", 4 * y.bytes(), [&] { norm_forward(block, residual, y, skip, saved); });
  bench.row("norm in evaluation (y, out)", 2 * y.bytes(),
            [&] { norm_forward(block, evaluate, y, {}, saved); });
  block.norm = Norm::instance;
  bench.row("instance norm forward", 3 * y.bytes(), [&] { norm_forward(block, train, y, {}, saved); });
  block.norm = Norm::group;
  block.groups = channels % 16 == 0 ? 16 : 1;
  bench.row("group norm forward", 3 * y.bytes(), [&] { norm_forward(block, train, y, {}, saved); });
  if (options.precision == DType::f32) {
    bench.row("cast f32 -> bf16", y.bytes() * 3 / 2, [&] { cast(y, DType::bf16); });
  }
  bench.row("concat channels", 4 * y.bytes(), [&] { concat_channels(y, skip); });
}

/// Between the two finest levels of a U-Net: filters channels at full resolution.
void bench_resolutions(Bench& bench, const BenchOptions& options) {
  using namespace kernels;
  for (const int64_t size : options.patch) {
    if (size % 2 != 0) throw UsageError("--patch: expected even sizes, which pooling can halve");
  }
  const Tensor fine =
      random_tensor(options.shape(options.network.filters), options.precision, options.device, 1);
  const Tensor coarse = max_pool(fine, Grid::volume);
  const std::array<int64_t, 3> size{fine.shape().d, fine.shape().h, fine.shape().w},
      half{coarse.shape().d, coarse.shape().h, coarse.shape().w};
  bench.row("max-pool (fine, coarse)", fine.bytes() + coarse.bytes(), [&] { max_pool(fine, Grid::volume); });
  bench.row("max-pool backward (fine twice, coarse)", 2 * fine.bytes() + coarse.bytes(),
            [&] { max_pool_backward(fine, coarse, Grid::volume); });
  // Three passes: 1 + 2 coarse, 2 + 4, 4 + 8.
  bench.row("nearest x2 (3 passes)", 21 * coarse.bytes(),
            [&] { resize(coarse, size, Interpolation::nearest); });
  bench.row("trilinear x2 (3 passes)", 21 * coarse.bytes(),
            [&] { resize(coarse, size, Interpolation::linear); });
  bench.row("trilinear x2 backward (3 passes)", 21 * coarse.bytes(),
            [&] { resize_backward(fine, half, Interpolation::linear); });
  bench.row("dropout of elements", 2 * fine.bytes(), [&] { dropout_elements(fine, 0.3, {1, 2, 3}); });
}

/// Passes over all weights of the V-Net.
void bench_weights(Bench& bench, const BenchOptions& options) {
  const auto student = make_network(options.network), teacher = make_network(options.network);
  student->allocate(DType::f32, options.device, true);
  teacher->allocate(DType::f32, options.device, false);
  student->parameters().initialize(1);
  teacher->parameters().initialize(2);
  const int64_t bytes = student->parameters().values().bytes();
  bench.row("ema (teacher twice, student)", 3 * bytes,
            [&] { ema_update(teacher->parameters(), student->parameters(), 0.99, false); });
  const auto sgd = make_optimizer({}, student->parameters());
  bench.row("sgd with momentum", 5 * bytes, [&] { sgd->step(0.01); });
  const auto adam = make_optimizer({.name = "adam"}, student->parameters());
  bench.row("adam", 7 * bytes, [&] { adam->step(0.001); });
}

/// Work on images, logits and labels of a batch.
void bench_voxels(Bench& bench, const BenchOptions& options) {
  using namespace kernels;
  const Device device = options.device;
  const Shape one = options.shape(1), many = options.shape(options.network.classes);
  const Tensor image = random_tensor(one, DType::f32, device, 1),
               other = random_tensor(one, DType::f32, device, 2);
  const Tensor logits = random_tensor(many, DType::f32, device, 3),
               more = random_tensor(many, DType::f32, device, 4);
  const Tensor labels = ellipsoid_labels(one, device);
  const Tensor probabilities = softmax(logits);
  const Tensor mask = box_mask(options.patch, {draw_box(options.patch, 2.0 / 3, {1, 0, 0})}, device);

  std::vector<GatherSample> samples(static_cast<size_t>(one.n));
  for (int64_t n = 0; n < one.n; ++n) {  // a flip along the last axis, from 8-bit scans
    samples[n].image = labels.samples(n, 1).raw();
    samples[n].label = labels.samples(n, 1).data<uint8_t>();
    samples[n].dtype = DType::u8;
    samples[n].map = {.origin = one.w - 1,
                      .stride = {one.h * one.w, one.w, -1},
                      .begin = {0, 0, 0},
                      .end = {one.d, one.h, one.w}};
  }
  const Tensor gathered = Tensor::empty(one, DType::f32, device);
  const Tensor gathered_labels = Tensor::empty(one, DType::u8, device);
  bench.row("gather u8 -> image, label", image.bytes() + 3 * labels.bytes(),
            [&] { gather(samples, gathered, gathered_labels); });
  bench.row("copy-paste mix", 3 * image.bytes(), [&] { copy_paste(image, other, mask); });
  bench.row("noisy copy", 2 * image.bytes(), [&] { noisy_copies(image, 1, 0.1, 0.2, {1, 0, 0}); });
  bench.row("softmax", 2 * logits.bytes(), [&] { softmax(logits); });
  bench.row("hard labels", logits.bytes() + labels.bytes(), [&] { hard_labels(logits, false); });
  bench.row("entropy", logits.bytes() + image.bytes(), [&] { entropy(probabilities); });
  bench.row("kl divergence", 2 * logits.bytes() + image.bytes(), [&] { kl_divergence(logits, more); });
  bench.row("loss CE + Dice, value", logits.bytes() + labels.bytes(),
            [&] { supervised_loss(Variable(logits), labels, false); });
  bench.row("loss CE + Dice, value and gradient", 3 * logits.bytes() + 2 * labels.bytes(),
            [&] { supervised_loss(Variable(logits, true), labels, false).loss.backward(); });

  Tensor scores = Tensor::zeros(many.with_samples(1), DType::f32, device);
  Tensor weights = Tensor::empty({1, one.d + one.h + one.w, 1, 1, 1}, DType::f32, device);
  fill(weights, 1.0);
  const Tensor window = logits.samples(0, 1);
  bench.row("window: add softmax (scores twice)", 3 * window.bytes(),
            [&] { add_softmax_window(window, {}, weights, scores); });
  bench.row("argmax", logits.bytes() + labels.bytes(), [&] { argmax_classes(logits); });

  // These are no single pass; their share says how far from one they are.
  Tensor distances = Tensor::empty(one, DType::f32, device), kept = Tensor::empty(one, DType::u8, device);
  bench.row("distance transform (mask, result)", labels.bytes() + distances.bytes(), [&] {
    squared_distance(labels, {1, 1, 1}, distances);
  });
  bench.row("signed distance (labels, map)", labels.bytes() + distances.bytes(),
            [&] { signed_distance(labels); });
  bench.row("largest component (mask, result)", 2 * labels.bytes(),
            [&] { largest_component(labels, 26, kept); });
}

}  // namespace

BenchReport bench_kernels(const BenchOptions& options) {
  Bench bench(options);
  const Tensor from = random_tensor(options.shape(options.network.filters), DType::f32, options.device, 1);
  Tensor to = Tensor::empty(from.shape(), DType::f32, options.device);
  bench.row("copy", 2 * from.bytes(), [&] { copy(from, to); });
  bench_norm(bench, options);
  bench_resolutions(bench, options);
  bench_weights(bench, options);
  bench_voxels(bench, options);
  BenchReport report;
  report.rows = bench.rows();
  return report;
}

}  // namespace semivox
