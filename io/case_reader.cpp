#include "io/case_reader.hpp"

#include <utility>

#include "engine/error.hpp"
#include "io/hdf5.hpp"
#include "io/nifti.hpp"
#include "io/png.hpp"
#include "io/voxel_check.hpp"

namespace semivox::io {
namespace {

bool is_hdf5(const std::string& file) { return file.ends_with(".h5"); }
bool is_png(const std::string& file) { return file.ends_with(".png"); }

std::vector<Image> read_picture(const std::string& file) {
  const Picture picture = read_png(file);
  std::vector<Image> channels(static_cast<size_t>(picture.channels));
  const int64_t pixels = picture.height * picture.width;
  for (int64_t c = 0; c < picture.channels; ++c) {
    Image& image = channels[static_cast<size_t>(c)];
    image.shape = {1, picture.height, picture.width};
    for (int64_t i = 0; i < pixels; ++i) image.voxels.push_back(picture.pixels[i * picture.channels + c]);
  }
  return channels;
}

LabelMap read_picture_labels(const std::string& file, int classes) {
  const Picture picture = read_png(file);
  if (picture.channels != 1) {
    throw DataError(text(file, ": ", picture.channels, " channels, expected a gray picture of labels"));
  }
  const Extent3 shape{1, picture.height, picture.width};
  const std::vector<double> values(picture.pixels.begin(), picture.pixels.end());
  return {shape, labels_from_values(file, values, shape, classes), {}};
}

}  // namespace

std::string shape_text(const Extent3& shape) { return text(shape[0], "x", shape[1], "x", shape[2]); }

std::vector<Image> read_image_file(const std::string& file) {
  if (is_png(file)) return read_picture(file);
  std::vector<Image> one;
  one.push_back(is_hdf5(file) ? read_hdf5_image(file) : read_nifti_image(file));
  return one;
}

std::vector<Image> read_case_channels(const CaseFiles& files) {
  std::vector<Image> channels;
  for (const std::string& file : files.images) {
    std::vector<Image> more = read_image_file(file);
    if (files.images.size() > 1 && more.size() > 1) {
      throw DataError(text(file, ": ", more.size(), " channels, expected a gray picture for one channel"));
    }
    for (Image& image : more) {
      if (!channels.empty() && image.shape != channels.front().shape) {
        throw DataError(text("channels differ in shape: ", files.images.front(), " has ",
                             shape_text(channels.front().shape), ", ", file, " has ",
                             shape_text(image.shape)));
      }
      channels.push_back(std::move(image));
    }
  }
  return channels;
}

LabelMap read_label_file(const std::string& file, int classes) {
  if (is_png(file)) return read_picture_labels(file, classes);
  return is_hdf5(file) ? read_hdf5_labels(file, classes) : read_nifti_labels(file, classes);
}

LabelMap read_case_label(const CaseFiles& files, int classes) {
  if (files.label.empty()) {
    throw DataError(text("case '", files.id, "' has no label, expected one beside ", files.images.front()));
  }
  return read_label_file(files.label, classes);
}

void require_same_shape(const CaseFiles& files, const Extent3& image, const Extent3& label) {
  if (image == label) return;
  throw DataError(text("image and label differ in shape: ", files.images.front(), " has ", shape_text(image),
                       ", ", files.label, " has ", shape_text(label)));
}

std::vector<int64_t> count_slices(const DatasetFolder& folder, const std::vector<int64_t>& of,
                                  SliceAxis axis) {
  std::vector<int64_t> counts(folder.cases.size(), 0);
  for (const int64_t index : of) {
    const std::string& file = folder.cases[index].images.front();
    const Extent3 shape = is_png(file)    ? Extent3{1, 1, 1}
                          : is_hdf5(file) ? read_hdf5_shape(file)
                                          : read_nifti_shape(file);
    counts[index] = slices_first(shape, slice_axis_of(axis, file, shape))[0];
  }
  return counts;
}

}  // namespace semivox::io
