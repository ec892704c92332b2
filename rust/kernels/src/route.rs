//! Routing: sigmoid scores, selection by score plus bias, normalised weights, and the order by expert.

use crate::simd::{Simd, sigmoid};
use crate::{LANES, padded};

/// Which experts each token goes to, and where its copies lie when sorted by expert. Buffers are reused.
#[derive(Clone, Debug, Default)]
pub struct Routing {
    /// Experts per token, k.
    pub chosen: usize,
    /// (tokens, padded experts): sigmoid of the router's logits.
    pub scores: Vec<f32>,
    /// (tokens, k): the experts, the best first.
    pub experts: Vec<u32>,
    /// (tokens, k): scores normalised over the chosen experts.
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
    /// S is the k experts with the largest σ(z) + bias; the weights are σ(z) / Σ_S σ(z), without the bias
    /// (MiniMax-M2). Of equal sums the lower index wins.
    pub fn route(&mut self, isa: crate::Isa, tokens: usize, chosen: usize, bias: &[f32]) {
        let experts = bias.len();
        let width = padded(experts);
        assert!(chosen <= experts && self.scores.len() >= tokens * width);
        self.chosen = chosen;
        sigmoid_rows(isa, &mut self.scores[..tokens * width]);
        self.experts.clear();
        self.weights.clear();
        self.offsets.clear();
        self.offsets.resize(experts + 1, 0);
        for scores in self.scores[..tokens * width].chunks_exact(width) {
            let first = self.experts.len();
            let mut mass = 0.0;
            for _ in 0..chosen {
                let mut best = None;
                for e in 0..experts {
                    let sum = scores[e] + bias[e];
                    let free = !self.experts[first..].contains(&(e as u32));
                    if free && best.is_none_or(|(_, most)| sum > most) {
                        best = Some((e, sum));
                    }
                }
                let (e, _) = best.expect("chosen <= experts leaves one free");
                self.experts.push(e as u32);
                self.offsets[e + 1] += 1;
                mass += scores[e];
            }
            for i in first..first + chosen {
                self.weights.push(scores[self.experts[i] as usize] / mass);
            }
        }
        self.sort(tokens * chosen);
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

    /// Gradient of the logits from the gradient of each copy's weight in expert order.
    ///
    /// With w_i = s_i / Σ s: ds_i = (dw_i − Σ_j w_j dw_j) / Σ s and dz_i = ds_i s_i (1 − s_i); `dlogits`
    /// (tokens, width) is zero for experts that were not chosen.
    pub fn backward(&self, width: usize, dslot_weights: &[f32], dlogits: &mut [f32]) {
        dlogits.fill(0.0);
        for (token, row) in dlogits.chunks_exact_mut(width).enumerate() {
            let copies = token * self.chosen..(token + 1) * self.chosen;
            let scores = &self.scores[token * width..][..width];
            let (mut mass, mut mean) = (0.0, 0.0);
            for i in copies.clone() {
                mass += scores[self.experts[i] as usize];
                mean += self.weights[i] * dslot_weights[self.slots[i] as usize];
            }
            for i in copies {
                let e = self.experts[i] as usize;
                let dscore = (dslot_weights[self.slots[i] as usize] - mean) / mass;
                row[e] = dscore * scores[e] * (1.0 - scores[e]);
            }
        }
    }
}

kernel! {
    /// σ in place; the length is a multiple of [`LANES`].
    pub fn sigmoid_rows = sigmoid_rows_body(x: &mut [f32])
}

#[inline(always)]
unsafe fn sigmoid_rows_body<S: Simd>(x: &mut [f32]) {
    assert!(x.len().is_multiple_of(LANES));
    let (x, end) = (x.as_mut_ptr(), x.len());
    let mut j = 0;
    while j < end {
        sigmoid(S::load(x.add(j))).store(x.add(j));
        j += LANES;
    }
}
