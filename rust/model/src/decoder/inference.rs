//! Passes that are not trained on.

use super::{Activations, Buffers, Network};
use crate::batch::Packed;

/// Activations after the last layer.
#[derive(Clone, Debug, Default)]
pub struct Last {
    pub inverse: Vec<f32>,
    /// (rows, hidden).
    pub normal: Vec<f32>,
    /// (rows, padded vocabulary).
    pub logits: Vec<f32>,
}

/// Buffers of a pass that is not trained on: one layer's activations serve all.
#[derive(Clone, Debug, Default)]
pub struct Inference {
    pub activations: Activations,
    pub buffers: Buffers,
    pub output: Vec<f32>,
    pub last: Last,
}

impl Inference {
    /// Logits of the asked rows of a batch, in `last.logits`. `each` sees every layer's activations after attention.
    pub fn run(
        &mut self,
        network: Network<'_>,
        batch: &Packed,
        mut each: impl FnMut(usize, &Activations),
    ) {
        network.embed(&batch.ids, &mut self.activations.input);
        let layers = &network.layout.layers;
        for (index, layer) in layers.iter().enumerate() {
            let asking = if index + 1 == layers.len() {
                &batch.asked
            } else {
                &batch.every
            };
            network.project(
                layer,
                &batch.every,
                asking,
                &mut self.activations,
                &mut self.buffers,
            );
            network.attend_packed(
                batch,
                asking,
                &mut self.activations,
                &mut self.buffers,
                false,
            );
            each(index, &self.activations);
            network.finish(
                index,
                asking,
                &mut self.activations,
                &mut self.buffers,
                &mut self.output,
            );
            std::mem::swap(&mut self.activations.input, &mut self.output);
        }
        network.logits(batch.asked.len(), &self.activations.input, &mut self.last);
    }
}
