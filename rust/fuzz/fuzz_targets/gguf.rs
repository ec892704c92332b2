//! Any bytes as a GGUF file: its header, and the configuration that it describes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moevolve_model::gguf::{self, Gguf};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(header) = Gguf::parse(bytes, "model.gguf") {
        let _ = gguf::config(&header);
    }
});
