//! Products with weights in bf16 as ggml computes them: activations rounded to bf16, two neighbours of a row multiplied
//! and added up at once ([`Simd::dot_pairs`]).
//!
//! Of rows that come with others an output is one chain of sixteen lanes; of a row alone it is two, for every other 32
//! columns, which are added in f64 with the columns that are left over. That is ggml's order where the processor has
//! `VDPBF16PS`; other instruction sets give the same bits here.

use super::float::Outputs;
use super::narrow::from_bf16;
use super::prefetch::prefetch;
use crate::Isa;
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512};
use crate::simd::{LANES, Scalar, Simd};

/// Columns of a vector of pairs.
pub(super) const PAIRS: usize = 2 * LANES;
/// Outputs of a tile.
const TILE: usize = 4;

/// Computes `job`'s outputs, `x` being rows of bf16 in the place of `x_stride` floats each, zeros after `inp`.
///
/// # Safety
/// The pointers are good for the lengths beside them, and nobody else uses those outputs meanwhile.
pub(super) unsafe fn multiply(isa: Isa, job: Outputs<'_>) {
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
    unsafe fn native(job: Outputs<'_>) {
        body::<Avx512, true>(job)
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
    unsafe fn avx512(job: Outputs<'_>) {
        body::<Avx512, false>(job)
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn avx2(job: Outputs<'_>) {
        body::<Avx2, false>(job)
    }
    match isa.0 {
        #[cfg(target_arch = "x86_64")]
        crate::dispatch::Kind::Avx512Bf16 => native(job),
        #[cfg(target_arch = "x86_64")]
        crate::dispatch::Kind::Avx512 => avx512(job),
        #[cfg(target_arch = "x86_64")]
        crate::dispatch::Kind::Avx2 => avx2(job),
        crate::dispatch::Kind::Scalar => body::<Scalar, false>(job),
    }
}

#[inline(always)]
unsafe fn body<S: Simd, const NATIVE: bool>(job: Outputs<'_>) {
    let mut done = 0;
    while done < job.outputs {
        let wide = TILE.min(job.outputs - done);
        let weights = job.weights.add(done * 2 * job.inp);
        let mut row = 0;
        while row < job.rows {
            let (rows, alone) = job.run(row);
            let run = Outputs {
                rows,
                x: job.x.add(row * job.x_stride),
                y: job.y.add(row * job.y_stride + done),
                ..job
            };
            match (alone, wide == TILE) {
                (true, true) => run_alone::<S, NATIVE, TILE>(run, weights),
                (false, true) => run_together::<S, NATIVE>(run, weights),
                (alone, false) => {
                    for c in 0..wide {
                        let one = Outputs {
                            y: run.y.add(c),
                            ..run
                        };
                        let weights = weights.add(c * 2 * job.inp);
                        if alone {
                            run_alone::<S, NATIVE, 1>(one, weights);
                        } else {
                            for r in 0..rows {
                                tile::<S, NATIVE, 1, 1>(one, weights, r);
                            }
                        }
                    }
                }
            }
            row += rows;
        }
        done += wide;
    }
}

/// A vector of pairs, at any alignment.
#[inline(always)]
unsafe fn pairs<S: Simd>(from: *const u8) -> S {
    let mut aligned = [0.0f32; LANES];
    from.copy_to_nonoverlapping(aligned.as_mut_ptr().cast(), size_of::<[f32; LANES]>());
    S::load(aligned.as_ptr())
}

/// `OUT` outputs of all rows, each by itself.
#[inline(always)]
unsafe fn run_alone<S: Simd, const NATIVE: bool, const OUT: usize>(
    job: Outputs<'_>,
    weights: *const u8,
) {
    let row_bytes = 2 * job.inp;
    let whole = job.inp / (2 * PAIRS) * (2 * PAIRS);
    for row in 0..job.rows {
        let x = job.x.add(row * job.x_stride);
        let mut chains = [[S::splat(0.0); 2]; OUT];
        // As much as is read here is asked for in the rows behind, which lie in one piece.
        let mut later = weights.wrapping_add(OUT * row_bytes);
        let mut column = 0;
        while column < whole {
            for _ in 0..2 * OUT {
                prefetch(later);
                later = later.wrapping_add(64);
            }
            for half in 0..2 {
                let at = column + half * PAIRS;
                let left = S::load(x.add(at / 2));
                for c in 0..OUT {
                    let right = pairs::<S>(weights.add(c * row_bytes + 2 * at));
                    chains[c][half] = chains[c][half].dot_pairs::<NATIVE>(left, right);
                }
            }
            column += 2 * PAIRS;
        }
        for c in 0..OUT {
            let [first, second] = chains[c];
            let mut sum = f64::from(first.sum()) + f64::from(second.sum());
            for i in whole..job.inp {
                let weight = weights.add(c * row_bytes + 2 * i).cast::<u16>();
                let weight = from_bf16(u16::from_le(weight.read_unaligned()));
                let activation = from_bf16(*x.cast::<u16>().add(i));
                sum += f64::from(weight * activation);
            }
            put(job, row, c, sum as f32);
        }
    }
}

/// A tile's outputs of all rows, which come together.
#[inline(always)]
unsafe fn run_together<S: Simd, const NATIVE: bool>(job: Outputs<'_>, weights: *const u8) {
    let mut row = 0;
    while row < job.rows {
        let left = job.rows - row;
        if S::WIDE_TILE && left >= 4 {
            tile::<S, NATIVE, 4, TILE>(job, weights, row);
            row += 4;
        } else if S::WIDE_TILE && left >= 2 {
            tile::<S, NATIVE, 2, TILE>(job, weights, row);
            row += 2;
        } else {
            tile::<S, NATIVE, 1, TILE>(job, weights, row);
            row += 1;
        }
    }
}

/// Outputs of some rows from `row` on, of a width of whole vectors of pairs.
#[inline(always)]
unsafe fn tile<S: Simd, const NATIVE: bool, const ROWS: usize, const OUT: usize>(
    job: Outputs<'_>,
    weights: *const u8,
    row: usize,
) {
    let row_bytes = 2 * job.inp;
    let x = job.x.add(row * job.x_stride);
    let mut sums = [[S::splat(0.0); OUT]; ROWS];
    let mut column = 0;
    while column < job.inp {
        let mut right = [S::splat(0.0); OUT];
        for c in 0..OUT {
            right[c] = pairs::<S>(weights.add(c * row_bytes + 2 * column));
        }
        for r in 0..ROWS {
            let left = S::load(x.add(r * job.x_stride + column / 2));
            for c in 0..OUT {
                sums[r][c] = sums[r][c].dot_pairs::<NATIVE>(left, right[c]);
            }
        }
        column += PAIRS;
    }
    for r in 0..ROWS {
        for c in 0..OUT {
            put(job, row + r, c, sums[r][c].sum());
        }
    }
}

#[inline(always)]
unsafe fn put(job: Outputs<'_>, row: usize, column: usize, sum: f32) {
    let to = job.y.add(row * job.y_stride + column);
    *to = if job.add { *to + sum } else { sum };
}
