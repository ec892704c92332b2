//! The two inner loops of a search by vector, for AVX-512, for AVX2 and without, with the same result to the bit; a third, over
//! what both rankings say, is `ranking::Rows::best`.

use half::f16;

use crate::codes::{BLOCK, Block, CodedQuery};

/// The product of a query with stored f16, in 16 partial sums that are added in a fixed order.
///
/// # Panics
/// If `stored` is not as long as the query.
pub fn product(query: &[f32], stored: &[u8]) -> f32 {
    assert_eq!(stored.len(), 2 * query.len(), "dimensions");
    let mut sums = [0.0; 16];
    let whole = query.len() / 16 * 16;
    let (q, s) = (&query[..whole], &stored[..2 * whole]);
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx512f") {
        // SAFETY: the processor has AVX-512 F; `q` and `s` hold the same number of values, a multiple of 16.
        unsafe { wide::products(q, s, &mut sums) };
        return add(sums, &query[whole..], &stored[2 * whole..]);
    } else if has_avx2() {
        // SAFETY: the processor has AVX2, FMA and F16C; `q` and `s` hold the same number of values, a multiple of 16.
        unsafe { narrow::products(q, s, &mut sums) };
        return add(sums, &query[whole..], &stored[2 * whole..]);
    }
    products(q, s, &mut sums);
    add(sums, &query[whole..], &stored[2 * whole..])
}

/// Whether the processor has what the code for AVX2 is compiled for.
#[cfg(target_arch = "x86_64")]
pub fn has_avx2() -> bool {
    std::arch::is_x86_feature_detected!("avx2")
        && std::arch::is_x86_feature_detected!("fma")
        && std::arch::is_x86_feature_detected!("f16c")
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
    } else if has_avx2() {
        // SAFETY: the processor has what the function is compiled for; the lengths were compared above.
        unsafe { narrow::estimate(block, query, out) };
        return;
    }
    estimate_plain(block, query, out);
}

fn estimate_plain(block: &Block<'_>, query: &CodedQuery, out: &mut [f32; BLOCK]) {
    let mut weighted = [0u32; BLOCK];
    for (planes, rows) in query.planes.iter().zip(block.bits.chunks_exact(8 * BLOCK)) {
        let (rows, _) = rows.as_chunks::<8>();
        for (sum, bits) in weighted.iter_mut().zip(rows) {
            let bits = u64::from_le_bytes(*bits);
            for (plane, mask) in planes.iter().enumerate() {
                *sum += (bits & mask).count_ones() << plane;
            }
        }
    }
    finish(block, query, &weighted, out);
}

/// Estimates from the rows' sums of query levels where their bits are set.
#[inline(always)]
fn finish(block: &Block<'_>, query: &CodedQuery, weighted: &[u32; BLOCK], out: &mut [f32; BLOCK]) {
    let [ones, factors, offsets] =
        [block.ones, block.factors, block.offsets].map(|column| column.as_chunks::<4>().0);
    let columns = ones.iter().zip(factors).zip(offsets);
    for ((out, weighted), ((ones, factor), offset)) in out.iter_mut().zip(weighted).zip(columns) {
        // Below 2^24: exact.
        let weighted = *weighted as i32 as f32;
        let signed = query.slope * f32::from_le_bytes(*ones) + query.step * weighted;
        *out = f32::from_le_bytes(*factor) * (signed - query.total)
            + (f32::from_le_bytes(*offset) + query.bias);
    }
}

/// For AVX2. Four bits of a code select one of 16 sums of query levels, in the registers of `vpshufb`: a lookup does for four
/// dimensions and all planes what four masks and counts do (Andre, Kermarrec and Le Scouarnec, VLDB 2015).
#[cfg(target_arch = "x86_64")]
mod narrow {
    use std::arch::x86_64::*;

    use super::{BLOCK, Block, CodedQuery, finish};

    /// Rows whose bytes of one place fill a register.
    const ROWS: usize = 32;

    /// Words of a code whose levels, of at most 15, add up to less than 2^16.
    const WORDS: usize = 64;

    /// Bytes that are fetched before they are wanted: the next word's of the same rows.
    const AHEAD: usize = 8 * BLOCK;

    /// # Safety
    /// The processor has AVX2, FMA and F16C; both slices hold the same number of values, a multiple of 16.
    #[target_feature(enable = "avx2,fma,f16c")]
    pub unsafe fn products(query: &[f32], stored: &[u8], sums: &mut [f32; 16]) {
        // SAFETY: every load lies within its chunk of 16 values.
        unsafe {
            let mut low = _mm256_loadu_ps(sums.as_ptr());
            let mut high = _mm256_loadu_ps(sums.as_ptr().add(8));
            for (q, s) in query.chunks_exact(16).zip(stored.chunks_exact(32)) {
                let (q, s) = (q.as_ptr(), s.as_ptr());
                let x = _mm256_cvtph_ps(_mm_loadu_si128(s.cast()));
                low = _mm256_fmadd_ps(_mm256_loadu_ps(q), x, low);
                let x = _mm256_cvtph_ps(_mm_loadu_si128(s.add(16).cast()));
                high = _mm256_fmadd_ps(_mm256_loadu_ps(q.add(8)), x, high);
            }
            _mm256_storeu_ps(sums.as_mut_ptr(), low);
            _mm256_storeu_ps(sums.as_mut_ptr().add(8), high);
        }
    }

    /// # Safety
    /// The processor has AVX2, FMA and F16C; the block's bits have a word of every row for each of the query's.
    #[target_feature(enable = "avx2,fma,f16c")]
    pub unsafe fn estimate(block: &Block<'_>, query: &CodedQuery, out: &mut [f32; BLOCK]) {
        let mut weighted = [0u32; BLOCK];
        let words = block.bits.chunks(8 * BLOCK * WORDS);
        for (bits, tables) in words.zip(query.tables.chunks(16 * WORDS)) {
            let mut sums = [[_mm256_setzero_si256(); 2]; BLOCK / ROWS];
            // Word by word, in the order in which they lie there: at a million rows memory is what a search waits for.
            for (rows, tables) in bits.chunks_exact(8 * BLOCK).zip(tables.chunks_exact(16)) {
                for (rows, sums) in rows.chunks_exact(8 * ROWS).zip(&mut sums) {
                    // SAFETY: there are 256 bytes of 32 rows and 16 tables, and at most `WORDS` are added.
                    unsafe { add(rows, tables, sums) };
                }
            }
            for ([pairs, seconds], weighted) in sums.iter().zip(weighted.chunks_exact_mut(ROWS)) {
                let firsts = _mm256_sub_epi16(*pairs, _mm256_slli_epi16::<8>(*seconds));
                let mut halves = [[0u16; 16]; 2];
                // SAFETY: both have 32 bytes.
                unsafe {
                    _mm256_storeu_si256(halves[0].as_mut_ptr().cast(), firsts);
                    _mm256_storeu_si256(halves[1].as_mut_ptr().cast(), *seconds);
                }
                // Of the four rows that were loaded at once, each half of a register has two.
                for (index, rows) in weighted.chunks_exact_mut(4).enumerate() {
                    for (row, out) in rows.iter_mut().enumerate() {
                        *out += u32::from(halves[row % 2][row / 2 * 8 + index]);
                    }
                }
            }
        }
        finish(block, query, &weighted, out);
    }

    /// Adds one word's sums of 32 rows, in 16 bits that of a row and 256 times that of the next; and the latter by itself.
    ///
    /// # Safety
    /// The processor has AVX2; there are 256 bytes of `rows`, and 16 `tables`.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn add(rows: &[u8], tables: &[[u8; 16]], sums: &mut [__m256i; 2]) {
        // SAFETY: loads of 32 bytes lie within the 256, those of tables within theirs; what is fetched early may lie anywhere.
        unsafe {
            let nibble = _mm256_set1_epi8(15);
            let at = rows.as_ptr();
            for line in 0..4 {
                _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD + 64 * line).cast());
            }
            let mut rows = [_mm256_setzero_si256(); 8];
            for (index, row) in rows.iter_mut().enumerate() {
                *row = _mm256_loadu_si256(at.add(32 * index).cast());
            }
            // A perfect shuffle rotates the index of a byte, (register, byte), by one bit: after four of them the register
            // is the place in the word and the byte is the row.
            for _ in 0..4 {
                let [a, b, c, d, e, f, g, h] = rows;
                rows = [
                    _mm256_unpacklo_epi8(a, e),
                    _mm256_unpackhi_epi8(a, e),
                    _mm256_unpacklo_epi8(b, f),
                    _mm256_unpackhi_epi8(b, f),
                    _mm256_unpacklo_epi8(c, g),
                    _mm256_unpackhi_epi8(c, g),
                    _mm256_unpacklo_epi8(d, h),
                    _mm256_unpackhi_epi8(d, h),
                ];
            }
            let table = |index: usize| {
                _mm256_broadcastsi128_si256(_mm_loadu_si128(tables[index].as_ptr().cast()))
            };
            let looked_up = |index: usize| {
                let low = _mm256_and_si256(rows[index], nibble);
                let high = _mm256_and_si256(_mm256_srli_epi16::<4>(rows[index]), nibble);
                _mm256_add_epi8(
                    _mm256_shuffle_epi8(table(2 * index), low),
                    _mm256_shuffle_epi8(table(2 * index + 1), high),
                )
            };
            for index in (0..8).step_by(2) {
                // At most 4 nibbles of 4 levels of 15: 240.
                let both = _mm256_add_epi8(looked_up(index), looked_up(index + 1));
                sums[0] = _mm256_add_epi16(sums[0], both);
                sums[1] = _mm256_add_epi16(sums[1], _mm256_srli_epi16::<8>(both));
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod wide {
    use std::arch::x86_64::*;

    use super::{BLOCK, Block, CodedQuery};
    use crate::codes::PLANES;

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
            #[cfg(target_arch = "x86_64")]
            if has_avx2() {
                let mut sums = [0.0; 16];
                // SAFETY: the processor has AVX2, FMA and F16C.
                unsafe { narrow::products(&query[..whole], &stored[..2 * whole], &mut sums) };
                prop_assert_eq!(add(sums, &query[whole..], &stored[2 * whole..]).to_bits(), plain.to_bits());
            }
            let exact: f64 = values.iter().map(|(q, x)| f64::from(*q) * f64::from(f16::from_f32(*x).to_f32())).sum();
            prop_assert!((f64::from(plain) - exact).abs() < 1e-3);
        }

        #[test]
        fn estimates_are_the_same_with_and_without_vectors(
            dimensions in prop::sample::select(vec![1usize, 64, 100, 384, 1025, 8200]), rows in 2usize..=BLOCK, seed in any::<u64>(),
        ) {
            let words = words_of(dimensions);
            let centre = vec![0.01; dimensions];
            let mut state = seed | 1;
            let mut vector = || -> Vec<f32> {
                let mut next = || {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
                };
                (0..dimensions).map(|_| next()).collect()
            };
            let query = CodedQuery::of(&vector(), &centre);
            let mut block = empty(words);
            for index in 0..rows.min(1 << 19 >> dimensions.ilog2().max(11)) {
                write(&mut block, words, index, &Code::of(&vector(), &centre));
            }
            let block = Block::read(&block, words).unwrap();
            let (mut fast, mut plain) = ([0.0; BLOCK], [0.0; BLOCK]);
            estimate_plain(&block, &query, &mut plain);
            estimate(&block, &query, &mut fast);
            prop_assert_eq!(fast.map(f32::to_bits), plain.map(f32::to_bits));
            #[cfg(target_arch = "x86_64")]
            if has_avx2() {
                // SAFETY: the processor has AVX2.
                unsafe { narrow::estimate(&block, &query, &mut fast) };
                prop_assert_eq!(fast.map(f32::to_bits), plain.map(f32::to_bits));
            }
        }

        #[test]
        fn the_largest_sums_fit(words in prop::sample::select(vec![1usize, 8, 64, 65, 200])) {
            let planes = vec![[u64::MAX; crate::codes::PLANES]; words];
            let tables = vec![std::array::from_fn(|set: usize| 15 * set.count_ones() as u8); 16 * words];
            let query = CodedQuery { planes, tables, slope: 0.0, step: 1.0, total: 0.0, bias: 0.0 };
            let mut block = empty(words);
            for index in 0..BLOCK {
                let bits = vec![if index % 3 == 0 { 0 } else { u64::MAX >> (index % 5) }; words];
                write(&mut block, words, index, &Code { bits, factor: 1.0, offset: 0.0 });
            }
            let block = Block::read(&block, words).unwrap();
            let (mut fast, mut plain) = ([0.0; BLOCK], [0.0; BLOCK]);
            estimate_plain(&block, &query, &mut plain);
            prop_assert_eq!(plain[1], (15 * 63 * words) as f32);
            estimate(&block, &query, &mut fast);
            prop_assert_eq!(fast, plain);
            #[cfg(target_arch = "x86_64")]
            if has_avx2() {
                // SAFETY: the processor has AVX2.
                unsafe { narrow::estimate(&block, &query, &mut fast) };
                prop_assert_eq!(fast, plain);
            }
        }
    }
}
