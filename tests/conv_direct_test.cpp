// The convolutions around the GPU's library, which are portable: one thread per result, and products of
// matrices. Both against the plain loops in f64.

#include "kernels/conv_direct.hpp"
#include "kernels/conv_pointwise.hpp"
#include "kernels/norm.hpp"
#include "tests/conv_cases.hpp"

using namespace semivox;
using namespace semivox::kernels;

namespace {

/// Holds `run(g, x, weights, dy, y, dx, dw)`, which overwrites y (without a bias) and dx and adds to dw,
/// against the plain loops in f64, in f32 and bf16.
template <class Run>
void check_passes(const Case& c, double f32_tolerance, double bf16_tolerance, const Run& run) {
  const Tensor w = random_vector(c.g.weight_count(), 2), b = random_vector(c.g.out_channels, 3);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    INFO(text(describe(c), " ", name_of(dtype)));
    const double tolerance = dtype == DType::f32 ? f32_tolerance : bf16_tolerance;
    const Tensor x = converted(converted(random_tensor(c.input, 1), dtype), DType::f64);
    const Tensor dy = converted(converted(random_tensor(c.g.output_shape(c.input), 4), dtype), DType::f64);
    const Results expected = run_all(c, DType::f64, DType::f64, {}, true, x, w, b, dy);
    Tensor y = Tensor::empty(dy.shape(), dtype, {}), dx = Tensor::empty(x.shape(), dtype, {});
    Tensor dw = converted(Tensor::zeros(w.shape(), DType::f64, {}), DType::f32);
    for (int64_t i = 0; i < dw.elements(); ++i) dw.data<float>()[i] = 1;
    run(c.g, converted(x, dtype), converted(w, DType::f32), converted(dy, dtype), y, dx, dw);
    activate(y, converted(b, DType::f32), 1, {});
    CHECK(relative_error(y.to_doubles(), expected.y.to_doubles()) < tolerance);
    CHECK(relative_error(dx.to_doubles(), expected.dx.to_doubles()) < tolerance);
    CHECK(relative_error(dw.to_doubles(), expected.dw.to_doubles()) < tolerance);
  }
}

}  // namespace

TEST_CASE("convolution without a library equals the reference") {
  for (const Case& c : small_cases()) {
    // bf16: y is rounded before and after the bias.
    check_passes(c, 2e-6, 1e-2,
                 [](const ConvGeometry& g, const Tensor& x, const Tensor& w, const Tensor& dy, Tensor& y,
                    Tensor& dx, Tensor& dw) {
                   if (g.transposed) {
                     direct::to_fine(g, x, w, y);
                     direct::to_coarse(g, dy, w, dx);
                     direct::to_weights(g, dy, x, dw);
                   } else {
                     direct::to_coarse(g, x, w, y);
                     direct::to_fine(g, dy, w, dx);
                     direct::to_weights(g, x, dy, dw);
                   }
                 });
  }
}

TEST_CASE("layers without neighbours as products of matrices equal the plain loops") {
  CHECK(!pointwise::takes(same3(3, 5)));
  for (const Case& c : {Case{point(3, 5), {2, 3, 4, 5, 7}}, Case{point(33, 1), {1, 33, 1, 1, 2}},
                        Case{point(1, 17), {1, 1, 1, 1, 301}}}) {
    REQUIRE(pointwise::takes(c.g));
    check_passes(c, 1e-6, 4e-3,
                 [](const ConvGeometry&, const Tensor& x, const Tensor& w, const Tensor& dy, Tensor& y,
                    Tensor& dx, Tensor& dw) {
                   pointwise::conv_forward(x, w, y);
                   pointwise::conv_backward_data(dy, w, dx);
                   pointwise::conv_backward_weights(x, dy, dw);
                 });
  }
}

TEST_CASE("packed weights and gradients go back and forth") {
  const int64_t coarse = 3, fine = 5, taps = 4;
  const Tensor w = converted(random_vector(coarse * fine * taps, 1), DType::f32);
  Tensor packed = Tensor::empty(w.shape(), DType::f32, {}), sum = w.clone();
  direct::pack_weights(w, fine, taps, packed);
  CHECK(packed.data<float>()[(1 * taps + 2) * fine + 4] == w.data<float>()[(1 * fine + 4) * taps + 2]);
  direct::add_unpacked(packed, fine, taps, sum);
  for (int64_t i = 0; i < w.elements(); ++i) CHECK(sum.data<float>()[i] == 2 * w.data<float>()[i]);
}
