//! What a `tokenizer.json` does to a text before its pieces merge, as far as llama.cpp does the same.

use serde_json::Value as Json;

use super::tokenizer::SPACE;

/// The steps of a normalizer or a pre-tokenizer, one after the other; `list` is what a sequence calls its own.
pub fn steps<'j>(step: &'j Json, list: &str) -> Vec<&'j Json> {
    match step[list].as_array() {
        Some(inner) => inner.iter().flat_map(|step| steps(step, list)).collect(),
        None if step.is_null() => Vec::new(),
        None => vec![step],
    }
}

pub fn kind_of(step: &Json) -> &str {
    step["type"].as_str().unwrap_or("nothing")
}

/// Refuses an added token that is not found as llama.cpp finds it: as it is, wherever it stands. `moved` says whether a
/// normalizer writes something between a text's characters, so that a token is another one that is looked for behind it.
pub fn plain(token: &Json, moved: bool) -> Result<(), String> {
    let flags = [
        ("single_word", true),
        ("lstrip", true),
        ("rstrip", true),
        ("normalized", moved),
    ];
    let flag = flags
        .iter()
        .find(|(flag, counts)| *counts && token[*flag] == true);
    flag.map_or(Ok(()), |(flag, _)| {
        Err(format!(
            "llama.cpp's files have no place for what its token {} is besides special: {flag}",
            token["content"]
        ))
    })
}

/// SentencePiece's space.
fn is_space(value: &Json) -> bool {
    value == SPACE
}

/// Whether a space comes before each stretch of text between special tokens. What llama.cpp does to a text before its pieces
/// merge is this and writing each space as SentencePiece's: anything else is refused by its name.
pub fn spaced(whole: &Json) -> Result<bool, String> {
    let normalizers = steps(&whole["normalizer"], "normalizers");
    let named = |step: &Json, name: &str| kind_of(step) == name;
    let prepends = |step: &Json| named(step, "Prepend") && is_space(&step["prepend"]);
    let replaces = |step: &Json| {
        let blank = step["pattern"]["String"] == " ";
        named(step, "Replace") && blank && is_space(&step["content"])
    };
    let known = |step: &&&Json| prepends(step) || replaces(step);
    if let Some(step) = normalizers.iter().find(|step| !known(step)) {
        let other = match kind_of(step) {
            kind @ ("Prepend" | "Replace") => {
                format!("{kind} of other texts than a blank by \u{2581}")
            }
            kind => kind.to_owned(),
        };
        return Err(format!("llama.cpp has no normalizer {other}"));
    }
    let splits = steps(&whole["pre_tokenizer"], "pretokenizers");
    let written = |step: &Json| {
        named(step, "Metaspace")
            && is_space(&step["replacement"])
            && step["prepend_scheme"] == "never"
            && step["split"] == false
    };
    if let Some(step) = splits.iter().find(|step| !written(step)) {
        return Err(match kind_of(step) {
            "Metaspace" => format!(
                "llama.cpp has no pre-tokenizer Metaspace with replacement {}, prepend_scheme {} and split {}: each stretch \
                of text between special tokens gets a space before it or none does, and nothing is split",
                step["replacement"], step["prepend_scheme"], step["split"]
            ),
            other => {
                format!("llama.cpp has no pre-tokenizer {other} for pieces with byte fallback")
            }
        });
    }
    match normalizers[..] {
        [first, second] if prepends(first) && replaces(second) => Ok(true),
        [only] if replaces(only) => Ok(false),
        [] if !splits.is_empty() => Ok(false),
        _ => Err("its normalizers are not llama.cpp's: a space before each text, then each space as \u{2581}".to_owned()),
    }
}
