//! Any text as `config.json`: refused by name, or saved as something that reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moevolve_model::config::Config;

fuzz_target!(|text: &str| {
    if let Ok(config) = Config::parse(text, "config.json") {
        let saved = config.to_json("float32");
        let again = Config::parse(&saved, "config.json").expect("what was saved is read");
        assert_eq!(again.to_json("float32"), saved);
        assert!(config.parameters() > 0.0);
    }
});
