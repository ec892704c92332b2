//! What the tests share: random blocks of experts of any size, for the device and, padded, for the CPU's kernels.
//!
//! One file above 400 lines: one random block of experts, and how each side lays it out, are read side by side.

#![allow(dead_code)] // Each test crate uses a part.

pub mod check;

use std::sync::Arc;

use moevolve_kernels::activation::Activation;
use moevolve_kernels::arithmetic::OWN;
use moevolve_kernels::experts::{
    self as cpu, BackwardProducts, ExpertRanges, PackedBlock, Saved, Scratch, Shape,
};
use moevolve_kernels::panels::{GradientScratch, Panels, Precision, Side, weight_gradient};
use moevolve_kernels::sample::uniform;
use moevolve_kernels::worker_pool::WorkerPool;
use moevolve_kernels::{Isa, padded, route};
use moevolve_kernels_cuda::experts::Block;
use moevolve_kernels_cuda::products::{Format, Matrices};
use moevolve_kernels_cuda::route::Rule;
use moevolve_kernels_cuda::twin::Twin;
use moevolve_kernels_cuda::{Device, Memory};
use proptest::test_runner::{Config, RngSeed};

/// So many cases, the same in every run; `MOEVOLVE_KERNEL_CASES` asks for more.
pub fn cases(n: u32) -> Config {
    let asked = std::env::var("MOEVOLVE_KERNEL_CASES").map(|text| text.parse().expect("a number"));
    Config {
        rng_seed: RngSeed::Fixed(7),
        failure_persistence: None,
        ..Config::with_cases(asked.unwrap_or(n))
    }
}

pub fn twin(seed: u64) -> Arc<dyn Device> {
    Twin::device(seed)
}

/// `n` numbers in [-1, 1) that depend on `seed` alone.
pub fn random(n: usize, seed: u64) -> Vec<f32> {
    (0..n)
        .map(|i| (2.0 * uniform(seed, i as u64) - 1.0) as f32)
        .collect()
}

/// Rounded to bf16, as f32.
pub fn rounded(x: Vec<f32>) -> Vec<f32> {
    let near = |x: f32| f32::from_bits(u32::from(bf16(x)) << 16);
    x.into_iter().map(near).collect()
}

pub fn bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

/// Largest distance of `found` from `expected`, relative to the largest of `expected`; infinite if a number is missing.
pub fn apart(found: &[f32], expected: &[f32]) -> f64 {
    apart_beside(found, expected, 1e-6)
}

/// The largest magnitude.
pub fn largest(x: &[f32]) -> f64 {
    x.iter().fold(0.0, |most, &x| most.max(f64::from(x).abs()))
}

/// As [`apart`], where what is expected may be all but zero: beside `least`, of the terms that it is the difference of.
pub fn apart_beside(found: &[f32], expected: &[f32], least: f64) -> f64 {
    assert_eq!(found.len(), expected.len());
    let scale = largest(expected).max(least);
    let gap = |(&a, &b): (&f32, &f32)| (f64::from(a) - f64::from(b)).abs() / scale;
    found.iter().zip(expected).map(gap).fold(0.0, |most, gap| {
        if gap <= most {
            most
        } else if gap.is_nan() {
            f64::INFINITY
        } else {
            gap
        }
    })
}

pub const RULES: [Rule; 4] = [
    Rule::Sigmoid,
    Rule::Softmax,
    Rule::SoftmaxNormalised,
    Rule::Dense,
];

pub fn on_cpu(rule: Rule) -> route::Rule {
    match rule {
        Rule::Sigmoid => route::Rule::Sigmoid,
        Rule::Softmax => route::Rule::Softmax { normalised: false },
        Rule::SoftmaxNormalised => route::Rule::Softmax { normalised: true },
        Rule::Dense => route::Rule::Dense,
    }
}

/// Rows of `width` numbers, each padded with zeros.
pub fn pad(rows: &[f32], width: usize) -> Vec<f32> {
    let wide = padded(width);
    let mut out = vec![0.0; rows.len() / width.max(1) * wide];
    for (to, from) in out.chunks_exact_mut(wide).zip(rows.chunks_exact(width)) {
        to[..width].copy_from_slice(from);
    }
    out
}

/// The opposite of [`pad`].
pub fn unpad(rows: &[f32], width: usize) -> Vec<f32> {
    let each = |row: &[f32]| row[..width].to_vec();
    rows.chunks_exact(padded(width)).flat_map(each).collect()
}

/// A block of experts and its input.
pub struct Case {
    pub rule: Rule,
    pub hidden: usize,
    pub intermediate: usize,
    pub experts: usize,
    pub chosen: usize,
    pub tokens: usize,
    pub h: Vec<f32>,
    pub residual: Vec<f32>,
    pub router: Vec<f32>,
    pub bias: Vec<f32>,
    /// (experts, 2 intermediate, hidden)
    pub gate_up: Vec<f32>,
    /// (experts, hidden, intermediate)
    pub down: Vec<f32>,
}

/// Sizes of a case; a dense one has one expert.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub rule: usize,
    pub hidden: usize,
    pub intermediate: usize,
    pub experts: usize,
    pub chosen: usize,
    pub tokens: usize,
}

impl Case {
    /// Weights and input are numbers of bf16 if `half`. No token's choice is a near tie, so that the order of a sum decides none.
    pub fn new(sizes: Sizes, half: bool, seed: u64) -> Self {
        let rule = RULES[sizes.rule % 4];
        let (experts, chosen) = match rule {
            Rule::Dense => (1, 1),
            _ => (sizes.experts, sizes.chosen.min(sizes.experts)),
        };
        let Sizes {
            hidden,
            intermediate,
            tokens,
            ..
        } = sizes;
        let made = |n: usize, salt: u64, scale: f32| {
            let x: Vec<f32> = random(n, seed ^ salt)
                .into_iter()
                .map(|x| x * scale)
                .collect();
            if half { rounded(x) } else { x }
        };
        let near = 2.0 / (hidden as f32).sqrt();
        let bias = match rule {
            // Larger than any score, so that a bias that leaked into the weights would show.
            Rule::Sigmoid => random(experts, seed ^ 9)
                .into_iter()
                .map(|b| 5.0 + b)
                .collect(),
            _ => Vec::new(),
        };
        let mut case = Self {
            rule,
            hidden,
            intermediate,
            experts,
            chosen,
            tokens,
            h: made(tokens * hidden, 1, 1.0),
            residual: random(tokens * hidden, seed ^ 2),
            router: made(experts * hidden, 3, near),
            bias,
            gate_up: made(experts * 2 * intermediate * hidden, 4, near),
            down: made(
                experts * hidden * intermediate,
                5,
                2.0 / (intermediate as f32).sqrt(),
            ),
        };
        case.leave_ties(half, seed);
        case
    }

    fn leave_ties(&mut self, half: bool, seed: u64) {
        for token in 0..self.tokens {
            for attempt in 0..1000 {
                if self.margin(token) > 1e-4 {
                    break;
                }
                let again = random(self.hidden, seed ^ (token as u64) << 20 ^ (attempt + 77));
                let again = if half { rounded(again) } else { again };
                self.h[token * self.hidden..][..self.hidden].copy_from_slice(&again);
            }
        }
    }

    /// The least distance between two of what a token's choice compares, down to the first that is not chosen.
    fn margin(&self, token: usize) -> f64 {
        if self.rule == Rule::Dense || self.experts == 1 {
            return 1.0;
        }
        let h = &self.h[token * self.hidden..][..self.hidden];
        let logit = |row: &[f32]| {
            row.iter()
                .zip(h)
                .map(|(&a, &b)| f64::from(a) * f64::from(b))
                .sum::<f64>()
        };
        let logits: Vec<f64> = self.router.chunks_exact(self.hidden).map(logit).collect();
        let mass: f64 = logits.iter().map(|z| z.exp()).sum();
        let score = |(e, &z): (usize, &f64)| match self.rule {
            Rule::Sigmoid => 1.0 / (1.0 + (-z).exp()) + f64::from(self.bias[e]),
            _ => z.exp() / mass,
        };
        let mut scores: Vec<f64> = logits.iter().enumerate().map(score).collect();
        scores.sort_by(|a, b| b.total_cmp(a));
        let seen = &scores[..(self.chosen + 1).min(scores.len())];
        seen.windows(2)
            .map(|pair| pair[0] - pair[1])
            .fold(1.0, f64::min)
            * self.experts.min(32) as f64
            / 4.0
    }

    pub fn shape(&self) -> Shape {
        Shape {
            hidden: padded(self.hidden),
            intermediate: padded(self.intermediate),
            experts: self.experts,
            chosen: self.chosen,
            rule: on_cpu(self.rule),
            activation: Activation::Silu,
        }
    }

    pub fn ranges(&self) -> ExpertRanges {
        ExpertRanges::packed(self.shape())
    }

    /// The CPU's parameters: every width padded.
    fn parameters(&self) -> Vec<f32> {
        let (ranges, shape) = (self.ranges(), self.shape());
        let mut out = vec![0.0; ranges.total()];
        if self.rule != Rule::Dense {
            let router = pad(&self.router, self.hidden);
            out[..router.len()].copy_from_slice(&router);
        }
        for e in 0..self.experts {
            let size = self.intermediate * self.hidden;
            let both = &self.gate_up[e * 2 * size..][..2 * size];
            for (half, rows) in both.chunks_exact(size).enumerate() {
                let rows = pad(rows, self.hidden);
                let at = ranges.gate_up[e].start + half * shape.intermediate * shape.hidden;
                out[at..at + rows.len()].copy_from_slice(&rows);
            }
            let rows = pad(&self.down[e * size..][..size], self.intermediate);
            out[ranges.down[e].start..][..rows.len()].copy_from_slice(&rows);
        }
        out
    }

    fn panels(&self, side: Side) -> Panels {
        let (ranges, shape, parameters) = (self.ranges(), self.shape(), self.parameters());
        let (isa, router) = (
            Isa::best(),
            Some(ranges.router.clone()).filter(|r| !r.is_empty()),
        );
        let mut panels = Panels::new(side, Precision::F32, parameters.len(), router.clone());
        let router = router
            .iter()
            .map(|range| (range, padded(self.experts), shape.hidden));
        let up = ranges
            .gate_up
            .iter()
            .map(|range| (range, 2 * shape.intermediate, shape.hidden));
        let down = ranges
            .down
            .iter()
            .map(|range| (range, shape.hidden, shape.intermediate));
        for (range, out, inp) in router.chain(up).chain(down) {
            panels
                .whole()
                .pack(isa, range.start, out, inp, &parameters[range.clone()]);
        }
        panels
    }

    /// The block's output (tokens, hidden) by the CPU's kernels, and what they keep.
    pub fn forward_on_cpu(&self) -> (Vec<f32>, Saved) {
        let (shape, panels, ranges) = (self.shape(), self.panels(Side::Forward), self.ranges());
        let (pool, isa) = (WorkerPool::new(1), Isa::best());
        let products = PackedBlock {
            isa,
            pool: &pool,
            shape,
            ranges: &ranges,
            panels: &panels,
            values: &[],
        };
        let block = cpu::Block {
            isa,
            pool: &pool,
            arithmetic: &OWN,
            shape,
            bias: &self.bias,
        };
        let (h, residual) = (pad(&self.h, self.hidden), pad(&self.residual, self.hidden));
        let (mut out, mut saved) = (vec![0.0; h.len()], Saved::default());
        let scratch = &mut Scratch::default();
        cpu::forward(
            block,
            &products,
            self.tokens,
            &h,
            &residual,
            &mut out,
            true,
            &mut saved,
            scratch,
        );
        (unpad(&out, self.hidden), saved)
    }

    /// Gradients of input, router, gates and ups, and downs, without padding, for the output's gradient `dout`.
    pub fn backward_on_cpu(&self, dout: &[f32]) -> [Vec<f32>; 4] {
        let (_, saved) = self.forward_on_cpu();
        let (shape, panels, ranges) = (self.shape(), self.panels(Side::Backward), self.ranges());
        let (h, dout) = (pad(&self.h, self.hidden), pad(dout, self.hidden));
        let (mut dh, mut gradient) = (vec![0.0; h.len()], vec![0.0; ranges.total()]);
        let mut products = Packed {
            panels: &panels,
            gradient: &mut gradient,
            scratch: GradientScratch::default(),
        };
        cpu::backward(
            Isa::best(),
            shape,
            &ranges,
            &mut products,
            self.tokens,
            &h,
            &dout,
            &mut dh,
            &saved,
            &mut Scratch::default(),
        );
        let mut router = unpad(&gradient[ranges.router.clone()], self.hidden);
        router.truncate(self.router.len());
        let (mut up, mut down) = (Vec::new(), Vec::new());
        for e in 0..self.experts {
            for half in
                gradient[ranges.gate_up[e].clone()].chunks_exact(shape.intermediate * shape.hidden)
            {
                up.extend(&unpad(half, self.hidden)[..self.intermediate * self.hidden]);
            }
            down.extend(
                &unpad(&gradient[ranges.down[e].clone()], self.intermediate)
                    [..self.hidden * self.intermediate],
            );
        }
        [unpad(&dh, self.hidden), router, up, down]
    }

    /// The block on a device, its weights in `format`.
    pub fn on(&self, device: &Arc<dyn Device>, format: Format) -> OnDevice {
        let stride = padded(self.experts);
        let mut router = self.router.clone();
        router.resize(stride * self.hidden, 0.0);
        OnDevice {
            router: Memory::from_slice(device, &router).unwrap(),
            bias: Memory::from_slice(device, &self.bias).unwrap(),
            gate_up: Weights::new(device, format, &self.gate_up, self.experts, self.hidden),
            down: Weights::new(device, format, &self.down, self.experts, self.intermediate),
            h: Memory::from_slice(device, &self.h).unwrap(),
            residual: Memory::from_slice(device, &self.residual).unwrap(),
            out: Memory::new(device, self.h.len()).unwrap(),
        }
    }
}

/// A case's arrays on a device.
pub struct OnDevice {
    pub router: Memory<f32>,
    pub bias: Memory<f32>,
    pub gate_up: Weights,
    pub down: Weights,
    pub h: Memory<f32>,
    pub residual: Memory<f32>,
    pub out: Memory<f32>,
}

impl OnDevice {
    pub fn block(&self, case: &Case) -> Block {
        Block {
            rule: case.rule,
            hidden: case.hidden,
            intermediate: case.intermediate,
            experts: case.experts,
            chosen: case.chosen,
            stride: padded(case.experts),
            router: self.router.address(),
            bias: (!case.bias.is_empty()).then(|| self.bias.address()),
            gate_up: self.gate_up.matrices,
            down: self.down.matrices,
        }
    }
}

/// Matrices on a device, and what they hold.
pub struct Weights {
    pub matrices: Matrices,
    _bytes: Memory<u8>,
    _scales: Memory<f32>,
}

impl Weights {
    /// `groups` matrices with rows of `inp` numbers; values that the format cannot hold are rounded as [`decoded`] says.
    pub fn new(
        device: &Arc<dyn Device>,
        format: Format,
        values: &[f32],
        groups: usize,
        inp: usize,
    ) -> Self {
        let out = values.len() / groups / inp;
        let (bytes, scales) = encode(format, values, out, inp);
        let scales_apart = scales.len() / groups;
        let bytes = Memory::from_slice(device, &bytes).unwrap();
        let scales = Memory::from_slice(device, &scales).unwrap();
        let matrices = Matrices {
            format,
            at: bytes.address(),
            apart: out * format.row_bytes(inp),
            scales: if scales_apart == 0 {
                0
            } else {
                scales.address()
            },
            scales_apart,
            out,
            inp,
        };
        Self {
            matrices,
            _bytes: bytes,
            _scales: scales,
        }
    }
}

/// Bytes of matrices (out, inp), one after another, and their scales.
pub fn encode(format: Format, values: &[f32], out: usize, inp: usize) -> (Vec<u8>, Vec<f32>) {
    match format {
        Format::F32 => (
            values.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Vec::new(),
        ),
        Format::Bf16 => (
            values.iter().flat_map(|&x| bf16(x).to_le_bytes()).collect(),
            Vec::new(),
        ),
        Format::Fp8 => {
            // Random bytes serve as well as rounded numbers: any but NaN is a value.
            let bytes = values
                .iter()
                .map(|x| ((x.to_bits() >> 8) as u8) & !0x08)
                .collect();
            let grid = out.div_ceil(128) * inp.div_ceil(128);
            let scale = |i: usize| 0.002 + 0.001 * ((i * 7) % 5) as f32;
            (
                bytes,
                (0..grid * (values.len() / out / inp)).map(scale).collect(),
            )
        }
        Format::Q8_0 => {
            let block = |(i, x): (usize, &[f32])| {
                let d = 0x1c00 + (i % 7) as u16 * 64;
                let q = x.iter().map(|x| (x * 100.0) as i8 as u8);
                d.to_le_bytes().into_iter().chain(q).collect::<Vec<u8>>()
            };
            (
                values.chunks(32).enumerate().flat_map(block).collect(),
                Vec::new(),
            )
        }
        Format::Q4K => {
            let block = |(i, x): (usize, &[f32])| {
                let (d, e) = (0x1400 + (i % 5) as u16 * 32, 0x1000 + (i % 3) as u16 * 128);
                let mut bytes = [d.to_le_bytes(), e.to_le_bytes()].concat();
                // Scales, then pairs of values: any bits are some.
                bytes.extend(x.iter().take(140).map(|x| (x.to_bits() >> 7) as u8));
                bytes
            };
            (
                values.chunks(256).enumerate().flat_map(block).collect(),
                Vec::new(),
            )
        }
    }
}

/// What [`encode`] made of the values, by the CPU's decoder.
pub fn decoded(format: Format, values: &[f32], out: usize, inp: usize) -> Vec<f32> {
    use moevolve_kernels::stored::{Format as Stored, Matrix};
    let (bytes, scales) = encode(format, values, out, inp);
    let stored = match format {
        Format::F32 => Stored::F32,
        Format::Bf16 => Stored::Bf16,
        Format::Fp8 => Stored::Fp8,
        Format::Q8_0 => Stored::Q8_0,
        Format::Q4K => Stored::Q4K,
    };
    let (size, groups) = (out * format.row_bytes(inp), values.len() / out / inp);
    let mut all = Vec::with_capacity(values.len());
    for (g, bytes) in bytes.chunks_exact(size).enumerate() {
        let apart = scales.len() / groups;
        let matrix = Matrix {
            format: stored,
            bytes,
            out,
            inp,
            scales: &scales[g * apart..][..apart],
        };
        let mut row = vec![0.0; inp];
        for r in 0..out {
            matrix.decode_row(r, &mut row);
            all.extend(&row);
        }
    }
    all
}

/// All weights of a block train.
struct Packed<'a> {
    panels: &'a Panels,
    gradient: &'a mut [f32],
    scratch: GradientScratch,
}

impl BackwardProducts for Packed<'_> {
    fn input_gradient(
        &mut self,
        range: &std::ops::Range<usize>,
        rows: usize,
        (out, inp): (usize, usize),
        dy: &[f32],
        dx: &mut [f32],
        add: bool,
    ) {
        self.panels
            .multiply(Isa::best(), range, rows, out, inp, dy, dx, add);
    }

    fn weight_gradient(
        &mut self,
        range: &std::ops::Range<usize>,
        rows: usize,
        (out, inp): (usize, usize),
        dy: &[f32],
        x: &[f32],
    ) {
        let dw = &mut self.gradient[range.clone()];
        weight_gradient(
            Isa::best(),
            Precision::F32,
            rows,
            out,
            inp,
            dy,
            x,
            dw,
            &mut self.scratch,
        );
    }

    fn bias(&self, _: &std::ops::Range<usize>) -> &[f32] {
        &[]
    }

    fn bias_gradient(&mut self, _: &std::ops::Range<usize>, _: usize, _: &[f32]) {}
}
