//! Small whole files of every kind, to be spoilt.

#[path = "../common/mod.rs"]
mod common;

use common::{families, odd, with};
use moevolve_model::Engine;
use serde_json::{Map, Value, json};

/// Byte pairs with their split spelt out, one special and one plain added token.
fn byte_pairs() -> Value {
    let words = [
        "<eos>", "O", "n", "e", "Ġ", "On", "Ċ", "1", "2", "3", "tool", "Ġ1",
    ];
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [added(0, "<eos>", true), added(10, "tool", false)],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "behavior": "Isolated", "invert": false, "pattern": {"Regex":
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"}},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        ]},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocabulary(&words), "merges": [["O", "n"], ["Ġ", "1"]]},
    })
}

/// Pairs with byte fallback, as SentencePiece vocabularies become.
fn sentence_pieces() -> Value {
    let bytes: Vec<String> = (0..=255u8).map(|b| format!("<0x{b:02X}>")).collect();
    let mut words = vec!["<unk>", "<s>", "</s>", "▁", "O", "n", "e", "On", "▁On"];
    words.extend(bytes.iter().map(String::as_str));
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [added(0, "<unk>", true), added(1, "<s>", true), added(2, "</s>", true)],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        ]},
        "pre_tokenizer": null,
        "post_processor": {"type": "TemplateProcessing", "single": [
            {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
            {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
            "vocab": vocabulary(&words), "merges": [["O", "n"], ["▁", "On"]]},
    })
}

/// One token a character.
fn characters() -> Value {
    let words = ["<eos>", "<unk>", "O", "n", "e", " ", "\n", "1"];
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [added(0, "<eos>", true)],
        "normalizer": null, "post_processor": null, "decoder": {"type": "Fuse"},
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": r"[\s\S]"}, "behavior": "Isolated", "invert": false},
        "model": {"type": "WordLevel", "vocab": vocabulary(&words), "unk_token": "<unk>"},
    })
}

/// Pieces by probability.
fn unigrams() -> Value {
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [added(0, "<unk>", true)],
        "normalizer": {"type": "NFKC"}, "post_processor": null,
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
        "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
        "model": {"type": "Unigram", "unk_id": 0, "byte_fallback": false,
            "vocab": [["<unk>", 0.0], ["▁", -2.0], ["O", -3.0], ["ne", -3.5], ["One", -4.0]]},
    })
}

fn added(id: usize, content: &str, special: bool) -> Value {
    json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": special})
}

fn vocabulary(words: &[&str]) -> Value {
    let entry = |(id, word): (usize, &&str)| ((*word).to_owned(), json!(id));
    Value::Object(words.iter().enumerate().map(entry).collect::<Map<_, _>>())
}

pub fn tokenizers() -> Vec<Vec<u8>> {
    [byte_pairs(), sentence_pieces(), characters(), unigrams()]
        .map(|value| value.to_string().into_bytes())
        .to_vec()
}

/// Files of three families, with either kind of tokenizer and without one.
pub fn gguf() -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("model.gguf");
    let llama3 = families()
        .into_iter()
        .find(|(name, _)| *name == "llama with biases");
    let llama3 = with(llama3.expect("there").1, &[("vocab_size", json!(300))]);
    let small = with(odd(), &[("num_hidden_layers", json!(1))]);
    [
        (small, Some(byte_pairs())),
        (llama3, Some(sentence_pieces())),
        (families()[1].1.clone(), None),
    ]
    .map(|(config, tokenizer)| {
        let tokenizer = tokenizer.map(|t| t.to_string());
        let engine = Engine::create(&config.to_string(), tokenizer.as_deref(), 1, 1);
        engine
            .expect("made")
            .save(&file, Some("f16"))
            .expect("written");
        std::fs::read(&file).expect("read")
    })
    .to_vec()
}
