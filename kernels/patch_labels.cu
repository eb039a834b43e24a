#include "kernels/patch_labels.hpp"

#include "engine/launch.hpp"
#include "kernels/classes.hpp"

namespace semivox::kernels {

namespace {

struct CountVotes {
  const uint8_t* labels;  // (N, D, H, W)
  uint8_t* out;           // (N, d, h, w)
  Shape fine, coarse;
  int64_t begin[3], end[3];  // of the voxels that vote, within a patch
  SEMIVOX_HD void operator()(int64_t i) const {
    const int64_t w = i % coarse.w, h = i / coarse.w % coarse.h, d = i / coarse.w / coarse.h % coarse.d;
    const int64_t n = i / coarse.w / coarse.h / coarse.d;
    const int64_t side[3] = {fine.d / coarse.d, fine.h / coarse.h, fine.w / coarse.w};
    int votes[kMaxClasses] = {};
    for (int64_t a = begin[0]; a < end[0]; ++a) {
      for (int64_t b = begin[1]; b < end[1]; ++b) {
        const int64_t row = (n * fine.d + d * side[0] + a) * fine.h + h * side[1] + b;
        for (int64_t c = begin[2]; c < end[2]; ++c) ++votes[labels[row * fine.w + w * side[2] + c]];
      }
    }
    int best = 0;
    for (int k = 1; k < kMaxClasses; ++k) best = votes[k] > votes[best] ? k : best;
    out[i] = static_cast<uint8_t>(best);
  }
};

}  // namespace

Tensor patch_labels(const Tensor& labels, const std::array<int64_t, 3>& grid, PatchVoxels voxels) {
  const Shape fine = labels.shape(), coarse{fine.n, 1, grid[0], grid[1], grid[2]};
  SEMIVOX_CHECK(fine.c == 1 && fine.d % coarse.d == 0 && fine.h % coarse.h == 0 && fine.w % coarse.w == 0,
                "patches ", coarse.str(), " of labels ", fine.str());
  Tensor out = Tensor::empty(coarse, DType::u8, labels.device());
  CountVotes count{labels.data<uint8_t>(), out.data<uint8_t>(), fine, coarse, {}, {}};
  const int64_t sides[] = {fine.d / coarse.d, fine.h / coarse.h, fine.w / coarse.w};
  for (int axis = 0; axis < 3; ++axis) {
    const int64_t side = sides[axis];
    const bool all = voxels == PatchVoxels::all;
    count.begin[axis] = all ? 0 : (side - 1) / 2;
    count.end[axis] = all ? side : side / 2 + 1;
  }
  map(labels.device(), "patch_labels", coarse.rows(), count);
  return out;
}

}  // namespace semivox::kernels
