// Tensor: a contiguous array with five axes (N, C, D, H, W), channels innermost in memory (N, D, H, W, C).
//
// 2D images have D = 1. A range of samples (axis N) is contiguous, so splitting and joining batches is a
// view.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/bf16.hpp"
#include "engine/device.hpp"
#include "engine/error.hpp"
#include "engine/memory.hpp"

namespace semivox {

enum class DType { f32, f64, bf16, u8, i16, i32 };
int64_t size_of(DType dtype);
const char* name_of(DType dtype);

template <class T>
DType dtype_of();
template <>
inline DType dtype_of<float>() {
  return DType::f32;
}
template <>
inline DType dtype_of<double>() {
  return DType::f64;
}
template <>
inline DType dtype_of<bf16>() {
  return DType::bf16;
}
template <>
inline DType dtype_of<uint8_t>() {
  return DType::u8;
}
template <>
inline DType dtype_of<int16_t>() {
  return DType::i16;
}
template <>
inline DType dtype_of<int32_t>() {
  return DType::i32;
}

struct Shape {
  int64_t n = 1, c = 1, d = 1, h = 1, w = 1;

  int64_t voxels() const { return d * h * w; }    ///< per sample
  int64_t rows() const { return n * d * h * w; }  ///< voxels of all samples
  int64_t elements() const { return n * c * d * h * w; }
  Shape with_channels(int64_t channels) const { return {n, channels, d, h, w}; }
  Shape with_samples(int64_t samples) const { return {samples, c, d, h, w}; }
  bool operator==(const Shape&) const = default;
  std::string str() const;  ///< "(n,c,d,h,w)"
};

class Tensor {
 public:
  Tensor() = default;

  static Tensor empty(Shape shape, DType dtype, Device device, MemoryTag tag = MemoryTag::activations);
  static Tensor zeros(Shape shape, DType dtype, Device device, MemoryTag tag = MemoryTag::activations);

  /// One-dimensional view of `count` elements from `offset`, for parameter sets; shape (1, count, 1, 1, 1).
  Tensor slice(int64_t offset, int64_t count) const;

  /// View of samples begin ... begin+count-1.
  Tensor samples(int64_t begin, int64_t count) const;

  /// The same elements under another shape of the same size.
  Tensor reshaped(Shape shape) const;

  /// The contents on another device; this very tensor when it lies there already.
  Tensor to(Device device) const;
  /// A copy with memory of its own.
  Tensor clone() const;
  void copy_from(const Tensor& source);  ///< same shape and dtype, any device
  void fill_zero();

  bool defined() const { return storage_ != nullptr; }
  bool sole_owner() const { return storage_.use_count() == 1; }  ///< nothing else refers to the same memory
  const Shape& shape() const { return shape_; }
  DType dtype() const { return dtype_; }
  Device device() const { return device_; }
  int64_t elements() const { return shape_.elements(); }
  int64_t bytes() const { return elements() * size_of(dtype_); }

  void* raw() const { return static_cast<char*>(storage_.get()) + offset_; }

  /// Pointer to the first element; throws InternalError when T is not the tensor's dtype.
  template <class T>
  T* data() const {
    if (dtype_of<T>() != dtype_) refuse(dtype_of<T>());
    return static_cast<T*>(raw());
  }

  /// Host copy of the elements in memory order, converted to double; for tests, logs and small results.
  std::vector<double> to_doubles() const;

 private:
  [[noreturn]] void refuse(DType asked) const;

  std::shared_ptr<void> storage_;
  int64_t offset_ = 0;  // bytes
  Shape shape_;
  DType dtype_ = DType::f32;
  Device device_;
};

[[noreturn]] void refuse_dtype(DType dtype);

/// Calls `f(T{})` with T = float, double or bf16 for a floating-point dtype; throws InternalError for others.
template <class F>
void dispatch_float(DType dtype, const F& f) {
  switch (dtype) {
    case DType::f32:
      return f(float{});
    case DType::f64:
      return f(double{});
    case DType::bf16:
      return f(bf16{});
    default:
      refuse_dtype(dtype);
  }
}

}  // namespace semivox
