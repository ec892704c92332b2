//! For AVX2. Four bits of a code select one of 16 sums of query levels, in the registers of `vpshufb`: a lookup does for four
//! dimensions and all planes what four masks and counts do (Andre, Kermarrec and Le Scouarnec, VLDB 2015).

use std::arch::x86_64::*;

use super::{Ahead, BLOCK, Block, CodedQuery, LIFT, finish};

/// Rows whose bytes of one place fill a register.
const ROWS: usize = 32;

/// Words of a code whose entries of tables, at most 60 for four levels, add up to less than 2^16.
const WORDS: usize = 64;

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
pub unsafe fn estimate(
    block: &Block<'_>,
    next: &Block<'_>,
    query: &CodedQuery,
    out: &mut [f32; BLOCK],
) {
    let mut weighted = [-16 * LIFT * query.planes.len() as i32; BLOCK];
    let words = block.bits.chunks(8 * BLOCK * WORDS);
    let mut ahead = Ahead::of(next);
    for (bits, tables) in words.zip(query.tables.chunks(16 * WORDS)) {
        let mut sums = [[_mm256_setzero_si256(); 2]; BLOCK / ROWS];
        // Word by word, in the order in which they lie there: at a million rows memory is what a search waits for.
        for (rows, tables) in bits.chunks_exact(8 * BLOCK).zip(tables.chunks_exact(16)) {
            for (rows, sums) in rows.chunks_exact(8 * ROWS).zip(&mut sums) {
                ahead.fetch::<{ 8 * ROWS / 64 }>();
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
                    *out += i32::from(halves[row % 2][row / 2 * 8 + index]);
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
    // SAFETY: loads of 32 bytes lie within the 256, those of tables within theirs.
    unsafe {
        let nibble = _mm256_set1_epi8(15);
        let at = rows.as_ptr();
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
            // At most 4 entries of 60: 240.
            let both = _mm256_add_epi8(looked_up(index), looked_up(index + 1));
            sums[0] = _mm256_add_epi16(sums[0], both);
            sums[1] = _mm256_add_epi16(sums[1], _mm256_srli_epi16::<8>(both));
        }
    }
}
