#include "kernels/conv_packed.hpp"

#include <algorithm>
#include <mutex>
#include <vector>

#include "engine/profile.hpp"

namespace semivox::kernels::onednn {

namespace {

struct Copy {
  MemoryDesc desc;
  bool turned;
  Tensor bytes;
  const void* source;
  uint64_t version;
};

struct Copies : PackedWeights {
  std::vector<Copy> copies;  // one for each format in use: forward, backward, sometimes by input size
};

}  // namespace

dnnl::memory packed_weights(const ConvWeights& weights, const MemoryDesc& desc, bool turned,
                            const std::function<void(const dnnl::memory&)>& pack) {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  if (!dynamic_cast<Copies*>(weights.packed.get())) weights.packed = std::make_shared<Copies>();
  auto& copies = static_cast<Copies&>(*weights.packed).copies;
  auto copy = std::find_if(copies.begin(), copies.end(),
                           [&](const Copy& c) { return c.desc == desc && c.turned == turned; });
  const bool fresh = copy == copies.end();
  if (fresh) {
    Tensor bytes =
        Tensor::empty({1, static_cast<int64_t>(desc.get_size()), 1, 1, 1}, DType::u8, {}, MemoryTag::weights);
    copy = copies.insert(copies.end(), {desc, turned, bytes, nullptr, 0});
  }
  const dnnl::memory packed = as_memory(desc, copy->bytes.raw());
  if (fresh || !weights.version || copy->version != *weights.version ||
      copy->source != weights.values.raw()) {
    const Range range("conv.pack_weights", {});
    pack(packed);
    copy->source = weights.values.raw();
    copy->version = weights.version ? *weights.version : 0;
  }
  return packed;
}

}  // namespace semivox::kernels::onednn
