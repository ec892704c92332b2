//! Products with quantised weights: exact integer sums of 32 columns, scaled and added in f32.
//!
//! An output's bits depend neither on the instruction set nor on other rows or outputs: [`super::sums`] says how it is
//! added up.
//!
//! Few rows use the weights as they are unpacked; many rows share a panel that is unpacked once.
//!
//! One file above 400 lines: the paths of few and of many rows give the same bits, and are read against each other.

use std::hint::black_box;
use std::mem::MaybeUninit;

use super::activations::{Block, Reading};
use super::format::{BLOCK, Format, Parts, Together};
use super::int8x4::Int8x4;
use super::sums::{Sums, nine_chains, steps};
use super::unpack::{
    Iq3S, Iq3Xxs, Iq4Nl, Iq4Xs, Layout, Mxfp4, PANEL_MOST, PANEL_ROWS, Q2K, Q3K, Q4_0, Q4_1, Q4K,
    Q5_0, Q5_1, Q5K, Q6K, Q8_0, Rows,
};
use crate::Isa;
use crate::simd::Simd;

/// Compiles a body `unsafe fn body<Q: Int8x4>(arguments)` for every instruction set, behind one function: see `kernel!`.
/// AVX-512 without its integer products runs as AVX2.
macro_rules! int8x4_kernel {
    ($(#[$meta:meta])* unsafe fn $name:ident = $body:ident($($arg:ident: $type:ty),* $(,)?) $(-> $out:ty)?) => {
        $(#[$meta])*
        pub(super) unsafe fn $name(isa: Isa, $($arg: $type),*) $(-> $out)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512vnni,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
            unsafe fn vnni($($arg: $type),*) $(-> $out)? {
                $body::<super::int8x4::VnniInt8x4>($($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            unsafe fn avx2($($arg: $type),*) $(-> $out)? {
                $body::<super::int8x4::Avx2Int8x4>($($arg),*)
            }
            match isa.0 {
                #[cfg(target_arch = "x86_64")]
                crate::dispatch::Kind::Avx512Bf16 => vnni($($arg),*),
                #[cfg(target_arch = "x86_64")]
                crate::dispatch::Kind::Avx512 | crate::dispatch::Kind::Avx2 => avx2($($arg),*),
                crate::dispatch::Kind::Scalar => $body::<super::int8x4::ScalarInt8x4>($($arg),*),
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

int8x4_kernel! {
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
    fn of<Q: Int8x4>(format: Format) -> Option<Reading> {
        Some(match format {
            Format::Q4_0 => reading_of::<Q, Q4_0>(),
            Format::Q4_1 => reading_of::<Q, Q4_1>(),
            Format::Q5_0 => reading_of::<Q, Q5_0>(),
            Format::Q5_1 => reading_of::<Q, Q5_1>(),
            Format::Q8_0 => reading_of::<Q, Q8_0>(),
            Format::Q2K => reading_of::<Q, Q2K>(),
            Format::Q3K => reading_of::<Q, Q3K>(),
            Format::Q4K => reading_of::<Q, Q4K>(),
            Format::Q5K => reading_of::<Q, Q5K>(),
            Format::Q6K => reading_of::<Q, Q6K>(),
            Format::Iq3Xxs => reading_of::<Q, Iq3Xxs>(),
            Format::Iq3S => reading_of::<Q, Iq3S>(),
            Format::Iq4Nl => reading_of::<Q, Iq4Nl>(),
            Format::Iq4Xs => reading_of::<Q, Iq4Xs>(),
            Format::Mxfp4 => reading_of::<Q, Mxfp4>(),
            Format::F32 | Format::F16 | Format::Bf16 | Format::Fp8 => return None,
        })
    }
    match isa.0 {
        #[cfg(target_arch = "x86_64")]
        crate::dispatch::Kind::Avx512Bf16 => of::<super::int8x4::VnniInt8x4>(format),
        #[cfg(target_arch = "x86_64")]
        crate::dispatch::Kind::Avx512 | crate::dispatch::Kind::Avx2 => {
            of::<super::int8x4::Avx2Int8x4>(format)
        }
        crate::dispatch::Kind::Scalar => of::<super::int8x4::ScalarInt8x4>(format),
    }
}

fn reading_of<Q: Int8x4, L: Layout>() -> Reading {
    Reading {
        offset: match (L::WIDE && !Q::BIASED, L::MINIMUM, L::PARTS) {
            (true, _, _) => 0,
            (_, true, Parts::Halves) => -1,
            _ => L::OFFSET,
        },
        parts: L::PARTS,
        alone: L::ALONE,
        narrow: L::BLOCKS == 1,
        shared: if L::NESTED { L::BLOCKS } else { 1 },
        together: L::TOGETHER,
        group: group_of::<Q>(L::PARTS),
    }
}

/// Whether a row alone has sums of its own: see [`alone`].
const fn eights<L: Layout>() -> bool {
    matches!(L::TOGETHER, Together::Eights)
}

/// Rows of activations whose sums fit in the registers.
const fn group_of<Q: Int8x4>(parts: Parts) -> usize {
    match parts {
        Parts::Fours => Q::ROWS_OF_FOURS,
        Parts::Whole | Parts::Halves => Q::ROWS,
    }
}

#[inline(always)]
unsafe fn multiply_body<Q: Int8x4>(job: Panels, scratch: *mut u8) {
    match job.format {
        Format::Q4_0 => panels::<Q, Q4_0>(job, scratch),
        Format::Q4_1 => panels::<Q, Q4_1>(job, scratch),
        Format::Q5_0 => panels::<Q, Q5_0>(job, scratch),
        Format::Q5_1 => panels::<Q, Q5_1>(job, scratch),
        Format::Q8_0 => panels::<Q, Q8_0>(job, scratch),
        Format::Q2K => panels::<Q, Q2K>(job, scratch),
        Format::Q3K => panels::<Q, Q3K>(job, scratch),
        Format::Q4K => panels::<Q, Q4K>(job, scratch),
        Format::Q5K => panels::<Q, Q5K>(job, scratch),
        Format::Q6K => panels::<Q, Q6K>(job, scratch),
        Format::Iq3Xxs => panels::<Q, Iq3Xxs>(job, scratch),
        Format::Iq3S => panels::<Q, Iq3S>(job, scratch),
        Format::Iq4Nl => panels::<Q, Iq4Nl>(job, scratch),
        Format::Iq4Xs => panels::<Q, Iq4Xs>(job, scratch),
        Format::Mxfp4 => panels::<Q, Mxfp4>(job, scratch),
        Format::F32 | Format::F16 | Format::Bf16 | Format::Fp8 => {}
    }
}

#[inline(always)]
unsafe fn panels<Q: Int8x4, L: Layout>(job: Panels, scratch: *mut u8) {
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
        let group = const { group_of::<Q>(L::PARTS) };
        if job.rows > group || const { eights::<L>() } && any_together(job) {
            many::<Q, L>(job, weights, y, wide, scratch);
        } else if const { eights::<L>() } {
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
                        $($rows if const { $rows <= group_of::<Q>(L::PARTS) && !eights::<L>() } => {
                            few::<Q, L, $rows>(job, weights, y, wide)
                        })*
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
unsafe fn alone<Q: Int8x4, L: Layout, const MOST: usize>(
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
    let mut unpacked = Unit::new();
    let mut stored = stored(job, weights);
    for unit in 0..job.inp / (BLOCK * L::BLOCKS) {
        let panel = match panel {
            Some(panel) => panel.add(unit * L::PANEL_UNIT),
            None => {
                L::unpack::<Q>(stored, unpacked.as_mut_ptr());
                stored = stored.next(L::BYTES);
                unpacked.as_mut_ptr()
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
unsafe fn few<Q: Int8x4, L: Layout, const ROWS: usize>(
    job: Panels,
    weights: *const u8,
    y: *mut f32,
    wide: usize,
) {
    macro_rules! way {
        ($together:expr) => {{
            let of = of::<L, ROWS>(job.activations, $together);
            if of != [false; ROWS] {
                if ROWS == 1
                    && !$together
                    && let Some(sums) = fused::<Q, L>(job, weights)
                {
                    let sums = sums.total::<L>();
                    return store::<Q, 1>(sums, [true], y, job.y_stride, wide, job.add);
                }
                let mut unit = Unit::new();
                let mut sums = Sums::<Q, ROWS>::zero();
                let (mut rows, mut activations) = (stored(job, weights), job.activations);
                for _ in 0..job.inp / (BLOCK * L::BLOCKS) {
                    L::unpack::<Q>(rows, unit.as_mut_ptr());
                    steps::<Q, L, ROWS>(unit.as_mut_ptr(), activations, $together, &mut sums);
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

/// The sums of one row alone, where its units need not be unpacked.
#[inline(always)]
unsafe fn fused<Q: Int8x4, L: Layout>(job: Panels, weights: *const u8) -> Option<Sums<Q, 1>> {
    let mut sums = Sums::<Q, 1>::zero();
    let (mut rows, mut activations) = (stored(job, weights), job.activations);
    for _ in 0..job.inp / (BLOCK * L::BLOCKS) {
        let unit = L::fused::<Q>(rows, activations)?;
        sums.add(0, unit, (*activations).scale);
        activations = activations.add(L::BLOCKS);
        rows = rows.next(L::BYTES);
    }
    Some(sums)
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

/// An unpacked unit, of which nothing is read before it is written.
#[repr(align(64))]
struct Unit(MaybeUninit<[u8; 8 * PANEL_MOST]>);

impl Unit {
    #[inline(always)]
    fn new() -> Self {
        Self(MaybeUninit::uninit())
    }
    #[inline(always)]
    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.0.as_mut_ptr().cast()
    }
}

/// Many rows: the panel is unpacked once.
#[inline(always)]
unsafe fn many<Q: Int8x4, L: Layout>(
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
                    $($rows if const { $rows <= group_of::<Q>(L::PARTS) } => {
                        tile::<Q, L, $rows>(blocks, panel, activations, y, job.y_stride, wide, job.add)
                    })*
                    _ => {}
                }
            };
        }
        tile!(1 2 3 4 5 6 7 8);
        if const { eights::<L>() } {
            alone::<Q, L, MOST_ROWS>(job, rows, activations, weights, Some(panel), y, wide);
        }
        row += rows;
    }
}

#[inline(always)]
unsafe fn tile<Q: Int8x4, L: Layout, const ROWS: usize>(
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

#[inline(always)]
unsafe fn store<Q: Int8x4, const ROWS: usize>(
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
