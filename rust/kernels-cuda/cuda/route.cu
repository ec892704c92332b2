// Routing: which experts each token goes to, with which weights, and the order of all copies by expert. Nothing here asks the
// host: grids follow from the number of tokens alone, so a graph can capture it.
#include "device.cuh"

// As `Rule` of the CPU's kernels.
enum Rule : unsigned { SIGMOID = 0, SOFTMAX = 1, SOFTMAX_NORMALISED = 2 };

constexpr unsigned ROUTE_THREADS = 128;
constexpr unsigned ROUTE_TOKENS = 32;   // of a block
constexpr unsigned ROUTE_EXPERTS = 64;  // of a step of its product
constexpr unsigned ROUTE_DEPTH = 16;

struct Route {
  const float *h, *router;  // (tokens, hidden), (experts, hidden)
  const float *bias;        // (experts), or none
  float *scores;            // (tokens, stride): sigmoid or softmax of the logits; zero in the padding
  unsigned *experts;        // (tokens, chosen), the best first
  float *weights;           // (tokens, chosen)
  unsigned tokens, hidden, among, chosen, stride;
  Rule rule;
};

// Logits of a block's tokens: each is one thread's sum over the columns in ascending order, whatever else is in the batch.
DEVICE void router_logits(const Route &r, unsigned first, Shared<float> rows, Shared<float> columns, Shared<float> logits) {
  unsigned t = threadIdx.x, row = t / 16 * 4, column = t % 16 * 4;
  for (unsigned e0 = 0; e0 < r.among; e0 += ROUTE_EXPERTS) {
    float sums[4][4] = {};
    for (unsigned k0 = 0; k0 < r.hidden; k0 += ROUTE_DEPTH) {
      for (unsigned i = t; i < ROUTE_TOKENS * ROUTE_DEPTH; i += ROUTE_THREADS) {
        unsigned m = i / ROUTE_DEPTH, k = i % ROUTE_DEPTH;
        bool in = first + m < r.tokens && k0 + k < r.hidden;
        rows[k * (ROUTE_TOKENS + 1) + m] = in ? r.h[size_t(first + m) * r.hidden + k0 + k] : 0.0f;
      }
      for (unsigned i = t; i < ROUTE_EXPERTS * ROUTE_DEPTH; i += ROUTE_THREADS) {
        unsigned e = i / ROUTE_DEPTH, k = i % ROUTE_DEPTH;
        bool in = e0 + e < r.among && k0 + k < r.hidden;
        columns[k * (ROUTE_EXPERTS + 1) + e] = in ? r.router[size_t(e0 + e) * r.hidden + k0 + k] : 0.0f;
      }
      block_sync();
      for (unsigned k = 0; k < ROUTE_DEPTH; k++) {
        float a[4], b[4];
        for (int i = 0; i < 4; i++) a[i] = rows[k * (ROUTE_TOKENS + 1) + row + i];
        for (int i = 0; i < 4; i++) b[i] = columns[k * (ROUTE_EXPERTS + 1) + column + i];
        for (int i = 0; i < 4; i++)
          for (int j = 0; j < 4; j++) sums[i][j] = fmaf(a[i], b[j], sums[i][j]);
      }
      block_sync();
    }
    for (int i = 0; i < 4; i++)
      for (int j = 0; j < 4; j++)
        if (e0 + column + j < r.among) logits[(row + i) * r.among + e0 + column + j] = sums[i][j];
  }
}

// One warp's choice for one token. Of equal sums the lower index wins.
DEVICE void choose(const Route &r, unsigned token, unsigned row, Shared<float> logits, Shared<float> scores) {
  unsigned l = lane();
  float most = -INFINITY, mass = 0.0f;
  if (r.rule != SIGMOID) {
    for (unsigned e = l; e < r.among; e += WARP_SIZE) most = fmaxf(most, logits[row * r.among + e]);
    most = warp_max(most);
    for (unsigned e = l; e < r.among; e += WARP_SIZE) mass += expf(logits[row * r.among + e] - most);
    mass = warp_sum(mass);
  }
  for (unsigned e = l; e < r.stride; e += WARP_SIZE) {
    float score = 0.0f;
    if (e < r.among) {
      float z = logits[row * r.among + e];
      score = r.rule == SIGMOID ? sigmoid(z) : expf(z - most) / mass;
      scores[row * r.among + e] = score;
      // From here on the logit's place holds what is compared.
      logits[row * r.among + e] = score + (r.bias ? r.bias[e] : 0.0f);
    }
    r.scores[size_t(token) * r.stride + e] = score;
  }
  float mine = 0.0f, sum = 0.0f;
  unsigned chosen = 0;
  for (unsigned j = 0; j < r.chosen; j++) {
    float best = -INFINITY;
    unsigned at = r.among;
    for (unsigned e = l; e < r.among; e += WARP_SIZE) {
      float z = logits[row * r.among + e];
      if (z > best || at == r.among) best = z, at = e;
    }
    for (int step = WARP_SIZE / 2; step; step /= 2) {
      float other = shuffle_xor(best, step);
      unsigned where = shuffle_xor(at, step);
      bool better = other > best || (other == best && where < at);
      if (at == r.among || (where != r.among && better)) best = other, at = where;
    }
    float score = 0.0f;
    if (at % WARP_SIZE == l) {
      score = scores[row * r.among + at];
      logits[row * r.among + at] = as_float(0xff800000);
    }
    score = shuffle(score, at % WARP_SIZE);
    sum += score;
    if (l == j) mine = score, chosen = at;
  }
  if (l < r.chosen) {
    r.experts[token * r.chosen + l] = chosen;
    r.weights[token * r.chosen + l] = r.rule == SOFTMAX ? mine : mine / sum;
  }
}

KERNEL(ROUTE_THREADS) route_select(Route r) {
  Arena arena;
  auto rows = arena.take<float>(ROUTE_DEPTH * (ROUTE_TOKENS + 1));
  auto columns = arena.take<float>(ROUTE_DEPTH * (ROUTE_EXPERTS + 1));
  auto logits = arena.take<float>(ROUTE_TOKENS * r.among);
  auto scores = arena.take<float>(ROUTE_TOKENS * r.among);
  unsigned first = blockIdx.x * ROUTE_TOKENS;
  router_logits(r, first, rows, columns, logits);
  block_sync();
  for (unsigned row = warp(); row < ROUTE_TOKENS && first + row < r.tokens; row += warps()) choose(r, first + row, row, logits, scores);
}
EXPORT(route_select)

// --- order by expert, stable in the token: chunks of copies are counted, the counts added up, every copy put into its place

constexpr unsigned CHUNK = 1024;  // copies and threads of a block

struct Order {
  const unsigned *experts;  // (copies): of every copy, token after token
  const float *weights;     // (copies)
  unsigned *counts;         // (chunks, among): copies of each expert in a chunk; later in the chunks before it
  unsigned *offsets;        // (among + 1): where each expert's rows begin
  unsigned *tiles64, *tiles128;  // (among + 1): where each expert's tiles of so many rows begin
  unsigned *slots;          // (copies): the row of each in expert order
  unsigned *tokens;         // (copies): token of each row
  float *slot_weights;      // (copies): weight of each row
  unsigned copies, among, chosen;
};

KERNEL(CHUNK) route_count(Order o) {
  Arena arena;
  auto counts = arena.take<int>(o.among);
  for (unsigned e = threadIdx.x; e < o.among; e += CHUNK) counts[e] = 0;
  block_sync();
  unsigned i = blockIdx.x * CHUNK + threadIdx.x;
  if (i < o.copies) atomic_add(counts, o.experts[i], 1);
  block_sync();
  for (unsigned e = threadIdx.x; e < o.among; e += CHUNK) o.counts[size_t(blockIdx.x) * o.among + e] = counts[e];
}
EXPORT(route_count)

// Sums over the threads before this one, of three numbers at once.
DEVICE void exclusive_sums(unsigned (&x)[3], Shared<unsigned> sums) {
  unsigned t = threadIdx.x;
  for (int i = 0; i < 3; i++) sums[i * CHUNK + t] = x[i];
  block_sync();
  for (unsigned step = 1; step < CHUNK; step *= 2) {
    unsigned more[3] = {};
    for (int i = 0; i < 3; i++)
      if (t >= step) more[i] = sums[i * CHUNK + t - step];
    block_sync();
    for (int i = 0; i < 3; i++) sums[i * CHUNK + t] += more[i];
    block_sync();
  }
  for (int i = 0; i < 3; i++) x[i] = t ? sums[i * CHUNK + t - 1] : 0;
}

KERNEL(CHUNK) route_offsets(Order o) {
  Arena arena;
  auto sums = arena.take<unsigned>(3 * CHUNK);
  unsigned e = threadIdx.x, chunks = (o.copies + CHUNK - 1) / CHUNK, total = 0;
  if (e < o.among)
    for (unsigned chunk = 0; chunk < chunks; chunk++) {
      unsigned count = o.counts[size_t(chunk) * o.among + e];
      o.counts[size_t(chunk) * o.among + e] = total;
      total += count;
    }
  unsigned x[3] = {total, (total + 63) / 64, (total + 127) / 128};
  exclusive_sums(x, sums);
  // The thread behind the last expert has the totals.
  if (e <= o.among && e < CHUNK) o.offsets[e] = x[0], o.tiles64[e] = x[1], o.tiles128[e] = x[2];
}
EXPORT(route_offsets)

KERNEL(CHUNK) route_scatter(Order o) {
  Arena arena;
  // Copies of each expert in the warps before.
  auto before = arena.take<unsigned>(CHUNK / WARP_SIZE * o.among);
  for (unsigned i = threadIdx.x; i < CHUNK / WARP_SIZE * o.among; i += CHUNK) before[i] = 0;
  block_sync();
  unsigned i = blockIdx.x * CHUNK + threadIdx.x;
  bool in = i < o.copies;
  unsigned e = in ? o.experts[i] : o.among;
  unsigned same = match(e), rank = bits_set(same & ((1u << lane()) - 1));
  if (in && rank == 0) before[warp() * o.among + e] = bits_set(same);
  block_sync();
  for (unsigned x = threadIdx.x; x < o.among; x += CHUNK) {
    unsigned total = 0;
    for (unsigned w = 0; w < CHUNK / WARP_SIZE; w++) {
      unsigned count = before[w * o.among + x];
      before[w * o.among + x] = total;
      total += count;
    }
  }
  block_sync();
  if (!in) return;
  unsigned slot = o.offsets[e] + o.counts[size_t(blockIdx.x) * o.among + e] + before[warp() * o.among + e] + rank;
  o.slots[i] = slot;
  o.tokens[slot] = i / o.chosen;
  o.slot_weights[slot] = o.weights[i];
}
EXPORT(route_scatter)

// One expert that every token goes through with weight 1.
KERNEL(256) route_dense(Order o, unsigned *experts, float *weights) {
  unsigned i = blockIdx.x * 256 + threadIdx.x;
  if (i == 0) {
    o.offsets[0] = o.tiles64[0] = o.tiles128[0] = 0;
    o.offsets[1] = o.copies, o.tiles64[1] = (o.copies + 63) / 64, o.tiles128[1] = (o.copies + 127) / 128;
  }
  if (i >= o.copies) return;
  experts[i] = 0, weights[i] = 1.0f, o.slots[i] = i, o.tokens[i] = i, o.slot_weights[i] = 1.0f;
}
EXPORT(route_dense)

struct RouteBackward {
  const float *scores;      // (tokens, stride)
  const unsigned *experts;  // (tokens, chosen)
  const float *weights;     // (tokens, chosen)
  const unsigned *slots;    // (tokens, chosen)
  const float *dweights;    // (copies): gradient of each row's weight, in expert order
  float *dlogits;           // (tokens, stride)
  unsigned tokens, among, chosen, stride;
  Rule rule;
};

// A warp a token; the formulas are those of `Routing::backward`.
KERNEL(128) route_backward(RouteBackward r) {
  unsigned token = blockIdx.x * warps() + warp(), l = lane();
  if (token >= r.tokens) return;
  const float *scores = r.scores + size_t(token) * r.stride;
  float *dlogits = r.dlogits + size_t(token) * r.stride;
  float mass = 0.0f, mean = 0.0f, mine = 0.0f;
  unsigned e = r.among;
  for (unsigned j = 0; j < r.chosen; j++) {
    unsigned i = token * r.chosen + j;
    float dweight = r.dweights[r.slots[i]];
    mass += scores[r.experts[i]];
    mean += r.weights[i] * dweight;
    if (l == j) mine = dweight, e = r.experts[i];
  }
  for (unsigned x = l; x < r.stride; x += WARP_SIZE) {
    bool chosen = false;
    for (unsigned j = 0; j < r.chosen; j++) chosen |= r.experts[token * r.chosen + j] == x;
    if (!chosen) dlogits[x] = r.rule == SOFTMAX && x < r.among ? -scores[x] * mean : 0.0f;
  }
  if (l < r.chosen) {
    float past = mine - mean;
    dlogits[e] = r.rule == SIGMOID ? past / mass * scores[e] * (1.0f - scores[e]) : r.weights[token * r.chosen + l] * past;
  }
}
EXPORT(route_backward)
