//! Several products at once, split over a pool of threads.
//!
//! One file above 400 lines: what a job prepares, and how its parts are shared out and computed, follow from one layout.

use std::sync::{Mutex, PoisonError};

use super::activations::{self, Block, Reading};
use super::brain::{self, PAIRS};
use super::float::{self, FloatSums, Order, Outputs};
use super::format::{BLOCK, Format, Matrix};
use super::integer::{self, Panels};
use super::narrow::to_bf16;
use super::unpack::PANEL_ROWS;
use crate::batch_class::BatchClass;
use crate::bf16::round;
use crate::ggml::round_to_half;
use crate::shared::Shared;
use crate::worker_pool::WorkerPool;
use crate::{Isa, LANES, padded, strided};

/// `y` (rows, out) = `x` (rows, inp) times the transposed matrix (out, inp); added to `y` if `add`.
///
/// Rows of `x` and `y` are `x_stride` and `y_stride` floats apart; what lies between them is neither read nor written.
pub struct Product<'a> {
    pub matrix: Matrix<'a>,
    pub rows: usize,
    pub x: &'a [f32],
    pub x_stride: usize,
    pub y: &'a mut [f32],
    pub y_stride: usize,
    pub add: bool,
    /// How floats are added up; quantised weights have ggml's order always, but MXFP4, whose numbers are floats of four bits.
    pub sums: FloatSums,
    /// The batch class of each row; empty if every row is alone.
    pub classes: &'a [BatchClass],
}

/// Memory that calls of [`products`] use again: it grows to what the largest needs.
#[derive(Default)]
pub struct Scratch {
    blocks: Vec<Block>,
    padded: Vec<f32>,
    plans: Vec<Plan>,
    chunks: Vec<Chunk>,
    parts: Vec<Part>,
    threads: Vec<Mutex<Panel>>,
}

#[derive(Default)]
struct Panel {
    lines: Vec<Line>,
}

#[derive(Clone)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// How a product finds its activations.
#[derive(Clone, Copy)]
struct Plan {
    source: Source,
    rows: usize,
    inp: usize,
    /// None: as floats.
    reading: Option<Reading>,
    /// What floats are rounded to.
    narrowed: Narrowed,
    /// Where they begin in the scratch's blocks or padded rows.
    at: usize,
    /// Prepared by an earlier product with the same activations, or read where they are.
    ready: bool,
    /// Where the product's results go.
    y: *mut f32,
}

// SAFETY: the pointers are used only within the call that made the plan, for parts that do not overlap.
unsafe impl Send for Plan {}
// SAFETY: as above.
unsafe impl Sync for Plan {}

/// What activations that stay floats become before they are multiplied.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Narrowed {
    No,
    /// Floats that halves can hold.
    Halves,
    /// Rows of bf16, each in the place of its floats.
    Brains,
}

impl Narrowed {
    fn of(sums: FloatSums, format: Format) -> Self {
        match (sums, format) {
            (FloatSums::Ggml, Format::F16) => Self::Halves,
            (FloatSums::Ggml, Format::Bf16) => Self::Brains,
            _ => Self::No,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Source {
    x: *const f32,
    stride: usize,
}

/// Rows to prepare.
#[derive(Clone, Copy)]
struct Chunk {
    product: usize,
    first: usize,
    rows: usize,
}

/// Outputs to compute.
#[derive(Clone, Copy)]
struct Part {
    product: usize,
    first: usize,
    outputs: usize,
}

/// Below so many values the calling thread prepares activations alone.
const ALONE: usize = 16 * 1024;
/// Parts for each thread: enough to even out threads that the system slows down.
const PARTS: usize = 8;
/// Multiplications below which a part is not worth handing out.
const LEAST: usize = 64 * 1024;
/// Multiplications that take as long as reading a byte of the weights.
const BYTE: usize = 2;

/// Computes all `jobs`.
///
/// A quantised format rounds the activations to int8 in blocks (see [`super::activations`]) and multiplies integers
/// exactly; other formats, and MXFP4 unless [`FloatSums::Ggml`] is asked for, multiply in f32. A result's bits depend on its row of `x`, on that row's class,
/// and on its row of the matrix alone: neither on the other rows and products of the call, nor on `isa` or the pool.
///
/// Activations that are not finite make that row's results NaN. Panics if a job's lengths do not fit together: a matrix
/// that is not whole ([`Matrix::is_whole`]), strides below the widths, slices too short for their rows.
pub fn products(isa: Isa, pool: &WorkerPool, jobs: &mut [Product<'_>], scratch: &mut Scratch) {
    for job in jobs.iter() {
        assert!(
            job.matrix.is_whole(),
            "a matrix's bytes do not fit its shape"
        );
        let (inp, out) = (job.matrix.inp, job.matrix.out);
        assert!(job.x_stride >= inp && job.y_stride >= out, "rows overlap");
        let rows = job.classes.len();
        assert!(rows == 0 || rows >= job.rows, "too few rows are told of");
        let [x, y] = [(job.x_stride, inp), (job.y_stride, out)];
        let [x, y] = [x, y].map(|(stride, width)| strided(job.rows, stride, width));
        assert!(job.x.len() >= x, "x is too short");
        assert!(job.y.len() >= y, "y is too short");
    }
    plan(isa, jobs, scratch);
    prepare(isa, pool, jobs, scratch);
    split(pool, jobs, scratch);
    while scratch.threads.len() < pool.threads() {
        scratch.threads.push(Mutex::default());
    }
    let Scratch {
        blocks,
        padded,
        plans,
        parts,
        threads,
        ..
    } = &*scratch;
    let jobs = &*jobs;
    pool.run(parts.len(), &|index, thread| {
        let part = parts[index];
        let (job, plan) = (&jobs[part.product], plans[part.product]);
        let mut panel = threads[thread]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the lengths were checked above; parts do not overlap, and nobody else holds `y`.
        unsafe { compute(isa, job, plan, part, blocks, padded, &mut panel) };
    });
    scratch.plans.clear();
}

/// Gives each product its place for activations; products that share them share the place.
fn plan(isa: Isa, jobs: &mut [Product<'_>], scratch: &mut Scratch) {
    let (mut blocks, mut floats) = (0, 0);
    scratch.plans.clear();
    for index in 0..jobs.len() {
        let y = jobs[index].y.as_mut_ptr();
        let job = &jobs[index];
        let (format, inp) = (job.matrix.format, job.matrix.inp);
        let reading = match (job.sums, format) {
            // Floats of four bits: exactly what they are, where nothing asks for ggml's rounding.
            (FloatSums::Chains, Format::Mxfp4) => None,
            _ => integer::reading(isa, format),
        };
        let narrowed = Narrowed::of(job.sums, format);
        let source = Source {
            x: job.x.as_ptr(),
            stride: job.x_stride,
        };
        let same = |(plan, other): &(&Plan, &Product<'_>)| {
            plan.source == source
                && plan.reading == reading
                && plan.narrowed == narrowed
                && plan.rows == job.rows
                && plan.inp == inp
                && other.classes == job.classes
        };
        let mut plan = Plan {
            source,
            rows: job.rows,
            inp,
            reading,
            narrowed,
            at: 0,
            ready: true,
            y,
        };
        if let Some((other, _)) = scratch.plans.iter().zip(&*jobs).find(same) {
            plan.at = other.at;
        } else if reading.is_some() {
            plan.at = blocks;
            plan.ready = false;
            blocks += job.rows * (inp / BLOCK);
        } else if narrowed != Narrowed::No || !inp.is_multiple_of(LANES) {
            plan.at = floats;
            plan.ready = false;
            floats += job.rows * padded(inp);
        }
        scratch.plans.push(plan);
    }
    if scratch.blocks.len() < blocks {
        scratch.blocks.resize(blocks, Block::ZERO);
    }
    if scratch.padded.len() < floats {
        scratch.padded.resize(floats, 0.0);
    }
}

/// Rounds or pads the activations.
fn prepare(isa: Isa, pool: &WorkerPool, jobs: &[Product<'_>], scratch: &mut Scratch) {
    let mut values = 0;
    scratch.chunks.clear();
    for (product, plan) in scratch.plans.iter().enumerate() {
        if plan.ready || plan.rows == 0 {
            continue;
        }
        values += plan.rows * plan.inp;
        let group = plan.reading.map_or(1, |reading| reading.group);
        let step = (8 * 1024 / plan.inp.max(1))
            .next_multiple_of(group)
            .max(group);
        for first in (0..plan.rows).step_by(step) {
            let rows = step.min(plan.rows - first);
            scratch.chunks.push(Chunk {
                product,
                first,
                rows,
            });
        }
    }
    let (blocks, floats) = (
        Shared::new(&mut scratch.blocks),
        Shared::new(&mut scratch.padded),
    );
    let (chunks, plans) = (&scratch.chunks, &scratch.plans);
    let work = |index: usize, _: usize| {
        let Chunk {
            product,
            first,
            rows,
        } = chunks[index];
        let (job, plan) = (&jobs[product], plans[product]);
        if let Some(reading) = plan.reading {
            let per_row = plan.inp / BLOCK;
            let start = plan.at + first * per_row;
            // SAFETY: chunks do not overlap.
            let blocks = unsafe { blocks.slice(start..start + rows * per_row) };
            activations::quantise(
                isa,
                reading,
                job.x,
                job.x_stride,
                plan.inp,
                first,
                rows,
                job.classes,
                blocks,
            );
            return;
        }
        for row in first..first + rows {
            let width = padded(plan.inp);
            let start = plan.at + row * width;
            // SAFETY: as above.
            let to = unsafe { floats.slice(start..start + width) };
            let from = &job.x[row * job.x_stride..][..plan.inp];
            if plan.narrowed == Narrowed::Brains {
                put_brains(isa, from, to);
                continue;
            }
            to[..plan.inp].copy_from_slice(from);
            to[plan.inp..].fill(0.0);
            if plan.narrowed == Narrowed::Halves {
                round_to_half(isa, 1, width, width, to);
            }
        }
    };
    if values <= ALONE {
        (0..chunks.len()).for_each(|index| work(index, 0));
    } else {
        pool.run(chunks.len(), &work);
    }
}

/// A row rounded to bf16 into the place of a padded row of floats, zeros behind it.
fn put_brains(isa: Isa, from: &[f32], to: &mut [f32]) {
    // SAFETY: floats have room for twice as many numbers of 16 bits, and take any bits.
    let to = unsafe { std::slice::from_raw_parts_mut(to.as_mut_ptr().cast::<u16>(), 2 * to.len()) };
    let whole = from.len() / LANES * LANES;
    round(isa, &from[..whole], &mut to[..whole]);
    for (&x, to) in from[whole..].iter().zip(&mut to[whole..]) {
        *to = to_bf16(x);
    }
    to[from.len()..].fill(0);
}

/// Cuts the products into parts of whole panels and similar work.
fn split(pool: &WorkerPool, jobs: &[Product<'_>], scratch: &mut Scratch) {
    // Of one output, in multiplications: few rows wait for the weights.
    let cost = |job: &Product<'_>| {
        let Matrix { format, inp, .. } = job.matrix;
        match job.rows * inp {
            0 => 0,
            multiplications => multiplications.max(BYTE * format.row_bytes(inp)),
        }
    };
    let all: usize = jobs.iter().map(|job| cost(job) * job.matrix.out).sum();
    let least = if pool.threads() == 1 {
        usize::MAX
    } else {
        (all / (pool.threads() * PARTS)).max(LEAST)
    };
    scratch.parts.clear();
    for (product, job) in jobs.iter().enumerate() {
        let (each, out) = (cost(job), job.matrix.out);
        if each == 0 {
            continue;
        }
        let step = least
            .div_ceil(each)
            .min(out)
            .next_multiple_of(PANEL_ROWS)
            .max(PANEL_ROWS);
        for first in (0..out).step_by(step) {
            let outputs = step.min(out - first);
            scratch.parts.push(Part {
                product,
                first,
                outputs,
            });
        }
    }
}

/// # Safety
/// The lengths of `job` fit together, its activations are prepared, and nobody else uses this part's outputs.
unsafe fn compute(
    isa: Isa,
    job: &Product<'_>,
    plan: Plan,
    part: Part,
    blocks: &[Block],
    floats: &[f32],
    panel: &mut Panel,
) {
    let Matrix {
        format,
        inp,
        scales,
        ..
    } = job.matrix;
    let bytes = if plan.reading.is_some() {
        integer::scratch_bytes(inp)
    } else {
        float::scratch_floats(inp) * size_of::<f32>()
    };
    let lines = bytes.div_ceil(size_of::<Line>());
    if panel.lines.len() < lines {
        panel.lines.resize(lines, Line([0; 64]));
    }
    let scratch = panel.lines.as_mut_ptr();
    let row_bytes = format.row_bytes(inp);
    let weights = job.matrix.bytes.as_ptr().add(part.first * row_bytes);
    let y = plan.y.add(part.first);
    if plan.reading.is_some() {
        let activations = blocks[plan.at..].as_ptr();
        let panels = Panels {
            format,
            weights,
            row_bytes,
            outputs: part.outputs,
            inp,
            activations,
            rows: job.rows,
            y,
            y_stride: job.y_stride,
            add: job.add,
        };
        integer::multiply(isa, panels, scratch.cast());
        return;
    }
    let (x, x_stride) = if inp.is_multiple_of(LANES) && plan.narrowed == Narrowed::No {
        (job.x.as_ptr(), job.x_stride)
    } else {
        (floats[plan.at..].as_ptr(), padded(inp))
    };
    let step = if format == Format::Bf16 { PAIRS } else { LANES };
    let order = if job.sums == FloatSums::Chains {
        Order::Chains
    } else if inp.is_multiple_of(step) && job.matrix.out.is_multiple_of(4) {
        Order::Ggml(job.classes)
    } else {
        // Of such widths ggml multiplies each row alone.
        Order::Ggml(&[])
    };
    let outputs = Outputs {
        format,
        weights,
        first: part.first,
        outputs: part.outputs,
        inp,
        scales: scales.as_ptr(),
        x,
        x_stride,
        rows: job.rows,
        y,
        y_stride: job.y_stride,
        add: job.add,
        order,
    };
    match plan.narrowed {
        Narrowed::Brains => brain::multiply(isa, outputs),
        _ => float::multiply(isa, outputs, scratch.cast()),
    }
}
