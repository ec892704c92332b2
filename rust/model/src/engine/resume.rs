//! Training that is left and taken up again to the bit: weights, moments, step, and the caller's source of randomness.

use std::path::Path;

use moevolve_checkpoint::files::MappedFile;
use moevolve_checkpoint::{TensorSpec, safetensors as files};
use moevolve_kernels::stored::Format;
use serde::{Deserialize, Serialize};

use super::Engine;
use crate::error::{Error, Result};
use crate::train::Optimizer;

/// The two files of a folder. The second names the first's fingerprint, so that a torn pair is noticed.
const WEIGHTS: &str = "weights.safetensors";
const TRAINING: &str = "training.safetensors";
const KEY: &str = "moevolve.training";

#[derive(Serialize, Deserialize)]
struct Record {
    fingerprint: String,
    step: u32,
    beta1: f32,
    beta2: f32,
    epsilon: f32,
    weight_decay: f32,
    clip: f32,
    bias_rate: f32,
    state: String,
}

impl Engine {
    /// Writes what trains, the optimiser, and `state`, which is the caller's.
    pub fn save_training(&self, folder: &Path, state: &str) -> Result<()> {
        std::fs::create_dir_all(folder).map_err(|e| Error::file(folder, e))?;
        self.write_weights(&folder.join(WEIGHTS))?;
        let file = folder.join(TRAINING);
        let moved = match &self.card {
            Some(card) => Some(card.optimizer_on_host()?),
            None => None,
        };
        let o = moved.as_ref().unwrap_or(&self.optimizer);
        let record = Record {
            fingerprint: self.fingerprint(),
            step: o.step,
            beta1: o.beta1,
            beta2: o.beta2,
            epsilon: o.epsilon,
            weight_decay: o.weight_decay,
            clip: o.clip,
            bias_rate: o.bias_rate,
            state: state.to_owned(),
        };
        self.check_device()?;
        let record = serde_json::to_string(&record).map_err(|e| Error::file(&file, e))?;
        let [first, second] = &o.moments;
        let moments = [("first", first), ("second", second)];
        let specs = moments.map(|(name, values)| TensorSpec {
            name: name.to_owned(),
            shape: vec![values.len()],
            format: Format::F32,
        });
        files::write(&file, (KEY, &record), &specs, &mut |index, rows, out| {
            out.extend_from_slice(&moments[index].1[rows]);
            Ok(())
        })?;
        Ok(())
    }

    /// Takes training up where [`Self::save_training`] left it, on a model of the same architecture and adapter; returns
    /// the caller's state. On an error everything stays as it was.
    pub fn load_training(&mut self, folder: &Path) -> Result<String> {
        let file = folder.join(TRAINING);
        let bytes = MappedFile::open(&file)?;
        let failed = |e: safetensors::SafeTensorError| Error::file(&file, e);
        let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).map_err(failed)?;
        let record = metadata.metadata().as_ref().and_then(|m| m.get(KEY));
        let record = record.ok_or_else(|| Error::file(&file, "is no training state"))?;
        let record: Record = serde_json::from_str(record).map_err(|e| Error::file(&file, e))?;
        let tensors = safetensors::SafeTensors::deserialize(&bytes).map_err(failed)?;
        let trained = match &self.adapter {
            Some(adapter) => adapter.values.len(),
            None => self.layout.total,
        };
        let read = |name: &str| {
            let view = tensors.tensor(name).map_err(failed)?;
            let values: Vec<f32> = view
                .data()
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect();
            let fits = values.is_empty() || values.len() == trained;
            if view.dtype() != safetensors::Dtype::F32
                || !fits
                || values.iter().any(|x| !x.is_finite())
            {
                let reason = format!("{name} are not the moments of what trains here");
                return Err(Error::file(&file, reason));
            }
            Ok(values)
        };
        let moments = [read("first")?, read("second")?];
        let mut optimizer = Optimizer::new(
            record.beta1,
            record.beta2,
            record.epsilon,
            record.weight_decay,
            record.clip,
            record.bias_rate,
        )
        .map_err(|e| Error::file(&file, e))?;
        optimizer.step = record.step;
        optimizer.moments = moments;
        let read = self.read_trained(&folder.join(WEIGHTS))?;
        if self.fingerprint_of(&read) != record.fingerprint {
            let reason = format!(
                "belongs to other weights than {WEIGHTS} beside it: take both files of one save"
            );
            return Err(Error::file(&file, reason));
        }
        // Room for the moments comes first: nothing has changed if there is none.
        let on_card = match &self.card {
            Some(card) => Some(card.optimizer_here(&optimizer)?),
            None => None,
        };
        self.put(read);
        self.check_device()?;
        match (&mut self.card, on_card) {
            (Some(card), Some(moved)) => card.optimizer = moved,
            _ => self.optimizer = optimizer,
        }
        Ok(record.state)
    }
}
