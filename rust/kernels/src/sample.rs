//! Choosing a token from logits by a counter-based generator.

/// A number in [0, 1) that depends on `key` and `counter` alone: two rounds of the SplitMix64 finaliser
/// (Steele, Lea & Flood 2014).
pub fn uniform(key: u64, counter: u64) -> f64 {
    let mixed = finalise(
        finalise(key ^ 0x9e37_79b9_7f4a_7c15)
            .wrapping_add(counter.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
    );
    (mixed >> 11) as f64 / (1u64 << 53) as f64
}

fn finalise(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Index of the largest logit, the lowest of equals; NaN is none, and None where no logit is above -inf.
pub fn greedy(logits: &[f32]) -> Option<usize> {
    let (mut best, mut most) = (None, f32::NEG_INFINITY);
    for (i, &x) in logits.iter().enumerate() {
        if x > most {
            (best, most) = (Some(i), x);
        }
    }
    best
}

/// What is left of softmax(logits / temperature) before a draw: the cuts come in this order, each of what the one before
/// left over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cuts {
    /// Above 0.
    pub temperature: f32,
    /// The likeliest so many; 0 keeps all.
    pub top_k: usize,
    /// The smallest set of likeliest tokens with this share of the mass, in (0, 1].
    pub top_p: f32,
    /// Tokens at least this share as likely as the likeliest, in [0, 1].
    pub min_p: f32,
}

/// Tokens that are sorted before a cut asks for more of them.
const SORTED: usize = 256;

/// Draws from what `cuts` leave; `u` is uniform in [0, 1), `weights` is scratch. Of equal logits the lower index comes first.
/// NaN weighs nothing, and beside +inf nothing else does; None where no logit is above -inf.
pub fn draw(logits: &[f32], cuts: Cuts, u: f64, weights: &mut Vec<(f64, usize)>) -> Option<usize> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if most == f32::NEG_INFINITY {
        return None;
    }
    let inverse = 1.0 / f64::from(cuts.temperature);
    let weigh = |x: f32| {
        if x < most {
            (f64::from(x - most) * inverse).exp()
        } else {
            f64::from(u8::from(x == most))
        }
    };
    weights.clear();
    weights.extend(logits.iter().enumerate().map(|(i, &x)| (weigh(x), i)));
    let mut mass: f64 = weights.iter().map(|&(w, _)| w).sum();
    let asked = if cuts.top_k == 0 {
        weights.len()
    } else {
        cuts.top_k.min(weights.len())
    };
    if asked < weights.len() {
        sort_first(weights, asked);
        weights.truncate(asked);
        mass = weights.iter().map(|&(w, _)| w).sum();
    }
    if cuts.top_p < 1.0 {
        let enough = mass * f64::from(cuts.top_p);
        for first in [SORTED, weights.len()] {
            let first = first.min(weights.len());
            sort_first(weights, first);
            let (mut kept, mut count) = (0.0, 0);
            for &(w, _) in &weights[..first] {
                kept += w;
                count += 1;
                if kept >= enough {
                    break;
                }
            }
            if kept >= enough || first == weights.len() {
                weights.truncate(count);
                mass = kept;
                break;
            }
        }
    }
    if cuts.min_p > 0.0 {
        // The likeliest has weight 1.
        weights.retain(|&(w, _)| w >= f64::from(cuts.min_p));
        mass = weights.iter().map(|&(w, _)| w).sum();
    }
    let mut left = u * mass;
    for &(w, i) in weights.iter() {
        left -= w;
        if left < 0.0 {
            return Some(i);
        }
    }
    // Rounding may leave a crumb: the last token with any weight takes it.
    weights
        .iter()
        .rev()
        .find(|&&(w, _)| w > 0.0)
        .map(|&(_, i)| i)
}

/// Puts the `first` likeliest in order to the front.
fn sort_first(weights: &mut [(f64, usize)], first: usize) {
    let order = |a: &(f64, usize), b: &(f64, usize)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
    if first > 0 && first < weights.len() {
        weights.select_nth_unstable_by(first - 1, order);
    }
    weights[..first].sort_unstable_by(order);
}

/// The `count` largest logits with their indices, the largest first, the lower index first of equals; NaN is none.
pub fn largest(logits: &[f32], count: usize) -> Vec<(usize, f32)> {
    let mut best: Vec<(usize, f32)> = Vec::with_capacity(count + 1);
    for (i, &x) in logits.iter().enumerate() {
        let full = best.len() == count && best.last().is_none_or(|&(_, least)| x <= least);
        if full || x.is_nan() {
            continue;
        }
        let at = best.partition_point(|&(_, y)| y >= x);
        best.insert(at, (i, x));
        best.truncate(count);
    }
    best
}
