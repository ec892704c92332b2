//! The rotary part of `config.json`: released files say `rope_theta`, `rope_scaling` and `rotary_dim`, transformers
//! writes `rope_parameters`.

use moevolve_kernels::frequencies::Scaling;
use serde_json::{Map, Value, json};

use crate::family::{Description, Family};
use crate::fields::Fields;
use moevolve_checkpoint::Result;

pub struct Rotary {
    pub rotated: usize,
    pub theta: f64,
    pub scaling: Scaling,
}

const KEYS: [&str; 2] = ["rope_scaling", "rope_parameters"];

/// The object that counts: `rope_scaling` before `rope_parameters`, as in transformers.
pub fn said(map: &Map<String, Value>) -> Option<&Map<String, Value>> {
    KEYS.into_iter()
        .filter_map(|key| map.get(key).and_then(Value::as_object))
        .find(|rope| !rope.is_empty())
}

/// Spells out the rotation of a family whose files may leave it out though it is not the plain one.
pub fn fill(map: &mut Map<String, Value>) {
    let family = map.get("model_type").and_then(Value::as_str);
    if family.and_then(Family::named) == Some(Family::GptOss) && said(map).is_none() {
        let rope = json!({
            "rope_type": "yarn",
            "factor": 32.0,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "truncate": false,
            "original_max_position_embeddings": 4096,
        });
        map.insert("rope_parameters".to_owned(), rope);
    }
}

pub fn rotary(
    fields: &Fields<'_>,
    described: &Description,
    head: usize,
    positions: usize,
) -> Result<Rotary> {
    for key in KEYS {
        match fields.get(key) {
            None => {}
            Some(Value::Object(rope)) => {
                if let Some((kind, _)) = rope.iter().find(|(_, value)| value.is_object()) {
                    let reason = format!("{kind} apart from other layers is not supported");
                    return fields.wrong(key, reason);
                }
            }
            Some(other) => return fields.wrong(key, format!("{other} is not an object")),
        }
    }
    let empty = Map::new();
    let rope = Fields {
        file: fields.file,
        map: said(fields.map).unwrap_or(&empty),
    };
    let theta = match rope.number_or("rope_theta")? {
        Some(theta) => theta,
        None => fields.number("rope_theta", described.theta)?,
    };
    let rotated = rotated(fields, &rope, described, head)?;
    let scaling = scaling(&rope, fields, positions)?;
    Ok(Rotary {
        rotated,
        theta,
        scaling,
    })
}

/// Rotated dimensions of a head: MiniMax-M2 turns a part, every other family the whole.
fn rotated(
    fields: &Fields<'_>,
    rope: &Fields<'_>,
    described: &Description,
    head: usize,
) -> Result<usize> {
    // A factor is a width divided by `head`: its product with it may miss that width by a rounding.
    let whole = |part: f64| {
        let exact = head as f64 * part;
        let near = exact.round();
        if (exact - near).abs() < 1e-6 {
            near
        } else {
            exact
        }
    };
    let rotated = if let Some(part) = rope.number_or("partial_rotary_factor")? {
        whole(part) as usize
    } else if described.family == Family::MiniMaxM2 && fields.get("rotary_dim").is_some() {
        fields.size("rotary_dim")?
    } else {
        whole(fields.number("partial_rotary_factor", described.rotated)?) as usize
    };
    if rotated > head || !rotated.is_multiple_of(2) {
        let reason =
            format!("{rotated} rotated dimensions: an even number up to head_dim {head} is needed");
        return fields.wrong("rotary_dim", reason);
    }
    if rotated < head && !matches!(described.family, Family::MiniMaxM2 | Family::Qwen35Moe) {
        let reason = format!(
            "{rotated} of {head} dimensions: {} rotates whole heads",
            described.model_type
        );
        return fields.wrong("partial_rotary_factor", reason);
    }
    Ok(rotated)
}

fn scaling(rope: &Fields<'_>, fields: &Fields<'_>, positions: usize) -> Result<Scaling> {
    let default = json!("default");
    let (key, kind) = ["rope_type", "type"]
        .into_iter()
        .find_map(|key| rope.get(key).map(|kind| (key, kind)))
        .unwrap_or(("rope_type", &default));
    let needed = |key: &str| match rope.number_or(key)? {
        Some(number) => Ok(number),
        None => rope.wrong(key, "is missing"),
    };
    let original = || -> Result<f64> {
        let key = "original_max_position_embeddings";
        Ok(match fields.number_or(key)? {
            Some(original) => original,
            None => rope.number(key, positions as f64)?,
        })
    };
    match kind.as_str() {
        Some("default") => Ok(Scaling::Plain),
        Some("linear") => Ok(Scaling::Linear {
            factor: needed("factor")?,
        }),
        Some("llama3") => {
            let (low, high) = (needed("low_freq_factor")?, needed("high_freq_factor")?);
            if low >= high {
                let reason = format!("{high} is not above low_freq_factor {low}");
                return rope.wrong("high_freq_factor", reason);
            }
            Ok(Scaling::Llama3 {
                factor: needed("factor")?,
                low,
                high,
                original: original()?,
            })
        }
        Some("yarn") => {
            let original = original()?;
            // Null stands for the ratio of the lengths; transformers wants the key.
            if !rope.map.contains_key("factor") {
                return rope.wrong("factor", "is missing");
            }
            let factor = rope.number("factor", positions as f64 / original)?;
            let attention = match rope.number_or("attention_factor")? {
                Some(attention) => attention,
                None => match (rope.number_or("mscale")?, rope.number_or("mscale_all_dim")?) {
                    (Some(one), Some(all)) => magnitude(factor, one) / magnitude(factor, all),
                    _ => magnitude(factor, 1.0),
                },
            };
            Ok(Scaling::Yarn {
                factor,
                beta_fast: rope.number("beta_fast", 32.0)?,
                beta_slow: rope.number("beta_slow", 1.0)?,
                original,
                attention,
                truncate: rope.flag("truncate", true)?,
            })
        }
        _ => rope.wrong(
            key,
            format!("{kind} is not supported, only default, linear, llama3 and yarn"),
        ),
    }
}

/// Yarn's factor for cosines and sines: 0.1 m ln(factor) + 1.
fn magnitude(factor: f64, scale: f64) -> f64 {
    if factor <= 1.0 {
        1.0
    } else {
        0.1 * scale * factor.ln() + 1.0
    }
}
