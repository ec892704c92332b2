//! Checkpoints: a Hugging Face folder or a GGUF file as configuration, weights and tokenizer.
//!
//! Either format is read into a [`Source`], whose tensors then become weights: trainable ones, or the file's own.

pub mod gguf;
pub mod huggingface;
pub mod interleaved;

use std::path::Path;

use moevolve_checkpoint::{Error, Result, Tensors, Tokenizer};
use moevolve_kernels::stored::Format;
use moevolve_kernels::worker_pool::WorkerPool;
use serde_json::{Map, Value};

use crate::config::Config;
use crate::layout::Layout;
use crate::parameters::Parameters;
use crate::stored::{self, Ggml, Stored};
use crate::weights;

/// A model as it was read.
pub struct Checkpoint {
    pub config: Config,
    pub layout: Layout,
    /// Trainable weights; empty if they are `stored`.
    pub parameters: Parameters,
    /// Weights that stay as their file has them.
    pub stored: Option<Stored>,
    /// What the weights are saved as unless somebody says otherwise: F32, F16 or Bf16.
    pub dtype: Format,
    pub tokenizer: Option<Tokenizer>,
    /// `generation_config.json`, if any.
    pub generation: Option<Map<String, Value>>,
}

/// What a folder or file says, its tensors under released names and not yet looked at.
struct Source {
    /// What errors call it where its configuration is to blame.
    name: String,
    config: Config,
    tensors: Tensors,
    /// What only a GGUF file says.
    ggml: Option<Ggml>,
    tokenizer: Option<Tokenizer>,
    generation: Option<Map<String, Value>>,
}

/// What becomes of weights that are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WeightsMode {
    /// Trainable up to [`LARGEST_TRAINABLE`] parameters in a float format, stored beyond.
    #[default]
    Auto,
    /// Decoded into f32, packed, and ready for training: 8 to 12 bytes a parameter, 20 with an optimiser.
    Trainable,
    /// As the file has them: mapped, for reading only.
    Stored,
}

impl WeightsMode {
    /// `auto`, `trainable` or `stored`.
    pub fn named(name: &str) -> Result<Self> {
        match name {
            "auto" => Ok(Self::Auto),
            "trainable" => Ok(Self::Trainable),
            "stored" => Ok(Self::Stored),
            other => {
                let known = "auto, trainable or stored";
                Err(Error::Request(format!(
                    "weights {other:?} is unknown: {known}"
                )))
            }
        }
    }
}

/// Parameters up to which weights are made trainable unasked: about a gigabyte.
const LARGEST_TRAINABLE: f64 = 1e8;

/// Reads a whole folder or GGUF file, or says what is wrong with which file, key or tensor.
///
/// The threads of `pool` look through weights that stay stored.
pub fn load(path: &Path, mode: WeightsMode, pool: &WorkerPool) -> Result<Checkpoint> {
    let source = if path.is_file() {
        gguf::read(path)?
    } else if path.is_dir() {
        huggingface::read(path)?
    } else if path.exists() {
        let reason = "is not a plain file: a checkpoint folder or a GGUF file is needed";
        return Err(Error::file(path, reason));
    } else {
        let reason = "is neither a checkpoint folder nor a GGUF file";
        return Err(Error::file(path, reason));
    };
    source.check_sizes()?;
    let dtype = source.dtype();
    let layout = Layout::new(&source.config);
    let stays = source.stays(mode, &layout)?;
    let Source {
        name: _,
        config,
        tensors,
        ggml,
        tokenizer,
        generation,
    } = source;
    let (parameters, stored) = if stays {
        let stored = Stored::assemble(tensors, &config, &layout, ggml, pool)?;
        (Parameters::none(), Some(stored))
    } else {
        (weights::assemble(tensors, &config, &layout)?, None)
    };
    Ok(Checkpoint {
        config,
        layout,
        parameters,
        stored,
        dtype,
        tokenizer,
        generation,
    })
}

impl Source {
    fn wrong(&self, reason: String) -> Error {
        let file = self.name.clone();
        Error::File { file, reason }
    }

    fn all(&self, is: impl Fn(Format) -> bool) -> bool {
        self.tensors.iter().all(|(_, tensor)| is(tensor.format))
    }

    /// Before memory is asked for: a wrong size may mean terabytes.
    fn check_sizes(&self) -> Result<()> {
        let numbers = self
            .tensors
            .iter()
            .map(|(_, tensor)| tensor.numbers())
            .sum();
        for (what, promised, there, slack) in [
            ("parameters", self.config.parameters(), numbers, 0.0),
            (
                "tensors",
                self.config.tensors(),
                self.tensors.len() as f64,
                16.0,
            ),
        ] {
            if promised > 2.0 * there + slack {
                return Err(self.wrong(format!(
                    "its sizes make {promised:.0} {what}, but the weights hold {there:.0}"
                )));
            }
        }
        Ok(())
    }

    /// The narrowest that loses nothing; what is quantised is saved as bf16.
    fn dtype(&self) -> Format {
        if self.all(|format| format == Format::F32) {
            Format::F32
        } else if self.all(|format| matches!(format, Format::F32 | Format::F16)) {
            Format::F16
        } else {
            Format::Bf16
        }
    }

    /// Whether the weights stay as they are stored.
    fn stays(&self, mode: WeightsMode, layout: &Layout) -> Result<bool> {
        // A folder's MXFP4 is exactly the bf16 that it decodes to; a GGUF file's is multiplied as llama.cpp does.
        let float = |format| match format {
            Format::Mxfp4 => self.ggml.is_none(),
            _ => matches!(format, Format::F32 | Format::F16 | Format::Bf16),
        };
        match (mode, stored::obstacle(layout)) {
            (WeightsMode::Stored, Some(obstacle)) => Err(self.wrong(format!(
                "its weights cannot be used as they are stored: {obstacle}"
            ))),
            (WeightsMode::Stored, None) => Ok(true),
            (WeightsMode::Auto, None) => {
                Ok(self.config.parameters() > LARGEST_TRAINABLE || !self.all(float))
            }
            _ => Ok(false),
        }
    }
}
