//! How the integer products of a row and a panel are added up.
//!
//! A chain adds up parts of the blocks of a row in ascending order, `sum = fma(dot, scale * x_scale, sum)`: to the bit
//! what ggml's kernels for x86 compute. Q4_0 has one chain. Q4_1, Q5_0 and Q8_0 have eight, one for each four columns of a
//! block, added up over a tree at the end, and minima have one of their own; so has Q5_1. IQ4_NL and MXFP4 have one chain. The scales of Q4_K, Q5_K and Q6_K are integers
//! themselves, so that scaled sums over some blocks are integers yet. ggml adds them up in one order for a row alone and
//! in another for rows that it multiplies together: Q4_K has a chain that takes two blocks at a time (together) or eight
//! (alone), and one of minima, and so has Q2_K, four at a time; Q3_K, Q5_K, Q6_K, IQ3 and IQ4_XS have a chain that takes eight blocks and their minima at once (together), or
//! eight chains and one of minima (alone).

use std::hint::black_box;

use super::activations::{Alone, Block};
use super::format::{Parts, Together};
use super::int8x4::Int8x4;
use super::unpack::{Layout, PANEL_BLOCK, ScaledSums};
use crate::simd::Simd;

/// The sums of a tile's rows; a format uses those that it has.
#[derive(Clone, Copy)]
pub(super) struct Sums<Q: Int8x4, const ROWS: usize> {
    chains: [[Q::Floats; Parts::MOST]; ROWS],
    minima: [Q::Floats; ROWS],
}

impl<Q: Int8x4, const ROWS: usize> Sums<Q, ROWS> {
    #[inline(always)]
    pub unsafe fn zero() -> Self {
        let zero = Q::Floats::splat(0.0);
        Self {
            chains: [[zero; Parts::MOST]; ROWS],
            minima: [zero; ROWS],
        }
    }

    /// Adds integer sums to a row's chain of products and to that of minima; `by` is the scale of its activations.
    #[inline(always)]
    pub unsafe fn add(&mut self, row: usize, unit: ScaledSums<Q>, by: f32) {
        let by = Q::Floats::splat(by);
        let (chain, minima) = (&mut self.chains[row][0], &mut self.minima[row]);
        *chain = unit.products.floats().fma(unit.scale.mul(by), *chain);
        *minima = unit.minima.floats().fma(unit.least.mul(by), *minima);
    }

    /// Chains four apart are added first, then two, then one; the minima last.
    #[inline(always)]
    pub unsafe fn total<L: Layout>(self) -> [Q::Floats; ROWS] {
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
pub(super) unsafe fn steps<Q: Int8x4, L: Layout, const ROWS: usize>(
    panel: *const u8,
    activations: *const Block,
    together: bool,
    sums: &mut Sums<Q, ROWS>,
) {
    match L::TOGETHER {
        Together::None => {}
        Together::Fours => {
            let group = if together { L::GROUP } else { L::BLOCKS };
            return two_chains::<Q, L, ROWS>(panel, activations, group, sums);
        }
        Together::Eights => return one_chain::<Q, L, ROWS>(panel, activations, sums),
    }
    for b in 0..L::BLOCKS {
        let (panel, activations) = (panel.add(b * PANEL_BLOCK), activations.add(b * ROWS));
        step::<Q, L, ROWS>(panel, activations, sums);
    }
}

/// Rows' integer sums over some blocks.
struct Integers<Q, const ROWS: usize> {
    products: [Q; ROWS],
    minima: [Q; ROWS],
}

/// Adds a unit's products, whose scales are integers, to one chain of products and one of minima, `group` blocks at a
/// time.
#[inline(always)]
unsafe fn two_chains<Q: Int8x4, L: Layout, const ROWS: usize>(
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
            let unit = ScaledSums {
                products: integers.products[r],
                minima: integers.minima[r],
                scale: scales,
                least: minima,
            };
            sums.add(r, unit, (*activations.add(r)).scale);
        }
    }
}

/// Adds a unit's products, whose scales are integers, to one chain, which the minima are taken from at once.
#[inline(always)]
unsafe fn one_chain<Q: Int8x4, L: Layout, const ROWS: usize>(
    panel: *const u8,
    activations: *const Block,
    sums: &mut Sums<Q, ROWS>,
) {
    let (scales, minima) = unit_floats::<Q, L>(panel);
    let integers = scaled::<Q, L, ROWS>(panel, activations, L::BLOCKS);
    for r in 0..ROWS {
        let mut sum = integers.products[r].floats().mul(scales);
        if L::MINIMUM {
            sum = integers.minima[r].floats().fma(minima, sum);
        }
        let by = Q::Floats::splat((*activations.add(r)).scale);
        sums.chains[r][0] = sum.fma(by, sums.chains[r][0]);
    }
}

/// Whether sums of pairs are added up before they are widened: where at least two vectors' are.
const fn narrow<Q: Int8x4, L: Layout>() -> bool {
    Q::NARROW && !L::WIDE && L::NARROW > 1
}

/// Adds the integer sums of a part of a block, by `scales` that stand twice in each lane.
#[inline(always)]
unsafe fn add_narrow<Q: Int8x4, L: Layout, const ROWS: usize>(
    panel: *const u8,
    activations: *const Block,
    part: usize,
    scales: Q,
    sums: &mut [Q; ROWS],
) {
    let vectors = 8 / L::PARTS as usize;
    for first in (0..vectors).step_by(L::NARROW) {
        let mut pairs = [Q::splat(0); ROWS];
        for j in part * vectors + first..part * vectors + vectors.min(first + L::NARROW) {
            let weights = Q::load(panel.add(64 * j));
            for r in 0..ROWS {
                let four = (*activations.add(r)).quanta.as_ptr().add(4 * j);
                pairs[r] = pairs[r].pairs(weights, four);
            }
        }
        for r in 0..ROWS {
            sums[r] = sums[r].add(pairs[r].widened(scales));
        }
    }
}

/// The integer sums of a part of a block.
#[inline(always)]
unsafe fn dots<Q: Int8x4, L: Layout, const ROWS: usize>(
    panel: *const u8,
    activations: *const Block,
    part: usize,
) -> [Q; ROWS] {
    let parts = L::PARTS as usize;
    let mut dots = [Q::splat(0); ROWS];
    if L::OFFSET > 0 {
        for r in 0..ROWS {
            dots[r] = Q::splat((*activations.add(r)).starts[part] as u32);
        }
    }
    if const { narrow::<Q, L>() } {
        add_narrow::<Q, L, ROWS>(panel, activations, part, Q::splat(0x0001_0001), &mut dots);
        return dots;
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
    dots
}

/// Integer sums of `blocks` blocks.
#[inline(always)]
unsafe fn scaled<Q: Int8x4, L: Layout, const ROWS: usize>(
    panel: *const u8,
    activations: *const Block,
    blocks: usize,
) -> Integers<Q, ROWS> {
    let (mut products, mut minima) = ([Q::splat(0); ROWS], [Q::splat(0); ROWS]);
    for b in 0..blocks {
        let (panel, activations) = (panel.add(b * PANEL_BLOCK), activations.add(b * ROWS));
        for part in 0..L::PARTS as usize {
            let scales = half_scales::<Q, L>(panel, part);
            let scale = scales.signed_right::<16>();
            if const { narrow::<Q, L>() } {
                // Those of Q2_K share their lanes with minima.
                let twice = if L::MINIMUM && matches!(L::PARTS, Parts::Halves) {
                    scales.and(Q::splat(0xffff_0000)).or(scale)
                } else {
                    scales
                };
                if L::OFFSET > 0 {
                    for r in 0..ROWS {
                        let start = Q::splat((*activations.add(r)).starts[part] as u32);
                        products[r] = products[r].add(start.times(scale));
                    }
                }
                add_narrow::<Q, L, ROWS>(panel, activations, part, twice, &mut products);
            } else {
                let dots = dots::<Q, L, ROWS>(panel, activations, part);
                for r in 0..ROWS {
                    products[r] = products[r].add(dots[r].times(scale));
                }
            }
        }
        if L::MINIMUM && matches!(L::PARTS, Parts::Halves) {
            // They share their places with the scales.
            for half in 0..2 {
                let minimum = half_scales::<Q, L>(panel, half).and(Q::splat(0xffff));
                for r in 0..ROWS {
                    let sum = Q::splat((*activations.add(r)).starts[half] as u32);
                    minima[r] = minima[r].add(minimum.widened(sum));
                }
            }
        } else if L::MINIMUM {
            let minimum = Q::load(panel.add(576));
            for r in 0..ROWS {
                let sum = Q::splat((*activations.add(r)).sum as u32);
                minima[r] = minima[r].add(minimum.widened(sum));
            }
        }
    }
    Integers { products, minima }
}

/// A unit's scales as floats, and its minima with their signs turned, zeros where the format has none.
#[inline(always)]
unsafe fn unit_floats<Q: Int8x4, L: Layout>(panel: *const u8) -> (Q::Floats, Q::Floats) {
    let floats = panel.add(L::BLOCKS * PANEL_BLOCK);
    let minima = if L::MINIMUM {
        Q::Floats::load(floats.add(64).cast())
    } else {
        Q::Floats::splat(0.0)
    };
    (Q::Floats::load(floats.cast()), minima)
}

/// The integer scales of half a block, in the upper half of each lane; in the lower one too, but for IQ4_XS, and the
/// minima of Q2_K.
#[inline(always)]
unsafe fn half_scales<Q: Int8x4, L: Layout>(panel: *const u8, half: usize) -> Q {
    let second = matches!(L::PARTS, Parts::Halves) && half == 1;
    Q::load(panel.add(if second { 576 } else { 512 }))
}

/// Adds a unit's products, whose scales are integers, to eight chains of products, for each four columns of a block, and
/// one of minima: of one row, whose blocks are `step` apart.
#[inline(always)]
pub(super) unsafe fn nine_chains<Q: Int8x4, L: Layout>(
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
        if L::OFFSET > 0 && matches!(L::ALONE, Alone::Parts) {
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
            let activations = activations.add(b * step);
            let quanta = (*activations).quanta.as_ptr();
            let scales = half_scales::<Q, L>(panel, half);
            for (j, lane) in lanes.iter_mut().enumerate() {
                let at = HALF * half + j;
                let (weights, quanta) = (Q::load(panel.add(64 * at)), quanta.add(4 * at));
                *lane = match L::ALONE {
                    Alone::Parts => lane.dot_scaled(weights, quanta, scales),
                    Alone::Pairs => {
                        let start = (*activations).starts[at];
                        lane.dot_scaled_from(weights, quanta, start, scales)
                    }
                    Alone::Fours => {
                        let start = Q::splat((*activations).starts[at] as u32);
                        let dot = start.dot_signed(weights, quanta);
                        lane.add(dot.times(scales.signed_right::<16>()))
                    }
                };
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
            least = least.add(minimum.widened(sum));
        }
        sums.minima[0] = least.floats().fma(minima.mul(by), sums.minima[0]);
    }
}

/// Adds one block's products, whose scales are floats.
#[inline(always)]
unsafe fn step<Q: Int8x4, L: Layout, const ROWS: usize>(
    panel: *const u8,
    activations: *const Block,
    sums: &mut Sums<Q, ROWS>,
) {
    let scales = Q::Floats::load(panel.add(512).cast());
    for part in 0..L::PARTS as usize {
        let dots = dots::<Q, L, ROWS>(panel, activations, part);
        for r in 0..ROWS {
            let both = scales.mul(Q::Floats::splat((*activations.add(r)).scale));
            let sum = &mut sums.chains[r][part];
            *sum = dots[r].floats().fma(both, *sum);
        }
    }
    if L::MINIMUM {
        let minima = Q::Floats::load(panel.add(576).cast());
        for r in 0..ROWS {
            let by = Q::Floats::splat((*activations.add(r)).scaled_sum);
            sums.minima[r] = minima.fma(by, sums.minima[r]);
        }
    }
}
