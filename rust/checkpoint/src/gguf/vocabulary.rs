//! A `tokenizer.json` as the metadata that llama.cpp reads.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value as Json};

use super::entry::Entry;
use super::pre::Rule;
use super::special::is_end;
use super::steps::{kind_of, plain, spaced, steps};
use super::tokenizer::{
    ADD_BOS, ADD_EOS, ADD_SPACE, CONTROL, MERGES, MODEL, NAMED_TEMPLATE, NORMAL, PRE, ROLES,
    SCORES, TEMPLATE, TEMPLATES, TOKENS, TYPES, USER_DEFINED,
};
use crate::tokenizer::{DEFAULT, Frame, Texts};

const UNKNOWN: i32 = 2;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;
/// A token's score where no merge makes it, as llama.cpp's converter gives it.
const UNSCORED: f32 = -1e4;

/// Metadata for the files' texts, or why llama.cpp cannot have this tokenizer.
///
/// `frame` is what the tokenizer puts around each text, `eos` are the configuration's end tokens, for files that do not name
/// theirs.
pub fn entries(
    texts: Texts<'_>,
    frame: &Frame,
    vocabulary: usize,
    eos: &[u32],
) -> Result<Vec<(String, Entry)>, String> {
    let parse = |text: &str| serde_json::from_str::<Json>(text).map_err(|e| e.to_string());
    let whole = parse(texts.tokenizer.unwrap_or_default())?;
    let settings = texts.settings.map(parse).transpose()?.unwrap_or(Json::Null);
    let model = &whole["model"];
    let Some(words) = model["vocab"].as_object() else {
        return Err("its model has no vocabulary by token".to_owned());
    };
    let kind = model["type"].as_str().unwrap_or("BPE");
    let scheme = match kind {
        "BPE" if model["byte_fallback"] == true => sentence_piece(&whole, model)?,
        "BPE" => byte_level(&whole, model)?,
        "WordLevel" => characters(&whole, words)?,
        other => return Err(format!("llama.cpp has no {other} model")),
    };
    let added = whole["added_tokens"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let mut table = Table::new(vocabulary);
    for (token, id) in words {
        let kind = match token.as_str() {
            _ if scheme.bytes && is_byte(token) => BYTE,
            token if model["unk_token"] == token => UNKNOWN,
            _ => NORMAL as i32,
        };
        let text = if scheme.characters {
            byte_level_text(token)
        } else {
            token.clone()
        };
        table.put(id, text, kind)?;
    }
    for token in added {
        plain(token, scheme.bytes && !whole["normalizer"].is_null())?;
        let kind = if token["special"] == true {
            CONTROL
        } else {
            USER_DEFINED
        };
        let content = token["content"].as_str().unwrap_or_default();
        table.put(&token["id"], content.to_owned(), kind as i32)?;
    }
    let (tokens, types) = table.finish()?;
    let mut out: Vec<(String, Entry)> = vec![
        (MODEL.to_owned(), Entry::String(scheme.model.to_owned())),
        (PRE.to_owned(), Entry::String(scheme.pre.to_owned())),
    ];
    if let Some(ranks) = &scheme.ranks {
        let score = |token: &String| ranks.get(token).map_or(UNSCORED, |&rank| -(rank as f32));
        out.push((
            SCORES.to_owned(),
            Entry::F32s(tokens.iter().map(score).collect()),
        ));
        out.push((ADD_SPACE.to_owned(), Entry::Bool(scheme.prefix)));
    } else {
        out.push((MERGES.to_owned(), Entry::Strings(scheme.merges)));
    }
    let mut roles = HashMap::new();
    for (role, word) in ROLES {
        let text = settings[role]
            .as_str()
            .or(settings[role]["content"].as_str());
        let named = text.and_then(|text| tokens.iter().position(|token| token == text));
        let end = eos.first().filter(|_| role == "eos_token");
        if let Some(id) = named.map(|id| id as u32).or(end.copied()) {
            roles.insert(role, id);
            out.push((format!("tokenizer.ggml.{word}_token_id"), Entry::U32(id)));
        }
    }
    // What the file can say: one token before each text, one after it.
    for (role, word, key, place, around) in [
        ("bos_token", "bos", ADD_BOS, "before", &frame.before),
        ("eos_token", "eos", ADD_EOS, "after", &frame.after),
    ] {
        let adds = match around[..] {
            [] => false,
            [one] if roles.get(role).is_none_or(|&id| id == one) => {
                if roles.insert(role, one).is_none() {
                    out.push((format!("tokenizer.ggml.{word}_token_id"), Entry::U32(one)));
                }
                true
            }
            _ => {
                let texts: Vec<_> = around.iter().map(|&id| tokens.get(id as usize)).collect();
                return Err(format!(
                    "it puts {:?} {place} a text, and llama.cpp's files say the {role} at most",
                    texts.into_iter().flatten().collect::<Vec<_>>()
                ));
            }
        };
        if adds || role == "bos_token" {
            out.push((key.to_owned(), Entry::Bool(adds)));
        }
    }
    out.extend(further_ends(eos, roles.get("eos_token"), &tokens));
    out.push((TOKENS.to_owned(), Entry::Strings(tokens)));
    out.push((TYPES.to_owned(), Entry::I32s(types)));
    out.extend(templates(texts.templates)?);
    Ok(out)
}

/// Chat templates as gguf-py writes them: the default one under the plain key, each other one under its name.
fn templates(templates: Option<&BTreeMap<String, String>>) -> Result<Vec<(String, Entry)>, String> {
    let mut out = Vec::new();
    let mut names = Vec::new();
    for (name, template) in templates.into_iter().flatten() {
        let key = if name == DEFAULT {
            TEMPLATE.to_owned()
        } else {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.is_empty() || !name.chars().all(plain) {
                return Err(format!(
                    "its chat template {name:?}: GGUF files name templates in letters, digits and underscores"
                ));
            }
            names.push(name.clone());
            format!("{NAMED_TEMPLATE}{name}")
        };
        out.push((key, Entry::String(template.clone())));
    }
    if !names.is_empty() {
        out.push((TEMPLATES.to_owned(), Entry::Strings(names)));
    }
    Ok(out)
}

/// Keys for ends beside the one that is named already, as far as there are keys; llama.cpp knows some by their texts.
fn further_ends(eos: &[u32], named: Option<&u32>, tokens: &[String]) -> Vec<(String, Entry)> {
    let known = |id: &u32| {
        let text = tokens.get(*id as usize);
        named == Some(id) || text.is_some_and(|text| is_end(text))
    };
    let again = |at: usize| eos[..at].contains(&eos[at]);
    let further = (0..eos.len()).filter(|&at| !known(&eos[at]) && !again(at));
    let key = |(word, at): (&str, usize)| {
        let key = format!("tokenizer.ggml.{word}_token_id");
        (key, Entry::U32(eos[at]))
    };
    ["eot", "eom"].into_iter().zip(further).map(key).collect()
}

/// What the model's kind decides.
#[derive(Default)]
struct Scheme {
    model: &'static str,
    pre: &'static str,
    merges: Vec<String>,
    /// SentencePiece: a token's rank among the merges.
    ranks: Option<HashMap<String, usize>>,
    /// SentencePiece: whether a space comes before a text.
    prefix: bool,
    /// Tokens like <0x0A> stand for bytes.
    bytes: bool,
    /// Tokens are plain characters and become byte-level ones.
    characters: bool,
}

fn merges(model: &Json) -> Result<Vec<(&str, &str)>, String> {
    let list = model["merges"].as_array().map_or(&[][..], Vec::as_slice);
    list.iter()
        .map(|merge| match merge {
            Json::String(text) => text.split_once(' '),
            Json::Array(parts) => Some((parts.first()?.as_str()?, parts.get(1)?.as_str()?)),
            _ => None,
        })
        .collect::<Option<_>>()
        .ok_or_else(|| "one of its merges is not two tokens".to_owned())
}

fn byte_level(whole: &Json, model: &Json) -> Result<Scheme, String> {
    let normalizers = steps(&whole["normalizer"], "normalizers");
    let other = normalizers.iter().find(|step| kind_of(step) != "NFC");
    if let Some(step) = other {
        return Err(format!("llama.cpp has no normalizer {}", kind_of(step)));
    }
    let composed = !normalizers.is_empty();
    let whole_words = model["ignore_merges"] == true;
    let rule = Rule::spelt(&whole["pre_tokenizer"], composed, whole_words)?;
    let merges = merges(model)?;
    if let Some((left, right)) = merges
        .iter()
        .find(|(l, r)| l.contains(' ') || r.contains(' '))
    {
        return Err(format!("its merge of {left:?} and {right:?} holds a space"));
    }
    let written = merges.iter().map(|(left, right)| format!("{left} {right}"));
    Ok(Scheme {
        model: "gpt2",
        pre: rule.names[0],
        merges: written.collect(),
        ..Scheme::default()
    })
}

fn sentence_piece(whole: &Json, model: &Json) -> Result<Scheme, String> {
    let prefix = spaced(whole)?;
    let mut ranks = HashMap::new();
    for (rank, (left, right)) in merges(model)?.into_iter().enumerate() {
        ranks.entry(format!("{left}{right}")).or_insert(rank);
    }
    Ok(Scheme {
        model: "llama",
        pre: "default",
        ranks: Some(ranks),
        prefix,
        bytes: true,
        ..Scheme::default()
    })
}

/// One token a character is byte pairs without merges, as long as each character is one byte. A character that is not
/// among the tokens becomes the unknown token here and nothing in llama.cpp.
fn characters(whole: &Json, words: &Map<String, Json>) -> Result<Scheme, String> {
    if let Some(step) = steps(&whole["normalizer"], "normalizers").first() {
        return Err(format!("llama.cpp has no normalizer {}", kind_of(step)));
    }
    let single = |token: &String| token.len() == 1 || is_mark(token);
    if let Some(token) = words.keys().find(|token| !single(token)) {
        return Err(format!(
            "llama.cpp has no model of whole words, and {token:?} is not a single byte"
        ));
    }
    let split = &whole["pre_tokenizer"];
    if split["pattern"]["Regex"] != r"[\s\S]" || split["behavior"] != "Isolated" {
        return Err(format!(
            "llama.cpp has no model of whole words, and its pre-tokenizer {} does not part each character",
            kind_of(split)
        ));
    }
    Ok(Scheme {
        model: "gpt2",
        pre: "gpt-2",
        characters: true,
        ..Scheme::default()
    })
}

/// A special token's text, which no text is split into.
fn is_mark(token: &str) -> bool {
    token.len() > 2 && token.starts_with('<') && token.ends_with('>')
}

fn is_byte(token: &str) -> bool {
    let hex = token.strip_prefix("<0x").and_then(|t| t.strip_suffix('>'));
    hex.is_some_and(|hex| hex.len() == 2 && u8::from_str_radix(hex, 16).is_ok())
}

/// GPT-2 writes a byte as a character that can be seen: itself, or one from 256 on in order.
fn byte_level_text(token: &str) -> String {
    let [byte] = *token.as_bytes() else {
        return token.to_owned();
    };
    let seen = |b: u8| matches!(b, 33..=126 | 161..=172 | 174..=255);
    let code = if seen(byte) {
        u32::from(byte)
    } else {
        256 + (0..byte).filter(|&b| !seen(b)).count() as u32
    };
    char::from_u32(code).unwrap_or_default().to_string()
}

/// Tokens by id.
struct Table(Vec<Option<(String, i32)>>);

impl Table {
    fn new(vocabulary: usize) -> Self {
        Self(vec![None; vocabulary])
    }

    fn put(&mut self, id: &Json, text: String, kind: i32) -> Result<(), String> {
        let place = id.as_u64().and_then(|id| self.0.get_mut(id as usize));
        match place {
            Some(place) => {
                *place = Some((text, kind));
                Ok(())
            }
            None => Err(format!(
                "token {text:?} has id {id}, outside the vocabulary of {}",
                self.0.len()
            )),
        }
    }

    /// Texts and types; rows of the embedding without a token get a name.
    fn finish(self) -> Result<(Vec<String>, Vec<i32>), String> {
        let named = |(id, entry): (usize, Option<(String, i32)>)| {
            entry.unwrap_or_else(|| (format!("[PAD{id}]"), UNUSED))
        };
        let (tokens, types): (Vec<String>, Vec<i32>) =
            self.0.into_iter().enumerate().map(named).unzip();
        let mut seen = HashMap::new();
        for (id, token) in tokens.iter().enumerate() {
            if let Some(before) = seen.insert(token.as_str(), id) {
                return Err(format!("tokens {before} and {id} are both {token:?}"));
            }
        }
        Ok((tokens, types))
    }
}
