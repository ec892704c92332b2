//! Saving takes memory of its own that does not grow with the model, in every format.

#[path = "hostile/measure.rs"]
mod measure;

use measure::peak_of;
use moevolve_model::Engine;
use serde_json::json;

/// Bytes that a save may hold at once: a chunk of numbers, its bytes, names and header.
const ALLOWED: usize = 8 << 20;

#[test]
fn a_save_holds_a_few_chunks_whatever_the_size_of_the_largest_tensor() {
    let _alone = measure::alone();
    let config = json!({
        "model_type": "llama", "vocab_size": 24_576, "hidden_size": 512, "intermediate_size": 256,
        "num_hidden_layers": 1, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 64,
        "tie_word_embeddings": true,
    });
    let engine = Engine::create(&config.to_string(), None, 1, 1).expect("made");
    // The embedding alone is 48 MiB of f32.
    const { assert!(4 * 24_576 * 512 > 5 * ALLOWED) };
    let folder = tempfile::tempdir().expect("a folder");
    let gguf = folder.path().join("model.gguf");
    let huggingface = folder.path().join("model");
    let dtypes = [
        (&huggingface, ["f32", "bf16", "f16"].as_slice()),
        (&gguf, &["f32", "f16", "q8_0", "q4_0", "q4_k"]),
    ];
    for (path, dtypes) in dtypes {
        for dtype in dtypes {
            let (outcome, peak) = peak_of(|| engine.save(path, Some(dtype)));
            outcome.expect(dtype);
            assert!(
                peak < ALLOWED,
                "{dtype} in {}: {peak} bytes",
                path.display()
            );
        }
    }
    let weights = folder.path().join("weights.safetensors");
    let (outcome, peak) = peak_of(|| engine.write_weights(&weights));
    outcome.expect("written");
    assert!(peak < ALLOWED, "weights: {peak} bytes");
    let (_, peak) = peak_of(|| engine.fingerprint());
    assert!(peak < ALLOWED, "fingerprint: {peak} bytes");
}
