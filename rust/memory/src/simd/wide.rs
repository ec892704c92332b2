//! For AVX-512.

use std::arch::x86_64::*;

use super::{Ahead, BLOCK, Block, CodedQuery, PLANES};

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
pub unsafe fn estimate(
    block: &Block<'_>,
    next: &Block<'_>,
    query: &CodedQuery,
    out: &mut [f32; BLOCK],
) {
    // SAFETY: rows are read eight at a time below BLOCK, a multiple of eight, in every word and column.
    unsafe {
        let bits = block.bits.as_ptr();
        let mut ahead = Ahead::of(next);
        for row in (0..BLOCK).step_by(8) {
            let mut sums = [_mm512_setzero_si512(); PLANES];
            for (word, planes) in query.planes.iter().enumerate() {
                ahead.fetch::<1>();
                let code = _mm512_loadu_si512(bits.add(8 * (word * BLOCK + row)).cast());
                for (sum, mask) in sums.iter_mut().zip(planes) {
                    let masked = _mm512_and_si512(code, _mm512_set1_epi64(*mask as i64));
                    *sum = _mm512_add_epi64(*sum, _mm512_popcnt_epi64(masked));
                }
            }
            let mut weighted = sums[0];
            weighted = _mm512_add_epi64(weighted, _mm512_slli_epi64::<1>(sums[1]));
            weighted = _mm512_add_epi64(weighted, _mm512_slli_epi64::<2>(sums[2]));
            weighted = _mm512_sub_epi64(weighted, _mm512_slli_epi64::<3>(sums[3]));
            let weighted = _mm512_cvtepi64_ps(weighted);
            let column = |bytes: &[u8]| _mm256_loadu_ps(bytes.as_ptr().add(4 * row).cast());
            let signed = _mm256_sub_ps(
                _mm256_mul_ps(_mm256_set1_ps(query.step), weighted),
                _mm256_set1_ps(query.total),
            );
            let base = _mm256_add_ps(column(block.offsets), _mm256_set1_ps(query.bias));
            let value = _mm256_add_ps(_mm256_mul_ps(column(block.factors), signed), base);
            _mm256_storeu_ps(out.as_mut_ptr().add(row), value);
        }
    }
}
