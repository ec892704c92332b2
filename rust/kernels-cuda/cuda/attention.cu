// Causal attention with grouped heads, over packed sequences or blocks of a cache, and its gradients. A warp has one query row of
// one head; its lanes have a key each for scores and some dimensions each for sums. A row's order of sums follows from its own
// keys alone, and is the same in blocks as in packed rows.
#include "device.cuh"

constexpr unsigned ATTEND_THREADS = 128, DIMENSIONS = 8, POSITIONS = 16;

struct Attend {
  const float *queries;     // (rows, heads width)
  const float *keys;        // (tokens, key_step)
  const float *values;
  float *out;               // (rows, heads width)
  float *logs;              // (rows, heads): ln Σ exp of the scores, or none
  const unsigned *last;     // (rows): the last position that each sees
  const unsigned *first;    // (rows): token of its sequence's first position; of a cache: where its blocks begin among `blocks`
  const float *const *blocks;   // of a cache
  size_t layer_floats;      // where a layer begins in a block
  unsigned rows, heads, key_heads, width, key_step, value_step;
  float scale;
};

struct Packed {
  static DEVICE const float *key(const Attend &a, unsigned row, unsigned position, unsigned head) {
    return a.keys + size_t(a.first[row] + position) * a.key_step + head * a.width;
  }
  static DEVICE const float *value(const Attend &a, unsigned row, unsigned position, unsigned head) {
    return a.values + size_t(a.first[row] + position) * a.value_step + head * a.width;
  }
};

// A layer's part of a block: keys of sixteen positions, then their values.
struct Paged {
  static DEVICE const float *at(const Attend &a, unsigned row, unsigned position, unsigned head) {
    const float *block = a.blocks[a.first[row] + position / POSITIONS];
    return block + a.layer_floats + (position % POSITIONS * a.key_heads + head) * a.width;
  }
  static DEVICE const float *key(const Attend &a, unsigned row, unsigned position, unsigned head) { return at(a, row, position, head); }
  static DEVICE const float *value(const Attend &a, unsigned row, unsigned position, unsigned head) {
    return at(a, row, position, head) + POSITIONS * a.key_heads * a.width;
  }
};

DEVICE float inner(const float *x, Shared<float> shared, unsigned at, unsigned width) {
  float even = 0.0f, odd = 0.0f;
  for (unsigned d = 0; d + 1 < width; d += 2) even = fmaf(x[d], shared[at + d], even), odd = fmaf(x[d + 1], shared[at + d + 1], odd);
  if (width % 2) even = fmaf(x[width - 1], shared[at + width - 1], even);
  return even + odd;
}

template <class Source> DEVICE void attend(const Attend &a) {
  Arena arena;
  auto query = arena.take<float>(ATTEND_THREADS / WARP_SIZE * a.width);
  unsigned pair = blockIdx.x * warps() + warp(), l = lane(), at = warp() * a.width;
  if (pair >= a.rows * a.heads) return;
  unsigned row = pair / a.heads, head = pair % a.heads, key_head = head / (a.heads / a.key_heads);
  for (unsigned d = l; d < a.width; d += WARP_SIZE) query[at + d] = a.queries[size_t(pair) * a.width + d];
  warp_sync();
  float most = as_float(0xff800000), sum = 0.0f, out[DIMENSIONS] = {};
  unsigned end = a.last[row] + 1;
  for (unsigned base = 0; base < end; base += WARP_SIZE) {
    unsigned position = base + l, count = end - base < WARP_SIZE ? end - base : WARP_SIZE;
    float score = as_float(0xff800000);
    if (l < count) score = a.scale * inner(Source::key(a, row, position, key_head), query, at, a.width);
    float more = fmaxf(most, warp_max(score));
    float weight = l < count ? expf(score - more) : 0.0f, shrink = expf(most - more);
    sum = fmaf(sum, shrink, warp_sum(weight));
    most = more;
#pragma unroll
    for (unsigned i = 0; i < DIMENSIONS; i++) out[i] *= shrink;
    for (unsigned j = 0; j < count; j++) {
      float share = shuffle(weight, j);
      const float *value = Source::value(a, row, base + j, key_head);
#pragma unroll
      for (unsigned i = 0; i < DIMENSIONS; i++)
        if (i * WARP_SIZE + l < a.width) out[i] = fmaf(share, value[i * WARP_SIZE + l], out[i]);
    }
  }
#pragma unroll
  for (unsigned i = 0; i < DIMENSIONS; i++)
    if (i * WARP_SIZE + l < a.width) a.out[size_t(pair) * a.width + i * WARP_SIZE + l] = out[i] / sum;
  if (a.logs && l == 0) a.logs[pair] = most + logf(sum);
}

KERNEL(ATTEND_THREADS) attend_packed(Attend a) { attend<Packed>(a); }
EXPORT(attend_packed)
KERNEL(ATTEND_THREADS) attend_paged(Attend a) { attend<Paged>(a); }
EXPORT(attend_paged)

struct AttendBackward {
  Attend forward;             // with `out` and `logs` as it left them
  const float *dout;          // (rows, heads width)
  float *along;               // (rows, heads): dout · out
  float *dqueries;            // (rows, heads width)
  float *dkeys, *dvalues;     // (tokens, key_heads width), rows `dkey_step` and `dvalue_step` apart
  const unsigned *index;      // (tokens): position in its sequence
  const unsigned *row_first, *row_end;  // (tokens): query rows of its sequence
  unsigned tokens, dkey_step, dvalue_step;
};

// A warp a query row and head: with p the probabilities, ds = p (dout · v - dout · out) scale, dq = Σ ds k.
KERNEL(ATTEND_THREADS) attend_backward_queries(AttendBackward b) {
  const Attend &a = b.forward;
  Arena arena;
  auto query = arena.take<float>(ATTEND_THREADS / WARP_SIZE * a.width);
  auto slope = arena.take<float>(ATTEND_THREADS / WARP_SIZE * a.width);
  unsigned pair = blockIdx.x * warps() + warp(), l = lane(), at = warp() * a.width;
  if (pair >= a.rows * a.heads) return;
  unsigned row = pair / a.heads, key_head = pair % a.heads / (a.heads / a.key_heads);
  float along = 0.0f, sums[DIMENSIONS] = {};
  for (unsigned d = l; d < a.width; d += WARP_SIZE) {
    size_t i = size_t(pair) * a.width + d;
    query[at + d] = a.queries[i], slope[at + d] = b.dout[i];
    along = fmaf(b.dout[i], a.out[i], along);
  }
  warp_sync();
  along = warp_sum(along);
  if (l == 0) b.along[pair] = along;
  unsigned end = a.last[row] + 1;
  for (unsigned base = 0; base < end; base += WARP_SIZE) {
    unsigned count = end - base < WARP_SIZE ? end - base : WARP_SIZE;
    float ds = 0.0f;
    if (l < count) {
      float p = expf(a.scale * inner(Packed::key(a, row, base + l, key_head), query, at, a.width) - a.logs[pair]);
      ds = p * (inner(Packed::value(a, row, base + l, key_head), slope, at, a.width) - along) * a.scale;
    }
    for (unsigned j = 0; j < count; j++) {
      float share = shuffle(ds, j);
      const float *key = Packed::key(a, row, base + j, key_head);
#pragma unroll
      for (unsigned i = 0; i < DIMENSIONS; i++)
        if (i * WARP_SIZE + l < a.width) sums[i] = fmaf(share, key[i * WARP_SIZE + l], sums[i]);
    }
  }
#pragma unroll
  for (unsigned i = 0; i < DIMENSIONS; i++)
    if (i * WARP_SIZE + l < a.width) b.dqueries[size_t(pair) * a.width + i * WARP_SIZE + l] = sums[i];
}
EXPORT(attend_backward_queries)

// A warp a key: dk = Σ ds q and dv = Σ p dout over the heads of its group, and over the rows that see it.
KERNEL(ATTEND_THREADS) attend_backward_keys(AttendBackward b) {
  const Attend &a = b.forward;
  Arena arena;
  auto key = arena.take<float>(ATTEND_THREADS / WARP_SIZE * a.width);
  auto value = arena.take<float>(ATTEND_THREADS / WARP_SIZE * a.width);
  unsigned pair = blockIdx.x * warps() + warp(), l = lane(), at = warp() * a.width;
  if (pair >= b.tokens * a.key_heads) return;
  unsigned token = pair / a.key_heads, key_head = pair % a.key_heads, group = a.heads / a.key_heads;
  for (unsigned d = l; d < a.width; d += WARP_SIZE) {
    key[at + d] = a.keys[size_t(token) * a.key_step + key_head * a.width + d];
    value[at + d] = a.values[size_t(token) * a.value_step + key_head * a.width + d];
  }
  warp_sync();
  float dkey[DIMENSIONS] = {}, dvalue[DIMENSIONS] = {};
  for (unsigned head = key_head * group; head < (key_head + 1) * group; head++)
    for (unsigned base = b.row_first[token]; base < b.row_end[token]; base += WARP_SIZE) {
      unsigned row = base + l, count = b.row_end[token] - base < WARP_SIZE ? b.row_end[token] - base : WARP_SIZE;
      float ds = 0.0f, p = 0.0f;
      if (l < count && a.last[row] >= b.index[token]) {
        size_t i = size_t(row) * a.heads + head;
        p = expf(a.scale * inner(a.queries + i * a.width, key, at, a.width) - a.logs[i]);
        ds = p * (inner(b.dout + i * a.width, value, at, a.width) - b.along[i]) * a.scale;
      }
      for (unsigned j = 0; j < count; j++) {
        float key_share = shuffle(ds, j), value_share = shuffle(p, j);
        size_t i = (size_t(base + j) * a.heads + head) * a.width;
#pragma unroll
        for (unsigned d = 0; d < DIMENSIONS; d++)
          if (d * WARP_SIZE + l < a.width) {
            dkey[d] = fmaf(key_share, a.queries[i + d * WARP_SIZE + l], dkey[d]);
            dvalue[d] = fmaf(value_share, b.dout[i + d * WARP_SIZE + l], dvalue[d]);
          }
      }
    }
#pragma unroll
  for (unsigned d = 0; d < DIMENSIONS; d++)
    if (d * WARP_SIZE + l < a.width) {
      b.dkeys[size_t(token) * b.dkey_step + key_head * a.width + d * WARP_SIZE + l] = dkey[d];
      b.dvalues[size_t(token) * b.dvalue_step + key_head * a.width + d * WARP_SIZE + l] = dvalue[d];
    }
}
EXPORT(attend_backward_keys)

// Writes rows of keys and values to their places in a cache's blocks; `blocks` and `positions` have one of each row.
KERNEL(128) append_paged(const float *keys, unsigned key_step, const float *values, unsigned value_step, float *const *blocks, const unsigned *positions, size_t layer_floats, unsigned rows, unsigned width) {
  unsigned column = blockIdx.x * 128 + threadIdx.x;
  for (unsigned row = blockIdx.y; row < rows; row += gridDim.y) {
    if (column >= width) return;
    float *to = blocks[row] + layer_floats + positions[row] % POSITIONS * width + column;
    to[0] = keys[size_t(row) * key_step + column];
    to[POSITIONS * width] = values[size_t(row) * value_step + column];
  }
}
EXPORT(append_paged)
