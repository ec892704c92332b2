// Tiles of a grouped product: the arguments of all of them, and which expert's rows a tile has.
#pragma once
#include "device.cuh"

// C = A B for each of `groups` ranges of rows. What the letters are depends on the product's form:
//   forward:  C (rows, n) = A (rows, k) W (n, k)ᵀ, rows in expert order
//   input:    C (rows, n) = A (rows, k) W (k, n): the gradient of a product's input
//   weight:   C (m, n) = A (rows, m)ᵀ B (rows, n), added up over a group's rows: the gradient of its weight
struct Product {
  const void *a, *b;
  void *c;
  // Forward with SwiGLU alone: gates over ups of every row (rows, 2 n), or none.
  void *kept;
  // Scales of FP8 weights, one for each 128 x 128.
  const float *scales;
  // Row of A for each row, and of B in the weight's form; none: the row itself.
  const unsigned *a_rows, *b_rows;
  // (groups + 1) each; none if there is one group of `rows` rows.
  const unsigned *offsets, *tiles;
  // From one group's matrix to the next: bytes of weights, floats of scales and of gradients.
  size_t b_apart, scales_apart, c_apart;
  unsigned rows, groups, m, n, k;
  // Whether C is added to.
  unsigned add;
};

struct Tile {
  unsigned group, first, end;  // rows
};

// The tile of `size` rows with this number; its `group` is `groups` if there is none.
DEVICE Tile tile_of(const Product &p, unsigned number, unsigned size) {
  if (!p.offsets) {
    unsigned first = number * size;
    return {first < p.rows ? 0 : p.groups, first, first + size < p.rows ? first + size : p.rows};
  }
  unsigned low = 0, high = p.groups;
  if (number >= p.tiles[p.groups]) return {p.groups, 0, 0};
  // The last group that begins at or before this tile; empty ones end where they begin.
  while (high - low > 1) {
    unsigned middle = (low + high) / 2;
    if (p.tiles[middle] <= number) low = middle;
    else high = middle;
  }
  unsigned first = p.offsets[low] + (number - p.tiles[low]) * size, end = p.offsets[low + 1];
  return {low, first, first + size < end ? first + size : end};
}

// The rows of a group.
DEVICE Tile rows_of(const Product &p, unsigned group) {
  if (!p.offsets) return {group, 0, p.rows};
  return {group, p.offsets[group], p.offsets[group + 1]};
}

enum class Form { Forward, Input, Weight };

// What becomes of the sums.
enum class Epilogue { Store, Swiglu };
