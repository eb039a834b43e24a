// The header of a NIfTI file as it is on disk, NIfTI-1 or NIfTI-2, in the byte order of this machine.
//
// It is kept whole, so that an output on the grid of an input has the same orientation, spacing, units and
// description to the last bit. The fields of both versions have the same names and differ in width.
#pragma once

#include <nifti/nifti1.h>
#include <nifti/nifti2.h>

#include <variant>

namespace semivox::io {

struct NiftiHeader {
  std::variant<nifti_1_header, nifti_2_header> fields;
};

}  // namespace semivox::io
