//! A step: clipping, AdamW, and balancing of the router, on whatever device what trains lies.

use moevolve_kernels::adamw::AdamW;

use crate::backend::cpu::Memory;
use crate::backend::{Device, Trained};
use crate::error::{Error, Result};
use crate::train::{StepReport, Trainer};

/// Hyper-parameters and moments.
pub struct Optimizer<D: Device = Memory> {
    pub beta1: f32,
    pub beta2: f32,
    pub epsilon: f32,
    pub weight_decay: f32,
    /// Largest global norm of the gradient.
    pub clip: f32,
    /// How far a selection bias moves a step towards balance; 0 leaves them alone.
    pub bias_rate: f32,
    pub(crate) step: u32,
    /// First and second, in the layout of what trains; empty before the first step.
    pub(crate) moments: [D::Buffer; 2],
}

impl<D: Device> Optimizer<D> {
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
        Ok(Self {
            beta1,
            beta2,
            epsilon,
            weight_decay,
            clip,
            bias_rate,
            step: 0,
            moments: Default::default(),
        })
    }
}

impl<D: Device> Optimizer<D> {
    /// The same hyper-parameters before the first step.
    pub(crate) fn fresh(&self) -> Self {
        Self {
            step: 0,
            ..self.like()
        }
    }

    /// The same hyper-parameters and step for another device's moments, which are empty.
    pub(crate) fn like<E: Device>(&self) -> Optimizer<E> {
        Optimizer {
            beta1: self.beta1,
            beta2: self.beta2,
            epsilon: self.epsilon,
            weight_decay: self.weight_decay,
            clip: self.clip,
            bias_rate: self.bias_rate,
            step: self.step,
            moments: Default::default(),
        }
    }
}

impl<D: Device> Default for Optimizer<D> {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.01,
            clip: 1.0,
            bias_rate: 0.0,
            step: 0,
            moments: Default::default(),
        }
    }
}

/// One update of what trains by the gradients that a trainer accumulated: clips, steps, balances.
pub struct Update<'a, D: Device> {
    pub optimizer: &'a mut Optimizer<D>,
    pub trainer: &'a mut Trainer<D>,
    /// Layers and experts.
    pub shape: [usize; 2],
    /// Whether the norms of the experts' gradients are asked for.
    pub norms: bool,
}

impl<D: Device> Update<'_, D> {
    /// Refuses, and changes nothing, if the loss or the norm is not finite, or the device failed.
    pub fn apply(
        self,
        trained: &mut impl Trained<Device = D>,
        loss: f64,
        tokens: usize,
        learning_rate: f32,
    ) -> Result<StepReport> {
        let Self {
            optimizer,
            trainer,
            shape: [layers, experts],
            norms,
        } = self;
        if !loss.is_finite() {
            return Err(Error::NotFinite {
                what: "loss",
                value: loss,
            });
        }
        let (gradient, gradient_norm) = trainer.reduce(trained);
        if !gradient_norm.is_finite() {
            return Err(Error::NotFinite {
                what: "norm of the gradient",
                value: gradient_norm,
            });
        }
        let step = optimizer.step + 1;
        let adam = AdamW {
            learning_rate,
            beta1: optimizer.beta1,
            beta2: optimizer.beta2,
            epsilon: optimizer.epsilon,
            weight_decay: optimizer.weight_decay,
            // As torch's clip_grad_norm_ does.
            gradient_scale: (f64::from(optimizer.clip) / (gradient_norm + 1e-6)).min(1.0) as f32,
            step,
        };
        let expert_gradient = if norms {
            trained.expert_norms(gradient)
        } else {
            Vec::new()
        };
        trained.optimizer_step(adam, gradient, &mut optimizer.moments)?;
        optimizer.step = step;
        let expert_load = trainer.loads(layers, experts);
        trained.balance(optimizer.bias_rate, &expert_load);
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
