#include "io/case_cache.hpp"

#include <algorithm>
#include <utility>

#include "engine/error.hpp"
#include "io/nifti.hpp"
#include "io/parallel_cases.hpp"
#include "io/resample.hpp"
#include "io/stored_image.hpp"

namespace semivox::io {
namespace {

DType dtype_of_stored(StoredType type) {
  switch (type) {
    case StoredType::u8:
      return DType::u8;
    case StoredType::i16:
      return DType::i16;
    case StoredType::f32:
      break;
  }
  return DType::f32;
}

/// A case on the host, before it goes to the device.
struct DecodedCase {
  int64_t channels = 1;
  StoredImage image;  // voxels (D, H, W, C), slices first
  std::vector<std::byte> label;
  int slice_axis = -1;
  Extent3 input_shape{0, 0, 0};
  Geometry input_geometry;
};

bool is_nifti(const std::string& file) { return file.ends_with(".nii") || file.ends_with(".nii.gz"); }

/// Reads and prepares the image, in the array order of the file.
void decode_image(const CaseFiles& files, size_t channels, const Preparation& preparation,
                  DecodedCase& decoded) {
  const bool untouched = !preparation.resamples() && channels == 1 &&
                         preparation.normalization_of(0, 1).kind == Normalization::Kind::none;
  if (untouched && is_nifti(files.images.front())) {
    decoded.image = read_nifti_stored(files.images.front());
    decoded.input_shape = decoded.image.shape;
    decoded.input_geometry = decoded.image.geometry;
    return;
  }
  std::vector<Image> images = read_case_channels(files);
  if (images.size() != channels) {
    throw DataError(text(files.images.front(), ": ", images.size(), " channels, expected ", channels,
                         " as dataset.json names them"));
  }
  decoded.channels = static_cast<int64_t>(channels);
  decoded.input_shape = images.front().shape;
  decoded.input_geometry = images.front().geometry;
  images = prepare_channels(std::move(images), preparation, files);
  const Extent3 shape = images.front().shape;
  decoded.image = store({shape, interleave(images), images.front().geometry});
}

DecodedCase decode_case(const DatasetFolder& folder, const CaseFiles& files, Labels labels,
                        const Preparation& preparation) {
  DecodedCase decoded;
  decode_image(files, folder.channels.size(), preparation, decoded);
  StoredImage& image = decoded.image;
  decoded.slice_axis = slice_axis_of(preparation.slice_axis, files.images.front(), image.shape);
  const Extent3 array = image.shape;
  if (decoded.slice_axis > 0) {
    image.data = slices_first(image.data.data(), array, decoded.slice_axis,
                              decoded.channels * element_size(image.type));
    image.shape = slices_first(array, decoded.slice_axis);
  }
  if (labels == Labels::read && !files.label.empty()) {
    LabelMap label = read_case_label(files, folder.classes());
    require_same_shape(files, decoded.input_shape, label.shape);
    label = resample_labels(label, array);
    decoded.label = slices_first(label.voxels.data(), array, decoded.slice_axis, 1);
  }
  return decoded;
}

/// A tensor (1, C, D, H, W) with the bytes of `data`, on `device`.
Tensor upload(const void* data, int64_t channels, const Extent3& shape, DType dtype, Device device) {
  const Tensor tensor =
      Tensor::empty({1, channels, shape[0], shape[1], shape[2]}, dtype, device, MemoryTag::data);
  copy_bytes(tensor.raw(), device, data, Device{}, static_cast<size_t>(tensor.bytes()));
  return tensor;
}

}  // namespace

Normalization Preparation::normalization_of(size_t channel, size_t channels) const {
  if (normalization.empty()) return {};
  if (normalization.size() != 1 && normalization.size() != channels) {
    throw UsageError(text("normalize: found '", names_of(normalization),
                          "', expected one word or one for each of ", channels, " channels"));
  }
  return normalization.size() == 1 ? normalization.front() : normalization[channel];
}

std::vector<Image> prepare_channels(std::vector<Image> channels, const Preparation& preparation,
                                    const CaseFiles& files) {
  for (size_t c = 0; c < channels.size(); ++c) {
    const std::string& file = files.images[std::min(c, files.images.size() - 1)];
    Image& image = channels[c];
    normalize(image, preparation.normalization_of(c, channels.size()), file);
    if (!preparation.resamples()) continue;
    if (!image.geometry.known) {
      throw DataError(
          text(file, ": has no voxel spacing, expected a NIfTI file when resampling to a spacing"));
    }
    image = resample_image(image, resampled_shape(image.shape, image.geometry.spacing, preparation.spacing));
  }
  return channels;
}

std::vector<float> interleave(const std::vector<Image>& channels) {
  if (channels.size() == 1) return channels.front().voxels;
  const size_t count = channels.size();
  std::vector<float> voxels(channels.front().voxels.size() * count);
  for (size_t c = 0; c < count; ++c) {
    for (size_t i = 0; i < channels[c].voxels.size(); ++i) voxels[i * count + c] = channels[c].voxels[i];
  }
  return voxels;
}

Extent3 array_shape(const CachedCase& cached) {
  Extent3 shape = cached.shape;
  if (cached.slice_axis > 0)
    std::rotate(shape.begin(), shape.begin() + 1, shape.begin() + cached.slice_axis + 1);
  return shape;
}

std::vector<std::byte> in_array_order(const CachedCase& cached, const void* voxels, int64_t voxel_bytes) {
  return array_order(voxels, array_shape(cached), cached.slice_axis, voxel_bytes);
}

std::vector<CachedCase> load_cases(const DatasetFolder& folder, const std::vector<int64_t>& indices,
                                   Labels labels, const Preparation& preparation, Device device) {
  const auto count = static_cast<int64_t>(indices.size());
  std::vector<DecodedCase> decoded(indices.size());
  for_each_case(count, [&](int64_t i) {
    decoded[i] = decode_case(folder, folder.cases[indices[i]], labels, preparation);
  });
  std::vector<CachedCase> cases;
  for (int64_t i = 0; i < count; ++i) {
    const DecodedCase source = std::move(decoded[i]);  // its host copy goes as soon as it is on the device
    const Extent3& shape = source.image.shape;
    CachedCase cached{.id = folder.cases[indices[i]].id,
                      .shape = shape,
                      .slice_axis = source.slice_axis,
                      .image = upload(source.image.data.data(), source.channels, shape,
                                      dtype_of_stored(source.image.type), device),
                      .slope = source.image.slope,
                      .intercept = source.image.intercept,
                      .label = {},
                      .input_shape = source.input_shape,
                      .input_geometry = source.input_geometry};
    if (!source.label.empty()) cached.label = upload(source.label.data(), 1, shape, DType::u8, device);
    cases.push_back(std::move(cached));
  }
  return cases;
}

}  // namespace semivox::io
