//! Any bytes as a GGUF file: its header, the configuration that it describes, where its tensors lie, its tokenizer.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use moevolve_checkpoint::gguf::{Gguf, tokenizer};
use moevolve_checkpoint::{Result, Tokenizer};
use moevolve_model::checkpoint::gguf::{config, names};

fn read(bytes: &[u8]) -> Result<()> {
    let header = Gguf::parse(bytes, "model.gguf")?;
    let config = config(&header)?;
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
