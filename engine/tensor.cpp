#include "engine/tensor.hpp"

namespace semivox {

int64_t size_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return 4;
    case DType::f64:
      return 8;
    case DType::bf16:
      return 2;
    case DType::u8:
      return 1;
    case DType::i16:
      return 2;
    case DType::i32:
      return 4;
  }
  throw InternalError("unknown dtype");
}

const char* name_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "f32";
    case DType::f64:
      return "f64";
    case DType::bf16:
      return "bf16";
    case DType::u8:
      return "u8";
    case DType::i16:
      return "i16";
    case DType::i32:
      return "i32";
  }
  throw InternalError("unknown dtype");
}

std::string Shape::str() const { return text("(", n, ",", c, ",", d, ",", h, ",", w, ")"); }

Tensor Tensor::empty(Shape shape, DType dtype, Device device, MemoryTag tag) {
  SEMIVOX_CHECK(shape.n >= 0 && shape.c >= 0 && shape.d >= 0 && shape.h >= 0 && shape.w >= 0, shape.str());
  int64_t bytes = size_of(dtype);
  for (const int64_t size : {shape.n, shape.c, shape.d, shape.h, shape.w}) {
    if (__builtin_mul_overflow(bytes, size, &bytes))
      throw UsageError(text("a tensor of shape ", shape.str(), " is larger than any memory"));
  }
  Tensor t;
  t.storage_ = allocate(device, bytes, tag);
  t.shape_ = shape;
  t.dtype_ = dtype;
  t.device_ = device;
  return t;
}

Tensor Tensor::zeros(Shape shape, DType dtype, Device device, MemoryTag tag) {
  Tensor t = empty(shape, dtype, device, tag);
  t.fill_zero();
  return t;
}

Tensor Tensor::slice(int64_t offset, int64_t count) const {
  SEMIVOX_CHECK(offset >= 0 && count >= 0 && offset + count <= elements(), "slice ", offset, "+", count,
                " of ", shape_.str());
  Tensor t = *this;
  t.offset_ += offset * size_of(dtype_);
  t.shape_ = {1, count, 1, 1, 1};
  return t;
}

Tensor Tensor::samples(int64_t begin, int64_t count) const {
  SEMIVOX_CHECK(begin >= 0 && count >= 0 && begin + count <= shape_.n, "samples ", begin, "+", count, " of ",
                shape_.str());
  Tensor t = *this;
  t.offset_ += begin * shape_.c * shape_.voxels() * size_of(dtype_);
  t.shape_.n = count;
  return t;
}

Tensor Tensor::reshaped(Shape shape) const {
  SEMIVOX_CHECK(shape.elements() == elements(), shape.str(), " from ", shape_.str());
  Tensor t = *this;
  t.shape_ = shape;
  return t;
}

Tensor Tensor::to(Device device) const {
  if (device == device_) return *this;
  Tensor t = empty(shape_, dtype_, device);
  copy_bytes(t.raw(), device, raw(), device_, static_cast<size_t>(bytes()));
  return t;
}

Tensor Tensor::clone() const {
  Tensor t = empty(shape_, dtype_, device_);
  copy_bytes(t.raw(), device_, raw(), device_, static_cast<size_t>(bytes()));
  return t;
}

void Tensor::copy_from(const Tensor& source) {
  SEMIVOX_CHECK(source.shape_ == shape_ && source.dtype_ == dtype_, "copy ", source.shape_.str(), " ",
                name_of(source.dtype_), " to ", shape_.str(), " ", name_of(dtype_));
  copy_bytes(raw(), device_, source.raw(), source.device_, static_cast<size_t>(bytes()));
}

void Tensor::fill_zero() { zero_bytes(raw(), device_, static_cast<size_t>(bytes())); }

void Tensor::refuse(DType asked) const {
  throw InternalError(
      text("tensor ", shape_.str(), " holds ", name_of(dtype_), ", asked for ", name_of(asked)));
}

void refuse_dtype(DType dtype) {
  throw InternalError(text("floating-point tensor expected, found ", name_of(dtype)));
}

std::vector<double> Tensor::to_doubles() const {
  const Tensor host = to(Device{});
  std::vector<double> values(static_cast<size_t>(elements()));
  const auto copy = [&](auto zero) {
    using T = decltype(zero);
    const T* from = host.data<T>();
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(from[i]);
  };
  switch (dtype_) {
    case DType::u8:
      copy(uint8_t{});
      break;
    case DType::i16:
      copy(int16_t{});
      break;
    case DType::i32:
      copy(int32_t{});
      break;
    default:
      dispatch_float(dtype_, copy);
  }
  return values;
}

}  // namespace semivox
