//! What a folder is that holds no model as it should: advice for the people who gave it.

use std::fs;
use std::path::Path;

/// Weights in forms that are not read, by the beginning or the end of a file's name, and what makes safetensors of them.
const OTHERS: [(&str, &str); 9] = [
    ("pytorch_model", PICKLED),
    (
        "consolidated.",
        "the vendor's own layout: take the files in transformers' layout",
    ),
    (".pth", PICKLED),
    (".pt", PICKLED),
    (".ckpt", PICKLED),
    (".h5", "TensorFlow's"),
    (".msgpack", "Flax's"),
    (".onnx", "ONNX's"),
    (".npz", "NumPy's"),
];

const PICKLED: &str =
    "pickled, which could run code: load it with transformers and save it again (save_pretrained)";

/// What to do about a folder without configuration or weights; None where nothing there tells.
pub fn advice(folder: &Path) -> Option<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .take(MOST)
        .collect();
    names.sort();
    let there = |name: &str| names.iter().any(|found| found == name);
    if there("snapshots") && (there("blobs") || there("refs")) {
        let main = snapshot(folder).unwrap_or_else(|| "REVISION".to_owned());
        return Some(format!(
            "it is a model's folder in the hub's cache: give the folder snapshots/{main} inside"
        ));
    }
    if there("adapter_config.json") {
        return Some(
            "it holds an adapter: give its base model, and this folder as the adapter".to_owned(),
        );
    }
    if let Some(name) = names.iter().find(|name| name.ends_with(".gguf")) {
        return Some(format!("it holds {name}: give that file itself"));
    }
    if there("model_index.json") {
        return Some("it is a pipeline of several models, of which none is read".to_owned());
    }
    let other = |name: &&String| {
        OTHERS
            .iter()
            .any(|(part, _)| name.starts_with(part) || name.ends_with(part))
    };
    if let Some(name) = names.iter().find(other) {
        let form = OTHERS
            .iter()
            .find(|(part, _)| name.starts_with(part) || name.ends_with(part))
            .map_or("", |(_, form)| form);
        return Some(format!("its weights are {name}, {form}"));
    }
    let weights: Vec<&String> = names
        .iter()
        .filter(|name| name.ends_with(".safetensors"))
        .collect();
    match weights[..] {
        [] => None,
        [one] => Some(format!("it holds {one}, which nothing names")),
        [first, ..] => Some(format!(
            "it holds {} safetensors files ({first}, ...), but no index that says what lies in which",
            weights.len()
        )),
    }
}

/// Names of a folder that are looked at.
const MOST: usize = 10_000;

/// The snapshot that `refs/main` names, or the only one.
fn snapshot(folder: &Path) -> Option<String> {
    let inside = |name: &str| folder.join("snapshots").join(name).is_dir();
    let named = crate::files::read_text(&folder.join("refs").join("main")).ok();
    let named = named.map(|text| text.trim().to_owned());
    if let Some(name) = named.filter(|name| !name.is_empty() && name.len() < 100 && inside(name)) {
        return Some(name);
    }
    let mut found = fs::read_dir(folder.join("snapshots")).ok()?;
    let only = found.next()?.ok()?.file_name();
    found
        .next()
        .is_none()
        .then(|| only.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: &[&str]) -> Option<String> {
        let folder = tempfile::tempdir().expect("a folder");
        for name in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("inside")).expect("a folder");
            fs::write(path, "x").expect("a file");
        }
        advice(folder.path())
    }

    #[test]
    fn a_folder_of_the_hubs_cache_is_led_to_its_snapshot() {
        let said = of(&["blobs/1", "refs/main", "snapshots/abc/config.json"]).expect("advice");
        assert!(said.contains("snapshots/abc"), "{said}");
    }

    #[test]
    fn what_is_there_instead_is_named() {
        for (files, named) in [
            (&["adapter_config.json"][..], "adapter"),
            (&["x-Q4_K_M.gguf"], "x-Q4_K_M.gguf"),
            (&["config.json", "pytorch_model.bin"], "save_pretrained"),
            (&["pytorch_model-00001-of-00002.bin"], "pickled"),
            (&["consolidated.safetensors"], "layout"),
            (&["a.safetensors", "b.safetensors"], "no index"),
        ] {
            let said = of(files).expect("advice");
            assert!(said.contains(named), "{said}");
        }
        assert_eq!(of(&["readme.md"]), None);
    }
}
