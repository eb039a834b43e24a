// Tensors: layout, views, copies, conversions, and the whole-tensor arithmetic of the tape.

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "engine/arithmetic.hpp"
#include "engine/tensor.hpp"

using namespace semivox;

namespace {

/// 0, 1, 2, ... in memory order.
Tensor counting(Shape shape, DType dtype = DType::f64) {
  Tensor t = Tensor::empty(shape, DType::f64, {});
  for (int64_t i = 0; i < t.elements(); ++i) t.data<double>()[i] = static_cast<double>(i);
  return cast(t, dtype);
}

}  // namespace

TEST_CASE("a shape counts voxels, rows and elements in 64 bits") {
  const Shape s{2, 3, 5, 7, 11};
  CHECK(s.voxels() == 385);
  CHECK(s.rows() == 770);
  CHECK(s.elements() == 2310);
  CHECK(s.str() == "(2,3,5,7,11)");
  CHECK(s.with_channels(4) == Shape{2, 4, 5, 7, 11});
  CHECK(s.with_samples(9) == Shape{9, 3, 5, 7, 11});
  CHECK(Shape{16, 64, 512, 512, 512}.elements() == int64_t{1} << 37);
}

TEST_CASE("views share memory, copies do not") {
  const Tensor whole = counting({3, 2, 1, 2, 2});
  Tensor middle = whole.samples(1, 1);
  CHECK(middle.shape() == Shape{1, 2, 1, 2, 2});
  CHECK(middle.data<double>()[0] == 8);
  CHECK(whole.slice(5, 3).data<double>()[2] == 7);
  CHECK(whole.samples(1, 2).samples(1, 1).data<double>()[0] == 16);
  CHECK(whole.samples(1, 1).slice(2, 2).data<double>()[1] == 11);
  CHECK(whole.reshaped({1, 24, 1, 1, 1}).data<double>() == whole.data<double>());

  const Tensor copy = middle.clone();
  middle.data<double>()[0] = -1;
  CHECK(whole.data<double>()[8] == -1);
  CHECK(copy.data<double>()[0] == 8);
  Tensor first = whole.samples(0, 1);
  first.copy_from(copy);
  CHECK(whole.data<double>()[0] == 8);
  CHECK(whole.data<double>()[8] == -1);
  middle.fill_zero();
  CHECK(whole.data<double>()[7] == 15);
  CHECK(whole.data<double>()[8] == 0);
  CHECK(whole.data<double>()[15] == 0);
  CHECK(whole.data<double>()[16] == 16);
}

TEST_CASE("sole_owner sees views") {
  const Tensor whole = counting({2, 1, 1, 1, 1});
  CHECK(whole.sole_owner());
  {
    const Tensor view = whole.samples(0, 1);
    CHECK_FALSE(whole.sole_owner());
  }
  CHECK(whole.sole_owner());
}

TEST_CASE("empty ranges are tensors without elements") {
  const Tensor whole = counting({2, 3, 1, 1, 1});
  CHECK(whole.samples(2, 0).elements() == 0);
  CHECK(whole.samples(2, 0).to_doubles().empty());
  CHECK(Tensor::zeros({0, 1, 1, 1, 1}, DType::f32, {}).bytes() == 0);
  CHECK_FALSE(Tensor().defined());
}

TEST_CASE("wrong types and ranges are caught") {
  const Tensor t = counting({2, 3, 1, 1, 1});
  CHECK_THROWS_AS(t.data<float>(), InternalError);
  CHECK_THROWS_WITH_AS(t.data<int32_t>(), doctest::Contains("holds f64, asked for i32"), InternalError);
  CHECK_THROWS_AS(t.samples(1, 2), InternalError);
  CHECK_THROWS_AS(t.samples(-1, 1), InternalError);
  CHECK_THROWS_AS(t.slice(4, 3), InternalError);
  CHECK_THROWS_AS(t.reshaped({1, 5, 1, 1, 1}), InternalError);
  CHECK_THROWS_AS(Tensor::empty({1, -1, 1, 1, 1}, DType::f32, {}), InternalError);
  Tensor other = Tensor::zeros({3, 2, 1, 1, 1}, DType::f64, {});
  CHECK_THROWS_AS(other.copy_from(t), InternalError);
  CHECK_THROWS_AS(add_in_place(other, t), InternalError);
  CHECK_THROWS_AS(add_scaled(t, cast(t, DType::f32), 1), InternalError);
  Tensor labels = Tensor::zeros({1, 1, 1, 1, 1}, DType::u8, {});
  CHECK_THROWS_AS(fill(labels, 1), InternalError);
}

TEST_CASE("every dtype converts to double") {
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    CHECK(counting({1, 2, 1, 2, 1}, dtype).to_doubles() == std::vector<double>{0, 1, 2, 3});
  }
  Tensor bytes = Tensor::zeros({1, 2, 1, 1, 1}, DType::u8, {});
  bytes.data<uint8_t>()[1] = 255;
  CHECK(bytes.to_doubles() == std::vector<double>{0, 255});
  Tensor shorts = Tensor::zeros({1, 2, 1, 1, 1}, DType::i16, {});
  shorts.data<int16_t>()[1] = -32768;
  CHECK(shorts.to_doubles() == std::vector<double>{0, -32768});
  Tensor integers = Tensor::zeros({1, 2, 1, 1, 1}, DType::i32, {});
  integers.data<int32_t>()[0] = -2147483647 - 1;
  CHECK(integers.to_doubles() == std::vector<double>{-2147483648.0, 0});
}

TEST_CASE("bf16 rounds to nearest even and keeps infinities and NaN") {
  CHECK(static_cast<float>(bf16(1.0f + 0x1p-8f)) == 1.0f);                       // a tie, down to even
  CHECK(static_cast<float>(bf16(1.0f + 3 * 0x1p-8f)) == 1.0f + 0x1p-6f);         // a tie, up to even
  CHECK(static_cast<float>(bf16(1.0f + 0x1p-8f + 0x1p-20f)) == 1.0f + 0x1p-7f);  // just above the tie
  CHECK(static_cast<float>(bf16(-2.5f)) == -2.5f);
  CHECK(std::signbit(static_cast<float>(bf16(-0.0f))));
  const float infinity = std::numeric_limits<float>::infinity();
  CHECK(static_cast<float>(bf16(infinity)) == infinity);
  CHECK(static_cast<float>(bf16(std::numeric_limits<float>::max())) == infinity);
  CHECK(std::isnan(static_cast<float>(bf16(std::numeric_limits<float>::quiet_NaN()))));
}

TEST_CASE("arithmetic over more than one block of elements") {
  const Shape shape{2, 3, 17, 19, 13};
  for (const DType dtype : {DType::f32, DType::f64}) {
    const Tensor a = counting(shape, dtype);
    Tensor b = add_scaled(a, a, -0.5);
    add_in_place(b, a);
    const std::vector<double> values = b.to_doubles();
    bool all = true;
    for (size_t i = 0; i < values.size(); ++i) all = all && values[i] == 1.5 * static_cast<double>(i);
    CHECK(all);
    fill(b, 0.25);
    CHECK(b.to_doubles() == std::vector<double>(values.size(), 0.25));
  }
}

TEST_CASE("bf16 arithmetic rounds once, from float") {
  Tensor a = Tensor::empty({1, 1, 1, 1, 1}, DType::bf16, {});
  fill(a, 1.0);
  Tensor b = a.clone();
  fill(b, 0x1p-8);
  CHECK(add_scaled(a, b, 3.0).to_doubles()[0] == 1.0 + 0x1p-6);
  CHECK(cast(a, DType::f64).to_doubles()[0] == 1.0);
}
