//! A first look at a card: whether it computes what the processor does, and how fast. One JSON object a line on stdout.
//!
//! `gpu_check --kernels FOLDER [--card N] [--correct]`: the folder holds what `compile.py` made; `--correct` leaves the speed out.

#[path = "../tests/common/mod.rs"]
mod common;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use common::check::{Speed, distances};
use moevolve_kernels_cuda::{Driver, images};

fn main() -> ExitCode {
    let Some((kernels, card, correct)) = options() else {
        eprintln!("gpu_check --kernels FOLDER [--card N] [--correct]");
        return ExitCode::from(2);
    };
    match check(&kernels, card, correct) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("gpu_check: {error}");
            ExitCode::from(2)
        }
    }
}

fn options() -> Option<(PathBuf, usize, bool)> {
    let (mut kernels, mut card, mut correct) = (None, 0, false);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--kernels" => kernels = Some(words.next()?.into()),
            "--card" => card = words.next()?.parse().ok()?,
            "--correct" => correct = true,
            _ => return None,
        }
    }
    Some((kernels?, card, correct))
}

/// Whether all is right.
fn check(kernels: &Path, card: usize, correct: bool) -> Result<bool, Box<dyn std::error::Error>> {
    let device = Driver::open(card, &images(kernels)?)?;
    let mut right = true;
    for d in distances(&device, 600)? {
        let good = d.apart < d.most;
        right &= good;
        let (what, apart, most) = (d.what, d.apart, d.most);
        println!(
            r#"{{"check": "{what}", "apart": {apart:e}, "at_most": {most:e}, "right": {good}}}"#
        );
    }
    if correct {
        return Ok(right);
    }
    let speed = Speed::new(&device, (128, 2048, 768, 8), 32_768)?;
    for tokens in [1, 16] {
        let (seconds, bytes) = speed.few(tokens, 20)?;
        let (time, rate) = (seconds * 1e6, bytes / seconds / 1e12);
        println!(
            r#"{{"check": "few", "tokens": {tokens}, "microseconds": {time:.1}, "terabytes_a_second": {rate:.3}}}"#
        );
    }
    for tokens in [256, 4096, 16_384, 32_768] {
        let t = speed.many(tokens, 5)?;
        let rate = |operations: f64, seconds: f64| operations / seconds / 1e12;
        println!(
            r#"{{"check": "experts", "tokens": {tokens}, "forward_teraflops": {:.1}, "both_teraflops": {:.1}, "routing_microseconds": {:.1}}}"#,
            rate(t.operations, t.forward),
            rate(3.0 * t.operations, t.both),
            t.routing * 1e6,
        );
    }
    Ok(right)
}
