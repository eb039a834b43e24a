#include "kernels/negative_sampling.hpp"

#include <algorithm>

#include "kernels/channels.hpp"
#include "kernels/classes.hpp"
#include "kernels/dual.hpp"

namespace semivox::kernels {

namespace {

template <class T>
struct Classify {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  const T* logits;   // (rows, C)
  uint8_t* classes;  // (rows)
  T* confidence;     // (rows)
  int count;
  SEMIVOX_HD void operator()(int64_t row) const {
    T p[kMaxClasses] = {};
    semivox::softmax(logits + row * count, count, p);
    int best = 0;
    for (int c = 1; c < count; ++c) best = p[c] > p[best] ? c : best;
    classes[row] = static_cast<uint8_t>(best);
    confidence[row] = p[best];
  }
};

/// A voxel's worth as a negative of class c: its confidence, 0 for voxels of that very class.
template <class T>
struct Preference {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  const uint8_t* classes;  // (rows)
  const T* confidence;     // (rows)
  T* preference;           // (C, rows)
  int64_t rows;
  SEMIVOX_HD void operator()(int64_t i) const {
    const int64_t row = i % rows;
    preference[i] = classes[row] == i / rows ? T(0) : confidence[row];
  }
};

template <class T>
struct CountBefore {
  static constexpr bool kHostOnly = std::is_same_v<T, double>;
  const T* preference;  // (C, rows)
  int32_t* place;       // (C, rows)
  int32_t* chosen;      // (C, places), zeros
  int64_t rows, places, count;
  bool fill;
  SEMIVOX_HD void operator()(int64_t c, int64_t i, int64_t) const {
    const T* of_class = preference + c * rows;
    const int64_t row = i - c * rows;
    const T mine = of_class[row];
    int32_t before = 0;
    for (int64_t k = 0; k < row; ++k) before += of_class[k] >= mine ? 1 : 0;
    for (int64_t k = row + 1; k < rows; ++k) before += of_class[k] > mine ? 1 : 0;
    const bool used = before < count && (fill || mine > T(0));
    place[i] = used ? before : -1;
    if (used) chosen[c * places + before] = static_cast<int32_t>(1 + row);
  }
};

}  // namespace

ClassMap confident_classes(const Tensor& logits) {
  const Shape shape = logits.shape();
  SEMIVOX_CHECK(logits.dtype() == DType::f32 || logits.dtype() == DType::f64, "logits of dtype ",
                name_of(logits.dtype()));
  SEMIVOX_CHECK(shape.c <= kMaxClasses, shape.c, " classes, at most ", kMaxClasses);
  const ClassMap map{Tensor::empty(shape.with_channels(1), DType::u8, logits.device()),
                     Tensor::empty(shape.with_channels(1), logits.dtype(), logits.device())};
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    kernels::map(logits.device(), "confident_classes", shape.rows(),
                 Classify<T>{logits.data<T>(), map.classes.data<uint8_t>(), map.confidence.data<T>(),
                             static_cast<int>(shape.c)});
  };
  logits.dtype() == DType::f64 ? run(double{}) : run(float{});
  return map;
}

NegativeLists choose_negatives(const ClassMap& map, int64_t classes, int64_t count, bool fill) {
  SEMIVOX_CHECK(count >= 1, count, " negatives");
  const int64_t rows = map.classes.elements();
  SEMIVOX_CHECK(rows < (int64_t{1} << 31), rows, " voxels");
  const Device device = map.classes.device();
  const int64_t tile = NegativeLists::kKeyTile;
  const int64_t places = (std::min(count, rows) + tile - 1) / tile * tile;
  const NegativeLists lists{Tensor::zeros({classes, places, 1, 1, 1}, DType::i32, device),
                            Tensor::empty({classes, rows, 1, 1, 1}, DType::i32, device)};
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    const Tensor preference =
        Tensor::empty({classes, rows, 1, 1, 1}, dtype_of<T>(), device, MemoryTag::workspace);
    kernels::map(
        device, "negatives.preference", classes * rows,
        Preference<T>{map.classes.data<uint8_t>(), map.confidence.data<T>(), preference.data<T>(), rows});
    map_channels(device, "negatives.choose", classes, rows, 1,
                 CountBefore<T>{preference.data<T>(), lists.place.data<int32_t>(),
                                lists.chosen.data<int32_t>(), rows, places, std::min(count, rows), fill});
  };
  map.confidence.dtype() == DType::f64 ? run(double{}) : run(float{});
  return lists;
}

}  // namespace semivox::kernels
