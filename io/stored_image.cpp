#include "io/stored_image.hpp"

#include <cstring>

namespace semivox::io {
namespace {

template <class T>
void decode_as(const StoredImage& stored, std::vector<float>& voxels) {
  const auto* source = reinterpret_cast<const T*>(stored.data.data());
  for (size_t i = 0; i < voxels.size(); ++i) {
    voxels[i] = scaled_value(stored.slope, static_cast<float>(source[i]), stored.intercept);
  }
}

}  // namespace

int64_t element_size(StoredType type) {
  switch (type) {
    case StoredType::u8:
      return 1;
    case StoredType::i16:
      return 2;
    case StoredType::f32:
      break;
  }
  return 4;
}

Image decode(const StoredImage& stored) {
  Image image{stored.shape, std::vector<float>(static_cast<size_t>(voxel_count(stored.shape))),
              stored.geometry};
  switch (stored.type) {
    case StoredType::u8:
      decode_as<uint8_t>(stored, image.voxels);
      break;
    case StoredType::i16:
      decode_as<int16_t>(stored, image.voxels);
      break;
    case StoredType::f32:
      decode_as<float>(stored, image.voxels);
      break;
  }
  return image;
}

StoredImage store(const Image& image) {
  StoredImage stored;
  stored.shape = image.shape;
  stored.geometry = image.geometry;
  stored.data.resize(image.voxels.size() * sizeof(float));
  std::memcpy(stored.data.data(), image.voxels.data(), stored.data.size());
  return stored;
}

}  // namespace semivox::io
