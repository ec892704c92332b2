//! The one walk over the layers, for logits, generation and training, on whatever backend computes the blocks.

#[cfg(test)]
mod tests;

use crate::backend::{Activations, Backend, Cache, Device};
use crate::batch::{Packed, Paged, QueryRows};

/// What a forward pass leaves for the backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    Nothing,
    /// Every layer's input; the rest is computed again when the backward pass needs it.
    Inputs,
    /// Every layer's activations.
    All,
}

/// Where attention finds keys and values.
pub enum KeyValues<'a, B: Backend> {
    /// In the batch itself, which is of whole sequences.
    Packed(&'a Packed),
    /// In blocks of a cache, to which the batch's own are appended.
    Paged {
        cache: &'a Cache<B>,
        sequences: &'a [Paged<'a>],
    },
}

/// The buffers of passes through a network, and what the last one left in them.
pub struct Pass<D: Device> {
    /// Of every layer and, last, of the head; two in turn if nothing is kept.
    inputs: Vec<D::Buffer>,
    /// One a layer, or one in all.
    activations: Vec<D::Activations>,
    workspace: D::Workspace,
    pub head: D::Head,
    keep: Keep,
}

impl<D: Device> Default for Pass<D> {
    fn default() -> Self {
        Self {
            inputs: Vec::new(),
            activations: Vec::new(),
            workspace: D::Workspace::default(),
            head: D::Head::default(),
            keep: Keep::Nothing,
        }
    }
}

impl<D: Device> Pass<D> {
    /// Logits of the `outputs` among `all` rows, in the head; none if there are no outputs. `each` sees every layer's
    /// activations.
    #[allow(clippy::too_many_arguments)]
    pub fn forward<B: Backend<Device = D>>(
        &mut self,
        backend: &B,
        ids: &[u32],
        all: &QueryRows,
        outputs: &QueryRows,
        attention: &KeyValues<'_, B>,
        keep: Keep,
        mut each: impl FnMut(usize, &Activations<B>),
    ) {
        let layers = backend.host().config.layers;
        let (inputs, kept) = match keep {
            Keep::Nothing => (2, 1),
            Keep::Inputs => (layers + 1, 1),
            Keep::All => (layers + 1, layers),
        };
        self.inputs.resize_with(inputs, D::Buffer::default);
        self.activations.resize_with(kept, D::Activations::default);
        self.keep = keep;
        backend.embed(ids, &mut self.inputs[0]);
        for layer in 0..layers {
            let rows = if layer + 1 == layers { outputs } else { all };
            let a = self.layer(backend, layer, all, rows, attention);
            each(layer, a);
        }
        if !outputs.is_empty() {
            let output = &self.inputs[layers % inputs];
            backend.logits(outputs.len(), output, &mut self.head);
        }
    }

    /// As [`Self::forward`] for a batch of whole sequences.
    pub fn packed<B: Backend<Device = D>>(
        &mut self,
        backend: &B,
        batch: &Packed,
        keep: Keep,
        each: impl FnMut(usize, &Activations<B>),
    ) {
        let Packed {
            ids, all, outputs, ..
        } = batch;
        let attention = KeyValues::Packed(batch);
        self.forward(backend, ids, all, outputs, &attention, keep, each);
    }

    /// One layer, from its input to the next one's.
    fn layer<B: Backend<Device = D>>(
        &mut self,
        backend: &B,
        layer: usize,
        all: &QueryRows,
        rows: &QueryRows,
        attention: &KeyValues<'_, B>,
    ) -> &Activations<B> {
        let (count, kept) = (self.inputs.len(), layer % self.activations.len());
        let [input, output] = self
            .inputs
            .get_disjoint_mut([layer % count, (layer + 1) % count])
            .expect("a layer's input is not its output");
        let (a, w) = (&mut self.activations[kept], &mut self.workspace);
        let keep = self.keep != Keep::Nothing;
        let linear = backend.host().config.is_linear(layer);
        if !linear {
            backend.qkv(layer, all, rows, input, a, w);
        }
        match *attention {
            KeyValues::Packed(batch) if linear => {
                backend.recall(layer, batch, rows, input, a, w);
            }
            KeyValues::Packed(batch) => {
                backend.attend(layer, batch, rows, keep, a, w);
            }
            KeyValues::Paged { cache, sequences } if linear => {
                backend.recall_paged(layer, cache, sequences, all, rows, input, a, w);
            }
            KeyValues::Paged { cache, sequences } => {
                backend.append_kv(layer, cache, sequences, a, w);
                if !rows.is_empty() {
                    backend.attend_paged(layer, cache, sequences, rows, a, w);
                }
            }
        }
        if !rows.is_empty() {
            backend.mlp_or_moe(layer, rows, input, keep, a, w, output);
        }
        a
    }

    /// Adds the gradients of the batch whose forward pass was kept, from the logits' on, to `gradient`.
    pub fn backward<B: Backend<Device = D>>(
        &mut self,
        backend: &B,
        batch: &Packed,
        d: &mut D::ActivationGradients,
        gradient: &mut D::Buffer,
    ) {
        let layers = backend.host().config.layers;
        let output = &self.inputs[layers];
        backend.logits_backward(batch.outputs.len(), output, &self.head, d, gradient);
        for layer in (0..layers).rev() {
            let rows = if layer + 1 == layers {
                &batch.outputs
            } else {
                &batch.all
            };
            // The last layer's activations are still there.
            if self.keep == Keep::Inputs && layer + 1 < layers {
                self.layer(backend, layer, &batch.all, rows, &KeyValues::Packed(batch));
            }
            let a = &self.activations[layer % self.activations.len()];
            let (input, w) = (&self.inputs[layer], &mut self.workspace);
            backend.mlp_or_moe_backward(layer, rows, a, w, d, gradient);
            if backend.host().config.is_linear(layer) {
                backend.recall_backward(layer, batch, rows, input, a, d, gradient);
                continue;
            }
            backend.attend_backward(layer, batch, rows, a, w, d, gradient);
            backend.qkv_backward(layer, batch, rows, input, a, d, gradient);
        }
        backend.embed_backward(&batch.ids, d, gradient);
    }
}
