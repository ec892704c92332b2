//! How a sample is drawn: what bends the logits, what cuts them, and when it ends.

use std::collections::HashMap;

use moevolve_constrain::{Constraint, Walk};
use moevolve_kernels::sample::{Cuts, uniform};
use moevolve_model::draw::{Choice, Draw, DrawnToken};
use moevolve_model::{Error, Result};

pub use moevolve_model::draw::Top;

/// Alternatives that are told with a token, at most.
pub const MOST_TOP: usize = 20;

/// Settings of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    pub max_tokens: usize,
    /// 0 is greedy.
    pub temperature: f32,
    pub top_k: usize,
    pub top_p: f32,
    pub min_p: f32,
    /// Taken off a token's logit for each time that the sample has it.
    pub frequency_penalty: f32,
    /// Taken off the logit of each token that the sample has.
    pub presence_penalty: f32,
    /// Divides the positive, multiplies the negative logits of tokens in the prompt or the sample (Keskar et al. 2019).
    pub repetition_penalty: f32,
    /// Added to tokens' logits, after the penalties.
    pub bias: Vec<(u32, f32)>,
    /// Tokens that end a sample besides the model's own.
    pub stop: Vec<u32>,
    /// The model's end tokens are tokens like others.
    pub ignore_eos: bool,
    /// No end token comes before so many others.
    pub min_tokens: usize,
    /// The only tokens that may come, end tokens among them; empty for all.
    pub allowed: Vec<u32>,
    /// What the text must be.
    pub constraint: Option<Constraint>,
    /// Alternatives told with each token.
    pub top: usize,
    /// Most tokens drafted ahead from the text so far.
    pub speculate: usize,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            max_tokens: 64,
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            repetition_penalty: 1.0,
            bias: Vec::new(),
            stop: Vec::new(),
            ignore_eos: false,
            min_tokens: 0,
            allowed: Vec::new(),
            constraint: None,
            top: 0,
            speculate: 0,
        }
    }
}

impl Sampling {
    /// Refuses what means nothing.
    pub fn check(&self, vocabulary: usize) -> Result<()> {
        let wrong = |what: &str| Err(Error::Request(what.to_owned()));
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return wrong("a temperature is finite and not negative");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return wrong("top_p lies in (0, 1]");
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return wrong("min_p lies in [0, 1]");
        }
        if !(self.frequency_penalty.is_finite() && self.presence_penalty.is_finite()) {
            return wrong("frequency and presence penalties are finite");
        }
        if !(self.repetition_penalty > 0.0 && self.repetition_penalty.is_finite()) {
            return wrong("a repetition penalty is finite and above 0");
        }
        if self.top > MOST_TOP {
            return Err(Error::Request(format!(
                "{} alternatives a token are more than {MOST_TOP}",
                self.top
            )));
        }
        if self.constraint.is_some() && self.ignore_eos {
            return wrong("a text that is held to a form ends where it does: leave ignore_eos out");
        }
        if self.bias.iter().any(|(_, by)| !by.is_finite()) {
            return wrong("a logit bias is finite");
        }
        let biased = self.bias.iter().map(|(token, _)| token);
        match biased
            .chain(&self.stop)
            .chain(&self.allowed)
            .find(|&&token| token as usize >= vocabulary)
        {
            None => Ok(()),
            Some(token) => Err(Error::Request(format!(
                "token {token} of logit_bias, stop or allowed tokens is outside the vocabulary of {vocabulary}"
            ))),
        }
    }

    fn penalises(&self) -> bool {
        self.frequency_penalty != 0.0
            || self.presence_penalty != 0.0
            || self.repetition_penalty != 1.0
    }

    /// How the draw of a key and a count is made.
    fn choice(&self, key: u64, count: usize) -> Choice {
        if self.temperature == 0.0 {
            return Choice::Greedy;
        }
        Choice::Random {
            cuts: Cuts {
                temperature: self.temperature,
                top_k: self.top_k,
                top_p: self.top_p,
                min_p: self.min_p,
            },
            uniform: uniform(key, count as u64),
        }
    }
}

/// Why a sample ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// An end token came.
    Stop,
    /// The limit of tokens, or of the model's positions, is reached.
    Length,
    Cancelled,
    /// Its constraint has become too complex to say what may come next.
    Unconstrained,
    /// The logits of its next token give no distribution: one is NaN or +inf, or none is above -inf.
    NotFinite,
}

impl Finish {
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Cancelled => "cancelled",
            Self::Unconstrained => "unconstrained",
            Self::NotFinite => "not_finite",
        }
    }
}

/// What was drawn and has not been told yet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Drawn {
    /// Without the end token.
    pub tokens: Vec<u32>,
    /// At temperature 1, before penalties and biases; the end token's included.
    pub logprobs: Vec<f32>,
    /// One list a log-probability, if alternatives were asked for.
    pub top: Vec<Top>,
}

/// One sample's draws: a function of the logits, its key, and what it has drawn.
#[derive(Debug)]
pub struct Draws {
    /// Its index in the request.
    pub sample: usize,
    key: u64,
    most: usize,
    /// Tokens so far, the end token not among them.
    pub count: usize,
    /// How often each token of the sample came, with 0 for those of the prompt; kept for penalties only.
    seen: HashMap<u32, u32>,
    /// Where the text stands in the grammar that it is held to.
    walk: Option<Box<Walk>>,
    pub news: Drawn,
    pub finish: Option<Finish>,
}

impl Draws {
    pub fn new(sample: usize, key: u64, most: usize, sampling: &Sampling, prompt: &[u32]) -> Self {
        let seen = if sampling.penalises() {
            prompt.iter().map(|&token| (token, 0)).collect()
        } else {
            HashMap::new()
        };
        Self {
            sample,
            key,
            most,
            count: 0,
            seen,
            walk: sampling
                .constraint
                .as_ref()
                .map(|constraint| Box::new(constraint.begin())),
            news: Drawn::default(),
            finish: None,
        }
    }

    /// Tokens that may still come.
    pub fn left(&self) -> usize {
        self.most - self.count
    }

    /// The next draw, from a row of logits.
    pub fn next(&self, sampling: &Sampling, row: usize) -> Draw {
        Draw {
            row,
            choice: sampling.choice(self.key, self.count),
            bent: !(self.seen.is_empty()
                && sampling.bias.is_empty()
                && sampling.allowed.is_empty()
                && self.walk.is_none()
                && self.count >= sampling.min_tokens),
            top: sampling.top,
        }
    }

    /// Takes what was drawn; the token, or None for an end token, of which `eos` are the model's.
    pub fn take(&mut self, sampling: &Sampling, eos: &[u32], drawn: DrawnToken) -> Option<u32> {
        let DrawnToken {
            token,
            logprob,
            top,
        } = drawn;
        self.news.logprobs.push(logprob);
        if sampling.top > 0 {
            self.news.top.push(top);
        }
        let ends = !sampling.ignore_eos && eos.contains(&token);
        if ends || sampling.stop.contains(&token) {
            self.finish = Some(Finish::Stop);
            return None;
        }
        if self.walk.as_mut().is_some_and(|walk| !walk.take(token)) {
            self.finish = Some(Finish::Unconstrained);
            return None;
        }
        if sampling.penalises() {
            *self.seen.entry(token).or_default() += 1;
        }
        self.news.tokens.push(token);
        self.count += 1;
        if self.count == self.most {
            self.finish = Some(Finish::Length);
        }
        Some(token)
    }

    /// Applies penalties, biases, and what may not come; false, and the sample ends, where nobody can tell what may.
    pub fn bend(&mut self, sampling: &Sampling, eos: &[u32], logits: &mut [f32]) -> bool {
        for (&token, &count) in &self.seen {
            let x = &mut logits[token as usize];
            let factor = sampling.repetition_penalty;
            put(x, if *x > 0.0 { *x / factor } else { *x * factor });
            if count > 0 {
                let penalty = sampling.frequency_penalty * count as f32;
                put(x, *x - (penalty + sampling.presence_penalty));
            }
        }
        for &(token, by) in &sampling.bias {
            let x = &mut logits[token as usize];
            put(x, *x + by);
        }
        if !sampling.allowed.is_empty() {
            let ids = sampling.allowed.iter().map(|&id| id as usize);
            let kept: Vec<(usize, f32)> = ids.map(|id| (id, logits[id])).collect();
            logits.fill(f32::NEG_INFINITY);
            for (id, logit) in kept {
                logits[id] = logit;
            }
        }
        let masked = self.walk.as_mut().is_none_or(|walk| walk.mask(logits));
        if self.count < sampling.min_tokens {
            let eos = if sampling.ignore_eos { &[] } else { eos };
            let ends: Vec<usize> = eos
                .iter()
                .chain(&sampling.stop)
                .map(|&id| id as usize)
                .collect();
            let other = |(id, &x): (usize, &f32)| x > f32::NEG_INFINITY && !ends.contains(&id);
            // A text that its form has brought to its end ends all the same.
            if logits.iter().enumerate().any(other) {
                ends.iter().for_each(|&end| logits[end] = f32::NEG_INFINITY);
            }
        }
        let any = masked && logits.iter().any(|&x| x > f32::NEG_INFINITY);
        if !any {
            self.finish = Some(Finish::Unconstrained);
        }
        any
    }
}

/// Makes of a logit what settings say. They add up to no infinity: that would bar a token or all others.
fn put(logit: &mut f32, bent: f32) {
    if *logit != f32::NEG_INFINITY {
        *logit = bent.clamp(-f32::MAX, f32::MAX);
    }
}
