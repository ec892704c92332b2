//! GGUF files as checkpoints: configuration, names and tokenizer of llama.cpp's architectures, both ways.

mod config;
mod export;
mod keys;
mod metadata;
pub mod names;
mod rope;

use std::path::Path;

use moevolve_checkpoint::gguf::{Parts, tokenizer};
use moevolve_checkpoint::{Error, Result, TensorView, Tensors, Tokenizer};
use moevolve_kernels::padded;

use super::Source;
use crate::stored::Ggml;
use names::{Naming, pieces, separate};

pub use config::{config, config_fields, divisors};
pub use export::{Target, save};

/// Reads a file, or all those of a split model, its tensors mapped under released names, or says what is wrong with which key or tensor.
pub(super) fn read(path: &Path) -> Result<Source> {
    let parts = Parts::open(path)?;
    let gguf = parts.parse()?;
    let (config, naming) = (config(&gguf)?, Naming::of(&config_fields(&gguf)?));
    let mut tensors = Tensors::new(&gguf.file);
    let mut interleaved = false;
    for piece in pieces(&gguf, &naming)? {
        let (rows, file) = (piece.shape[0], &parts.files()[piece.part]);
        let mut tensor = TensorView::mapped(file, piece.range, piece.format, piece.shape.clone());
        if piece.interleaved > 0
            && let Some(there) = &tensor
        {
            let bytes = separate(there.bytes(), rows, piece.interleaved)?;
            tensor = TensorView::owned(&file.name, bytes, piece.format, piece.shape);
            interleaved = true;
        }
        let Some(tensor) = tensor else {
            let reason = "has a length that is not its shape's";
            return Err(Error::tensor(&file.name, &piece.name, reason));
        };
        tensors.insert(piece.name, tensor)?;
    }
    let tokenizer = match tokenizer::read(&gguf)? {
        None => None,
        Some(text) => {
            let settings = Some(text.settings);
            let read = Tokenizer::parse(&text.tokenizer, settings, config.vocabulary, path)?;
            Some(read.with_notes(text.notes))
        }
    };
    // Where heads were separated, the file has each pair that is turned together side by side.
    let (head, half) = (config.head, config.head / 2);
    let stands = |d: usize| match interleaved && d < head {
        true => d / 2 + d % 2 * half,
        false => d,
    };
    let order = (0..padded(head)).map(|d| stands(d) as u32).collect();
    let divisors = divisors(&gguf).unwrap_or_default();
    Ok(Source {
        name: gguf.file.clone(),
        config,
        tensors,
        ggml: Some(Ggml { order, divisors }),
        tokenizer,
        generation: None,
    })
}
