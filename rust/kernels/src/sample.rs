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

/// Index of the largest logit, the lowest of equals.
pub fn greedy(logits: &[f32]) -> usize {
    let mut best = 0;
    for (i, &x) in logits.iter().enumerate() {
        if x > logits[best] {
            best = i;
        }
    }
    best
}

/// Draws from softmax(logits / temperature), cut to the smallest set of likeliest tokens with mass `top_p`.
///
/// `weights` is scratch. `u` is uniform in [0, 1).
pub fn nucleus(
    logits: &[f32],
    temperature: f32,
    top_p: f32,
    u: f64,
    weights: &mut Vec<(f64, usize)>,
) -> usize {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let inverse = 1.0 / f64::from(temperature);
    weights.clear();
    weights.extend(
        logits
            .iter()
            .enumerate()
            .map(|(i, &x)| ((f64::from(x - most) * inverse).exp(), i)),
    );
    let mut mass: f64 = weights.iter().map(|&(w, _)| w).sum();
    if top_p < 1.0 {
        weights.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let enough = mass * f64::from(top_p);
        let (mut kept, mut count) = (0.0, 0);
        for &(w, _) in weights.iter() {
            kept += w;
            count += 1;
            if kept >= enough {
                break;
            }
        }
        weights.truncate(count);
        mass = kept;
    }
    let mut left = u * mass;
    for &(w, i) in weights.iter() {
        left -= w;
        if left < 0.0 {
            return i;
        }
    }
    // Rounding may leave a crumb: the last token with any weight takes it.
    weights
        .iter()
        .rev()
        .find(|&&(w, _)| w > 0.0)
        .map_or(0, |&(_, i)| i)
}
