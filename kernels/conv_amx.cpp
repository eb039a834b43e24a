// The gradient of tap (kd, kh, kw) is a matrix product over voxels: dw(f, c) = sum_p fine(p + shift(tap), f)
// * coarse(p, c).
//
// Both operands of a slab (some planes of constant d, of one sample or across samples) are copied to
// zero-padded volumes of one pitch, in which the shift of a tap is a constant offset and all voxels of the
// slab are one long inner dimension:
//
//   fine    [block of 16 channels][channel][voxel]
//           The rows of a tile are channels; a tap's offset moves their start.
//   coarse  [block of 16 channels][voxel / 2][channel][2]
//           The pairs of voxels that the tile product wants in its second operand.
//
// Products of bf16 are exact in f32 and are added up in f32, voxels in order, planes in order, runs of planes
// in order.

#include "kernels/conv_amx.hpp"

#if defined(__x86_64__)

#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "engine/parallel.hpp"

namespace semivox::kernels::amx {

namespace {

constexpr int64_t kBlock = 16;  // channels in a tile
constexpr int64_t kStep = 32;   // voxels in a tile
constexpr int64_t kTile = kBlock * kBlock;

constexpr int64_t kChunk = 64;  // tiles of voxels that all taps pass over while they stay in the cache

/// Limits that cut the work into slabs and tasks; the cuts depend on the shapes alone, not on the threads.
constexpr int64_t kSlabBytes = int64_t{2} << 20;
constexpr int64_t kPartialBytes = int64_t{8} << 20;
constexpr int64_t kTasks = 16;

int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

/// Sizes of the padded volumes. Padded plane q = n * (D' + kD - 1) + d holds coarse plane d of sample n (none
/// for d >= D') and fine plane d - padding (none outside the volume).
struct Layout {
  ConvGeometry g;
  Shape fine, coarse;
  int64_t taps, fine_blocks, coarse_blocks;
  int64_t row_pitch, plane_pitch;  // voxels
  int64_t planes_per_sample, planes;
  int64_t slab;         // planes q of a slab
  int64_t voxels;       // coarse voxels of a slab, whole tiles
  int64_t fine_voxels;  // fine voxels of a slab with room for the last tap's offset

  Layout(const ConvGeometry& geometry, const Shape& f, const Shape& c) : g(geometry), fine(f), coarse(c) {
    taps = tap_count(g);
    fine_blocks = (f.c + kBlock - 1) / kBlock;
    coarse_blocks = (c.c + kBlock - 1) / kBlock;
    row_pitch = c.w + g.kernel[2] - 1;
    plane_pitch = round_up((c.h + g.kernel[1] - 1) * row_pitch, kStep);
    planes_per_sample = c.d + g.kernel[0] - 1;
    planes = c.n * planes_per_sample;
    const int64_t plane_bytes = plane_pitch * fine_blocks * kBlock * static_cast<int64_t>(sizeof(bf16));
    slab = std::clamp<int64_t>(kSlabBytes / plane_bytes, 1, planes);
    slab = (planes + (planes + slab - 1) / slab - 1) / ((planes + slab - 1) / slab);  // even slabs
    voxels = slab * plane_pitch;
    fine_voxels = round_up(voxels + offset(g.kernel[0] - 1, g.kernel[1] - 1, g.kernel[2] - 1), kStep);
    // An odd number of cache lines, so that the rows of a tile do not fall on the same cache sets.
    if (fine_voxels / kStep % 2 == 0) fine_voxels += kStep;
  }

  int64_t offset(int64_t kd, int64_t kh, int64_t kw) const { return kd * plane_pitch + kh * row_pitch + kw; }
  int64_t slabs() const { return (planes + slab - 1) / slab; }
  int64_t sums() const { return taps * fine_blocks * coarse_blocks * kTile; }

  /// Tile of (tap, fine block, coarse block) among the partial sums; source = tap * fine blocks + fine block.
  int64_t tile(int64_t source, int64_t coarse_block) const { return source * coarse_blocks + coarse_block; }
};

using Pairs16 = uint32_t __attribute__((vector_size(64)));
using Values16 = uint16_t __attribute__((vector_size(32)));

/// 32 voxels of [voxel][16] as 16 rows of pairs, [voxel / 2][16][2].
__attribute__((target("avx512f"))) void interleave_pairs(const bf16* padded, Pairs16* rows) {
  for (int64_t p = 0; p < 16; ++p) {
    Values16 even, odd;
    std::memcpy(&even, padded + 2 * p * kBlock, sizeof even);
    std::memcpy(&odd, padded + (2 * p + 1) * kBlock, sizeof odd);
    rows[p] = __builtin_convertvector(even, Pairs16) | __builtin_convertvector(odd, Pairs16) << 16;
  }
}

/// One step of a 16 by 16 transposition: exchanges the off-diagonal S by S squares.
template <int S>
__attribute__((target("avx512f"))) void exchange(Pairs16* rows) {
  Pairs16 first, second;  // where the elements of the two new rows come from; 16 and more: the second row
  for (uint32_t j = 0; j < 16; ++j) {
    first[j] = (j & S) ? 16 + j - S : j;
    second[j] = (j & S) ? 16 + j : j + S;
  }
  for (int i = 0; i < 16; ++i) {
    if (i & S) continue;
    const Pairs16 a = rows[i], b = rows[i + S];
    rows[i] = __builtin_shuffle(a, b, first);
    rows[i + S] = __builtin_shuffle(a, b, second);
  }
}

/// A row of up to 16 channels of a tensor with `stride` channels to [voxel][16].
void copy_row(const bf16* from, int64_t stride, int64_t channels, int64_t width, bf16* to) {
  if (channels == kBlock) {
    for (int64_t x = 0; x < width; ++x) {
      std::memcpy(static_cast<void*>(to + x * kBlock), from + x * stride, kBlock * sizeof(bf16));
    }
    return;
  }
  for (int64_t x = 0; x < width; ++x) {
    for (int64_t c = 0; c < channels; ++c) to[x * kBlock + c] = from[x * stride + c];
  }
}

/// Where packed planes go: channel rows `row` elements apart (fine), or pairs (coarse, row = 0).
struct Packing {
  const Tensor& tensor;
  std::array<int64_t, 3> shift;  // planes, rows and voxels of padding before the first value
  int64_t row;

  /// The padded planes begin ... begin+count-1 of one block of channels; `padded` is scratch for one plane.
  __attribute__((target("avx512f"))) void pack(const Layout& l, int64_t block, int64_t begin, int64_t count,
                                               bf16* padded, bf16* packed) const {
    const Shape& s = tensor.shape();
    const int64_t channels = std::min(kBlock, s.c - block * kBlock);
    std::fill(padded, padded + l.plane_pitch * kBlock, bf16());  // the padding stays zero
    for (int64_t p = 0; p < count; ++p) {
      const int64_t n = (begin + p) / l.planes_per_sample, d = (begin + p) % l.planes_per_sample - shift[0];
      const bool empty = n >= s.n || d < 0 || d >= s.d;
      for (int64_t h = 0; !empty && h < s.h; ++h) {
        const bf16* from = tensor.data<bf16>() + ((n * s.d + d) * s.h + h) * s.w * s.c + block * kBlock;
        copy_row(from, s.c, channels, s.w, padded + ((h + shift[1]) * l.row_pitch + shift[2]) * kBlock);
      }
      for (int64_t v = 0; v < l.plane_pitch; v += kStep) {
        Pairs16 square[16] = {};
        if (!empty) interleave_pairs(padded + v * kBlock, square);
        const int64_t voxel = p * l.plane_pitch + v;
        if (row == 0) {
          std::memcpy(static_cast<void*>(packed + voxel * kBlock), square, sizeof square);
          continue;
        }
        exchange<1>(square);
        exchange<2>(square);
        exchange<4>(square);
        exchange<8>(square);
        for (int64_t i = 0; i < 16; ++i) {
          std::memcpy(static_cast<void*>(packed + i * row + voxel), &square[i], sizeof square[i]);
        }
      }
    }
  }
};

struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t bytes_per_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

#define SEMIVOX_AMX __attribute__((target("amx-tile,amx-bf16")))

SEMIVOX_AMX void configure_tiles() {
  static constexpr TileConfig
      config;  // static: the compiler does not see that the instruction reads all of it
  _tile_loadconfig(&config);
}

SEMIVOX_AMX void release_tiles() { _tile_release(); }

/// Six tiles of sums: six shifted fine operands, one coarse operand.
SEMIVOX_AMX void multiply_six(const bf16* const* a, const bf16* b, float* const* c, int64_t steps,
                              int64_t a_stride) {
  _tile_loadd(0, c[0], 64);
  _tile_loadd(1, c[1], 64);
  _tile_loadd(2, c[2], 64);
  _tile_loadd(3, c[3], 64);
  _tile_loadd(4, c[4], 64);
  _tile_loadd(5, c[5], 64);
  for (int64_t s = 0; s < steps; ++s) {
    const int64_t at = s * kStep;
    _tile_loadd(7, b + at * kBlock, 64);
    _tile_loadd(6, a[0] + at, a_stride);
    _tile_dpbf16ps(0, 6, 7);
    _tile_loadd(6, a[1] + at, a_stride);
    _tile_dpbf16ps(1, 6, 7);
    _tile_loadd(6, a[2] + at, a_stride);
    _tile_dpbf16ps(2, 6, 7);
    _tile_loadd(6, a[3] + at, a_stride);
    _tile_dpbf16ps(3, 6, 7);
    _tile_loadd(6, a[4] + at, a_stride);
    _tile_dpbf16ps(4, 6, 7);
    _tile_loadd(6, a[5] + at, a_stride);
    _tile_dpbf16ps(5, 6, 7);
  }
  _tile_stored(0, c[0], 64);
  _tile_stored(1, c[1], 64);
  _tile_stored(2, c[2], 64);
  _tile_stored(3, c[3], 64);
  _tile_stored(4, c[4], 64);
  _tile_stored(5, c[5], 64);
}

/// Four tiles of sums: two fine operands by two coarse operands, c[2 * fine + coarse].
SEMIVOX_AMX void multiply_two_by_two(const bf16* const* a, const bf16* const* b, float* const* c,
                                     int64_t steps, int64_t a_stride) {
  _tile_loadd(0, c[0], 64);
  _tile_loadd(1, c[1], 64);
  _tile_loadd(2, c[2], 64);
  _tile_loadd(3, c[3], 64);
  for (int64_t s = 0; s < steps; ++s) {
    const int64_t at = s * kStep;
    _tile_loadd(4, a[0] + at, a_stride);
    _tile_loadd(6, b[0] + at * kBlock, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, b[1] + at * kBlock, 64);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, a[1] + at, a_stride);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, c[0], 64);
  _tile_stored(1, c[1], 64);
  _tile_stored(2, c[2], 64);
  _tile_stored(3, c[3], 64);
}

/// A shifted fine operand and the index of its row of tiles.
struct Source {
  const bf16* values;
  int64_t index;  // tap * fine blocks + fine block
};

/// Adds the products of `steps` tiles of voxels for the coarse blocks begin ... end-1.
void multiply(const Layout& l, const std::vector<Source>& sources, const bf16* coarse, int64_t begin,
              int64_t end, int64_t first_step, int64_t steps, float* sums) {
  const int64_t a_stride = l.fine_voxels * static_cast<int64_t>(sizeof(bf16)), at = first_step * kStep;
  const auto count = static_cast<int64_t>(sources.size());
  alignas(64) float unused[6][kTile] =
      {};  // takes the products of the places that a last, short group leaves open
  const auto operand = [&](int64_t block) {
    return coarse + (block - begin) * kBlock * l.voxels + at * kBlock;
  };
  const auto source = [&](int64_t s) -> const Source& {
    return sources[static_cast<size_t>(std::min(s, count - 1))];
  };
  const auto tile = [&](int64_t s, int64_t block, int spare) {
    return s < count ? sums + l.tile(source(s).index, block) * kTile : unused[spare];
  };
  int64_t block = begin;
  for (; block + 1 < end; block += 2) {
    const bf16* b[2] = {operand(block), operand(block + 1)};
    for (int64_t s = 0; s < count; s += 2) {
      const bf16* a[2] = {source(s).values + at, source(s + 1).values + at};
      float* c[4] = {tile(s, block, 0), tile(s, block + 1, 1), tile(s + 1, block, 2),
                     tile(s + 1, block + 1, 3)};
      multiply_two_by_two(a, b, c, steps, a_stride);
    }
  }
  for (int64_t s = 0; block < end && s < count; s += 6) {
    const bf16* a[6];
    float* c[6];
    for (int i = 0; i < 6; ++i) a[i] = source(s + i).values + at, c[i] = tile(s + i, block, i);
    multiply_six(a, operand(block), c, steps, a_stride);
  }
}

/// Work of one task: the slabs first ... last-1 for the coarse blocks begin ... end-1.
struct Task {
  int64_t first, last, begin, end;
};

void add_slabs(const Layout& l, const Tensor& fine, const Tensor& coarse, const Task& task, float* sums) {
  const auto scratch = [](int64_t elements) {
    return Tensor::empty({1, elements, 1, 1, 1}, DType::bf16, {}, MemoryTag::workspace);
  };
  const int64_t block_size = l.fine_voxels * kBlock;
  const Tensor fine_rows = scratch(l.fine_blocks * block_size);
  const Tensor coarse_pairs = scratch((task.end - task.begin) * kBlock * l.voxels);
  const Tensor padded = scratch(l.plane_pitch * kBlock);
  std::fill_n(fine_rows.data<bf16>(), fine_rows.elements(), bf16());  // what no plane covers is zero
  std::vector<Source> sources;
  for (int64_t block = 0; block < l.fine_blocks; ++block) {
    for (int64_t tap = 0; tap < l.taps; ++tap) {
      const int64_t kw = tap % l.g.kernel[2], kh = tap / l.g.kernel[2] % l.g.kernel[1];
      const int64_t kd = tap / l.g.kernel[2] / l.g.kernel[1];
      sources.push_back(
          {fine_rows.data<bf16>() + block * block_size + l.offset(kd, kh, kw), tap * l.fine_blocks + block});
    }
  }
  for (int64_t slab = task.first; slab < task.last; ++slab) {
    const int64_t begin = slab * l.slab;
    for (int64_t block = 0; block < l.fine_blocks; ++block) {
      Packing{fine, l.g.padding, l.fine_voxels}.pack(l, block, begin, l.slab + l.g.kernel[0] - 1,
                                                     padded.data<bf16>(),
                                                     fine_rows.data<bf16>() + block * block_size);
    }
    for (int64_t block = task.begin; block < task.end; ++block) {
      Packing{coarse, {0, 0, 0}, 0}.pack(
          l, block, begin, l.slab, padded.data<bf16>(),
          coarse_pairs.data<bf16>() + (block - task.begin) * kBlock * l.voxels);
    }
    configure_tiles();
    const int64_t steps = l.voxels / kStep;
    for (int64_t step = 0; step < steps; step += kChunk) {
      multiply(l, sources, coarse_pairs.data<bf16>(), task.begin, task.end, step,
               std::min(kChunk, steps - step), sums);
    }
    release_tiles();
  }
}

}  // namespace

bool available() {
  static const bool answer = [] {
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    const bool has_tiles = (d >> 24 & 1u) && (d >> 22 & 1u);  // AMX-TILE and AMX-BF16
    constexpr int kRequestPermission = 0x1023, kTileData = 18;
    return has_tiles && syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  }();
  return answer;
}

void add_weight_gradient(const ConvGeometry& g, const Tensor& fine, const Tensor& coarse, Tensor& dw) {
  SEMIVOX_CHECK(available(), "this processor has no matrix tiles");
  const Layout l(g, fine.shape(), coarse.shape());
  // Runs of slabs have partial sums of their own; where these are too large, the coarse channels are split
  // instead.
  const int64_t count = l.sums(), slabs = l.slabs();
  const int64_t affordable =
      std::max<int64_t>(1, kPartialBytes / (count * static_cast<int64_t>(sizeof(float))));
  const int64_t runs = std::min({kTasks, affordable, slabs});
  const int64_t pairs = (l.coarse_blocks + 1) / 2, splits = std::min(pairs, (kTasks + runs - 1) / runs);
  Tensor partials = Tensor::zeros({1, runs * count, 1, 1, 1}, DType::f32, {}, MemoryTag::workspace);
  float* sums = partials.data<float>();  // (runs, taps, fine blocks, coarse blocks, 16 fine, 16 coarse)
  parallel_blocks(runs * splits, 1, [&](int64_t index, int64_t) {
    const int64_t run = index / splits, split = index % splits;
    const Task task{slabs * run / runs, slabs * (run + 1) / runs, pairs * split / splits * 2,
                    std::min(l.coarse_blocks, pairs * (split + 1) / splits * 2)};
    add_slabs(l, fine, coarse, task, sums + run * count);
  });
  float* gradient = dw.data<float>();
  const int64_t fine_blocks = l.fine_blocks, coarse_blocks = l.coarse_blocks, taps = l.taps;
  parallel_blocks(fine_blocks * coarse_blocks, 1, [&](int64_t index, int64_t) {
    const int64_t fine_block = index / coarse_blocks, coarse_block = index % coarse_blocks;
    // All taps of 16 by 16 channels first, so that the gradient, which has the taps last, is passed over in
    // order.
    std::vector<float> total(static_cast<size_t>(taps * kTile));
    for (int64_t run = 0; run < runs; ++run) {
      for (int64_t tap = 0; tap < taps; ++tap) {
        const float* from = sums + run * count + l.tile(tap * fine_blocks + fine_block, coarse_block) * kTile;
        for (int64_t i = 0; i < kTile; ++i) total[static_cast<size_t>(tap * kTile + i)] += from[i];
      }
    }
    for (int64_t c = coarse_block * kBlock; c < std::min(l.coarse.c, (coarse_block + 1) * kBlock); ++c) {
      for (int64_t f = fine_block * kBlock; f < std::min(l.fine.c, (fine_block + 1) * kBlock); ++f) {
        float* to = gradient + (c * l.fine.c + f) * taps;
        const float* from = total.data() + f % kBlock * kBlock + c % kBlock;
        for (int64_t tap = 0; tap < taps; ++tap) to[tap] += from[tap * kTile];
      }
    }
  });
}

}  // namespace semivox::kernels::amx

#else

namespace semivox::kernels::amx {

bool available() { return false; }

void add_weight_gradient(const ConvGeometry&, const Tensor&, const Tensor&, Tensor&) {
  throw InternalError("this processor has no matrix tiles");
}

}  // namespace semivox::kernels::amx

#endif
