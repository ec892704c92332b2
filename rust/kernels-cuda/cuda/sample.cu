// A token for each row of logits: the likeliest, or one drawn by the counter-based generator of the CPU's kernels. A block a row.
#include "device.cuh"

constexpr unsigned DRAW_THREADS = 256;

struct Draw {
  const float *logits;      // (rows, width), of which `vocabulary` count
  const uint64_t *keys;     // (rows)
  const uint64_t *counters; // (rows)
  const float *temperatures;  // (rows); 0 takes the likeliest
  const float *least;       // (rows): tokens at least this share as likely as the likeliest
  unsigned *tokens;         // (rows); `vocabulary` where no logit is above -inf
  unsigned rows, vocabulary, width;
};

DEVICE uint64_t finalise(uint64_t x) {
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ x >> 27) * 0x94d049bb133111ebull;
  return x ^ x >> 31;
}

// In [0, 1): two rounds of the SplitMix64 finaliser (Steele, Lea & Flood 2014).
DEVICE double uniform(uint64_t key, uint64_t counter) {
  uint64_t mixed = finalise(finalise(key ^ 0x9e3779b97f4a7c15ull) + counter * 0x9e3779b97f4a7c15ull);
  return double(mixed >> 11) / 9007199254740992.0;
}

// NaN weighs nothing, and beside +inf nothing else does.
DEVICE double weigh(float x, float most, double inverse) {
  if (x < most) return exp(double(x - most) * inverse);
  return x == most ? 1.0 : 0.0;
}

KERNEL(DRAW_THREADS) draw(Draw d) {
  Arena arena;
  auto values = arena.take<float>(DRAW_THREADS);
  auto places = arena.take<unsigned>(DRAW_THREADS);
  auto sums = arena.take<double>(DRAW_THREADS);
  unsigned row = blockIdx.x, t = threadIdx.x;
  const float *x = d.logits + size_t(row) * d.width;
  // A thread has neighbouring tokens, so that sums go up in the order of the indices.
  unsigned own = (d.vocabulary + DRAW_THREADS - 1) / DRAW_THREADS, first = t * own;
  unsigned end = first + own < d.vocabulary ? first + own : d.vocabulary;
  float most = as_float(0xff800000);
  unsigned at = d.vocabulary;
  for (unsigned i = first; i < end; i++)
    if (x[i] > most) most = x[i], at = i;
  values[t] = most, places[t] = at;
  block_sync();
  for (unsigned i = 0; i < DRAW_THREADS; i++) {
    float other = values[i];
    if (other > most || (other == most && places[i] < at)) most = other, at = places[i];
  }
  if (d.temperatures[row] == 0.0f || at == d.vocabulary) {
    if (t == 0) d.tokens[row] = at;
    return;
  }
  double inverse = 1.0 / double(d.temperatures[row]), least = double(d.least[row]), sum = 0.0;
  for (unsigned i = first; i < end; i++) {
    double weight = weigh(x[i], most, inverse);
    if (weight >= least) sum += weight;
  }
  sums[t] = sum;
  block_sync();
  if (t) return;
  double mass = 0.0;
  for (unsigned i = 0; i < DRAW_THREADS; i++) mass += sums[i];
  double left = uniform(d.keys[row], d.counters[row]) * mass;
  unsigned part = 0;
  while (part + 1 < DRAW_THREADS && left >= sums[part]) left -= sums[part], part++;
  // Rounding may leave a crumb: the last token with any weight takes it.
  unsigned token = at;
  for (unsigned i = part * own; i < d.vocabulary; i++) {
    double weight = weigh(x[i], most, inverse);
    if (weight < least || weight == 0.0) continue;
    token = i;
    left -= weight;
    if (left < 0.0) break;
  }
  d.tokens[row] = token;
}
EXPORT(draw)
