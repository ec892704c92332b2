// Grouped products of bf16 on the tensor cores: tiles of 128 x 128, eight warps of 64 x 32, three stages of 32 columns that are
// filled by cp.async while the one before is multiplied. Sums are f32. A row's result depends on that row alone.
#pragma once
#include "tensor.cuh"
#include "weights.cuh"

constexpr unsigned SIDE = 128, DEPTH = 32, STAGES = 3, THREADS = 256;
// Padded, so that eight rows of a fragment lie in different banks.
constexpr unsigned ALONG = DEPTH + 8, ACROSS = SIDE + 8;
constexpr unsigned STAGE = SIDE * ALONG;
static_assert(DEPTH * ACROSS <= STAGE, "a stage holds a tile that lies either way");

// Eight numbers of a tile's row, of which the first `valid` exist.
DEVICE void fill(Shared<bf16> to, unsigned at, const bf16 *from, unsigned valid) {
  if (uintptr_t(from) % 16 == 0) {
    copy_async(to.address(at), from, valid * 2);
    return;
  }
  for (unsigned i = 0; i < 8; i++) to[at + i] = i < valid ? from[i] : bf16{0};
}

DEVICE unsigned valid_of(unsigned at, unsigned end) { return at >= end ? 0 : at + 8 <= end ? 8 : end - at; }

// Row of the weight for a column of the tile: gates and ups alternate, eight by eight.
template <Epilogue EPILOGUE> DEVICE unsigned weight_row(const Product &p, unsigned n0, unsigned column, bool &in) {
  if (EPILOGUE == Epilogue::Store) {
    in = n0 + column < p.n;
    return n0 + column;
  }
  unsigned unit = n0 / 2 + column / 16 * 8 + column % 8;
  in = unit < p.n;
  return column / 8 % 2 ? p.n + unit : unit;
}

template <Form FORM, Epilogue EPILOGUE, class W> struct Operands {
  const Product &p;
  Tile tile;
  unsigned m0, n0, depth;
  const uint8_t *weights;
  const float *scales;

  DEVICE void left(Shared<bf16> to, unsigned stage, unsigned k0) const {
    const bf16 *from = (const bf16 *)p.a;
    for (unsigned i = threadIdx.x; i < SIDE * DEPTH / 8; i += THREADS) {
      if (FORM == Form::Weight) {
        unsigned k = i / (SIDE / 8), m = i % (SIDE / 8) * 8, r = tile.first + k0 + k;
        unsigned valid = k0 + k < depth ? valid_of(m0 + m, p.m) : 0;
        const bf16 *row = valid ? from + size_t(p.a_rows ? p.a_rows[r] : r) * p.m + m0 + m : from;
        fill(to, stage + k * ACROSS + m, row, valid);
      } else {
        unsigned m = i / (DEPTH / 8), k = i % (DEPTH / 8) * 8, r = tile.first + m;
        unsigned valid = r < tile.end ? valid_of(k0 + k, depth) : 0;
        const bf16 *row = valid ? from + size_t(p.a_rows ? p.a_rows[r] : r) * p.k + k0 + k : from;
        fill(to, stage + m * ALONG + k, row, valid);
      }
    }
  }

  DEVICE void right(Shared<bf16> to, unsigned stage, unsigned k0) const {
    for (unsigned i = threadIdx.x; i < SIDE * DEPTH / 8; i += THREADS) {
      if (FORM == Form::Forward) {
        unsigned n = i / (DEPTH / 8), k = i % (DEPTH / 8) * 8;
        bool in;
        unsigned row = weight_row<EPILOGUE>(p, n0, n, in), valid = in ? valid_of(k0 + k, depth) : 0;
        if (std::is_same<W, Bf16>::value) {
          const bf16 *from = (const bf16 *)weights;
          fill(to, stage + n * ALONG + k, valid ? from + size_t(row) * p.k + k0 + k : from, valid);
        } else {
          float x[8] = {};
          if (valid) W::eight(weights + row * W::row_bytes(p.k), row_scales(scales, row, p.k), k0 + k, valid, x);
          for (unsigned j = 0; j < 8; j++) to[stage + n * ALONG + k + j] = to_bf16(x[j]);
        }
      } else {
        unsigned k = i / (SIDE / 8), n = i % (SIDE / 8) * 8;
        unsigned r = FORM == Form::Weight ? tile.first + k0 + k : k0 + k;
        unsigned valid = k0 + k < depth ? valid_of(n0 + n, p.n) : 0;
        const bf16 *from = (const bf16 *)weights;
        if (valid) from += size_t(FORM == Form::Weight && p.b_rows ? p.b_rows[r] : r) * p.n + n0 + n;
        fill(to, stage + k * ACROSS + n, from, valid);
      }
    }
  }
};

// 16 rows from `m` on and 16 columns from `k` on, as the tensor cores take A.
template <bool ALONG_K> DEVICE void left_fragment(Shared<bf16> tile, unsigned stage, unsigned m, unsigned k, uint32_t (&out)[4]) {
  unsigned l = lane();
  if (ALONG_K) ldmatrix<false>(out, tile.address(stage + (m + l % 16) * ALONG + k + l / 16 * 8));
  else ldmatrix<true>(out, tile.address(stage + (k + l / 16 * 8 + l % 8) * ACROSS + m + l / 8 % 2 * 8));
}

// 16 columns of k for two times eight columns from `n` on, as the tensor cores take B.
template <bool ALONG_K> DEVICE void right_fragment(Shared<bf16> tile, unsigned stage, unsigned n, unsigned k, uint32_t (&out)[4]) {
  unsigned l = lane();
  if (ALONG_K) ldmatrix<false>(out, tile.address(stage + (n + l / 16 * 8 + l % 8) * ALONG + k + l / 8 % 2 * 8));
  else ldmatrix<true>(out, tile.address(stage + (k + l / 8 % 2 * 8 + l % 8) * ACROSS + n + l / 16 * 8));
}

// Two neighbours of a row, of which the second may be past its end.
template <class Out> DEVICE void store(const Product &p, Out *to, bool both, float x, float y) {
  if (p.add) x += to_float(to[0]);
  to[0] = from_float<Out>(x);
  if (!both) return;
  if (p.add) y += to_float(to[1]);
  to[1] = from_float<Out>(y);
}

template <Form FORM, Epilogue EPILOGUE, class W, class Out> DEVICE void multiply(const Product &p) {
  Arena arena;
  auto a = arena.take<bf16>(STAGES * STAGE);
  auto b = arena.take<bf16>(STAGES * STAGE);
  Tile tile = FORM == Form::Weight ? rows_of(p, blockIdx.z) : tile_of(p, blockIdx.y, SIDE);
  if (FORM != Form::Weight && tile.group >= p.groups) return;
  unsigned depth = FORM == Form::Weight ? tile.end - tile.first : p.k;
  bool grouped = FORM != Form::Weight;
  Operands<FORM, EPILOGUE, W> operands{p, tile, blockIdx.y * SIDE, blockIdx.x * SIDE, depth,
                                       (const uint8_t *)p.b + (grouped ? tile.group * p.b_apart : 0),
                                       p.scales ? p.scales + tile.group * p.scales_apart : nullptr};
  float sums[4][4][4] = {};
  unsigned steps = (depth + DEPTH - 1) / DEPTH, m = warp() / 4 * 64, n = warp() % 4 * 32;
  for (unsigned s = 0; s < STAGES - 1; s++) {
    if (s < steps) operands.left(a, s * STAGE, s * DEPTH), operands.right(b, s * STAGE, s * DEPTH);
    commit_copies();
  }
  for (unsigned s = 0; s < steps; s++) {
    wait_copies<STAGES - 2>();
    block_sync();
    // The stage that was multiplied in the step before.
    unsigned later = s + STAGES - 1, into = later % STAGES * STAGE, stage = s % STAGES * STAGE;
    if (later < steps) operands.left(a, into, later * DEPTH), operands.right(b, into, later * DEPTH);
    commit_copies();
#pragma unroll
    for (unsigned k = 0; k < DEPTH; k += 16) {
      uint32_t x[4][4], y[2][4];
#pragma unroll
      for (int i = 0; i < 4; i++) left_fragment<FORM != Form::Weight>(a, stage, m + i * 16, k, x[i]);
#pragma unroll
      for (int j = 0; j < 2; j++) right_fragment<FORM == Form::Forward>(b, stage, n + j * 16, k, y[j]);
#pragma unroll
      for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
          uint32_t half[2] = {y[j / 2][j % 2 * 2], y[j / 2][j % 2 * 2 + 1]};
          mma(sums[i][j], x[i], half);
        }
    }
  }
  wait_copies<0>();
  Out *c = (Out *)p.c + (grouped ? 0 : blockIdx.z * p.c_apart);
  unsigned l = lane(), first = grouped ? tile.first : blockIdx.y * SIDE, end = grouped ? tile.end : p.m;
#pragma unroll
  for (int i = 0; i < 4; i++)
#pragma unroll
    for (int half = 0; half < 2; half++) {
      unsigned r = first + m + i * 16 + half * 8 + l / 4;
      if (r >= end) continue;
      if (EPILOGUE == Epilogue::Store) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
          unsigned column = blockIdx.x * SIDE + n + j * 8 + l % 4 * 2;
          if (column < p.n) store(p, c + size_t(r) * p.n + column, column + 1 < p.n, sums[i][j][half * 2], sums[i][j][half * 2 + 1]);
        }
      } else {
#pragma unroll
        for (int j = 0; j < 4; j += 2)
#pragma unroll
          for (int v = 0; v < 2; v++) {
            unsigned unit = blockIdx.x * (SIDE / 2) + n / 2 + j * 4 + l % 4 * 2 + v;
            if (unit >= p.n) continue;
            float gate = sums[i][j][half * 2 + v], up = sums[i][j + 1][half * 2 + v];
            if (p.kept) {
              Out *kept = (Out *)p.kept + size_t(r) * 2 * p.n;
              kept[unit] = from_float<Out>(gate), kept[p.n + unit] = from_float<Out>(up);
            }
            c[size_t(r) * p.n + unit] = from_float<Out>(gate * sigmoid(gate) * up);
          }
      }
    }
}
