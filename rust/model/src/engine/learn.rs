//! Gradients, steps, and weights that change.

use std::path::Path;

use candle_core::{Device, Tensor};

use super::card::OnCard;
use super::{Engine, Example};
use crate::adapter::Adapter;
use crate::backend::cpu::{Trained, Values};
use crate::backend::cuda::{self, Card};
use crate::batch::Positions;
use crate::checkpoint::huggingface;
use crate::error::{Error, Result};
use crate::objective::{Objective, Rollout};
use crate::optimizer::{Optimizer, Update};
use crate::parameters::Parameters;
use crate::train::{PolicyReport, Sequence, StepReport, sampled, taught};
use crate::weights::{self, Released};

/// What trains, read and not yet taken.
pub(super) enum Read {
    Whole(Parameters),
    Adapter(Adapter),
}

impl Engine {
    /// Refuses to change weights that are only read, unless an adapter trains beside them.
    fn check_trainable(&self) -> Result<()> {
        if self.stored.is_some() && self.adapter.is_none() {
            return Err(Error::Frozen);
        }
        Ok(())
    }

    /// Takes the weights of a file of the same architecture, the adapter's where there is one; on an error the old ones
    /// stay.
    pub fn read_weights(&mut self, file: &Path) -> Result<()> {
        let read = self.read_trained(file)?;
        self.put(read);
        self.check_device()
    }

    /// What trains here, as a file has it.
    pub(super) fn read_trained(&self, file: &Path) -> Result<Read> {
        self.check_trainable()?;
        if self.adapter.is_some() {
            return Ok(Read::Adapter(self.read_adapter(file)?));
        }
        let tensors = huggingface::tensors(file, &self.config)?;
        let parameters = weights::assemble(tensors, &self.config, &self.layout)?;
        Ok(Read::Whole(parameters))
    }

    /// Hash of what was read, as [`Self::fingerprint`] gives it.
    pub(super) fn fingerprint_of(&self, read: &Read) -> String {
        match read {
            Read::Whole(parameters) => {
                Released::new(&self.config, &self.layout, parameters, None).fingerprint()
            }
            Read::Adapter(adapter) => super::adapt::fingerprint(adapter),
        }
    }

    /// Computes with what was read from here on.
    pub(super) fn put(&mut self, read: Read) {
        self.weights_version += 1;
        match (read, &mut self.card) {
            (Read::Adapter(adapter), card) => {
                if let Some(card) = card {
                    let (failure, weights) = (&card.failure, &mut card.weights);
                    failure.attempt(|| weights.put_adapter(&adapter));
                }
                self.adapter = Some(adapter);
            }
            (Read::Whole(parameters), Some(card)) => {
                let (failure, weights) = (&card.failure, &mut card.weights);
                failure.attempt(|| weights.put(&parameters.values, &parameters.bias));
                self.parameters.bias = parameters.bias;
            }
            (Read::Whole(parameters), None) => {
                let had_backward = !self.parameters.backward.is_empty();
                let precision = self.precision();
                self.parameters = parameters;
                self.set_precision(precision);
                if had_backward {
                    self.parameters.prepare_backward(&self.layout);
                }
            }
        }
    }

    /// Begins training anew.
    pub fn reset_optimizer(&mut self, optimizer: Optimizer) {
        if let Some(card) = &mut self.card {
            card.optimizer = optimizer.like();
        } else {
            self.optimizer = optimizer;
        }
    }

    /// Refuses a sequence that cannot be learnt from; `what` and `i` say which.
    pub(super) fn check_sequence(
        &self,
        (what, i): (&str, usize),
        ids: &[u32],
        answer_start: usize,
        positions: &Positions,
    ) -> Result<()> {
        let wrong = |reason: String| Err(Error::Request(format!("{what} {i}: {reason}")));
        self.check_ids(ids)?;
        match positions.reach(ids.len()) {
            Some(reach) => self.check_length(reach)?,
            None => return wrong("it needs one increasing position a token".to_owned()),
        }
        if answer_start == 0 || answer_start >= ids.len() {
            let n = ids.len();
            return wrong(format!(
                "an answer that starts at {answer_start} of {n} tokens has nothing before or in it"
            ));
        }
        Ok(())
    }

    fn check_batch(&self, batch: &[Example]) -> Result<()> {
        for (i, example) in batch.iter().enumerate() {
            let Example {
                ids,
                answer_start,
                positions,
                weight,
            } = example;
            self.check_sequence(("example", i), ids, *answer_start, positions)?;
            if !(weight.is_finite() && *weight >= 0.0) {
                return Err(Error::Request(format!(
                    "example {i}: weight {weight} is not a finite number of at least 0"
                )));
            }
        }
        if !batch.iter().any(|example| example.weight > 0.0) {
            return Err(Error::Request(
                "a batch needs an example with a weight above 0".to_owned(),
            ));
        }
        Ok(())
    }

    fn check_rollouts(&self, batch: &[Rollout]) -> Result<()> {
        for (i, rollout) in batch.iter().enumerate() {
            let Rollout {
                ids,
                answer_start,
                positions,
                advantages,
                old,
                reference,
                ..
            } = rollout;
            self.check_sequence(("answer", i), ids, *answer_start, positions)?;
            let tokens = ids.len() - answer_start;
            let whole = [advantages.len(), old.len()] == [tokens; 2]
                && (reference.is_empty() || reference.len() == tokens);
            let mut numbers = advantages.iter().chain(old).chain(reference);
            if !whole || !numbers.all(|x| x.is_finite()) {
                return Err(Error::Request(format!(
                    "answer {i}: its {tokens} tokens need a finite advantage and log-probability each"
                )));
            }
        }
        if batch.is_empty() {
            return Err(Error::Request("a batch needs an answer".to_owned()));
        }
        Ok(())
    }

    /// The loss of a batch and its gradient, accumulated in the trainer.
    fn accumulate(&mut self, batch: &[Example]) -> Result<f64> {
        self.check_trainable()?;
        self.check_batch(batch)?;
        self.accumulate_sequences(&taught(batch), None)
    }

    /// As [`Self::accumulate`], of sampled answers under an objective.
    fn accumulate_policy(&mut self, batch: &[Rollout], objective: &Objective) -> Result<f64> {
        self.check_trainable()?;
        self.check_rollouts(batch)?;
        self.accumulate_sequences(&sampled(objective, batch), Some(objective))
    }

    /// The same of sequences that were checked, once all that training reads exists.
    fn accumulate_sequences(
        &mut self,
        sequences: &[Sequence<'_>],
        objective: Option<&Objective>,
    ) -> Result<f64> {
        let reach = sequences.iter().filter_map(Sequence::reach).max();
        self.prepare(reach.unwrap_or(0));
        if let Some(card) = self.card.as_deref_mut() {
            let OnCard {
                weights,
                trainer,
                failure,
                pool,
                ..
            } = card;
            let (config, layout) = (&self.config, &self.layout);
            let adapter = self.adapter.as_ref();
            let backend = Card::new(config, layout, weights, adapter, failure, pool, self.isa);
            let loss = trainer.accumulate(&backend, sequences, objective, self.keep);
            failure.take()?;
            return Ok(loss);
        }
        if self.stored.is_none() {
            self.parameters.prepare_backward(&self.layout);
        }
        let mut trainer = std::mem::take(&mut self.trainer);
        let loss = self.with_cpu(|cpu| trainer.accumulate(&cpu, sequences, objective, self.keep));
        self.trainer = trainer;
        Ok(loss)
    }

    /// The loss and every tensor's gradient under released names; an adapter's under PEFT's.
    pub fn gradients(&mut self, batch: &[Example]) -> Result<(f64, Vec<(String, Tensor)>)> {
        let loss = self.accumulate(batch)?;
        Ok((loss, self.named_gradients()?))
    }

    /// As [`Self::gradients`], of sampled answers under an objective.
    pub fn policy_gradients(
        &mut self,
        batch: &[Rollout],
        objective: &Objective,
    ) -> Result<(f64, Vec<(String, Tensor)>)> {
        let loss = self.accumulate_policy(batch, objective)?;
        Ok((loss, self.named_gradients()?))
    }

    fn named_gradients(&self) -> Result<Vec<(String, Tensor)>> {
        let gradient = match &self.card {
            None => self.with_cpu(|cpu| self.trainer.gradient(&cpu)),
            Some(card) => self.on(card, |backend| card.trainer.gradient(&backend))?,
        };
        let tensor = |(name, shape, values): (String, Vec<usize>, Vec<f32>)| {
            let tensor = Tensor::from_vec(values, shape, &Device::Cpu);
            Ok((name, tensor.map_err(|e| Error::Request(e.to_string()))?))
        };
        match &self.adapter {
            None => {
                let released = Released::of_values(&self.config, &self.layout, &gradient);
                let named = released
                    .tensors()
                    .enumerate()
                    .map(|(index, (name, shape))| {
                        let mut values = Vec::new();
                        let rows = match shape[..] {
                            [length] => length,
                            _ => shape.iter().rev().skip(1).product(),
                        };
                        released.rows(index, 0..rows, &mut values);
                        (name.clone(), shape.clone(), values)
                    });
                named.map(tensor).collect()
            }
            Some(adapter) => adapter
                .tensors(&gradient)
                .into_iter()
                .map(|(name, shape, values)| (name, shape.to_vec(), values))
                .map(tensor)
                .collect(),
        }
    }

    /// One step of AdamW on a batch. `norms` asks for the norms of the experts' gradients.
    pub fn train_step(
        &mut self,
        batch: &[Example],
        learning_rate: f32,
        norms: bool,
    ) -> Result<StepReport> {
        check_rate(learning_rate)?;
        let loss = self.accumulate(batch)?;
        let tokens = batch.iter().map(Example::answer_tokens).sum();
        self.update(loss, tokens, learning_rate, norms)
    }

    /// One step of AdamW on sampled answers under an objective.
    pub fn policy_step(
        &mut self,
        batch: &[Rollout],
        objective: &Objective,
        learning_rate: f32,
        norms: bool,
    ) -> Result<StepReport> {
        check_rate(learning_rate)?;
        let loss = self.accumulate_policy(batch, objective)?;
        let sums = match &self.card {
            None => self.trainer.sums(),
            Some(card) => card.trainer.sums(),
        };
        let mut report = self.update(loss, sums.tokens, learning_rate, norms)?;
        report.policy = Some(PolicyReport::new(&sums, batch));
        Ok(report)
    }

    fn update(
        &mut self,
        loss: f64,
        tokens: usize,
        learning_rate: f32,
        norms: bool,
    ) -> Result<StepReport> {
        self.weights_version += 1;
        let shape = [self.config.layers, self.config.experts];
        if let Some(card) = self.card.as_deref_mut() {
            let OnCard {
                weights,
                optimizer,
                trainer,
                failure,
                ..
            } = card;
            let mut trained = cuda::Trained {
                weights,
                adapter: self.adapter.as_mut(),
                bias: &mut self.parameters.bias,
                layout: &self.layout,
                failure,
            };
            let update = Update {
                optimizer,
                trainer,
                shape,
                norms,
            };
            let report = update.apply(&mut trained, loss, tokens, learning_rate);
            // What the device says comes first: a norm that is not finite may follow from it.
            failure.take()?;
            return report;
        }
        let values = match &mut self.adapter {
            Some(adapter) => Values::Adapter(adapter),
            None => Values::Whole(&mut self.parameters),
        };
        let mut trained = Trained {
            values,
            layout: &self.layout,
            pool: &self.pool,
            isa: self.isa,
        };
        let update = Update {
            optimizer: &mut self.optimizer,
            trainer: &mut self.trainer,
            shape,
            norms,
        };
        update.apply(&mut trained, loss, tokens, learning_rate)
    }
}

fn check_rate(learning_rate: f32) -> Result<()> {
    if learning_rate.is_finite() && learning_rate >= 0.0 {
        return Ok(());
    }
    Err(Error::Request(format!(
        "learning rate {learning_rate} is not a finite number of at least 0"
    )))
}
