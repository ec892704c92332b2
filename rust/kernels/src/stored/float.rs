//! Products with weights that are floats of 4 to 32 bits: inner products in f32.
//!
//! Each output is sixteen chains of fused multiply-adds over the columns and then the tree of `Simd::sum`, or in ggml's
//! order ([`Order`]; of bf16 see [`super::brain`]), so its bits depend neither on the instruction set nor on other rows or outputs. Few rows widen the weights on the way to
//! the registers; many rows share rows of weights that are widened once.

use super::format::{FP8_BLOCK, Format};
use super::prefetch::prefetch;
use super::wide::{Bf16, F8, F16, F32, Fp4, Weights, Wide};
use crate::LANES;
use crate::batch_class::BatchClass;

/// In which order an output's products are added up.
#[derive(Clone, Copy)]
pub(super) enum Order<'a> {
    /// Sixteen chains.
    Chains,
    /// As ggml has it: of rows that come with others sixteen chains as well, of the others 64, and columns that are left
    /// over one by one.
    Ggml(&'a [BatchClass]),
}

/// How products with stored floats round and add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FloatSums {
    /// Sixteen chains of fused multiply-adds.
    #[default]
    Chains,
    /// As ggml: by halves and by bf16 with activations rounded to the same, and all in its orders, which depend on the
    /// row's batch class.
    Ggml,
}

/// Outputs of a tile.
pub(super) const TILE: usize = 4;

/// Rows whose products take the weights straight from where they are stored.
const FEW: usize = 4;

/// Some outputs of one product. The pointers' owner has checked all lengths.
#[derive(Clone, Copy)]
pub(super) struct Outputs<'a> {
    pub format: Format,
    /// The first of `outputs` stored rows, row `first` of the matrix.
    pub weights: *const u8,
    pub first: usize,
    pub outputs: usize,
    pub inp: usize,
    /// [`Format::Fp8`]: all scales of the matrix.
    pub scales: *const f32,
    /// Rows of `padded(inp)` floats, `x_stride` apart, zeros after `inp`.
    pub x: *const f32,
    pub x_stride: usize,
    pub rows: usize,
    pub y: *mut f32,
    pub y_stride: usize,
    pub add: bool,
    pub order: Order<'a>,
}

impl Outputs<'_> {
    /// The rows from `row` on that are added up alike, and whether alone.
    pub(super) fn run(&self, row: usize) -> (usize, bool) {
        let Order::Ggml(classes) = self.order else {
            return (self.rows - row, false);
        };
        let first = BatchClass::alone(classes, row);
        let end = (row..self.rows).find(|&row| BatchClass::alone(classes, row) != first);
        (end.unwrap_or(self.rows) - row, first)
    }
}

/// Compiles a body `unsafe fn body<S: Wide>(arguments)` for every instruction set: see `kernel!`.
macro_rules! wide_kernel {
    ($(#[$meta:meta])* unsafe fn $name:ident = $body:ident($($arg:ident: $type:ty),* $(,)?)) => {
        $(#[$meta])*
        pub(super) unsafe fn $name(isa: crate::Isa, $($arg: $type),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
            unsafe fn avx512($($arg: $type),*) {
                $body::<crate::simd::Avx512>($($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            unsafe fn avx2($($arg: $type),*) {
                $body::<crate::simd::Avx2>($($arg),*)
            }
            match isa.0 {
                #[cfg(target_arch = "x86_64")]
                crate::dispatch::Kind::Avx512Bf16 | crate::dispatch::Kind::Avx512 => avx512($($arg),*),
                #[cfg(target_arch = "x86_64")]
                crate::dispatch::Kind::Avx2 => avx2($($arg),*),
                crate::dispatch::Kind::Scalar => $body::<crate::simd::Scalar>($($arg),*),
            }
        }
    };
}

wide_kernel! {
    /// Computes `job`'s outputs. `scratch` holds [`TILE`] widened rows.
    ///
    /// # Safety
    /// The pointers are good for the lengths beside them, and nobody else uses those outputs meanwhile.
    unsafe fn multiply = multiply_body(job: Outputs<'_>, scratch: *mut f32)
}

/// Floats of scratch for rows of `inp` columns.
pub(super) fn scratch_floats(inp: usize) -> usize {
    TILE * crate::padded(inp)
}

#[inline(always)]
unsafe fn multiply_body<S: Wide>(job: Outputs<'_>, scratch: *mut f32) {
    match job.format {
        Format::F32 => outputs::<S, F32>(job, scratch),
        Format::F16 => outputs::<S, F16>(job, scratch),
        Format::Bf16 => outputs::<S, Bf16>(job, scratch),
        Format::Fp8 => outputs::<S, F8>(job, scratch),
        Format::Mxfp4 => outputs::<S, Fp4>(job, scratch),
        _ => {}
    }
}

#[inline(always)]
unsafe fn outputs<S: Wide, W: Weights>(job: Outputs<'_>, scratch: *mut f32) {
    let mut done = 0;
    while done < job.outputs {
        let wide = TILE.min(job.outputs - done);
        let weights = job.weights.add(done * W::row_bytes(job.inp));
        let mut scales = [job.scales; TILE];
        if W::SCALED {
            for c in 0..wide {
                let row = (job.first + done + c) / FP8_BLOCK;
                scales[c] = job.scales.add(row * job.inp.div_ceil(FP8_BLOCK));
            }
        }
        let mut row = 0;
        while row < job.rows {
            let (rows, alone) = job.run(row);
            let run = Outputs {
                rows,
                x: job.x.add(row * job.x_stride),
                y: job.y.add(row * job.y_stride + done),
                ..job
            };
            if alone {
                run_alone::<S, W>(run, wide, weights);
            } else {
                run_together::<S, W>(run, wide, weights, scales, scratch);
            }
            row += rows;
        }
        done += wide;
    }
}

/// A tile's outputs of all rows, each a sum of sixteen chains.
#[inline(always)]
unsafe fn run_together<S: Wide, W: Weights>(
    job: Outputs<'_>,
    wide: usize,
    weights: *const u8,
    scales: [*const f32; TILE],
    scratch: *mut f32,
) {
    if job.rows <= FEW && wide == TILE && job.inp.is_multiple_of(LANES) {
        let (x, y) = (job.x, job.y);
        match job.rows {
            1 => tile::<S, W, 1, TILE>(job, weights, scales, x, y),
            2 => tile::<S, W, 2, TILE>(job, weights, scales, x, y),
            3 => tile::<S, W, 3, TILE>(job, weights, scales, x, y),
            4 => tile::<S, W, 4, TILE>(job, weights, scales, x, y),
            _ => {}
        }
        return;
    }
    for c in 0..wide {
        let row = scratch.add(c * crate::padded(job.inp));
        let from = weights.add(c * W::row_bytes(job.inp));
        widen::<S, W>(from, job.inp, scales[c], row);
    }
    let tall = Outputs {
        inp: crate::padded(job.inp),
        ..job
    };
    rows::<S>(tall, wide, scratch.cast_const().cast(), scales, job.y);
}

/// A tile's outputs of all rows, each as ggml adds up the product of two rows.
#[inline(always)]
unsafe fn run_alone<S: Wide, W: Weights>(job: Outputs<'_>, wide: usize, weights: *const u8) {
    for row in 0..job.rows {
        let (x, y) = (job.x.add(row * job.x_stride), job.y.add(row * job.y_stride));
        for c in 0..wide {
            let sum = alone::<S, W>(job.inp, weights.add(c * W::row_bytes(job.inp)), x);
            let to = y.add(c);
            *to = if job.add { *to + sum } else { sum };
        }
    }
}

/// ggml's product of two rows: four vectors of chains, then what is left over, one column after the other.
#[inline(always)]
unsafe fn alone<S: Wide, W: Weights>(inp: usize, weights: *const u8, x: *const f32) -> f32 {
    const STEP: usize = 4 * LANES;
    let mut chains = [S::splat(0.0); 4];
    let whole = inp / STEP * STEP;
    let mut later = weights.wrapping_add(inp * W::BYTES);
    let mut column = 0;
    while column < whole {
        for _ in 0..W::BYTES {
            prefetch(later);
            later = later.wrapping_add(64);
        }
        for (j, chain) in chains.iter_mut().enumerate() {
            let at = column + j * LANES;
            let sixteen = W::sixteen::<S>(weights.add(at * W::BYTES));
            *chain = sixteen.fma(S::load(x.add(at)), *chain);
        }
        column += STEP;
    }
    let [a, b, c, d] = chains;
    let mut sum = a.add(c).add(b.add(d)).sum();
    if whole == inp {
        return sum;
    }
    let mut rest = [0.0f32; STEP];
    let mut bytes = [0u8; 4 * STEP];
    let left = inp - whole;
    bytes
        .as_mut_ptr()
        .copy_from_nonoverlapping(weights.add(whole * W::BYTES), left * W::BYTES);
    for j in 0..4 {
        let sixteen = W::sixteen::<S>(bytes.as_ptr().add(j * LANES * W::BYTES));
        sixteen.store(rest.as_mut_ptr().add(j * LANES));
    }
    if W::IN_F64 {
        let mut exact = f64::from(sum);
        for (i, weight) in rest[..left].iter().enumerate() {
            exact += f64::from(weight * *x.add(whole + i));
        }
        sum = exact as f32;
    } else {
        for (i, weight) in rest[..left].iter().enumerate() {
            sum = weight.mul_add(*x.add(whole + i), sum);
        }
    }
    sum
}

/// A row of weights as floats, zeros after its end.
#[inline(always)]
unsafe fn widen<S: Wide, W: Weights>(
    from: *const u8,
    inp: usize,
    scales: *const f32,
    to: *mut f32,
) {
    let mut column = 0;
    while column < inp {
        let mut sixteen = if column + LANES <= inp {
            W::at::<S>(from, column)
        } else {
            let mut rest = [0u8; 4 * LANES];
            let bytes = (inp - column) * W::BYTES;
            rest.as_mut_ptr()
                .copy_from_nonoverlapping(from.add(column * W::BYTES), bytes);
            W::sixteen::<S>(rest.as_ptr())
        };
        if W::SCALED {
            sixteen = sixteen.mul(S::splat(256.0 * *scales.add(column / FP8_BLOCK)));
        }
        sixteen.store(to.add(column));
        column += LANES;
    }
}

/// All rows, with up to [`TILE`] widened rows of weights.
#[inline(always)]
unsafe fn rows<S: Wide>(
    job: Outputs<'_>,
    wide: usize,
    weights: *const u8,
    scales: [*const f32; TILE],
    y: *mut f32,
) {
    let mut row = 0;
    while row < job.rows {
        let (x, y) = (job.x.add(row * job.x_stride), y.add(row * job.y_stride));
        let left = job.rows - row;
        if wide < TILE {
            for c in 0..wide {
                let weights = weights.add(c * job.inp * 4);
                tile::<S, F32, 1, 1>(job, weights, scales, x, y.add(c));
            }
            row += 1;
        } else if S::WIDE_TILE && left >= 4 {
            tile::<S, F32, 4, TILE>(job, weights, scales, x, y);
            row += 4;
        } else if left >= 2 && S::WIDE_TILE {
            tile::<S, F32, 2, TILE>(job, weights, scales, x, y);
            row += 2;
        } else if left >= 2 {
            let half = weights.add(2 * job.inp * 4);
            tile::<S, F32, 2, 2>(job, weights, scales, x, y);
            tile::<S, F32, 2, 2>(job, half, scales, x, y.add(2));
            row += 2;
        } else {
            tile::<S, F32, 1, TILE>(job, weights, scales, x, y);
            row += 1;
        }
    }
}

#[inline(always)]
unsafe fn tile<S: Wide, W: Weights, const ROWS: usize, const OUT: usize>(
    job: Outputs<'_>,
    weights: *const u8,
    scales: [*const f32; TILE],
    x: *const f32,
    y: *mut f32,
) {
    let mut sums = [[S::splat(0.0); OUT]; ROWS];
    let row_bytes = W::row_bytes(job.inp);
    // As much as is read here is asked for in the rows behind, which lie in one piece.
    let mut later = weights.wrapping_add(OUT * row_bytes);
    let mut column = 0;
    while column < job.inp {
        // As far as the scales reach.
        let end = if W::SCALED {
            job.inp.min(column + FP8_BLOCK)
        } else {
            job.inp
        };
        let mut scale = [S::splat(0.0); OUT];
        if W::SCALED {
            for c in 0..OUT {
                scale[c] = S::splat(256.0 * *scales[c].add(column / FP8_BLOCK));
            }
        }
        while column < end {
            if OUT == TILE && ROWS <= FEW {
                for _ in 0..W::BYTES {
                    prefetch(later);
                    later = later.wrapping_add(64);
                }
            }
            let mut right = [S::splat(0.0); OUT];
            for c in 0..OUT {
                right[c] = W::at::<S>(weights.add(c * row_bytes), column);
                if W::SCALED {
                    right[c] = right[c].mul(scale[c]);
                }
            }
            for r in 0..ROWS {
                let left = S::load(x.add(r * job.x_stride + column));
                for c in 0..OUT {
                    sums[r][c] = left.fma(right[c], sums[r][c]);
                }
            }
            column += LANES;
        }
    }
    for r in 0..ROWS {
        for c in 0..OUT {
            let to = y.add(r * job.y_stride + c);
            let sum = sums[r][c].sum();
            *to = if job.add { *to + sum } else { sum };
        }
    }
}
