//! Any text as `tokenizer.json`.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use moevolve_model::tokenizer::Tokenizer;

fuzz_target!(|text: &str| {
    let _ = Tokenizer::parse(text, None, 64, Path::new("tokenizer.json"));
});
