#include "kernels/conv_patches.hpp"

#include <omp.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <tuple>
#include <vector>

#include "engine/parallel.hpp"
#include "kernels/conv_packed.hpp"
#include "kernels/onednn_primitives.hpp"

namespace semivox::kernels::onednn {

namespace {

using dnnl::memory;

/// Bytes of one block's patch matrix: it should stay in a core's second-level cache.
constexpr int64_t kBlockBytes = 256 * 1024;

/// Partial sums of the weight gradient, added up in order.
constexpr int64_t kPartialSums = 16;

/// The matrices of one layer and how their lines are cut into blocks. A block is a number of whole coarse
/// w-rows.
struct Plan {
  ConvGeometry g;
  Shape fine, coarse;
  int64_t line = 0;  // elements of a patch, taps * fine channels, in memory order (kd, kh, kw, channel)
  int64_t rows_per_block = 0;  // coarse w-rows
  int64_t rows = 0;
  int64_t blocks = 0;

  Plan(const ConvGeometry& geometry, const Tensor& fine_tensor, const Shape& coarse_shape)
      : g(geometry), fine(fine_tensor.shape()), coarse(coarse_shape), line(tap_count(geometry) * fine.c) {
    rows = coarse.n * coarse.d * coarse.h;
    rows_per_block = std::max<int64_t>(1, kBlockBytes / (coarse.w * line * size_of(fine_tensor.dtype())));
    rows_per_block = std::min(rows_per_block, rows);
    blocks = (rows + rows_per_block - 1) / rows_per_block;
  }

  int64_t rows_in(int64_t block) const { return std::min(rows_per_block, rows - block * rows_per_block); }

  bool covers_fine() const {
    return fine.d == coarse.d * g.stride[0] && fine.h == coarse.h * g.stride[1] &&
           fine.w == coarse.w * g.stride[2];
  }
};

/// Calls `copy(run in the fine tensor, run in the patch matrix, elements)` for every contiguous run of the
/// block.
template <class Copy>
void for_each_run(const Plan& p, int64_t block, const Copy& copy) {
  const int64_t run = p.g.kernel[2] * p.fine.c;  // neighbouring taps along w lie side by side
  for (int64_t r = 0; r < p.rows_in(block); ++r) {
    const int64_t row = block * p.rows_per_block + r;
    const int64_t oh = row % p.coarse.h, od = row / p.coarse.h % p.coarse.d,
                  n = row / p.coarse.h / p.coarse.d;
    for (int64_t kd = 0; kd < p.g.kernel[0]; ++kd) {
      for (int64_t kh = 0; kh < p.g.kernel[1]; ++kh) {
        const int64_t fine_row =
            (n * p.fine.d + od * p.g.stride[0] + kd) * p.fine.h + oh * p.g.stride[1] + kh;
        int64_t from = fine_row * p.fine.w * p.fine.c;
        int64_t to = r * p.coarse.w * p.line + (kd * p.g.kernel[1] + kh) * run;
        for (int64_t ow = 0; ow < p.coarse.w; ++ow, from += run, to += p.line) copy(from, to, run);
      }
    }
  }
}

template <class T>
void gather(const Plan& p, int64_t block, const T* fine, T* patches) {
  for_each_run(p, block, [&](int64_t from, int64_t to, int64_t n) {
    std::memcpy(patches + to, fine + from, static_cast<size_t>(n) * sizeof(T));
  });
}

template <class T>
void scatter(const Plan& p, int64_t block, const T* patches, T* fine) {
  for_each_run(p, block, [&](int64_t from, int64_t to, int64_t n) {
    std::memcpy(fine + from, patches + to, static_cast<size_t>(n) * sizeof(T));
  });
}

enum class Product { to_coarse, to_fine, weights };

MemoryDesc matrix(int64_t rows, int64_t columns, memory::data_type type, bool transposed = false) {
  return {memory::dims{rows, columns}, type, transposed ? memory::dims{1, rows} : memory::dims{columns, 1}};
}

/// A product of one block with the formats of its operands.
struct BlockProduct {
  MemoryDesc a, c, bias;
  Primitive primitive;
};

/// The product for `lines` patches; made once for each combination of sizes and types.
const BlockProduct& block_product(Product product, int64_t lines, const Plan& p, DType in, DType out,
                                  bool bias, Activation activation) {
  using Key = std::tuple<Product, int64_t, int64_t, int64_t, DType, DType, bool, Activation>;
  static std::map<Key, BlockProduct> products;
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  const Key key{product, lines, p.line, p.coarse.c, in, out, bias, activation};
  if (const auto found = products.find(key); found != products.end()) return found->second;
  const auto type = data_type(in);
  const auto any = [&](int64_t rows, int64_t columns) {
    return MemoryDesc(memory::dims{rows, columns}, type, memory::format_tag::any);
  };
  const auto bias_of = [&](int64_t columns) {
    return bias ? matrix(1, columns, memory::data_type::f32) : MemoryDesc();
  };
  MemoryDesc a, b, c, bias_desc;
  switch (product) {
    case Product::to_coarse:
      a = matrix(lines, p.line, type), b = any(p.line, p.coarse.c),
      c = matrix(lines, p.coarse.c, data_type(out));
      bias_desc = bias_of(p.coarse.c);
      break;
    case Product::to_fine:
      a = matrix(lines, p.coarse.c, type), b = any(p.coarse.c, p.line),
      c = matrix(lines, p.line, data_type(out));
      bias_desc = bias_of(p.line);
      break;
    case Product::weights:
      a = matrix(p.coarse.c, lines, type, true), b = matrix(lines, p.line, type);
      c = matrix(p.coarse.c, p.line, memory::data_type::f32);
      break;
  }
  std::optional<Primitive> primitive =
      make_matmul(a, b, c, bias_desc, activation, product == Product::weights);
  SEMIVOX_CHECK(primitive, "no product of ", lines, " lines, ", p.line, " by ", p.coarse.c, ", ",
                name_of(in));
  return products.emplace(key, BlockProduct{a, c, bias_desc, std::move(*primitive)}).first->second;
}

/// Weights (coarse, fine, taps) as the matrix (coarse, taps * fine), in f32.
Tensor weight_matrix(const Plan& p, const Tensor& values) {
  const int64_t taps = p.line / p.fine.c;
  Tensor ordered = Tensor::empty({1, p.coarse.c * p.line, 1, 1, 1}, DType::f32, {}, MemoryTag::workspace);
  const float* from = values.data<float>();
  float* to = ordered.data<float>();
  parallel_blocks(p.coarse.c, 1, [&](int64_t c, int64_t) {
    for (int64_t k = 0; k < taps; ++k) {
      for (int64_t f = 0; f < p.fine.c; ++f)
        to[(c * taps + k) * p.fine.c + f] = from[(c * p.fine.c + f) * taps + k];
    }
  });
  return ordered;
}

/// Packed weights, (coarse, line) or transposed (line, coarse).
memory packed_matrix(const Plan& p, const ConvWeights& weights, const MemoryDesc& desc, bool transposed) {
  return packed_weights(weights, desc, transposed, [&](const memory& packed) {
    const Tensor ordered = weight_matrix(p, weights.values);
    const auto type = memory::data_type::f32;
    const MemoryDesc plain =
        transposed ? matrix(p.line, p.coarse.c, type, true) : matrix(p.coarse.c, p.line, type);
    reorder(as_memory(plain, ordered.raw()), packed);
  });
}

/// Scratch memory of every thread: a patch matrix and what the products ask for.
class ThreadScratch {
 public:
  ThreadScratch(const Plan& p, DType patch_type, size_t product_bytes)
      : patch_bytes_(round_up(p.rows_per_block * p.coarse.w * p.line * size_of(patch_type))),
        bytes_(patch_bytes_ + round_up(static_cast<int64_t>(product_bytes))),
        memory_(Tensor::empty({1, thread_count() * bytes_, 1, 1, 1}, DType::u8, {}, MemoryTag::workspace)) {}

  void* patches() const { return memory_.data<uint8_t>() + omp_get_thread_num() * bytes_; }
  void* product() const { return memory_.data<uint8_t>() + omp_get_thread_num() * bytes_ + patch_bytes_; }

 private:
  static int64_t round_up(int64_t bytes) { return (bytes + 63) / 64 * 64; }
  int64_t patch_bytes_, bytes_;
  Tensor memory_;
};

/// The products for full blocks and for the last one.
struct Products {
  const BlockProduct &full, &last;
  Products(Product product, const Plan& p, DType in, DType out, bool bias, Activation activation)
      : full(block_product(product, p.rows_per_block * p.coarse.w, p, in, out, bias, activation)),
        last(block_product(product, p.rows_in(p.blocks - 1) * p.coarse.w, p, in, out, bias, activation)) {}
  const BlockProduct& of(const Plan& p, int64_t block) const { return block + 1 < p.blocks ? full : last; }
  size_t scratch_bytes() const {
    return std::max(full.primitive.scratchpad.get_size(), last.primitive.scratchpad.get_size());
  }
};

template <class F>
void dispatch(DType dtype, const F& f) {
  if (dtype == DType::bf16) return f(bf16{});
  f(float{});
}

}  // namespace

bool has_products(DType dtype) {
  const auto multiplies = [](DType type) {
    const MemoryDesc square = matrix(16, 16, data_type(type));
    return make_matmul(square, square, square, {}, {}, false).has_value();
  };
  static const bool bf16_products = multiplies(DType::bf16);
  return dtype == DType::f32 || bf16_products;
}

void patches_to_coarse(const ConvGeometry& g, const Tensor& fine, const ConvWeights& weights,
                       const Tensor& bias, Activation activation, Tensor& coarse) {
  const Plan p(g, fine, coarse.shape());
  const Products products(Product::to_coarse, p, fine.dtype(), coarse.dtype(), bias.defined(), activation);
  const memory full_weights = packed_matrix(p, weights, products.full.primitive.weights, true);
  const memory last_weights = packed_matrix(p, weights, products.last.primitive.weights, true);
  const ThreadScratch scratch(p, fine.dtype(), products.scratch_bytes());
  const int64_t block_bytes = p.rows_per_block * p.coarse.w * p.coarse.c * size_of(coarse.dtype());
  parallel_blocks(p.blocks, 1, [&](int64_t block, int64_t) {
    dispatch(fine.dtype(), [&](auto zero) {
      using T = decltype(zero);
      gather(p, block, fine.data<T>(), static_cast<T*>(scratch.patches()));
    });
    const BlockProduct& product = products.of(p, block);
    Arguments arguments{
        {DNNL_ARG_SRC, as_memory(product.a, scratch.patches())},
        {DNNL_ARG_WEIGHTS, &product == &products.full ? full_weights : last_weights},
        {DNNL_ARG_DST, as_memory(product.c, static_cast<char*>(coarse.raw()) + block * block_bytes)}};
    if (bias.defined()) arguments.insert({DNNL_ARG_BIAS, as_memory(product.bias, bias.raw())});
    product.primitive.run(std::move(arguments), scratch.product());
  });
}

void patches_to_fine(const ConvGeometry& g, const Tensor& coarse, const ConvWeights& weights,
                     const Tensor& bias, Activation activation, Tensor& fine) {
  const Plan p(g, fine, coarse.shape());
  if (!p.covers_fine()) fine.fill_zero();
  const Products products(Product::to_fine, p, coarse.dtype(), fine.dtype(), bias.defined(), activation);
  const memory full_weights = packed_matrix(p, weights, products.full.primitive.weights, false);
  const memory last_weights = packed_matrix(p, weights, products.last.primitive.weights, false);
  const ThreadScratch scratch(p, fine.dtype(), products.scratch_bytes());
  const int64_t block_bytes = p.rows_per_block * p.coarse.w * p.coarse.c * size_of(coarse.dtype());
  std::vector<float> bias_line(static_cast<size_t>(p.line));  // the bias once for every tap
  for (int64_t i = 0; bias.defined() && i < p.line; ++i) {
    bias_line[static_cast<size_t>(i)] = bias.data<float>()[i % p.fine.c];
  }
  parallel_blocks(p.blocks, 1, [&](int64_t block, int64_t) {
    const BlockProduct& product = products.of(p, block);
    Arguments arguments{
        {DNNL_ARG_SRC, as_memory(product.a, static_cast<char*>(coarse.raw()) + block * block_bytes)},
        {DNNL_ARG_WEIGHTS, &product == &products.full ? full_weights : last_weights},
        {DNNL_ARG_DST, as_memory(product.c, scratch.patches())}};
    if (bias.defined()) arguments.insert({DNNL_ARG_BIAS, as_memory(product.bias, bias_line.data())});
    product.primitive.run(std::move(arguments), scratch.product());
    dispatch(fine.dtype(), [&](auto zero) {
      using T = decltype(zero);
      scatter(p, block, static_cast<const T*>(scratch.patches()), fine.data<T>());
    });
  });
}

void patches_to_weights(const ConvGeometry& g, const Tensor& fine, const Tensor& coarse, Tensor& dw) {
  const Plan p(g, fine, coarse.shape());
  const Products products(Product::weights, p, fine.dtype(), DType::f32, false, {});
  const ThreadScratch scratch(p, fine.dtype(), products.scratch_bytes());
  const int64_t block_bytes = p.rows_per_block * p.coarse.w * p.coarse.c * size_of(coarse.dtype());
  const int64_t count = p.coarse.c * p.line, partials = std::min(kPartialSums, p.blocks);
  Tensor sums = Tensor::zeros({1, partials * count, 1, 1, 1}, DType::f32, {}, MemoryTag::workspace);
  float* sum = sums.data<float>();  // (partials, coarse, taps, fine)
  parallel_blocks(partials, 1, [&](int64_t partial, int64_t) {
    for (int64_t block = partial; block < p.blocks; block += partials) {
      dispatch(fine.dtype(), [&](auto zero) {
        using T = decltype(zero);
        gather(p, block, fine.data<T>(), static_cast<T*>(scratch.patches()));
      });
      const BlockProduct& product = products.of(p, block);
      product.primitive.run(
          {{DNNL_ARG_SRC, as_memory(product.a, static_cast<char*>(coarse.raw()) + block * block_bytes)},
           {DNNL_ARG_WEIGHTS, as_memory(product.primitive.weights, scratch.patches())},
           {DNNL_ARG_DST, as_memory(product.c, sum + partial * count)}},
          scratch.product());
    }
  });
  float* gradient = dw.data<float>();
  const int64_t taps = p.line / p.fine.c;
  parallel_blocks(p.coarse.c, 1, [&](int64_t c, int64_t) {
    for (int64_t f = 0; f < p.fine.c; ++f) {
      for (int64_t k = 0; k < taps; ++k) {
        float total = 0;
        for (int64_t i = 0; i < partials; ++i) total += sum[i * count + c * p.line + k * p.fine.c + f];
        gradient[(c * p.fine.c + f) * taps + k] += total;
      }
    }
  });
}

}  // namespace semivox::kernels::onednn
