#include "io/nifti.hpp"

#include <nifti/nifti2_io.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "engine/atomic_file.hpp"
#include "io/gzip.hpp"
#include "io/nifti_header.hpp"
#include "tests/temporary_folder.hpp"

using namespace semivox;
using namespace semivox::io;

namespace {

constexpr int64_t kI = 5, kJ = 3, kK = 4;

/// An oblique NIfTI-1 header of 5 x 3 x 4 voxels, every field that outputs must keep set to something
/// telling.
template <class Header = nifti_1_header>
Header oblique_header(int16_t datatype) {
  Header header{};
  header.sizeof_hdr = sizeof(Header);
  std::memcpy(header.magic, sizeof(Header) == 348 ? "n+1\0" : "n+2\0\r\n\032\n", sizeof(header.magic));
  header.dim[0] = 3;
  header.dim[1] = kI;
  header.dim[2] = kJ;
  header.dim[3] = kK;
  for (int axis = 4; axis < 8; ++axis) header.dim[axis] = 1;
  header.datatype = datatype;
  header.pixdim[0] = -1;
  header.pixdim[1] = 0.7f;
  header.pixdim[2] = 0.8f;
  header.pixdim[3] = 2.5f;
  header.vox_offset = sizeof(Header) + 4;
  header.cal_max = 300;
  header.xyzt_units = NIFTI_UNITS_MM | NIFTI_UNITS_SEC;
  std::strcpy(header.descrip, "cine, slice 3");
  header.qform_code = 1;
  header.sform_code = 2;
  header.quatern_b = 0.1f;
  header.quatern_c = -0.2f;
  header.quatern_d = 0.3f;
  header.qoffset_x = -12.25f;
  for (int column = 0; column < 4; ++column) {
    header.srow_x[column] = 0.1f + static_cast<float>(column);
    header.srow_y[column] = -0.3f * static_cast<float>(column);
    header.srow_z[column] = 0.7f - static_cast<float>(column);
  }
  return header;
}

template <class Header, class T>
std::string file_of(const Header& header, const std::vector<T>& voxels) {
  std::string bytes(sizeof(header) + 4, '\0');
  std::memcpy(bytes.data(), &header, sizeof(header));
  return bytes.append(reinterpret_cast<const char*>(voxels.data()), voxels.size() * sizeof(T));
}

void write_gzip(const std::string& path, const std::string& bytes) {
  write_file(path, gzip(std::as_bytes(std::span(bytes))));
}

/// Position in the file (i fastest) of our voxel number `index` (k fastest).
size_t file_index(size_t index) {
  const size_t i = index / (kJ * kK), j = index / kK % kJ, k = index % kK;
  return i + kI * (j + kJ * k);
}

template <class T>
struct TypeCode;
template <>
struct TypeCode<uint8_t> {
  static constexpr int16_t value = NIFTI_TYPE_UINT8;
};
template <>
struct TypeCode<int8_t> {
  static constexpr int16_t value = NIFTI_TYPE_INT8;
};
template <>
struct TypeCode<uint16_t> {
  static constexpr int16_t value = NIFTI_TYPE_UINT16;
};
template <>
struct TypeCode<int16_t> {
  static constexpr int16_t value = NIFTI_TYPE_INT16;
};
template <>
struct TypeCode<uint32_t> {
  static constexpr int16_t value = NIFTI_TYPE_UINT32;
};
template <>
struct TypeCode<int32_t> {
  static constexpr int16_t value = NIFTI_TYPE_INT32;
};
template <>
struct TypeCode<uint64_t> {
  static constexpr int16_t value = NIFTI_TYPE_UINT64;
};
template <>
struct TypeCode<int64_t> {
  static constexpr int16_t value = NIFTI_TYPE_INT64;
};
template <>
struct TypeCode<float> {
  static constexpr int16_t value = NIFTI_TYPE_FLOAT32;
};
template <>
struct TypeCode<double> {
  static constexpr int16_t value = NIFTI_TYPE_FLOAT64;
};

/// Distinct values that begin with the extremes of the type (floats: large and tiny).
template <class T>
std::vector<T> telling_voxels() {
  std::vector<T> voxels(kI * kJ * kK);
  for (size_t n = 0; n < voxels.size(); ++n) voxels[n] = static_cast<T>(n * 2);
  if constexpr (std::is_integral_v<T>) {
    voxels[0] = std::numeric_limits<T>::min();
    voxels[1] = std::numeric_limits<T>::max();
  } else {
    voxels[0] = static_cast<T>(-1.25e10);
    voxels[1] = static_cast<T>(1e-3);
  }
  return voxels;
}

void swap_bytes(std::string& bytes, size_t offset, int size) {
  if (size == 1) return;
  const auto count = static_cast<int64_t>((bytes.size() - offset) / static_cast<size_t>(size));
  nifti_swap_Nbytes(count, size, bytes.data() + offset);
}

}  // namespace

TEST_CASE_TEMPLATE("NIfTI: every voxel type, both versions, both byte orders, plain and compressed", T,
                   uint8_t, int8_t, uint16_t, int16_t, uint32_t, int32_t, uint64_t, int64_t, float, double) {
  const TemporaryFolder folder;
  const std::vector<T> voxels = telling_voxels<T>();
  const float slope = 0.037f, intercept = -1.5f;
  const auto check = [&](const std::string& path) {
    const Image image = read_nifti_image(path);
    CHECK(image.shape == Extent3{kI, kJ, kK});
    CHECK(image.geometry.known);
    CHECK(image.geometry.spacing[2] == 2.5);
    CAPTURE(path);
    for (size_t n = 0; n < voxels.size(); ++n) {
      const double expected =
          static_cast<double>(slope) * static_cast<double>(voxels[file_index(n)]) + intercept;
      CHECK(std::fabs(image.voxels[n] - expected) <= 6e-8 * std::fabs(expected));
    }
    const StoredImage stored = read_nifti_stored(path);
    CHECK(stored.type == (std::is_same_v<T, uint8_t>                                ? StoredType::u8
                          : std::is_same_v<T, int8_t> || std::is_same_v<T, int16_t> ? StoredType::i16
                                                                                    : StoredType::f32));
    CHECK(decode(stored).voxels == image.voxels);
  };
  const auto scaled = [&](auto header) {
    header.scl_slope = slope;
    header.scl_inter = intercept;
    return header;
  };
  const std::string first = file_of(scaled(oblique_header(TypeCode<T>::value)), voxels);
  const std::string second = file_of(scaled(oblique_header<nifti_2_header>(TypeCode<T>::value)), voxels);
  write_bytes(folder / "1.nii", first);
  check(folder / "1.nii");
  write_gzip(folder / "1.nii.gz", first);
  check(folder / "1.nii.gz");
  write_bytes(folder / "2.nii", second);
  check(folder / "2.nii");
  write_gzip(folder / "2.nii.gz", second);
  check(folder / "2.nii.gz");
  for (int version = 1; version <= 2; ++version) {
    std::string swapped = version == 1 ? first : second;
    swap_nifti_header(swapped.data(), version);
    swap_bytes(swapped, version == 1 ? 352 : 544, sizeof(T));
    write_bytes(folder / "swapped.nii", swapped);
    check(folder / "swapped.nii");
  }
}

TEST_CASE_TEMPLATE("NIfTI: wide integers with small values are stored as i16", T, uint16_t, uint32_t, int32_t,
                   int64_t) {
  const TemporaryFolder folder;
  std::vector<T> voxels = telling_voxels<T>();
  voxels[0] = 32767;
  voxels[1] = std::is_signed_v<T> ? static_cast<T>(-32768) : T{0};
  write_bytes(folder / "a.nii", file_of(oblique_header(TypeCode<T>::value), voxels));
  const StoredImage stored = read_nifti_stored(folder / "a.nii");
  CHECK(stored.type == StoredType::i16);
  CHECK(stored.slope == 1.0f);  // scl_slope 0 means no scaling
  CHECK(stored.intercept == 0.0f);
  const Image image = read_nifti_image(folder / "a.nii");
  for (size_t n = 0; n < voxels.size(); ++n)
    CHECK(image.voxels[n] == static_cast<float>(voxels[file_index(n)]));
  voxels[0] = static_cast<T>(32768);
  write_bytes(folder / "a.nii", file_of(oblique_header(TypeCode<T>::value), voxels));
  CHECK(read_nifti_stored(folder / "a.nii").type == StoredType::f32);
}

TEST_CASE("NIfTI: stored integers are scaled with one rounding") {
  const TemporaryFolder folder;
  const std::vector<int16_t> voxels = telling_voxels<int16_t>();
  auto header = oblique_header(NIFTI_TYPE_INT16);
  header.scl_slope = 0.0370721f;
  header.scl_inter = -0.8123417f;
  write_bytes(folder / "a.nii", file_of(header, voxels));
  const Image image = read_nifti_image(folder / "a.nii");
  for (size_t n = 0; n < voxels.size(); ++n) {
    const double exact =
        static_cast<double>(header.scl_slope) * voxels[file_index(n)] + static_cast<double>(header.scl_inter);
    CHECK(image.voxels[n] == static_cast<float>(exact));
  }
}

TEST_CASE_TEMPLATE("NIfTI: outputs keep the input's header to the last bit", Header, nifti_1_header,
                   nifti_2_header) {
  const TemporaryFolder folder;
  auto header = oblique_header<Header>(NIFTI_TYPE_UINT8);
  header.dim[0] = 4;  // with one volume
  std::vector<uint8_t> voxels(kI * kJ * kK);
  for (size_t n = 0; n < voxels.size(); ++n) voxels[n] = static_cast<uint8_t>(n % 3);
  header.scl_slope = 1;
  write_bytes(folder / "in.nii", file_of(header, voxels));

  const LabelMap labels = read_nifti_labels(folder / "in.nii", 3);
  for (size_t n = 0; n < voxels.size(); ++n) CHECK(labels.voxels[n] == voxels[file_index(n)]);
  write_nifti_labels(folder / "out.nii", labels);
  auto expected = header;
  expected.cal_max = 0;
  expected.bitpix = 8;
  CHECK(read_bytes(folder / "out.nii") == file_of(expected, voxels));

  write_nifti_labels(folder / "out.nii.gz", labels);
  CHECK(read_bytes(folder / "out.nii.gz").substr(0, 2) == "\x1f\x8b");
  CHECK(read_nifti_labels(folder / "out.nii.gz", 3).voxels == labels.voxels);

  Image image{labels.shape, {}, labels.geometry};
  for (const uint8_t v : labels.voxels) image.voxels.push_back(0.1f * static_cast<float>(v) - 3.0f);
  write_nifti_image(folder / "image.nii.gz", image);
  const Image back = read_nifti_image(folder / "image.nii.gz");
  CHECK(back.voxels == image.voxels);
  CHECK(back.geometry.spacing == labels.geometry.spacing);
  CHECK(folder.entries() == 4);
}

TEST_CASE("NIfTI: without a header the axes and the spacing are plain; libnifti agrees") {
  const TemporaryFolder folder;
  LabelMap labels{{2, 3, 4}, std::vector<uint8_t>(24), {{0.5, 1.5, 2.5}, true, nullptr}};
  for (size_t n = 0; n < 24; ++n) labels.voxels[n] = static_cast<uint8_t>(n);
  write_nifti_labels(folder / "a.nii.gz", labels);
  nifti_image* file = nifti_image_read((folder / "a.nii.gz").c_str(), 1);
  REQUIRE(file != nullptr);
  CHECK(file->nx == 2);
  CHECK(file->nz == 4);
  CHECK(file->datatype == NIFTI_TYPE_UINT8);
  const auto* data = static_cast<const uint8_t*>(file->data);
  CHECK(data[1 + 2 * (2 + 3 * 3)] == labels.voxels[(1 * 3 + 2) * 4 + 3]);
  for (int row = 0; row < 3; ++row) {
    for (int column = 0; column < 4; ++column) {
      const double expected = row == column ? labels.geometry.spacing[static_cast<size_t>(row)] : 0;
      CHECK(file->sto_xyz.m[row][column] == expected);
      CHECK(file->qto_xyz.m[row][column] == expected);
    }
  }
  nifti_image_free(file);
  const LabelMap back = read_nifti_labels(folder / "a.nii.gz", 24);
  CHECK(back.voxels == labels.voxels);
  CHECK(back.geometry.spacing == labels.geometry.spacing);

  const LabelMap lengthy{{1, 40000, 1}, std::vector<uint8_t>(40000, 1), {}};
  write_nifti_labels(folder / "long.nii.gz", lengthy);
  const LabelMap lengthy_back = read_nifti_labels(folder / "long.nii.gz", 2);
  CHECK(lengthy_back.shape == lengthy.shape);
  CHECK(std::holds_alternative<nifti_2_header>(lengthy_back.geometry.nifti_header->fields));
}

TEST_CASE("NIfTI: 2D files have depth 1 in front, units become mm") {
  const TemporaryFolder folder;
  auto header = oblique_header(NIFTI_TYPE_UINT8);
  header.dim[0] = 2;
  header.dim[3] = 0;  // not used in 2D
  header.pixdim[3] = 0;
  header.xyzt_units = NIFTI_UNITS_MICRON;
  std::vector<uint8_t> voxels(kI * kJ);
  for (size_t n = 0; n < voxels.size(); ++n) voxels[n] = static_cast<uint8_t>(n);
  write_bytes(folder / "a.nii", file_of(header, voxels));
  const Image image = read_nifti_image(folder / "a.nii");
  CHECK(image.shape == Extent3{1, kI, kJ});
  CHECK(image.voxels[2 * kJ + 1] == 2 + kI * 1);
  CHECK(image.geometry.spacing[1] == doctest::Approx(0.7e-3).epsilon(1e-6));
  CHECK(image.geometry.spacing[2] == doctest::Approx(0.8e-3).epsilon(1e-6));
  write_nifti_image(folder / "b.nii", image);
  CHECK(read_nifti_image(folder / "b.nii").voxels == image.voxels);
}

TEST_CASE("NIfTI: broken and foreign files are refused, naming file, field, found and expected") {
  const TemporaryFolder folder;
  const std::string path = folder / "bad.nii";
  const std::vector<int16_t> voxels(kI * kJ * kK, 1);
  const nifti_1_header good = oblique_header(NIFTI_TYPE_INT16);
  const auto image_error = [&] { return data_error([&] { read_nifti_image(path); }); };
  const auto message = [&](const std::string& bytes) {
    write_bytes(path, bytes);
    return image_error();
  };
  const auto changed = [&](auto change) {
    nifti_1_header header = good;
    change(header);
    return message(file_of(header, voxels));
  };
  CHECK(mentions(image_error(), path, "No such file or directory"));
  CHECK(message(file_of(good, voxels)) == "");
  CHECK(mentions(message(""), path, "not a NIfTI file", "0 bytes"));
  CHECK(mentions(message(std::string(1000, 'x')), path, "not a NIfTI file", "sizeof_hdr"));
  CHECK(mentions(changed([](auto& h) { std::memcpy(h.magic, "abc", 4); }), path, "magic"));
  CHECK(mentions(changed([](auto& h) { std::memcpy(h.magic, "ni1", 4); }), path, "two files"));
  CHECK(mentions(changed([](auto& h) { h.datatype = NIFTI_TYPE_RGB24; }), path, "datatype is 128", "RGB24"));
  CHECK(mentions(changed([](auto& h) { h.datatype = NIFTI_TYPE_COMPLEX64; }), path, "datatype is 32",
                 "COMPLEX64"));
  CHECK(mentions(changed([](auto& h) { h.dim[0] = 8; }), path, "dim[0] is 8"));
  CHECK(mentions(changed([](auto& h) { h.dim[0] = 1; }), path, "dim[0] is 1"));
  CHECK(mentions(changed([](auto& h) { h.dim[2] = -3; }), path, "dim[2] is -3"));
  CHECK(mentions(changed([](auto& h) { h.dim[0] = 4, h.dim[4] = 2; }), path, "dim[4] is 2", "expected 1"));
  CHECK(mentions(changed([](auto& h) { h.dim[3] = 5; }), path, "truncated", "120 bytes", "expected 150",
                 "5 x 3 x 5"));
  CHECK(mentions(changed([](auto& h) { h.dim[1] = h.dim[2] = h.dim[3] = 32767; }), path, "truncated"));
  CHECK(mentions(changed([](auto& h) { h.pixdim[2] = 0; }), path, "pixdim[2] is 0", "positive"));
  CHECK(mentions(changed([](auto& h) { h.pixdim[2] = NAN; }), path, "pixdim[2] is nan"));
  CHECK(mentions(changed([](auto& h) { h.vox_offset = 12; }), path, "vox_offset is 12"));
  CHECK(
      mentions(changed([](auto& h) { h.scl_slope = 1, h.scl_inter = INFINITY; }), path, "scl_inter is inf"));
  CHECK(mentions(changed([](auto& h) { h.scl_slope = 1e36f; }), path, "scl_slope 1e+36"));
  nifti_2_header huge = oblique_header<nifti_2_header>(NIFTI_TYPE_INT16);
  huge.dim[1] = huge.dim[2] = huge.dim[3] = int64_t{1} << 40;
  CHECK(mentions(message(file_of(huge, voxels)), path, "more than 2^48 voxels"));

  const std::string whole = file_of(good, voxels);
  CHECK(mentions(message(whole.substr(0, 100)), path, "100 bytes"));
  CHECK(mentions(message(whole.substr(0, 400)), path, "truncated", "48 bytes", "expected 120"));
  const auto compressed = gzip(std::as_bytes(std::span(whole)));
  const std::string stream(reinterpret_cast<const char*>(compressed.data()), compressed.size());
  CHECK(message(stream) == "");
  CHECK(mentions(message(stream.substr(0, stream.size() / 2)), path, "unexpected end of file"));
  CHECK(mentions(message(stream.substr(0, stream.size() - 3)), path, "unexpected end of file"));
  std::string damaged = stream;
  damaged[damaged.size() - 6] = static_cast<char>(damaged[damaged.size() - 6] ^ 1);  // in the checksum
  CHECK(mentions(message(damaged), path, "incorrect data check"));
}

TEST_CASE("NIfTI: voxels that are NaN or infinite are counted and located") {
  const TemporaryFolder folder;
  const std::string path = folder / "a.nii";
  std::vector<double> voxels(kI * kJ * kK, 0.5);
  voxels[3 + kI * (2 + kJ * 1)] = NAN;
  voxels[4 + kI * (0 + kJ * 0)] = 1e300;  // not a float
  write_bytes(path, file_of(oblique_header(NIFTI_TYPE_FLOAT64), voxels));
  CHECK(mentions(data_error([&] { read_nifti_image(path); }), path, "2 of 60 voxels", "(3, 2, 1)"));
}

TEST_CASE("NIfTI: labels are integers 0 ... classes-1") {
  const TemporaryFolder folder;
  const std::string path = folder / "a.nii";
  std::vector<float> voxels(kI * kJ * kK, 1);
  const auto message = [&](float value, int classes) {
    voxels[1 + kI * (2 + kJ * 3)] = value;
    write_bytes(path, file_of(oblique_header(NIFTI_TYPE_FLOAT32), voxels));
    return data_error([&] { read_nifti_labels(path, classes); });
  };
  CHECK(message(3, 4) == "");
  CHECK(mentions(message(4, 4), path, "label 4", "(1, 2, 3)", "0 ... 3"));
  CHECK(mentions(message(-1, 4), path, "label -1"));
  CHECK(mentions(message(0.5f, 4), path, "label 0.5"));
  CHECK(mentions(message(NAN, 4), path, "label nan"));
  auto header = oblique_header(NIFTI_TYPE_FLOAT32);
  header.scl_slope = 2;  // labels are scaled like images
  write_bytes(path, file_of(header, std::vector<float>(kI * kJ * kK, 1.5f)));
  CHECK(read_nifti_labels(path, 4).voxels[7] == 3);
}

TEST_CASE("NIfTI: the writer refuses other names, and a failure leaves nothing") {
  const TemporaryFolder folder;
  const LabelMap labels{{1, 1, 1}, {0}, {}};
  CHECK(mentions(data_error([&] { write_nifti_labels(folder / "a.mha", labels); }), "a.mha", ".nii"));
  CHECK(mentions(data_error([&] { write_nifti_labels(folder / "no/a.nii", labels); }), "no/a.nii",
                 "No such file"));
  CHECK(folder.entries() == 0);
}
