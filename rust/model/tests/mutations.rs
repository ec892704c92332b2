//! Thousands of damaged checkpoints: each is refused by name or is the same model, nothing panics, and no more memory
//! is asked for than the files' size justifies. `MOEVOLVE_MUTATIONS=25` makes them a hundred thousand.
//!
//! One file above 400 lines: all damage is measured by one allocator, which counts for the whole process.

mod common;
#[path = "hostile/measure.rs"]
mod measure;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use common::{create, families};
use measure::peak_of;
use moevolve_kernels::sample::uniform;
use moevolve_model::Engine;
use moevolve_model::config::Config;
use serde_json::{Map, Value, json};

/// Bytes in memory for each byte of a file: values and panels, both padded to vectors, and the text of the header.
const PER_BYTE: usize = 64;
/// Bytes in memory whatever the file.
const ALWAYS: usize = 4 << 20;

/// A stream of draws that depends on its seed alone.
struct Draw {
    seed: u64,
    next: u64,
}

impl Draw {
    fn below(&mut self, n: usize) -> usize {
        self.next += 1;
        (uniform(self.seed, self.next) * n as f64) as usize
    }

    fn pick<T: Clone>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())].clone()
    }
}

/// Values that a careless writer, or a hostile one, puts in place of another.
fn strange(draw: &mut Draw) -> Value {
    draw.pick(&[
        json!(null),
        json!(true),
        json!(0),
        json!(1),
        json!(3),
        json!(-1),
        json!(0.5),
        json!(1e300),
        json!(2_147_483_647_u64),
        json!(4_294_967_296_u64),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(""),
        json!("../../etc/passwd"),
        json!("F8_E4M3"),
        json!([]),
        json!([0]),
        json!([u64::MAX, u64::MAX]),
        json!([1, 1, 1, 1, 1, 1, 1, 1]),
        json!({}),
        json!({"rope_type": "yarn", "factor": 1e-300, "original_max_position_embeddings": 1e300}),
        json!({"rope_type": "llama3", "factor": 1e300, "low_freq_factor": 1e-300, "high_freq_factor": 1e300}),
    ])
}

/// Changes one leaf, chosen among all, or takes away or doubles one entry of an object.
fn change(value: &mut Value, draw: &mut Draw) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            let keys: Vec<String> = map.keys().cloned().collect();
            let key = draw.pick(&keys);
            match draw.below(8) {
                0 => {
                    map.remove(&key);
                }
                1 => {
                    let copy = map[&key].clone();
                    map.insert(format!("{key}.again"), copy);
                }
                2 => {
                    let other = draw.pick(&keys);
                    let copy = map[&other].clone();
                    map.insert(key, copy);
                }
                3 => {
                    map.insert(key, strange(draw));
                }
                _ => {
                    if let Some(inner) = map.get_mut(&key) {
                        change(inner, draw);
                    }
                }
            }
        }
        Value::Array(items) if !items.is_empty() => {
            let at = draw.below(items.len());
            match draw.below(4) {
                0 => {
                    items.remove(at);
                }
                1 => items.push(strange(draw)),
                _ => items[at] = strange(draw),
            }
        }
        leaf => *leaf = strange(draw),
    }
}

/// Flips, cuts, doubles or inserts bytes among the first `span`.
fn scramble(bytes: &mut Vec<u8>, span: usize, draw: &mut Draw) {
    for _ in 0..=draw.below(3) {
        let at = draw.below(span.min(bytes.len()).max(1));
        if at >= bytes.len() {
            return;
        }
        match draw.below(6) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, draw.below(256) as u8),
            2 => {
                let end = (at + draw.below(64)).min(bytes.len());
                bytes.drain(at..end);
            }
            3 => bytes[at] = draw.pick(b"0123456789{}[]\",:-e."),
            _ => bytes[at] ^= 1 << draw.below(8),
        }
    }
}

/// A safetensors file with this header before the same numbers.
fn with_header(bytes: &[u8], change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let end = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("eight")) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..end]).expect("a header");
    change(&mut header);
    let text = header.to_string();
    [
        &(text.len() as u64).to_le_bytes()[..],
        text.as_bytes(),
        &bytes[end..],
    ]
    .concat()
}

struct Whole {
    folder: tempfile::TempDir,
    config: Vec<u8>,
    weights: Vec<u8>,
    parameters: usize,
}

impl Whole {
    fn new(config: &Value) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let engine = create(config, 1);
        engine.save(folder.path(), None).expect("saved");
        let read = |name: &str| fs::read(folder.path().join(name)).expect("read");
        Self {
            config: read("config.json"),
            weights: read("model.safetensors"),
            parameters: engine.parameters(),
            folder,
        }
    }

    /// Writes files of this content, loads the folder, and judges what came of it.
    fn judge(&self, case: &str, files: &[(&str, &[u8])]) -> bool {
        let place = self.folder.path();
        for (name, bytes) in files {
            fs::write(place.join(name), bytes).expect("written");
        }
        let size: usize = fs::read_dir(place)
            .expect("listed")
            .map(|file| file.expect("an entry").metadata().expect("a size").len() as usize)
            .sum();
        let (loaded, most) = peak_of(|| catch_unwind(AssertUnwindSafe(|| Engine::load(place, 1))));
        assert!(
            most <= PER_BYTE * size + ALWAYS,
            "{case}: {most} bytes in memory for {size} in files"
        );
        match loaded.unwrap_or_else(|_| panic!("{case}: it panicked")) {
            Ok(engine) => {
                let saved = engine.config_json();
                let again = Config::parse(&saved, "config.json")
                    .unwrap_or_else(|error| panic!("{case}: {error} in {saved}"));
                assert_eq!(again.to_json(&dtype(&saved)), saved, "{case}");
                if let Ok(tokenizer) = engine.tokenizer() {
                    let ids = tokenizer
                        .encode("ABCABD <end> x\u{e9}", true)
                        .unwrap_or_default();
                    let _ = tokenizer.decode(&ids, false);
                }
                let same = engine.parameters();
                assert!(same <= 2 * self.parameters, "{case}: {same} parameters");
                true
            }
            Err(error) => {
                assert!(error.is_checkpoint(), "{case}: {error}");
                let text = error.to_string();
                assert!(names(&text, place), "{case}: {text}");
                false
            }
        }
    }
}

fn dtype(config: &str) -> String {
    let fields: Value = serde_json::from_str(config).expect("JSON");
    fields["dtype"].as_str().expect("a name").to_owned()
}

/// Whether an error says in which file it is, on one line.
fn names(text: &str, folder: &Path) -> bool {
    text.contains(&folder.display().to_string()) && !text.contains('\n')
}

/// All families in turn, `each` cases of one kind of damage, of which most are refused.
fn damage(
    kind: u64,
    each: u64,
    refused: f64,
    mut make: impl FnMut(&Whole, &mut Draw) -> Vec<(String, Vec<u8>)>,
) {
    // Memory is counted for the whole process: one kind at a time.
    let _alone = measure::alone();
    let times = std::env::var("MOEVOLVE_MUTATIONS").ok();
    let each = each * times.and_then(|n| n.parse().ok()).unwrap_or(1);
    let mut spared = 0;
    let mut cases = 0;
    for (family, config) in families() {
        let whole = Whole::new(&config);
        for number in 0..each {
            let mut draw = Draw {
                seed: (kind << 32) + (number << 8) + cases % 251,
                next: 0,
            };
            let files = make(&whole, &mut draw);
            let mut files: Vec<(&str, &[u8])> = files
                .iter()
                .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
                .collect();
            // What an earlier case damaged and this one does not is whole again.
            for (name, bytes) in [
                ("config.json", &whole.config),
                ("model.safetensors", &whole.weights),
            ] {
                let lies_there = whole.folder.path().join(name).exists();
                if lies_there && !files.iter().any(|(known, _)| *known == name) {
                    files.push((name, bytes));
                }
            }
            spared +=
                u64::from(whole.judge(&format!("{family}, kind {kind}, case {number}"), &files));
            cases += 1;
        }
    }
    assert!(
        spared as f64 <= (1.0 - refused) * cases as f64,
        "{spared} of {cases} damaged checkpoints were loaded"
    );
}

#[test]
fn damaged_bytes_of_a_header() {
    damage(1, 120, 0.8, |whole, draw| {
        let mut bytes = whole.weights.clone();
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("eight")) as usize;
        scramble(&mut bytes, header, draw);
        vec![("model.safetensors".to_owned(), bytes)]
    });
}

#[test]
fn damaged_length_of_a_header() {
    damage(2, 30, 0.9, |whole, draw| {
        let mut bytes = whole.weights.clone();
        scramble(&mut bytes, 8, draw);
        vec![("model.safetensors".to_owned(), bytes)]
    });
}

#[test]
fn headers_that_lie() {
    damage(3, 120, 0.8, |whole, draw| {
        let bytes = with_header(&whole.weights, |header| change(header, draw));
        vec![("model.safetensors".to_owned(), bytes)]
    });
}

/// A stack of experts that is empty, or as long as a number can say.
#[test]
fn stacks_without_numbers() {
    damage(4, 10, 1.0, |whole, draw| {
        let bytes = with_header(&whole.weights, |header| {
            let shape = draw.pick(&[
                json!([4_000_000_000_u64, 0, 5]),
                json!([0, 4_000_000_000_u64, 5]),
                json!([4_000_000_000_u64, 4_000_000_000_u64, 0]),
                json!([0, 0, 0]),
            ]);
            let name = draw.pick(&[
                "gate_up_proj",
                "down_proj",
                "0.w1.weight",
                "gate_up_proj_scale_inv",
            ]);
            let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [0, 0]});
            if let Some(map) = header.as_object_mut() {
                map.insert(format!("model.layers.0.mlp.experts.{name}"), entry);
            }
        });
        vec![("model.safetensors".to_owned(), bytes)]
    });
}

#[test]
fn damaged_configurations() {
    damage(5, 120, 0.4, |whole, draw| {
        let mut config: Value = serde_json::from_slice(&whole.config).expect("JSON");
        for _ in 0..=draw.below(2) {
            change(&mut config, draw);
        }
        vec![("config.json".to_owned(), config.to_string().into_bytes())]
    });
}

#[test]
fn damaged_text_of_configurations() {
    damage(6, 50, 0.3, |whole, draw| {
        let mut config = whole.config.clone();
        let span = config.len();
        scramble(&mut config, span, draw);
        vec![("config.json".to_owned(), config)]
    });
}

/// A tokenizer of thirty words, with every stage that a released one has.
fn tokenizer() -> Value {
    let words: Map<String, Value> = (0..30_u8)
        .map(|i| ((char::from(b'A' + i)).to_string(), json!(i)))
        .chain([("AB".to_owned(), json!(30)), ("ABC".to_owned(), json!(31))])
        .collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [{
            "id": 32, "content": "<end>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        }],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Prepend", "prepend": "_"}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": "[A-Z]+"}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        ]},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<end>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<end>": {"id": "<end>", "ids": [32], "tokens": ["<end>"]}},
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": words, "merges": [["A", "B"], ["AB", "C"]],
        },
    })
}

/// What loads must also read and write text.
#[test]
fn damaged_tokenizers() {
    let whole = tokenizer().to_string();
    tokenizers::Tokenizer::from_bytes(&whole).expect("a good tokenizer");
    damage(8, 120, 0.1, |_, draw| {
        let mut text = whole.clone().into_bytes();
        if draw.below(3) == 0 {
            let span = text.len();
            scramble(&mut text, span, draw);
        } else {
            let mut value = tokenizer();
            for _ in 0..=draw.below(2) {
                change(&mut value, draw);
            }
            text = value.to_string().into_bytes();
        }
        vec![("tokenizer.json".to_owned(), text)]
    });
}

#[test]
fn damaged_indices() {
    damage(7, 50, 0.3, |whole, draw| {
        // Beside a single file of the usual name no index is read.
        let place = whole.folder.path();
        let _ = fs::rename(
            place.join("model.safetensors"),
            place.join("part.safetensors"),
        );
        let mut places = Map::new();
        for name in [
            "lm_head.weight",
            "model.norm.weight",
            "model.embed_tokens.weight",
        ] {
            places.insert(name.to_owned(), json!("part.safetensors"));
        }
        let mut index = json!({"metadata": {"total_size": 1}, "weight_map": places});
        for _ in 0..=draw.below(3) {
            change(&mut index, draw);
        }
        let mut text = index.to_string().into_bytes();
        if draw.below(4) == 0 {
            let span = text.len();
            scramble(&mut text, span, draw);
        }
        vec![("model.safetensors.index.json".to_owned(), text)]
    });
}
