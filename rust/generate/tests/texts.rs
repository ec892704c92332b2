//! Texts of samples.

mod common;

use common::{odd, request};
use moevolve_generate::Generator;
use moevolve_model::Engine;
use serde_json::json;

/// One letter a token, the last of them special.
fn letters() -> String {
    let vocabulary: serde_json::Map<_, _> = (0..37u32)
        .filter_map(|id| Some((char::from_u32(0x61 + id)?.to_string(), json!(id))))
        .collect();
    let special = json!({
        "id": 36, "content": char::from_u32(0x61 + 36), "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true,
    });
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [special], "normalizer": null,
        "pre_tokenizer": null, "post_processor": null, "decoder": {"type": "Fuse"},
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "a"},
    })
    .to_string()
}

#[test]
fn a_sample_comes_with_its_text_without_special_tokens() {
    let keys: Vec<u64> = (0..40).collect();
    for threads in [1, 3] {
        let config = odd().to_string();
        let mut engine =
            Engine::create(&config, Some(&letters()), 9, threads).expect("a good configuration");
        let requests = [request(1, 5, &keys, 30, 2.0), request(2, 1, &[7], 0, 0.0)];
        let samples = Generator::default()
            .generate(&mut engine, &requests)
            .expect("good requests");
        let mut hidden = 0;
        for sample in samples.iter().flatten() {
            let shown = sample.tokens.iter().filter(|&&id| id != 36);
            let text: String = shown.filter_map(|&id| char::from_u32(0x61 + id)).collect();
            assert_eq!(sample.text, text);
            hidden += sample.tokens.len() - text.chars().count();
        }
        assert!(hidden > 0, "no special token was drawn");
    }
}
