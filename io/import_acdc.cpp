#include <algorithm>
#include <filesystem>
#include <map>

#include "engine/error.hpp"
#include "io/case_reader.hpp"
#include "io/import.hpp"
#include "io/import_cases.hpp"
#include "io/nifti.hpp"

namespace semivox::io {
namespace {

namespace fs = std::filesystem;

// Patients in the order of SSL4MIS' lists.
constexpr int kTrainPatients[] = {99, 38, 50, 100, 58, 21, 49, 20, 72, 40, 60, 89, 4,  56, 98, 96, 31, 18,
                                  94, 47, 48, 55,  97, 74, 43, 41, 63, 37, 95, 54, 26, 88, 32, 69, 6,  71,
                                  12, 73, 61, 17,  25, 10, 57, 29, 51, 5,  36, 46, 62, 34, 76, 92, 70, 77,
                                  67, 3,  91, 16,  14, 44, 42, 90, 53, 27, 35, 86, 23, 9,  79, 15};
constexpr int kValidationPatients[] = {28, 85, 82, 87, 19, 30, 78, 45, 2, 39};
constexpr int kTestPatients[] = {11, 13, 84, 33, 93, 22, 68, 24, 83, 81, 80, 1, 7, 66, 8, 65, 75, 64, 59, 52};

struct AcdcFrame {
  std::string image, label;  // the same file for HDF5
};

std::string patient_name(int patient) {
  const std::string digits = std::to_string(patient);
  return "patient" + std::string(3 - digits.size(), '0') + digits;
}

/// The annotated frames of the challenge's folder of a patient, in the order of their numbers.
std::vector<AcdcFrame> challenge_frames(const fs::path& folder) {
  std::vector<AcdcFrame> frames;
  std::vector<std::string> labels;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with("_gt.nii.gz") || name.ends_with("_gt.nii")) labels.push_back(entry.path().string());
  }
  std::sort(labels.begin(), labels.end());  // frame numbers have two digits
  for (const std::string& label : labels) {
    std::string image = label;
    image.erase(image.rfind("_gt"), 3);
    if (!fs::exists(image)) throw DataError(text(image, ": file not found, expected the image of ", label));
    frames.push_back({image, label});
  }
  if (frames.size() != 2) {
    throw DataError(
        text(folder.string(), ": ", frames.size(), " annotated frames (*_gt.nii.gz), expected 2"));
  }
  return frames;
}

/// The folder that holds the patients: FROM, FROM/training or FROM/data.
fs::path acdc_root(const std::string& from) {
  require_folder(from);
  for (const char* name : {"", "training", "data"}) {
    const fs::path folder = fs::path(from) / name;
    if (!fs::is_directory(folder)) continue;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
      if (entry.path().filename().string().starts_with("patient")) return folder;
    }
  }
  throw DataError(
      text(from, ": no ACDC data found, expected folders patientPPP or files patientPPP_frameFF.h5"));
}

std::map<std::string, AcdcFrame> acdc_frames(const fs::path& root) {
  std::map<std::string, AcdcFrame> frames;
  for (int patient = 1; patient <= 100; ++patient) {
    const std::string name = patient_name(patient);
    std::vector<AcdcFrame> found;
    if (fs::is_directory(root / name)) found = challenge_frames(root / name);
    for (int frame = 1; frame <= 2; ++frame) {
      const std::string id = text(name, "_frame0", frame);
      const std::string hdf5 = (root / (id + ".h5")).string();
      if (!found.empty()) {
        frames[id] = found[static_cast<size_t>(frame - 1)];
      } else if (fs::exists(hdf5)) {
        frames[id] = {hdf5, hdf5};
      }
    }
  }
  return frames;
}

template <size_t N>
std::vector<std::string> frame_names(const int (&patients)[N]) {
  std::vector<std::string> names;
  for (const int patient : patients) {
    for (int frame = 1; frame <= 2; ++frame) names.push_back(text(patient_name(patient), "_frame0", frame));
  }
  return names;
}

}  // namespace

void import_acdc(const ImportOptions& options) {
  const fs::path root = acdc_root(options.from);
  const std::map<std::string, AcdcFrame> frames = acdc_frames(root);
  std::map<std::string, std::string> images;
  for (const auto& [id, frame] : frames) images[id] = frame.image;
  const auto names = [&](const auto& patients) {
    return present(frame_names(patients), "the field's lists of ACDC", images, options);
  };
  const DatasetLists lists{"ACDC",
                           {"rescale_to_0_1"},
                           {"background", "right_ventricle", "myocardium", "left_ventricle"},
                           0,
                           names(kTrainPatients),
                           names(kValidationPatients),
                           names(kTestPatients)};
  ImportHdf5Options hdf5;
  static_cast<ImportOptions&>(hdf5) = options;
  hdf5.class_names = lists.class_names;
  hdf5.reversed_axes = true;
  hdf5.spacing = 1.5;  // nominal: the files do not say it
  hdf5.slice_spacing = 8;
  write_cases(lists, options, [&](const std::string& id, const DatasetWriter& writer) {
    const AcdcFrame& frame = frames.at(id);
    if (frame.image.ends_with(".h5")) return convert_hdf5(id, frame.image, hdf5, writer);
    const StoredImage image = read_nifti_stored(frame.image);
    const LabelMap label = read_nifti_labels(frame.label, static_cast<int>(lists.class_names.size()));
    require_same_shape({id, {frame.image}, frame.label}, image.shape, label.shape);
    write_nifti_stored(writer.image_path(id), image);
    write_nifti_labels(writer.label_path(id), label);
  });
}

}  // namespace semivox::io
