//! Keys of an architecture, and those that ask for what is not built.

use moevolve_checkpoint::Result;
use moevolve_checkpoint::gguf::{Gguf, Value};

/// Where YaRN's blend begins and ends in these architectures of llama.cpp, whatever a file says.
pub const YARN_BETAS: (f64, f64) = (32.0, 1.0);

/// The base of the rotation where a file says none.
pub const THETA: f64 = 10_000.0;

/// Keys of sizes that change what llama.cpp computes, and the largest value that changes nothing.
const NEUTRAL: [(&str, usize); 2] = [("nextn_predict_layers", 0), ("expert_group_count", 1)];

/// Keys under an architecture's name.
pub struct Keys<'g, 'a> {
    pub gguf: &'g Gguf<'a>,
    pub architecture: &'a str,
}

impl Keys<'_, '_> {
    pub fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    /// A positive size; a list with one entry a layer must say the same for all.
    pub fn optional(&self, key: &str) -> Result<Option<usize>> {
        let key = self.name(key);
        let Some(Value::Array(array)) = self.gguf.metadata.get(key.as_str()) else {
            return match self.gguf.size(&key)? {
                Some(0) => self.gguf.wrong(&key, "is 0"),
                size => Ok(size),
            };
        };
        let mut values = array.iter().map(|value| match value {
            Value::Integer(n @ 1..=0x7fff_ffff) => Some(n as usize),
            _ => None,
        });
        let first = values.next().flatten();
        if first.is_none() || values.any(|value| value != first) {
            return self.gguf.wrong(
                &key,
                "differs from layer to layer: not supported".to_owned(),
            );
        }
        Ok(first)
    }

    pub fn required(&self, key: &str) -> Result<usize> {
        match self.optional(key)? {
            Some(size) => Ok(size),
            None => self.gguf.wrong(&self.name(key), "is missing"),
        }
    }

    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        self.gguf.number(&self.name(key))
    }
}

/// Refuses by its key what llama.cpp does on top of the network that is read.
pub fn refuse(keys: &Keys<'_, '_>, model_type: &str) -> Result<()> {
    let gguf = keys.gguf;
    let causal = keys.name("attention.causal");
    if gguf.flag(&causal)? == Some(false) {
        return gguf.wrong(&causal, "false is not supported, only true");
    }
    for (key, most) in NEUTRAL {
        let key = keys.name(key);
        if let Some(size) = gguf.size(&key)?.filter(|&size| size > most) {
            return gguf.wrong(&key, format!("{size} is not supported, at most {most}"));
        }
    }
    if model_type != "gpt_oss" {
        return Ok(());
    }
    // What its layers with a window have of their own.
    let (key, theta) = ("rope.freq_base_swa", keys.number("rope.freq_base")?);
    let theta = theta.unwrap_or(THETA);
    if let Some(own) = keys.number(key)?.filter(|&own| own != theta) {
        let reason = format!("{own} is not supported, only {theta} as in the other layers");
        return gguf.wrong(&keys.name(key), reason);
    }
    for (own, of_all) in [
        ("attention.key_length_swa", "attention.key_length"),
        ("attention.value_length_swa", "attention.value_length"),
        ("rope.dimension_count_swa", "rope.dimension_count"),
    ] {
        let (size, others) = (keys.optional(own)?, keys.optional(of_all)?);
        if let Some(size) = size.filter(|&size| others != Some(size)) {
            let reason = format!("{size} is not {of_all}, that of the other layers: not supported");
            return gguf.wrong(&keys.name(own), reason);
        }
    }
    alternating(keys)
}

/// Refuses windows in other layers than every other one, the first among them: a period, or an entry a layer.
fn alternating(keys: &Keys<'_, '_>) -> Result<()> {
    let key = keys.name("attention.sliding_window_pattern");
    let slides = |(layer, value): (usize, Value<'_>)| match value {
        Value::Bool(slides) => slides == layer.is_multiple_of(2),
        Value::Integer(n) => (n != 0) == layer.is_multiple_of(2),
        _ => false,
    };
    let alternate = match keys.gguf.metadata.get(key.as_str()) {
        None | Some(Value::Integer(2)) => true,
        Some(Value::Array(array)) => {
            let layers = keys.required("block_count")?;
            array.len() == layers && array.iter().enumerate().all(slides)
        }
        Some(_) => false,
    };
    if alternate {
        return Ok(());
    }
    keys.gguf.wrong(
        &key,
        "is not supported but for a window in every other layer, the first among them",
    )
}
