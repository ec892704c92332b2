// Weights as their files hold them: eight numbers of a row at a time, as f32. Formats are those of `stored/format.rs`.
#pragma once
#include "device.cuh"

// Two bytes at any even address, or at any.
DEVICE uint16_t two_bytes(const uint8_t *from) { return uint16_t(from[0] | from[1] << 8); }

struct F32 {
  static DEVICE size_t row_bytes(unsigned k) { return size_t(k) * 4; }
  static DEVICE void eight(const uint8_t *row, const float *, unsigned at, unsigned valid, float (&out)[8]) {
    const float *from = (const float *)row + at;
    for (unsigned i = 0; i < 8; i++) out[i] = i < valid ? from[i] : 0.0f;
  }
};

struct Bf16 {
  static DEVICE size_t row_bytes(unsigned k) { return size_t(k) * 2; }
  static DEVICE void eight(const uint8_t *row, const float *, unsigned at, unsigned valid, float (&out)[8]) {
    const bf16 *from = (const bf16 *)row + at;
    if (valid == 8 && uintptr_t(from) % 16 == 0) {
      struct __attribute__((aligned(16))) Line {
        uint32_t pairs[4];
      } line = *(const Line *)from;
      for (int i = 0; i < 8; i++) out[i] = as_float(i % 2 ? line.pairs[i / 2] & 0xffff0000 : line.pairs[i / 2] << 16);
      return;
    }
    for (unsigned i = 0; i < 8; i++) out[i] = i < valid ? to_float(from[i]) : 0.0f;
  }
};

struct Fp8 {
  static DEVICE size_t row_bytes(unsigned k) { return k; }
  // `scales`: those of the row.
  static DEVICE void eight(const uint8_t *row, const float *scales, unsigned at, unsigned valid, float (&out)[8]) {
    float scale = scales[at / 128];
    for (unsigned i = 0; i < 8; i++) out[i] = i < valid ? from_fp8(row[at + i]) * scale : 0.0f;
  }
};

// 32 values d q: d half, q int8.
struct Q8_0 {
  static DEVICE size_t row_bytes(unsigned k) { return size_t(k) / 32 * 34; }
  static DEVICE void eight(const uint8_t *row, const float *, unsigned at, unsigned, float (&out)[8]) {
    const uint8_t *block = row + size_t(at) / 32 * 34;
    float d = from_half(two_bytes(block));
    for (unsigned i = 0; i < 8; i++) out[i] = d * float(int8_t(block[2 + at % 32 + i]));
  }
};

// 256 values in 8 parts d s q - e m: d, e half, s and m six bits a part, q four bits.
struct Q4K {
  static DEVICE size_t row_bytes(unsigned k) { return size_t(k) / 256 * 144; }
  static DEVICE void eight(const uint8_t *row, const float *, unsigned at, unsigned, float (&out)[8]) {
    const uint8_t *block = row + size_t(at) / 256 * 144, *packed = block + 4;
    unsigned part = at % 256 / 32, scale, least;
    if (part < 4) {
      scale = packed[part] & 63, least = packed[part + 4] & 63;
    } else {
      scale = (packed[part + 4] & 15) | packed[part - 4] >> 6 << 4;
      least = packed[part + 4] >> 4 | packed[part] >> 6 << 4;
    }
    float d = from_half(two_bytes(block)) * float(scale), m = from_half(two_bytes(block + 2)) * float(least);
    const uint8_t *q = block + 16 + part / 2 * 32 + at % 32;
    for (unsigned i = 0; i < 8; i++) out[i] = d * float(part % 2 ? q[i] >> 4 : q[i] & 15) - m;
  }
};

// Scales of a row; of formats without, none.
DEVICE const float *row_scales(const float *scales, unsigned row, unsigned k) {
  return scales ? scales + size_t(row / 128) * ((k + 127) / 128) : nullptr;
}
