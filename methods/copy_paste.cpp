#include "methods/copy_paste.hpp"

#include <algorithm>
#include <cstdio>

#include "kernels/components.hpp"
#include "kernels/uncertainty.hpp"

namespace semivox {

namespace {

using Axes = std::array<int64_t, 3>;

Axes size_of(const Tensor& image) { return {image.shape().d, image.shape().h, image.shape().w}; }

/// Three integers as 3,4,2, or nothing for `none`.
std::optional<Axes> read_axes(OptionReader& options, const std::string& name, const std::string& none,
                              const std::string& help) {
  const std::string value = options.string(name, none, help);
  if (value == none) return {};
  Axes axes{};
  char end = 0;
  if (std::sscanf(value.c_str(), "%ld,%ld,%ld%c", &axes[0], &axes[1], &axes[2], &end) != 3) {
    throw UsageError(
        text("option ", name, ": found '", value, "', expected three integers as 3,4,2, or ", none));
  }
  return axes;
}

}  // namespace

CopyPastePhases::CopyPastePhases(OptionReader& options)
    : pretrain_(
          options.number("pretrain", 0.25, "part of the iterations spent on labelled images alone", 0, 1)),
      from_best_(
          options.word("selftrain_from", "last", {"last", "best"},
                       "weights that self-training starts from (best: of pre-training's validation)") ==
          "best") {}

std::vector<Phase> CopyPastePhases::operator()(const MethodSetup& setup) const {
  if (setup.batch < 2 || setup.batch % 2 != 0) {
    throw UsageError(
        text("--batch: found ", setup.batch, ", expected an even number: images are mixed in pairs"));
  }
  const auto first = static_cast<int64_t>(pretrain_ * static_cast<double>(setup.iterations) + 0.5);
  LearningRate constant = setup.learning_rate;
  constant.kind = LearningRate::Kind::constant;
  return {{"pretrain", first, setup.batch, 0, constant, from_best_},
          {"selftrain", setup.iterations - first, setup.batch, setup.batch, setup.learning_rate, false}};
}

PastedRegion::PastedRegion(OptionReader& options)
    : ratio_(options.number("mask_ratio", 2.0 / 3.0, "side of the box as part of the patch, beta", 0.01, 1)),
      shape_(options.word("mask", "box", {"box", "grid", "band"},
                          "shape of the pasted region (grid, band: ablations)")),
      corner_(read_axes(options, "mask_corner", "random", "corner of the box as i,j,k, or random")),
      range_(read_axes(options, "mask_range", "auto",
                       "random corners lie below i,j,k, boxes are cut at the edge; auto: they fit")) {}

kernels::Box PastedRegion::draw_box(const Axes& size, const RandomStream& random) const {
  if (corner_) return kernels::box_at(size, ratio_, *corner_);
  if (!range_) return kernels::draw_box(size, ratio_, random);
  kernels::Box box = kernels::box_at(size, ratio_, {0, 0, 0});
  for (size_t axis = 0; axis < 3; ++axis) {
    const int64_t range = (*range_)[axis];
    if (range < 1 || range > size[axis]) {
      throw UsageError(text("mask_range: found ", range, " on axis ", axis, ", expected 1 to ", size[axis],
                            " (the patch)"));
    }
    box.begin[axis] = random.integer(axis, range);
    box.end[axis] = std::min(box.end[axis] + box.begin[axis], size[axis]);
  }
  return box;
}

std::vector<kernels::Box> PastedRegion::draw_boxes(const Axes& size, const RandomStream& random) const {
  if (shape_ == "grid") return kernels::draw_grid_boxes(size, random);
  if (shape_ == "band") return {kernels::draw_band(size, random)};
  return {draw_box(size, random)};
}

Tensor PastedRegion::draw(const Tensor& image, const RandomStream& random) const {
  const Axes size = size_of(image);
  return kernels::drawn_box_mask(
      size, [this, size, random] { return draw_boxes(size, random.now()); }, image.device());
}

int read_neighbours(OptionReader& options) {
  const int64_t neighbours =
      options.integer("neighbours", 26, "connectivity of the largest component: 6, 18 or 26");
  if (neighbours != 6 && neighbours != 18 && neighbours != 26) {
    throw UsageError(text("option neighbours: found ", neighbours, ", expected 6, 18 or 26"));
  }
  return static_cast<int>(neighbours);
}

Tensor pseudo_labels(const Tensor& logits, int neighbours) {
  Tensor labels = kernels::hard_labels(logits, true);
  kernels::largest_component_per_class(labels, static_cast<int>(logits.shape().c), neighbours, labels);
  return labels;
}

Tensor whole_mask(const Tensor& image) { return kernels::box_mask(size_of(image), {}, image.device()); }

}  // namespace semivox
