//! The weights of a Hugging Face folder: one file or shards with an index, FP8 matrices with their scales.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use moevolve_kernels::stored::{FP8_BLOCK, Format};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::files::read_object;
use crate::tensors::Tensors;

/// The index of shards, where there are several.
pub const INDEX: &str = "model.safetensors.index.json";
/// The single file of weights.
pub const WEIGHTS: &str = "model.safetensors";

/// What follows an FP8 matrix's name in that of its blocks' scales.
const SCALES: &str = "_scale_inv";

/// The files that an index names, or the single file.
pub fn weight_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let index = folder.join(INDEX);
    let Some(map) = read_object(&index)? else {
        return Ok(vec![folder.join(WEIGHTS)]);
    };
    let Some(Value::Object(shards)) = map.get("weight_map") else {
        return Err(Error::file(&index, "weight_map is missing"));
    };
    let mut names = BTreeSet::new();
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
        names.insert(name);
    }
    Ok(names.into_iter().map(|name| folder.join(name)).collect())
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
