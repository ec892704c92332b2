//! GGUF there and back in every family; what a torn header says; names, rows, rotations and tokenizers.

mod common;

use common::{create, families, odd, with};
use moevolve_model::config::Config;
use moevolve_model::gguf::names::{Naming, interleave, separate};
use moevolve_model::gguf::{Gguf, Value, config, config_fields, tokenizer};
use moevolve_model::layout::{Layout, bias_names};
use moevolve_model::{Engine, plan};
use proptest::prelude::*;
use serde_json::json;

/// Families as llama.cpp has them: no biases beside Llama's, its own rules of normalising, key heads for OLMoE.
fn exportable() -> Vec<(String, serde_json::Value)> {
    let fits = |(name, config): (&str, serde_json::Value)| {
        let config = match name {
            "olmoe" => with(config, &[("num_key_value_heads", json!(6))]),
            _ => config,
        };
        let refused = name == "olmoe normalised" || name == "qwen3_moe with biases";
        (!refused).then(|| (name.to_owned(), config))
    };
    families().into_iter().filter_map(fits).collect()
}

#[test]
fn a_gguf_comes_back_bit_by_bit_in_every_family() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, config) in exportable() {
        let engine = create(&config, 7);
        let file = folder.path().join("model.gguf");
        engine.save(&file, Some("f32")).expect(&name);
        let again = Engine::load(&file, 1).expect(&name);
        // A tied head that llama.cpp's architecture does not know comes back as a head of its own.
        if again.config().tied == engine.config().tied {
            assert_eq!(again.fingerprint(), engine.fingerprint(), "{name}");
        }
        let (a, b) = (engine.config(), again.config());
        assert_eq!(
            (a.rotated, a.theta, a.epsilon, a.positions, a.attention_bias),
            (b.rotated, b.theta, b.epsilon, b.positions, b.attention_bias),
            "{name}"
        );
        let close = |x: &[f32], y: &[f32]| x.iter().zip(y).all(|(x, y)| (x - y).abs() <= 1e-4 * y);
        assert!(
            close(
                &b.scaling.frequencies(b.rotated, b.theta as f32),
                &a.scaling.frequencies(a.rotated, a.theta as f32)
            ),
            "{name}: {:?} {:?}",
            a.scaling,
            b.scaling
        );
        let weighed = plan::of_path(&file).expect(&name);
        assert_eq!(
            weighed.kv_bytes_per_token as usize,
            2 * 2 * a.layers * a.key_heads * a.head
        );
    }
}

#[test]
fn what_llama_cpp_does_otherwise_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("model.gguf");
    let refusal = |config| {
        let error = create(&config, 1).save(&file, Some("f16"));
        error.expect_err("refused").to_string()
    };
    let grouped = families()
        .into_iter()
        .find(|(n, _)| *n == "olmoe")
        .expect("there")
        .1;
    assert!(refusal(grouped).contains("as many key heads as heads"));
    let plain = with(families()[1].1.clone(), &[("norm_topk_prob", json!(false))]);
    assert!(refusal(plain).contains("always normalises"));
    let error = create(&odd(), 1)
        .save(&file, Some("q3_k"))
        .expect_err("unknown");
    assert!(error.is_usage(), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).expect("listed").count(), 0);
}

#[test]
fn narrow_formats_fall_back_where_rows_are_no_whole_blocks() {
    let folder = tempfile::tempdir().expect("a folder");
    let sizes = [
        ("hidden_size", json!(64)),
        ("intermediate_size", json!(256)),
        ("head_dim", json!(16)),
    ];
    let engine = create(&with(odd(), &sizes), 3);
    for (format, expected) in [
        (
            "f16",
            [
                ("blk.0.attn_q.weight", "F16"),
                ("blk.0.ffn_down_exps.weight", "F16"),
            ],
        ),
        (
            "q8_0",
            [
                ("blk.0.attn_q.weight", "Q8_0"),
                ("blk.0.ffn_down_exps.weight", "Q8_0"),
            ],
        ),
        (
            "q4_0",
            [("blk.0.attn_q.weight", "Q4_0"), ("output.weight", "Q8_0")],
        ),
        // Rows of 64 are no blocks of 256.
        (
            "q4_k",
            [
                ("blk.0.attn_q.weight", "Q5_0"),
                ("blk.0.ffn_down_exps.weight", "Q4_K"),
            ],
        ),
    ] {
        let file = folder.path().join(format!("{format}.gguf"));
        engine.save(&file, Some(format)).expect(format);
        let bytes = std::fs::read(&file).expect("read");
        let gguf = Gguf::parse(&bytes, "model.gguf").expect(format);
        let kind = |name: &str| gguf.tensor_named(name).expect(name).format.name();
        for (name, wanted) in expected {
            assert_eq!(kind(name), wanted, "{format} {name}");
        }
        for name in [
            "blk.1.ffn_gate_inp.weight",
            "blk.1.exp_probs_b.bias",
            "output_norm.weight",
        ] {
            assert_eq!(kind(name), "F32", "{format} {name}");
        }
        let again = Engine::load(&file, 1).expect(format);
        assert_eq!(again.config().experts, 5);
    }
    // Rows of 20 are no blocks at all.
    let file = folder.path().join("odd.gguf");
    create(&odd(), 3)
        .save(&file, Some("q4_k"))
        .expect("written");
    let bytes = std::fs::read(&file).expect("read");
    let gguf = Gguf::parse(&bytes, "model.gguf").expect("whole");
    assert_eq!(
        gguf.tensor_named("blk.0.attn_q.weight")
            .expect("there")
            .format
            .name(),
        "F16"
    );
}

#[test]
fn every_released_name_has_one_place() {
    for (name, text) in families() {
        let config = Config::parse(&text.to_string(), "config.json").expect(name);
        let fields = text.as_object().expect("an object");
        let naming = Naming::of(fields);
        let mut places = std::collections::BTreeSet::new();
        let names = Layout::new(&config)
            .named
            .into_iter()
            .map(|named| named.name);
        for released in names.chain(bias_names(&config)) {
            let place = naming
                .place(&released)
                .unwrap_or_else(|| panic!("{name}: {released}"));
            assert!(
                places.insert((place.name, place.expert)),
                "{name}: {released}"
            );
        }
        for stranger in [
            "model.layers.0.mlp.experts.5.gate_proj.weight",
            "model.layers.x.input_layernorm.weight",
            "lm_head",
        ] {
            assert_eq!(naming.place(stranger), None, "{name}");
        }
    }
}

proptest! {
    #[test]
    fn rows_come_back_from_their_interleaving(heads in 1usize..5, half in 1usize..6, width in 1usize..20, seed: u8) {
        let rows = heads * 2 * half;
        let bytes: Vec<u8> = (0..rows * width).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed)).collect();
        let there = interleave(&bytes, rows, heads).unwrap();
        prop_assert_eq!(&separate(&there, rows, heads).unwrap(), &bytes);
        // Dimension i of a head and its partner i + half become neighbours.
        for h in 0..heads {
            for i in 0..half {
                let row = |bytes: &[u8], r: usize| bytes[(h * 2 * half + r) * width..][..width].to_vec();
                prop_assert_eq!(row(&there, 2 * i), row(&bytes, i));
                prop_assert_eq!(row(&there, 2 * i + 1), row(&bytes, i + half));
            }
        }
    }
}

/// A file by hand: metadata as given, one f32 tensor of 4 numbers.
struct Draft {
    version: u32,
    metadata: Vec<(String, Vec<u8>)>,
    tensor: (String, Vec<u64>, u32, u64),
    twice: bool,
    count: u64,
    data: usize,
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

fn typed(kind: u32, bytes: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], bytes].concat()
}

impl Draft {
    fn new() -> Self {
        Self {
            version: 3,
            metadata: vec![("a".to_owned(), typed(4, &7u32.to_le_bytes()))],
            tensor: ("t".to_owned(), vec![4], 0, 0),
            twice: false,
            count: 1,
            data: 16,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend((self.count + u64::from(self.twice)).to_le_bytes());
        out.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            out.extend(text(key));
            out.extend(value);
        }
        let (name, dims, kind, offset) = &self.tensor;
        for _ in 0..1 + usize::from(self.twice) {
            out.extend(text(name));
            out.extend((dims.len() as u32).to_le_bytes());
            dims.iter().for_each(|d| out.extend(d.to_le_bytes()));
            out.extend(kind.to_le_bytes());
            out.extend(offset.to_le_bytes());
        }
        out.resize(out.len().next_multiple_of(32) + self.data, 0);
        out
    }

    fn error(&self) -> String {
        let bytes = self.bytes();
        Gguf::parse(&bytes, "m.gguf")
            .expect_err("refused")
            .to_string()
    }
}

#[test]
fn a_torn_header_says_where() {
    let good = Draft::new().bytes();
    let gguf = Gguf::parse(&good, "m.gguf").expect("whole");
    assert_eq!(gguf.tensors[0].range.len(), 16);
    assert!(matches!(gguf.metadata["a"], Value::Integer(7)));
    for cut in 0..good.len() {
        assert!(Gguf::parse(&good[..cut], "m.gguf").is_err(), "cut at {cut}");
    }
    let draft = Draft::new;
    let tensor = |dims: &[u64], kind, offset| {
        let tensor = ("t".to_owned(), dims.to_vec(), kind, offset);
        Draft { tensor, ..draft() }.error()
    };
    let key = |value: Vec<u8>| {
        let metadata = vec![("k".to_owned(), value)];
        Draft {
            metadata,
            ..draft()
        }
        .error()
    };
    let huge = u64::MAX.to_le_bytes();
    let cases = [
        (
            Draft {
                version: 1,
                ..draft()
            }
            .error(),
            "m.gguf: has version 1",
        ),
        (
            Draft {
                version: 3 << 24,
                ..draft()
            }
            .error(),
            "big-endian",
        ),
        (
            Draft {
                count: 1 << 40,
                ..draft()
            }
            .error(),
            "tensors are promised",
        ),
        (
            Draft {
                twice: true,
                ..draft()
            }
            .error(),
            "tensor t: comes twice",
        ),
        (tensor(&[], 0, 0), "tensor t: has 0 dimensions"),
        (tensor(&[1; 5], 0, 0), "tensor t: has 5 dimensions"),
        (tensor(&[0], 0, 0), "tensor t: its dimension 0"),
        (tensor(&[1 << 40, 1 << 40], 0, 0), "tensor t: its dimension"),
        (tensor(&[4], 99, 0), "tensor t: has ggml type 99"),
        (
            tensor(&[4], 8, 0),
            "tensor t: its rows of 4 are not whole blocks of 32",
        ),
        (
            tensor(&[4], 0, 3),
            "tensor t: its offset 3 is not a multiple of 32",
        ),
        (tensor(&[4], 0, u64::MAX), "tensor t: its offset"),
        (tensor(&[8], 0, 0), "tensor t: lies at bytes 0 to 32"),
        (key(typed(13, &[])), "m.gguf: k: value type 13 is unknown"),
        (
            key(typed(8, &huge)),
            "m.gguf: k: 18446744073709551615 bytes are promised",
        ),
        (key(typed(7, &[2])), "m.gguf: k: 2 is neither"),
        (key(typed(9, &typed(8, &huge))), "elements are promised"),
        (
            key(typed(8, &[&2u64.to_le_bytes()[..], &[0xff, 0xfe]].concat())),
            "UTF-8",
        ),
    ];
    for (message, part) in cases {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
    let nested = (0..6).fold(typed(0, &0u64.to_le_bytes()), |inner, _| {
        typed(9, &[&1u64.to_le_bytes()[..], &inner].concat())
    });
    assert!(key(typed(9, &nested)).contains("k: "));
    let alignment = |n: u32| {
        let metadata = vec![("general.alignment".to_owned(), typed(4, &n.to_le_bytes()))];
        Draft {
            metadata,
            ..draft()
        }
        .error()
    };
    assert!(alignment(24).contains("general.alignment: Integer(24) is not a power of two"));
    assert!(alignment(0).contains("general.alignment"));
    let double = vec![draft().metadata[0].clone(), draft().metadata[0].clone()];
    let message = Draft {
        metadata: double,
        ..draft()
    }
    .error();
    assert_eq!(message, "m.gguf: a: comes twice");
}

#[test]
fn a_header_of_another_network_names_the_key() {
    let metadata = |list: &[(&str, Vec<u8>)]| {
        let metadata = list
            .iter()
            .map(|(k, v)| ((*k).to_owned(), v.clone()))
            .collect();
        let bytes = Draft {
            metadata,
            ..Draft::new()
        }
        .bytes();
        let gguf = Gguf::parse(&bytes, "m.gguf").expect("whole");
        config(&gguf).expect_err("refused").to_string()
    };
    let name = |name: &str| ("general.architecture", typed(8, &text(name)));
    assert!(metadata(&[]).contains("general.architecture: is missing"));
    assert!(metadata(&[name("mamba")]).contains("\"mamba\" is not supported, only minimax-m2"));
    assert!(metadata(&[name("qwen3")]).contains("qwen3.embedding_length: is missing"));
    let zero = ("qwen3.embedding_length", typed(4, &0u32.to_le_bytes()));
    assert!(metadata(&[name("qwen3"), zero]).contains("qwen3.embedding_length: is 0"));
}

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
fn an_unknown_split_stands_in_and_says_so() {
    let list = |words: &[&str]| {
        let body: Vec<u8> = words.iter().flat_map(|w| text(w)).collect();
        let count = (words.len() as u64).to_le_bytes();
        typed(9, &[&8u32.to_le_bytes()[..], &count, &body].concat())
    };
    let metadata = vec![
        ("tokenizer.ggml.model".to_owned(), typed(8, &text("gpt2"))),
        (
            "tokenizer.ggml.pre".to_owned(),
            typed(8, &text("of-tomorrow")),
        ),
        (
            "tokenizer.ggml.tokens".to_owned(),
            list(&["a", "b", "ab", ""]),
        ),
        (
            "tokenizer.ggml.merges".to_owned(),
            list(&["a b", "b nothing"]),
        ),
    ];
    let bytes = Draft {
        metadata,
        ..Draft::new()
    }
    .bytes();
    let read = tokenizer::read(&Gguf::parse(&bytes, "m.gguf").expect("whole"))
        .expect("read")
        .expect("there");
    assert!(read.notes[0].contains("of-tomorrow"), "{:?}", read.notes);
    assert!(read.notes[1].contains("1 merges"), "{:?}", read.notes);
    let tokenizer: tokenizers::Tokenizer = read.tokenizer.parse().expect("a tokenizer");
    assert_eq!(
        tokenizer.encode("ab", false).expect("encoded").get_ids(),
        [2]
    );
}
