//! Routing: scores by a family's rule, selection, weights, and the order by expert.

use crate::arithmetic::Arithmetic;
use crate::{Isa, padded};

/// How a router's logits z become a selection S and the weights of its experts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rule {
    /// S has the largest σ(z) + bias; the weights are σ(z) / Σ_S σ(z), without the bias (MiniMax-M2).
    #[default]
    Sigmoid,
    /// S has the largest p = softmax(z) over all experts; the weights are p, or p / Σ_S p if normalised
    /// (Mixtral always, Qwen3 and OLMoE by `norm_topk_prob`).
    Softmax { normalised: bool },
    /// One expert without a router: every token goes through it with weight 1.
    Dense,
}

/// Which experts each token goes to, and where its copies lie when sorted by expert. Buffers are reused.
#[derive(Clone, Debug, Default)]
pub struct Routing {
    pub rule: Rule,
    /// Experts there are.
    pub among: usize,
    /// Experts per token, k.
    pub chosen: usize,
    /// (tokens, padded experts): sigmoid or softmax of the router's logits.
    pub scores: Vec<f32>,
    /// (tokens, k): the experts, the best first.
    pub experts: Vec<u32>,
    /// (tokens, k): weight of each.
    pub weights: Vec<f32>,
    /// (tokens, k): the row of this copy in expert order.
    pub slots: Vec<u32>,
    /// (tokens × k): token of each row in expert order.
    pub tokens: Vec<u32>,
    /// (tokens × k): weight of each row in expert order.
    pub slot_weights: Vec<f32>,
    /// (experts + 1): where each expert's rows begin.
    pub offsets: Vec<usize>,
}

impl Routing {
    /// Rows of expert `e` in expert order.
    pub fn rows_of(&self, e: usize) -> std::ops::Range<usize> {
        self.offsets[e]..self.offsets[e + 1]
    }

    /// Routes `tokens` tokens from the router's logits (tokens, padded experts), which become the scores.
    ///
    /// `bias` has one number an expert, or none; a dense rule reads neither it nor the logits. Of equal sums the
    /// lower index wins.
    #[allow(clippy::too_many_arguments)]
    pub fn route(
        &mut self,
        isa: Isa,
        arithmetic: &Arithmetic,
        rule: Rule,
        tokens: usize,
        experts: usize,
        chosen: usize,
        bias: &[f32],
    ) {
        assert!(chosen <= experts && (bias.is_empty() || bias.len() == experts));
        (self.rule, self.among, self.chosen) = (rule, experts, chosen);
        self.experts.clear();
        self.weights.clear();
        self.offsets.clear();
        self.offsets.resize(experts + 1, 0);
        let width = padded(experts);
        match rule {
            Rule::Dense => {
                assert!(experts == 1);
                self.experts.resize(tokens, 0);
                self.weights.resize(tokens, 1.0);
                self.offsets[1] = tokens;
            }
            Rule::Sigmoid => {
                (arithmetic.sigmoid_rows)(isa, &mut self.scores[..tokens * width]);
                self.select(arithmetic, tokens, bias, true);
            }
            Rule::Softmax { normalised } => {
                let scores = &mut self.scores[..tokens * width];
                (arithmetic.softmax_rows)(isa, experts, width, scores);
                self.select(arithmetic, tokens, bias, normalised);
            }
        }
        self.sort(tokens * chosen);
    }

    /// Takes the experts with the largest score plus bias of every token.
    fn select(&mut self, arithmetic: &Arithmetic, tokens: usize, bias: &[f32], normalised: bool) {
        let (experts, chosen, width) = (self.among, self.chosen, padded(self.among));
        for scores in self.scores[..tokens * width].chunks_exact(width) {
            let first = self.experts.len();
            for _ in 0..chosen {
                let mut best = None;
                for e in 0..experts {
                    let sum = scores[e] + bias.get(e).unwrap_or(&0.0);
                    let free = !self.experts[first..].contains(&(e as u32));
                    if free && best.is_none_or(|(_, most)| sum > most) {
                        best = Some((e, sum));
                    }
                }
                let (e, _) = best.expect("chosen <= experts leaves one free");
                self.experts.push(e as u32);
                self.offsets[e + 1] += 1;
            }
            let mass = if normalised {
                (arithmetic.mass)(scores, &self.experts[first..])
            } else {
                1.0
            };
            for i in first..first + chosen {
                self.weights.push(scores[self.experts[i] as usize] / mass);
            }
        }
    }

    /// Counting sort of the copies by expert, stable in the token.
    fn sort(&mut self, copies: usize) {
        for e in 1..self.offsets.len() {
            self.offsets[e] += self.offsets[e - 1];
        }
        let mut next = self.offsets.clone();
        self.slots.clear();
        self.tokens.resize(copies, 0);
        self.slot_weights.resize(copies, 0.0);
        for (i, &e) in self.experts.iter().enumerate() {
            let slot = next[e as usize];
            next[e as usize] += 1;
            self.slots.push(slot as u32);
            self.tokens[slot] = (i / self.chosen) as u32;
            self.slot_weights[slot] = self.weights[i];
        }
    }

    /// Gradient of the logits (tokens, width) from the gradient of each copy's weight in expert order.
    ///
    /// With m = Σ_j w_j dw_j over the chosen experts:
    /// - σ, w_i = s_i / Σ s: dz_i = (dw_i − m) / Σ s · s_i (1 − s_i), zero for experts that were not chosen;
    /// - softmax, w_i = p_i / Σ p, which is a softmax of the chosen logits alone: dz_i = w_i (dw_i − m), else zero;
    /// - softmax, w_i = p_i: dz_i = p_i (dw_i − m), with dw_i = 0 for experts that were not chosen.
    pub fn backward(&self, width: usize, dslot_weights: &[f32], dlogits: &mut [f32]) {
        dlogits.fill(0.0);
        if self.rule == Rule::Dense {
            return;
        }
        for (token, row) in dlogits.chunks_exact_mut(width).enumerate() {
            let copies = token * self.chosen..(token + 1) * self.chosen;
            let scores = &self.scores[token * width..][..width];
            let (mut mass, mut mean) = (0.0, 0.0);
            for i in copies.clone() {
                mass += scores[self.experts[i] as usize];
                mean += self.weights[i] * dslot_weights[self.slots[i] as usize];
            }
            if self.rule == (Rule::Softmax { normalised: false }) {
                for (slope, p) in row[..self.among].iter_mut().zip(scores) {
                    *slope = -p * mean;
                }
            }
            for i in copies {
                let e = self.experts[i] as usize;
                let past = dslot_weights[self.slots[i] as usize] - mean;
                row[e] = match self.rule {
                    Rule::Sigmoid => past / mass * scores[e] * (1.0 - scores[e]),
                    Rule::Softmax { .. } => self.weights[i] * past,
                    Rule::Dense => 0.0,
                };
            }
        }
    }
}
