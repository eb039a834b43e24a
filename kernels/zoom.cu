#include "kernels/zoom.hpp"

#include "engine/launch.hpp"
#include "kernels/classes.hpp"
#include "kernels/dual.hpp"
#include "kernels/table.hpp"

namespace semivox::kernels {
namespace {

struct SoftmaxZoom {
  const float* logits;   // (S, h, w, K)
  const int32_t* table;  // (H + W): rows, then columns
  float* probabilities;  // (S, H, W, K)
  int64_t classes, height, width, from_height, from_width;

  SEMIVOX_HD void operator()(int64_t i) const {
    const int64_t column = table[height + i % width], row = table[i / width % height];
    float p[kMaxClasses];
    if (row < 0 || column < 0) {
      for (int64_t k = 0; k < classes; ++k) p[k] = k == 0 ? 1.0f : 0.0f;
    } else {
      const int64_t slice = i / (width * height);
      const float* z = logits + ((slice * from_height + row) * from_width + column) * classes;
      semivox::softmax(z, static_cast<int>(classes), p);
    }
    for (int64_t k = 0; k < classes; ++k) probabilities[i * classes + k] = p[k];
  }
};

}  // namespace

void softmax_zoom(const Tensor& logits, const std::vector<int32_t>& rows, const std::vector<int32_t>& columns,
                  const Tensor& probabilities) {
  const Shape &from = logits.shape(), &to = probabilities.shape();
  SEMIVOX_CHECK(from.n == to.n && from.c == to.c && from.d == 1 && to.d == 1 &&
                    to.h == static_cast<int64_t>(rows.size()) && to.w == static_cast<int64_t>(columns.size()),
                from.str(), " to ", to.str());
  SEMIVOX_CHECK(to.c <= kMaxClasses, to.c, " classes, at most ", kMaxClasses);
  std::vector<int32_t> both = rows;
  both.insert(both.end(), columns.begin(), columns.end());
  const Device device = probabilities.device();
  const Tensor table = upload_table(both, device);
  map(device, "zoom.softmax", to.rows(),
      SoftmaxZoom{logits.data<float>(), table.data<int32_t>(), probabilities.data<float>(), to.c, to.h, to.w,
                  from.h, from.w});
}

}  // namespace semivox::kernels
