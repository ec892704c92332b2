//! Products with quantised weights: exact integer sums of 32 columns, scaled and added in f32.
//!
//! A chain adds up parts of the blocks of a row in ascending order, `sum = fma(dot, scale * x_scale, sum)`. So an
//! output's bits depend neither on the instruction set nor on other rows or outputs. Most formats have one chain for an
//! output, with `sum = fma(minimum, x_sum, sum)` in it where there is a minimum. Q4_1, Q5_0 and Q8_0 have eight, one for
//! each four columns of a block, added up over a tree at the end, and the minima have one of their own: with scales of
//! activations in half precision, as Q4_0 has them too, that is to the bit what ggml's kernels for x86 compute. So are
//! Q4_K, Q5_K and Q6_K, whose scales are integers themselves, so that scaled sums over some blocks are integers yet. ggml
//! adds them up in one order for a row alone and in another for rows that it multiplies together: Q4_K has a chain that
//! takes two blocks at a time (together) or eight (alone), and one of minima; Q5_K and Q6_K have a chain that takes eight
//! blocks and their minima at once (together), or eight chains and one of minima (alone).
//!
//! Few rows use the weights as they are unpacked; many rows share a panel that is unpacked once.

use std::hint::black_box;

use super::activations::{Block, Parts, Reading, Together};
use super::format::Format;
use super::quads::Quads;
use super::unpack::{
    BLOCK, Layout, PANEL_BLOCK, PANEL_MOST, PANEL_ROWS, Q4_0, Q4_1, Q4K, Q5_0, Q5K, Q6K, Q8_0, Rows,
};
use crate::Isa;
use crate::simd::Simd;

/// Compiles a body `unsafe fn body<Q: Quads>(arguments)` for every instruction set, behind one function: see `kernel!`.
/// AVX-512 without its integer products runs as AVX2.
macro_rules! quads_kernel {
    ($(#[$meta:meta])* unsafe fn $name:ident = $body:ident($($arg:ident: $type:ty),* $(,)?) $(-> $out:ty)?) => {
        $(#[$meta])*
        pub(super) unsafe fn $name(isa: Isa, $($arg: $type),*) $(-> $out)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512vnni,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
            unsafe fn vnni($($arg: $type),*) $(-> $out)? {
                $body::<super::quads::VnniQuads>($($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            unsafe fn avx2($($arg: $type),*) $(-> $out)? {
                $body::<super::quads::Avx2Quads>($($arg),*)
            }
            match isa.0 {
                #[cfg(target_arch = "x86_64")]
                crate::dispatch::Kind::Avx512Bf16 => vnni($($arg),*),
                #[cfg(target_arch = "x86_64")]
                crate::dispatch::Kind::Avx512 | crate::dispatch::Kind::Avx2 => avx2($($arg),*),
                crate::dispatch::Kind::Scalar => $body::<super::quads::ScalarQuads>($($arg),*),
            }
        }
    };
}

/// Some panels of one product. The pointers' owner has checked all lengths.
#[derive(Clone, Copy)]
pub(super) struct Panels {
    pub format: Format,
    /// The first of `outputs` stored rows.
    pub weights: *const u8,
    pub row_bytes: usize,
    pub outputs: usize,
    pub inp: usize,
    pub activations: *const Block,
    pub rows: usize,
    /// Where the first row's first output goes.
    pub y: *mut f32,
    pub y_stride: usize,
    pub add: bool,
}

quads_kernel! {
    /// Computes `job`'s outputs. `scratch` holds a panel ([`scratch_bytes`]).
    ///
    /// # Safety
    /// The pointers are good for the lengths beside them, and nobody else uses those outputs meanwhile.
    unsafe fn multiply = multiply_body(job: Panels, scratch: *mut u8)
}

/// Bytes of scratch for rows of `inp` columns: an unpacked panel, and sixteen stored rows of the widest format.
pub(super) fn scratch_bytes(inp: usize) -> usize {
    inp / BLOCK * PANEL_MOST + PANEL_ROWS * inp * 2
}

/// What `isa` wants of the activations for `format`, if that is quantised.
pub(super) fn reading(isa: Isa, format: Format) -> Option<Reading> {
    fn of<Q: Quads>(format: Format) -> Option<Reading> {
        Some(match format {
            Format::Q4_0 => reading_of::<Q, Q4_0>(),
            Format::Q4_1 => reading_of::<Q, Q4_1>(),
            Format::Q5_0 => reading_of::<Q, Q5_0>(),
            Format::Q8_0 => reading_of::<Q, Q8_0>(),
            Format::Q4K => reading_of::<Q, Q4K>(),
            Format::Q5K => reading_of::<Q, Q5K>(),
            Format::Q6K => reading_of::<Q, Q6K>(),
            Format::F32 | Format::F16 | Format::Bf16 | Format::Fp8 => return None,
        })
    }
    match isa.0 {
        #[cfg(target_arch = "x86_64")]
        crate::dispatch::Kind::Avx512Bf16 => of::<super::quads::VnniQuads>(format),
        #[cfg(target_arch = "x86_64")]
        crate::dispatch::Kind::Avx512 | crate::dispatch::Kind::Avx2 => {
            of::<super::quads::Avx2Quads>(format)
        }
        crate::dispatch::Kind::Scalar => of::<super::quads::ScalarQuads>(format),
    }
}

fn reading_of<Q: Quads, L: Layout>() -> Reading {
    Reading {
        offset: if L::WIDE && !Q::BIASED { 0 } else { L::OFFSET },
        parts: L::PARTS,
        narrow: L::BLOCKS == 1,
        shared: if L::NESTED { L::BLOCKS } else { 1 },
        together: L::TOGETHER,
        group: group_of::<Q>(L::PARTS),
    }
}

/// Rows of activations whose sums fit in the registers.
const fn group_of<Q: Quads>(parts: Parts) -> usize {
    match parts {
        Parts::Fours => Q::ROWS_OF_FOURS,
        Parts::Whole | Parts::Halves => Q::ROWS,
    }
}

#[inline(always)]
unsafe fn multiply_body<Q: Quads>(job: Panels, scratch: *mut u8) {
    match job.format {
        Format::Q4_0 => panels::<Q, Q4_0>(job, scratch),
        Format::Q4_1 => panels::<Q, Q4_1>(job, scratch),
        Format::Q5_0 => panels::<Q, Q5_0>(job, scratch),
        Format::Q8_0 => panels::<Q, Q8_0>(job, scratch),
        Format::Q4K => panels::<Q, Q4K>(job, scratch),
        Format::Q5K => panels::<Q, Q5K>(job, scratch),
        Format::Q6K => panels::<Q, Q6K>(job, scratch),
        Format::F32 | Format::F16 | Format::Bf16 | Format::Fp8 => {}
    }
}

#[inline(always)]
unsafe fn panels<Q: Quads, L: Layout>(job: Panels, scratch: *mut u8) {
    let raw = scratch.add(job.inp / BLOCK * PANEL_MOST);
    let mut first = 0;
    while first < job.outputs {
        let wide = PANEL_ROWS.min(job.outputs - first);
        let mut weights = job.weights.add(first * job.row_bytes);
        if wide < PANEL_ROWS {
            // The missing rows are zeros, whose products nobody stores.
            raw.write_bytes(0, PANEL_ROWS * job.row_bytes);
            raw.copy_from_nonoverlapping(weights, wide * job.row_bytes);
            weights = raw;
        }
        let y = job.y.add(first);
        let eights = matches!(L::TOGETHER, Together::Eights);
        if job.rows > group_of::<Q>(L::PARTS) || eights && any_together(job) {
            many::<Q, L>(job, weights, y, wide, scratch);
        } else if eights {
            let (rows, activations) = (job.rows, job.activations);
            if rows == 1 {
                alone::<Q, L, 1>(job, rows, activations, weights, None, y, wide);
            } else {
                alone::<Q, L, MOST_ROWS>(job, rows, activations, weights, None, y, wide);
            }
        } else {
            macro_rules! few {
                ($($rows:literal)*) => {
                    match job.rows {
                        $($rows => few::<Q, L, $rows>(job, weights, y, wide),)*
                        _ => {}
                    }
                };
            }
            few!(1 2 3 4 5 6 7 8);
        }
        first += wide;
    }
}

/// Whether any row of a single group is together with others.
#[inline(always)]
unsafe fn any_together(job: Panels) -> bool {
    (0..job.rows).any(|r| (*job.activations.add(r)).together)
}

/// Calls a macro with whether rows of a group are together, once for each way in which ggml adds up rows in [`steps`].
macro_rules! each_way {
    ($layout:ident, $way:ident) => {
        match $layout::TOGETHER {
            Together::None => $way!(false),
            Together::Fours => {
                for together in [false, true] {
                    $way!(together);
                }
            }
            // For the others see `alone`.
            Together::Eights => $way!(true),
        }
    };
}

/// The most rows in a group.
const MOST_ROWS: usize = 8;

/// The rows of a group that are alone, where each of them has [`nine_chains`], from the panel or by unpacking each unit.
#[inline(always)]
unsafe fn alone<Q: Quads, L: Layout, const MOST: usize>(
    job: Panels,
    rows: usize,
    activations: *const Block,
    weights: *const u8,
    panel: Option<*const u8>,
    y: *mut f32,
    wide: usize,
) {
    let rows = if MOST == 1 { 1 } else { rows };
    let together = |r: usize| (*activations.add(r)).together;
    if (0..rows).all(together) {
        return;
    }
    let mut sums = [Sums::<Q, 1>::zero(); MOST];
    let mut unpacked = Unit([0; 8 * PANEL_MOST]);
    let mut stored = stored(job, weights);
    for unit in 0..job.inp / (BLOCK * L::BLOCKS) {
        let panel = match panel {
            Some(panel) => panel.add(unit * L::PANEL_UNIT),
            None => {
                L::unpack::<Q>(stored, unpacked.0.as_mut_ptr());
                stored = stored.next(L::BYTES);
                unpacked.0.as_ptr()
            }
        };
        let activations = activations.add(unit * L::BLOCKS * rows);
        for (r, sums) in sums.iter_mut().enumerate().take(rows) {
            if !together(r) {
                nine_chains::<Q, L>(panel, activations.add(r), rows, sums);
            }
        }
    }
    for (r, &sums) in sums.iter().enumerate().take(rows) {
        if !together(r) {
            let y = y.add(r * job.y_stride);
            store::<Q, 1>(sums.total::<L>(), [true], y, job.y_stride, wide, job.add);
        }
    }
}

/// One group of rows: weights go from memory to the sums.
#[inline(always)]
unsafe fn few<Q: Quads, L: Layout, const ROWS: usize>(
    job: Panels,
    weights: *const u8,
    y: *mut f32,
    wide: usize,
) {
    macro_rules! way {
        ($together:expr) => {{
            let of = of::<L, ROWS>(job.activations, $together);
            if of != [false; ROWS] {
                let mut unit = Unit([0; 8 * PANEL_MOST]);
                let mut sums = Sums::<Q, ROWS>::zero();
                let (mut rows, mut activations) = (stored(job, weights), job.activations);
                for _ in 0..job.inp / (BLOCK * L::BLOCKS) {
                    L::unpack::<Q>(rows, unit.0.as_mut_ptr());
                    steps::<Q, L, ROWS>(unit.0.as_ptr(), activations, $together, &mut sums);
                    activations = activations.add(L::BLOCKS * ROWS);
                    rows = rows.next(L::BYTES);
                }
                let sums = sums.total::<L>();
                store::<Q, ROWS>(sums, of, y, job.y_stride, wide, job.add);
            }
        }};
    }
    each_way!(L, way);
}

/// Which rows of a group are together, or alone; those of a format that knows no difference count as alone.
#[inline(always)]
unsafe fn of<L: Layout, const ROWS: usize>(
    activations: *const Block,
    together: bool,
) -> [bool; ROWS] {
    let mut of = [!together; ROWS];
    if L::NESTED {
        for r in 0..ROWS {
            of[r] = (*activations.add(r)).together == together;
        }
    }
    of
}

/// The first unit of the sixteen rows at `weights`.
#[inline(always)]
fn stored(job: Panels, weights: *const u8) -> Rows {
    Rows {
        from: weights,
        stride: job.row_bytes,
        later: weights.wrapping_add(PANEL_ROWS * job.row_bytes),
    }
}

#[repr(align(64))]
struct Unit([u8; 8 * PANEL_MOST]);

/// Many rows: the panel is unpacked once.
#[inline(always)]
unsafe fn many<Q: Quads, L: Layout>(
    job: Panels,
    weights: *const u8,
    y: *mut f32,
    wide: usize,
    panel: *mut u8,
) {
    let blocks = job.inp / BLOCK;
    let mut rows = stored(job, weights);
    for unit in 0..blocks / L::BLOCKS {
        // Opaque, or the compiler carries sixteen addresses from unit to unit, which do not fit in the registers.
        rows.stride = black_box(rows.stride);
        L::unpack::<Q>(rows, panel.add(unit * L::PANEL_UNIT));
        rows = rows.next(L::BYTES);
    }
    let mut row = 0;
    while row < job.rows {
        let activations = job.activations.add(row * blocks);
        let y = y.add(row * job.y_stride);
        let rows = group_of::<Q>(L::PARTS).min(job.rows - row);
        macro_rules! tile {
            ($($rows:literal)*) => {
                match rows {
                    $($rows => tile::<Q, L, $rows>(blocks, panel, activations, y, job.y_stride, wide, job.add),)*
                    _ => {}
                }
            };
        }
        tile!(1 2 3 4 5 6 7 8);
        if matches!(L::TOGETHER, Together::Eights) {
            alone::<Q, L, MOST_ROWS>(job, rows, activations, weights, Some(panel), y, wide);
        }
        row += rows;
    }
}

#[inline(always)]
unsafe fn tile<Q: Quads, L: Layout, const ROWS: usize>(
    blocks: usize,
    panel: *const u8,
    activations: *const Block,
    y: *mut f32,
    y_stride: usize,
    wide: usize,
    add: bool,
) {
    macro_rules! way {
        ($together:expr) => {{
            let of = of::<L, ROWS>(activations, $together);
            if of != [false; ROWS] {
                let mut sums = Sums::<Q, ROWS>::zero();
                for unit in 0..blocks / L::BLOCKS {
                    let activations = activations.add(unit * L::BLOCKS * ROWS);
                    let panel = panel.add(unit * L::PANEL_UNIT);
                    steps::<Q, L, ROWS>(panel, activations, $together, &mut sums);
                }
                store::<Q, ROWS>(sums.total::<L>(), of, y, y_stride, wide, add);
            }
        }};
    }
    each_way!(L, way);
}

/// The sums of a tile's rows; a format uses those that it has.
#[derive(Clone, Copy)]
struct Sums<Q: Quads, const ROWS: usize> {
    chains: [[Q::Floats; Parts::MOST]; ROWS],
    minima: [Q::Floats; ROWS],
}

impl<Q: Quads, const ROWS: usize> Sums<Q, ROWS> {
    #[inline(always)]
    unsafe fn zero() -> Self {
        let zero = Q::Floats::splat(0.0);
        Self {
            chains: [[zero; Parts::MOST]; ROWS],
            minima: [zero; ROWS],
        }
    }

    /// Chains four apart are added first, then two, then one; the minima last.
    #[inline(always)]
    unsafe fn total<L: Layout>(self) -> [Q::Floats; ROWS] {
        let mut totals = self.minima;
        for (total, [a, b, c, d, e, f, g, h]) in totals.iter_mut().zip(self.chains) {
            if matches!(L::PARTS, Parts::Fours) || L::NESTED {
                let sum = a.add(e).add(c.add(g)).add(b.add(f).add(d.add(h)));
                *total = if L::MINIMUM { sum.add(*total) } else { sum };
            } else {
                *total = a;
            }
        }
        totals
    }
}

/// Adds one unit's products as of rows that are `together` or alone.
#[inline(always)]
unsafe fn steps<Q: Quads, L: Layout, const ROWS: usize>(
    panel: *const u8,
    activations: *const Block,
    together: bool,
    sums: &mut Sums<Q, ROWS>,
) {
    match L::TOGETHER {
        Together::None => {}
        Together::Fours => {
            let group = if together { 2 } else { L::BLOCKS };
            return two_chains::<Q, L, ROWS>(panel, activations, group, sums);
        }
        Together::Eights => return one_chain::<Q, L, ROWS>(panel, activations, sums),
    }
    for b in 0..L::BLOCKS {
        let (panel, activations) = (panel.add(b * PANEL_BLOCK), activations.add(b * ROWS));
        step::<Q, L, ROWS>(panel, activations, sums);
    }
}

/// One row's integer sums over some blocks.
#[derive(Clone, Copy)]
struct Nested<Q> {
    products: Q,
    minima: Q,
}

/// Adds a unit's products, whose scales are integers, to one chain of products and one of minima, `group` blocks at a
/// time.
#[inline(always)]
unsafe fn two_chains<Q: Quads, L: Layout, const ROWS: usize>(
    panel: *const u8,
    activations: *const Block,
    group: usize,
    sums: &mut Sums<Q, ROWS>,
) {
    let (scales, minima) = unit_floats::<Q, L>(panel);
    for at in (0..L::BLOCKS).step_by(group) {
        let (panel, activations) = (panel.add(at * PANEL_BLOCK), activations.add(at * ROWS));
        let integers = scaled::<Q, L, ROWS>(panel, activations, group);
        for r in 0..ROWS {
            let by = Q::Floats::splat((*activations.add(r)).scale);
            let Nested {
                products,
                minima: least,
            } = integers[r];
            let chain = &mut sums.chains[r][0];
            *chain = products.floats().fma(scales.mul(by), *chain);
            sums.minima[r] = least.floats().fma(minima.mul(by), sums.minima[r]);
        }
    }
}

/// Adds a unit's products, whose scales are integers, to one chain, which the minima are taken from at once.
#[inline(always)]
unsafe fn one_chain<Q: Quads, L: Layout, const ROWS: usize>(
    panel: *const u8,
    activations: *const Block,
    sums: &mut Sums<Q, ROWS>,
) {
    let (scales, minima) = unit_floats::<Q, L>(panel);
    let integers = scaled::<Q, L, ROWS>(panel, activations, L::BLOCKS);
    for r in 0..ROWS {
        let mut sum = integers[r].products.floats().mul(scales);
        if L::MINIMUM {
            sum = integers[r].minima.floats().fma(minima, sum);
        }
        let by = Q::Floats::splat((*activations.add(r)).scale);
        sums.chains[r][0] = sum.fma(by, sums.chains[r][0]);
    }
}

/// Integer sums of `blocks` blocks.
#[inline(always)]
unsafe fn scaled<Q: Quads, L: Layout, const ROWS: usize>(
    panel: *const u8,
    activations: *const Block,
    blocks: usize,
) -> [Nested<Q>; ROWS] {
    let zero = Nested {
        products: Q::splat(0),
        minima: Q::splat(0),
    };
    let mut integers = [zero; ROWS];
    let parts = L::PARTS as usize;
    for b in 0..blocks {
        let (panel, activations) = (panel.add(b * PANEL_BLOCK), activations.add(b * ROWS));
        for part in 0..parts {
            let mut dots = [Q::splat(0); ROWS];
            if L::OFFSET > 0 {
                for r in 0..ROWS {
                    dots[r] = Q::splat((*activations.add(r)).starts[part] as u32);
                }
            }
            for j in part * 8 / parts..(part + 1) * 8 / parts {
                let weights = Q::load(panel.add(64 * j));
                for r in 0..ROWS {
                    let four = (*activations.add(r)).quanta.as_ptr().add(4 * j);
                    dots[r] = dots[r].dot(weights, four);
                }
            }
            let scale = half_scales::<Q, L>(panel, part).signed_right::<16>();
            for r in 0..ROWS {
                integers[r].products = integers[r].products.add(dots[r].times(scale));
            }
        }
        if L::MINIMUM {
            let minimum = Q::load(panel.add(576));
            for r in 0..ROWS {
                let sum = Q::splat((*activations.add(r)).sum as u32);
                integers[r].minima = integers[r].minima.add(sum.times(minimum));
            }
        }
    }
    integers
}

/// A unit's scales as floats, and its minima with their signs turned.
#[inline(always)]
unsafe fn unit_floats<Q: Quads, L: Layout>(panel: *const u8) -> (Q::Floats, Q::Floats) {
    let floats = panel.add(L::BLOCKS * PANEL_BLOCK);
    (
        Q::Floats::load(floats.cast()),
        Q::Floats::load(floats.add(64).cast()),
    )
}

/// The integer scales of half a block, in the upper half of each lane and, but for Q4_K, in the lower one too.
#[inline(always)]
unsafe fn half_scales<Q: Quads, L: Layout>(panel: *const u8, half: usize) -> Q {
    let second = matches!(L::PARTS, Parts::Halves) && half == 1;
    Q::load(panel.add(if second { 576 } else { 512 }))
}

/// Adds a unit's products, whose scales are integers, to eight chains of products, for each four columns of a block, and
/// one of minima: of one row, whose blocks are `step` apart.
#[inline(always)]
unsafe fn nine_chains<Q: Quads, L: Layout>(
    panel: *const u8,
    activations: *const Block,
    step: usize,
    sums: &mut Sums<Q, 1>,
) {
    const HALF: usize = Parts::MOST / 2;
    let (scales, minima) = unit_floats::<Q, L>(panel);
    let by = Q::Floats::splat((*activations).scale);
    let scales = scales.mul(by);
    for half in 0..2 {
        let mut lanes = [Q::splat(0); HALF];
        if L::OFFSET > 0 {
            // ggml takes what a block's weights are too large by from the sum of the same number.
            for (j, lane) in lanes.iter_mut().enumerate() {
                let b = HALF * half + j;
                let panel = panel.add(b * PANEL_BLOCK);
                let starts = (*activations.add(b * step)).starts;
                for part in 0..2 {
                    let scale = half_scales::<Q, L>(panel, part).signed_right::<16>();
                    *lane = lane.add(Q::splat(starts[part] as u32).times(scale));
                }
            }
        }
        // Unrolled, this loop would load more than the registers hold.
        for b in 0..black_box(L::BLOCKS) {
            let panel = panel.add(b * PANEL_BLOCK);
            let quanta = (*activations.add(b * step)).quanta.as_ptr();
            let scales = half_scales::<Q, L>(panel, half);
            for (j, lane) in lanes.iter_mut().enumerate() {
                let at = HALF * half + j;
                let weights = Q::load(panel.add(64 * at));
                *lane = lane.dot_scaled(weights, quanta.add(4 * at), scales);
            }
        }
        for (lane, chain) in lanes.iter().zip(&mut sums.chains[0][HALF * half..]) {
            *chain = lane.floats().fma(scales, *chain);
        }
    }
    if L::MINIMUM {
        let mut least = Q::splat(0);
        for b in 0..L::BLOCKS {
            let minimum = Q::load(panel.add(b * PANEL_BLOCK + 576));
            let sum = Q::splat((*activations.add(b * step)).sum as u32);
            least = least.add(sum.times(minimum));
        }
        sums.minima[0] = least.floats().fma(minima.mul(by), sums.minima[0]);
    }
}

/// Adds one block's products.
#[inline(always)]
unsafe fn step<Q: Quads, L: Layout, const ROWS: usize>(
    panel: *const u8,
    activations: *const Block,
    sums: &mut Sums<Q, ROWS>,
) {
    let first = Q::Floats::load(panel.add(512).cast());
    let parts = L::PARTS as usize;
    for part in 0..parts {
        let mut dots = [Q::splat(0); ROWS];
        if L::OFFSET > 0 {
            for r in 0..ROWS {
                dots[r] = Q::splat((*activations.add(r)).starts[part] as u32);
            }
        }
        for j in part * 8 / parts..(part + 1) * 8 / parts {
            let weights = Q::load(panel.add(64 * j));
            for r in 0..ROWS {
                let four = (*activations.add(r)).quanta.as_ptr().add(4 * j);
                dots[r] = if L::WIDE {
                    dots[r].dot_signed(weights, four)
                } else {
                    dots[r].dot(weights, four)
                };
            }
        }
        let scales = if matches!(L::PARTS, Parts::Halves) && part == 1 {
            Q::Floats::load(panel.add(576).cast())
        } else {
            first
        };
        let chain = if matches!(L::PARTS, Parts::Fours) {
            part
        } else {
            0
        };
        for r in 0..ROWS {
            let both = scales.mul(Q::Floats::splat((*activations.add(r)).scale));
            let sum = &mut sums.chains[r][chain];
            *sum = dots[r].floats().fma(both, *sum);
        }
    }
    if L::MINIMUM {
        let minima = Q::Floats::load(panel.add(576).cast());
        for r in 0..ROWS {
            let by = Q::Floats::splat((*activations.add(r)).scaled_sum);
            let sum = if matches!(L::PARTS, Parts::Fours) {
                &mut sums.minima[r]
            } else {
                &mut sums.chains[r][0]
            };
            *sum = minima.fma(by, *sum);
        }
    }
}

#[inline(always)]
unsafe fn store<Q: Quads, const ROWS: usize>(
    sums: [Q::Floats; ROWS],
    of: [bool; ROWS],
    y: *mut f32,
    y_stride: usize,
    wide: usize,
    add: bool,
) {
    for (r, &sum) in sums.iter().enumerate() {
        if !of[r] {
            continue;
        }
        let to = y.add(r * y_stride);
        if wide == PANEL_ROWS {
            let sum = if add {
                Q::Floats::load(to).add(sum)
            } else {
                sum
            };
            sum.store(to);
        } else {
            let mut lanes = [0.0f32; PANEL_ROWS];
            sum.store(lanes.as_mut_ptr());
            for (lane, &sum) in lanes[..wide].iter().enumerate() {
                let to = to.add(lane);
                *to = if add { *to + sum } else { sum };
            }
        }
    }
}
