//! What llama.cpp makes of a file's tokens by their texts, whatever types the file gives them: ends of turns, and tokens that
//! stand for a place in a text that is to be filled in.

use std::collections::{BTreeSet, HashMap};

use super::header::Gguf;
use super::tokenizer::{CONTROL, NORMAL, TOKENS, TYPES, USER_DEFINED};
use super::value::Value;
use crate::error::Result;

/// Texts of tokens that end what is generated.
const ENDS: [&str; 22] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
];

/// Tokens around a gap that is to be filled in: the key that names one, and the texts that it is known by. The last three end
/// what is generated.
const GAPS: [(&str, &[&str]); 6] = [
    (
        "fim_pre",
        &[
            "<|fim_prefix|>",
            "<fim-prefix>",
            "<fim_prefix>",
            "<｜fim▁begin｜>",
            "<PRE>",
            "▁<PRE>",
            "<|code_prefix|>",
            "<|prefix|>",
        ],
    ),
    (
        "fim_suf",
        &[
            "<|fim_suffix|>",
            "<fim-suffix>",
            "<fim_suffix>",
            "<｜fim▁hole｜>",
            "<SUF>",
            "▁<SUF>",
            "<|code_suffix|>",
            "<|suffix|>",
        ],
    ),
    (
        "fim_mid",
        &[
            "<|fim_middle|>",
            "<fim-middle>",
            "<fim_middle>",
            "<｜fim▁end｜>",
            "<MID>",
            "▁<MID>",
            "<|code_middle|>",
            "<|middle|>",
        ],
    ),
    (
        "fim_pad",
        &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"],
    ),
    (
        "fim_rep",
        &[
            "<|fim_repo|>",
            "<|repo_name|>",
            "<fim-repo>",
            "<REPO>",
            "<reponame>",
        ],
    ),
    ("fim_sep", &["<|file_sep|>"]),
];

/// Tokens of gpt-oss that belong to a text.
const SHOWN: [&str; 4] = ["<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"];

/// What [`of`] finds.
#[derive(Clone, Debug, Default)]
pub struct Special {
    /// The type of each token; none where the file has no tokens.
    pub kinds: Vec<i128>,
    /// Tokens that end what is generated, in the order in which they were found: first those that a key names.
    pub ends: Vec<usize>,
}

/// Whether llama.cpp takes a token of this text for an end, though no key names it.
pub(super) fn is_end(text: &str) -> bool {
    ENDS.contains(&text)
}

/// Types and ends of a file's tokens.
pub fn of(gguf: &Gguf<'_>) -> Result<Special> {
    let named = |word: &str| gguf.size(&format!("tokenizer.ggml.{word}_token_id"));
    let mut ends = Vec::new();
    for word in ["eos", "eot", "eom"] {
        ends.extend(named(word)?);
    }
    let Some(tokens) = gguf.array(TOKENS)?.and_then(|array| array.strings()) else {
        return Ok(Special {
            kinds: Vec::new(),
            ends: once_each(ends),
        });
    };
    let tokens: Vec<&str> = tokens.collect();
    let mut kinds = kinds(gguf, tokens.len())?;
    let mut ids = HashMap::with_capacity(tokens.len());
    for (id, token) in tokens.iter().enumerate() {
        ids.entry(*token).or_insert(id);
    }
    let mut found: Vec<usize> = ENDS
        .iter()
        .filter_map(|text| ids.get(text).copied())
        .collect();
    found.iter().for_each(|&id| kinds[id] = CONTROL);
    for (word, texts) in GAPS {
        let by_text = || texts.iter().filter_map(|text| ids.get(text).copied()).min();
        let gap = match named(word)? {
            Some(id) => Some(id),
            None => by_text().inspect(|&id| kinds[id] = CONTROL),
        };
        if matches!(word, "fim_pad" | "fim_rep" | "fim_sep") {
            found.extend(gap);
        }
    }
    found.sort_unstable();
    ends.extend(found);
    for text in SHOWN {
        if let Some(&id) = ids.get(text) {
            kinds[id] = USER_DEFINED;
        }
    }
    let is_end = |text: &str| ids.get(text).is_some_and(|id| ends.contains(id));
    let calls = is_end("<|call|>") || is_end("<|calls|>");
    // Where a message's end is not the turn's.
    let inner = calls && (is_end("<|return|>") || is_end("<|flush|>"));
    let inner = inner.then(|| ids.get("<|end|>").copied()).flatten();
    let plain = is_end("<|tool_response>") || is_end("<|plamo:eos|>");
    let plain = plain.then(|| ids.get("</s>").copied()).flatten();
    for (id, kind) in [(inner, USER_DEFINED), (plain, NORMAL)] {
        if let Some(id) = id.filter(|id| ends.contains(id)) {
            ends.retain(|&end| end != id);
            kinds[id] = kind;
        }
    }
    Ok(Special {
        kinds,
        ends: once_each(ends),
    })
}

fn once_each(mut ids: Vec<usize>) -> Vec<usize> {
    let mut seen = BTreeSet::new();
    ids.retain(|&id| seen.insert(id));
    ids
}

/// The types that the file gives its tokens.
fn kinds(gguf: &Gguf<'_>, count: usize) -> Result<Vec<i128>> {
    let Some(array) = gguf.array(TYPES)? else {
        return Ok(vec![NORMAL; count]);
    };
    if array.len() != count {
        let reason = format!("has {} entries for {count} tokens", array.len());
        return gguf.wrong(TYPES, reason);
    }
    let kind = |value| match value {
        Value::Integer(n) => Some(n),
        _ => None,
    };
    match array.iter().map(kind).collect() {
        Some(kinds) => Ok(kinds),
        None => gguf.wrong(TYPES, "is not an array of whole numbers"),
    }
}
