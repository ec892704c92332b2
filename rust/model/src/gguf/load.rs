//! A whole GGUF file as a checkpoint: its tensors mapped, its tokenizer and chat template taken over.

use std::path::Path;

use moevolve_kernels::padded;
use moevolve_kernels::team::Team;

use super::names::{Naming, pieces, separate};
use super::{Gguf, config, config_fields, divisors, tokenizer};
use crate::checkpoint::{Checkpoint, Keep, place};
use crate::error::{Error, Result};
use crate::raw::{File, Raw};
use crate::stored::Ggml;
use crate::tokenizer::Tokenizer;
use crate::weights::Raws;

/// Reads a file, or says what is wrong with which key or tensor.
pub fn load(path: &Path, keep: Keep, team: &Team) -> Result<Checkpoint> {
    let file = File::map(path)?;
    let gguf = Gguf::parse(&file, &file.place)?;
    let (config, naming) = (config(&gguf)?, Naming::of(&config_fields(&gguf)?));
    let mut raws = Raws::new();
    let mut interleaved = false;
    for piece in pieces(&gguf, &naming)? {
        let wrong = |reason: &str| Error::Tensor {
            file: file.place.clone(),
            name: piece.name.clone(),
            reason: reason.to_owned(),
        };
        let rows = piece.shape[0];
        let mut raw = Raw::mapped(&file, piece.range, piece.format, piece.shape)
            .ok_or_else(|| wrong("has a length that is not its shape's"))?;
        if piece.interleaved > 0 {
            raw = raw.with_bytes(separate(raw.bytes(), rows, piece.interleaved)?);
            interleaved = true;
        }
        if raws.insert(piece.name.clone(), raw).is_some() {
            return Err(wrong("comes twice"));
        }
    }
    let tokenizer = tokenizer::read(&gguf)?
        .map(|text| {
            Tokenizer::parse(
                &text.tokenizer,
                Some(text.settings),
                config.vocabulary,
                path,
            )
            .map(|tokenizer| tokenizer.with_notes(text.notes))
        })
        .transpose()?;
    // Where heads were separated, the file has each pair that is turned together side by side.
    let (head, half) = (config.head, config.head / 2);
    let stands = |d: usize| match interleaved && d < head {
        true => d / 2 + d % 2 * half,
        false => d,
    };
    let order = (0..padded(head)).map(|d| stands(d) as u32).collect();
    let divisors = divisors(&gguf).unwrap_or_default();
    let as_ggml = Some(Ggml { order, divisors });
    place(
        config,
        raws,
        as_ggml,
        keep,
        &file.place,
        team,
        tokenizer,
        None,
    )
}
