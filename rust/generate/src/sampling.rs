//! How a sample is drawn: what bends the logits, what cuts them, and when it ends.

use std::collections::HashMap;

use moevolve_kernels::loss::log_sum_exp;
use moevolve_kernels::sample::{Cuts, draw, greedy, largest, uniform};
use moevolve_model::backend::Host;
use moevolve_model::{Error, Result};

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
        if self.bias.iter().any(|(_, by)| !by.is_finite()) {
            return wrong("a logit bias is finite");
        }
        let biased = self.bias.iter().map(|(token, _)| token);
        match biased
            .chain(&self.stop)
            .find(|&&token| token as usize >= vocabulary)
        {
            None => Ok(()),
            Some(token) => Err(Error::Request(format!(
                "token {token} of logit_bias or stop is outside the vocabulary of {vocabulary}"
            ))),
        }
    }

    fn penalises(&self) -> bool {
        self.frequency_penalty != 0.0
            || self.presence_penalty != 0.0
            || self.repetition_penalty != 1.0
    }

    fn cuts(&self) -> Cuts {
        Cuts {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
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
}

impl Finish {
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Likeliest tokens with their log-probabilities at temperature 1.
pub type Top = Vec<(u32, f32)>;

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

/// One thread's memory for draws.
#[derive(Default)]
pub struct Scratch {
    logits: Vec<f32>,
    weights: Vec<(f64, usize)>,
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
            news: Drawn::default(),
            finish: None,
        }
    }

    /// Tokens that may still come.
    pub fn left(&self) -> usize {
        self.most - self.count
    }

    /// Draws the next token from a padded row of logits; None for an end token.
    pub fn draw(
        &mut self,
        host: Host<'_>,
        sampling: &Sampling,
        row: &[f32],
        scratch: &mut Scratch,
    ) -> Option<u32> {
        let vocabulary = host.config.vocabulary;
        let Scratch { logits, weights } = scratch;
        let bent = self.bend(sampling, &row[..vocabulary], logits);
        let token = if sampling.temperature == 0.0 {
            greedy(bent)
        } else {
            draw(
                bent,
                sampling.cuts(),
                uniform(self.key, self.count as u64),
                weights,
            )
        };
        let mass = log_sum_exp(host.isa, vocabulary, row);
        self.news.logprobs.push(row[token] - mass);
        if sampling.top > 0 {
            let top = largest(&row[..vocabulary], sampling.top);
            let told = top.into_iter().map(|(i, x)| (i as u32, x - mass));
            self.news.top.push(told.collect());
        }
        let token = token as u32;
        let ends = !sampling.ignore_eos && host.config.eos.contains(&token);
        if ends || sampling.stop.contains(&token) {
            self.finish = Some(Finish::Stop);
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

    /// The logits after penalties and biases.
    fn bend<'a>(&self, sampling: &Sampling, row: &'a [f32], bent: &'a mut Vec<f32>) -> &'a [f32] {
        if self.seen.is_empty() && sampling.bias.is_empty() {
            return row;
        }
        bent.clear();
        bent.extend_from_slice(row);
        for (&token, &count) in &self.seen {
            let x = &mut bent[token as usize];
            let factor = sampling.repetition_penalty;
            *x = if *x > 0.0 { *x / factor } else { *x * factor };
            if count > 0 {
                *x -= sampling.frequency_penalty * count as f32 + sampling.presence_penalty;
            }
        }
        for &(token, by) in &sampling.bias {
            bent[token as usize] += by;
        }
        bent
    }
}
