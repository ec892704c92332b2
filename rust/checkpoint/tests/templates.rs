//! Chat templates in GGUF files: each by its name, there and back.

use std::collections::BTreeMap;
use std::path::Path;

use moevolve_checkpoint::Tokenizer;
use moevolve_checkpoint::gguf::{Entry, Gguf, tokenizer, vocabulary, write_parts};
use moevolve_kernels::worker_pool::WorkerPool;
use serde_json::{Value, json};

const VOCABULARY: usize = 3;

type Templates = BTreeMap<String, String>;

/// A tokenizer of bytes whose settings hold these templates.
fn with(templates: &Value) -> Tokenizer {
    let text = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]},
    });
    let settings = json!({"chat_template": templates}).to_string();
    Tokenizer::parse(
        &text.to_string(),
        Some(settings),
        VOCABULARY,
        Path::new("tokenizer.json"),
    )
    .expect("a tokenizer")
}

/// What a GGUF file of this tokenizer says, and the templates that are read from it.
fn there_and_back(ours: &Tokenizer) -> Result<(Vec<(String, Entry)>, Templates), String> {
    let frame = ours.frame().expect("a frame");
    let entries = vocabulary::entries(ours.texts(), &frame, VOCABULARY, &[1])?;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("m.gguf");
    let pool = WorkerPool::new(1);
    let mut rows = |_: usize, _: std::ops::Range<usize>, _: &mut Vec<f32>| Ok(());
    write_parts(&file, &pool, &entries, &[], &mut rows, usize::MAX, |_| {
        Ok(())
    })
    .expect("written");
    let bytes = std::fs::read(&file).expect("read");
    let gguf = Gguf::parse(&bytes, "m.gguf").expect("whole");
    let text = tokenizer::read(&gguf)
        .expect("a tokenizer")
        .expect("there is one");
    let path = Path::new("tokenizer.json");
    let theirs = Tokenizer::parse(&text.tokenizer, Some(text.settings), VOCABULARY, path);
    Ok((entries, theirs.expect("a tokenizer").chat_templates()))
}

#[test]
fn templates_by_name_go_there_and_back() {
    let named = |name: &str| json!({"name": name, "template": format!("{{{{ {name} }}}}")});
    for names in [
        &["default", "rag", "tool_use"][..],
        &["tool_use"],
        &["default"],
    ] {
        let list: Vec<Value> = names.iter().map(|name| named(name)).collect();
        let ours = with(&Value::Array(list));
        let (_, found) = there_and_back(&ours).expect("written");
        assert_eq!(found, ours.chat_templates(), "{names:?}");
    }
    let plain = with(&json!("{{ messages }}"));
    assert_eq!(there_and_back(&plain).unwrap().1, plain.chat_templates());
}

#[test]
fn they_have_the_keys_that_llama_cpp_looks_for() {
    let ours = with(&json!({"default": "d", "tool_use": "t", "rag": "r"}));
    let (entries, _) = there_and_back(&ours).expect("written");
    let text = |key: &str| {
        let entry = entries.iter().find(|(name, _)| name == key);
        entry.map(|(_, entry)| entry.clone())
    };
    let string = |text: &str| Some(Entry::String(text.to_owned()));
    assert_eq!(text("tokenizer.chat_template"), string("d"));
    assert_eq!(text("tokenizer.chat_template.tool_use"), string("t"));
    assert_eq!(
        text("tokenizer.chat_templates"),
        Some(Entry::Strings(vec![
            "rag".to_owned(),
            "tool_use".to_owned()
        ]))
    );
}

#[test]
fn a_name_that_no_file_can_say_is_refused() {
    for name in ["tool use", "", "a.b"] {
        let ours = with(&json!({"default": "d", name: "t"}));
        let why = there_and_back(&ours).expect_err("refused");
        assert!(why.contains(&format!("{name:?}")), "{why}");
    }
}
