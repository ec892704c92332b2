// Grouped products of f32 on the ordinary cores: tiles of 64 x 64, a thread has 4 x 4 sums. Each is added up over k in ascending
// order by fused multiply-adds, so a row's result depends on that row alone.
#include "tensor.cuh"

constexpr unsigned SIDE = 64, DEPTH = 16, THREADS = 256, PITCH = SIDE + 4;

// Row of the weight for a column of the tile: gates and ups alternate, four by four, so that a thread has both.
template <Epilogue EPILOGUE> DEVICE unsigned weight_row(const Product &p, unsigned n0, unsigned column, bool &in) {
  if (EPILOGUE == Epilogue::Store) {
    in = n0 + column < p.n;
    return n0 + column;
  }
  unsigned unit = n0 / 2 + column / 8 * 4 + column % 4;
  in = unit < p.n;
  return column / 4 % 2 ? p.n + unit : unit;
}

template <Form FORM, Epilogue EPILOGUE> DEVICE void multiply(const Product &p) {
  Arena arena;
  auto a = arena.take<float>(DEPTH * PITCH);
  auto b = arena.take<float>(DEPTH * PITCH);
  unsigned t = threadIdx.x, n0 = blockIdx.x * SIDE, m0 = blockIdx.y * SIDE;
  Tile tile = FORM == Form::Weight ? rows_of(p, blockIdx.z) : tile_of(p, blockIdx.y, SIDE);
  if (FORM != Form::Weight && tile.group >= p.groups) return;
  unsigned depth = FORM == Form::Weight ? tile.end - tile.first : p.k;
  const float *left = (const float *)p.a;
  const float *right = (const float *)((const char *)p.b + (FORM == Form::Weight ? 0 : tile.group * p.b_apart));
  // A thread's columns; with SwiGLU its gates, and its ups four further on.
  constexpr bool SWIGLU = EPILOGUE == Epilogue::Swiglu;
  unsigned row = SWIGLU ? t / 8 * 2 : t / 16 * 4, column = SWIGLU ? t % 8 * 8 : t % 16 * 4;
  float sums[4][4] = {};
  for (unsigned k0 = 0; k0 < depth; k0 += DEPTH) {
    for (unsigned i = t; i < SIDE * DEPTH; i += THREADS) {
      if (FORM == Form::Weight) {
        unsigned m = i % SIDE, k = i / SIDE, r = tile.first + k0 + k;
        bool in = k0 + k < depth && m0 + m < p.m;
        a[k * PITCH + m] = in ? left[size_t(p.a_rows ? p.a_rows[r] : r) * p.m + m0 + m] : 0.0f;
      } else {
        unsigned m = i / DEPTH, k = i % DEPTH, r = tile.first + m;
        bool in = r < tile.end && k0 + k < depth;
        a[k * PITCH + m] = in ? left[size_t(p.a_rows ? p.a_rows[r] : r) * p.k + k0 + k] : 0.0f;
      }
      if (FORM == Form::Forward) {
        unsigned n = i / DEPTH, k = i % DEPTH;
        bool in;
        unsigned from = weight_row<EPILOGUE>(p, n0, n, in);
        b[k * PITCH + n] = in && k0 + k < depth ? right[size_t(from) * p.k + k0 + k] : 0.0f;
      } else {
        unsigned n = i % SIDE, k = i / SIDE, r = FORM == Form::Weight ? tile.first + k0 + k : k0 + k;
        bool in = k0 + k < depth && n0 + n < p.n;
        b[k * PITCH + n] = in ? right[size_t(FORM == Form::Weight && p.b_rows ? p.b_rows[r] : r) * p.n + n0 + n] : 0.0f;
      }
    }
    block_sync();
#pragma unroll
    for (unsigned k = 0; k < DEPTH; k++) {
      if (SWIGLU) {
        // 2 rows, 8 columns: 4 gates and their ups.
        float x[2], y[8];
        for (int i = 0; i < 2; i++) x[i] = a[k * PITCH + row + i];
        for (int j = 0; j < 8; j++) y[j] = b[k * PITCH + column + j];
        for (int i = 0; i < 2; i++)
          for (int j = 0; j < 8; j++) sums[i * 2 + j / 4][j % 4] = fmaf(x[i], y[j], sums[i * 2 + j / 4][j % 4]);
      } else {
        float x[4], y[4];
        for (int i = 0; i < 4; i++) x[i] = a[k * PITCH + row + i];
        for (int j = 0; j < 4; j++) y[j] = b[k * PITCH + column + j];
        for (int i = 0; i < 4; i++)
          for (int j = 0; j < 4; j++) sums[i][j] = fmaf(x[i], y[j], sums[i][j]);
      }
    }
    block_sync();
  }
  float *c = (float *)p.c + (FORM == Form::Weight ? blockIdx.z * p.c_apart : 0);
  if constexpr (SWIGLU) {
    for (unsigned i = 0; i < 2; i++)
      for (int j = 0; j < 4; j++) {
        unsigned r = tile.first + row + i, n = n0 / 2 + column / 2 + j;
        if (r >= tile.end || n >= p.n) continue;
        float gate = sums[i * 2][j], up = sums[i * 2 + 1][j];
        if (p.kept) {
          float *kept = (float *)p.kept + size_t(r) * 2 * p.n;
          kept[n] = gate, kept[p.n + n] = up;
        }
        c[size_t(r) * p.n + n] = gate * sigmoid(gate) * up;
      }
  } else {
    for (int i = 0; i < 4; i++)
      for (int j = 0; j < 4; j++) {
        unsigned r = FORM == Form::Weight ? m0 + row + i : tile.first + row + i, n = n0 + column + j;
        if (r >= (FORM == Form::Weight ? p.m : tile.end) || n >= p.n) continue;
        float &to = c[size_t(r) * p.n + n];
        to = p.add ? to + sums[i][j] : sums[i][j];
      }
  }
}

KERNEL(THREADS) forward_f32(Product p) { multiply<Form::Forward, Epilogue::Store>(p); }
EXPORT(forward_f32)
KERNEL(THREADS) swiglu_f32(Product p) { multiply<Form::Forward, Epilogue::Swiglu>(p); }
EXPORT(swiglu_f32)
KERNEL(THREADS) input_f32(Product p) { multiply<Form::Input, Epilogue::Store>(p); }
EXPORT(input_f32)
KERNEL(THREADS) weight_f32(Product p) { multiply<Form::Weight, Epilogue::Store>(p); }
EXPORT(weight_f32)
