//! The tokenizer and chat template of a GGUF file, as the files of a released checkpoint.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value as Json, json};

use super::header::Gguf;
use super::pre::{Rule, UNNAMED};
use super::special;
use super::value::Value;
use crate::error::Result;
use crate::tokenizer::DEFAULT;

pub(super) const MODEL: &str = "tokenizer.ggml.model";
pub(super) const PRE: &str = "tokenizer.ggml.pre";
pub(super) const TOKENS: &str = "tokenizer.ggml.tokens";
pub(super) const TYPES: &str = "tokenizer.ggml.token_type";
pub(super) const SCORES: &str = "tokenizer.ggml.scores";
pub(super) const MERGES: &str = "tokenizer.ggml.merges";
pub(super) const ADD_BOS: &str = "tokenizer.ggml.add_bos_token";
pub(super) const ADD_EOS: &str = "tokenizer.ggml.add_eos_token";
pub(super) const ADD_SPACE: &str = "tokenizer.ggml.add_space_prefix";
pub(super) const TEMPLATE: &str = "tokenizer.chat_template";
/// Before the name of a template beside the default one, in its key.
pub(super) const NAMED_TEMPLATE: &str = "tokenizer.chat_template.";
/// Names of the templates beside the default one.
pub(super) const TEMPLATES: &str = "tokenizer.chat_templates";

/// Types of tokens.
pub(super) const NORMAL: i128 = 1;
pub(super) const UNKNOWN: i128 = 2;
pub(super) const CONTROL: i128 = 3;
pub(super) const USER_DEFINED: i128 = 4;

/// Roles that templates may name, and GGUF's word for them.
pub(super) const ROLES: [(&str, &str); 4] = [
    ("bos_token", "bos"),
    ("eos_token", "eos"),
    ("unk_token", "unknown"),
    ("pad_token", "padding"),
];

/// SentencePiece writes a space as this.
pub(super) const SPACE: &str = "\u{2581}";
/// Longer tokens of a SentencePiece vocabulary are matched by no merge; real ones have up to 32 characters.
const LONGEST_MERGED: usize = 256;

/// What [`read`] finds.
#[derive(Clone, Debug)]
pub struct Text {
    /// Text of a `tokenizer.json`.
    pub tokenizer: String,
    /// Text of a `tokenizer_config.json`: special tokens by role, and the chat template.
    pub settings: String,
    /// Whether texts begin with the BOS token.
    pub add_bos: bool,
    /// What could not be taken over exactly.
    pub notes: Vec<String>,
}

/// The tokenizer of a file, None where it has none.
pub fn read(gguf: &Gguf<'_>) -> Result<Option<Text>> {
    let model = match gguf.text(MODEL)? {
        None | Some("none" | "no_vocab") => return Ok(None),
        Some(model) => model,
    };
    let tokens = tokens(gguf)?;
    let kinds = special::of(gguf)?.kinds;
    let mut ids = HashMap::with_capacity(tokens.len());
    for (id, token) in tokens.iter().enumerate() {
        if let Some(before) = ids.insert(token.as_str(), id) {
            let shown: String = token.chars().take(40).collect();
            return gguf.wrong(
                TOKENS,
                format!("{shown:?} is token {before} and token {id}"),
            );
        }
    }
    let mut special = BTreeMap::new();
    for (role, word) in ROLES {
        let key = format!("tokenizer.ggml.{word}_token_id");
        if let Some(id) = gguf.size(&key)? {
            match tokens.get(id) {
                Some(token) => drop(special.insert(role, (id, token.as_str()))),
                None => {
                    let reason = format!("{id} is outside the {} tokens", tokens.len());
                    return gguf.wrong(&key, reason);
                }
            }
        }
    }
    let mut notes = Vec::new();
    let (mut whole, default_bos) = match model {
        "gpt2" => byte_level(gguf, &ids, &mut notes)?,
        "llama" => sentence_piece(gguf, &tokens, &kinds, &ids, &special)?,
        other => {
            let shown: String = other.chars().take(40).collect();
            return gguf.wrong(
                MODEL,
                format!("{shown:?} is not supported, only gpt2 and llama"),
            );
        }
    };
    let vocabulary: Map<String, Json> = tokens
        .iter()
        .enumerate()
        .map(|(id, token)| (token.clone(), json!(id)))
        .collect();
    whole["model"]["vocab"] = Json::Object(vocabulary);
    whole["added_tokens"] = added(&tokens, &kinds);
    let add_bos = gguf.flag(ADD_BOS)?.unwrap_or(default_bos) && special.contains_key("bos_token");
    let add_eos = gguf.flag(ADD_EOS)?.unwrap_or(false) && special.contains_key("eos_token");
    if add_bos || add_eos {
        let (begin, end) = (
            add_bos.then(|| special["bos_token"]),
            add_eos.then(|| special["eos_token"]),
        );
        whole["post_processor"] = framed(begin, end);
    }
    let mut settings = Map::new();
    settings.insert(
        "tokenizer_class".to_owned(),
        json!("PreTrainedTokenizerFast"),
    );
    for (role, (_, token)) in &special {
        settings.insert((*role).to_owned(), json!(token));
    }
    settings.insert("add_bos_token".to_owned(), json!(add_bos));
    if add_eos {
        settings.insert("add_eos_token".to_owned(), json!(true));
    }
    if let Some(templates) = templates(gguf)? {
        settings.insert("chat_template".to_owned(), templates);
    }
    Ok(Some(Text {
        tokenizer: whole.to_string(),
        settings: Json::Object(settings).to_string(),
        add_bos,
        notes,
    }))
}

/// The chat template, or all of them by name where there are some beside the default one. The keys say which there are: llama.cpp
/// asks for none by the list of names.
fn templates(gguf: &Gguf<'_>) -> Result<Option<Json>> {
    let default = gguf.text(TEMPLATE)?;
    let mut named = gguf.texts_under(NAMED_TEMPLATE)?;
    if named.is_empty() {
        return Ok(default.map(|template| json!(template)));
    }
    named.extend(default.map(|template| (DEFAULT, template)));
    let entry = |(name, template): (&str, &str)| json!({"name": name, "template": template});
    Ok(Some(Json::Array(named.into_iter().map(entry).collect())))
}

/// Every token's text; as in llama.cpp an empty one gets a name.
fn tokens(gguf: &Gguf<'_>) -> Result<Vec<String>> {
    let Some(array) = gguf.array(TOKENS)? else {
        return gguf.wrong(TOKENS, "is missing");
    };
    let Some(strings) = array.strings() else {
        return gguf.wrong(TOKENS, "is not an array of strings");
    };
    let named = |(id, token): (usize, &str)| match token {
        "" => format!("[EMPTY_{id}]"),
        token => token.to_owned(),
    };
    Ok(strings.enumerate().map(named).collect())
}

fn added(tokens: &[String], kinds: &[i128]) -> Json {
    let entry = |(id, (token, &kind)): (usize, (&String, &i128))| {
        matches!(kind, UNKNOWN | CONTROL | USER_DEFINED).then(|| {
            json!({
                "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": kind != USER_DEFINED,
            })
        })
    };
    Json::Array(
        tokens
            .iter()
            .zip(kinds)
            .enumerate()
            .filter_map(entry)
            .collect(),
    )
}

/// A post-processor that puts a token before a text, after it, or both.
fn framed(begin: Option<(usize, &str)>, end: Option<(usize, &str)>) -> Json {
    let token = |(_, token): (usize, &str)| json!({"SpecialToken": {"id": token, "type_id": 0}});
    let text = |name, kind| json!({"Sequence": {"id": name, "type_id": kind}});
    let around = |texts: Vec<Json>| -> Vec<Json> {
        let (before, after) = (begin.map(token), end.map(token));
        before.into_iter().chain(texts).chain(after).collect()
    };
    let special = |(id, token): (usize, &str)| {
        (
            token.to_owned(),
            json!({"id": token, "ids": [id], "tokens": [token]}),
        )
    };
    json!({
        "type": "TemplateProcessing",
        "single": around(vec![text("A", 0)]),
        "pair": around(vec![text("A", 0), text("B", 1)]),
        "special_tokens": begin.into_iter().chain(end).map(special).collect::<Map<String, Json>>(),
    })
}

/// Byte pairs: all but vocabulary and added tokens, and whether texts begin with BOS unless the file says otherwise.
fn byte_level(
    gguf: &Gguf<'_>,
    ids: &HashMap<&str, usize>,
    notes: &mut Vec<String>,
) -> Result<(Json, bool)> {
    let name = gguf.text(PRE)?.filter(|name| !name.is_empty());
    let Some(rule) = Rule::named(name.unwrap_or(UNNAMED)) else {
        let shown: String = name.unwrap_or_default().chars().take(40).collect();
        let reason = format!(
            "{shown:?} is no split of texts that is read: load the model's folder, whose tokenizer.json spells it out"
        );
        return gguf.wrong(PRE, reason);
    };
    let Some(merges) = gguf.array(MERGES)? else {
        return gguf.wrong(MERGES, "is missing");
    };
    let Some(merges) = merges.strings() else {
        return gguf.wrong(MERGES, "is not an array of strings");
    };
    let mut pairs = Vec::new();
    let mut idle = 0usize;
    for merge in merges {
        // A space inside a token is written otherwise, so the first one after a character parts the two.
        let first = merge.chars().next().map_or(0, char::len_utf8);
        let Some(at) = merge[first..].find(' ').map(|at| at + first) else {
            let shown: String = merge.chars().take(40).collect();
            return gguf.wrong(MERGES, format!("{shown:?} is not two tokens"));
        };
        let (left, right) = (&merge[..at], &merge[at + 1..]);
        let known = |token: &str| ids.contains_key(token);
        if known(left) && known(right) && known(&format!("{left}{right}")) {
            pairs.push(json!([left, right]));
        } else {
            idle += 1;
        }
    }
    if idle > 0 {
        notes.push(format!(
            "{idle} merges name tokens that the file does not have: left out"
        ));
    }
    let normalizer = rule.composed.then(|| json!({"type": "NFC"}));
    let whole = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "normalizer": normalizer,
        "pre_tokenizer": rule.pre_tokenizer(),
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": rule.whole_words, "merges": pairs,
        },
    });
    Ok((whole, rule.add_bos))
}

/// SentencePiece's pairs by score, as byte pairs whose merges are ranked by it (transformers' converter does the same).
fn sentence_piece(
    gguf: &Gguf<'_>,
    tokens: &[String],
    kinds: &[i128],
    ids: &HashMap<&str, usize>,
    special: &BTreeMap<&str, (usize, &str)>,
) -> Result<(Json, bool)> {
    let Some(scores) = gguf.array(SCORES)? else {
        return gguf.wrong(SCORES, "is missing");
    };
    if scores.len() != tokens.len() {
        let reason = format!("has {} entries for {} tokens", scores.len(), tokens.len());
        return gguf.wrong(SCORES, reason);
    }
    let score = |value| match value {
        Value::Float(x) => x,
        Value::Integer(n) => n as f64,
        _ => f64::NAN,
    };
    // (score, characters on the left, on the right, token, bytes on the left)
    let mut pairs: Vec<(f64, usize, usize, usize, usize)> = Vec::new();
    for (id, (token, score)) in tokens.iter().zip(scores.iter().map(score)).enumerate() {
        if score.is_nan() {
            return gguf.wrong(SCORES, format!("entry {id} is not a number"));
        }
        if token.len() > LONGEST_MERGED || kinds[id] != NORMAL && kinds[id] != USER_DEFINED {
            continue;
        }
        let length = token.chars().count();
        for (index, (at, _)) in token.char_indices().enumerate().skip(1) {
            if ids.contains_key(&token[..at]) && ids.contains_key(&token[at..]) {
                pairs.push((score, index, length - index, id, at));
            }
        }
    }
    pairs.sort_by(|a, b| {
        let key = |p: &(f64, usize, usize, usize, usize)| (p.1, p.2);
        b.0.total_cmp(&a.0)
            .then_with(|| key(b).cmp(&key(a)))
            .then_with(|| a.3.cmp(&b.3))
    });
    let merges: Vec<Json> = pairs
        .iter()
        .map(|&(_, _, _, id, at)| json!([&tokens[id][..at], &tokens[id][at..]]))
        .collect();
    let prefix = gguf.flag(ADD_SPACE)?.unwrap_or(true);
    let spaces = json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE});
    let normalizer = if prefix {
        json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": SPACE}, spaces]})
    } else {
        spaces
    };
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if prefix {
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    let whole = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "normalizer": normalizer,
        "pre_tokenizer": null,
        "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": special.get("unk_token").map(|(_, token)| *token),
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": true,
            "byte_fallback": true, "ignore_merges": false, "merges": merges,
        },
    });
    Ok((whole, true))
}
