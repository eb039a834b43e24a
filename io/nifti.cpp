#include "io/nifti.hpp"

#include <nifti/nifti2_io.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "engine/atomic_file.hpp"
#include "engine/error.hpp"
#include "io/gzip.hpp"
#include "io/nifti_header.hpp"
#include "io/voxel_check.hpp"

namespace semivox::io {
namespace {

constexpr int64_t kExtensionFlagBytes = 4;  // between header and voxels, zero: no extensions

/// What the readers need of a file: header fields in common types, and the voxels as stored.
struct RawNifti {
  std::array<int64_t, 3> dims{1, 1, 1};  // ni, nj, nk
  Extent3 shape{0, 0, 0};
  int datatype = 0;
  double slope = 1;
  double intercept = 0;
  Geometry geometry;
  std::vector<std::byte> voxels;  // i fastest, native byte order
};

/// dst[i][j][k] = convert(src[k][j][i]), both C order, in square tiles: both sides touch whole cache lines.
template <class In, class Out, class Convert>
void reverse_axes(const In* src, Out* dst, const std::array<int64_t, 3>& dims, Convert convert) {
  constexpr int64_t kTile = 32;
  const auto [ni, nj, nk] = dims;
  for (int64_t i0 = 0; i0 < ni; i0 += kTile) {
    const int64_t i1 = std::min(ni, i0 + kTile);
    for (int64_t j = 0; j < nj; ++j) {
      for (int64_t k0 = 0; k0 < nk; k0 += kTile) {
        const int64_t k1 = std::min(nk, k0 + kTile);
        for (int64_t i = i0; i < i1; ++i) {
          for (int64_t k = k0; k < k1; ++k) dst[(i * nj + j) * nk + k] = convert(src[(k * nj + j) * ni + i]);
        }
      }
    }
  }
}

/// Calls f(T{}) with the C++ type of a NIfTI data type; false for types that are no real numbers of up to 64
/// bits.
template <class F>
bool with_type(int datatype, F f) {
  switch (datatype) {
    case NIFTI_TYPE_UINT8:
      f(uint8_t{});
      return true;
    case NIFTI_TYPE_INT8:
      f(int8_t{});
      return true;
    case NIFTI_TYPE_UINT16:
      f(uint16_t{});
      return true;
    case NIFTI_TYPE_INT16:
      f(int16_t{});
      return true;
    case NIFTI_TYPE_UINT32:
      f(uint32_t{});
      return true;
    case NIFTI_TYPE_INT32:
      f(int32_t{});
      return true;
    case NIFTI_TYPE_UINT64:
      f(uint64_t{});
      return true;
    case NIFTI_TYPE_INT64:
      f(int64_t{});
      return true;
    case NIFTI_TYPE_FLOAT32:
      f(float{});
      return true;
    case NIFTI_TYPE_FLOAT64:
      f(double{});
      return true;
    default:
      return false;
  }
}

int64_t type_size(int datatype) {
  int64_t size = 0;
  with_type(datatype, [&](auto zero) { size = sizeof(zero); });
  return size;
}

/// Reads and swaps the header; sets `swapped`.
NiftiHeader read_header(const std::string& path, GzipReader& reader, bool& swapped) {
  const auto fail = [&](const std::string& what) {
    throw DataError(text(path, ": not a NIfTI file: ", what));
  };
  std::vector<std::byte> bytes = reader.read(sizeof(nifti_1_header));
  if (bytes.size() < sizeof(nifti_1_header))
    fail(text(bytes.size(), " bytes, expected a header of at least 348"));
  int32_t header_size = 0;
  std::memcpy(&header_size, bytes.data(), sizeof(header_size));
  swapped = header_size == __builtin_bswap32(348) || header_size == __builtin_bswap32(540);
  if (swapped) header_size = static_cast<int32_t>(__builtin_bswap32(static_cast<uint32_t>(header_size)));
  NiftiHeader header;
  if (header_size == 348) {
    auto& fields = header.fields.emplace<nifti_1_header>();
    std::memcpy(&fields, bytes.data(), sizeof(fields));
    if (std::memcmp(fields.magic, "ni1", 4) == 0)
      fail("header and image are two files, expected one .nii file");
    if (std::memcmp(fields.magic, "n+1", 4) != 0) fail("field magic is not \"n+1\"");
    if (swapped) swap_nifti_header(&fields, 1);
  } else if (header_size == 540) {
    const std::vector<std::byte> rest = reader.read(sizeof(nifti_2_header) - sizeof(nifti_1_header));
    bytes.insert(bytes.end(), rest.begin(), rest.end());
    if (bytes.size() < sizeof(nifti_2_header)) fail(text(bytes.size(), " bytes, expected a header of 540"));
    auto& fields = header.fields.emplace<nifti_2_header>();
    std::memcpy(&fields, bytes.data(), sizeof(fields));
    if (std::memcmp(fields.magic, "n+2\0\r\n\032\n", 8) != 0) fail("field magic is not \"n+2\"");
    if (swapped) swap_nifti_header(&fields, 2);
  } else {
    fail(text("field sizeof_hdr is ", header_size, ", expected 348 or 540"));
  }
  return header;
}

/// Dimensions, type, scaling and spacing out of the header, all checked; returns the offset of the voxels in
/// the file.
template <class Header>
int64_t interpret_header(const std::string& path, const Header& header, RawNifti& raw) {
  const auto rank = static_cast<int64_t>(header.dim[0]);
  if (rank < 2 || rank > 7) throw DataError(text(path, ": dim[0] is ", rank, ", expected 2 or 3 axes"));
  int64_t count = 1;
  for (int axis = 1; axis <= rank; ++axis) {
    const auto size = static_cast<int64_t>(header.dim[axis]);
    if (size < 1) throw DataError(text(path, ": dim[", axis, "] is ", size, ", expected at least 1"));
    if (axis > 3 && size != 1) {
      throw DataError(text(path, ": dim[", axis, "] is ", size, ", expected 1: one 3D volume per file"));
    }
    if (__builtin_mul_overflow(count, size, &count) || count > (int64_t{1} << 48)) {
      throw DataError(text(path, ": dim[1..", axis, "] describe more than 2^48 voxels"));
    }
    if (axis <= 3) raw.dims[static_cast<size_t>(axis - 1)] = size;
  }
  raw.datatype = header.datatype;
  if (type_size(raw.datatype) == 0) {
    throw DataError(text(path, ": datatype is ", raw.datatype, " (", nifti_datatype_to_string(raw.datatype),
                         "), expected integers or floats of 8 to 64 bits"));
  }
  if (std::isfinite(header.scl_slope) && header.scl_slope != 0) {
    raw.slope = header.scl_slope;
    raw.intercept = header.scl_inter;
    if (!std::isfinite(raw.intercept))
      throw DataError(text(path, ": scl_inter is ", raw.intercept, ", expected finite"));
  }
  double unit = 1;  // in mm
  if (XYZT_TO_SPACE(header.xyzt_units) == NIFTI_UNITS_METER) unit = 1e3;
  if (XYZT_TO_SPACE(header.xyzt_units) == NIFTI_UNITS_MICRON) unit = 1e-3;
  std::array<double, 3> spacing{1, 1, 1};
  for (size_t axis = 0; axis < 3; ++axis) {
    const double size = std::fabs(static_cast<double>(header.pixdim[axis + 1]));
    const bool valid = std::isfinite(size) && size > 0;
    if (!valid && raw.dims[axis] > 1) {
      throw DataError(text(path, ": pixdim[", axis + 1, "] is ", header.pixdim[axis + 1],
                           ", expected a positive spacing"));
    }
    if (valid) spacing[axis] = unit * size;
  }
  raw.geometry.known = true;
  if (rank == 2) {
    raw.shape = {1, raw.dims[0], raw.dims[1]};
    raw.geometry.spacing = {1, spacing[0], spacing[1]};
  } else {
    raw.shape = raw.dims;
    raw.geometry.spacing = spacing;
  }
  const auto offset = static_cast<double>(header.vox_offset);
  const auto first = static_cast<double>(sizeof(Header));
  if (offset == 0) return sizeof(Header) + kExtensionFlagBytes;
  if (!(offset >= first && offset < 1e15)) {
    throw DataError(text(path, ": vox_offset is ", offset, ", expected at least ", first));
  }
  return static_cast<int64_t>(header.vox_offset);
}

/// Reads and interprets the header; `reader` then stands at the voxels.
RawNifti read_up_to_voxels(const std::string& path, GzipReader& reader, bool& swapped) {
  RawNifti raw;
  const auto header = std::make_shared<const NiftiHeader>(read_header(path, reader, swapped));
  std::visit(
      [&](const auto& fields) {
        const int64_t offset = interpret_header(path, fields, raw);
        reader.read(offset - static_cast<int64_t>(sizeof(fields)));
      },
      header->fields);
  raw.geometry.nifti_header = header;
  return raw;
}

RawNifti read_raw(const std::string& path) {
  GzipReader reader(path);
  bool swapped = false;
  RawNifti raw = read_up_to_voxels(path, reader, swapped);
  const int64_t voxel_bytes = type_size(raw.datatype);
  const int64_t expected = voxel_count(raw.shape) * voxel_bytes;
  raw.voxels = reader.read(expected);
  if (static_cast<int64_t>(raw.voxels.size()) != expected) {
    throw DataError(text(path, ": the file is truncated: ", raw.voxels.size(), " bytes of voxels, expected ",
                         expected, " for ", raw.dims[0], " x ", raw.dims[1], " x ", raw.dims[2], " of ",
                         nifti_datatype_to_string(raw.datatype)));
  }
  reader.read(1);  // reaches the end of the gzip stream, whose checksum is verified there
  if (swapped && voxel_bytes > 1) {
    nifti_swap_Nbytes(expected / voxel_bytes, static_cast<int>(voxel_bytes), raw.voxels.data());
  }
  return raw;
}

/// Calls f(const T*) with the voxels of `raw` in their type.
template <class F>
void with_voxels(const RawNifti& raw, F f) {
  with_type(raw.datatype, [&](auto zero) { f(reinterpret_cast<const decltype(zero)*>(raw.voxels.data())); });
}

/// Fills `stored.data` with elements of type Out.
template <class Out, class In, class Convert>
void fill(StoredImage& stored, StoredType type, const In* voxels, const std::array<int64_t, 3>& dims,
          Convert convert) {
  stored.type = type;
  stored.data.resize(static_cast<size_t>(voxel_count(dims)) * sizeof(Out));
  reverse_axes(voxels, reinterpret_cast<Out*>(stored.data.data()), dims, convert);
}

template <class T>
bool fits_int16(const T* voxels, int64_t count) {
  if constexpr (std::is_floating_point_v<T>) {
    return false;
  } else {
    const auto [low, high] = std::minmax_element(voxels, voxels + count);
    using Limits = std::numeric_limits<int16_t>;
    return std::cmp_greater_equal(*low, Limits::min()) && std::cmp_less_equal(*high, Limits::max());
  }
}

template <class T>
void store_voxels(const std::string& path, const RawNifti& raw, const T* voxels, StoredImage& stored) {
  const auto keep_integers = [&] {
    stored.slope = static_cast<float>(raw.slope);
    stored.intercept = static_cast<float>(raw.intercept);
    if (!std::isfinite(std::fabs(stored.slope) * 32768 + std::fabs(stored.intercept))) {
      throw DataError(text(path, ": scl_slope ", raw.slope, " and scl_inter ", raw.intercept,
                           " leave the range of float"));
    }
  };
  if constexpr (std::is_same_v<T, uint8_t>) {
    keep_integers();
    fill<uint8_t>(stored, StoredType::u8, voxels, raw.dims, [](T v) { return v; });
  } else if (fits_int16(voxels, voxel_count(raw.dims))) {
    keep_integers();
    fill<int16_t>(stored, StoredType::i16, voxels, raw.dims, [](T v) { return static_cast<int16_t>(v); });
  } else {
    const auto scale = [&](T v) {
      return static_cast<float>(raw.slope * static_cast<double>(v) + raw.intercept);
    };
    fill<float>(stored, StoredType::f32, voxels, raw.dims, scale);
    const auto* floats = reinterpret_cast<const float*>(stored.data.data());
    require_finite(path, {floats, static_cast<size_t>(voxel_count(raw.dims))}, raw.shape);
  }
}

/// NIfTI-1 with array axes along world axes and the spacing known; NIfTI-2 when an axis is too long for it.
NiftiHeader plain_header(const Extent3& shape, const std::array<double, 3>& spacing) {
  const auto fill_in = [&](auto& header) {
    header.sizeof_hdr = sizeof(header);
    header.dim[0] = 3;
    for (size_t axis = 1; axis < 8; ++axis) {
      header.dim[axis] =
          static_cast<std::remove_reference_t<decltype(header.dim[0])>>(axis <= 3 ? shape[axis - 1] : 1);
      header.pixdim[axis] =
          static_cast<std::remove_reference_t<decltype(header.pixdim[0])>>(axis <= 3 ? spacing[axis - 1] : 1);
    }
    header.pixdim[0] = 1;
    header.xyzt_units = NIFTI_UNITS_MM;
    header.qform_code = NIFTI_XFORM_ALIGNED_ANAT;
    header.sform_code = NIFTI_XFORM_ALIGNED_ANAT;
    header.srow_x[0] = header.pixdim[1];
    header.srow_y[1] = header.pixdim[2];
    header.srow_z[2] = header.pixdim[3];
  };
  NiftiHeader header;
  if (*std::max_element(shape.begin(), shape.end()) <= std::numeric_limits<int16_t>::max()) {
    auto& fields = header.fields.emplace<nifti_1_header>();
    fill_in(fields);
    fields.regular = 'r';
    std::memcpy(fields.magic, "n+1", 4);
  } else {
    auto& fields = header.fields.emplace<nifti_2_header>();
    fill_in(fields);
    std::memcpy(fields.magic, "n+2\0\r\n\032\n", 8);
  }
  return header;
}

template <class T>
void write_voxels(const std::string& path, const Extent3& shape, const std::vector<T>& voxels,
                  const Geometry& geometry, int16_t datatype, float slope = 1, float intercept = 0) {
  const bool compress = path.ends_with(".nii.gz");
  if (!compress && !path.ends_with(".nii"))
    throw DataError(text(path, ": expected a name ending in .nii or .nii.gz"));
  SEMIVOX_CHECK(static_cast<int64_t>(voxels.size()) == voxel_count(shape), path, ": ", voxels.size(),
                " voxels");
  NiftiHeader header = geometry.nifti_header ? *geometry.nifti_header : plain_header(shape, geometry.spacing);
  std::vector<std::byte> file;
  std::visit(
      [&](auto& fields) {
        const size_t offset = sizeof(fields) + kExtensionFlagBytes;
        const bool flat = fields.dim[0] == 2;  // {1, ni, nj} in memory
        const std::array<int64_t, 3> dims{fields.dim[1], fields.dim[2], flat ? 1 : fields.dim[3]};
        SEMIVOX_CHECK(shape == (flat ? Extent3{1, dims[0], dims[1]} : dims), path,
                      ": shape and header differ");
        fields.datatype = datatype;
        fields.bitpix = 8 * sizeof(T);
        fields.scl_slope = slope;
        fields.scl_inter = intercept;
        fields.cal_min = 0;
        fields.cal_max = 0;
        fields.vox_offset = static_cast<std::remove_reference_t<decltype(fields.vox_offset)>>(offset);
        file.resize(offset + voxels.size() * sizeof(T));
        std::memcpy(file.data(), &fields, sizeof(fields));
        // The file's order is the reverse of ours, so the same reversal with reversed sizes leads back.
        reverse_axes(voxels.data(), reinterpret_cast<T*>(file.data() + offset), {dims[2], dims[1], dims[0]},
                     [](T v) { return v; });
      },
      header.fields);
  write_file(path, compress ? gzip(file) : file);
}

}  // namespace

Extent3 read_nifti_shape(const std::string& path) {
  GzipReader reader(path);
  bool swapped = false;
  return read_up_to_voxels(path, reader, swapped).shape;
}

StoredImage read_nifti_stored(const std::string& path) {
  const RawNifti raw = read_raw(path);
  StoredImage stored;
  stored.shape = raw.shape;
  stored.geometry = raw.geometry;
  with_voxels(raw, [&](const auto* voxels) { store_voxels(path, raw, voxels, stored); });
  return stored;
}

Image read_nifti_image(const std::string& path) { return decode(read_nifti_stored(path)); }

LabelMap read_nifti_labels(const std::string& path, int classes) {
  const RawNifti raw = read_raw(path);
  std::vector<double> values(static_cast<size_t>(voxel_count(raw.shape)));
  with_voxels(raw, [&](const auto* voxels) {
    reverse_axes(voxels, values.data(), raw.dims,
                 [&](auto v) { return raw.slope * static_cast<double>(v) + raw.intercept; });
  });
  return {raw.shape, labels_from_values(path, values, raw.shape, classes), raw.geometry};
}

void write_nifti_labels(const std::string& path, const LabelMap& labels) {
  write_voxels(path, labels.shape, labels.voxels, labels.geometry, NIFTI_TYPE_UINT8);
}

void write_nifti_stored(const std::string& path, const StoredImage& image) {
  const auto write_as = [&](auto zero, int16_t datatype) {
    using T = decltype(zero);
    std::vector<T> voxels(static_cast<size_t>(voxel_count(image.shape)));
    std::memcpy(voxels.data(), image.data.data(), voxels.size() * sizeof(T));
    write_voxels(path, image.shape, voxels, image.geometry, datatype, image.slope, image.intercept);
  };
  switch (image.type) {
    case StoredType::u8:
      return write_as(uint8_t{}, NIFTI_TYPE_UINT8);
    case StoredType::i16:
      return write_as(int16_t{}, NIFTI_TYPE_INT16);
    case StoredType::f32:
      return write_as(float{}, NIFTI_TYPE_FLOAT32);
  }
}

void write_nifti_image(const std::string& path, const Image& image) {
  write_voxels(path, image.shape, image.voxels, image.geometry, NIFTI_TYPE_FLOAT32);
}

}  // namespace semivox::io
