//! Llama 3 stretches its rotation by frequency; a GGUF file holds the divisors instead of the rule behind them.

use serde_json::{Map, Value, json};

/// How far a divisor may be from what the rule gives: files hold them as f32, from frequencies computed in f32.
const TOLERANCE: f64 = 1e-3;
/// What `original_max_position_embeddings` is taken to be where only its ratio to the bands matters.
const ORIGINAL: f64 = 8192.0;

/// The parameters of a Llama 3 scaling.
#[derive(Clone, Copy, Debug)]
pub struct Llama3 {
    pub factor: f64,
    pub low: f64,
    pub high: f64,
    pub original: f64,
}

impl Llama3 {
    /// As `rope_parameters` of `config.json`.
    pub fn fields(&self) -> Map<String, Value> {
        let fields = json!({
            "rope_type": "llama3",
            "factor": self.factor,
            "low_freq_factor": self.low,
            "high_freq_factor": self.high,
            "original_max_position_embeddings": self.original as u64,
        });
        fields.as_object().cloned().unwrap_or_default()
    }

    /// What each frequency is divided by; between the bands the inverse runs straight (transformers'
    /// `_compute_llama3_parameters`).
    pub fn divisors(&self, theta: f64, rotated: usize) -> Vec<f64> {
        wavelengths(theta, rotated)
            .map(|length| {
                if length < self.original / self.high {
                    1.0
                } else if length > self.original / self.low {
                    self.factor
                } else {
                    let part = (self.original / length - self.low) / (self.high - self.low);
                    1.0 / ((1.0 - part) / self.factor + part)
                }
            })
            .collect()
    }

    /// The rule behind divisors, if there is one.
    pub fn fit(divisors: &[f32], theta: f64) -> Option<Self> {
        let factor = f64::from(divisors.iter().copied().fold(1.0, f32::max));
        let lengths = wavelengths(theta, 2 * divisors.len());
        // Each point between the bands: (1 / wavelength, part), on the line part = a / wavelength - b.
        let between: Vec<(f64, f64)> = divisors
            .iter()
            .zip(lengths)
            .filter(|&(&d, _)| d > 1.0 + 1e-4 && f64::from(d) < factor * (1.0 - 1e-4))
            .map(|(&d, length)| {
                let part = (1.0 / f64::from(d) - 1.0 / factor) / (1.0 - 1.0 / factor);
                (1.0 / length, part)
            })
            .collect();
        let usual = Self {
            factor,
            low: 1.0,
            high: 4.0,
            original: ORIGINAL,
        };
        let mut candidates = vec![usual];
        // The usual bands around another original length, which one point between them tells.
        let other = |original: f64| Self {
            original: original.round(),
            ..usual
        };
        candidates.extend(between.last().map(|&(x, y)| other((1.0 + 3.0 * y) / x)));
        if let (Some(&(x, y)), Some(&(z, w))) = (between.first(), between.last())
            && x != z
        {
            let slope = (y - w) / (x - z);
            let high_less_low = ORIGINAL / slope;
            let low = (slope * x - y) * high_less_low;
            candidates.push(Self {
                low,
                high: low + high_less_low,
                ..usual
            });
        }
        // No point between the bands: anywhere in the gap.
        let lengths: Vec<f64> = wavelengths(theta, 2 * divisors.len()).collect();
        let step = divisors.iter().position(|&d| d > 1.0);
        if let Some(&[short, long]) = step
            .filter(|&at| at > 0)
            .and_then(|at| lengths[at - 1..=at].first_chunk::<2>())
        {
            candidates.push(other(2.0 * (short * long).sqrt()));
        } else {
            candidates.push(other(lengths.first().map_or(1.0, |length| length / 2.0)));
        }
        let agrees = |rule: &Self| {
            let expected = rule.divisors(theta, 2 * divisors.len());
            let sound = rule.original >= 1.0
                && rule.low > 0.0
                && rule.high > rule.low
                && rule.factor >= 1.0;
            sound
                && expected
                    .iter()
                    .zip(divisors)
                    .all(|(e, &d)| (e - f64::from(d)).abs() <= TOLERANCE * e)
        };
        candidates.into_iter().find(agrees)
    }
}

fn wavelengths(theta: f64, rotated: usize) -> impl Iterator<Item = f64> {
    (0..rotated / 2)
        .map(move |i| std::f64::consts::TAU * theta.powf(2.0 * i as f64 / rotated as f64))
}
