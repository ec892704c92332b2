//! A GGUF file is read back before it is called saved: what it says must be what this engine computes.

use std::collections::BTreeSet;
use std::path::Path;

use moevolve_checkpoint::{Error, Result, Tokenizer};
use moevolve_kernels::worker_pool::WorkerPool;

use super::{Engine, rotary};
use crate::checkpoint::{self, WeightsMode};
use crate::config::Config;
use crate::stored;

/// How far frequencies may be from those meant: files hold their divisors as f32.
const ROTATION: f32 = 1e-4;
/// How far logits by the file's settings may be from those by ours, of the file's own weights, relative to the largest.
const LOGITS: f32 = 1e-3;
/// Texts that a tokenizer must read as its file's does: what normalizers change, and what splits look for.
const TEXTS: [&str; 5] = [
    "The quick brown fox jumps over 13 lazy dogs.",
    " two  blanks,\na line",
    "cafe\u{301} man\u{303}ana",
    "\tCAF\u{c9}  \u{fb01}x \u{2460}\u{ff21} ``so''\u{2026} \r\n\r\n  ",
    "it's 3.14159 + 20261129 = x_y(z)\u{a0}\u{3000}\u{65e5}\u{672c}\u{200b}\u{1f642}",
];

impl Engine {
    /// Refuses a file, given where it lies for now, that says another rotation, other settings, another tokenizer or other
    /// chat templates.
    pub(super) fn read_back(&self, file: &Path) -> Result<()> {
        let differs = |what: String| Err(Error::Request(format!("read back, {what}")));
        let mode = match stored::obstacle(&self.layout) {
            None => WeightsMode::Stored,
            Some(_) => WeightsMode::Auto,
        };
        let read = checkpoint::load(file, mode, &self.pool)?;
        let failed = |e: crate::error::Error| Error::Request(format!("read back: {e}"));
        let mut again = Self::from_checkpoint(read, WorkerPool::new(1)).map_err(failed)?;
        if let Some(what) = rotates_otherwise(&self.config, &again.config) {
            return differs(what);
        }
        // A file without tokens has no place for ends.
        let lost = |id: &&u32| self.tokenizer.is_some() && !again.config.eos.contains(id);
        if let Some(id) = self.config.eos.iter().find(lost) {
            return differs(format!(
                "it does not end texts at token {id} (eos_token_id): a file names three ends, and others have texts that \
                llama.cpp knows"
            ));
        }
        if let Some(text) = self.encodes_otherwise(&again)? {
            return differs(format!("its tokenizer makes other tokens of {text:?}"));
        }
        let templates = |engine: &Self| engine.tokenizer.as_deref().map(Tokenizer::chat_templates);
        if templates(self).is_some_and(|ours| Some(ours) != templates(&again)) {
            return differs("its chat templates are others".to_owned());
        }
        let vocabulary = self.config.vocabulary;
        let length = self.config.positions.clamp(1, 8);
        let ids: Vec<u32> = (0..length)
            .map(|i| ((i * i + 1) * (vocabulary / 61 + 1) % vocabulary) as u32)
            .collect();
        let mut meant = again.duplicate().map_err(failed)?;
        meant.config = Config {
            tied: again.config.tied,
            ..self.config.clone()
        };
        meant.rotary = rotary(
            &meant.config,
            meant.layout.widths.head,
            meant.stored.as_ref(),
        );
        let rows = [ids];
        let found = again.logits(&rows).map_err(failed)?.values;
        let meant = meant.logits(&rows).map_err(failed)?.values;
        let largest = meant.iter().fold(1.0f32, |most, x| most.max(x.abs()));
        let apart = |(a, b): (&f32, &f32)| (a - b).abs() > LOGITS * largest;
        if let Some(at) = found.iter().zip(&meant).position(apart) {
            let (a, b) = (found[at], meant[at]);
            return differs(format!("it computes a logit of {a}, not {b}"));
        }
        Ok(())
    }

    /// A text that the file's tokenizer reads otherwise than ours.
    fn encodes_otherwise(&self, file: &Self) -> Result<Option<String>> {
        let Some(ours) = self.tokenizer.as_deref() else {
            return Ok(None);
        };
        let Some(theirs) = file.tokenizer.as_deref() else {
            return Ok(Some(String::new()));
        };
        let vocabulary = self.config.vocabulary as u32;
        let words = ours.has_words_alone();
        let differs = |text: &str| -> Result<bool> {
            // A character that is no word of a model of words is its unknown token, and nothing to llama.cpp.
            let compared = !words || ours.decode(&ours.encode(text, false)?, false)? == text;
            Ok(compared && theirs.encode(text, true)? != ours.encode(text, true)?)
        };
        let step = (vocabulary / 40).max(1);
        let some: Vec<u32> = (0..vocabulary).step_by(step as usize).collect();
        let mut texts: Vec<String> = TEXTS.iter().map(|&text| text.to_owned()).collect();
        texts.push(ours.decode(&some, true)?);
        // llama.cpp takes some tokens for special by their texts alone.
        let special: BTreeSet<String> = ours.added().into_iter().chain(theirs.added()).collect();
        for token in special {
            texts.push(format!("{token}a{token}b"));
            texts.push(format!(" a {token} b {token} "));
        }
        for text in texts {
            if differs(&text)? {
                return Ok(Some(text));
            }
        }
        if ours.takes_whole_words() == theirs.takes_whole_words() {
            return Ok(None);
        }
        // One takes words from the vocabulary that the other makes of their parts, if it can.
        for id in 0..vocabulary {
            let word = ours.decode(&[id], true)?;
            if differs(&word)? {
                return Ok(Some(word));
            }
        }
        Ok(None)
    }
}

/// How the rotation of a file's configuration differs.
fn rotates_otherwise(ours: &Config, file: &Config) -> Option<String> {
    let near = |a: f32, b: f32| (a - b).abs() <= ROTATION * a.abs();
    let (a, b) = (ours.scaling.attention(), file.scaling.attention());
    if !near(a, b) {
        return Some(format!("its rotation is stretched by {b}, not {a}"));
    }
    let of = |c: &Config| c.scaling.frequencies(c.rotated, c.theta as f32);
    let (a, b) = (of(ours), of(file));
    if a.len() != b.len() {
        return Some(format!(
            "it rotates {} dimensions, not {}",
            2 * b.len(),
            2 * a.len()
        ));
    }
    let at = a.iter().zip(&b).position(|(&a, &b)| !near(a, b))?;
    Some(format!("its frequency {at} is {}, not {}", b[at], a[at]))
}
