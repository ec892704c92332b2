//! What `config.json` says of layers with linear attention.

use moevolve_kernels::delta::Sizes;
use serde_json::Value;

use crate::family::Description;
use crate::fields::Fields;
use moevolve_checkpoint::Result;

/// Which layers are linear, and their sizes; without a list of its own where the file has none.
#[derive(Clone, Debug)]
pub struct Linear {
    pub sizes: Sizes,
    kinds: Kinds,
}

#[derive(Clone, Debug)]
enum Kinds {
    /// All but every one of so many.
    Interval(usize),
    Listed(Vec<bool>),
}

impl Linear {
    pub fn is(&self, layer: usize) -> bool {
        match &self.kinds {
            Kinds::Interval(every) => !(layer + 1).is_multiple_of(*every),
            Kinds::Listed(linear) => linear[layer],
        }
    }

    /// How many of so many layers are.
    pub fn count(&self, layers: usize) -> usize {
        match &self.kinds {
            Kinds::Interval(every) => layers - layers / every,
            Kinds::Listed(linear) => linear.iter().filter(|linear| **linear).count(),
        }
    }
}

pub fn read(fields: &Fields<'_>, described: &Description, layers: usize) -> Result<Option<Linear>> {
    if !described.extras.linear {
        return Ok(None);
    }
    let size = |key: &str, absent: usize| fields.size_or(key, Some(absent));
    let sizes = Sizes {
        key_heads: size("linear_num_key_heads", 16)?,
        value_heads: size("linear_num_value_heads", 32)?,
        key: size("linear_key_head_dim", 128)?,
        value: size("linear_value_head_dim", 128)?,
        taps: size("linear_conv_kernel_dim", 4)?,
    };
    if !sizes.value_heads.is_multiple_of(sizes.key_heads) {
        let (keys, values) = (sizes.key_heads, sizes.value_heads);
        let reason = format!("{keys} does not divide {values} value heads");
        return fields.wrong("linear_num_key_heads", reason);
    }
    if sizes.taps > moevolve_kernels::LANES {
        let reason = format!("{} is above {}", sizes.taps, moevolve_kernels::LANES);
        return fields.wrong("linear_conv_kernel_dim", reason);
    }
    let kinds = match fields.get("layer_types") {
        None => Kinds::Interval(size("full_attention_interval", 4)?),
        Some(list) => Kinds::Listed(listed(fields, list, layers)?),
    };
    Ok(Some(Linear { sizes, kinds }))
}

fn listed(fields: &Fields<'_>, list: &Value, layers: usize) -> Result<Vec<bool>> {
    let Some(list) = list.as_array().filter(|list| list.len() == layers) else {
        let reason = format!("is no list of the kinds of {layers} layers");
        return fields.wrong("layer_types", reason);
    };
    let linear = |kind: &Value| match kind.as_str() {
        Some("full_attention") => Ok(false),
        Some("linear_attention") => Ok(true),
        _ => fields.wrong(
            "layer_types",
            format!("{kind} is not supported, only full_attention and linear_attention"),
        ),
    };
    list.iter().map(linear).collect()
}
