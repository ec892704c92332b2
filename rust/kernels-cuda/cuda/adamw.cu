// Sums of gradients, and AdamW (Loshchilov & Hutter 2019) with f32 state: one pass over weights, gradient and moments.
#include "device.cuh"

struct AdamW {
  const float *gradient;
  float *weight, *first, *second;
  bf16 *rounded;   // the weights in bf16 for products, or none
  size_t count;
  // Learning rate and root of the second moment's correction, both with their corrections; then as of the CPU's kernel.
  float step, root, keep, new1, beta2, new2, epsilon, gradient_scale;
};

KERNEL(256) adamw(AdamW a) {
  size_t i = size_t(blockIdx.x) * 256 + threadIdx.x;
  if (i >= a.count) return;
  float slope = a.gradient[i] * a.gradient_scale;
  float mean = fmaf(slope - a.first[i], a.new1, a.first[i]);
  float spread = fmaf(slope * a.new2, slope, a.second[i] * a.beta2);
  a.first[i] = mean, a.second[i] = spread;
  float down = mean / (sqrtf(spread) / a.root + a.epsilon);
  float weight = a.weight[i] * a.keep - a.step * down;
  a.weight[i] = weight;
  if (a.rounded) a.rounded[i] = to_bf16(weight);
}
EXPORT(adamw)

// to += from.
KERNEL(256) add(const float *from, float *to, size_t count) {
  size_t i = size_t(blockIdx.x) * 256 + threadIdx.x;
  if (i < count) to[i] += from[i];
}
EXPORT(add)

// parts: Σ x² of each 4,096 numbers, in double precision and a fixed order.
KERNEL(256) sum_squares(const float *x, double *parts, size_t count) {
  Arena arena;
  auto sums = arena.take<double>(8);
  double sum = 0.0;
  for (unsigned k = 0; k < 16; k++) {
    size_t i = size_t(blockIdx.x) * 4096 + k * 256 + threadIdx.x;
    if (i < count) sum += double(x[i]) * double(x[i]);
  }
  sum = warp_sum(sum);
  if (lane() == 0) sums[warp()] = sum;
  block_sync();
  if (threadIdx.x) return;
  double total = 0.0;
  for (unsigned w = 0; w < 8; w++) total += sums[w];
  parts[blockIdx.x] = total;
}
EXPORT(sum_squares)
