//! The Mixture-of-Experts block, forward and backward: route, sort by expert, SwiGLU experts, combine.
//!
//! y = Σ_{e in S} w_e W2_e (silu(W1_e h) ∘ W3_e h), W1 and W3 stacked into one matrix per expert. The gradient of a
//! routing weight is taken as dy · E(h) = (W2ᵀ dy) · act, so expert outputs need not be kept.

use std::ops::Range;

use crate::arithmetic::Arithmetic;
use crate::combine::gather_sum;
use crate::panels::{GradientScratch, Panels, weight_gradient};
use crate::route::{Routing, Rule};
use crate::rows::gather;
use crate::swiglu::{swiglu, swiglu_backward};
use crate::{Isa, padded, reserve};

/// Widths of the block; `hidden` and `intermediate` are padded.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub hidden: usize,
    pub intermediate: usize,
    pub experts: usize,
    pub chosen: usize,
    pub rule: Rule,
}

/// Where the block's matrices lie in the parameters; panels lie at the same places in the packed copies.
#[derive(Clone, Debug)]
pub struct Places {
    /// (padded experts, hidden); empty if the rule is dense.
    pub router: Range<usize>,
    /// One (2 × intermediate, hidden) an expert: W1 over W3.
    pub gate_up: Vec<Range<usize>>,
    /// One (hidden, intermediate) an expert: W2.
    pub down: Vec<Range<usize>>,
}

/// What the forward pass leaves for the backward pass.
#[derive(Clone, Debug, Default)]
pub struct Saved {
    pub routing: Routing,
    /// (copies, hidden): inputs in expert order.
    pub inputs: Vec<f32>,
    /// (copies, 2 × intermediate).
    pub gate_up: Vec<f32>,
    /// (copies, intermediate).
    pub activations: Vec<f32>,
}

/// Buffers that hold nothing between calls.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    outputs: Vec<f32>,
    dactivations: Vec<f32>,
    dgate_up: Vec<f32>,
    dweights: Vec<f32>,
    dlogits: Vec<f32>,
}

/// The products of a block, over weights in whatever form they lie. Rows are in expert order.
pub trait Products {
    /// `scores` (tokens, padded experts): the router's logits of `h` (tokens, hidden).
    fn scores(&self, tokens: usize, h: &[f32], scores: &mut [f32]);

    /// Every expert on its rows of `inputs` (copies, hidden): `gate_up` (copies, 2 × intermediate), through SwiGLU
    /// `activations` (copies, intermediate), `outputs` (copies, hidden).
    fn experts(
        &self,
        routing: &Routing,
        inputs: &[f32],
        gate_up: &mut [f32],
        activations: &mut [f32],
        outputs: &mut [f32],
    );
}

/// Weights packed in panels, at their places.
pub struct PackedBlock<'a> {
    pub isa: Isa,
    pub shape: Shape,
    pub places: &'a Places,
    /// Packed for [`crate::panels::Side::Forward`].
    pub panels: &'a Panels,
}

impl Products for PackedBlock<'_> {
    fn scores(&self, tokens: usize, h: &[f32], scores: &mut [f32]) {
        let (router, width) = (&self.places.router, padded(self.shape.experts));
        let hidden = self.shape.hidden;
        self.panels
            .multiply(self.isa, router, tokens, hidden, width, h, scores, false);
    }

    fn experts(
        &self,
        routing: &Routing,
        inputs: &[f32],
        gate_up: &mut [f32],
        activations: &mut [f32],
        outputs: &mut [f32],
    ) {
        let Self {
            isa,
            shape,
            places,
            panels,
        } = *self;
        let (hidden, inner) = (shape.hidden, shape.intermediate);
        // One expert after another: its activations are still in the cache when they are needed.
        for e in 0..shape.experts {
            let rows = routing.rows_of(e);
            let n = rows.len();
            if n == 0 {
                continue;
            }
            let inputs = &inputs[rows.start * hidden..];
            let gate_up = &mut gate_up[rows.start * 2 * inner..][..n * 2 * inner];
            let activations = &mut activations[rows.start * inner..][..n * inner];
            let outputs = &mut outputs[rows.start * hidden..];
            let (up, down) = (&places.gate_up[e], &places.down[e]);
            panels.multiply(isa, up, n, hidden, 2 * inner, inputs, gate_up, false);
            swiglu(isa, inner, gate_up, activations);
            panels.multiply(isa, down, n, inner, hidden, activations, outputs, false);
        }
    }
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
}

/// Weights packed in panels at their places, all of which train.
pub struct PackedBackward<'a> {
    pub isa: Isa,
    /// Packed for [`crate::panels::Side::Backward`].
    pub panels: &'a Panels,
    /// In the parameters' layout.
    pub gradient: &'a mut [f32],
    pub scratch: &'a mut GradientScratch,
}

impl BackwardProducts for PackedBackward<'_> {
    fn input_gradient(
        &mut self,
        range: &Range<usize>,
        rows: usize,
        (out, inp): (usize, usize),
        dy: &[f32],
        dx: &mut [f32],
        add: bool,
    ) {
        self.panels
            .multiply(self.isa, range, rows, out, inp, dy, dx, add);
    }

    fn weight_gradient(
        &mut self,
        range: &Range<usize>,
        rows: usize,
        (out, inp): (usize, usize),
        dy: &[f32],
        x: &[f32],
    ) {
        let precision = self.panels.precision_of(range);
        let dw = &mut self.gradient[range.clone()];
        weight_gradient(self.isa, precision, rows, out, inp, dy, x, dw, self.scratch);
    }
}

/// `out` (tokens, hidden) = `residual` + the block applied to `h` (tokens, hidden).
///
/// `bias` is the selection bias, one an expert or none.
#[allow(clippy::too_many_arguments)]
pub fn forward(
    isa: Isa,
    arithmetic: &Arithmetic,
    shape: Shape,
    products: &dyn Products,
    bias: &[f32],
    tokens: usize,
    h: &[f32],
    residual: &[f32],
    out: &mut [f32],
    saved: &mut Saved,
    scratch: &mut Scratch,
) {
    let Shape {
        hidden,
        intermediate,
        experts,
        chosen,
        rule,
    } = shape;
    let copies = tokens * chosen;
    reserve(&mut saved.inputs, copies * hidden);
    reserve(&mut saved.gate_up, copies * 2 * intermediate);
    reserve(&mut saved.activations, copies * intermediate);
    reserve(&mut scratch.outputs, copies * hidden);
    let routing = &mut saved.routing;
    if rule != Rule::Dense {
        reserve(&mut routing.scores, tokens * padded(experts));
        products.scores(tokens, h, &mut routing.scores);
    }
    routing.route(isa, arithmetic, rule, tokens, experts, chosen, bias);
    gather(isa, hidden, &routing.tokens, h, &mut saved.inputs);
    products.experts(
        routing,
        &saved.inputs[..copies * hidden],
        &mut saved.gate_up[..copies * 2 * intermediate],
        &mut saved.activations[..copies * intermediate],
        &mut scratch.outputs[..copies * hidden],
    );
    (arithmetic.combine)(
        isa,
        hidden,
        chosen,
        &routing.slots,
        &routing.weights,
        &scratch.outputs,
        residual,
        out,
    );
}

/// Gradients of [`forward`]: `dh` (tokens, hidden) is written, the matrices' gradients go where `products` has them.
///
/// `dout` is the gradient of the block's output; the residual's share is the caller's.
#[allow(clippy::too_many_arguments)]
pub fn backward(
    isa: Isa,
    shape: Shape,
    places: &Places,
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
        let activations = &saved.activations[rows.start * intermediate..][..n * intermediate];
        let gate_up = &saved.gate_up[rows.start * 2 * intermediate..][..n * 2 * intermediate];
        let inputs = &saved.inputs[rows.start * hidden..][..n * hidden];
        let outputs = &mut scratch.outputs[rows.start * hidden..][..n * hidden];
        let dactivations =
            &mut scratch.dactivations[rows.start * intermediate..][..n * intermediate];
        let dgate_up =
            &mut scratch.dgate_up[rows.start * 2 * intermediate..][..n * 2 * intermediate];
        let (down, up) = (&places.down[e], &places.gate_up[e]);
        products.input_gradient(
            down,
            n,
            (hidden, intermediate),
            outputs,
            dactivations,
            false,
        );
        let weights = &routing.slot_weights[rows.clone()];
        swiglu_backward(
            isa,
            intermediate,
            hidden,
            weights,
            gate_up,
            activations,
            dactivations,
            outputs,
            dgate_up,
            &mut scratch.dweights[rows],
        );
        products.weight_gradient(down, n, (hidden, intermediate), outputs, activations);
        products.weight_gradient(up, n, (2 * intermediate, hidden), dgate_up, inputs);
        products.input_gradient(up, n, (2 * intermediate, hidden), dgate_up, outputs, false);
    }
    if rule == Rule::Dense {
        dh[..tokens * hidden].fill(0.0);
    } else {
        let dlogits = &mut scratch.dlogits[..tokens * width];
        routing.backward(width, &scratch.dweights, dlogits);
        products.input_gradient(&places.router, tokens, (width, hidden), dlogits, dh, false);
        products.weight_gradient(&places.router, tokens, (width, hidden), dlogits, h);
    }
    gather_sum(isa, hidden, chosen, &routing.slots, &scratch.outputs, dh);
}
