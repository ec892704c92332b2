//! The Mixture-of-Experts block, forward and backward: route, sort by expert, SwiGLU experts, combine.
//!
//! y = Σ_{e in S} w_e W2_e (silu(W1_e h) ∘ W3_e h), W1 and W3 stacked into one matrix per expert. The gradient of a
//! routing weight is taken as dy · E(h) = (W2ᵀ dy) · act, so expert outputs need not be kept.

mod packed;

use std::ops::Range;

use crate::activation::{Activated, Activation};
use crate::arithmetic::Arithmetic;
use crate::combine::gather_sum;
use crate::route::{Routing, Rule};
use crate::rows::{dot_rows, gather};
use crate::shared::Shared;
use crate::worker_pool::WorkerPool;
use crate::{Isa, padded, reserve};
use packed::TOKENS;

pub use packed::{Buffers, PackedBlock};

/// Widths of the block; `hidden` and `intermediate` are padded.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub hidden: usize,
    pub intermediate: usize,
    pub experts: usize,
    pub chosen: usize,
    pub rule: Rule,
    pub activation: Activation,
}

/// Where the block's matrices lie in the parameters; panels lie at the same ranges in the packed copies.
#[derive(Clone, Debug)]
pub struct ExpertRanges {
    /// (padded experts, hidden); empty if the rule is dense.
    pub router: Range<usize>,
    /// One (2 × intermediate, hidden) an expert: W1 over W3.
    pub gate_up: Vec<Range<usize>>,
    /// One (hidden, intermediate) an expert: W2.
    pub down: Vec<Range<usize>>,
    /// What is added to each product, where the family does.
    pub biases: Option<ExpertBiases>,
}

/// Where the biases of a block's products lie.
#[derive(Clone, Debug)]
pub struct ExpertBiases {
    /// (padded experts): of the router's logits.
    pub router: Range<usize>,
    /// One (2 × intermediate) an expert.
    pub gate_up: Vec<Range<usize>>,
    /// One (hidden) an expert.
    pub down: Vec<Range<usize>>,
}

impl ExpertRanges {
    /// Those of a block by itself: the router, then every expert's matrices.
    pub fn packed(shape: Shape) -> Self {
        let routed = if shape.rule == Rule::Dense {
            0
        } else {
            padded(shape.experts)
        };
        let (gates, size) = (routed * shape.hidden, shape.hidden * shape.intermediate);
        let start = |e: usize| gates + 3 * e * size;
        Self {
            router: 0..gates,
            gate_up: (0..shape.experts)
                .map(|e| start(e)..start(e) + 2 * size)
                .collect(),
            down: (0..shape.experts)
                .map(|e| start(e) + 2 * size..start(e + 1))
                .collect(),
            biases: None,
        }
    }

    /// Numbers up to the end of the last expert.
    pub fn total(&self) -> usize {
        self.down.last().map_or(self.router.end, |range| range.end)
    }
}

/// What the forward pass leaves for the backward pass.
#[derive(Clone, Debug, Default)]
pub struct Saved {
    pub routing: Routing,
    pub copies: Copies,
}

/// Activations of a block's copies of its tokens, in expert order.
#[derive(Clone, Debug, Default)]
pub struct Copies {
    /// (copies, hidden).
    pub inputs: Vec<f32>,
    /// (copies, 2 × intermediate).
    pub gate_up: Vec<f32>,
    /// (copies, intermediate).
    pub activations: Vec<f32>,
}

impl Copies {
    /// Makes room for so many copies.
    pub fn reserve(&mut self, shape: Shape, copies: usize) {
        reserve(&mut self.inputs, copies * shape.hidden);
        reserve(&mut self.gate_up, copies * 2 * shape.intermediate);
        reserve(&mut self.activations, copies * shape.intermediate);
    }
}

/// Buffers that hold nothing between calls.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    outputs: Vec<f32>,
    buffers: Buffers,
    dactivations: Vec<f32>,
    dgate_up: Vec<f32>,
    dweights: Vec<f32>,
    /// Of an expert's copies: what its bias adds to `dweights`.
    dbiases: Vec<f32>,
    dlogits: Vec<f32>,
}

/// The products of a block, over weights in whatever form they lie.
pub trait Products {
    /// `scores` (tokens, padded experts): the router's logits of `h` (tokens, hidden).
    fn scores(&self, tokens: usize, h: &[f32], scores: &mut [f32]);

    /// Every expert on its tokens of `h`: `outputs` (copies, hidden) in expert order, and what the backward pass reads in
    /// `copies`, at least if `keep`.
    fn experts(
        &self,
        routing: &Routing,
        h: &[f32],
        keep: bool,
        copies: &mut Copies,
        buffers: &mut Buffers,
        outputs: &mut [f32],
    );
}

/// The backward pass of a block's products, over weights in whatever form they lie and whichever of them train.
pub trait BackwardProducts {
    /// `dx` (rows, inp) = `dy` (rows, out) times the matrix at `range`, added to `dx` if `add`.
    fn input_gradient(
        &mut self,
        range: &Range<usize>,
        rows: usize,
        out_inp: (usize, usize),
        dy: &[f32],
        dx: &mut [f32],
        add: bool,
    );

    /// Accumulates the gradient of what trains of that matrix: `dy` (rows, out), `x` (rows, inp).
    fn weight_gradient(
        &mut self,
        range: &Range<usize>,
        rows: usize,
        out_inp: (usize, usize),
        dy: &[f32],
        x: &[f32],
    );

    /// A bias of the block.
    fn bias(&self, range: &Range<usize>) -> &[f32];

    /// Accumulates the gradient of a bias, if it trains: the sum of `rows` rows of `dy`.
    fn bias_gradient(&mut self, range: &Range<usize>, rows: usize, dy: &[f32]);
}

/// What a block computes with, whatever its weights.
#[derive(Clone, Copy)]
pub struct Block<'a> {
    pub isa: Isa,
    pub pool: &'a WorkerPool,
    pub arithmetic: &'a Arithmetic,
    pub shape: Shape,
    /// Selection bias, one an expert or none.
    pub bias: &'a [f32],
}

/// `out` (tokens, hidden) = `residual` + the block applied to `h` (tokens, hidden); `keep`: for [`backward`].
#[allow(clippy::too_many_arguments)]
pub fn forward(
    block: Block<'_>,
    products: &dyn Products,
    tokens: usize,
    h: &[f32],
    residual: &[f32],
    out: &mut [f32],
    keep: bool,
    saved: &mut Saved,
    scratch: &mut Scratch,
) {
    let Block {
        isa,
        pool,
        arithmetic,
        shape,
        bias,
    } = block;
    let Shape {
        hidden,
        experts,
        chosen,
        rule,
        ..
    } = shape;
    let copies = tokens * chosen;
    reserve(&mut scratch.outputs, copies * hidden);
    let Saved {
        routing,
        copies: kept,
    } = saved;
    if rule != Rule::Dense {
        let width = padded(experts);
        reserve(&mut routing.scores, tokens * width);
        products.scores(tokens, h, &mut routing.scores[..tokens * width]);
    }
    routing.route(isa, arithmetic, rule, tokens, experts, chosen, bias);
    let Scratch {
        outputs, buffers, ..
    } = scratch;
    let outputs = &mut outputs[..copies * hidden];
    products.experts(routing, h, keep, kept, buffers, outputs);
    let outputs = &*outputs;
    let out = Shared::new(&mut out[..tokens * hidden]);
    pool.run(tokens.div_ceil(TOKENS), &|part, _| {
        let tokens = part * TOKENS..tokens.min((part + 1) * TOKENS);
        let copies = tokens.start * chosen..tokens.end * chosen;
        // SAFETY: these tokens are this part's.
        let out = unsafe { out.slice(tokens.start * hidden..tokens.end * hidden) };
        (arithmetic.combine)(
            isa,
            hidden,
            chosen,
            &routing.slots[copies.clone()],
            &routing.weights[copies],
            outputs,
            &residual[tokens.start * hidden..],
            out,
        );
    });
}

/// Gradients of [`forward`]: `dh` (tokens, hidden) is written, the matrices' gradients go where `products` has them.
///
/// `dout` is the gradient of the block's output; the residual's share is the caller's.
#[allow(clippy::too_many_arguments)]
pub fn backward(
    isa: Isa,
    shape: Shape,
    ranges: &ExpertRanges,
    products: &mut dyn BackwardProducts,
    tokens: usize,
    h: &[f32],
    dout: &[f32],
    dh: &mut [f32],
    saved: &Saved,
    scratch: &mut Scratch,
) {
    let Shape {
        hidden,
        intermediate,
        experts,
        chosen,
        rule,
        activation,
    } = shape;
    let (width, copies) = (padded(experts), tokens * chosen);
    reserve(&mut scratch.outputs, copies * hidden);
    reserve(&mut scratch.dactivations, copies * intermediate);
    reserve(&mut scratch.dgate_up, copies * 2 * intermediate);
    reserve(&mut scratch.dweights, copies);
    reserve(&mut scratch.dlogits, tokens * width);
    let routing = &saved.routing;
    // `outputs` holds the gradient of each expert's output first, and of its input after.
    gather(isa, hidden, &routing.tokens, dout, &mut scratch.outputs);
    for e in 0..experts {
        let rows = routing.rows_of(e);
        if rows.is_empty() {
            continue;
        }
        let n = rows.len();
        let activations =
            &saved.copies.activations[rows.start * intermediate..][..n * intermediate];
        let gate_up =
            &saved.copies.gate_up[rows.start * 2 * intermediate..][..n * 2 * intermediate];
        let inputs = &saved.copies.inputs[rows.start * hidden..][..n * hidden];
        let outputs = &mut scratch.outputs[rows.start * hidden..][..n * hidden];
        let dactivations =
            &mut scratch.dactivations[rows.start * intermediate..][..n * intermediate];
        let dgate_up =
            &mut scratch.dgate_up[rows.start * 2 * intermediate..][..n * 2 * intermediate];
        let (down, up) = (&ranges.down[e], &ranges.gate_up[e]);
        if let Some(biases) = &ranges.biases {
            // Before they are multiplied by their weights: dy · (E(h) + b) has one term more.
            let bias = products.bias(&biases.down[e]);
            reserve(&mut scratch.dbiases, n);
            dot_rows(isa, n, bias, outputs, &mut scratch.dbiases);
        }
        products.input_gradient(
            down,
            n,
            (hidden, intermediate),
            outputs,
            dactivations,
            false,
        );
        let dweights = &mut scratch.dweights[rows.clone()];
        activation.backward(
            isa,
            intermediate,
            hidden,
            Activated {
                weights: &routing.slot_weights[rows],
                gate_up,
                activations,
                dactivations,
            },
            outputs,
            dgate_up,
            dweights,
        );
        if let Some(biases) = &ranges.biases {
            for (dweight, more) in dweights.iter_mut().zip(&scratch.dbiases) {
                *dweight += more;
            }
            products.bias_gradient(&biases.down[e], n, outputs);
            products.bias_gradient(&biases.gate_up[e], n, dgate_up);
        }
        products.weight_gradient(down, n, (hidden, intermediate), outputs, activations);
        products.weight_gradient(up, n, (2 * intermediate, hidden), dgate_up, inputs);
        products.input_gradient(up, n, (2 * intermediate, hidden), dgate_up, outputs, false);
    }
    if rule == Rule::Dense {
        dh[..tokens * hidden].fill(0.0);
    } else {
        let dlogits = &mut scratch.dlogits[..tokens * width];
        routing.backward(width, &scratch.dweights, dlogits);
        products.input_gradient(&ranges.router, tokens, (width, hidden), dlogits, dh, false);
        products.weight_gradient(&ranges.router, tokens, (width, hidden), dlogits, h);
        if let Some(biases) = &ranges.biases {
            products.bias_gradient(&biases.router, tokens, dlogits);
        }
    }
    gather_sum(isa, hidden, chosen, &routing.slots, &scratch.outputs, dh);
}
