//! A step: clipping, AdamW, panels packed again, and balancing of the router.

use std::ops::Range;

use moevolve_kernels::Isa;
use moevolve_kernels::adamw::{AdamW, adamw};
use moevolve_kernels::panels::PanelsMut;
use moevolve_kernels::worker_pool::WorkerPool;

use crate::adapter::Adapter;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::parameters::{Parameters, pack};
use crate::train::{StepReport, Trainer};

/// Hyper-parameters and moments.
#[derive(Clone, Debug)]
pub struct Optimizer {
    pub beta1: f32,
    pub beta2: f32,
    pub epsilon: f32,
    pub weight_decay: f32,
    /// Largest global norm of the gradient.
    pub clip: f32,
    /// How far a selection bias moves a step towards balance; 0 leaves them alone.
    pub bias_rate: f32,
    pub(crate) step: u32,
    pub(crate) first: Vec<f32>,
    pub(crate) second: Vec<f32>,
}

impl Optimizer {
    /// Fresh moments.
    pub fn new(
        beta1: f32,
        beta2: f32,
        epsilon: f32,
        weight_decay: f32,
        clip: f32,
        bias_rate: f32,
    ) -> Result<Self> {
        let fraction = |x: f32| (0.0..1.0).contains(&x);
        let amount = |x: f32| x.is_finite() && x >= 0.0;
        if !fraction(beta1) || !fraction(beta2) || !amount(weight_decay) || !amount(bias_rate) {
            let wrong =
                "betas lie in [0, 1), weight decay and bias rate are finite and not negative";
            return Err(Error::Request(wrong.to_owned()));
        }
        if !(epsilon.is_finite() && epsilon > 0.0 && clip > 0.0) {
            return Err(Error::Request("epsilon and clip are positive".to_owned()));
        }
        let (first, second) = (Vec::new(), Vec::new());
        Ok(Self {
            beta1,
            beta2,
            epsilon,
            weight_decay,
            clip,
            bias_rate,
            step: 0,
            first,
            second,
        })
    }
}

impl Default for Optimizer {
    fn default() -> Self {
        let (first, second) = (Vec::new(), Vec::new());
        Self {
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.01,
            clip: 1.0,
            bias_rate: 0.0,
            step: 0,
            first,
            second,
        }
    }
}

/// What an update changes.
pub enum Trained<'a> {
    Whole(&'a mut Parameters),
    Adapter(&'a mut Adapter),
}

/// One update of what trains.
pub struct Update<'a> {
    pub layout: &'a Layout,
    pub trained: Trained<'a>,
    pub optimizer: &'a mut Optimizer,
    pub trainer: &'a mut Trainer,
    pub isa: Isa,
    pub pool: &'a WorkerPool,
}

impl Update<'_> {
    /// Clips, updates and repacks; refuses, and changes nothing, if the loss or the norm is not finite. `norms` asks for
    /// the norms of the experts' gradients.
    pub fn apply(
        self,
        loss: f64,
        tokens: usize,
        layers: usize,
        experts: usize,
        learning_rate: f32,
        norms: bool,
    ) -> Result<StepReport> {
        let Self {
            layout,
            mut trained,
            optimizer,
            trainer,
            isa,
            pool,
        } = self;
        if !loss.is_finite() {
            return Err(Error::NotFinite {
                what: "loss",
                value: loss,
            });
        }
        let units = match &trained {
            Trained::Whole(_) => layout.units(),
            // One piece: it is small.
            Trained::Adapter(adapter) => vec![0..adapter.values.len(); 1],
        };
        let gradient_norm = trainer.reduce(isa, &units, pool);
        if !gradient_norm.is_finite() {
            return Err(Error::NotFinite {
                what: "norm of the gradient",
                value: gradient_norm,
            });
        }
        let total = units.last().map_or(0, |unit| unit.end);
        optimizer.step += 1;
        optimizer.first.resize(total, 0.0);
        optimizer.second.resize(total, 0.0);
        let adam = AdamW {
            learning_rate,
            beta1: optimizer.beta1,
            beta2: optimizer.beta2,
            epsilon: optimizer.epsilon,
            weight_decay: optimizer.weight_decay,
            // As torch's clip_grad_norm_ does.
            gradient_scale: (f64::from(optimizer.clip) / (gradient_norm + 1e-6)).min(1.0) as f32,
            step: optimizer.step,
        };
        let gradient = trainer.reduced();
        let expert_gradient = if norms {
            expert_norms(layout, &trained, gradient)
        } else {
            Vec::new()
        };
        match &mut trained {
            Trained::Adapter(adapter) => {
                let (first, second) = (&mut optimizer.first, &mut optimizer.second);
                adamw(isa, adam, gradient, &mut adapter.values, first, second);
                adapter.pack();
            }
            Trained::Whole(parameters) => {
                let mut jobs = pieces(layout, parameters, optimizer, gradient);
                pool.each(&mut jobs, &|piece, _| piece.update(isa, adam, layout));
            }
        }
        let expert_load = trainer.loads(layers, experts);
        if let Trained::Whole(parameters) = trained {
            for (bias, load) in parameters.bias.chunks_mut(experts).zip(&expert_load) {
                for (bias, load) in bias.iter_mut().zip(load) {
                    // Loss-free balancing (Wang et al. 2024): towards the mean by the sign alone.
                    let lack = 1.0 / experts as f64 - load;
                    if lack != 0.0 {
                        *bias += optimizer.bias_rate * lack.signum() as f32;
                    }
                }
            }
        }
        Ok(StepReport {
            loss,
            tokens,
            gradient_norm,
            expert_load,
            expert_gradient,
            policy: None,
        })
    }
}

/// Norms of the gradients of each layer's experts, the adapter's or the weights' own.
fn expert_norms(layout: &Layout, trained: &Trained<'_>, gradient: &[f32]) -> Vec<Vec<f64>> {
    let squares = |range: &Range<usize>| {
        let ranges = match trained {
            Trained::Whole(_) => vec![range.clone()],
            Trained::Adapter(adapter) => {
                adapter.ranges(range.start).into_iter().flatten().collect()
            }
        };
        let values = ranges.into_iter().flat_map(|range| &gradient[range]);
        values.map(|&x| f64::from(x) * f64::from(x)).sum::<f64>()
    };
    let norms = |layer: &crate::layout::Layer| {
        let experts = layer.experts.gate_up.iter().zip(&layer.experts.down);
        experts
            .map(|(up, down)| (squares(up) + squares(down)).sqrt())
            .collect()
    };
    layout.layers.iter().map(norms).collect()
}

/// What one thread updates at a time.
struct Piece<'a> {
    range: std::ops::Range<usize>,
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
    optimizer: &'a mut Optimizer,
    gradient: &'a [f32],
) -> Vec<Piece<'a>> {
    let mut rest = [
        &mut parameters.values[..],
        &mut optimizer.first,
        &mut optimizer.second,
    ];
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
