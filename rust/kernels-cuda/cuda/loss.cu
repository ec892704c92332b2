// Rows of logits: log-probabilities, entropy, cross-entropy and its gradient. A block a row.
#include "device.cuh"

constexpr unsigned ROW_THREADS = 256;

// Over a block, in a fixed order, in every thread; `scratch` has a place for each warp and is free again afterwards.
DEVICE float block_sum(float x, Shared<float> scratch) {
  x = warp_sum(x);
  if (lane() == 0) scratch[warp()] = x;
  block_sync();
  float sum = 0.0f;
  for (unsigned w = 0; w < ROW_THREADS / WARP_SIZE; w++) sum += scratch[w];
  block_sync();
  return sum;
}

DEVICE float block_max(float x, Shared<float> scratch) {
  x = warp_max(x);
  if (lane() == 0) scratch[warp()] = x;
  block_sync();
  float most = scratch[0];
  for (unsigned w = 1; w < ROW_THREADS / WARP_SIZE; w++) most = fmaxf(most, scratch[w]);
  block_sync();
  return most;
}

struct Rows {
  float *logits;            // (rows, width), of which `vocabulary` count
  const unsigned *targets;  // (rows)
  const float *scale;       // (rows)
  float *logprobs;          // (rows): of the targets
  float *entropies;         // (rows), nats
  unsigned rows, vocabulary, width;
};

KERNEL(ROW_THREADS) log_probabilities(Rows r) {
  Arena arena;
  auto scratch = arena.take<float>(ROW_THREADS / WARP_SIZE);
  unsigned row = blockIdx.x;
  const float *x = r.logits + size_t(row) * r.width;
  float most = as_float(0xff800000), sum = 0.0f, along = 0.0f;
  for (unsigned i = threadIdx.x; i < r.vocabulary; i += ROW_THREADS) most = fmaxf(most, x[i]);
  most = block_max(most, scratch);
  for (unsigned i = threadIdx.x; i < r.vocabulary; i += ROW_THREADS) {
    float e = expf(x[i] - most);
    sum += e;
    // A probability of zero adds nothing, however low its logit.
    if (e > 0.0f) along = fmaf(e, x[i] - most, along);
  }
  sum = block_sum(sum, scratch);
  along = block_sum(along, scratch);
  if (threadIdx.x) return;
  r.logprobs[row] = x[r.targets[row]] - most - logf(sum);
  r.entropies[row] = logf(sum) - along / sum;
}
EXPORT(log_probabilities)

// Turns logits into the gradient of `scale` times their cross-entropy; zero in the padding.
KERNEL(ROW_THREADS) cross_entropy(Rows r) {
  Arena arena;
  auto scratch = arena.take<float>(ROW_THREADS / WARP_SIZE);
  unsigned row = blockIdx.x, target = r.targets[row];
  float *x = r.logits + size_t(row) * r.width;
  float most = as_float(0xff800000), sum = 0.0f, wanted = x[target];
  for (unsigned i = threadIdx.x; i < r.vocabulary; i += ROW_THREADS) most = fmaxf(most, x[i]);
  most = block_max(most, scratch);
  for (unsigned i = threadIdx.x; i < r.vocabulary; i += ROW_THREADS) sum += expf(x[i] - most);
  sum = block_sum(sum, scratch);
  float share = r.scale[row] / sum;
  for (unsigned i = threadIdx.x; i < r.width; i += ROW_THREADS) {
    float slope = i < r.vocabulary ? expf(x[i] - most) * share : 0.0f;
    x[i] = i == target ? slope - r.scale[row] : slope;
  }
  if (threadIdx.x == 0) r.logprobs[row] = wanted - most - logf(sum);
}
EXPORT(cross_entropy)
