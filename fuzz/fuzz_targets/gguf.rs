//! A GGUF file of any bytes: header, configuration, names, tokenizer.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use moevolve_model::error::Result;
use moevolve_model::gguf::{Gguf, config, config_fields, names, tokenizer};
use moevolve_model::tokenizer::Tokenizer;

fn read(bytes: &[u8]) -> Result<()> {
    let gguf = Gguf::parse(bytes, "fuzz.gguf")?;
    let fields = config_fields(&gguf)?;
    names::pieces(&gguf, &names::Naming::of(&fields))?;
    let config = config(&gguf)?;
    if let Some(text) = tokenizer::read(&gguf)? {
        let path = Path::new("fuzz.gguf");
        Tokenizer::parse(&text.tokenizer, Some(text.settings), config.vocabulary, path)?;
    }
    Ok(())
}

fuzz_target!(|bytes: &[u8]| {
    let _ = read(bytes);
});
