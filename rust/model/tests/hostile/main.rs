//! Torn and hostile GGUF files and tokenizers: whatever the bytes, an answer or an error, and no more memory than the
//! file's size justifies. The suite runs a fixed 4,000 mutations a kind, `MOEVOLVE_MUTATIONS=25` a hundred thousand.

mod measure;
mod mutate;
mod specimens;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use measure::peak_of;
use moevolve_checkpoint::gguf::{Gguf, tokenizer};
use moevolve_checkpoint::{Error, Tokenizer};
use moevolve_kernels::worker_pool::WorkerPool;
use moevolve_model::checkpoint::gguf::{config, config_fields, names};
use moevolve_model::checkpoint::{Checkpoint, WeightsMode};
use moevolve_model::plan;
use mutate::Mutator;

/// Mutations of each kind, times what the variable says.
const USUAL: usize = 4_000;

/// Weights become trainable in one file of two and stay as they are in the other.
fn load(path: &Path, bytes: &[u8], pool: &WorkerPool) -> Result<Checkpoint, Error> {
    let keep = if bytes.len().is_multiple_of(2) {
        WeightsMode::Trainable
    } else {
        WeightsMode::Auto
    };
    moevolve_model::checkpoint::load(path, keep, pool)
}

fn rounds() -> usize {
    let said = std::env::var("MOEVOLVE_MUTATIONS").ok();
    USUAL
        * said
            .and_then(|text| text.parse::<usize>().ok())
            .unwrap_or(1)
}

/// How much memory `bytes` of file may take: `times` as much, and `more` whatever its size.
struct Allowance {
    times: usize,
    more: usize,
}

/// Feeds mutations to `read`, which says whether there was an error; tells how many were refused.
fn study(
    what: &str,
    specimens: &[Vec<u8>],
    allowance: &Allowance,
    mut read: impl FnMut(&[u8]) -> Result<(), Error>,
) {
    let _alone = measure::alone();
    let rounds = rounds();
    let (mut refused, mut worst) = (0, (0.0f64, 0usize));
    for specimen in specimens {
        read(specimen).unwrap_or_else(|e| panic!("{what}: a whole one is refused: {e}"));
    }
    for round in 0..rounds {
        let mut mutator = Mutator::new(round as u64);
        let bytes = mutator.mutate(specimens);
        let (outcome, peak) = peak_of(|| catch_unwind(AssertUnwindSafe(|| read(&bytes))));
        let outcome = outcome.unwrap_or_else(|_| panic!("{what}: mutation {round} panics"));
        if let Err(error) = outcome {
            let message = error.to_string();
            assert!(error.is_checkpoint(), "{what}: mutation {round}: {message}");
            assert!(message.len() < 2_000, "{what}: mutation {round}: {message}");
            refused += 1;
        }
        let limit = allowance.times * bytes.len() + allowance.more;
        assert!(
            peak <= limit,
            "{what}: mutation {round} of {} bytes takes {peak} bytes of memory",
            bytes.len()
        );
        let share = peak as f64 / limit as f64;
        if share > worst.0 {
            worst = (share, peak);
        }
    }
    println!(
        "{what}: {rounds} mutations, {refused} refused, {} still whole, no panic; most memory {} bytes ({:.0} % of the allowance)",
        rounds - refused,
        worst.1,
        100.0 * worst.0
    );
    assert!(
        2 * refused > rounds,
        "{what}: {refused} of {rounds} refused: too tame"
    );
}

#[test]
fn gguf_headers() {
    let allowance = Allowance {
        times: 16,
        more: 1 << 16,
    };
    study("gguf header", &specimens::gguf(), &allowance, |bytes| {
        Gguf::parse(bytes, "model.gguf").map(drop)
    });
}

#[test]
fn gguf_configurations_names_and_tokenizers() {
    let allowance = Allowance {
        times: 200,
        more: 1 << 21,
    };
    study("gguf contents", &specimens::gguf(), &allowance, |bytes| {
        let gguf = Gguf::parse(bytes, "model.gguf")?;
        let fields = config_fields(&gguf)?;
        plan::of(&fields, "model.gguf")?;
        names::pieces(&gguf, &names::Naming::of(&fields))?;
        let config = config(&gguf)?;
        if let Some(text) = tokenizer::read(&gguf)? {
            let path = Path::new("model.gguf");
            Tokenizer::parse(
                &text.tokenizer,
                Some(text.settings),
                config.vocabulary,
                path,
            )?;
        }
        Ok(())
    });
}

#[test]
fn gguf_files() {
    let pool = WorkerPool::new(1);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("model.gguf");
    let allowance = Allowance {
        times: 400,
        more: 1 << 21,
    };
    study("gguf file", &specimens::gguf(), &allowance, |bytes| {
        std::fs::write(&file, bytes).expect("written");
        load(&file, bytes, &pool).map(drop)
    });
}

#[test]
fn tokenizers() {
    let allowance = Allowance {
        times: 200,
        // The regex library lets one expression of a few bytes grow to 10 MB, and keeps several forms of it.
        more: 1 << 26,
    };
    study("tokenizer", &specimens::tokenizers(), &allowance, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let path = Path::new("tokenizer.json");
        let tokenizer = Tokenizer::parse(&text, None, 4096, path)?;
        if let Ok(ids) = tokenizer.encode("One of 3 texts,\n it's <eos> é", true) {
            let _ = tokenizer.decode(&ids, true);
        }
        Ok(())
    });
}
