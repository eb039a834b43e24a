// RCPS's kernels and losses, emulated, against the CPU.
#include "kernels/grid_distortion.hpp"
#include "kernels/intensity.hpp"
#include "kernels/negative_sampling.hpp"
#include "layers/voxel_contrast.hpp"
#include "methods/rcps.hpp"
#include "tests/emulator/compare.hpp"

using namespace semivox;

TEST_CASE("emulated negatives: the same lists") {
  for (const int64_t classes : {2, 3}) {
    const Tensor logits = noise({2, classes, 3, 5, 7}, 1);
    for (const bool fill : {true, false}) {
      compare({0}, [&](Device d) {
        const kernels::NegativeLists lists =
            kernels::choose_negatives(kernels::confident_classes(logits.to(d)), classes, 90, fill);
        return std::vector{lists.chosen, lists.place};
      });
    }
  }
}

TEST_CASE("emulated voxel contrast: loss and gradients of more than one block of anchors") {
  const Shape anchors{1, 5, 3, 14, 15}, others{1, 5, 3, 5, 7};
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const Tensor a = noise(anchors, 1, dtype), b = noise(anchors, 2, dtype), n = noise(others, 3, dtype);
    const Tensor logits = noise(anchors.with_channels(3), 4),
                 other_logits = noise(others.with_channels(3), 5);
    compare({1e-6, dtype == DType::bf16 ? 1e-2 : 1e-5}, [&](Device d) {
      const Variable x(a.to(d), true), y(b.to(d), true), z(n.to(d), true);
      const Variable loss = voxel_contrast(x, y, z, logits.to(d), other_logits.to(d), {.negatives = 40});
      loss.backward();
      return std::vector{loss.value(), x.gradient(), y.gradient(), z.gradient()};
    });
  }
}

TEST_CASE("emulated views and distortions") {
  const Tensor image = noise({2, 1, 17, 19, 15}, 1);  // more voxels than one block adds up
  compare({1e-6}, [&](Device d) {
    return std::vector{
        kernels::change_intensity(image.to(d), {{1.3f, -0.4f, 0.1f, {1, 2, 3}}, {0.6f, 0.2f, 0.0f, {}}})};
  });
  const Tensor one = image.samples(0, 1), mask = labels(one.shape(), 2, 4);
  compare({1e-6, 0}, [&](Device d) {
    const Tensor scan = one.to(d), scan_label = mask.to(d);
    kernels::DistortedPatch patch;
    patch.scan.image = scan.raw();
    patch.scan.label = scan_label.data<uint8_t>();
    patch.size = {17, 19, 15};
    patch.source = kernels::draw_grid_distortion(patch.size, 5, 0.1, {1, 2, 3}, 0);
    patch.source[1][3] = -1;
    const Tensor found = Tensor::empty(one.shape(), DType::f32, d);
    const Tensor found_label = Tensor::empty(one.shape(), DType::u8, d);
    kernels::gather_distorted(patch, found, found_label);
    return std::vector{found, found_label};
  });
}

TEST_CASE("emulated losses of rcps") {
  for (const int64_t classes : {2, 3}) {
    const Shape shape{2, classes, 5, 23, 37};  // more voxels than one block adds up
    const Tensor q1 = noise(shape, 1), q2 = noise(shape, 2), t = noise(shape, 3);
    const Tensor y = labels(shape, 4, static_cast<int>(classes));
    compare({1e-12, 1e-6}, [&](Device d) {
      const Variable first(q1.to(d), true), second(q2.to(d), true);
      const LossValue value = rcps_consistency_loss(first, second, t.to(d), 1, 0.5);
      value.loss.backward();
      return std::vector{value.results, first.gradient(), second.gradient()};
    });
    compare({1e-12, 1e-6}, [&](Device d) {
      const Variable z(q1.to(d), true);
      const LossValue value =
          rcps_segmentation_loss(z, y.to(d), std::vector<double>(static_cast<size_t>(classes), 2.0));
      value.loss.backward();
      return std::vector{value.results, z.gradient()};
    });
  }
}
