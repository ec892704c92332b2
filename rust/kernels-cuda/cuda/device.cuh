// What kernels are written with: one function for each instruction or builtin, for nvcc and for the twin on the processor.
#pragma once
#include <cstdint>
#include <cmath>
#include <cstring>
#include <type_traits>

#ifdef __CUDACC__
#define EXPORT(kernel)
#else
#include "host/launch.h"
#define __global__
#define __device__
#define __forceinline__ inline
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define threadIdx (*twin::machine.now)
#define blockIdx (twin::machine.block_index)
#define blockDim (twin::machine.block)
#define gridDim (twin::machine.grid)
#define EXPORT(kernel) static const twin::Registration registration_of_##kernel(#kernel, kernel);
#endif

#define KERNEL(threads) extern "C" __global__ void __launch_bounds__(threads)
#define DEVICE __device__ __forceinline__

constexpr int WARP_SIZE = 32;

DEVICE unsigned lane() { return threadIdx.x % WARP_SIZE; }
DEVICE unsigned warp() { return threadIdx.x / WARP_SIZE; }
DEVICE unsigned warps() { return blockDim.x / WARP_SIZE; }

// --- numbers

struct bf16 {
  uint16_t bits;
};

DEVICE float as_float(uint32_t bits) {
#ifdef __CUDACC__
  return __uint_as_float(bits);
#else
  float x;
  memcpy(&x, &bits, 4);
  return x;
#endif
}

DEVICE uint32_t as_bits(float x) {
#ifdef __CUDACC__
  return __float_as_uint(x);
#else
  uint32_t bits;
  memcpy(&bits, &x, 4);
  return bits;
#endif
}

DEVICE float to_float(float x) { return x; }
DEVICE float to_float(bf16 x) { return as_float(uint32_t(x.bits) << 16); }

// To the nearest, ties to even; a NaN stays one.
DEVICE bf16 to_bf16(float x) {
#ifdef __CUDACC__
  uint16_t bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return {bits};
#else
  uint32_t bits = as_bits(x);
  if ((bits & 0x7fffffff) > 0x7f800000) return {0x7fff};
  return {uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
#endif
}

template <class T> DEVICE T from_float(float x);
template <> DEVICE float from_float<float>(float x) { return x; }
template <> DEVICE bf16 from_float<bf16>(float x) { return to_bf16(x); }

// IEEE half precision.
DEVICE float from_half(uint16_t half) {
  uint32_t bits = uint32_t(half & 0x7fff) << 13, sign = uint32_t(half & 0x8000) << 16;
  // The exponents' biases differ by 112; infinities and NaNs keep theirs.
  float x = half >= 0x7c00 && (half & 0x7fff) >= 0x7c00 ? as_float(bits | 0x7f800000) : as_float(bits) * 0x1p112f;
  return as_float(as_bits(x) | sign);
}

// E4M3 without infinities.
DEVICE float from_fp8(uint8_t byte) {
  uint32_t low = byte & 0x7f, sign = uint32_t(byte & 0x80) << 24;
  float x = low == 0x7f ? as_float(0x7fc00000) : as_float(low << 20) * 0x1p120f;
  return as_float(as_bits(x) | sign);
}

// Never 0, as on the processor: a router divides by sums of it. NaN stays NaN.
DEVICE float sigmoid(float x) { return 1.0f / (1.0f + expf(x < -88.0f ? 88.0f : -x)); }

// --- shared memory

#ifdef __CUDACC__
template <class T> struct Shared {
  T *base;
  DEVICE T &operator[](unsigned i) const { return base[i]; }
  DEVICE unsigned address(unsigned i) const { return (unsigned)__cvta_generic_to_shared(base + i); }
};
#else
// An array of its own bounds; every access is checked for races and for what nobody wrote.
template <class T> struct Shared {
  uint32_t at, count;
  uint32_t address(unsigned i) const {
    if (i >= count) twin::fault("touches element %u of a shared array of %u", i, count);
    return at + i * uint32_t(sizeof(T));
  }
  twin::Reference<T> operator[](unsigned i) const { return {address(i)}; }
};
#endif

// Hands out the block's dynamic shared memory in pieces, the same in all threads.
struct Arena {
  unsigned at = 0;
  template <class T> DEVICE Shared<T> take(unsigned count) {
    unsigned start = at;
    at = (at + count * unsigned(sizeof(T)) + 15) / 16 * 16;
#ifdef __CUDACC__
    extern __shared__ __align__(16) char dynamic_shared_memory[];
    return {(T *)(dynamic_shared_memory + start)};
#else
    if (at > twin::machine.shared_bytes) twin::fault("takes %u bytes of shared memory of %u", at, twin::machine.shared_bytes);
    return {start, count};
#endif
  }
};

// --- barriers and exchange within a warp

#ifdef __CUDACC__
#define block_sync() __syncthreads()
#define warp_sync() __syncwarp()
#define shuffle(value, from) __shfl_sync(0xffffffffu, value, from)
#define shuffle_xor(value, mask) __shfl_xor_sync(0xffffffffu, value, mask)
#define match(value) __match_any_sync(0xffffffffu, value)
#define ballot(predicate) __ballot_sync(0xffffffffu, predicate)
DEVICE int bits_set(unsigned x) { return __popc(x); }
DEVICE int atomic_add(int *to, int value) { return atomicAdd(to, value); }
DEVICE float atomic_add(float *to, float value) { return atomicAdd(to, value); }
DEVICE void atomic_add(Shared<int> array, unsigned i, int value) { atomicAdd(&array[i], value); }
#else
#define block_sync() twin::block_barrier(__LINE__)
#define warp_sync() twin::warp_barrier(__LINE__)
#define shuffle(value, from) twin_shuffle(__LINE__, value, from)
#define shuffle_xor(value, mask) twin_shuffle(__LINE__, value, lane() ^ (mask))
#define match(value) twin_match(__LINE__, value)
#define ballot(predicate) twin_ballot(__LINE__, predicate)

template <class T> T twin_shuffle(int line, T value, unsigned from) {
  struct Argument {
    T value, result;
    unsigned from;
  } mine{value, value, from % WARP_SIZE};
  twin::warp_collective(line, &mine, [](twin::WarpState &w) {
    for (void *p : w.arguments) {
      auto *a = (Argument *)p;
      a->result = ((Argument *)w.arguments[a->from])->value;
    }
  });
  return mine.result;
}

inline unsigned twin_match(int line, unsigned value) {
  struct Argument {
    unsigned value, result;
  } mine{value, 0};
  twin::warp_collective(line, &mine, [](twin::WarpState &w) {
    for (void *p : w.arguments)
      for (int i = 0; i < WARP_SIZE; i++)
        if (((Argument *)w.arguments[i])->value == ((Argument *)p)->value) ((Argument *)p)->result |= 1u << i;
  });
  return mine.result;
}

inline unsigned twin_ballot(int line, bool predicate) { 
  unsigned same = twin_match(line, predicate);
  return predicate ? same : ~same;
}

inline int bits_set(unsigned x) { return __builtin_popcount(x); }
template <class T> T atomic_add(T *to, T value) {
  T before = *to;
  *to = before + value;
  return before;
}
// Races of atomics with one another are none; with reads they are.
inline void atomic_add(Shared<int> array, unsigned i, int value) {
  uint32_t at = array.address(i);
  for (uint32_t cell = at / 2; cell < at / 2 + 2; cell++) {
    auto &c = twin::machine.cells[cell];
    if (!c.write_epoch) twin::fault("adds to shared memory that nobody wrote");
    if (c.writer != 0xffff && !twin::before(c.write_epoch, c.write_warp_epoch, c.writer))
      twin::fault("adds to shared memory that thread %u wrote with no barrier between", c.writer);
    if (c.read_epoch == twin::machine.epoch) twin::fault("adds to shared memory that thread %u reads with no barrier between", c.reader);
  }
  int now;
  memcpy(&now, twin::machine.shared + at, sizeof now);
  now += value;
  memcpy(twin::machine.shared + at, &now, sizeof now);
  for (uint32_t cell = at / 2; cell < at / 2 + 2; cell++) {
    auto &c = twin::machine.cells[cell];
    if (c.write_epoch != twin::machine.epoch) c.write_warp_epoch = 0;
    c.write_epoch = twin::machine.epoch;
    c.writer = 0xffff;
  }
}
#endif

// Sum over a warp in a fixed order, in every lane.
DEVICE float warp_sum(float x) {
  for (int step = WARP_SIZE / 2; step; step /= 2) x += shuffle_xor(x, step);
  return x;
}

DEVICE double warp_sum(double x) {
  for (int step = WARP_SIZE / 2; step; step /= 2) x += shuffle_xor(x, step);
  return x;
}

DEVICE float warp_max(float x) {
  for (int step = WARP_SIZE / 2; step; step /= 2) x = fmaxf(x, shuffle_xor(x, step));
  return x;
}

// --- copies to shared memory that threads do not wait for

// 16 bytes, of which the first `valid` are read and the others zero.
DEVICE void copy_async(unsigned to, const void *from, unsigned valid) {
#ifdef __CUDACC__
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(valid) : "memory");
#else
  twin::copy_async(to, from, 16, valid);
#endif
}

DEVICE void commit_copies() {
#ifdef __CUDACC__
  asm volatile("cp.async.commit_group;" ::: "memory");
#else
  twin::commit_copies();
#endif
}

// Until at most so many groups of this thread are under way.
template <int PENDING> DEVICE void wait_copies() {
#ifdef __CUDACC__
  asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
#else
  twin::wait_copies(PENDING);
#endif
}

// --- tensor cores

#ifndef __CUDACC__
// Each lane names a row of 8 numbers, 8 lanes a matrix.
template <bool TRANSPOSED> void twin_ldmatrix(int line, uint32_t (&out)[4], uint32_t address) {
  struct Argument {
    uint32_t address, *out;
  } mine{address, out};
  if (address % 16) twin::fault("loads a row of a matrix that is not aligned");
  twin::check_read(address, 16);
  twin::warp_collective(line, &mine, [](twin::WarpState &w) {
    for (int l = 0; l < WARP_SIZE; l++)
      for (int j = 0; j < 4; j++) {
        uint16_t pair[2];
        for (int h = 0; h < 2; h++) {
          int row = TRANSPOSED ? l % 4 * 2 + h : l / 4, column = TRANSPOSED ? l / 4 : l % 4 * 2 + h;
          memcpy(&pair[h], twin::machine.shared + ((Argument *)w.arguments[j * 8 + row])->address + column * 2, 2);
        }
        ((Argument *)w.arguments[l])->out[j] = pair[0] | uint32_t(pair[1]) << 16;
      }
  });
}

inline void twin_mma(int line, float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  struct Argument {
    float *c;
    const uint32_t *a, *b;
  } mine{c, a, b};
  twin::warp_collective(line, &mine, [](twin::WarpState &w) {
    float rows[16][16], columns[8][16];
    for (int l = 0; l < WARP_SIZE; l++) {
      auto *of = (Argument *)w.arguments[l];
      for (int h = 0; h < 2; h++) {
        for (int r = 0; r < 4; r++)
          rows[l / 4 + r % 2 * 8][l % 4 * 2 + h + r / 2 * 8] = to_float(bf16{uint16_t(of->a[r] >> 16 * h)});
        for (int r = 0; r < 2; r++) columns[l / 4][l % 4 * 2 + h + r * 8] = to_float(bf16{uint16_t(of->b[r] >> 16 * h)});
      }
    }
    for (int l = 0; l < WARP_SIZE; l++)
      for (int i = 0; i < 4; i++) {
        const float *row = rows[l / 4 + i / 2 * 8], *column = columns[l % 4 * 2 + i % 2];
        float sum = ((Argument *)w.arguments[l])->c[i];
        for (int k = 0; k < 16; k++) sum += row[k] * column[k];
        ((Argument *)w.arguments[l])->c[i] = sum;
      }
  });
}
#endif

// Four 8 x 8 matrices; transposed, a lane gets elements of one column instead of one row.
#ifdef __CUDACC__
template <bool TRANSPOSED> DEVICE void ldmatrix(uint32_t (&out)[4], uint32_t address) {
  if (TRANSPOSED)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3]) : "r"(address) : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3]) : "r"(address) : "memory");
}

// c (16, 8) += a (16, 16) b (8, 16)ᵀ, in the lanes' fragments.
DEVICE void mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#else
#define TWIN_LDMATRIX(transposed, out, address) twin_ldmatrix<transposed>(__LINE__, out, address)
template <bool TRANSPOSED> void ldmatrix(uint32_t (&out)[4], uint32_t address) { TWIN_LDMATRIX(TRANSPOSED, out, address); }
inline void mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) { twin_mma(__LINE__, c, a, b); }
#endif
