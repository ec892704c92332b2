//! A random rotation of fixed seed: after it, no coordinate of a vector carries more than its share.
//!
//! Signs, then a Walsh-Hadamard transform, twice; the length is a power of two, so shorter vectors are padded with zeros.

/// Dimensions after the rotation.
pub fn padded(dimensions: usize) -> usize {
    dimensions.next_power_of_two().max(64)
}

/// The rotated vector; its length is kept.
pub fn rotate(vector: &[f32]) -> Vec<f32> {
    let size = padded(vector.len());
    let mut out = vec![0.0; size];
    out[..vector.len()].copy_from_slice(vector);
    for round in 0..2u64 {
        for (index, x) in out.iter_mut().enumerate() {
            if mix(round << 32 | index as u64) & 1 == 1 {
                *x = -*x;
            }
        }
        transform(&mut out);
    }
    out
}

fn transform(values: &mut [f32]) {
    let mut half = 1;
    while half < values.len() {
        for pair in values.chunks_exact_mut(2 * half) {
            let (left, right) = pair.split_at_mut(half);
            for (a, b) in left.iter_mut().zip(right) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
    let scale = 1.0 / (values.len() as f32).sqrt();
    values.iter_mut().for_each(|x| *x *= scale);
}

/// SplitMix64's mixing of a counter.
fn mix(counter: u64) -> u64 {
    let mut z = counter
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::rotate;

    #[test]
    fn lengths_and_angles_are_kept() {
        let a: Vec<f32> = (0..384)
            .map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0)
            .collect();
        let b: Vec<f32> = (0..384)
            .map(|i| ((i * 53 % 97) as f32 - 40.0) / 50.0)
            .collect();
        let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f32>();
        let (ra, rb) = (rotate(&a), rotate(&b));
        assert_eq!(ra.len(), 512);
        assert!((dot(&a, &b) - dot(&ra, &rb)).abs() < 1e-3);
        assert!((dot(&a, &a) - dot(&ra, &ra)).abs() < 1e-3);
    }
}
