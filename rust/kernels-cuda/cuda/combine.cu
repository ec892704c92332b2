// What stands between the experts' products: sums over a token's copies, and SwiGLU backward.
#include "device.cuh"

struct Combine {
  const void *rows;        // (copies, width), in expert order
  const unsigned *slots;   // (tokens, chosen): row of each copy; none: token after token
  const float *weights;    // (tokens, chosen), or none: each counts once
  const float *residual;   // (tokens, width), or none
  float *out;              // (tokens, width)
  unsigned tokens, chosen, width;
};

// Residual plus the weighted rows, one after another in the order of the token's choice: the same bits every time.
template <class T> DEVICE void combine(const Combine &c) {
  unsigned column = blockIdx.x * blockDim.x + threadIdx.x, token = blockIdx.y;
  for (; token < c.tokens; token += gridDim.y) {
    if (column >= c.width) return;
    size_t at = size_t(token) * c.width + column;
    float sum = c.residual ? c.residual[at] : 0.0f;
    for (unsigned j = 0; j < c.chosen; j++) {
      unsigned copy = token * c.chosen + j, row = c.slots ? c.slots[copy] : copy;
      float x = to_float(((const T *)c.rows)[size_t(row) * c.width + column]);
      sum = c.weights ? fmaf(c.weights[copy], x, sum) : sum + x;
    }
    c.out[at] = sum;
  }
}

KERNEL(128) combine_f32(Combine c) { combine<float>(c); }
EXPORT(combine_f32)
KERNEL(128) combine_bf16(Combine c) { combine<bf16>(c); }
EXPORT(combine_bf16)

// By choice, in whatever order blocks come: adds each row's share to what `out` holds.
KERNEL(128) combine_atomic(Combine c, const unsigned *tokens, unsigned copies) {
  unsigned column = blockIdx.x * blockDim.x + threadIdx.x;
  for (unsigned row = blockIdx.y; row < copies; row += gridDim.y)
    if (column < c.width) {
      float x = ((const float *)c.rows)[size_t(row) * c.width + column];
      atomic_add(&c.out[size_t(tokens[row]) * c.width + column], c.weights[row] * x);
    }
}
EXPORT(combine_atomic)

struct SwigluBackward {
  const float *dactivations;  // (rows, width): before the routing weight
  const float *weights;       // (rows): of each row
  const void *gate_up;        // (rows, 2 width)
  void *activations;          // (rows, width): in place times the routing weight
  void *dgate_up;             // (rows, 2 width)
  float *dweights;            // (rows)
  const unsigned *rows;       // how many there are, on the device
  unsigned width;
};

// A warp a row: dweight = dact · act, then dact times the weight through SwiGLU.
template <class T> DEVICE void swiglu_backward(const SwigluBackward &s) {
  unsigned row = blockIdx.x * warps() + warp();
  if (row >= *s.rows) return;
  float weight = s.weights[row], along = 0.0f;
  const float *dact = s.dactivations + size_t(row) * s.width;
  const T *gate_up = (const T *)s.gate_up + size_t(row) * 2 * s.width;
  T *act = (T *)s.activations + size_t(row) * s.width, *dgate_up = (T *)s.dgate_up + size_t(row) * 2 * s.width;
  for (unsigned j = lane(); j < s.width; j += WARP_SIZE) {
    float gate = to_float(gate_up[j]), up = to_float(gate_up[s.width + j]);
    float slope = dact[j], s1 = sigmoid(gate), silu = gate * s1;
    float a = to_float(act[j]);
    along = fmaf(slope, a, along);
    slope *= weight;
    dgate_up[s.width + j] = from_float<T>(slope * silu);
    // silu' = s + x s (1 - s)
    dgate_up[j] = from_float<T>(slope * up * fmaf(silu, 1.0f - s1, s1));
    act[j] = from_float<T>(a * weight);
  }
  along = warp_sum(along);
  if (lane() == 0) s.dweights[row] = along;
}

KERNEL(128) swiglu_backward_f32(SwigluBackward s) { swiglu_backward<float>(s); }
EXPORT(swiglu_backward_f32)
KERNEL(128) swiglu_backward_bf16(SwigluBackward s) { swiglu_backward<bf16>(s); }
EXPORT(swiglu_backward_bf16)

// f32 rounded to bf16.
KERNEL(256) round_bf16(const float *from, bf16 *to, size_t count) {
  size_t i = size_t(blockIdx.x) * 256 + threadIdx.x;
  if (i < count) to[i] = to_bf16(from[i]);
}
EXPORT(round_bf16)
