//! Any bytes as a GGUF file: its header, the configuration that it describes, where its tensors lie, its tokenizer.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use moevolve_model::error::Result;
use moevolve_model::gguf::{self, Gguf, names, tokenizer};
use moevolve_model::tokenizer::Tokenizer;

fn read(bytes: &[u8]) -> Result<()> {
    let header = Gguf::parse(bytes, "model.gguf")?;
    let config = gguf::config(&header)?;
    names::pieces(&header, &names::Naming::of(&config.fields))?;
    if let Some(text) = tokenizer::read(&header)? {
        let path = Path::new("model.gguf");
        Tokenizer::parse(&text.tokenizer, Some(text.settings), config.vocabulary, path)?;
    }
    Ok(())
}

fuzz_target!(|bytes: &[u8]| {
    if let Err(error) = read(bytes) {
        assert!(error.is_checkpoint(), "{error}");
    }
});
