//! What training minimises: cross-entropy, or a policy's loss over sampled answers, token by token.
//!
//! With r = π / π_old of a token and A its advantage, a token's loss is
//! - CISPO (MiniMax-M1, 2025): -min(r, 1 + high) A ln π, the weight not differentiated: no token loses its gradient;
//! - GRPO (DeepSeekMath, 2024), DAPO (2025), Dr. GRPO (2025): -min(r A, clip(r, 1 - low, 1 + high) A);
//!
//! plus `kl` times the estimate e^d - d - 1, d = ln π_ref - ln π. They differ in what a sum of tokens is divided by: GRPO
//! means within each answer and then over answers, DAPO and CISPO over all tokens, Dr. GRPO by a fixed length.

use crate::batch::Positions;
use crate::error::{Error, Result};

/// Which loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Cispo,
    Grpo,
    Dapo,
    DrGrpo,
}

/// A policy's loss.
#[derive(Clone, Copy, Debug)]
pub struct Objective {
    pub kind: Kind,
    pub low: f32,
    pub high: f32,
    /// Weight of the divergence from a reference.
    pub kl: f32,
    /// Tokens that Dr. GRPO divides each answer's sum by.
    pub length: usize,
}

impl Objective {
    /// Checks every part; `name` is `cispo`, `grpo`, `dapo` or `dr_grpo`.
    pub fn new(name: &str, low: f32, high: f32, kl: f32, length: usize) -> Result<Self> {
        let wrong = |what: String| Err(Error::Request(what));
        let kind = match name {
            "cispo" => Kind::Cispo,
            "grpo" => Kind::Grpo,
            "dapo" => Kind::Dapo,
            "dr_grpo" => Kind::DrGrpo,
            _ => {
                return wrong(format!(
                    "loss {name:?} is unknown: cispo, grpo, dapo or dr_grpo; train_step is for sft"
                ));
            }
        };
        let amount = |x: f32| x.is_finite() && x >= 0.0;
        if !(amount(low) && low <= 1.0 && amount(high) && amount(kl)) {
            return wrong(format!(
                "clip_low lies in [0, 1], clip_high and kl are finite and not negative, not {low}, {high}, {kl}"
            ));
        }
        if kind == Kind::DrGrpo && length == 0 {
            return wrong("dr_grpo divides by a fixed length: give length, in tokens".to_owned());
        }
        Ok(Self {
            kind,
            low,
            high,
            kl,
            length,
        })
    }

    /// What each token of an answer of `tokens` counts in the loss of a batch of `answers` with `all` tokens.
    pub fn share(&self, tokens: usize, all: usize, answers: usize) -> f64 {
        let answers = answers as f64;
        1.0 / match self.kind {
            Kind::Cispo | Kind::Dapo => all as f64,
            Kind::Grpo => answers * tokens as f64,
            Kind::DrGrpo => answers * self.length as f64,
        }
    }

    /// One token.
    pub fn token(&self, target: TokenTarget, logprob: f32) -> Token {
        let new = f64::from(logprob);
        let advantage = f64::from(target.advantage);
        let apart = new - f64::from(target.old);
        let ratio = apart.exp();
        let (low, high) = (1.0 - f64::from(self.low), 1.0 + f64::from(self.high));
        let (mut loss, mut slope, clipped);
        if self.kind == Kind::Cispo {
            let weight = ratio.min(high);
            clipped = ratio > high;
            loss = -weight * advantage * new;
            slope = -weight * advantage;
        } else {
            let (free, bound) = (ratio * advantage, ratio.clamp(low, high) * advantage);
            clipped = bound < free;
            loss = -free.min(bound);
            slope = if clipped { 0.0 } else { -free };
        }
        let mut divergence = 0.0;
        if let Some(reference) = target.reference {
            let d = f64::from(reference) - new;
            divergence = d.exp() - d - 1.0;
            loss += f64::from(self.kl) * divergence;
            slope += f64::from(self.kl) * (1.0 - d.exp());
        }
        Token {
            loss,
            slope,
            clipped,
            ratio,
            apart,
            divergence,
        }
    }
}

/// What the output rows of a batch are to say, and how it counts.
pub struct LossTargets<'a> {
    /// One a row.
    pub tokens: &'a [u32],
    /// Each row's share in the loss of the batch.
    pub scale: &'a mut [f32],
    /// A policy's objective and each row's target, where the loss is not cross-entropy.
    pub policy: Option<(&'a Objective, &'a [TokenTarget])>,
}

/// What a policy's loss of one token depends on beside its log-probability.
#[derive(Clone, Copy, Debug)]
pub struct TokenTarget {
    pub advantage: f32,
    /// Log-probability under the policy that drew it.
    pub old: f32,
    /// Log-probability under the reference.
    pub reference: Option<f32>,
}

/// A token's loss, not yet divided, its slope by the log-probability, and what is told of it.
#[derive(Clone, Copy, Debug)]
pub struct Token {
    pub loss: f64,
    pub slope: f64,
    pub clipped: bool,
    pub ratio: f64,
    /// ln of the ratio.
    pub apart: f64,
    pub divergence: f64,
}

/// A sampled answer: `ids[answer_start..]`.
#[derive(Clone, Debug)]
pub struct Rollout {
    pub ids: Vec<u32>,
    pub answer_start: usize,
    pub positions: Positions,
    /// One a token of the answer.
    pub advantages: Vec<f32>,
    pub old: Vec<f32>,
    /// One a token, or none.
    pub reference: Vec<f32>,
    /// Updates of the weights since it was drawn.
    pub age: u32,
}

impl Rollout {
    pub fn target(&self, token: usize) -> TokenTarget {
        TokenTarget {
            advantage: self.advantages[token],
            old: self.old[token],
            reference: self.reference.get(token).copied(),
        }
    }
}

/// Sums over the tokens of a batch.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sums {
    pub tokens: usize,
    pub clipped: usize,
    pub ratio: f64,
    pub largest_ratio: f64,
    /// (r - 1) - ln r: divergence from the policy that drew the answers (Schulman's k3).
    pub drift: f64,
    /// Of the distance of log-probabilities.
    pub apart: f64,
    pub divergence: f64,
    /// Nats.
    pub entropy: f64,
}

impl Sums {
    pub fn add(&mut self, token: &Token, entropy: f32) {
        self.tokens += 1;
        self.clipped += usize::from(token.clipped);
        self.ratio += token.ratio;
        self.largest_ratio = self.largest_ratio.max(token.ratio);
        self.drift += token.ratio - 1.0 - token.apart;
        self.apart += token.apart.abs();
        self.divergence += token.divergence;
        self.entropy += f64::from(entropy);
    }

    pub fn join(&mut self, other: &Self) {
        self.tokens += other.tokens;
        self.clipped += other.clipped;
        self.ratio += other.ratio;
        self.largest_ratio = self.largest_ratio.max(other.largest_ratio);
        self.drift += other.drift;
        self.apart += other.apart;
        self.divergence += other.divergence;
        self.entropy += other.entropy;
    }
}
