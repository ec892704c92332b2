//! A configuration of any text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moevolve_model::config::Config;

fuzz_target!(|text: &str| {
    let _ = Config::parse(text, "config.json");
});
