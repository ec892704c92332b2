//! What a `tokenizer.json` may ask for: checked before the library reads it, which takes some parts at their word.
//!
//! Some steps replace what they read by more, and steps come in rows: what each may multiply a text's length by is
//! multiplied here, so that a file of a few lines cannot make gigabytes of a word.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use crate::files::too_many_values;

/// Times as long as its text that a tokenizer may make it.
const LARGEST_GROWTH: f64 = 8192.0;

/// Values of a file: the largest vocabularies and their merges have a million and a half.
const MOST_VALUES: usize = 1 << 22;

/// The parts that decide what a text becomes; a vocabulary is passed over.
#[derive(Deserialize)]
struct Parts {
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
    #[serde(default)]
    model: Option<Model>,
}

#[derive(Deserialize)]
struct Model {
    #[serde(default)]
    dropout: Option<f64>,
    #[serde(default, rename = "vocab")]
    _vocabulary: IgnoredAny,
}

/// Why the text of a `tokenizer.json` is refused, None where nothing speaks against it.
pub fn refusal(json: &str) -> Option<String> {
    if let Some(reason) = too_many_values(json.as_bytes(), MOST_VALUES) {
        return Some(reason);
    }
    let parts: Parts = match serde_json::from_str(json) {
        Ok(parts) => parts,
        Err(e) if e.is_data() => return Some(format!("is not a tokenizer: {e}")),
        Err(e) => return Some(format!("is not JSON: {e}")),
    };
    let dropout = parts.model.and_then(|model| model.dropout);
    if let Some(share) = dropout.filter(|&share| share != 0.0) {
        return Some(format!(
            "model.dropout: {share} is not supported, only null: a text would have other tokens each time"
        ));
    }
    let text = [
        ("normalizer", &parts.normalizer),
        ("pre_tokenizer", &parts.pre_tokenizer),
        ("post_processor", &parts.post_processor),
    ];
    bounded(&text).or_else(|| bounded(&[("decoder", &parts.decoder)]))
}

/// Why a row of parts may make too much of a text.
fn bounded(parts: &[(&str, &Value)]) -> Option<String> {
    let mut growth = 1.0;
    for (name, part) in parts {
        for step in steps(part) {
            match factor(step) {
                Ok(factor) => growth *= factor,
                Err(reason) => return Some(format!("{name}: {reason}")),
            }
            if growth > LARGEST_GROWTH {
                return Some(format!(
                    "{name}: may make a text more than {LARGEST_GROWTH} times as long"
                ));
            }
        }
    }
    None
}

/// The steps of a part in order, sequences taken apart; the parser has bounded their depth.
fn steps(part: &Value) -> Vec<&Map<String, Value>> {
    let Some(step) = part.as_object() else {
        return Vec::new();
    };
    let inside = ["normalizers", "pretokenizers", "processors", "decoders"]
        .iter()
        .filter_map(|key| step.get(*key)?.as_array())
        .flatten();
    let mut found: Vec<_> = inside.flat_map(steps).collect();
    found.push(step);
    found
}

/// What a step may multiply a text's bytes by, or why the library would fail on it.
fn factor(step: &Map<String, Value>) -> Result<f64, String> {
    let text = |key: &str| step.get(key).and_then(Value::as_str);
    let length = |text: &str| text.len() as f64;
    match text("type") {
        Some("Replace") => {
            let content = text("content").map_or(0.0, length);
            let pattern = step.get("pattern");
            let exact = pattern.and_then(|pattern| pattern.get("String")?.as_str());
            Ok(match exact.filter(|exact| !exact.is_empty()) {
                Some(exact) => (content / length(exact)).max(1.0),
                // An expression may find the empty text before every character.
                None => 1.0 + content,
            })
        }
        // A byte becomes a character of two at most.
        Some("ByteLevel") => Ok(2.0),
        // The longest decomposition of a character has eighteen.
        Some("NFD" | "NFKD" | "NFC" | "NFKC" | "Nmt" | "BertNormalizer") => Ok(6.0),
        Some("Precompiled") => precompiled(text("precompiled_charsmap").unwrap_or_default()),
        Some("TemplateProcessing") => template(step),
        Some("FixedLength") if step.get("length").and_then(Value::as_u64) == Some(0) => {
            Err("length: must not be 0".to_owned())
        }
        _ => Ok(1.0),
    }
}

/// The longest text that a map of characters writes for one: four bytes with the length of a trie, the trie, then texts
/// with a zero behind each.
fn precompiled(encoded: &str) -> Result<f64, String> {
    let torn = |what: &str| Err(format!("precompiled_charsmap: {what}"));
    let Ok(bytes) = base64::decode(encoded) else {
        return torn("is not base64");
    };
    let Some((head, rest)) = bytes.split_first_chunk() else {
        return torn("is torn");
    };
    let trie = u32::from_le_bytes(*head) as usize;
    if trie == 0 || !trie.is_multiple_of(4) || trie > rest.len() {
        return torn("is torn: its trie does not lie in it");
    }
    let texts = rest[trie..].split(|&byte| byte == 0);
    Ok(texts.map(<[u8]>::len).max().unwrap_or_default().max(1) as f64)
}

/// How often a template repeats the text; every special token that it names must be declared.
fn template(step: &Map<String, Value>) -> Result<f64, String> {
    let mut texts = 0.0;
    for key in ["single", "pair"] {
        for piece in step
            .get(key)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let special = piece.get("SpecialToken").and_then(|token| token.get("id"));
            if let Some(name) = special.and_then(Value::as_str) {
                let declared = step.get("special_tokens").and_then(|all| all.get(name));
                if declared.is_none() {
                    return Err(format!("special_tokens: {name:?} is missing"));
                }
            } else if key == "single" {
                texts += 1.0;
            }
        }
    }
    Ok(f64::max(texts, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused(part: &str, value: Value) -> String {
        refusal(&json!({part: value}).to_string()).unwrap_or_default()
    }

    #[test]
    fn replacements_in_a_row_multiply() {
        let step =
            json!({"type": "Replace", "pattern": {"String": "a"}, "content": "a".repeat(100)});
        let row = |key: &str, n: usize| json!({"type": "Sequence", key: vec![step.clone(); n]});
        assert_eq!(refused("normalizer", row("normalizers", 1)), "");
        assert!(refused("normalizer", row("normalizers", 2)).contains("8192 times"));
        assert!(refused("decoder", row("decoders", 2)).starts_with("decoder: "));
    }

    #[test]
    fn a_map_of_characters_lies_in_its_bytes() {
        for torn in ["AAAA", "/////w==", "", "?"] {
            let said = refused(
                "normalizer",
                json!({"type": "Precompiled", "precompiled_charsmap": torn}),
            );
            assert!(said.contains("precompiled_charsmap"), "{said}");
        }
    }

    #[test]
    fn a_template_names_tokens_that_it_declares() {
        let piece = json!({"SpecialToken": {"id": "<x>", "type_id": 0}});
        let part = json!({"type": "TemplateProcessing", "single": [piece], "pair": [], "special_tokens": {}});
        assert!(refused("post_processor", part).contains("\"<x>\" is missing"));
    }

    #[test]
    fn a_dropout_is_refused_by_its_key() {
        let said = refused("model", json!({"dropout": 0.1, "vocab": {"a": 1}}));
        assert!(said.starts_with("model.dropout: 0.1"), "{said}");
        assert_eq!(refused("model", json!({"dropout": null})), "");
    }
}
