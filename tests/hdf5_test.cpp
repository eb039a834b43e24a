#include "io/hdf5.hpp"

#include <hdf5.h>

#include <cmath>
#include <cstdlib>

#include "io/nifti.hpp"
#include "tests/temporary_folder.hpp"

using namespace semivox;
using namespace semivox::io;

namespace {

/// Writes (or adds) a dataset of any type and shape with the library's own calls.
void add_dataset(const std::string& path, const char* name, hid_t type, std::vector<hsize_t> sizes,
                 const void* data) {
  const hid_t file = std::filesystem::exists(path)
                         ? H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT)
                         : H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
  const hid_t space = H5Screate_simple(static_cast<int>(sizes.size()), sizes.data(), nullptr);
  const hid_t dataset = H5Dcreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
  REQUIRE(dataset >= 0);
  if (data != nullptr) REQUIRE(H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
  H5Dclose(dataset);
  H5Sclose(space);
  H5Fclose(file);
}

}  // namespace

TEST_CASE("HDF5: round trip of a case, with and without labels") {
  const TemporaryFolder folder;
  Image image{{3, 4, 5}, std::vector<float>(60), {}};
  LabelMap labels{{3, 4, 5}, std::vector<uint8_t>(60), {}};
  for (size_t n = 0; n < 60; ++n) {
    image.voxels[n] = 0.37f * static_cast<float>(n) - 4.0f;
    labels.voxels[n] = static_cast<uint8_t>(n % 4);
  }
  write_hdf5_case(folder / "a.h5", image, &labels);
  CHECK(folder.entries() == 1);
  const Image image_back = read_hdf5_image(folder / "a.h5");
  CHECK(image_back.shape == image.shape);
  CHECK(image_back.voxels == image.voxels);
  CHECK_FALSE(image_back.geometry.known);
  CHECK(has_hdf5_labels(folder / "a.h5"));
  CHECK(read_hdf5_labels(folder / "a.h5", 4).voxels == labels.voxels);
  CHECK(mentions(data_error([&] { read_hdf5_labels(folder / "a.h5", 3); }), "a.h5", "label 3", "(0, 0, 3)",
                 "0 ... 2"));

  write_hdf5_case(folder / "b.h5", image, nullptr);
  CHECK_FALSE(has_hdf5_labels(folder / "b.h5"));
  CHECK(mentions(data_error([&] { read_hdf5_labels(folder / "b.h5", 2); }), "b.h5", "label is missing",
                 "has image"));
  CHECK(mentions(data_error([&] { write_hdf5_case(folder / "no/a.h5", image, nullptr); }), "no/a.h5",
                 "No such file"));
}

TEST_CASE("HDF5: any number type is converted, 2D gets depth 1") {
  const TemporaryFolder folder;
  const std::string path = folder / "a.h5";
  const std::vector<double> image{0.5, -1.5, 2, 3, 4, 1e-3};
  const std::vector<int64_t> labels{0, 1, 2, 2, 1, 0};
  add_dataset(path, "image", H5T_NATIVE_DOUBLE, {2, 3}, image.data());
  add_dataset(path, "label", H5T_NATIVE_INT64, {2, 3}, labels.data());
  const Image read = read_hdf5_image(path);
  CHECK(read.shape == Extent3{1, 2, 3});
  for (size_t n = 0; n < 6; ++n) CHECK(read.voxels[n] == static_cast<float>(image[n]));
  CHECK(read_hdf5_labels(path, 3).voxels == std::vector<uint8_t>{0, 1, 2, 2, 1, 0});

  const std::vector<uint16_t> big_endian{0x0102, 0x0304};
  add_dataset(folder / "b.h5", "image", H5T_STD_U16BE, {2, 1, 1}, big_endian.data());
  CHECK(read_hdf5_image(folder / "b.h5").voxels == std::vector<float>{0x0201, 0x0403});
}

TEST_CASE("HDF5: broken and foreign files are refused, naming file and dataset") {
  const TemporaryFolder folder;
  const std::string path = folder / "bad.h5";
  const auto message = [&] { return data_error([&] { read_hdf5_image(path); }); };
  CHECK(mentions(message(), path, "No such file or directory"));
  write_bytes(path, "no such format");
  CHECK(mentions(message(), path, "not an HDF5 file"));

  write_hdf5_case(path, {{8, 64, 64}, std::vector<float>(8 * 64 * 64, 1), {}}, nullptr);
  const std::string whole = read_bytes(path);
  write_bytes(path, whole.substr(0, whole.size() / 2));
  CHECK(mentions(message(), path, "cannot read", "truncated"));
  std::string damaged = whole;
  for (size_t n = whole.size() / 2; n < whole.size(); ++n) damaged[n] = 'x';
  write_bytes(path, damaged);
  CHECK(mentions(message(), path, "image", "cannot"));

  const auto with_dataset = [&](const char* name, hid_t type, const std::vector<hsize_t>& sizes,
                                const void* data) {
    std::filesystem::remove(path);
    add_dataset(path, name, type, sizes, data);
    return message();
  };
  const std::vector<float> voxels{1, 2, NAN, INFINITY};
  CHECK(mentions(with_dataset("volume", H5T_NATIVE_FLOAT, {1, 2, 2}, voxels.data()), path, "image is missing",
                 "volume"));
  CHECK(mentions(with_dataset("image", H5T_NATIVE_FLOAT, {4}, voxels.data()), path, "image", "1 axes"));
  CHECK(mentions(with_dataset("image", H5T_NATIVE_FLOAT, {1, 2, 2, 1}, voxels.data()), path, "image",
                 "4 axes"));
  CHECK(mentions(with_dataset("image", H5T_NATIVE_FLOAT, {2, 0, 2}, nullptr), path, "size 0"));
  CHECK(mentions(with_dataset("image", H5T_C_S1, {2, 2}, "abcd"), path, "image", "no number type"));
  CHECK(mentions(with_dataset("image", H5T_NATIVE_FLOAT, {2, 2, 1}, voxels.data()), path, "2 of 4 voxels",
                 "(1, 0, 0)"));
}

TEST_CASE("HDF5 and NIfTI: the same scans in both formats (SEMIVOX_LA)") {
  const char* root = std::getenv("SEMIVOX_LA");
  if (root == nullptr) {
    MESSAGE("skipped: SEMIVOX_LA is not set");
    return;
  }
  const std::filesystem::path la(root);
  for (const std::string id : {"06SR5RBREL16DQ6M8LWS", "0RZDK210BSMWAA6467LU"}) {
    const std::string h5 = (la / "h5" / id / "mri_norm2.h5").string();
    const Image expected = read_hdf5_image(h5);
    const Image image = read_nifti_image((la / "imagesTr" / (id + "_0000.nii.gz")).string());
    REQUIRE(image.shape == expected.shape);
    float difference = 0;
    for (size_t n = 0; n < image.voxels.size(); ++n) {
      difference = std::max(difference, std::fabs(image.voxels[n] - expected.voxels[n]));
    }
    CHECK(difference <= 1e-5f);
    const LabelMap labels = read_nifti_labels((la / "labelsTr" / (id + ".nii.gz")).string(), 2);
    CHECK(labels.voxels == read_hdf5_labels(h5, 2).voxels);
    CHECK(labels.geometry.spacing[0] == doctest::Approx(0.625));
  }
}
