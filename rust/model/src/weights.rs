//! Tensors in and out: safetensors files, mapped or written through Candle, and the flat parameters.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use moevolve_kernels::stored::{FP8_BLOCK, Format};

use crate::checkpoint::write_atomically;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::layout::{Layout, bias_names};
use crate::parameters::Parameters;
use crate::raw::{self, Raw};

/// Tensors by released name.
pub type Raws = BTreeMap<String, Raw>;

/// What follows an FP8 matrix's name in that of its blocks' scales.
const SCALES: &str = "_scale_inv";

/// Maps one safetensors file into `raws`, under released names.
pub fn read_file(path: &Path, config: &Config, raws: &mut Raws) -> Result<()> {
    for (name, raw) in raw::safetensors(path)? {
        let place = raw.place.clone();
        for (name, raw) in released(&name, raw, config) {
            if raws.insert(name.clone(), raw).is_some() {
                let reason = "comes twice".to_owned();
                return Err(Error::Tensor {
                    file: place,
                    name,
                    reason,
                });
            }
        }
    }
    Ok(())
}

/// A tensor under its released name; transformers' fused expert matrices come apart.
fn released(name: &str, raw: Raw, config: &Config) -> Vec<(String, Raw)> {
    if config.leaves_unread(name) {
        return Vec::new();
    }
    let described = config.family.describe();
    let [gate, up, down] = described.expert;
    let name = name.replace(".mlp.", &format!(".{}.", described.block));
    let fused = |suffix: &str| {
        name.strip_suffix(suffix)
            // Other stacks stay whole, and are refused by name.
            .filter(|_| raw.shape.len() == 3 && raw.shape[0] == config.experts)
            .filter(|_| !raw.bytes().is_empty())
            .map(str::to_owned)
    };
    if let Some(stem) = fused("experts.gate_up_proj") {
        let both = |e| {
            let both = raw.rows(e..e + 1);
            let half = both.shape[0] / 2;
            [
                (
                    format!("{stem}experts.{e}.{gate}.weight"),
                    both.rows(0..half),
                ),
                (
                    format!("{stem}experts.{e}.{up}.weight"),
                    both.rows(half..2 * half),
                ),
            ]
        };
        return (0..raw.shape[0]).flat_map(both).collect();
    }
    if let Some(stem) = fused("experts.down_proj") {
        let part = |e| {
            (
                format!("{stem}experts.{e}.{down}.weight"),
                raw.rows(e..e + 1),
            )
        };
        return (0..raw.shape[0]).map(part).collect();
    }
    vec![(name, raw)]
}

/// Gives each FP8 matrix the scales that its file has beside it.
pub fn join_scales(raws: &mut Raws) -> Result<()> {
    let names: Vec<String> = raws
        .keys()
        .filter(|name| name.ends_with(SCALES))
        .cloned()
        .collect();
    for name in names {
        let Some(scales) = raws.remove(&name) else {
            continue;
        };
        let wrong = |reason: String| Error::Tensor {
            file: scales.place.clone(),
            name: name.clone(),
            reason,
        };
        let matrix = name
            .strip_suffix(SCALES)
            .and_then(|matrix| raws.get_mut(matrix));
        let Some(matrix) = matrix.filter(|raw| raw.format == Format::Fp8) else {
            return Err(wrong("scales no FP8 matrix of this checkpoint".to_owned()));
        };
        let blocks: Vec<usize> = matrix.shape.iter().map(|n| n.div_ceil(FP8_BLOCK)).collect();
        if scales.shape != blocks {
            return Err(wrong(format!(
                "has shape {:?}, expected {blocks:?}",
                scales.shape
            )));
        }
        matrix.scales = scales.values();
    }
    match raws
        .iter()
        .find(|(_, raw)| raw.format == Format::Fp8 && raw.scales.is_empty())
    {
        None => Ok(()),
        Some((name, raw)) => Err(Error::Tensor {
            file: raw.place.clone(),
            name: name.clone(),
            reason: format!("is FP8, but {name}{SCALES} is missing"),
        }),
    }
}

/// Fills trainable parameters from tensors: none missing, none left over, every shape right, every number finite.
///
/// `place` names the checkpoint where a tensor is missing.
pub fn assemble(
    mut raws: Raws,
    config: &Config,
    layout: &Layout,
    place: &str,
) -> Result<Parameters> {
    let mut values = vec![0.0; layout.total];
    for named in &layout.named {
        let raw = take(&mut raws, &named.name, &named.shape(), place)?;
        named.insert(&finite(&named.name, &raw)?, &mut values);
    }
    let mut bias = Vec::new();
    for name in bias_names(config) {
        let raw = take(&mut raws, &name, &[config.experts], place)?;
        bias.extend(finite(&name, &raw)?);
    }
    nothing_left(raws, config)?;
    Ok(Parameters::new(values, bias, layout))
}

/// Refuses tensors that nothing took.
pub fn nothing_left(mut raws: Raws, config: &Config) -> Result<()> {
    if config.tied {
        raws.remove("lm_head.weight");
    }
    match raws.pop_first() {
        None => Ok(()),
        Some((name, raw)) => Err(Error::Tensor {
            file: raw.place,
            name,
            reason: "is not part of this architecture and its configuration".to_owned(),
        }),
    }
}

/// Takes a tensor of this shape out.
pub fn take(raws: &mut Raws, name: &str, shape: &[usize], place: &str) -> Result<Raw> {
    let wrong = |file: &str, reason: String| Error::Tensor {
        file: file.to_owned(),
        name: name.to_owned(),
        reason,
    };
    let raw = raws
        .remove(name)
        .ok_or_else(|| wrong(place, "is missing".to_owned()))?;
    if raw.shape != shape {
        let reason = format!("has shape {:?}, expected {shape:?}", raw.shape);
        return Err(wrong(&raw.place, reason));
    }
    Ok(raw)
}

/// A tensor's numbers, none of which may be infinite or NaN.
pub fn finite(name: &str, raw: &Raw) -> Result<Vec<f32>> {
    let values = raw.values();
    match values.iter().position(|x| !x.is_finite()) {
        None => Ok(values),
        Some(at) => Err(not_finite(name, raw, at, values[at])),
    }
}

/// The error for a number that is not finite.
pub fn not_finite(name: &str, raw: &Raw, at: usize, value: f32) -> Error {
    Error::Tensor {
        file: raw.place.clone(),
        name: name.to_owned(),
        reason: format!("holds {value} at flat index {at}"),
    }
}

/// Every tensor as a Candle tensor under its released name; the selection biases last.
pub fn tensors(
    values: &[f32],
    bias: Option<&[f32]>,
    config: &Config,
    layout: &Layout,
) -> candle_core::Result<Vec<(String, Tensor)>> {
    let tensor =
        |values: Vec<f32>, shape: Vec<usize>| Tensor::from_vec(values, shape, &Device::Cpu);
    let mut out = Vec::with_capacity(layout.named.len() + config.layers);
    for named in &layout.named {
        out.push((
            named.name.clone(),
            tensor(named.extract(values), named.shape())?,
        ));
    }
    let biases = bias.unwrap_or(&[]).chunks(config.experts);
    for (name, bias) in bias_names(config).into_iter().zip(biases) {
        out.push((name, tensor(bias.to_vec(), vec![config.experts])?));
    }
    Ok(out)
}

/// Writes a safetensors file atomically; returns the BLAKE3 hash of its bytes in hex.
pub fn write_file(
    path: &Path,
    parameters: &Parameters,
    config: &Config,
    layout: &Layout,
    dtype: DType,
) -> Result<String> {
    let failed = |e: candle_core::Error| Error::file(path, e);
    let mut named =
        tensors(&parameters.values, Some(&parameters.bias), config, layout).map_err(failed)?;
    for (name, tensor) in &mut named {
        // Biases of about 6 steer selections by their third digit: bf16 would round it away.
        if !name.ends_with("e_score_correction_bias") {
            let largest = f32::from(half::f16::MAX);
            let values = || tensor.flatten_all()?.to_vec1::<f32>();
            if dtype == DType::F16
                && let Some(x) = values().map_err(failed)?.iter().find(|x| x.abs() > largest)
            {
                return Err(Error::Tensor {
                    file: path.display().to_string(),
                    name: name.clone(),
                    reason: format!("holds {x}, which f16 cannot: save as bf16 or f32"),
                });
            }
            *tensor = tensor.to_dtype(dtype).map_err(failed)?;
        }
    }
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let bytes = safetensors::serialize(named, Some(metadata)).map_err(|e| Error::file(path, e))?;
    write_atomically(path, &bytes)?;
    Ok(blake3::hash(&bytes).to_hex().to_string())
}

/// BLAKE3 over every tensor's name, shape and f32 values in canonical order, selection biases included.
pub fn fingerprint(parameters: &Parameters, config: &Config, layout: &Layout) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut update = |name: &str, shape: &[usize], values: &[f32]| {
        hasher.update(format!("{name} {shape:?}\n").as_bytes());
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        hasher.update(&bytes);
    };
    for named in &layout.named {
        update(
            &named.name,
            &named.shape(),
            &named.extract(&parameters.values),
        );
    }
    for (layer, name) in bias_names(config).iter().enumerate() {
        let bias = parameters.bias(layer, config.experts);
        update(name, &[config.experts], bias);
    }
    hasher.finalize().to_hex().to_string()
}
