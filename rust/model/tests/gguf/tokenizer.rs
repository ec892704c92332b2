//! Tokenizers there and back, and those that only llama.cpp has.

use moevolve_checkpoint::gguf::{Gguf, Value, tokenizer};
use moevolve_model::Engine;
use moevolve_model::checkpoint::gguf::config_fields;
use serde_json::json;

use crate::common::{odd, with};
use crate::draft::{Draft, text, typed};

#[test]
fn a_tokenizer_goes_there_and_back() {
    let words = ["<|end|>", "a", "b", "c", "Ġ", "ab", "Ġa", "Ċ", "1", "2"];
    let vocabulary: serde_json::Map<_, _> = words
        .iter()
        .enumerate()
        .map(|(id, word)| ((*word).to_owned(), json!(id)))
        .collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [{"id": 0, "content": "<|end|>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true}],
        "normalizer": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": true},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        ]},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocabulary,
            "merges": [["a", "b"], ["Ġ", "a"]]},
    });
    let folder = tempfile::tempdir().expect("a folder");
    let config = with(
        odd(),
        &[("vocab_size", json!(12)), ("eos_token_id", json!(0))],
    );
    let engine =
        Engine::create(&config.to_string(), Some(&tokenizer.to_string()), 1, 1).expect("made");
    let file = folder.path().join("model.gguf");
    engine.save(&file, Some("f16")).expect("written");
    let again = Engine::load(&file, 1).expect("loaded");
    for text in ["ab ab\n12 a", "<|end|>ab", " a b c"] {
        let (a, b) = (engine.tokenizer().unwrap(), again.tokenizer().unwrap());
        let ids = a.encode(text, false).expect("encoded");
        assert_eq!(b.encode(text, false).expect("encoded"), ids, "{text:?}");
        assert_eq!(b.decode(&ids, false).unwrap(), text);
    }
    assert_eq!(again.config().eos, [0]);
    assert_eq!(again.tokenizer().unwrap().special()["eos_token"], "<|end|>");
    let bytes = std::fs::read(&file).expect("read");
    let gguf = Gguf::parse(&bytes, "m.gguf").expect("whole");
    assert!(matches!(
        gguf.metadata["tokenizer.ggml.pre"],
        Value::String("smollm")
    ));
    assert_eq!(tokenizer::read(&gguf).unwrap().unwrap().notes, [""; 0]);
    assert_eq!(config_fields(&gguf).unwrap()["vocab_size"], 12);
}

#[test]
fn sentence_pieces_merge_by_score() {
    let mut words = vec![
        ("<unk>".to_owned(), 0.0f32, 2i32),
        ("<s>".to_owned(), 0.0, 3),
        ("</s>".to_owned(), 0.0, 3),
    ];
    words.extend((0..=255u8).map(|b| (format!("<0x{b:02X}>"), 0.0, 6)));
    for (word, score) in [
        ("▁", -9.0),
        ("h", -9.0),
        ("e", -9.0),
        ("l", -9.0),
        ("o", -9.0),
        ("he", -1.0),
        ("ll", -2.0),
        ("llo", -3.0),
        ("hello", -4.0),
        ("▁hello", -5.0),
        ("el", -0.5),
    ] {
        words.push((word.to_owned(), score, 1));
    }
    let list = |kind: u32, body: Vec<u8>| {
        let count = (words.len() as u64).to_le_bytes();
        typed(9, &[&kind.to_le_bytes()[..], &count, &body].concat())
    };
    let id = |n: u32| typed(4, &n.to_le_bytes());
    let metadata = vec![
        ("tokenizer.ggml.model".to_owned(), typed(8, &text("llama"))),
        (
            "tokenizer.ggml.tokens".to_owned(),
            list(8, words.iter().flat_map(|w| text(&w.0)).collect()),
        ),
        (
            "tokenizer.ggml.scores".to_owned(),
            list(6, words.iter().flat_map(|w| w.1.to_le_bytes()).collect()),
        ),
        (
            "tokenizer.ggml.token_type".to_owned(),
            list(5, words.iter().flat_map(|w| w.2.to_le_bytes()).collect()),
        ),
        ("tokenizer.ggml.bos_token_id".to_owned(), id(1)),
        ("tokenizer.ggml.unknown_token_id".to_owned(), id(0)),
    ];
    let bytes = Draft {
        metadata,
        ..Draft::new()
    }
    .bytes();
    let gguf = Gguf::parse(&bytes, "m.gguf").expect("whole");
    let read = tokenizer::read(&gguf).expect("read").expect("there");
    assert!(read.add_bos);
    let tokenizer: tokenizers::Tokenizer = read.tokenizer.parse().expect("a tokenizer");
    let tokens = |text: &str| {
        tokenizer
            .encode(text, false)
            .expect("encoded")
            .get_tokens()
            .to_vec()
    };
    // el has the best score, so he never comes about; what no token spells comes as bytes.
    assert_eq!(tokens("hello"), ["▁", "h", "el", "l", "o"]);
    assert_eq!(
        tokens("llo</s>é"),
        ["▁", "llo", "</s>", "▁", "<0xC3>", "<0xA9>"]
    );
    let ids = tokenizer
        .encode("hello ll é", true)
        .expect("encoded")
        .get_ids()
        .to_vec();
    assert_eq!(ids[0], 1);
    assert_eq!(tokenizer.decode(&ids, true).expect("decoded"), "hello ll é");
}

#[test]
fn a_split_is_known_or_refused_and_idle_merges_are_told() {
    let list = |words: &[&str]| {
        let body: Vec<u8> = words.iter().flat_map(|w| text(w)).collect();
        let count = (words.len() as u64).to_le_bytes();
        typed(9, &[&8u32.to_le_bytes()[..], &count, &body].concat())
    };
    let read = |pre: &str| {
        let key = |key: &str| format!("tokenizer.ggml.{key}");
        let metadata = vec![
            (key("model"), typed(8, &text("gpt2"))),
            (key("pre"), typed(8, &text(pre))),
            (key("tokens"), list(&["a", "b", "ab", ""])),
            (key("merges"), list(&["a b", "b nothing"])),
        ];
        let bytes = Draft {
            metadata,
            ..Draft::new()
        }
        .bytes();
        tokenizer::read(&Gguf::parse(&bytes, "m.gguf").expect("whole"))
    };
    let refused = read("of-tomorrow").expect_err("refused").to_string();
    assert!(
        refused.contains("tokenizer.ggml.pre: \"of-tomorrow\""),
        "{refused}"
    );
    let read = read("default").expect("read").expect("there");
    assert_eq!(read.notes.len(), 1);
    assert!(read.notes[0].contains("1 merges"), "{:?}", read.notes);
    let tokenizer: tokenizers::Tokenizer = read.tokenizer.parse().expect("a tokenizer");
    assert_eq!(
        tokenizer.encode("ab", false).expect("encoded").get_ids(),
        [2]
    );
}
