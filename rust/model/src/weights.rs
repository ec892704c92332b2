//! Tensors in and out: safetensors files, Candle tensors, and the flat parameters.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::safetensors::Load;
use candle_core::{DType, Device, Tensor};
use safetensors::{Dtype, SafeTensors};

use crate::checkpoint::write_atomically;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::layout::{Layout, bias_names};
use crate::parameters::Parameters;

/// Candle tensors by released name, and the file each came from.
pub type Tensors = BTreeMap<String, (Tensor, String)>;

/// Reads one safetensors file into `tensors`, under released names.
pub fn read_file(path: &Path, config: &Config, tensors: &mut Tensors) -> Result<()> {
    let file = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|e| Error::file(path, e))?;
    let torn = |e: safetensors::SafeTensorError| {
        Error::file(path, format!("is not a whole safetensors file: {e}"))
    };
    let views = SafeTensors::deserialize(&bytes).map_err(torn)?;
    for (name, view) in views.iter() {
        let wrong = |reason: String| Error::Tensor {
            file: file.clone(),
            name: name.to_owned(),
            reason,
        };
        if !matches!(
            view.dtype(),
            Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F64
        ) {
            return Err(wrong(format!(
                "dtype {:?} is not supported, only F32, BF16, F16 and F64",
                view.dtype()
            )));
        }
        let tensor = view.load(&Device::Cpu).map_err(|e| wrong(e.to_string()))?;
        for (name, tensor) in released(name, tensor, config).map_err(|e| wrong(e.to_string()))? {
            if tensors
                .insert(name.clone(), (tensor, file.clone()))
                .is_some()
            {
                return Err(wrong("comes twice".to_owned()));
            }
        }
    }
    Ok(())
}

/// A tensor under its released name; transformers' fused expert matrices come apart.
fn released(
    name: &str,
    tensor: Tensor,
    config: &Config,
) -> candle_core::Result<Vec<(String, Tensor)>> {
    if config.leaves_unread(name) {
        return Ok(Vec::new());
    }
    let described = config.family.describe();
    let [gate, up, down] = described.expert;
    let name = name.replace(".mlp.", &format!(".{}.", described.block));
    let fused = |suffix: &str| {
        name.strip_suffix(suffix)
            // Other stacks stay whole, and are refused by name.
            .filter(|_| tensor.rank() == 3 && tensor.dims()[0] == config.experts)
            .filter(|_| tensor.elem_count() > 0)
            .map(str::to_owned)
    };
    if let Some(stem) = fused("experts.gate_up_proj") {
        let mut parts = Vec::new();
        for e in 0..tensor.dim(0)? {
            let both = tensor.get(e)?;
            let half = both.dim(0)? / 2;
            parts.push((
                format!("{stem}experts.{e}.{gate}.weight"),
                both.narrow(0, 0, half)?,
            ));
            parts.push((
                format!("{stem}experts.{e}.{up}.weight"),
                both.narrow(0, half, half)?,
            ));
        }
        return Ok(parts);
    }
    if let Some(stem) = fused("experts.down_proj") {
        let part = |e| Ok((format!("{stem}experts.{e}.{down}.weight"), tensor.get(e)?));
        return (0..tensor.dim(0)?).map(part).collect();
    }
    Ok(vec![(name, tensor)])
}

/// Fills parameters from tensors: none missing, none left over, every shape right, every number finite.
///
/// `place` names the checkpoint where a tensor is missing.
pub fn assemble(
    mut tensors: Tensors,
    config: &Config,
    layout: &Layout,
    place: &str,
) -> Result<Parameters> {
    let mut values = vec![0.0; layout.total];
    for named in &layout.named {
        let tensor = take(&mut tensors, &named.name, &named.shape(), place)?;
        named.insert(&tensor, &mut values);
    }
    let mut bias = Vec::new();
    for name in bias_names(config) {
        bias.extend(take(&mut tensors, &name, &[config.experts], place)?);
    }
    if config.tied {
        tensors.remove("lm_head.weight");
    }
    if let Some((name, (_, file))) = tensors.pop_first() {
        let reason = "is not part of this architecture and its configuration".to_owned();
        return Err(Error::Tensor { file, name, reason });
    }
    Ok(Parameters::new(values, bias, layout))
}

fn take(tensors: &mut Tensors, name: &str, shape: &[usize], place: &str) -> Result<Vec<f32>> {
    let Some((tensor, file)) = tensors.remove(name) else {
        let (file, name) = (place.to_owned(), name.to_owned());
        return Err(Error::Tensor {
            file,
            name,
            reason: "is missing".to_owned(),
        });
    };
    let wrong = |reason: String| Error::Tensor {
        file: file.clone(),
        name: name.to_owned(),
        reason,
    };
    if tensor.dims() != shape {
        return Err(wrong(format!(
            "has shape {:?}, expected {shape:?}",
            tensor.dims()
        )));
    }
    let flat = tensor
        .to_dtype(DType::F32)
        .and_then(|t| t.flatten_all())
        .and_then(|t| t.to_vec1::<f32>());
    let values = flat.map_err(|e| wrong(e.to_string()))?;
    match values.iter().position(|x| !x.is_finite()) {
        None => Ok(values),
        Some(at) => Err(wrong(format!("holds {} at flat index {at}", values[at]))),
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
