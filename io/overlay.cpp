#include "io/overlay.hpp"

#include <algorithm>
#include <cmath>

#include "engine/error.hpp"
#include "io/bitmap_font.hpp"
#include "io/png.hpp"

namespace semivox::io {
namespace {

constexpr Colour kBackground{16, 16, 16}, kText{235, 235, 235};
constexpr int64_t kMargin = 10;         // pixels around and between panels
constexpr int64_t kTextScale = 2;       // pixels per dot of the font
constexpr int64_t kWantedExtent = 320;  // pixels that the longest axis should reach
constexpr double kFillOpacity = 0.45;

/// Colours of one class.
struct ClassColours {
  Colour
      fill;  ///< of the prediction: the palette of Okabe and Ito, which colour-blind readers can tell apart
  Colour line;  ///< of the reference: far from the fill, from black and from white
};

const ClassColours& class_colours(int label) {
  static constexpr ClassColours colours[] = {
      {{213, 94, 0}, {0, 255, 255}},   {{86, 180, 233}, {255, 240, 0}},   {{0, 158, 115}, {255, 60, 255}},
      {{240, 228, 66}, {70, 90, 255}}, {{204, 121, 167}, {120, 255, 60}}, {{0, 114, 178}, {255, 170, 0}},
      {{230, 159, 0}, {120, 190, 255}}};
  return colours[static_cast<size_t>(label - 1) % std::size(colours)];
}

/// `opacity` of `over`, the rest of `under`.
Colour blend(const Colour& under, const Colour& over, double opacity) {
  Colour mixed{};
  for (size_t c = 0; c < 3; ++c)
    mixed[c] = static_cast<uint8_t>(std::lround((1 - opacity) * under[c] + opacity * over[c]));
  return mixed;
}

/// Gray values: linear between the 2nd and the 98th percentile of the scan.
struct Window {
  float low = 0, high = 1;
  explicit Window(std::vector<float> voxels) {
    const auto at = [&](double fraction) {
      const auto rank = std::lround(fraction * static_cast<double>(voxels.size() - 1));
      std::nth_element(voxels.begin(), voxels.begin() + rank, voxels.end());
      return voxels[static_cast<size_t>(rank)];
    };
    low = at(0.02);
    high = std::max(at(0.98), std::nextafter(low, INFINITY));
  }
  Colour operator()(float value) const {
    const float relative = std::clamp((value - low) / (high - low), 0.0f, 1.0f);
    const auto gray = static_cast<uint8_t>(std::lround(255 * relative));
    return {gray, gray, gray};
  }
};

/// The slice of `labels` across `axis` with the most foreground; the middle one when there is no foreground.
int64_t fullest_slice(const LabelMap& labels, size_t axis) {
  const auto [depth, height, width] = labels.shape;
  std::vector<int64_t> foreground(static_cast<size_t>(labels.shape[axis]));
  size_t n = 0;
  for (int64_t i = 0; i < depth; ++i) {
    for (int64_t j = 0; j < height; ++j) {
      for (int64_t k = 0; k < width; ++k, ++n) {
        if (labels.voxels[n] != 0) ++foreground[static_cast<size_t>(axis == 0 ? i : axis == 1 ? j : k)];
      }
    }
  }
  const auto fullest = std::max_element(foreground.begin(), foreground.end());
  return *fullest == 0 ? labels.shape[axis] / 2 : fullest - foreground.begin();
}

/// A slice across `axis`: rows run along `row_axis`, columns along `column_axis`.
struct Panel {
  size_t axis, row_axis, column_axis;
  int64_t slice;
  int64_t rows, columns;              // voxels
  int64_t row_pixels, column_pixels;  // pixels per voxel

  int64_t height() const { return rows * row_pixels; }
  int64_t width() const { return columns * column_pixels; }
  std::string title() const { return text("axis ", axis, ": ", slice); }

  size_t voxel(const Extent3& shape, int64_t row, int64_t column) const {
    Extent3 position{};
    position[axis] = slice;
    position[row_axis] = row;
    position[column_axis] = column;
    return static_cast<size_t>((position[0] * shape[1] + position[1]) * shape[2] + position[2]);
  }
};

/// One panel per axis whose slices are more than a line.
std::vector<Panel> make_panels(const Image& image, const LabelMap& guide) {
  const Extent3& shape = image.shape;
  const auto& spacing = image.geometry.spacing;
  const double unit = *std::min_element(spacing.begin(), spacing.end());
  double longest = 1;
  for (size_t axis = 0; axis < 3; ++axis) {
    if (shape[axis] > 1) longest = std::max(longest, static_cast<double>(shape[axis]) * spacing[axis] / unit);
  }
  const double enlargement = std::max(1.0, std::ceil(static_cast<double>(kWantedExtent) / longest));
  const auto pixels = [&](size_t axis) {
    return std::clamp<int64_t>(std::lround(enlargement * spacing[axis] / unit), 1, 100);
  };
  std::vector<Panel> panels;
  for (size_t axis = 0; axis < 3; ++axis) {
    const size_t row_axis = axis == 0 ? 1 : 0, column_axis = axis == 2 ? 1 : 2;
    if (axis > 0 && (shape[row_axis] == 1 || shape[column_axis] == 1)) continue;
    panels.push_back({axis, row_axis, column_axis, fullest_slice(guide, axis), shape[row_axis],
                      shape[column_axis], pixels(row_axis), pixels(column_axis)});
  }
  return panels;
}

void draw_slice(Picture& picture, const Panel& panel, int64_t left, int64_t top, const Image& image,
                const Window& window, const LabelMap& prediction) {
  for (int64_t row = 0; row < panel.rows; ++row) {
    for (int64_t column = 0; column < panel.columns; ++column) {
      const size_t voxel = panel.voxel(image.shape, row, column);
      Colour colour = window(image.voxels[voxel]);
      const int label = prediction.voxels[voxel];
      if (label != 0) colour = blend(colour, class_colours(label).fill, kFillOpacity);
      fill_rectangle(picture, left + column * panel.column_pixels, top + row * panel.row_pixels,
                     panel.column_pixels, panel.row_pixels, colour);
    }
  }
}

/// Draws the inner edges of every labelled region, towards each of the four neighbours of another class.
void draw_outlines(Picture& picture, const Panel& panel, int64_t left, int64_t top, const LabelMap& labels) {
  const int64_t h = panel.row_pixels, w = panel.column_pixels;
  const int64_t line = std::max<int64_t>(1, std::min(h, w) / 3);
  const auto label_at = [&](int64_t row, int64_t column) {
    const bool inside = row >= 0 && row < panel.rows && column >= 0 && column < panel.columns;
    return inside ? labels.voxels[panel.voxel(labels.shape, row, column)] : 0;
  };
  for (int64_t row = 0; row < panel.rows; ++row) {
    for (int64_t column = 0; column < panel.columns; ++column) {
      const int label = label_at(row, column);
      if (label == 0) continue;
      const Colour& colour = class_colours(label).line;
      const int64_t x = left + column * w, y = top + row * h;
      if (label_at(row - 1, column) != label) fill_rectangle(picture, x, y, w, line, colour);
      if (label_at(row + 1, column) != label) fill_rectangle(picture, x, y + h - line, w, line, colour);
      if (label_at(row, column - 1) != label) fill_rectangle(picture, x, y, line, h, colour);
      if (label_at(row, column + 1) != label) fill_rectangle(picture, x + w - line, y, line, h, colour);
    }
  }
}

struct LegendItem {
  Colour colour;
  std::string label;
};

std::vector<LegendItem> make_legend(const LabelMap& prediction, const LabelMap* reference) {
  std::array<bool, 256> predicted{}, referenced{};
  for (const uint8_t label : prediction.voxels) predicted[label] = true;
  if (reference != nullptr) {
    for (const uint8_t label : reference->voxels) referenced[label] = true;
  }
  std::vector<LegendItem> items;
  for (int label = 1; label < 256; ++label) {
    if (predicted[static_cast<size_t>(label)])
      items.push_back({class_colours(label).fill, text("prediction ", label)});
    if (referenced[static_cast<size_t>(label)])
      items.push_back({class_colours(label).line, text("reference ", label)});
  }
  return items;
}

int64_t text_width(const std::string& line) {
  return static_cast<int64_t>(line.size()) * kGlyphWidth * kTextScale;
}

}  // namespace

void write_overlay(const std::string& path, const Image& image, const LabelMap& prediction,
                   const LabelMap* reference, const std::string& caption) {
  SEMIVOX_CHECK(prediction.shape == image.shape && (reference == nullptr || reference->shape == image.shape),
                path);
  SEMIVOX_CHECK(voxel_count(image.shape) > 0, path);
  const auto labelled = [](const LabelMap& map) {
    return std::any_of(map.voxels.begin(), map.voxels.end(), [](uint8_t v) { return v != 0; });
  };
  const LabelMap& guide = reference != nullptr && labelled(*reference) ? *reference : prediction;
  const std::vector<Panel> panels = make_panels(image, guide);
  const std::vector<LegendItem> legend = make_legend(prediction, reference);

  constexpr int64_t kLine = kGlyphHeight * kTextScale + 4;
  constexpr int64_t kSwatch = 7 * kTextScale;
  const auto item_width = [](const LegendItem& item) {
    return kSwatch + 6 + text_width(item.label) + 2 * kMargin;
  };
  int64_t panels_width = kMargin, panels_height = 0, widest_item = 0;
  for (const Panel& panel : panels) {
    panels_width += std::max(panel.width(), text_width(panel.title())) + 2 * kMargin;
    panels_height = std::max(panels_height, panel.height());
  }
  for (const LegendItem& item : legend) widest_item = std::max(widest_item, item_width(item));

  Picture picture;
  picture.width = std::max({panels_width, text_width(caption) + 2 * kMargin, widest_item + kMargin});
  int64_t legend_lines = legend.empty() ? 0 : 1;
  for (int64_t x = kMargin; const LegendItem& item : legend) {
    if (x + item_width(item) > picture.width) ++legend_lines, x = kMargin;
    x += item_width(item);
  }
  picture.height = kMargin + kLine + panels_height + kMargin + (1 + legend_lines) * kLine + kMargin;
  picture.pixels.assign(static_cast<size_t>(picture.height * picture.width * 3), kBackground[0]);

  const Window window(image.voxels);
  const int64_t top = kMargin + kLine;
  int64_t left = kMargin;
  for (const Panel& panel : panels) {
    draw_text(picture, left, kMargin, kTextScale, panel.title(), kText);
    draw_slice(picture, panel, left, top, image, window, prediction);
    if (reference != nullptr) draw_outlines(picture, panel, left, top, *reference);
    left += std::max(panel.width(), text_width(panel.title())) + 2 * kMargin;
  }
  int64_t y = top + panels_height + kMargin;
  draw_text(picture, kMargin, y, kTextScale, caption, kText);
  y += kLine;
  for (int64_t x = kMargin; const LegendItem& item : legend) {
    if (x + item_width(item) > picture.width) y += kLine, x = kMargin;
    fill_rectangle(picture, x, y, kSwatch, kSwatch, item.colour);
    draw_text(picture, x + kSwatch + 6, y, kTextScale, item.label, kText);
    x += item_width(item);
  }
  write_png(path, picture);
}

}  // namespace semivox::io
