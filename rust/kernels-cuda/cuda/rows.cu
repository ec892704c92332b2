// Rows of a matrix: gathered, scattered, and sums over them in a fixed order.
#include "device.cuh"

// to (count, width): the rows of `from` that `index` names.
KERNEL(128) gather_rows(const float *from, const unsigned *index, float *to, unsigned count, unsigned width) {
  unsigned column = blockIdx.x * 128 + threadIdx.x;
  for (unsigned row = blockIdx.y; row < count; row += gridDim.y)
    if (column < width) to[size_t(row) * width + column] = from[size_t(index[row]) * width + column];
}
EXPORT(gather_rows)

// Adds row after row to those that `index` names, which may repeat: a column is one thread's.
KERNEL(32) scatter_rows(const float *from, const unsigned *index, float *to, unsigned count, unsigned width) {
  unsigned column = blockIdx.x * 32 + threadIdx.x;
  if (column >= width) return;
  for (unsigned row = 0; row < count; row++) to[size_t(index[row]) * width + column] += from[size_t(row) * width + column];
}
EXPORT(scatter_rows)

// Adds a row to `count` rows.
KERNEL(128) add_row(const float *row, float *to, unsigned count, unsigned width) {
  unsigned column = blockIdx.x * 128 + threadIdx.x;
  for (unsigned r = blockIdx.y; r < count; r += gridDim.y)
    if (column < width) to[size_t(r) * width + column] += row[column];
}
EXPORT(add_row)

// The first `width` numbers of rows some floats apart, to rows some floats apart.
KERNEL(128) copy_rows(const float *from, unsigned from_step, float *to, unsigned to_step, unsigned count, unsigned width) {
  unsigned column = blockIdx.x * 128 + threadIdx.x;
  for (unsigned r = blockIdx.y; r < count; r += gridDim.y)
    if (column < width) to[size_t(r) * to_step + column] = from[size_t(r) * from_step + column];
}
EXPORT(copy_rows)

// Sums over rows come in two steps: of each 64 rows, then of those sums.
constexpr unsigned SUMMED = 64;

// parts (ceil(count / 64), width): sums of the rows, or of two matrices' products times a number for each row.
KERNEL(128) sum_parts(const float *x, unsigned x_step, const float *other, unsigned other_step, const float *scales, float *parts, unsigned count, unsigned groups, unsigned width) {
  unsigned column = blockIdx.x * 128 + threadIdx.x;
  if (column >= width) return;
  for (unsigned part = blockIdx.y; part * SUMMED < count; part += gridDim.y) {
    float sum = 0.0f;
    for (unsigned i = part * SUMMED; i < count && i < (part + 1) * SUMMED; i++) {
      size_t row = i / groups, at = i % groups * width + column;
      float value = x[row * x_step + at];
      if (other) value *= other[row * other_step + at];
      sum = scales ? fmaf(value, scales[i], sum) : sum + value;
    }
    parts[size_t(part) * width + column] = sum;
  }
}
EXPORT(sum_parts)

// sum += every part, one after another.
KERNEL(128) add_parts(const float *parts, float *sum, unsigned count, unsigned width) {
  unsigned column = blockIdx.x * 128 + threadIdx.x;
  if (column >= width) return;
  float total = 0.0f;
  for (unsigned part = 0; part < count; part++) total += parts[size_t(part) * width + column];
  sum[column] += total;
}
EXPORT(add_parts)
