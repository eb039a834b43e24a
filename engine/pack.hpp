// A few neighbouring elements as one value, which a GPU reads and writes in a single access of 16 bytes.
#pragma once

#include <cstdint>

#include "engine/hd.hpp"

namespace semivox {

/// Elements of type T in 16 bytes.
template <class T>
constexpr int kPackWidth = 16 / static_cast<int>(sizeof(T));

/// `W` elements; as a whole aligned, so that they move in one access (`W` <= kPackWidth<T>).
template <class T, int W>
struct alignas(W * sizeof(T)) Pack {
  T element[W];
  SEMIVOX_HD T& operator[](int w) { return element[w]; }
  SEMIVOX_HD T operator[](int w) const { return element[w]; }
};

/// The W elements from `source` on, which must lie on a multiple of their size.
template <int W, class T>
SEMIVOX_HD Pack<T, W> load_pack(const T* source) {
  return *reinterpret_cast<const Pack<T, W>*>(source);
}

/// Writes W elements from `destination` on, which must lie on a multiple of their size.
template <int W, class T>
SEMIVOX_HD void store_pack(T* destination, const Pack<T, W>& pack) {
  *reinterpret_cast<Pack<T, W>*>(destination) = pack;
}

}  // namespace semivox
