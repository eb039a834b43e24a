// Emulated against the CPU: mutual consistency of several decoders, Dice losses, adversarial directions,
// picked rows and the distance to prototypes.
#include "kernels/rows.hpp"
#include "layers/rows.hpp"
#include "methods/dice_loss.hpp"
#include "methods/mc_net.hpp"
#include "methods/prototypes.hpp"
#include "methods/vat.hpp"
#include "tests/emulator/compare.hpp"

using namespace semivox;

namespace {

const Shape kShape{2, 3, 5, 23, 37};  // more voxels than one block adds up

}  // namespace

TEST_CASE("emulated mutual consistency and Dice") {
  for (const int64_t classes : {2, 4}) {
    const Shape shape = kShape.with_channels(classes);
    for (const uint64_t decoders : {2u, 3u}) {
      // Powers and their derivatives, 10 at p = 1/2, in f32.
      compare({1e-7, 1e-5}, [&](Device device) {
        std::vector<Variable> z;
        for (uint64_t i = 0; i < decoders; ++i) z.emplace_back(noise(shape, i).to(device), true);
        const LossValue value = mutual_consistency(z, 0.1, false);
        value.loss.backward();
        std::vector<Tensor> written{value.results};
        for (const Variable& logits : z) written.push_back(logits.gradient());
        return written;
      });
    }
    for (const DiceForm& form : {kForegroundDice, kSquaredDice, kHalvedDice}) {
      compare({1e-12, 1e-6}, [&](Device device) {
        const Variable z(noise(shape, 3).to(device), true);
        const Tensor y = labels(shape, 4, static_cast<int>(classes)).to(device);
        const LossValue value = dice_loss(z, y, form);
        value.loss.backward();
        return std::vector{value.results, z.gradient()};
      });
    }
  }
}

TEST_CASE("emulated adversarial directions") {
  for (const bool per_class : {false, true}) {
    compare({1e-12, 1e-6}, [&](Device device) {
      const Variable z(noise(kShape, 5).to(device), true);
      const LossValue value = prediction_distance(z, noise(kShape, 6).to(device), per_class);
      value.loss.backward();
      return std::vector{value.results, z.gradient()};
    });
  }
  compare({1e-7}, [&](Device device) {
    return std::vector{random_direction(kShape, DType::f32, device, {1, 2, 3}),
                       wave_direction(kShape, DType::f32, device),
                       unit_direction(noise(kShape, 7).to(device), 10)};
  });
}

TEST_CASE("emulated rows and prototypes") {
  std::vector<int32_t> picked;
  for (int32_t i = 0; i < kShape.rows(); i += 1 + i % 3) picked.push_back(i);
  const auto count = static_cast<int64_t>(picked.size());
  for (const DType dtype : {DType::f32, DType::bf16}) {
    compare({0}, [&](Device device) {
      const Tensor list = kernels::row_list(picked, device);
      const Tensor rows = kernels::gather_rows(noise(kShape, 8, dtype).to(device), list);
      return std::vector{rows, kernels::scatter_rows(rows, list, kShape)};
    });
    compare({1e-9, dtype == DType::f32 ? 1e-6 : 1e-2}, [&](Device device) {
      const Variable rows(noise({1, 32, 1, 1, count}, 9, dtype).to(device), true);
      const Variable scores(noise({1, 1, 1, 1, count}, 10, dtype).to(device), true);
      const Variable loss = prototype_distance(rows, scores, noise({1, 32, 1, 1, 5}, 11).to(device));
      loss.backward();
      return std::vector{loss.value(), rows.gradient(), scores.gradient()};
    });
  }
}
