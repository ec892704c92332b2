//! The sliding windows that `config.json` speaks of, layer by layer.

use serde_json::{Value, json};

use crate::family::{Description, Window};
use crate::fields::Fields;
use moevolve_checkpoint::Result;

/// What transformers slides over where the file leaves the width out.
const WIDTH: usize = 4096;
/// The same in gpt-oss.
const ALTERNATING: usize = 128;

/// Which layers see the newest keys only; without a list or a size of its own, since a torn file may promise any number of
/// layers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Windows {
    /// Keys that a row sees, its own among them.
    width: usize,
    layers: Slides,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Slides {
    #[default]
    None,
    /// From this one on.
    From(usize),
    /// Every other one, the first among them.
    Alternating,
    /// Those that are marked.
    Listed(Vec<bool>),
}

impl Windows {
    /// The window of a layer, if it has one.
    pub fn of(&self, layer: usize) -> Option<usize> {
        let slides = match &self.layers {
            Slides::None => false,
            Slides::From(first) => layer >= *first,
            Slides::Alternating => layer.is_multiple_of(2),
            Slides::Listed(slides) => slides[layer],
        };
        slides.then_some(self.width)
    }

    /// Whether any of so many layers has one.
    pub fn any(&self, layers: usize) -> bool {
        match &self.layers {
            Slides::None => false,
            Slides::From(first) => *first < layers,
            Slides::Alternating => true,
            Slides::Listed(slides) => slides.contains(&true),
        }
    }
}

/// Those of a network; a window as wide as the context is none.
pub fn read(
    fields: &Fields<'_>,
    described: &Description,
    layers: usize,
    positions: usize,
) -> Result<Windows> {
    let switched = match described.window {
        Window::Never => false,
        Window::Switched | Window::SwitchedLate => fields.flag("use_sliding_window", false)?,
        Window::Refused | Window::Always { .. } | Window::Alternating => true,
    };
    let listed = matches!(described.window, Window::SwitchedLate | Window::Alternating);
    if (!switched || !listed) && !described.extras.linear {
        fields.every("layer_types", &json!("full_attention"))?;
    }
    if !switched {
        return Ok(Windows::default());
    }
    let layers = match described.window {
        _ if listed && fields.get("layer_types").is_some() => kinds(fields, layers)?,
        Window::SwitchedLate => Slides::From(match fields.get("max_window_layers") {
            Some(Value::Number(number)) if number.as_u64() == Some(0) => 0,
            _ => fields.size_or("max_window_layers", Some(28))?,
        }),
        Window::Alternating => Slides::Alternating,
        _ => Slides::From(0),
    };
    let absent = match described.window {
        Window::Always { absent } => absent,
        Window::Refused | Window::Never => None,
        Window::Switched | Window::SwitchedLate => Some(WIDTH),
        Window::Alternating => Some(ALTERNATING),
    };
    let width = match fields.map.get("sliding_window") {
        None => absent,
        Some(Value::Null) => None,
        Some(_) => Some(fields.size("sliding_window")?),
    };
    let slide = match &layers {
        Slides::Listed(slides) => slides.contains(&true),
        _ => true,
    };
    match width {
        None if slide && described.window == Window::Alternating => {
            fields.wrong("sliding_window", "is missing, and layers slide")
        }
        Some(width) if slide && width < positions => {
            if described.window == Window::Refused {
                let reason = format!(
                    "{width} is not supported: attention sees all of up to {positions} positions"
                );
                return fields.wrong("sliding_window", reason);
            }
            Ok(Windows { width, layers })
        }
        _ => Ok(Windows::default()),
    }
}

/// Which layers `layer_types` says to slide.
fn kinds(fields: &Fields<'_>, layers: usize) -> Result<Slides> {
    let list = fields.get("layer_types").and_then(Value::as_array);
    let Some(list) = list.filter(|list| list.len() == layers) else {
        let reason = format!("is no list of the kinds of {layers} layers");
        return fields.wrong("layer_types", reason);
    };
    let slides = |kind: &Value| match kind.as_str() {
        Some("full_attention") => Ok(false),
        Some("sliding_attention") => Ok(true),
        _ => fields.wrong(
            "layer_types",
            format!("{kind} is not supported, only full_attention and sliding_attention"),
        ),
    };
    Ok(Slides::Listed(
        list.iter().map(slides).collect::<Result<_>>()?,
    ))
}
