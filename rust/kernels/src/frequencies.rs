//! Frequencies of the rotary embedding, plain or stretched to contexts longer than those trained on.

use std::f64::consts::TAU;

/// How frequencies are stretched; the arithmetic is that of transformers' `modeling_rope_utils`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Scaling {
    #[default]
    Plain,
    /// Every frequency divided by `factor` (Chen et al. 2023).
    Linear { factor: f64 },
    /// Long waves divided by `factor`, short ones kept, those between blended (Llama 3.1).
    Llama3 {
        factor: f64,
        low: f64,
        high: f64,
        /// Positions of the original training.
        original: f64,
    },
    /// Blended by how many turns a dimension makes within the original context (Peng et al. 2023, NTK by parts).
    Yarn {
        factor: f64,
        beta_fast: f64,
        beta_slow: f64,
        original: f64,
        /// What cosines and sines are multiplied by.
        attention: f64,
        /// Whether the ends of the blend are whole dimensions.
        truncate: bool,
    },
}

impl Scaling {
    /// What cosines and sines are multiplied by.
    pub fn attention(self) -> f32 {
        match self {
            Self::Yarn { attention, .. } => attention as f32,
            _ => 1.0,
        }
    }

    /// `rotated` / 2 angles per position: θ^(-2i/rotated), stretched.
    pub fn frequencies(self, rotated: usize, theta: f32) -> Vec<f32> {
        let plain = (0..rotated / 2).map(|i| 1.0 / theta.powf((2 * i) as f32 / rotated as f32));
        match self {
            Self::Plain => plain.collect(),
            Self::Linear { factor } => plain.map(|f| f / factor as f32).collect(),
            Self::Llama3 {
                factor,
                low,
                high,
                original,
            } => plain
                .map(|f| llama3(f64::from(f), factor, low, high, original) as f32)
                .collect(),
            Self::Yarn {
                factor,
                beta_fast,
                beta_slow,
                original,
                truncate,
                ..
            } => {
                let theta = f64::from(theta);
                // The dimension that makes `turns` turns within the original context.
                let dimension = |turns: f64| {
                    rotated as f64 * (original / (turns * TAU)).ln() / (2.0 * theta.ln())
                };
                let (mut low, mut high) = (dimension(beta_fast), dimension(beta_slow));
                if truncate {
                    (low, high) = (low.floor(), high.ceil());
                }
                let (low, mut high) = (low.max(0.0), high.min(rotated as f64 - 1.0));
                if low == high {
                    high += 0.001;
                }
                let blend = |(i, f): (usize, f32)| {
                    let f = f64::from(f);
                    let stretched = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
                    (f / factor * stretched + f * (1.0 - stretched)) as f32
                };
                plain.enumerate().map(blend).collect()
            }
        }
    }
}

fn llama3(frequency: f64, factor: f64, low: f64, high: f64, original: f64) -> f64 {
    let wave = TAU / frequency;
    if wave > original / low {
        frequency / factor
    } else if wave < original / high {
        frequency
    } else {
        let smooth = (original / wave - low) / (high - low);
        (1.0 - smooth) * frequency / factor + smooth * frequency
    }
}
