//! What a file that was written says of its tokens is what the model has, or it is not written.

use std::path::Path;

use moevolve_checkpoint::gguf::{Gguf, Value};
use moevolve_model::Engine;
use serde_json::{Value as Json, json};

use crate::common::{odd, with};

const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Tokens by id, the first of many; four are special ones.
const WORDS: [&str; 10] = [
    "<|end|>", "<|stop|>", "<|halt|>", "<|rest|>", "a", "b", "c", "Ġ", "ab", "abc",
];
/// What makes "ab", and nothing that makes "abc".
const PART: &[[&str; 2]] = &[["a", "b"]];
const WHOLE: &[[&str; 2]] = &[["a", "b"], ["ab", "c"]];

/// A byte-level tokenizer: its split, None for GPT-2's after single digits, and how it is otherwise.
#[derive(Clone, Copy)]
struct Spelt {
    split: Option<&'static str>,
    composed: bool,
    whole_words: bool,
    merges: &'static [[&'static str; 2]],
}

const PLAIN: Spelt = Spelt {
    split: None,
    composed: false,
    whole_words: false,
    merges: WHOLE,
};

impl Spelt {
    fn json(self) -> Json {
        let split = match self.split {
            None => json!({"type": "Digits", "individual_digits": true}),
            Some(regex) => {
                json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false})
            }
        };
        let vocabulary: serde_json::Map<_, _> = (0..)
            .zip(WORDS)
            .map(|(id, word)| (word.to_owned(), json!(id)))
            .collect();
        let special = |(id, word): (usize, &&str)| {
            json!({"id": id, "content": word, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true})
        };
        json!({
            "version": "1.0", "truncation": null, "padding": null,
            "added_tokens": WORDS[..4].iter().enumerate().map(special).collect::<Vec<_>>(),
            "normalizer": self.composed.then(|| json!({"type": "NFC"})),
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, {"type": "ByteLevel",
                "add_prefix_space": false, "trim_offsets": true, "use_regex": self.split.is_none()}]},
            "post_processor": null,
            "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
            "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocabulary,
                "merges": self.merges, "ignore_merges": self.whole_words},
        })
    }

    /// A model with this tokenizer and these ends, and what becomes of it as a file.
    fn written(self, ends: &[u32], file: &Path) -> (Engine, Result<Engine, String>) {
        let changes = [("vocab_size", json!(400)), ("eos_token_id", json!(ends))];
        let config = with(odd(), &changes).to_string();
        let tokenizer = self.json().to_string();
        let engine = Engine::create(&config, Some(&tokenizer), 1, 1).expect("made");
        let saved = engine.save(file, Some("f32"));
        let again = saved.map(|()| Engine::load(file, 1).expect("loaded"));
        (engine, again.map_err(|error| error.to_string()))
    }
}

/// The name of the rule in a file.
fn rule(file: &Path) -> String {
    let bytes = std::fs::read(file).expect("read");
    let gguf = Gguf::parse(&bytes, "model.gguf").expect("whole");
    match gguf.metadata["tokenizer.ggml.pre"] {
        Value::String(name) => name.to_owned(),
        _ => panic!("it is no name"),
    }
}

#[test]
fn every_end_of_the_configuration_ends_texts_of_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("model.gguf");
    // The first is one that llama.cpp knows by its text; the others need a key each, of which there are three.
    for ends in [
        &[0][..],
        &[1],
        &[0, 1],
        &[1, 0],
        &[1, 2, 3],
        &[2, 2, 0, 1, 1, 3],
    ] {
        let again = PLAIN.written(ends, &file).1.expect("written");
        let lost = ends.iter().find(|id| !again.config().eos.contains(id));
        assert_eq!(lost, None, "{ends:?}: {:?}", again.config().eos);
    }
}

#[test]
fn an_end_that_no_key_is_left_for_is_refused_by_its_id() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("model.gguf");
    let refused = PLAIN
        .written(&[1, 2, 3, 4], &file)
        .1
        .err()
        .expect("refused");
    assert!(refused.contains("token 4 (eos_token_id)"), "{refused}");
    assert!(!file.exists());
}

#[test]
fn a_split_is_written_with_the_way_that_it_takes_words() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("model.gguf");
    for (whole_words, name, ids) in [(true, "llama-bpe", &[9][..]), (false, "dbrx", &[8, 6][..])] {
        let spelt = Spelt {
            split: Some(LLAMA3),
            merges: PART,
            whole_words,
            ..PLAIN
        };
        let (engine, again) = spelt.written(&[0], &file);
        let again = again.expect("written");
        for engine in [&engine, &again] {
            let encoded = engine.tokenizer().unwrap().encode("abc", false);
            assert_eq!(encoded.expect("encoded"), ids, "{name}");
        }
        assert_eq!(rule(&file), name);
    }
}

#[test]
fn words_that_merges_make_are_all_that_a_rule_without_whole_words_may_have() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("model.gguf");
    let spelt = |merges| Spelt {
        whole_words: true,
        merges,
        ..PLAIN
    };
    spelt(WHOLE).written(&[0], &file).1.expect("written");
    assert_eq!(rule(&file), "smollm");
    std::fs::remove_file(&file).expect("there");
    let refused = spelt(PART).written(&[0], &file).1.err().expect("refused");
    assert!(refused.contains("other tokens of \"abc\""), "{refused}");
    assert!(!file.exists());
}

#[test]
fn a_split_is_written_with_what_comes_before_it_or_not_at_all() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("model.gguf");
    let spelt = |split, composed| Spelt {
        split,
        composed,
        ..PLAIN
    };
    for (composed, name) in [(true, "qwen2"), (false, "grok-2")] {
        spelt(Some(QWEN2), composed)
            .written(&[0], &file)
            .1
            .expect("written");
        assert_eq!(rule(&file), name);
    }
    std::fs::remove_file(&file).expect("there");
    for split in [None, Some(LLAMA3)] {
        let refused = spelt(split, true).written(&[0], &file).1.err();
        let refused = refused.expect("refused");
        assert!(refused.contains("after composing texts"), "{refused}");
        assert!(!file.exists());
    }
}
