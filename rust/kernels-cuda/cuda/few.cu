// Experts for few tokens, without sorting: of the copies that go to one expert the first one's blocks compute all, so that a
// weight is read once. A warp has a row of the weight; its lanes read eight columns each. Sums are in a fixed order, whoever else
// goes to the expert.
#include "tensor.cuh"
#include "weights.cuh"

constexpr unsigned THREADS = 128, TOGETHER = 4;

struct Few {
  const float *x;           // (tokens, k), or (copies, k)
  const unsigned *experts;  // (copies)
  const void *w;
  const float *scales;
  float *y;                 // (copies, n)
  size_t w_apart, scales_apart;
  unsigned copies, chosen, n, k;
};

// Copies of this block's expert, in ascending order; none unless the block's own is the first.
DEVICE unsigned company(const Few &f, unsigned copy, Shared<unsigned> list) {
  unsigned expert = f.experts[copy], count = 0;
  for (unsigned i0 = 0; i0 < f.copies; i0 += WARP_SIZE) {
    unsigned i = i0 + lane();
    bool is = i < f.copies && f.experts[i] == expert;
    unsigned all = ballot(is);
    if (is && warp() == 0) list[count + bits_set(all & ((1u << lane()) - 1))] = i;
    count += bits_set(all);
  }
  block_sync();
  return list[0] == copy ? count : 0;
}

// Sums of one or two rows of the weight with up to TOGETHER rows of x, in every lane.
template <class W, int ROWS> DEVICE void dots(const Few &f, const uint8_t *const (&rows)[ROWS], const float *const (&scales)[ROWS], const float *const (&x)[TOGETHER], unsigned count, float (&sums)[ROWS][TOGETHER]) {
  for (unsigned k = lane() * 8; k < f.k; k += WARP_SIZE * 8) {
    unsigned valid = k + 8 <= f.k ? 8 : f.k - k;
    float w[ROWS][8];
#pragma unroll
    for (int r = 0; r < ROWS; r++) W::eight(rows[r], scales[r], k, valid, w[r]);
#pragma unroll
    for (unsigned j = 0; j < TOGETHER; j++) {
      if (j >= count) continue;
#pragma unroll
      for (unsigned i = 0; i < 8; i++) {
        float value = i < valid ? x[j][k + i] : 0.0f;
#pragma unroll
        for (int r = 0; r < ROWS; r++) sums[r][j] = fmaf(w[r][i], value, sums[r][j]);
      }
    }
  }
#pragma unroll
  for (int r = 0; r < ROWS; r++)
#pragma unroll
    for (unsigned j = 0; j < TOGETHER; j++) sums[r][j] = warp_sum(sums[r][j]);
}

// `SWIGLU`: the rows are gates over ups, x has a row a token, and y their activation; otherwise x has a row a copy.
template <class W, bool SWIGLU> DEVICE void few(const Few &f) {
  constexpr int ROWS = SWIGLU ? 2 : 1;
  Arena arena;
  auto list = arena.take<unsigned>(f.copies);
  unsigned copy = blockIdx.y, count = company(f, copy, list), n = blockIdx.x * warps() + warp();
  if (!count || n >= f.n) return;
  unsigned expert = f.experts[copy];
  const uint8_t *matrix = (const uint8_t *)f.w + expert * f.w_apart;
  const uint8_t *rows[ROWS];
  const float *scales[ROWS];
  for (int r = 0; r < ROWS; r++) {
    rows[r] = matrix + (n + r * f.n) * W::row_bytes(f.k);
    scales[r] = row_scales(f.scales ? f.scales + expert * f.scales_apart : nullptr, n + r * f.n, f.k);
  }
  for (unsigned i0 = 0; i0 < count; i0 += TOGETHER) {
    unsigned here = count - i0 < TOGETHER ? count - i0 : TOGETHER;
    const float *x[TOGETHER] = {};
    for (unsigned j = 0; j < here; j++) x[j] = f.x + size_t(SWIGLU ? list[i0 + j] / f.chosen : list[i0 + j]) * f.k;
    float sums[ROWS][TOGETHER] = {};
    dots<W, ROWS>(f, rows, scales, x, here, sums);
    if (lane() != 0) continue;
#pragma unroll
    for (unsigned j = 0; j < TOGETHER; j++) {
      if (j >= here) break;
      float y = sums[0][j];
      if (SWIGLU) y = y * sigmoid(y) * sums[ROWS - 1][j];
      f.y[size_t(list[i0 + j]) * f.n + n] = y;
    }
  }
}

#define FEW(format, type)                                            \
  KERNEL(THREADS) few_swiglu_##format(Few f) { few<type, true>(f); } \
  EXPORT(few_swiglu_##format)                                        \
  KERNEL(THREADS) few_##format(Few f) { few<type, false>(f); }       \
  EXPORT(few_##format)

FEW(f32, F32)
FEW(bf16, Bf16)
FEW(fp8, Fp8)
FEW(q8_0, Q8_0)
FEW(q4k, Q4K)
