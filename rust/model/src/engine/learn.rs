//! Gradients, steps, and weights that change.

use std::path::Path;

use candle_core::Tensor;

use super::{Engine, Example};
use crate::error::{Error, Result};
use crate::train::{Optimizer, StepReport, Update};
use crate::weights::{self, Raws};

impl Engine {
    /// Refuses to change weights that are only read.
    fn check_trainable(&self) -> Result<()> {
        if self.stored.is_some() {
            return Err(Error::Frozen);
        }
        Ok(())
    }

    /// Takes the weights of a file of the same architecture; on an error the old ones stay.
    pub fn read_weights(&mut self, file: &Path) -> Result<()> {
        self.check_trainable()?;
        let mut raws = Raws::new();
        weights::read_file(file, &self.config, &mut raws)?;
        weights::join_scales(&mut raws)?;
        let place = file.display().to_string();
        let had_backward = !self.parameters.backward.is_empty();
        let precision = self.precision();
        self.parameters = weights::assemble(raws, &self.config, &self.layout, &place)?;
        self.set_precision(precision);
        if had_backward {
            self.parameters.prepare_backward(&self.layout);
        }
        Ok(())
    }

    /// Begins training anew.
    pub fn reset_optimizer(&mut self, optimizer: Optimizer) {
        self.optimizer = optimizer;
    }

    fn check_batch(&self, batch: &[Example]) -> Result<()> {
        for (i, example) in batch.iter().enumerate() {
            let wrong = |what: String| Err(Error::Request(format!("example {i}: {what}")));
            self.check_ids(&example.ids)?;
            match example.positions.reach(example.ids.len()) {
                Some(reach) => self.check_length(reach)?,
                None => return wrong("it needs one increasing position a token".to_owned()),
            }
            if example.answer_start == 0 || example.answer_start >= example.ids.len() {
                let (start, n) = (example.answer_start, example.ids.len());
                return wrong(format!(
                    "an answer that starts at {start} of {n} tokens has nothing before or in it"
                ));
            }
            if !(example.weight.is_finite() && example.weight >= 0.0) {
                return wrong(format!(
                    "weight {} is not a finite number of at least 0",
                    example.weight
                ));
            }
        }
        if !batch.iter().any(|example| example.weight > 0.0) {
            return Err(Error::Request(
                "a batch needs an example with a weight above 0".to_owned(),
            ));
        }
        Ok(())
    }

    /// The loss of a batch and its gradient, accumulated in the trainer.
    fn accumulate(&mut self, batch: &[Example]) -> Result<f64> {
        self.check_trainable()?;
        self.check_batch(batch)?;
        let last = batch
            .iter()
            .filter_map(|example| example.positions.reach(example.ids.len()))
            .max();
        self.rotary.extend(last.unwrap_or(0));
        self.parameters.prepare_backward(&self.layout);
        let mut trainer = std::mem::take(&mut self.trainer);
        let loss = trainer.accumulate(self.network(), batch);
        self.trainer = trainer;
        Ok(loss)
    }

    /// The loss and every tensor's gradient under released names.
    pub fn gradients(&mut self, batch: &[Example]) -> Result<(f64, Vec<(String, Tensor)>)> {
        let loss = self.accumulate(batch)?;
        let gradient = self.trainer.gradient();
        let tensors = weights::tensors(&gradient, None, &self.config, &self.layout);
        Ok((loss, tensors.map_err(|e| Error::Request(e.to_string()))?))
    }

    /// One step of AdamW on a batch.
    pub fn train_step(&mut self, batch: &[Example], learning_rate: f32) -> Result<StepReport> {
        if !(learning_rate.is_finite() && learning_rate >= 0.0) {
            return Err(Error::Request(format!(
                "learning rate {learning_rate} is not a finite number of at least 0"
            )));
        }
        let loss = self.accumulate(batch)?;
        let tokens = batch.iter().map(Example::answer_tokens).sum();
        let update = Update {
            layout: &self.layout,
            parameters: &mut self.parameters,
            optimizer: &mut self.optimizer,
            trainer: &mut self.trainer,
            isa: self.isa,
            team: &self.team,
        };
        update.apply(
            loss,
            tokens,
            self.config.layers,
            self.config.experts,
            learning_rate,
        )
    }
}
