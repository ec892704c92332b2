//! The inner loops of a search by vector, for AVX-512, for AVX2 and without, with the same result to the bit; that over what
//! both rankings say is `ranking::Rows::weigh`.

use half::f16;

use crate::codes::{BLOCK, Block, CodedQuery, LIFT, PLANES};

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

/// Bytes of a line of the cache.
const LINE: usize = 64;

/// Has the first bytes fetched into the cache before they are wanted; what follows, the processor expects.
#[inline]
pub fn fetch(bytes: &[u8]) {
    bytes.chunks(LINE).take(4).for_each(fetch_line);
}

/// Has the line of the first of some bytes fetched, where the processor can be told so.
#[inline(always)]
fn fetch_line(bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every processor of this kind has the instruction; it reads nothing that the program sees.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(bytes.as_ptr().cast()) };
    }
}

/// What an estimate of a block's rows will read, line by line.
#[cfg(target_arch = "x86_64")]
struct Ahead<'a> {
    bits: std::slice::Chunks<'a, u8>,
    numbers: std::iter::Chain<std::slice::Chunks<'a, u8>, std::slice::Chunks<'a, u8>>,
}

#[cfg(target_arch = "x86_64")]
impl<'a> Ahead<'a> {
    fn of(block: &Block<'a>) -> Self {
        let numbers = block.factors.chunks(LINE).chain(block.offsets.chunks(LINE));
        Self {
            bits: block.bits.chunks(LINE),
            numbers,
        }
    }

    /// So many lines of bits, and one of numbers.
    #[inline(always)]
    fn fetch<const LINES: usize>(&mut self) {
        self.bits.by_ref().take(LINES).for_each(fetch_line);
        self.numbers.by_ref().take(1).for_each(fetch_line);
    }
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

/// The estimated cosines of a block's rows, by as many words of their codes as the query has. What is wanted of the next block is
/// fetched meanwhile: it lies where no processor expects it.
///
/// # Panics
/// If the codes have fewer.
pub fn estimate(block: &Block<'_>, next: &Block<'_>, query: &CodedQuery, out: &mut [f32; BLOCK]) {
    let bytes = BLOCK * 8 * query.planes.len();
    assert!(
        block.bits.len() >= bytes
            && next.bits.len() >= bytes
            && query.tables.len() == 16 * query.planes.len(),
        "dimensions"
    );
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx512vpopcntdq")
        && std::arch::is_x86_feature_detected!("avx512dq")
        && std::arch::is_x86_feature_detected!("avx512vl")
    {
        // SAFETY: the processor has what the function is compiled for; the lengths were compared above.
        unsafe { wide::estimate(block, next, query, out) };
        return;
    } else if has_avx2() {
        // SAFETY: the processor has what the function is compiled for; the lengths were compared above.
        unsafe { narrow::estimate(block, next, query, out) };
        return;
    }
    estimate_plain(block, query, out);
}

fn estimate_plain(block: &Block<'_>, query: &CodedQuery, out: &mut [f32; BLOCK]) {
    let mut weighted = [0i32; BLOCK];
    for (planes, rows) in query.planes.iter().zip(block.bits.chunks_exact(8 * BLOCK)) {
        let (rows, _) = rows.as_chunks::<8>();
        for (sum, bits) in weighted.iter_mut().zip(rows) {
            *sum += weigh(u64::from_le_bytes(*bits), planes);
        }
    }
    finish(block, query, &weighted, out);
}

/// The estimated cosines of single rows, by block and place, to the bit as `estimate` says; negative infinity where there is none.
///
/// # Panics
/// If the codes have fewer words than the query, and if there is no such place.
pub fn estimate_rows(rows: &[Option<(&Block<'_>, usize)>], query: &CodedQuery, out: &mut Vec<f32>) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("popcnt") {
        // SAFETY: the processor has what the function is compiled for.
        return unsafe { estimate_rows_counting(rows, query, out) };
    }
    estimate_rows_plain(rows, query, out);
}

/// # Safety
/// The processor counts bits.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "popcnt")]
unsafe fn estimate_rows_counting(
    rows: &[Option<(&Block<'_>, usize)>],
    query: &CodedQuery,
    out: &mut Vec<f32>,
) {
    estimate_rows_plain(rows, query, out);
}

/// Rows whose lines are fetched before they are wanted.
const EARLY: usize = 8;

#[inline(always)]
fn estimate_rows_plain(
    rows: &[Option<(&Block<'_>, usize)>],
    query: &CodedQuery,
    out: &mut Vec<f32>,
) {
    for (at, place) in rows.iter().enumerate() {
        if let Some(Some((block, index))) = rows.get(at + EARLY) {
            for word in 0..query.planes.len() {
                fetch_line(&block.bits[8 * (word * BLOCK + index)..]);
            }
            fetch_line(&block.factors[4 * index..]);
            fetch_line(&block.offsets[4 * index..]);
        }
        out.push(place.map_or(f32::NEG_INFINITY, |(block, index)| {
            estimate_row_plain(block, query, index)
        }));
    }
}

#[inline(always)]
fn estimate_row_plain(block: &Block<'_>, query: &CodedQuery, index: usize) -> f32 {
    let (words, _) = block.bits.as_chunks::<8>();
    let weighted = query
        .planes
        .iter()
        .enumerate()
        .map(|(word, planes)| weigh(u64::from_le_bytes(words[word * BLOCK + index]), planes));
    let number = |column: &[u8]| f32::from_le_bytes(column.as_chunks::<4>().0[index]);
    value(
        query,
        weighted.sum(),
        number(block.factors),
        number(block.offsets),
    )
}

/// The sum of a word's levels where bits are set.
#[inline(always)]
fn weigh(bits: u64, planes: &[u64; PLANES]) -> i32 {
    let mut sum = 0;
    for (plane, mask) in planes.iter().enumerate() {
        let counted = ((bits & mask).count_ones() as i32) << plane;
        sum += if plane == PLANES - 1 {
            -counted
        } else {
            counted
        };
    }
    sum
}

#[inline(always)]
fn value(query: &CodedQuery, weighted: i32, factor: f32, offset: f32) -> f32 {
    // Below 2^24: exact.
    factor * (query.step * weighted as f32 - query.total) + (offset + query.bias)
}

/// Estimates from the rows' sums of query levels where their bits are set.
#[inline(always)]
fn finish(block: &Block<'_>, query: &CodedQuery, weighted: &[i32; BLOCK], out: &mut [f32; BLOCK]) {
    let [factors, offsets] = [block.factors, block.offsets].map(|column| column.as_chunks::<4>().0);
    let columns = weighted.iter().zip(factors).zip(offsets);
    for (out, ((weighted, factor), offset)) in out.iter_mut().zip(columns) {
        let [factor, offset] = [factor, offset].map(|bytes| f32::from_le_bytes(*bytes));
        *out = value(query, *weighted, factor, offset);
    }
}

#[cfg(target_arch = "x86_64")]
mod narrow;
#[cfg(target_arch = "x86_64")]
mod wide;

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
            part in 1usize..=4,
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
            let query = CodedQuery::of(&vector(), &centre, words.div_ceil(part));
            let mut block = empty(words);
            for index in 0..rows.min(1 << 19 >> dimensions.ilog2().max(11)) {
                write(&mut block, words, index, &Code::of(&vector(), &centre));
            }
            let block = Block::read(&block, words).unwrap();
            let (mut fast, mut plain) = ([0.0; BLOCK], [0.0; BLOCK]);
            estimate_plain(&block, &query, &mut plain);
            estimate(&block, &block, &query, &mut fast);
            prop_assert_eq!(fast.map(f32::to_bits), plain.map(f32::to_bits));
            let mut each = Vec::new();
            let places: Vec<_> = (0..BLOCK).map(|index| Some((&block, index))).collect();
            estimate_rows(&places, &query, &mut each);
            prop_assert_eq!(each.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), plain.map(f32::to_bits));
            #[cfg(target_arch = "x86_64")]
            if has_avx2() {
                // SAFETY: the processor has AVX2.
                unsafe { narrow::estimate(&block, &block, &query, &mut fast) };
                prop_assert_eq!(fast.map(f32::to_bits), plain.map(f32::to_bits));
            }
        }

        #[test]
        fn the_largest_sums_fit(words in prop::sample::select(vec![1usize, 8, 64, 65, 200]), low in any::<bool>()) {
            // All levels are 7, or all are -8.
            let level = if low { -8i32 } else { 7 };
            let planes = vec![std::array::from_fn(|plane| if level >> plane & 1 == 1 { u64::MAX } else { 0 }); words];
            let tables = vec![std::array::from_fn(|set: usize| (LIFT + level * set.count_ones() as i32) as u8); 16 * words];
            let query = CodedQuery { planes, tables, step: 1.0, total: 0.0, bias: 0.0 };
            let mut block = empty(words);
            for index in 0..BLOCK {
                let bits = vec![if index % 3 == 0 { 0 } else { u64::MAX >> (index % 5) }; words];
                write(&mut block, words, index, &Code { bits, factor: 1.0, offset: 0.0 });
            }
            let block = Block::read(&block, words).unwrap();
            let (mut fast, mut plain) = ([0.0; BLOCK], [0.0; BLOCK]);
            estimate_plain(&block, &query, &mut plain);
            prop_assert_eq!(plain[1], (level * 63 * words as i32) as f32);
            estimate(&block, &block, &query, &mut fast);
            prop_assert_eq!(fast, plain);
            #[cfg(target_arch = "x86_64")]
            if has_avx2() {
                // SAFETY: the processor has AVX2.
                unsafe { narrow::estimate(&block, &block, &query, &mut fast) };
                prop_assert_eq!(fast, plain);
            }
        }
    }
}
