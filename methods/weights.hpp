// Network parameters in safetensors files under PyTorch's names, in both directions.
#pragma once

#include <map>
#include <string>

#include "engine/safetensors.hpp"
#include "layers/network.hpp"

namespace semivox {

/// Copies arrays into the parameters and running statistics of an allocated network.
///
/// With a `prefix`, the arrays under it are read and the others are none of this network's; without one,
/// every array of the file must belong to the network. Prefixes that PyTorch's wrappers leave, `module.`,
/// `encoder.` and `decoder.`, are stripped. Arrays may be F32, F64, F16 or BF16; `num_batches_tracked` is I64
/// and may be missing. Throws DataError naming `path`, and changes nothing, when an array is missing, has
/// another shape or type, is given twice, is not finite, or is none of the network's.
void load_weights(Network& network, const SafetensorsFile& file, const std::string& path,
                  const std::string& prefix = "");

/// Appends every parameter and running statistic as F32 (F64 for an f64 network) under `prefix` + its name.
void append_weights(const Network& network, SafetensorsFile& file, const std::string& prefix = "");

/// Writes the options into a file's metadata: `semivox.network`, `semivox.in_channels`, `semivox.classes`,
/// `semivox.filters`, `semivox.norm`, `semivox.dropout`, `semivox.residual`, so that the file describes
/// itself.
void describe_network(const NetworkOptions& options, std::map<std::string, std::string>& metadata);

/// The options that `describe_network` wrote; a field that is not there keeps the value in `defaults`. Throws
/// DataError naming `path` and field for a value that cannot be read.
NetworkOptions network_options_from(const std::map<std::string, std::string>& metadata,
                                    const std::string& path, const NetworkOptions& defaults = {});

}  // namespace semivox
