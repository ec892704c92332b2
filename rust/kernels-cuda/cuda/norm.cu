// Root-mean-square normalisation of pieces of rows, and rotary embedding.
#include "device.cuh"

struct Norm {
  const float *x, *gain;
  float *y, *inverse;   // inverse: (rows, groups), 1/rms
  unsigned rows, groups, width, count, x_step, y_step;
  float epsilon;
};

// A warp a piece: y = g x / sqrt(mean(x²) + ε), the mean over `count` numbers of `width`.
KERNEL(128) rms_norm(Norm n) {
  unsigned piece = blockIdx.x * warps() + warp();
  if (piece >= n.rows * n.groups) return;
  unsigned at = piece % n.groups * n.width;
  const float *x = n.x + size_t(piece / n.groups) * n.x_step + at;
  float *y = n.y + size_t(piece / n.groups) * n.y_step + at, sum = 0.0f;
  for (unsigned j = lane(); j < n.width; j += WARP_SIZE) sum = fmaf(x[j], x[j], sum);
  float scale = 1.0f / sqrtf(warp_sum(sum) / float(n.count) + n.epsilon);
  for (unsigned j = lane(); j < n.width; j += WARP_SIZE) y[j] = x[j] * scale * n.gain[j];
  if (lane() == 0) n.inverse[piece] = scale;
}
EXPORT(rms_norm)

struct NormBackward {
  const float *x, *gain, *inverse, *dy;
  float *dx;
  unsigned rows, groups, width, count, x_step, dy_step, dx_step, add;
};

KERNEL(128) rms_norm_backward(NormBackward n) {
  unsigned piece = blockIdx.x * warps() + warp();
  if (piece >= n.rows * n.groups) return;
  unsigned row = piece / n.groups, at = piece % n.groups * n.width;
  const float *x = n.x + size_t(row) * n.x_step + at, *dy = n.dy + size_t(row) * n.dy_step + at;
  float *dx = n.dx + size_t(row) * n.dx_step + at, along = 0.0f, scale = n.inverse[piece];
  for (unsigned j = lane(); j < n.width; j += WARP_SIZE) along = fmaf(dy[j] * x[j], n.gain[j], along);
  float back = -warp_sum(along) * scale * scale * scale / float(n.count);
  for (unsigned j = lane(); j < n.width; j += WARP_SIZE) {
    float slope = fmaf(x[j], back, dy[j] * n.gain[j] * scale);
    dx[j] = n.add ? dx[j] + slope : slope;
  }
}
EXPORT(rms_norm_backward)

struct Rotate {
  const float *x;
  float *y;
  const float *cosines, *sines;   // (positions, half)
  const unsigned *positions;      // (rows)
  unsigned rows, heads, width, half, x_step, y_step;
  float sign;                     // -1: back
};

// Pairs (i, i + half) of every head; the other dimensions stay. A block a row; `y` may be `x`.
KERNEL(128) rotate(Rotate r) {
  for (unsigned row = blockIdx.x; row < r.rows; row += gridDim.x) {
    const float *cosine = r.cosines + size_t(r.positions[row]) * r.half, *sine = r.sines + size_t(r.positions[row]) * r.half;
    unsigned rest = r.width - r.half;
    // A thread has both of a pair, or one of the others.
    for (unsigned i = threadIdx.x; i < r.heads * rest; i += 128) {
      unsigned j = i % rest, at = i / rest * r.width + j;
      const float *x = r.x + size_t(row) * r.x_step;
      float *y = r.y + size_t(row) * r.y_step;
      if (j >= r.half) {
        y[at + r.half] = x[at + r.half];
        continue;
      }
      float first = x[at], second = x[at + r.half], sin = r.sign * sine[j];
      y[at] = fmaf(second, -sin, first * cosine[j]);
      y[at + r.half] = fmaf(first, sin, second * cosine[j]);
    }
  }
}
EXPORT(rotate)
