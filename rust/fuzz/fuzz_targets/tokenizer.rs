//! Any text as `tokenizer.json`, and what such a tokenizer makes of a text.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use moevolve_checkpoint::Tokenizer;

fuzz_target!(|text: &str| {
    if let Ok(tokenizer) = Tokenizer::parse(text, None, 4096, Path::new("tokenizer.json")) {
        if let Ok(ids) = tokenizer.encode("One of 3 texts,\n it's <eos> é", true) {
            let _ = tokenizer.decode(&ids, true);
        }
    }
});
