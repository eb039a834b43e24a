#include "io/import_prepared.hpp"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <filesystem>
#include <iterator>
#include <map>

#include "engine/error.hpp"
#include "io/case_reader.hpp"
#include "io/import_cases.hpp"
#include "io/nifti.hpp"

namespace semivox::io {
namespace {

namespace fs = std::filesystem;

/// The name without .nii.gz or .nii; empty for other files.
std::string nifti_stem(const std::string& name) {
  for (const std::string ending : {".nii.gz", ".nii"}) {
    if (name.ends_with(ending) && name.front() != '.') return name.substr(0, name.size() - ending.size());
  }
  return "";
}

/// NIfTI files below a folder whose stem ends in `ending`: stem without it -> file.
std::map<std::string, std::string> nifti_files(const std::string& folder, const std::string& ending) {
  std::map<std::string, std::string> files;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) {
    const std::string stem = nifti_stem(entry.path().filename().string());
    if (stem.size() <= ending.size() || !stem.ends_with(ending) || !entry.is_regular_file()) continue;
    const auto [position, is_new] =
        files.emplace(stem.substr(0, stem.size() - ending.size()), entry.path().string());
    if (!is_new)
      throw DataError(text(position->second, " and ", entry.path().string(), ": two files of one case"));
  }
  return files;
}

/// The last four digits in a row of a name; empty when there are none.
std::string four_digits(const std::string& name) {
  for (size_t end = name.size(); end >= 4; --end) {
    const std::string part = name.substr(end - 4, 4);
    if (std::all_of(part.begin(), part.end(), [](unsigned char c) { return std::isdigit(c); })) return part;
  }
  return "";
}

/// NIfTI files of a folder: pancreas_NNNN -> file.
std::map<std::string, std::string> pancreas_files(const std::string& folder) {
  require_folder(folder);
  std::map<std::string, std::string> files;
  for (const auto& [stem, file] : nifti_files(folder, "")) {
    const std::string digits = four_digits(stem);
    if (digits.empty())
      throw DataError(text(file, ": no case number found, expected four digits in the name"));
    const auto [position, is_new] = files.emplace("pancreas_" + digits, file);
    if (!is_new) throw DataError(text(position->second, " and ", file, ": two files of case ", digits));
  }
  if (files.empty()) throw DataError(text(folder, ": no .nii.gz or .nii file found"));
  return files;
}

template <class Numbers>
std::vector<std::string> numbered(const std::string& prefix, const Numbers& numbers) {
  std::vector<std::string> names;
  for (const int number : numbers) {
    char digits[16];
    std::snprintf(digits, sizeof digits, "%04d", number);
    names.push_back(prefix + digits);
  }
  return names;
}

// The lists of MC-Net for the 82 scans.
constexpr int kPancreasTrain[] = {57, 18, 62, 31, 20, 17, 32, 79, 61, 64, 70, 19, 48, 76, 41, 52,
                                  49, 71, 72, 34, 10, 15, 77, 80, 27, 47, 22, 14, 68, 58, 7,  11,
                                  24, 42, 82, 35, 12, 55, 75, 78, 16, 13, 53, 23, 56, 33, 38, 30,
                                  81, 29, 36, 44, 2,  45, 26, 65, 66, 43, 28, 63, 69, 3};
constexpr int kPancreasTest[] = {50, 59, 37, 60, 40, 74, 4, 46, 8, 54, 5, 73, 1, 39, 6, 67, 25, 51, 21, 9};

/// first ... last without the two scans that the archive withdrew as repeats.
std::vector<int> coranet_numbers(int first, int last) {
  std::vector<int> numbers;
  for (int n = first; n <= last; ++n) {
    if (n != 25 && n != 70) numbers.push_back(n);
  }
  return numbers;
}

/// Whose lists, and the scans in their order.
struct PancreasLists {
  const char* author;
  std::vector<int> training, test;
};

PancreasLists pancreas_lists(PancreasPipeline pipeline) {
  if (pipeline == PancreasPipeline::coranet)
    return {"CoraNet", coranet_numbers(1, 63), coranet_numbers(64, 82)};
  PancreasLists lists{"MC-Net",
                      {std::begin(kPancreasTrain), std::end(kPancreasTrain)},
                      {std::begin(kPancreasTest), std::end(kPancreasTest)}};
  if (pipeline == PancreasPipeline::rcps) {  // the same split, in the order of the numbers
    lists.author = "RCPS";
    std::sort(lists.training.begin(), lists.training.end());
    std::sort(lists.test.begin(), lists.test.end());
  }
  return lists;
}

void write_prepared(const std::string& id, const PreparedCase& prepared, const DatasetWriter& writer) {
  if (!prepared.label.voxels.empty()) write_nifti_labels(writer.label_path(id), prepared.label);
  write_nifti_image(writer.image_path(id), prepared.image);
}

// DyCON's splits of ISLES-2022.
constexpr int kIslesCases = 250, kIslesFolds = 3, kIslesHeldOut = 25;
constexpr int kIslesValidation[kIslesFolds][kIslesHeldOut] = {
    {2,   6,   19,  22,  38,  57,  78,  81,  90,  102, 134, 170, 177,
     183, 187, 191, 194, 198, 203, 205, 209, 218, 230, 232, 241},
    {2,   17,  23,  31,  35,  62,  64,  69,  81,  85,  97,  113, 122,
     124, 134, 165, 177, 183, 198, 200, 201, 207, 210, 236, 239},
    {2,   9,   17,  22,  24,  34,  38,  39,  57,  59,  101, 111, 119,
     122, 139, 141, 189, 195, 196, 200, 202, 215, 224, 227, 250}};
constexpr int kIslesTest[kIslesFolds][kIslesHeldOut] = {
    {1,   13,  17,  20,  26,  64,  70,  85,  95,  105, 108, 115, 122,
     127, 131, 144, 149, 189, 204, 210, 214, 233, 237, 243, 246},
    {10,  26,  43,  44,  53,  68,  74,  75,  89,  92,  125, 138, 143,
     147, 150, 155, 164, 175, 178, 204, 214, 223, 224, 237, 246},
    {1,   8,   11,  44,  51,  52,  54,  66,  83,  86,  98,  125, 128,
     132, 136, 137, 156, 158, 160, 183, 186, 199, 204, 216, 218}};

bool holds(const int (&list)[kIslesHeldOut], int number) {
  return std::find(std::begin(list), std::end(list), number) != std::end(list);
}

/// "sub-strokecase0001" -> file, for files whose stem ends in `ending`.
std::map<std::string, std::string> isles_files(const std::string& folder, const std::string& ending) {
  std::map<std::string, std::string> files;
  for (const auto& [stem, file] : nifti_files(folder, ending)) files[stem.substr(0, stem.find('_'))] = file;
  return files;
}

}  // namespace

void import_pancreas(const ImportOptions& options, const std::string& labels, PancreasPipeline pipeline) {
  const std::map<std::string, std::string> scans = pancreas_files(options.from);
  const std::map<std::string, std::string> masks = pancreas_files(labels);
  const auto names = [&](const std::vector<int>& numbers) {
    return present(numbered("pancreas_", numbers), "the field's lists of Pancreas-CT", scans, options);
  };
  const PancreasLists numbers = pancreas_lists(pipeline);
  DatasetLists lists{text("Pancreas-CT, ", numbers.author),
                     {"noNorm"},
                     {"background", "pancreas"},
                     0,
                     names(numbers.training),
                     {},
                     names(numbers.test)};
  for (const auto* list : {&lists.order, &lists.test}) {
    for (const std::string& id : *list) {
      if (!masks.contains(id))
        throw DataError(
            text(labels, ": no label of ", scans.at(id), ", expected the same four digits in its name"));
    }
  }
  write_cases(lists, options, [&](const std::string& id, const DatasetWriter& writer) {
    const std::string& file = scans.at(id);
    write_prepared(
        id, prepare_pancreas(read_nifti_image(file), read_nifti_labels(masks.at(id), 2), pipeline, file),
        writer);
  });
}

void import_brats(const ImportOptions& options) {
  require_folder(options.from);
  const std::map<std::string, std::string> scans = nifti_files(options.from, "_flair");
  const std::map<std::string, std::string> masks = nifti_files(options.from, "_seg");
  if (scans.empty()) throw DataError(text(options.from, ": no cases found, expected CASE/CASE_flair.nii.gz"));
  DatasetLists lists{"BraTS, whole tumour", {"noNorm"}, {"background", "tumour"}, 0, {}, {}, {}};
  read_lists(options, scans, lists);
  write_cases(lists, options, [&](const std::string& id, const DatasetWriter& writer) {
    const auto mask = masks.find(id);
    constexpr int kChallengeClasses = 5;  // labels 0, 1, 2, 4
    const LabelMap label =
        mask == masks.end() ? LabelMap() : read_nifti_labels(mask->second, kChallengeClasses);
    write_prepared(id, prepare_brats(read_nifti_stored(scans.at(id)), label, scans.at(id)), writer);
  });
}

void import_isles(const ImportOptions& options, int fold) {
  require_folder(options.from);
  SEMIVOX_CHECK(fold >= 0 && fold < kIslesFolds, fold);
  const std::map<std::string, std::string> scans = isles_files(options.from, "_dwi");
  const std::map<std::string, std::string> masks = isles_files(options.from, "_msk");
  if (scans.empty())
    throw DataError(text(options.from, ": no cases found, expected sub-strokecaseNNNN_ses-0001_dwi.nii.gz"));
  std::vector<int> train;
  for (int n = 1; n <= kIslesCases; ++n) {
    if (!holds(kIslesValidation[fold], n) && !holds(kIslesTest[fold], n)) train.push_back(n);
  }
  const auto names = [&](const auto& numbers) {
    return present(numbered("sub-strokecase", numbers), "DyCON's lists of ISLES-2022", scans, options);
  };
  const DatasetLists lists{"ISLES-2022", {"zscore_positive"},           {"background", "lesion"}, 0,
                           names(train), names(kIslesValidation[fold]), names(kIslesTest[fold])};
  write_cases(lists, options, [&](const std::string& id, const DatasetWriter& writer) {
    const StoredImage image = read_nifti_stored(scans.at(id));
    if (const auto mask = masks.find(id); mask != masks.end()) {
      const LabelMap label = read_nifti_labels(mask->second, 2);
      require_same_shape({id, {scans.at(id)}, mask->second}, image.shape, label.shape);
      write_nifti_labels(writer.label_path(id), label);
    }
    write_nifti_stored(writer.image_path(id), image);
  });
}

}  // namespace semivox::io
