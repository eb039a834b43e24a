#include "io/case_cache.hpp"

#include <cstring>
#include <exception>
#include <utility>

#include "engine/error.hpp"
#include "io/hdf5.hpp"
#include "io/nifti.hpp"
#include "io/resample.hpp"
#include "io/stored_image.hpp"

namespace semivox::io {
namespace {

bool is_hdf5(const std::string& file) { return file.ends_with(".h5"); }

std::string shape_text(const Extent3& shape) { return text(shape[0], "x", shape[1], "x", shape[2]); }

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
  StoredImage image;
  std::vector<uint8_t> label;
  Extent3 input_shape{0, 0, 0};
  Geometry input_geometry;
};

DecodedCase decode_case(const CaseFiles& files, int classes, Labels labels, const Preparation& preparation) {
  DecodedCase decoded;
  const bool untouched =
      !preparation.resamples() && preparation.normalization.kind == Normalization::Kind::none;
  if (untouched && !is_hdf5(files.image)) {
    decoded.image = read_nifti_stored(files.image);
    decoded.input_shape = decoded.image.shape;
    decoded.input_geometry = decoded.image.geometry;
  } else {
    Image image = read_case_image(files);
    decoded.input_shape = image.shape;
    decoded.input_geometry = image.geometry;
    decoded.image = store(prepare_image(std::move(image), preparation, files.image));
  }
  if (labels == Labels::read && !files.label.empty()) {
    LabelMap label = read_case_label(files, classes);
    require_same_shape(files, decoded.input_shape, label.shape);
    decoded.label = resample_labels(label, decoded.image.shape).voxels;
  }
  return decoded;
}

/// A tensor (1, 1, D, H, W) with the bytes of `data`, on `device`.
Tensor upload(const void* data, const Extent3& shape, DType dtype, Device device) {
  const Tensor tensor = Tensor::empty({1, 1, shape[0], shape[1], shape[2]}, dtype, device, MemoryTag::data);
  copy_bytes(tensor.raw(), device, data, Device{}, static_cast<size_t>(tensor.bytes()));
  return tensor;
}

}  // namespace

Image prepare_image(Image image, const Preparation& preparation, const std::string& file) {
  normalize(image, preparation.normalization, file);
  if (!preparation.resamples()) return image;
  if (!image.geometry.known) {
    throw DataError(text(file, ": has no voxel spacing, expected a NIfTI file when resampling to a spacing"));
  }
  return resample_image(image, resampled_shape(image.shape, image.geometry.spacing, preparation.spacing));
}

Image read_case_image(const CaseFiles& files) {
  return is_hdf5(files.image) ? read_hdf5_image(files.image) : read_nifti_image(files.image);
}

LabelMap read_case_label(const CaseFiles& files, int classes) {
  if (files.label.empty())
    throw DataError(text("case '", files.id, "' has no label, expected one beside ", files.image));
  return is_hdf5(files.label) ? read_hdf5_labels(files.label, classes)
                              : read_nifti_labels(files.label, classes);
}

void require_same_shape(const CaseFiles& files, const Extent3& image, const Extent3& label) {
  if (image == label) return;
  throw DataError(text("image and label differ in shape: ", files.image, " has ", shape_text(image), ", ",
                       files.label, " has ", shape_text(label)));
}

std::vector<CachedCase> load_cases(const DatasetFolder& folder, const std::vector<int64_t>& indices,
                                   Labels labels, const Preparation& preparation, Device device) {
  const auto count = static_cast<int64_t>(indices.size());
  std::vector<DecodedCase> decoded(indices.size());
  std::vector<std::exception_ptr> failures(indices.size());
#pragma omp parallel for schedule(dynamic, 1)
  for (int64_t i = 0; i < count; ++i) {
    try {
      decoded[i] = decode_case(folder.cases[indices[i]], folder.classes(), labels, preparation);
    } catch (...) {
      failures[i] = std::current_exception();
    }
  }
  for (const std::exception_ptr& failure : failures) {
    if (failure) std::rethrow_exception(failure);
  }
  std::vector<CachedCase> cases;
  for (int64_t i = 0; i < count; ++i) {
    const DecodedCase source = std::move(decoded[i]);  // its host copy goes as soon as it is on the device
    const Extent3& shape = source.image.shape;
    CachedCase cached{
        .id = folder.cases[indices[i]].id,
        .shape = shape,
        .image = upload(source.image.data.data(), shape, dtype_of_stored(source.image.type), device),
        .slope = source.image.slope,
        .intercept = source.image.intercept,
        .label = {},
        .input_shape = source.input_shape,
        .input_geometry = source.input_geometry};
    if (!source.label.empty()) cached.label = upload(source.label.data(), shape, DType::u8, device);
    cases.push_back(std::move(cached));
  }
  return cases;
}

}  // namespace semivox::io
