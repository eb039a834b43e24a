// Every hand-written kernel outside of the networks, emulated, against its CPU version, at odd shapes.
#include "engine/optimizer.hpp"
#include "kernels/components.hpp"
#include "kernels/conv_direct.hpp"
#include "kernels/distance.hpp"
#include "kernels/gather.hpp"
#include "kernels/mixing.hpp"
#include "kernels/norm.hpp"
#include "kernels/shuffle.hpp"
#include "kernels/uncertainty.hpp"
#include "kernels/window.hpp"
#include "tests/emulator/compare.hpp"

using namespace semivox;
using kernels::Norm;
using kernels::Skip;

namespace {

/// A norm block with every parameter that it can have, gradients included.
struct FullBlock {
  ParameterSet set;
  kernels::NormBlock block;

  FullBlock(Norm norm, int64_t channels, int64_t groups, Device device) {
    const auto uniform = Initializer::uniform(1.0);
    block.norm = norm;
    block.groups = groups;
    block.gamma = &set.declare("gamma", {channels}, uniform);
    block.beta = &set.declare("beta", {channels}, uniform);
    block.conv_bias = &set.declare("bias", {channels}, uniform);
    block.prelu_slope = &set.declare("slope", {channels}, uniform);
    block.running_mean = &set.declare_buffer("mean", {channels}, 0.1);
    block.running_variance = &set.declare_buffer("variance", {channels}, 0.7);
    block.batches = &set.declare_buffer("batches", {1}, 3, true);
    set.allocate(DType::f32, device, true);
    set.initialize(5);
  }
};

/// Everything that a forward and a backward pass of a block write.
std::vector<Tensor> run_block(Device device, Norm norm, Skip mode, bool training, const Shape& shape,
                              int64_t groups, DType dtype) {
  FullBlock full(norm, shape.c, groups, device);
  kernels::NormCall call;
  call.batch_statistics = training;
  call.dropout = training ? 0.4 : 0.0;
  call.random = {7, 1, 2};
  call.skip_mode = mode;
  const Tensor y = noise(shape, 1, dtype).to(device);
  const Tensor skip = mode == Skip::none ? Tensor() : noise(shape, 2, dtype).to(device);
  const Tensor d_out = noise(shape, 3, dtype).to(device), also_d_out = d_out;  // not to be overwritten
  kernels::NormSaved saved;
  Tensor d_skip;
  const Tensor out = kernels::norm_forward(full.block, call, y, skip, saved);
  const Tensor d_y = kernels::norm_backward(full.block, call, y, mode == Skip::before ? skip : Tensor(),
                                            saved, d_out, &d_skip);
  std::vector<Tensor> written{out, d_y, full.set.gradients(), full.set.buffer_values()};
  if (d_skip.defined()) written.push_back(d_skip);
  return written;
}

}  // namespace

TEST_CASE("emulated norm blocks") {
  for (const Norm norm : {Norm::none, Norm::batch, Norm::instance, Norm::group}) {
    for (const Skip mode : {Skip::none, Skip::after, Skip::before}) {
      CAPTURE(static_cast<int>(norm));
      CAPTURE(static_cast<int>(mode));
      // The sums are added up in another order than on the CPU.
      compare({2e-6}, [&](Device device) {
        return run_block(device, norm, mode, true, {3, 6, 5, 7, 9}, 3, DType::f32);
      });
      // A last-bit difference in scale or shift may round a bf16 the other way.
      compare({2e-2}, [&](Device device) {
        return run_block(device, norm, mode, true, {2, 6, 1, 33, 35}, 2, DType::bf16);
      });
      // Channels that are read in packs of 16 bytes.
      compare({2e-6}, [&](Device device) {
        return run_block(device, norm, mode, true, {3, 12, 3, 7, 9}, 3, DType::f32);
      });
      compare({2e-2}, [&](Device device) {
        return run_block(device, norm, mode, true, {2, 16, 1, 33, 35}, 4, DType::bf16);
      });
    }
  }
  compare({2e-6}, [](Device device) {
    return run_block(device, Norm::batch, Skip::after, false, {2, 3, 3, 5, 7}, 1, DType::f32);
  });
  compare({2e-6}, [](Device device) {  // more channels than a block has threads
    return run_block(device, Norm::group, Skip::before, true, {2, 258, 2, 3, 1}, 6, DType::f32);
  });
}

TEST_CASE("emulated folding of a norm into weights, activation") {
  compare({0}, [](Device device) {
    const int64_t channels = 5, run = 27;  // weights of 5 output and 2 input channels, in both layers' orders
    FullBlock full(Norm::batch, channels, 1, device);
    const Tensor weights = noise({1, channels * 2 * run, 1, 1, 1}, 1).to(device);
    std::vector<Tensor> written;
    for (const int64_t values : {2 * run, run}) {
      Tensor folded = Tensor::empty(weights.shape(), DType::f32, device);
      Tensor bias = Tensor::empty({1, channels, 1, 1, 1}, DType::f32, device);
      kernels::fold_norm(full.block, weights, values, folded, bias);
      written.insert(written.end(), {folded, bias});
    }
    for (const DType dtype : {DType::f32, DType::bf16}) {
      const Shape shape{2, dtype == DType::f32 ? channels : 8, 3, 7, 11};
      Tensor alone = noise(shape, 2, dtype).to(device), with_skip = noise(shape, 3, dtype).to(device);
      kernels::activate(alone, {}, 0.1, {});
      kernels::activate(with_skip, noise({1, shape.c, 1, 1, 1}, 5).to(device), 0,
                        noise(shape, 4, dtype).to(device));
      written.insert(written.end(), {alone, with_skip});
    }
    return written;
  });
}

TEST_CASE("emulated channel operations") {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    compare({0}, [&](Device device) {
      const Shape shape{2, 5, 3, 7, 11};
      const Tensor a = noise(shape, 1, dtype).to(device),
                   b = noise(shape.with_channels(3), 2, dtype).to(device),
                   single = noise(shape.with_channels(1), 3, dtype).to(device);
      return std::vector{kernels::concat_channels(a, b), kernels::take_channels(a, 1, 3),
                         kernels::repeat_channel(single, 7), kernels::sum_over_channels(a)};
    });
    compare({1e-6}, [&](Device device) {
      Tensor sums = noise({1, 5, 1, 1, 1}, 4).to(device);
      kernels::add_channel_sums(noise({2, 5, 9, 11, 13}, 5, dtype).to(device), sums);
      return std::vector{sums};
    });
  }
}

TEST_CASE("emulated mixing") {
  const std::array<int64_t, 3> size{7, 9, 11};
  compare({0}, [&](Device device) {
    const Tensor mask = kernels::box_mask(size, kernels::draw_grid_boxes(size, {3, 1, 1}), device);
    std::vector<Tensor> written{mask, kernels::box_mask(size, {kernels::draw_band(size, {3, 1, 2})}, device),
                                kernels::box_mask(size, {}, device)};
    const Shape shape{2, 3, 7, 9, 11};
    for (const DType dtype : {DType::f32, DType::bf16, DType::f64}) {
      written.push_back(
          kernels::copy_paste(noise(shape, 1, dtype).to(device), noise(shape, 2, dtype).to(device), mask));
    }
    written.push_back(
        kernels::copy_paste(labels(shape, 3, 4).to(device), labels(shape, 4, 4).to(device), mask));
    return written;
  });
}

TEST_CASE("emulated maps from logits") {
  for (const int64_t classes : {2, 3, 16}) {
    CAPTURE(classes);
    compare({0}, [&](Device device) {
      const Shape shape{2, classes, 5, 7, 11};
      const Tensor a = noise(shape, 1).to(device), b = noise(shape, 2).to(device);
      const Tensor p = kernels::softmax(a);
      Tensor mean = Tensor::zeros(shape.with_samples(1), DType::f32, device);
      kernels::accumulate_softmax(a, 2, 0.5, mean);
      return std::vector{p,
                         mean,
                         kernels::hard_labels(a, false),
                         kernels::hard_labels(a, true),
                         kernels::entropy(p),
                         kernels::kl_divergence(a, b),
                         kernels::noisy_copies(a, 3, 0.1, 0.15, {5, 6, 7}),
                         kernels::noisy_copies(a, 2, 0, 0.2, {5, 6, 7})};
    });
  }
}

TEST_CASE("emulated connected components, while threads merge in between") {
  const auto run = [](const Shape& shape, int neighbours, double density) {
    CAPTURE(shape.str());
    CAPTURE(neighbours);
    compare({0}, [&](Device device) {
      const Tensor mask = labels(shape, 1, 2, density).to(device);
      const Tensor classes = labels(shape, 2, 4).to(device);
      Tensor numbers = Tensor::empty(shape, DType::i32, device);
      Tensor largest = Tensor::empty(shape, DType::u8, device), in_place = mask.clone();
      Tensor per_class = Tensor::empty(shape, DType::u8, device);
      kernels::label_components(mask, neighbours, numbers);
      kernels::largest_component(mask, neighbours, largest);
      kernels::largest_component(in_place, neighbours, in_place);
      kernels::largest_component_per_class(classes, 3, neighbours, per_class);
      return std::vector{numbers, largest, in_place, per_class};
    });
  };
  for (const int neighbours : {6, 18, 26}) {
    for (const double density : {0.0, 0.3, 0.6, 1.0}) run({2, 1, 5, 13, 9}, neighbours, density);
  }
  for (const int neighbours : {4, 8}) run({3, 1, 1, 31, 17}, neighbours, 0.55);
}

TEST_CASE("emulated distance transform") {
  for (const DType dtype : {DType::f32, DType::f64}) {
    for (const double density : {0.0, 0.01, 0.5}) {
      compare({0}, [&](Device device) {
        const Shape shape{2, 1, 5, 13, 9};
        const Tensor mask = labels(shape, 1, 2, density).to(device);
        Tensor unit = Tensor::empty(shape, dtype, device), spaced = Tensor::empty(shape, dtype, device);
        kernels::squared_distance(mask, {1, 1, 1}, unit);
        kernels::squared_distance(mask, {2.5, 0.7, 1.25}, spaced);
        return std::vector{unit, spaced};
      });
    }
  }
}

TEST_CASE("emulated gather") {
  const int64_t d = 5, h = 7, w = 40, channels = 2;  // of the sources
  const Tensor f32 = noise({1, channels, d, h, w}, 1), u8 = labels({channels, 1, d, h, w}, 2, 200);
  Tensor i16 = Tensor::empty({1, channels, d, h, w}, DType::i16, kCpu);
  for (int64_t i = 0; i < i16.elements(); ++i) {
    i16.data<int16_t>()[i] = static_cast<int16_t>(3000 * f32.data<float>()[i]);
  }
  const Tensor label = labels({1, 1, d, h, w}, 3, 3);
  compare({0}, [&](Device device) {
    const Tensor a = f32.to(device), b = u8.to(device), c = i16.to(device), l = label.to(device);
    const std::vector<kernels::GatherSample> samples{
        // A crop that begins and ends outside, a mirrored crop, and a quarter turn in the (d, h) plane.
        {a.raw(),
         l.data<uint8_t>(),
         DType::f32,
         1,
         0,
         {-h * w - 2 * w - 3, {h * w, w, 1}, {1, 2, 3}, {6, 9, 43}}},
        {b.raw(),
         nullptr,
         DType::u8,
         0.01f,
         -1,
         {(d - 1) * h * w + w - 1, {-h * w, w, -1}, {0, 0, 0}, {5, 7, 40}}},
        {c.raw(),
         l.data<uint8_t>(),
         DType::i16,
         0.5f,
         2,
         {(h - 1) * w, {-w, h * w, 1}, {0, 0, 0}, {7, 5, 40}}}};
    const Shape shape{3, channels, 7, 9, 45};
    const Tensor image = Tensor::empty(shape, DType::f32, device);
    const Tensor labels = Tensor::empty(shape.with_channels(1), DType::u8, device);
    kernels::gather(samples, image, labels);
    return std::vector{image, labels};
  });
}

TEST_CASE("emulated sliding window") {
  compare({0}, [](Device device) {
    const Tensor weights = noise({1, 5 + 6 + 37, 1, 1, 1}, 2).to(device);
    Tensor scores = Tensor::zeros({1, 3, 9, 8, 40}, DType::f32, device);
    for (const kernels::WindowPlace& place :
         {kernels::WindowPlace{{0, 1, 2}, {false, true, false}}, kernels::WindowPlace{{3, 2, 3}, {}},
          kernels::WindowPlace{{-2, 4, -1}, {true, false, true}}}) {
      kernels::add_softmax_window(noise({1, 3, 5, 6, 37}, 3).to(device), place, weights, scores);
    }
    Tensor totals = noise({1, 9 + 8 + 40, 1, 1, 1}, 4).to(device), divided = scores.clone();
    kernels::divide_by_totals(totals, divided);
    return std::vector{scores, divided, kernels::argmax_classes(scores)};
  });
}

TEST_CASE("emulated direct convolution") {
  const kernels::ConvGeometry same{3, 5, {3, 3, 3}, {1, 1, 1}, {1, 1, 1}, false};
  const kernels::ConvGeometry flat{2, 3, {1, 3, 5}, {1, 1, 2}, {0, 1, 2}, false};
  const kernels::ConvGeometry half{3, 2, {2, 2, 2}, {2, 2, 2}, {0, 0, 0}, false};
  for (const kernels::ConvGeometry& g : {same, flat, half}) {
    for (const DType dtype : {DType::f32, DType::bf16}) {
      compare({0}, [&](Device device) {
        const Shape fine_shape{2, g.in_channels, 5, 7, 9}, coarse_shape = g.output_shape(fine_shape);
        const int64_t taps = g.kernel[0] * g.kernel[1] * g.kernel[2];
        const Tensor weights = noise({1, g.weight_count(), 1, 1, 1}, 1).to(device);
        const Tensor x = noise(fine_shape, 2, dtype).to(device),
                     dy = noise(coarse_shape, 3, dtype).to(device);
        Tensor packed = Tensor::empty(weights.shape(), dtype, device);
        Tensor y = Tensor::empty(coarse_shape, dtype, device), dx = Tensor::empty(fine_shape, dtype, device);
        Tensor dw = noise(weights.shape(), 4).to(device),
               wide = Tensor::empty(coarse_shape, DType::f32, device);
        kernels::direct::pack_weights(weights, g.in_channels, taps, packed);
        kernels::direct::to_coarse(g, x, weights, y);
        kernels::direct::convert(y, wide);
        kernels::activate(y, noise({1, g.out_channels, 1, 1, 1}, 5).to(device), 1, {});
        kernels::direct::to_fine(g, dy, weights, dx);
        kernels::direct::to_weights(g, x, dy, dw);
        kernels::direct::add_unpacked(packed, g.in_channels, taps, dw);
        return std::vector{packed, y, wide, dx, dw};
      });
    }
  }
}

TEST_CASE("emulated arithmetic") {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    compare({0}, [&](Device device) {
      const Shape shape{1, 3, 5, 7, 11};
      Tensor a = noise(shape, 1, dtype).to(device), filled = Tensor::empty(shape, dtype, device);
      const Tensor b = noise(shape, 2, dtype).to(device);
      add_in_place(a, b);
      fill(filled, 1.1);
      return std::vector{
          a, filled, add_scaled(a, b, 0.3), cast(a, DType::f32), cast(a, DType::bf16), cast(a, DType::f64)};
    });
  }
}

TEST_CASE("emulated optimisers, moving average and first values") {
  for (const char* name : {"sgd", "adam", "adamw"}) {
    CAPTURE(name);
    compare({0}, [&](Device device) {
      ParameterSet student, teacher;
      for (ParameterSet* set : {&student, &teacher}) {
        set->declare("a", {7, 41}, Initializer::normal(0.5));
        set->declare("b", {13}, Initializer::uniform(0.2));
        set->declare_buffer("c", {5}, 0.25);
        set->declare_buffer("count", {1}, 1, true);
        set->allocate(DType::f32, device, set == &student);
        set->initialize(set == &student ? 3 : 4);
      }
      OptimizerOptions options;
      options.name = name;
      const auto optimizer = make_optimizer(options, student);
      for (uint64_t step = 1; step <= 3; ++step) {
        student.gradients().copy_from(noise(student.gradients().shape(), step));
        optimizer->step(0.01);
        ema_update(teacher, student, ramped_ema_decay(0.99, static_cast<int64_t>(step)), true);
      }
      return std::vector{student.values(), teacher.values(), teacher.buffer_values()};
    });
  }
}
