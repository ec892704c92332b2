//! What is looked at on a card: blocks of experts beside the CPU's kernels, and how fast they are.

use std::sync::Arc;
use std::time::Instant;

use moevolve_kernels::padded;
use moevolve_kernels_cuda::experts::{Block, Combination, Experts, FEW_COPIES, Gradients};
use moevolve_kernels_cuda::products::{Format, Matrices};
use moevolve_kernels_cuda::route::{Routing, Rule};
use moevolve_kernels_cuda::{Device, Memory, Result};

use super::{Case, Sizes, apart, random};

/// How far a result is from the CPU's, and how far it may be.
pub struct Distance {
    pub what: String,
    pub apart: f64,
    pub most: f64,
}

/// Outputs and gradients of every rule, in f32 and bf16, of many tokens and of few.
pub fn distances(device: &Arc<dyn Device>, tokens: usize) -> Result<Vec<Distance>> {
    let mut found = Vec::new();
    for rule in 0..4 {
        let sizes = Sizes {
            rule,
            hidden: 200,
            intermediate: 136,
            experts: 9,
            chosen: 3,
            tokens,
        };
        for (format, near, slope) in [(Format::F32, 1e-5, 1e-4), (Format::Bf16, 1e-2, 2e-2)] {
            let case = Case::new(sizes, true, 31 + rule as u64);
            let mut add = |what: &str, found_here: &[f32], expected: &[f32], most| {
                let what = format!("{what}, {:?}, {format:?}", case.rule);
                found.push(Distance {
                    what,
                    apart: apart(found_here, expected),
                    most,
                });
            };
            let (on, experts) = (case.on(device, format), Experts::new(device));
            let (block, out) = (on.block(&case), on.out.address());
            let (h, residual) = (on.h.address(), on.residual.address());
            let saved = experts.forward(&block, tokens, h, residual, out, Combination::Ordered)?;
            add(
                "output",
                &on.out.download()?,
                &case.forward_on_cpu().0,
                near,
            );
            let dout = random(case.h.len(), 5);
            let (dout_on, dh) = (
                Memory::from_slice(device, &dout)?,
                Memory::<f32>::new(device, case.h.len())?,
            );
            let router = Memory::<f32>::zeros(device, padded(case.experts) * case.hidden)?;
            let up = Memory::<f32>::zeros(device, case.gate_up.len())?;
            let down = Memory::<f32>::zeros(device, case.down.len())?;
            let to = Gradients {
                router: router.address(),
                gate_up: up.address(),
                down: down.address(),
                gate_up_apart: case.gate_up.len() / case.experts,
                down_apart: case.down.len() / case.experts,
            };
            experts.backward(&block, &saved, h, dout_on.address(), dh.address(), to)?;
            let [input, _, gate_up, downs] = case.backward_on_cpu(&dout);
            add("input's gradient", &dh.download()?, &input, slope);
            add("gates' and ups' gradient", &up.download()?, &gate_up, slope);
            add("downs' gradient", &down.download()?, &downs, slope);
            if case.rule != Rule::Dense {
                let few = Case::new(
                    Sizes {
                        tokens: tokens.min(FEW_COPIES / case.chosen),
                        ..sizes
                    },
                    true,
                    7,
                );
                let on = few.on(device, format);
                let (h, residual, out) = (on.h.address(), on.residual.address(), on.out.address());
                experts.few(&on.block(&few), few.tokens, h, residual, out)?;
                add(
                    "output of few tokens",
                    &on.out.download()?,
                    &few.forward_on_cpu().0,
                    1e-5,
                );
            }
        }
    }
    Ok(found)
}

/// One block of experts with random weights in bf16, and the most tokens that it is measured with.
pub struct Speed {
    device: Arc<dyn Device>,
    experts: Experts,
    block: Block,
    h: Memory<f32>,
    residual: Memory<f32>,
    out: Memory<f32>,
    _weights: [Memory<u16>; 2],
    _router: Memory<f32>,
}

/// Seconds of each part with so many tokens.
pub struct Times {
    pub tokens: usize,
    pub forward: f64,
    pub routing: f64,
    pub both: f64,
    /// Multiplications and additions of the forward pass.
    pub operations: f64,
}

impl Speed {
    pub fn new(
        device: &Arc<dyn Device>,
        (experts, hidden, inner, chosen): (usize, usize, usize, usize),
        most: usize,
    ) -> Result<Self> {
        // Bits of numbers around 2^-7: what they are changes no time but that of switching.
        let halves = |count: usize, key: u64| -> Vec<u16> {
            let word = |i: usize| (i as u64 ^ key).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            (0..count)
                .map(|i| 0x3c00 | (word(i) as u16 & 0x80ff))
                .collect()
        };
        let stride = padded(experts);
        let up = Memory::from_slice(device, &halves(experts * 2 * inner * hidden, 1))?;
        let down = Memory::from_slice(device, &halves(experts * inner * hidden, 2))?;
        let router = Memory::from_slice(device, &random(stride * hidden, 3))?;
        let matrices = |memory: &Memory<u16>, out: usize, inp: usize| Matrices {
            format: Format::Bf16,
            at: memory.address(),
            apart: 2 * out * inp,
            scales: 0,
            scales_apart: 0,
            out,
            inp,
        };
        let block = Block {
            rule: Rule::SoftmaxNormalised,
            hidden,
            intermediate: inner,
            experts,
            chosen,
            stride,
            router: router.address(),
            bias: None,
            gate_up: matrices(&up, 2 * inner, hidden),
            down: matrices(&down, hidden, inner),
        };
        Ok(Self {
            device: device.clone(),
            experts: Experts::new(device),
            block,
            h: Memory::from_slice(device, &random(most * hidden, 4))?,
            residual: Memory::zeros(device, most * hidden)?,
            out: Memory::new(device, most * hidden)?,
            _weights: [up, down],
            _router: router,
        })
    }

    /// Median seconds of a call, the stream waited for before and after.
    fn seconds(&self, rounds: usize, work: impl Fn() -> Result<()>) -> Result<f64> {
        let wait = || self.device.download(self.out.address(), &mut [0; 4]);
        let mut times = Vec::new();
        for round in 0..rounds + 2 {
            wait()?;
            let start = Instant::now();
            work()?;
            wait()?;
            if round >= 2 {
                times.push(start.elapsed().as_secs_f64());
            }
        }
        times.sort_by(f64::total_cmp);
        Ok(times[times.len() / 2])
    }

    /// Seconds of so few tokens, and bytes of weights that they need at most.
    pub fn few(&self, tokens: usize, rounds: usize) -> Result<(f64, f64)> {
        let (h, residual, out) = (
            self.h.address(),
            self.residual.address(),
            self.out.address(),
        );
        let seconds = self.seconds(rounds, || {
            self.experts.few(&self.block, tokens, h, residual, out)
        })?;
        let met = (tokens * self.block.chosen).min(self.block.experts);
        Ok((
            seconds,
            (met * 6 * self.block.hidden * self.block.intermediate) as f64,
        ))
    }

    pub fn many(&self, tokens: usize, rounds: usize) -> Result<Times> {
        let block = self.block;
        let (h, residual, out) = (
            self.h.address(),
            self.residual.address(),
            self.out.address(),
        );
        let forward = || {
            self.experts
                .forward(&block, tokens, h, residual, out, Combination::Ordered)
        };
        let (up, down) = (
            2 * block.intermediate * block.hidden,
            block.intermediate * block.hidden,
        );
        let router = Memory::<f32>::zeros(&self.device, block.stride * block.hidden)?;
        let ups = Memory::<f32>::zeros(&self.device, block.experts * up)?;
        let downs = Memory::<f32>::zeros(&self.device, block.experts * down)?;
        let dh = Memory::<f32>::new(&self.device, tokens * block.hidden)?;
        let gradients = Gradients {
            router: router.address(),
            gate_up: ups.address(),
            down: downs.address(),
            gate_up_apart: up,
            down_apart: down,
        };
        Ok(Times {
            tokens,
            forward: self.seconds(rounds, || forward().map(drop))?,
            routing: self.seconds(rounds, || {
                let Block {
                    rule,
                    experts,
                    chosen,
                    stride,
                    ..
                } = block;
                let routing = Routing::new(&self.device, rule, tokens, experts, chosen, stride)?;
                routing.select(h, block.hidden, block.router, block.bias)?;
                routing.order()
            })?,
            both: self.seconds(rounds, || {
                let saved = forward()?;
                self.experts
                    .backward(&block, &saved, h, h, dh.address(), gradients)
            })?,
            operations: (2 * tokens * block.chosen * 3) as f64
                * (block.hidden * block.intermediate) as f64,
        })
    }
}
