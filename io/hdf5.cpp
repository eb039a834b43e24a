#include "io/hdf5.hpp"

#include <hdf5.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <mutex>
#include <utility>

#include "engine/atomic_file.hpp"
#include "engine/error.hpp"
#include "io/voxel_check.hpp"

namespace semivox::io {
namespace {

/// Closes an HDF5 object at the end of its scope.
class Handle {
 public:
  Handle(hid_t id, herr_t (*close)(hid_t)) : id_(id), close_(close) {}
  ~Handle() { reset(); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  operator hid_t() const { return id_; }
  bool valid() const { return id_ >= 0; }
  hid_t release() { return std::exchange(id_, -1); }  ///< leaves it open
  /// Closes now; false when that fails (a file flushes when it closes).
  bool reset() { return !valid() || close_(std::exchange(id_, -1)) >= 0; }

 private:
  hid_t id_;
  herr_t (*close_)(hid_t);
};

/// The library is not safe for threads: every public function holds this lock.
std::unique_lock<std::mutex> lock_library() {
  static std::mutex mutex;
  std::unique_lock lock(mutex);
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);  // errors are reported by exceptions, not on the terminal
  return lock;
}

/// The library's description of the last failure, the one closest to its cause.
std::string reason() {
  std::string message = "no reason given";
  const auto take_first = [](unsigned number, const H5E_error2_t* error, void* target) -> herr_t {
    if (number == 0 && error->desc != nullptr) *static_cast<std::string*>(target) = error->desc;
    return 0;
  };
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, take_first, &message);
  return message;
}

hid_t open_file(const std::string& path) {
  if (access(path.c_str(), R_OK) != 0) {
    throw DataError(text(path, ": cannot open the file: ", std::strerror(errno)));
  }
  if (H5Fis_hdf5(path.c_str()) <= 0) throw DataError(text(path, ": not an HDF5 file"));
  const Handle access_list(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  H5Pset_file_locking(access_list, false, true);  // readers need no lock, and read-only disks refuse one
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDONLY, access_list);
  if (file < 0) throw DataError(text(path, ": cannot read the HDF5 file: ", reason()));
  return file;
}

/// Names at the top of the file, for messages.
std::string names(hid_t file) {
  H5G_info_t info{};
  std::string list;
  if (H5Gget_info(file, &info) < 0) return list;
  for (hsize_t n = 0; n < info.nlinks; ++n) {
    char name[256] = "";
    H5Lget_name_by_idx(file, ".", H5_INDEX_NAME, H5_ITER_INC, n, name, sizeof(name), H5P_DEFAULT);
    list += text(n == 0 ? "" : ", ", name);
  }
  return list.empty() ? "nothing" : list;
}

[[noreturn]] void fail(const std::string& path, const char* name, const std::string& what) {
  throw DataError(text(path, ": dataset ", name, " ", what));
}

/// Opens a dataset of numbers with 2 or 3 axes and reads its shape.
hid_t open_dataset(const std::string& path, hid_t file, const char* name, Extent3& shape) {
  if (H5Lexists(file, name, H5P_DEFAULT) <= 0)
    fail(path, name, text("is missing, the file has ", names(file)));
  const hid_t dataset = H5Dopen2(file, name, H5P_DEFAULT);
  if (dataset < 0) fail(path, name, text("cannot be opened: ", reason()));
  Handle guard(dataset, H5Dclose);
  const Handle type(H5Dget_type(dataset), H5Tclose);
  const H5T_class_t type_class = H5Tget_class(type);
  if (type_class != H5T_INTEGER && type_class != H5T_FLOAT)
    fail(path, name, "has no number type, expected integers or floats");
  const Handle space(H5Dget_space(dataset), H5Sclose);
  const int rank = H5Sget_simple_extent_ndims(space);
  if (rank != 2 && rank != 3) fail(path, name, text("has ", rank, " axes, expected 2 or 3"));
  hsize_t sizes[3] = {1, 1, 1};
  H5Sget_simple_extent_dims(space, sizes + (3 - rank), nullptr);
  int64_t count = 1;
  for (size_t axis = 0; axis < 3; ++axis) {
    shape[axis] = static_cast<int64_t>(sizes[axis]);
    if (shape[axis] < 1) fail(path, name, text("has an axis of size ", shape[axis], ", expected at least 1"));
    if (__builtin_mul_overflow(count, shape[axis], &count) || count > (int64_t{1} << 40)) {
      fail(path, name, "has more than 2^40 voxels");
    }
  }
  return guard.release();
}

/// Reads a dataset converted to T, which `memory_type` describes, and its shape.
template <class T>
std::vector<T> read_dataset(const std::string& path, const char* name, hid_t memory_type, Extent3& shape) {
  const Handle file(open_file(path), H5Fclose);
  const Handle dataset(open_dataset(path, file, name, shape), H5Dclose);
  std::vector<T> voxels(static_cast<size_t>(voxel_count(shape)));
  if (H5Dread(dataset, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, voxels.data()) < 0) {
    fail(path, name, text("cannot be read: ", reason()));
  }
  return voxels;
}

/// Writes a dataset of elements of `type`, in chunks of one slice.
void write_dataset(const std::string& path, hid_t file, const char* name, hid_t type, const Extent3& shape,
                   const void* voxels) {
  hsize_t sizes[3], chunk[3];
  for (size_t axis = 0; axis < 3; ++axis) sizes[axis] = chunk[axis] = static_cast<hsize_t>(shape[axis]);
  chunk[0] = 1;
  const Handle space(H5Screate_simple(3, sizes, nullptr), H5Sclose);
  const Handle properties(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  const bool compressed = H5Pset_chunk(properties, 3, chunk) >= 0 && H5Pset_deflate(properties, 4) >= 0;
  Handle dataset(H5Dcreate2(file, name, type, space, H5P_DEFAULT, properties, H5P_DEFAULT), H5Dclose);
  if (!compressed || !dataset.valid() || H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, voxels) < 0 ||
      !dataset.reset()) {
    throw DataError(text(path, ": cannot write dataset ", name, ": ", reason()));
  }
}

}  // namespace

Image read_hdf5_image(const std::string& path) {
  const auto lock = lock_library();
  Image image;
  image.voxels = read_dataset<float>(path, "image", H5T_NATIVE_FLOAT, image.shape);
  require_finite(path, image.voxels, image.shape);
  return image;
}

Extent3 read_hdf5_shape(const std::string& path) {
  const auto lock = lock_library();
  const Handle file(open_file(path), H5Fclose);
  Extent3 shape{};
  const Handle dataset(open_dataset(path, file, "image", shape), H5Dclose);
  return shape;
}

LabelMap read_hdf5_labels(const std::string& path, int classes) {
  const auto lock = lock_library();
  LabelMap labels;
  const std::vector<double> values = read_dataset<double>(path, "label", H5T_NATIVE_DOUBLE, labels.shape);
  labels.voxels = labels_from_values(path, values, labels.shape, classes);
  return labels;
}

bool has_hdf5_labels(const std::string& path) {
  const auto lock = lock_library();
  const Handle file(open_file(path), H5Fclose);
  return H5Lexists(file, "label", H5P_DEFAULT) > 0;
}

void write_hdf5_case(const std::string& path, const Image& image, const LabelMap* labels) {
  const auto lock = lock_library();
  AtomicFile out(path);
  Handle file(H5Fcreate(out.temporary_path().c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), H5Fclose);
  if (!file.valid()) throw DataError(text(path, ": cannot create the HDF5 file: ", reason()));
  write_dataset(path, file, "image", H5T_NATIVE_FLOAT, image.shape, image.voxels.data());
  if (labels != nullptr) {
    write_dataset(path, file, "label", H5T_NATIVE_UINT8, labels->shape, labels->voxels.data());
  }
  if (!file.reset()) throw DataError(text(path, ": cannot write the HDF5 file: ", reason()));
  out.commit();
}

}  // namespace semivox::io
