//! What trains on a device, and its steps.

use std::ops::Range;
use std::sync::Arc;

use moevolve_kernels::adamw::AdamW;
use moevolve_kernels_cuda::update::{self, adamw, add, sum_squares};
use moevolve_kernels_cuda::{Address, Device, Memory, Result};

use super::memory::{Buffer, CardMemory};
use super::weights::same;
use super::{CardWeights, Failure};
use crate::adapter::Adapter;
use crate::backend;
use crate::backend::cpu::balance;
use crate::layout::{Layer, Layout};

/// All weights of a network, or the adapter beside them.
pub struct Trained<'a> {
    pub weights: &'a mut CardWeights,
    pub adapter: Option<&'a mut Adapter>,
    /// Selection biases on the host, which the device's follow.
    pub bias: &'a mut [f32],
    pub layout: &'a Layout,
    pub failure: &'a Failure,
}

impl Trained<'_> {
    fn device(&self) -> &Arc<dyn Device> {
        self.weights.device()
    }

    /// Numbers that train.
    fn count(&self) -> usize {
        match &self.adapter {
            Some(adapter) => adapter.values.len(),
            None => self.layout.total,
        }
    }

    fn squares(&self, gradient: &Buffer, range: Range<usize>) -> Result<f64> {
        let ranges = match &self.adapter {
            None => vec![range],
            Some(adapter) => adapter.ranges(range.start).into_iter().flatten().collect(),
        };
        let each =
            |range: Range<usize>| sum_squares(self.device(), gradient.at(range.start), range.len());
        ranges.into_iter().map(each).sum()
    }

    fn step(&mut self, adam: AdamW, gradient: Address, moments: &mut [Buffer; 2]) -> Result<()> {
        let (device, count) = (self.device().clone(), self.count());
        let fits = |moments: &Buffer| moments.memory().is_none_or(|there| there.len() == count);
        assert!(moments.iter().all(fits), "moments of other numbers");
        let adam = update::AdamW {
            learning_rate: adam.learning_rate,
            beta1: adam.beta1,
            beta2: adam.beta2,
            epsilon: adam.epsilon,
            weight_decay: adam.weight_decay,
            gradient_scale: adam.gradient_scale,
            step: adam.step,
        };
        let launch = |values: Address, [first, second]: &[Buffer; 2], rounded: Address| {
            let (first, second) = (first.address(), second.address());
            adamw(
                &*device, adam, gradient, values, first, second, rounded, count,
            )
        };
        let Some(adapter) = &mut self.adapter else {
            let made = |there: &Buffer| {
                let zeros = there.is_empty().then(|| Buffer::zeros(&device, count));
                zeros.transpose()
            };
            let made = [made(&moments[0])?, made(&moments[1])?];
            for (moments, made) in moments.iter_mut().zip(made) {
                if let Some(made) = made {
                    *moments = made;
                }
            }
            let numbers = self.weights.numbers();
            let rounded = numbers.rounded.as_ref().map_or(0, Memory::address);
            return launch(numbers.at(0), moments, rounded);
        };
        // What an adapter adds to the weights follows in launches of its own: until they are through, it steps on copies.
        let copy = |there: &Buffer| match there.memory() {
            Some(there) => same(&device, there).map(Buffer::from),
            None => Buffer::zeros(&device, count),
        };
        let values = Memory::from_slice(&device, &adapter.values)?;
        let stepped = [copy(&moments[0])?, copy(&moments[1])?];
        launch(values.address(), &stepped, 0)?;
        let before = std::mem::replace(&mut adapter.values, values.download()?);
        adapter.pack();
        if let Err(error) = self.weights.put_adapter(adapter) {
            adapter.values = before;
            adapter.pack();
            // A device that does not even take the earlier share back computes nothing any more.
            self.weights.put_adapter(adapter).ok();
            return Err(error);
        }
        *moments = stepped;
        Ok(())
    }
}

impl backend::Trained for Trained<'_> {
    type Device = CardMemory;

    fn add_gradient(&self, part: &Buffer, total: &mut Buffer) -> f64 {
        let (device, count) = (self.device(), self.count());
        let norm = self.failure.attempt(|| {
            add(&**device, part.address(), total.address(), count)?;
            Ok(sum_squares(device, total.address(), count)?.sqrt())
        });
        norm.unwrap_or(f64::NAN)
    }

    fn expert_norms(&self, gradient: &Buffer) -> Vec<Vec<f64>> {
        let norm = |(up, down): (&Range<usize>, &Range<usize>)| {
            let squares = self.failure.attempt(|| {
                Ok(self.squares(gradient, up.clone())? + self.squares(gradient, down.clone())?)
            });
            squares.unwrap_or(f64::NAN).sqrt()
        };
        let norms = |layer: &Layer| {
            let experts = layer.experts.gate_up.iter().zip(&layer.experts.down);
            experts.map(norm).collect()
        };
        self.layout.layers.iter().map(norms).collect()
    }

    fn optimizer_step(
        &mut self,
        adam: AdamW,
        gradient: &Buffer,
        moments: &mut [Buffer; 2],
    ) -> crate::Result<()> {
        self.failure.take()?;
        Ok(self.step(adam, gradient.address(), moments)?)
    }

    fn balance(&mut self, rate: f32, load: &[Vec<f64>]) {
        if self.adapter.is_some() || self.bias.is_empty() {
            return;
        }
        self.failure.attempt(|| {
            let mut bias = self.bias.to_vec();
            balance(&mut bias, rate, load);
            self.weights.put_bias(&bias)?;
            self.bias.copy_from_slice(&bias);
            Ok(())
        });
    }
}
