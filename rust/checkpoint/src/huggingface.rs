//! The weights of a Hugging Face folder: one file or shards with an index, FP8 matrices with their scales.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use moevolve_kernels::stored::{FP8_BLOCK, Format};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::files::{is_there, read_object};
use crate::folder::advice;
use crate::tensors::Tensors;

/// The index of shards, where there are several.
pub const INDEX: &str = "model.safetensors.index.json";
/// The single file of weights.
pub const WEIGHTS: &str = "model.safetensors";

/// What follows an FP8 matrix's name in that of its blocks' scales.
const SCALES: &str = "_scale_inv";

/// Where a folder's weights lie.
#[derive(Debug, Default)]
pub struct WeightFiles {
    pub files: Vec<PathBuf>,
    /// What is blamed for a tensor that nothing places: the single file, or the index.
    pub blamed: PathBuf,
    /// By tensor, the file that the index places it in.
    pub places: BTreeMap<String, PathBuf>,
}

/// The single file, which counts before an index as in transformers, or the files that an index names.
pub fn weight_files(folder: &Path) -> Result<WeightFiles> {
    let (single, index) = (folder.join(WEIGHTS), folder.join(INDEX));
    if is_there(&single) {
        return Ok(WeightFiles {
            files: vec![single.clone()],
            blamed: single,
            places: BTreeMap::new(),
        });
    }
    let Some(map) = read_object(&index)? else {
        let reason = match advice(folder) {
            Some(advice) => format!("has no {WEIGHTS}: {advice}"),
            None => format!("has neither {WEIGHTS} nor {INDEX}"),
        };
        return Err(Error::file(folder, reason));
    };
    let Some(Value::Object(shards)) = map.get("weight_map") else {
        return Err(Error::file(&index, "weight_map is missing"));
    };
    let mut places = BTreeMap::new();
    for (tensor, name) in shards {
        let name = name.as_str().unwrap_or_default();
        let mut parts = Path::new(name).components();
        if !matches!(
            (parts.next(), parts.next()),
            (Some(Component::Normal(_)), None)
        ) {
            return Err(Error::file(
                &index,
                format!("{tensor} is said to lie in {name:?}, outside the folder"),
            ));
        }
        places.insert(tensor.clone(), folder.join(name));
    }
    let files: BTreeSet<&PathBuf> = places.values().collect();
    if let Some(absent) = files.iter().find(|file| !is_there(file)) {
        let name = absent.file_name().unwrap_or_default().display();
        let there = files.iter().filter(|file| is_there(file)).count();
        let reason = format!(
            "places tensors in {name}, which is not there: {there} of its {} files are",
            files.len()
        );
        return Err(Error::file(&index, reason));
    }
    Ok(WeightFiles {
        files: files.into_iter().cloned().collect(),
        blamed: index,
        places,
    })
}

/// Gives each FP8 matrix the scales that its file has beside it.
pub fn join_scales(tensors: &mut Tensors) -> Result<()> {
    let is_scales = |(name, _): &(&String, _)| name.ends_with(SCALES);
    let names: Vec<String> = tensors
        .iter()
        .filter(is_scales)
        .map(|(name, _)| name.clone())
        .collect();
    for name in names {
        let Some(scales) = tensors.remove(&name) else {
            continue;
        };
        let wrong = |reason: String| Error::tensor(&scales.file, &name, reason);
        let matrix = name
            .strip_suffix(SCALES)
            .and_then(|matrix| tensors.get_mut(matrix));
        let Some(matrix) = matrix.filter(|tensor| tensor.format == Format::Fp8) else {
            return Err(wrong("scales no FP8 matrix of this checkpoint".to_owned()));
        };
        let blocks: Vec<usize> = matrix.shape.iter().map(|n| n.div_ceil(FP8_BLOCK)).collect();
        if scales.shape != blocks {
            let reason = format!("has shape {:?}, expected {blocks:?}", scales.shape);
            return Err(wrong(reason));
        }
        matrix.scales = scales.values();
    }
    match tensors
        .iter()
        .find(|(_, tensor)| tensor.format == Format::Fp8 && tensor.scales.is_empty())
    {
        None => Ok(()),
        Some((name, tensor)) => {
            let reason = format!("is FP8, but {name}{SCALES} is missing");
            Err(Error::tensor(&tensor.file, name, reason))
        }
    }
}
