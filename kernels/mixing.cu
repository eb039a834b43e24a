#include "kernels/mixing.hpp"

#include <algorithm>

#include "kernels/channels.hpp"

namespace semivox::kernels {

namespace {

int64_t side_of(int64_t size, double ratio) {
  return std::max<int64_t>(1, static_cast<int64_t>(size * ratio));
}

// Uniform in 0 ... bound-1; 0 when there is no choice.
int64_t draw_below(const RandomStream& random, uint64_t index, int64_t bound) {
  return bound > 1 ? random.integer(index, bound) : 0;
}

struct FillMask {
  uint8_t* mask;  // (D, H, W)
  int64_t height, width;
  const Box* box;  // (boxes)
  int64_t boxes;
  SEMIVOX_HD void operator()(int64_t i) const {
    const int64_t at[3] = {i / (height * width), i / width % height, i % width};
    uint8_t outside = 1;
    for (int64_t b = 0; b < boxes; ++b) {
      bool inside = true;
      for (int axis = 0; axis < 3; ++axis) {
        inside = inside && at[axis] >= box[b].begin[axis] && at[axis] < box[b].end[axis];
      }
      if (inside) outside = 0;
    }
    mask[i] = outside;
  }
};

template <class T>
struct CopyPaste {
  const T* outer;       // (N, V, C)
  const T* inner;       // (N, V, C)
  const uint8_t* mask;  // (V)
  T* out;               // (N, V, C)
  int64_t voxels, channels;
  SEMIVOX_HD void operator()(int64_t, int64_t row, int64_t c) const {
    const int64_t i = row * channels + c;
    out[i] = mask[row % voxels] != 0 ? outer[i] : inner[i];
  }
};

}  // namespace

Box draw_box(std::array<int64_t, 3> size, double ratio, const RandomStream& random) {
  Box box;
  for (size_t axis = 0; axis < 3; ++axis) {
    const int64_t side = size[axis] == 1 ? 1 : side_of(size[axis], ratio);
    box.begin[axis] = draw_below(random, axis, size[axis] - side);
    box.end[axis] = box.begin[axis] + side;
  }
  return box;
}

Box box_at(std::array<int64_t, 3> size, double ratio, std::array<int64_t, 3> corner) {
  Box box;
  for (size_t axis = 0; axis < 3; ++axis) {
    const int64_t side = size[axis] == 1 ? 1 : side_of(size[axis], ratio);
    if (corner[axis] < 0 || corner[axis] + side > size[axis]) {
      throw UsageError(text("mask_corner: found ", corner[axis], " on axis ", axis, ", expected 0 to ",
                            size[axis] - side, " for a box of side ", side, " in ", size[axis]));
    }
    box.begin[axis] = corner[axis];
    box.end[axis] = corner[axis] + side;
  }
  return box;
}

std::vector<Box> draw_grid_boxes(std::array<int64_t, 3> size, const RandomStream& random) {
  std::vector<Box> boxes;
  const bool flat = size[0] == 1;
  const int64_t cells0 = flat ? 1 : 3;
  uint64_t draw = 0;
  for (int64_t i = 0; i < cells0; ++i) {
    for (int64_t j = 0; j < 3; ++j) {
      for (int64_t k = 0; k < 3; ++k) {
        const std::array<int64_t, 3> cell_index{i, j, k};
        Box box;
        for (size_t axis = 0; axis < 3; ++axis) {
          const int64_t cell = axis == 0 && flat ? 1 : size[axis] / 3;
          // The 3D code rounds the side and leaves one more position out at the end than the 2D code.
          const int64_t side = flat ? side_of(cell, 2.0 / 3.0) : std::max<int64_t>(1, (2 * cell + 1) / 3);
          box.begin[axis] =
              cell_index[axis] * cell + draw_below(random, draw++, cell - side - (flat ? 0 : 1));
          box.end[axis] = box.begin[axis] + side;
        }
        boxes.push_back(box);
      }
    }
  }
  return boxes;
}

Box draw_band(std::array<int64_t, 3> size, const RandomStream& random) {
  const bool flat = size[0] == 1;
  const size_t axis = flat ? 1 : 2;
  const int64_t width = side_of(size[axis], flat ? 4.0 / 9.0 : 8.0 / 27.0);
  Box box{{0, 0, 0}, size};
  box.begin[axis] = draw_below(random, 0, size[axis] - width - (flat ? 0 : 1));
  box.end[axis] = box.begin[axis] + width;
  return box;
}

Tensor drawn_box_mask(std::array<int64_t, 3> size, const std::function<std::vector<Box>()>& draw,
                      Device device) {
  const auto count = static_cast<int64_t>(draw().size());
  const Tensor table = step_table<Box>(device, count, [draw](Box* boxes) {
    const std::vector<Box> drawn = draw();
    std::copy(drawn.begin(), drawn.end(), boxes);
  });
  Tensor mask = Tensor::empty({1, 1, size[0], size[1], size[2]}, DType::u8, device);
  map(device, "box_mask", mask.elements(),
      FillMask{mask.data<uint8_t>(), size[1], size[2], static_cast<const Box*>(table.raw()), count});
  return mask;
}

Tensor box_mask(std::array<int64_t, 3> size, const std::vector<Box>& boxes, Device device) {
  return drawn_box_mask(
      size, [boxes] { return boxes; }, device);
}

Tensor copy_paste(const Tensor& outer, const Tensor& inner, const Tensor& mask) {
  const Shape shape = outer.shape();
  SEMIVOX_CHECK(inner.shape() == shape && inner.dtype() == outer.dtype(), shape.str(), " with ",
                inner.shape().str());
  SEMIVOX_CHECK(mask.shape().voxels() == shape.voxels() && mask.elements() == shape.voxels(), "mask ",
                mask.shape().str(), " for ", shape.str());
  Tensor out = Tensor::empty(shape, outer.dtype(), outer.device());
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    map_channels(outer.device(), "copy_paste", shape.n, shape.voxels(), shape.c,
                 CopyPaste<T>{outer.data<T>(), inner.data<T>(), mask.data<uint8_t>(), out.data<T>(),
                              shape.voxels(), shape.c});
  };
  if (outer.dtype() == DType::u8) {
    run(uint8_t{});
  } else {
    dispatch_float(outer.dtype(), run);
  }
  return out;
}

}  // namespace semivox::kernels
