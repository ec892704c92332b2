//! What trains in this process's memory, and its steps.

use std::ops::Range;

use moevolve_kernels::Isa;
use moevolve_kernels::adamw::{AdamW, adamw, add_and_square};
use moevolve_kernels::panels::PanelsMut;
use moevolve_kernels::worker_pool::WorkerPool;

use super::Memory;
use crate::adapter::Adapter;
use crate::backend;
use crate::error::Result;
use crate::layout::{Layer, Layout};
use crate::parameters::{Parameters, pack};

/// The numbers that train.
pub enum Values<'a> {
    Whole(&'a mut Parameters),
    Adapter(&'a mut Adapter),
}

/// What trains of a network, and the threads that change it.
pub struct Trained<'a> {
    pub values: Values<'a>,
    pub layout: &'a Layout,
    pub pool: &'a WorkerPool,
    pub isa: Isa,
}

impl Trained<'_> {
    /// Ranges of the values that threads take one at a time.
    fn units(&self) -> Vec<Range<usize>> {
        match &self.values {
            Values::Whole(_) => self.layout.units(),
            // One piece: it is small.
            Values::Adapter(adapter) => vec![0..adapter.values.len(); 1],
        }
    }
}

impl backend::Trained for Trained<'_> {
    type Device = Memory;

    fn add_gradient(&self, part: &Vec<f32>, total: &mut Vec<f32>) -> f64 {
        let mut jobs = Vec::new();
        let (mut rest, mut start) = (&mut total[..], 0);
        for unit in self.units() {
            let (piece, after) = rest.split_at_mut(unit.end - start);
            (rest, start) = (after, unit.end);
            jobs.push((piece, &part[unit], 0.0));
        }
        self.pool.each(&mut jobs, &|(total, part, squares), _| {
            *squares = add_and_square(self.isa, part, total);
        });
        let squares = jobs.iter().map(|(_, _, squares)| squares);
        squares.sum::<f64>().sqrt()
    }

    fn expert_norms(&self, gradient: &Vec<f32>) -> Vec<Vec<f64>> {
        let squares = |range: &Range<usize>| {
            let ranges = match &self.values {
                Values::Whole(_) => vec![range.clone()],
                Values::Adapter(adapter) => {
                    adapter.ranges(range.start).into_iter().flatten().collect()
                }
            };
            let values = ranges.into_iter().flat_map(|range| &gradient[range]);
            values.map(|&x| f64::from(x) * f64::from(x)).sum::<f64>()
        };
        let norms = |layer: &Layer| {
            let experts = layer.experts.gate_up.iter().zip(&layer.experts.down);
            experts
                .map(|(up, down)| (squares(up) + squares(down)).sqrt())
                .collect()
        };
        self.layout.layers.iter().map(norms).collect()
    }

    fn optimizer_step(
        &mut self,
        adam: AdamW,
        gradient: &Vec<f32>,
        moments: &mut [Vec<f32>; 2],
    ) -> Result<()> {
        let (isa, layout) = (self.isa, self.layout);
        for moments in moments.iter_mut() {
            if moments.is_empty() {
                moments.resize(gradient.len(), 0.0);
            }
            assert_eq!(moments.len(), gradient.len(), "moments of other numbers");
        }
        match &mut self.values {
            Values::Adapter(adapter) => {
                let [first, second] = moments;
                adamw(isa, adam, gradient, &mut adapter.values, first, second);
                adapter.pack();
            }
            Values::Whole(parameters) => {
                let mut jobs = pieces(layout, parameters, moments, gradient);
                self.pool
                    .each(&mut jobs, &|piece, _| piece.update(isa, adam, layout));
            }
        }
        Ok(())
    }

    fn balance(&mut self, rate: f32, load: &[Vec<f64>]) {
        let Values::Whole(parameters) = &mut self.values else {
            return;
        };
        balance(&mut parameters.bias, rate, load);
    }
}

/// Moves selection biases (layers, experts) by `rate` towards an even load.
pub(crate) fn balance(bias: &mut [f32], rate: f32, load: &[Vec<f64>]) {
    let experts = load.first().map_or(1, Vec::len);
    for (bias, load) in bias.chunks_mut(experts).zip(load) {
        for (bias, load) in bias.iter_mut().zip(load) {
            // Loss-free balancing (Wang et al. 2024): towards the mean by the sign alone.
            let lack = 1.0 / experts as f64 - load;
            if lack != 0.0 {
                *bias += rate * lack.signum() as f32;
            }
        }
    }
}

/// What one thread updates at a time.
struct Piece<'a> {
    range: Range<usize>,
    gradient: &'a [f32],
    values: &'a mut [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
    forward: PanelsMut<'a>,
    backward: PanelsMut<'a>,
}

impl Piece<'_> {
    fn update(&mut self, isa: Isa, adam: AdamW, layout: &Layout) {
        adamw(
            isa,
            adam,
            self.gradient,
            self.values,
            self.first,
            self.second,
        );
        // While the layer is still in the cache.
        for matrix in layout.matrices(&self.range) {
            let at = matrix.range.start - self.range.start;
            let weight = &self.values[at..][..matrix.range.len()];
            pack(isa, &matrix, weight, &mut self.forward, &mut self.backward);
        }
    }
}

fn pieces<'a>(
    layout: &Layout,
    parameters: &'a mut Parameters,
    moments: &'a mut [Vec<f32>; 2],
    gradient: &'a [f32],
) -> Vec<Piece<'a>> {
    let [first, second] = moments;
    let mut rest = [&mut parameters.values[..], first, second];
    let mut panels = [parameters.forward.whole(), parameters.backward.whole()];
    let mut out = Vec::new();
    for range in layout.units() {
        let [values, first, second] = rest.map(|slice| slice.split_at_mut(range.len()));
        rest = [values.1, first.1, second.1];
        let [forward, backward] = panels.map(|panels| panels.split(range.len()));
        panels = [forward.1, backward.1];
        out.push(Piece {
            gradient: &gradient[range.clone()],
            range,
            values: values.0,
            first: first.0,
            second: second.0,
            forward: forward.0,
            backward: backward.0,
        });
    }
    out
}
