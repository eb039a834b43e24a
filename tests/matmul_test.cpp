// Products of matrices against plain loops in f64.

#include "kernels/matmul.hpp"

#include <doctest/doctest.h>

#include "engine/arithmetic.hpp"
#include "tests/op_check.hpp"

using namespace semivox;
using namespace semivox::testing;

namespace {

Tensor random_matrix(int64_t rows, int64_t columns, uint32_t seed) {
  return random_tensor({1, columns, 1, 1, rows}, seed);
}

/// alpha op(a) op(b) + beta c of f64 matrices.
std::vector<double> product(const Tensor& a, bool transpose_a, const Tensor& b, bool transpose_b,
                            double alpha, double beta, const Tensor& c) {
  const int64_t rows = c.shape().rows(), columns = c.shape().c;
  const int64_t inner = transpose_a ? a.shape().rows() : a.shape().c;
  std::vector<double> result = c.to_doubles();
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) {
      double sum = 0;
      for (int64_t k = 0; k < inner; ++k) {
        sum += a.data<double>()[transpose_a ? k * a.shape().c + i : i * a.shape().c + k] *
               b.data<double>()[transpose_b ? j * b.shape().c + k : k * b.shape().c + j];
      }
      double& element = result[static_cast<size_t>(i * columns + j)];
      element = alpha * sum + beta * element;
    }
  }
  return result;
}

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(a[i] - b[i]));
  return largest;
}

}  // namespace

TEST_CASE("matmul: every combination of transposes, f64 and f32") {
  for (const auto& [rows, columns, inner] :
       {std::array<int64_t, 3>{1, 1, 1}, {3, 5, 2}, {300, 17, 33}, {40, 130, 257}}) {
    for (const bool transpose_a : {false, true}) {
      for (const bool transpose_b : {false, true}) {
        for (const double beta : {0.0, 1.0, -0.5}) {
          CAPTURE(rows);
          CAPTURE(transpose_a);
          CAPTURE(transpose_b);
          CAPTURE(beta);
          const Tensor a = random_matrix(transpose_a ? inner : rows, transpose_a ? rows : inner, 1);
          const Tensor b = random_matrix(transpose_b ? columns : inner, transpose_b ? inner : columns, 2);
          const Tensor c = random_matrix(rows, columns, 3);
          const std::vector<double> expected = product(a, transpose_a, b, transpose_b, 0.7, beta, c);
          Tensor found = c.clone();
          kernels::matmul(a, transpose_a, b, transpose_b, 0.7, beta, found);
          CHECK(largest_difference(found.to_doubles(), expected) < 1e-13);
          Tensor single = cast(c, DType::f32);
          kernels::matmul(cast(a, DType::f32), transpose_a, cast(b, DType::f32), transpose_b, 0.7, beta,
                          single);
          CHECK(largest_difference(single.to_doubles(), expected) < 5e-5);
        }
      }
    }
  }
}

TEST_CASE("matmul: c is not read when beta is 0, and the number of threads does not show") {
  for (const auto& [rows, columns, inner] :
       {std::array<int64_t, 3>{500, 70, 60}, {1, 3, 30000}, {8, 40, 5000}, {129, 1, 700}}) {
    for (const bool transpose_a : {false, true}) {
      CAPTURE(rows);
      CAPTURE(transpose_a);
      const Tensor a =
          cast(random_matrix(transpose_a ? inner : rows, transpose_a ? rows : inner, 1), DType::f32);
      const Tensor b = cast(random_matrix(columns, inner, 2), DType::f32);
      std::vector<double> results[2];
      const int threads = thread_count();
      for (const int count : {1, 3}) {
        set_thread_count(count);
        Tensor c = Tensor::empty({1, columns, 1, 1, rows}, DType::f32, {});
        fill(c, std::numeric_limits<double>::quiet_NaN());
        kernels::matmul(a, transpose_a, b, true, 1, 0, c);
        results[count / 2] = c.to_doubles();
      }
      set_thread_count(threads);
      CHECK(results[0] == results[1]);
      CHECK(std::isfinite(results[0].front()));
    }
  }
}

TEST_CASE("matmul: sizes that do not fit") {
  const Tensor a = random_matrix(3, 4, 1), b = random_matrix(5, 4, 2);
  Tensor c = random_matrix(3, 5, 3);
  CHECK_NOTHROW(kernels::matmul(a, false, b, true, 1, 0, c));
  CHECK_THROWS_AS(kernels::matmul(a, false, b, false, 1, 0, c), InternalError);
  CHECK_THROWS_AS(kernels::rows_of(a, 2, 2), InternalError);
  CHECK(kernels::rows_of(a, 1, 2).data<double>()[0] == a.data<double>()[4]);
}
