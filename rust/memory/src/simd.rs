//! The two inner loops of a search by vector, for AVX-512 and without, with the same result to the bit; a third, over what both
//! rankings say, is `ranking::Rows::top`.

use half::f16;

use crate::codes::{BLOCK, Block, CodedQuery, PLANES};

/// The product of a query with stored f16, in 16 partial sums that are added in a fixed order.
///
/// # Panics
/// If `stored` is not as long as the query.
pub fn product(query: &[f32], stored: &[u8]) -> f32 {
    assert_eq!(stored.len(), 2 * query.len(), "dimensions");
    let mut sums = [0.0; 16];
    let whole = query.len() / 16 * 16;
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx512f") {
        // SAFETY: the processor has AVX-512 F, and `whole` numbers of both lie within bounds.
        unsafe { wide::products(&query[..whole], &stored[..2 * whole], &mut sums) };
        return add(sums, &query[whole..], &stored[2 * whole..]);
    }
    products(&query[..whole], &stored[..2 * whole], &mut sums);
    add(sums, &query[whole..], &stored[2 * whole..])
}

fn products(query: &[f32], stored: &[u8], sums: &mut [f32; 16]) {
    for (q, s) in query.chunks_exact(16).zip(stored.chunks_exact(32)) {
        for (lane, sum) in sums.iter_mut().enumerate() {
            let x = f16::from_le_bytes([s[2 * lane], s[2 * lane + 1]]).to_f32();
            *sum = q[lane].mul_add(x, *sum);
        }
    }
}

fn add(mut sums: [f32; 16], query: &[f32], stored: &[u8]) -> f32 {
    let (pairs, _) = stored.as_chunks::<2>();
    for (lane, (q, s)) in query.iter().zip(pairs).enumerate() {
        sums[lane] = q.mul_add(f16::from_le_bytes(*s).to_f32(), sums[lane]);
    }
    let mut half = 8;
    while half > 0 {
        for lane in 0..half {
            sums[lane] += sums[lane + half];
        }
        half /= 2;
    }
    sums[0]
}

/// The estimated cosines of a block's rows.
///
/// # Panics
/// If query and block are of different dimensions.
pub fn estimate(block: &Block<'_>, query: &CodedQuery, out: &mut [f32; BLOCK]) {
    assert_eq!(
        block.bits.len(),
        BLOCK * 8 * query.planes.len(),
        "dimensions"
    );
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx512vpopcntdq")
        && std::arch::is_x86_feature_detected!("avx512dq")
        && std::arch::is_x86_feature_detected!("avx512vl")
    {
        // SAFETY: the processor has what the function is compiled for; the lengths were compared above.
        unsafe { wide::estimate(block, query, out) };
        return;
    }
    estimate_plain(block, query, out);
}

fn estimate_plain(block: &Block<'_>, query: &CodedQuery, out: &mut [f32; BLOCK]) {
    let mut weighted = [0u64; BLOCK];
    for (planes, rows) in query.planes.iter().zip(block.bits.chunks_exact(8 * BLOCK)) {
        let (rows, _) = rows.as_chunks::<8>();
        for (sum, bits) in weighted.iter_mut().zip(rows) {
            let bits = u64::from_le_bytes(*bits);
            for (plane, mask) in planes.iter().enumerate() {
                *sum += u64::from((bits & mask).count_ones()) << plane;
            }
        }
    }
    let number = |bytes: &[u8], index: usize| {
        let at = 4 * index;
        f32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    };
    for (index, out) in out.iter_mut().enumerate() {
        let signed = query.slope * number(block.ones, index) + query.step * weighted[index] as f32;
        *out = number(block.factors, index) * (signed - query.total)
            + (number(block.offsets, index) + query.bias);
    }
}

#[cfg(target_arch = "x86_64")]
mod wide {
    use std::arch::x86_64::*;

    use super::{BLOCK, Block, CodedQuery, PLANES};

    /// # Safety
    /// The processor has AVX-512 F; both slices hold the same number of values, a multiple of 16.
    #[target_feature(enable = "avx512f")]
    pub unsafe fn products(query: &[f32], stored: &[u8], sums: &mut [f32; 16]) {
        // SAFETY: every load lies within its chunk of 16 values.
        unsafe {
            let mut sum = _mm512_loadu_ps(sums.as_ptr());
            for (q, s) in query.chunks_exact(16).zip(stored.chunks_exact(32)) {
                let x = _mm512_cvtph_ps(_mm256_loadu_si256(s.as_ptr().cast()));
                sum = _mm512_fmadd_ps(_mm512_loadu_ps(q.as_ptr()), x, sum);
            }
            _mm512_storeu_ps(sums.as_mut_ptr(), sum);
        }
    }

    /// # Safety
    /// The processor has AVX-512 F, DQ, VL and VPOPCNTDQ; the block's bits have a word of every row for each of the query's.
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512vpopcntdq,avx2,avx")]
    pub unsafe fn estimate(block: &Block<'_>, query: &CodedQuery, out: &mut [f32; BLOCK]) {
        // SAFETY: rows are read eight at a time below BLOCK, a multiple of eight, in every word and column.
        unsafe {
            let bits = block.bits.as_ptr();
            for row in (0..BLOCK).step_by(8) {
                let mut sums = [_mm512_setzero_si512(); PLANES];
                for (word, planes) in query.planes.iter().enumerate() {
                    let code = _mm512_loadu_si512(bits.add(8 * (word * BLOCK + row)).cast());
                    for (sum, mask) in sums.iter_mut().zip(planes) {
                        let masked = _mm512_and_si512(code, _mm512_set1_epi64(*mask as i64));
                        *sum = _mm512_add_epi64(*sum, _mm512_popcnt_epi64(masked));
                    }
                }
                let mut weighted = sums[0];
                weighted = _mm512_add_epi64(weighted, _mm512_slli_epi64::<1>(sums[1]));
                weighted = _mm512_add_epi64(weighted, _mm512_slli_epi64::<2>(sums[2]));
                weighted = _mm512_add_epi64(weighted, _mm512_slli_epi64::<3>(sums[3]));
                let weighted = _mm512_cvtepu64_ps(weighted);
                let column = |bytes: &[u8]| _mm256_loadu_ps(bytes.as_ptr().add(4 * row).cast());
                let signed = _mm256_add_ps(
                    _mm256_mul_ps(_mm256_set1_ps(query.slope), column(block.ones)),
                    _mm256_mul_ps(_mm256_set1_ps(query.step), weighted),
                );
                let less = _mm256_sub_ps(signed, _mm256_set1_ps(query.total));
                let base = _mm256_add_ps(column(block.offsets), _mm256_set1_ps(query.bias));
                let value = _mm256_add_ps(_mm256_mul_ps(column(block.factors), less), base);
                _mm256_storeu_ps(out.as_mut_ptr().add(row), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use half::f16;
    use proptest::prelude::*;

    use super::*;
    use crate::codes::{Code, empty, words_of, write};

    proptest! {
        #[test]
        fn products_are_the_same_with_and_without_vectors(values in prop::collection::vec((-1.0f32..1.0, -1.0f32..1.0), 1..600)) {
            let query: Vec<f32> = values.iter().map(|(q, _)| *q).collect();
            let stored: Vec<u8> = values.iter().flat_map(|(_, x)| f16::from_f32(*x).to_le_bytes()).collect();
            let whole = query.len() / 16 * 16;
            let mut sums = [0.0; 16];
            products(&query[..whole], &stored[..2 * whole], &mut sums);
            let plain = add(sums, &query[whole..], &stored[2 * whole..]);
            prop_assert_eq!(product(&query, &stored).to_bits(), plain.to_bits());
            let exact: f64 = values.iter().map(|(q, x)| f64::from(*q) * f64::from(f16::from_f32(*x).to_f32())).sum();
            prop_assert!((f64::from(plain) - exact).abs() < 1e-3);
        }

        #[test]
        fn estimates_are_the_same_with_and_without_vectors(vectors in prop::collection::vec(prop::collection::vec(-1.0f32..1.0, 100), 2..40)) {
            let words = words_of(100);
            let centre = vec![0.01; 100];
            let mut block = empty(words);
            for (index, vector) in vectors.iter().enumerate() {
                write(&mut block, words, index, &Code::of(vector, &centre));
            }
            let block = Block::read(&block, words).unwrap();
            let query = CodedQuery::of(&vectors[0], &centre);
            let (mut fast, mut plain) = ([0.0; BLOCK], [0.0; BLOCK]);
            estimate(&block, &query, &mut fast);
            estimate_plain(&block, &query, &mut plain);
            prop_assert_eq!(fast.map(f32::to_bits), plain.map(f32::to_bits));
        }
    }
}
