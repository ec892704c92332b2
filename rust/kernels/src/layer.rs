//! One Mixture-of-Experts block that is only read: the weights packed once, the work split over a team.
//!
//! Parts are (expert, block of columns): first gate, up and SwiGLU, then down. The same sums in the same order as in
//! [`crate::experts::forward`], so the same bits, on any number of threads.

use crate::arithmetic::OWN;
use crate::combine::combine;
use crate::experts::Shape;
use crate::panels::{Panels, PanelsMut, Precision, Side};
use crate::route::{Routing, Rule};
use crate::shared::Shared;
use crate::swiglu::swiglu;
use crate::team::Team;
use crate::{Isa, LANES, bf16, gemm, padded, reserve};

/// Columns of a part: two panels, enough work to share and few enough to balance.
const COLUMNS: usize = 2 * gemm::PANEL;

/// Rows of a part of the router's product and of the combination.
const TOKENS: usize = 32;

/// Multiply-adds below which a block is computed by the caller alone: waking others costs more.
const SMALL: usize = 1 << 19;

/// Bytes of a line of the cache.
const LINE: usize = 64;

/// (part, thread).
type Part<'a> = dyn Fn(usize, usize) + Sync + 'a;

/// Plain weights, row-major.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a> {
    /// (experts, hidden); empty for a dense rule.
    pub router: &'a [f32],
    /// Selection bias, one an expert, or none.
    pub bias: &'a [f32],
    /// (experts, 2 × intermediate, hidden): gate over up.
    pub gate_up: &'a [f32],
    /// (experts, hidden, intermediate).
    pub down: &'a [f32],
}

/// The packed block and its buffers.
pub struct Layer {
    shape: Shape,
    precision: Precision,
    router: Panels,
    bias: Vec<f32>,
    /// (experts, gate and up): two matrices an expert.
    gate_up: Panels,
    down: Panels,
    routing: Routing,
    single: Buffers<f32>,
    half: Buffers<u16>,
    /// (copies, hidden).
    outputs: Vec<f32>,
    /// One a thread.
    scratch: Vec<Vec<f32>>,
}

/// Operands of the products.
#[derive(Default)]
struct Buffers<N> {
    /// (tokens, hidden).
    input: Vec<N>,
    /// (copies, hidden), rows [`Number::apart`]: the input in expert order.
    sorted: Vec<N>,
    /// (copies, intermediate), rows [`Number::apart`].
    activations: Vec<N>,
}

/// What the operands of products are stored as.
trait Number: Copy + Default + Send + Sync {
    /// From one row of `width` numbers to the next: a line of the cache more, because rows a power of two apart would
    /// share a few of its sets.
    fn apart(width: usize) -> usize {
        width + LINE / size_of::<Self>()
    }
    fn round(isa: Isa, x: &[f32], out: &mut [Self]);
    fn panels(panels: &Panels) -> &[Self];
    /// As [`gemm::multiply`] for rows of `a` that lie [`Self::apart`].
    #[allow(clippy::too_many_arguments)]
    fn multiply(
        isa: Isa,
        rows: usize,
        depth: usize,
        columns: usize,
        a: &[Self],
        panels: &[Self],
        c: &mut [f32],
    );
}

impl Number for f32 {
    fn round(_: Isa, x: &[f32], out: &mut [Self]) {
        out.copy_from_slice(x);
    }
    fn panels(panels: &Panels) -> &[Self] {
        panels.single()
    }
    fn multiply(
        isa: Isa,
        rows: usize,
        depth: usize,
        columns: usize,
        a: &[Self],
        panels: &[Self],
        c: &mut [f32],
    ) {
        let a_row = Self::apart(depth);
        gemm::multiply_apart(isa, rows, depth, columns, a, a_row, panels, c, false);
    }
}

impl Number for u16 {
    fn round(isa: Isa, x: &[f32], out: &mut [Self]) {
        bf16::round(isa, x, out);
    }
    fn panels(panels: &Panels) -> &[Self] {
        panels.half()
    }
    fn multiply(
        isa: Isa,
        rows: usize,
        depth: usize,
        columns: usize,
        a: &[Self],
        panels: &[Self],
        c: &mut [f32],
    ) {
        let a_row = Self::apart(depth);
        bf16::multiply_rounded(isa, rows, depth, columns, a, a_row, panels, c, false);
    }
}

impl Layer {
    /// Packs the weights, each expert by one thread of the team.
    ///
    /// # Panics
    /// If a slice has not the length that `shape` says, or a width is no multiple of [`LANES`].
    pub fn new(
        isa: Isa,
        team: &Team,
        shape: Shape,
        precision: Precision,
        weights: Weights<'_>,
    ) -> Self {
        let Shape {
            hidden,
            intermediate,
            experts,
            chosen,
            rule,
        } = shape;
        assert!(hidden.is_multiple_of(LANES) && intermediate.is_multiple_of(LANES));
        assert!(0 < chosen && chosen <= experts);
        assert!(weights.bias.is_empty() || weights.bias.len() == experts);
        let routed = if rule == Rule::Dense { 0 } else { experts };
        assert!(weights.router.len() == routed * hidden);
        let size = hidden * intermediate;
        assert!(
            weights.gate_up.len() == experts * 2 * size && weights.down.len() == experts * size
        );
        let width = padded(routed);
        let mut routes = weights.router.to_vec();
        routes.resize(width * hidden, 0.0);
        let mut router = Panels::new(Side::Forward, Precision::F32, width * hidden, []);
        router.whole().pack(isa, 0, width, hidden, &routes);
        let mut gate_up = Panels::new(Side::Forward, precision, experts * 2 * size, []);
        let mut down = Panels::new(Side::Forward, precision, experts * size, []);
        // Gate and up apart: a part takes the same columns of both.
        pack(
            isa,
            team,
            &mut gate_up,
            intermediate,
            hidden,
            weights.gate_up,
        );
        pack(isa, team, &mut down, hidden, intermediate, weights.down);
        Self {
            shape,
            precision,
            router,
            bias: weights.bias.to_vec(),
            gate_up,
            down,
            routing: Routing::default(),
            single: Buffers::default(),
            half: Buffers::default(),
            outputs: Vec::new(),
            scratch: Vec::new(),
        }
    }

    pub fn shape(&self) -> Shape {
        self.shape
    }

    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// `out` (tokens, hidden) = the block applied to `x` (tokens, hidden).
    pub fn forward(&mut self, isa: Isa, team: &Team, x: &[f32], out: &mut [f32]) {
        assert!(x.len() == out.len() && x.len().is_multiple_of(self.shape.hidden));
        match self.precision {
            Precision::F32 => {
                let mut buffers = std::mem::take(&mut self.single);
                self.run(isa, team, x, out, &mut buffers);
                self.single = buffers;
            }
            Precision::Bf16 => {
                let mut buffers = std::mem::take(&mut self.half);
                self.run(isa, team, x, out, &mut buffers);
                self.half = buffers;
            }
        }
    }

    fn run<N: Number>(
        &mut self,
        isa: Isa,
        team: &Team,
        x: &[f32],
        out: &mut [f32],
        buffers: &mut Buffers<N>,
    ) {
        let Shape {
            hidden,
            intermediate,
            chosen,
            ..
        } = self.shape;
        let tokens = x.len() / hidden;
        let copies = tokens * chosen;
        let small = copies * 3 * hidden * intermediate < SMALL;
        let share = |parts: usize, part: &Part<'_>| {
            if small {
                (0..parts).for_each(|index| part(index, 0));
            } else {
                team.run(parts, part);
            }
        };
        reserve(&mut buffers.input, tokens * hidden);
        let (input_row, inner_row) = (N::apart(hidden), N::apart(intermediate));
        reserve(&mut buffers.sorted, copies * input_row);
        reserve(&mut buffers.activations, copies * inner_row);
        reserve(&mut self.outputs, copies * hidden);
        self.scratch.resize(team.threads(), Vec::new());

        self.read(isa, &share, x, &mut buffers.input[..tokens * hidden]);
        let Self {
            routing,
            scratch,
            outputs,
            gate_up,
            down,
            ..
        } = self;
        let scratch = Shared::new(scratch);
        let blocks = |width: usize| width.div_ceil(COLUMNS);
        let active: Vec<usize> = (0..self.shape.experts)
            .filter(|&e| !routing.rows_of(e).is_empty())
            .collect();
        let sorted = Shared::new(&mut buffers.sorted);
        let input = &buffers.input;
        share(tokens.div_ceil(TOKENS), &|part, _| {
            for i in part * TOKENS * chosen..((part + 1) * TOKENS * chosen).min(copies) {
                let row = &input[i / chosen * hidden..][..hidden];
                // SAFETY: every copy has a slot of its own.
                unsafe { sorted.put(routing.slots[i] as usize * input_row, row) };
            }
        });
        let sorted = &buffers.sorted;
        let activations = Shared::new(&mut buffers.activations);
        let up_blocks = blocks(intermediate);
        let panels = N::panels(gate_up);
        share(active.len() * up_blocks, &|part, thread| {
            let (e, first) = (active[part / up_blocks], part % up_blocks * COLUMNS);
            let wide = COLUMNS.min(intermediate - first);
            let rows = routing.rows_of(e);
            let n = rows.len();
            // SAFETY: one part at a time has this thread's number.
            let scratch = unsafe { &mut scratch.slice(thread..thread + 1)[0] };
            reserve(scratch, 4 * n * wide);
            let (both, rest) = scratch.split_at_mut(2 * n * wide);
            let (product, activated) = rest.split_at_mut(n * wide);
            let a = &sorted[rows.start * input_row..rows.end * input_row];
            let matrix = &panels[e * 2 * intermediate * hidden..][..2 * intermediate * hidden];
            // Gate and up beside each other, as SwiGLU reads them.
            for (side, start) in [first, intermediate + first].into_iter().enumerate() {
                N::multiply(
                    isa,
                    n,
                    hidden,
                    wide,
                    a,
                    &matrix[start * hidden..][..wide * hidden],
                    product,
                );
                for (row, from) in product.chunks_exact(wide).take(n).enumerate() {
                    both[(2 * row + side) * wide..][..wide].copy_from_slice(from);
                }
            }
            swiglu(isa, wide, both, &mut activated[..n * wide]);
            let mut line = [N::default(); COLUMNS];
            for (row, from) in rows.zip(activated.chunks_exact(wide)) {
                N::round(isa, from, &mut line[..wide]);
                // SAFETY: these rows are this expert's and these columns this part's.
                unsafe { activations.put(row * inner_row + first, &line[..wide]) };
            }
        });
        let activations = &buffers.activations;
        let shared = Shared::new(outputs);
        let down_blocks = blocks(hidden);
        let panels = N::panels(down);
        share(active.len() * down_blocks, &|part, thread| {
            let (e, first) = (active[part / down_blocks], part % down_blocks * COLUMNS);
            let wide = COLUMNS.min(hidden - first);
            let rows = routing.rows_of(e);
            // SAFETY: one part at a time has this thread's number.
            let scratch = unsafe { &mut scratch.slice(thread..thread + 1)[0] };
            reserve(scratch, rows.len() * wide);
            let a = &activations[rows.start * inner_row..rows.end * inner_row];
            let matrix = &panels[(e * hidden + first) * intermediate..][..wide * intermediate];
            N::multiply(isa, rows.len(), intermediate, wide, a, matrix, scratch);
            for (row, from) in rows.zip(scratch.chunks_exact(wide)) {
                // SAFETY: these rows are this expert's and these columns this part's.
                unsafe { shared.put(row * hidden + first, from) };
            }
        });
        let to = Shared::new(out);
        let zeros = vec![0.0; TOKENS.min(tokens) * hidden];
        share(tokens.div_ceil(TOKENS), &|part, _| {
            let tokens = part * TOKENS..((part + 1) * TOKENS).min(tokens);
            let copies = tokens.start * chosen..tokens.end * chosen;
            // SAFETY: these tokens are this part's.
            let out = unsafe { to.slice(tokens.start * hidden..tokens.end * hidden) };
            combine(
                isa,
                hidden,
                chosen,
                &routing.slots[copies.clone()],
                &routing.weights[copies],
                outputs,
                &zeros,
                out,
            );
        });
    }

    /// Rounds the input and routes it.
    fn read<N: Number>(
        &mut self,
        isa: Isa,
        share: &dyn Fn(usize, &Part<'_>),
        x: &[f32],
        input: &mut [N],
    ) {
        let Shape {
            hidden,
            experts,
            chosen,
            rule,
            ..
        } = self.shape;
        let routed = if rule == Rule::Dense { 0 } else { experts };
        let (tokens, width) = (x.len() / hidden, padded(routed));
        reserve(&mut self.routing.scores, tokens * width);
        let scores = Shared::new(&mut self.routing.scores[..tokens * width]);
        let input = Shared::new(input);
        let router = &self.router;
        share(tokens.div_ceil(TOKENS), &|part, _| {
            let tokens = part * TOKENS..((part + 1) * TOKENS).min(tokens);
            let span = tokens.start * hidden..tokens.end * hidden;
            // SAFETY: these tokens are this part's.
            let (scores, input) = unsafe {
                (
                    scores.slice(tokens.start * width..tokens.end * width),
                    input.slice(span.clone()),
                )
            };
            N::round(isa, &x[span.clone()], input);
            router.multiply(
                isa,
                &(0..width * hidden),
                tokens.len(),
                hidden,
                width,
                &x[span],
                scores,
                false,
            );
        });
        let routing = &mut self.routing;
        routing.route(isa, &OWN, rule, tokens, experts, chosen, &self.bias);
    }
}

/// Packs stacked matrices (out, inp), one a part.
fn pack(isa: Isa, team: &Team, panels: &mut Panels, out: usize, inp: usize, weights: &[f32]) {
    let mut rest = panels.whole();
    let mut parts: Vec<PanelsMut<'_>> = Vec::new();
    for _ in weights.chunks_exact(out * inp) {
        let (part, after) = rest.split(out * inp);
        parts.push(part);
        rest = after;
    }
    let mut parts: Vec<_> = parts
        .into_iter()
        .zip(weights.chunks_exact(out * inp))
        .enumerate()
        .collect();
    team.each(&mut parts, &|(index, (part, weights)), _| {
        part.pack(isa, *index * out * inp, out, inp, weights);
    });
}
