//! ggml's arithmetic against plain references in its order of operations, to the bit, and against what ggml computed.

mod common;

use std::sync::Arc;

use common::{cases, doubles, everywhere, random, random_rows};
use moevolve_kernels::attention::{
    Block, Heads, Memory, attend, attend_blocks, block, remember, remember_in_block,
};
use moevolve_kernels::ggml::{AsGgml, Company, rms_norm, round_to_half, swiglu};
use moevolve_kernels::norm::Norm;
use moevolve_kernels::rope::{Angles, Rotary, rotate};
use moevolve_kernels::stored::{
    Format, Matrix, Product, Scratch, encode, from_f16, products, to_f16,
};
use moevolve_kernels::team::Team;
use moevolve_kernels::{Isa, LANES, padded};
use proptest::prelude::*;

fn half(x: f32) -> f32 {
    from_f16(to_f16(x))
}

/// A sum over a tree: the upper half is added to the lower one until one is left.
fn tree(mut x: Vec<f32>) -> f32 {
    while x.len() > 1 {
        let upper = x.split_off(x.len() / 2);
        for (x, y) in x.iter_mut().zip(upper) {
            *x += y;
        }
    }
    x[0]
}

// --- products

/// A block's scale, minimum and 32 integers.
fn unpacked(format: Format, block: &[u8]) -> (f32, f32, Vec<i32>) {
    let f16 = |at: usize| from_f16(u16::from_le_bytes([block[at], block[at + 1]]));
    let nibbles = |at: usize, i: usize| i32::from(block[at + i % 16] >> (i / 16 * 4) & 15);
    match format {
        Format::Q4_0 => (f16(0), 0.0, (0..32).map(|i| nibbles(2, i) - 8).collect()),
        Format::Q4_1 => (f16(0), f16(2), (0..32).map(|i| nibbles(4, i)).collect()),
        Format::Q5_0 => {
            let fifth = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
            let five = |i: usize| nibbles(6, i) + ((fifth >> i & 1) << 4) as i32 - 16;
            (f16(0), 0.0, (0..32).map(five).collect())
        }
        _ => (
            f16(0),
            0.0,
            block[2..].iter().map(|&b| i32::from(b as i8)).collect(),
        ),
    }
}

/// ggml's inner product of a row of blocks with `x`.
fn inner_product(format: Format, row: &[u8], x: &[f32]) -> f32 {
    let (mut chains, mut minima) = ([0.0f32; 8], 0.0f32);
    for (block, x) in row
        .chunks_exact(format.block_bytes())
        .zip(x.chunks_exact(32))
    {
        let most = x.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let inverse = if most == 0.0 { 0.0 } else { 127.0 / most };
        let quanta: Vec<i32> = x
            .iter()
            .map(|x| (x * inverse).round_ties_even() as i32)
            .collect();
        let scale = most / 127.0;
        let sum = half(scale * quanta.iter().sum::<i32>() as f32);
        let (weight, minimum, integers) = unpacked(format, block);
        let both = weight * half(scale);
        let parts: Vec<i32> = integers.iter().zip(&quanta).map(|(a, b)| a * b).collect();
        if format == Format::Q4_0 {
            let whole = parts.iter().sum::<i32>() as f32;
            chains[0] = whole.mul_add(both, chains[0]);
            continue;
        }
        for (chain, four) in chains.iter_mut().zip(parts.chunks_exact(4)) {
            *chain = (four.iter().sum::<i32>() as f32).mul_add(both, *chain);
        }
        minima = minimum.mul_add(sum, minima);
    }
    if format == Format::Q4_0 {
        return chains[0];
    }
    tree(chains.to_vec()) + minima
}

/// A block of 256 columns: a scale and a minimum, integer scales of each sixteen columns and minima of each 32, and the
/// unsigned integers.
struct Nested {
    scale: f32,
    minimum: f32,
    scales: Vec<i32>,
    minima: Vec<i32>,
    integers: Vec<i32>,
}

fn nested(format: Format, block: &[u8]) -> Nested {
    let f16 = |at: usize| from_f16(u16::from_le_bytes([block[at], block[at + 1]]));
    if format == Format::Q6K {
        let integer = |i: usize| {
            let (n, part, i) = (i / 128, i / 32 % 4, i % 32);
            let low = block[64 * n + 32 * (part % 2) + i] >> (part / 2 * 4) & 15;
            let high = block[128 + 32 * n + i] >> (2 * part) & 3;
            i32::from(low | high << 4)
        };
        let scales = block[192..208].iter();
        return Nested {
            scale: f16(208),
            minimum: 0.0,
            scales: scales.map(|&scale| i32::from(scale as i8)).collect(),
            minima: vec![0; 8],
            integers: (0..256).map(integer).collect(),
        };
    }
    let packed = &block[4..16];
    let six = |i: usize, minimum: bool| {
        let at = i % 4 + if minimum { 4 } else { 0 };
        let upper = packed[at] >> 6 << 4;
        let last = packed[8 + i % 4];
        i32::from(match i {
            0..4 => packed[at] & 63,
            _ if minimum => last >> 4 | upper,
            _ => last & 15 | upper,
        })
    };
    let integer = |i: usize| {
        let (part, nibbles) = (i / 32, block.len() - 128);
        let nibble = block[nibbles + part / 2 * 32 + i % 32] >> (part % 2 * 4) & 15;
        let fifth = block[16 + i % 32] >> part & 1;
        i32::from(if format == Format::Q5K {
            nibble | fifth << 4
        } else {
            nibble
        })
    };
    Nested {
        scale: f16(0),
        minimum: f16(2),
        scales: (0..16).map(|i| six(i / 2, false)).collect(),
        minima: (0..8).map(|i| six(i, true)).collect(),
        integers: (0..256).map(integer).collect(),
    }
}

/// 256 values as bytes with one scale: the value of the largest magnitude becomes -127, the first one or, in fours, a
/// positive one if there is any.
fn bytes_of(x: &[f32], fours: bool) -> (f32, Vec<i32>) {
    let most = x.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    if most == 0.0 {
        return (0.0, vec![0; x.len()]);
    }
    let first = x.iter().find(|x| x.abs() == most);
    let largest = if fours && x.contains(&most) {
        most
    } else {
        *first.expect("the largest")
    };
    let inverse = -127.0 / largest;
    let quanta = x.iter().map(|x| (x * inverse).round_ties_even() as i32);
    (1.0 / inverse, quanta.collect())
}

/// ggml's inner product of a row of Q4_K, Q5_K or Q6_K with `x`, which it multiplies in this company.
fn nested_product(format: Format, row: &[u8], x: &[f32], company: Company) -> f32 {
    let fours = company.fours && format == Format::Q4K;
    let (mut chains, mut minima) = (vec![0.0f32; 8], 0.0f32);
    for (block, x) in row
        .chunks_exact(format.block_bytes())
        .zip(x.chunks_exact(256))
    {
        let (by, quanta) = bytes_of(x, fours);
        let block = nested(format, block);
        // Scaled sums of four columns, and what the minima take from 32 of them.
        let products: Vec<i32> = (0..256)
            .map(|i| block.scales[i / 16] * block.integers[i] * quanta[i])
            .collect();
        let dots: Vec<i32> = products
            .chunks_exact(4)
            .map(|four| four.iter().sum())
            .collect();
        let sum = |from: usize, n: usize| quanta[from..from + n].iter().sum::<i32>();
        let least: Vec<i32> = (0..8)
            .map(|part| block.minima[part] * sum(32 * part, 32))
            .collect();
        // What the integers of Q6_K are too large by.
        let over = |part: usize| {
            if format == Format::Q6K {
                32 * block.scales[part] * sum(16 * part, 16)
            } else {
                0
            }
        };
        let (scale, minimum) = (block.scale * by, block.minimum * by);
        if format == Format::Q4K {
            let parts = if fours { 2 } else { 8 };
            for (dots, least) in dots.chunks_exact(8 * parts).zip(least.chunks_exact(parts)) {
                chains[0] = (dots.iter().sum::<i32>() as f32).mul_add(scale, chains[0]);
                minima = (least.iter().sum::<i32>() as f32).mul_add(-minimum, minima);
            }
            continue;
        }
        let least = least.iter().sum::<i32>() as f32;
        if company.eights {
            let whole = dots.iter().sum::<i32>() - (0..16).map(over).sum::<i32>();
            let whole = least.mul_add(-block.minimum, whole as f32 * block.scale);
            chains[0] = whole.mul_add(by, chains[0]);
            continue;
        }
        for (i, chain) in chains.iter_mut().enumerate() {
            let lane = dots.iter().skip(i).step_by(8).sum::<i32>() - over(2 * i) - over(2 * i + 1);
            *chain = (lane as f32).mul_add(scale, *chain);
        }
        minima = least.mul_add(-minimum, minima);
    }
    tree(chains) + minima
}

/// Blocks of random bits with ordinary scales.
fn random_blocks(format: Format, blocks: usize, seed: u64) -> Vec<u8> {
    let size = format.block_bytes();
    let bits = random(blocks * size, seed);
    let mut bytes: Vec<u8> = bits.iter().map(|x| (x * 128.0) as i32 as u8).collect();
    for (i, block) in bytes.chunks_exact_mut(size).enumerate() {
        let floats = if format == Format::Q6K {
            208..210
        } else {
            0..4
        };
        for at in floats.step_by(2) {
            let half = to_f16(bits[i * size + at] * 0.01);
            block[at..at + 2].copy_from_slice(&half.to_le_bytes());
        }
    }
    bytes
}

/// Random numbers; coarse ones have several of the largest magnitude.
fn activations(n: usize, coarse: bool, seed: u64) -> Vec<f32> {
    let mut x = random(n, seed);
    if coarse {
        x.iter_mut().for_each(|x| *x = (*x * 8.0).round() / 8.0);
    }
    x
}

fn multiply(isa: Isa, matrix: Matrix<'_>, rows: usize, x: &[f32], company: &[Company]) -> Vec<f32> {
    let (x_stride, y_stride) = (matrix.inp, matrix.out);
    let mut y = vec![f32::NAN; rows * matrix.out];
    let product = Product {
        matrix,
        rows,
        x,
        x_stride,
        y: &mut y,
        y_stride,
        add: false,
        as_ggml: true,
        company,
    };
    products(isa, &Team::new(1), &mut [product], &mut Scratch::default());
    y
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn products_add_up_as_ggml_does(
        format in prop::sample::select(vec![Format::Q4_0, Format::Q4_1, Format::Q5_0, Format::Q8_0]),
        out in 1usize..40, blocks in 1usize..9, rows in 1usize..12, seed: u64,
    ) {
        let inp = 32 * blocks;
        let bytes = encode(format, &random(out * inp, seed)).expect("a format that is written");
        let x = random(rows * inp, seed ^ 1);
        let matrix = Matrix { format, bytes: &bytes, out, inp, scales: &[] };
        let y = everywhere(|isa| multiply(isa, matrix, rows, &x, &[]));
        for (row, x) in x.chunks_exact(inp).enumerate() {
            for (column, weights) in bytes.chunks_exact(format.row_bytes(inp)).enumerate() {
                let expected = inner_product(format, weights, x);
                prop_assert_eq!(y[row * out + column].to_bits(), expected.to_bits());
            }
        }
    }

    #[test]
    fn nested_products_add_up_as_ggml_does(
        format in prop::sample::select(vec![Format::Q4K, Format::Q5K, Format::Q6K]),
        out in 1usize..40, blocks in 1usize..4, company in prop::collection::vec(any::<(bool, bool)>(), 1..20), coarse: bool, seed: u64,
    ) {
        let company: Vec<Company> = company.into_iter().map(|(fours, eights)| Company { twos: true, fours, eights }).collect();
        let (inp, rows) = (256 * blocks, company.len());
        let bytes = random_blocks(format, out * blocks, seed);
        let x = activations(rows * inp, coarse, seed ^ 1);
        let matrix = Matrix { format, bytes: &bytes, out, inp, scales: &[] };
        let y = everywhere(|isa| multiply(isa, matrix, rows, &x, &company));
        for (row, (x, &company)) in x.chunks_exact(inp).zip(&company).enumerate() {
            for (column, weights) in bytes.chunks_exact(format.row_bytes(inp)).enumerate() {
                let expected = nested_product(format, weights, x, company);
                prop_assert_eq!(y[row * out + column].to_bits(), expected.to_bits());
            }
        }
    }
}

/// ggml's product of two rows of floats; of many rows at once, or of two.
fn float_product(format: Format, weights: &[f32], x: &[f32], together: bool) -> f32 {
    if format == Format::F16 {
        let x: Vec<f32> = x.iter().map(|&x| half(x)).collect();
        return rows_product(weights, &x, !together);
    }
    let apart = if together { 16 } else { 64 };
    let whole = x.len() / apart * apart;
    let rest = weights[whole..].iter().zip(&x[whole..]);
    let sum = rows_product(&weights[..whole], &x[..whole], !together);
    rest.fold(sum, |sum, (a, b)| a.mul_add(*b, sum))
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn products_of_floats_add_up_as_ggml_does(
        format in prop::sample::select(vec![Format::F32, Format::F16]), out in 1usize..30, width in 1usize..200, whole: bool,
        twos in prop::collection::vec(any::<bool>(), 1..12), seed: u64,
    ) {
        let inp = if whole { padded(width) } else { width };
        let weights = random(out * inp, seed);
        let bytes = encode(format, &weights).unwrap_or_else(|| weights.iter().flat_map(|x| x.to_le_bytes()).collect());
        let weights: Vec<f32> = if format == Format::F16 { weights.iter().map(|&x| half(x)).collect() } else { weights };
        let company: Vec<Company> = twos.iter().map(|&twos| Company { twos, ..Company::default() }).collect();
        let x = random(company.len() * inp, seed ^ 1);
        let matrix = Matrix { format, bytes: &bytes, out, inp, scales: &[] };
        let y = everywhere(|isa| multiply(isa, matrix, company.len(), &x, &company));
        for (row, (x, twos)) in x.chunks_exact(inp).zip(twos).enumerate() {
            let together = twos && out % 4 == 0 && inp % 16 == 0;
            for (column, weights) in weights.chunks_exact(inp).enumerate() {
                let expected = float_product(format, weights, x, together);
                prop_assert_eq!(y[row * out + column].to_bits(), expected.to_bits());
            }
        }
    }
}

#[test]
fn products_are_those_that_ggml_computed() {
    let floats = |bytes: &[u8]| -> Vec<f32> {
        bytes
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect()
    };
    // Two rows of 512 columns, by ggml_vec_dot_* of ggml 0.25 on AVX-512; of Q5_K and Q6_K also by its product of eight.
    let x = floats(include_bytes!("golden/values.f32"));
    macro_rules! golden {
        ($name:literal) => {
            (
                &include_bytes!(concat!("golden/", $name, ".blocks"))[..],
                &include_bytes!(concat!("golden/", $name, ".products"))[..],
            )
        };
    }
    for (format, (bytes, expected)) in [
        (Format::Q4_1, golden!("q41")),
        (Format::Q5_0, golden!("q50")),
        (Format::Q8_0, golden!("q80")),
        (Format::Q5K, golden!("q5k")),
        (Format::Q6K, golden!("q6k")),
    ] {
        let matrix = Matrix {
            format,
            bytes,
            out: 2,
            inp: 512,
            scales: &[],
        };
        let company = [0, 7].map(|prompt| Company::of(0, prompt + 1));
        for (company, expected) in company.iter().zip(floats(expected).chunks_exact(2)) {
            let y = everywhere(|isa| multiply(isa, matrix, 1, &x, &[*company]));
            assert_eq!(y, expected, "{}", format.name());
        }
    }
}

#[test]
fn a_token_is_in_the_company_of_its_batch() {
    let of = |position, prompt| {
        let Company {
            twos,
            fours,
            eights,
        } = Company::of(position, prompt);
        assert_eq!(
            twos,
            position < prompt && prompt % 512 != 1,
            "with any other"
        );
        (fours, eights)
    };
    assert_eq!([of(0, 1), of(2, 3), of(7, 7)], [(false, false); 3]);
    assert_eq!([of(3, 7), of(4, 7)], [(true, false), (false, false)]);
    assert_eq!(
        [of(7, 9), of(8, 9), of(9, 9)],
        [(true, true), (false, true), (false, false)]
    );
    // Batches of 512: the second one has four tokens.
    assert_eq!([of(511, 516), of(512, 516)], [(true, true), (true, false)]);
}

// --- what lies between products

/// e^x in ggml's operations.
fn exponential(x: f32) -> f32 {
    let shift = 1.5 * 2.0f32.powi(23);
    let n = x.mul_add(f32::from_bits(0x3fb8_aa3b), shift) - shift;
    if n.abs() > 192.0 {
        return if n > 0.0 { f32::INFINITY } else { 0.0 };
    }
    let r = (-n).mul_add(f32::from_bits(0x3f31_7200), x);
    let r = (-n).mul_add(f32::from_bits(0x35bf_be8e), r);
    let square = r * r;
    let low = f32::from_bits(0x3f7f_fff6).mul_add(r, 1.0);
    let middle = f32::from_bits(0x3e2a_af33).mul_add(r, f32::from_bits(0x3eff_fedb));
    let high = f32::from_bits(0x3c07_2010).mul_add(r, f32::from_bits(0x3d2b_9f17));
    let polynomial = high.mul_add(square, middle).mul_add(square, low);
    // One rounding, of a product that f64 holds exactly.
    (f64::from(polynomial) * f64::from(n).exp2()) as f32
}

#[test]
fn the_exponential_behind_swiglu_is_right_over_its_whole_range() {
    let gates: Vec<f32> = (-2400..=2400).map(|i| i as f32 / 16.0).collect();
    let width = padded(gates.len());
    let mut gate_up = vec![1.0; 2 * width];
    gate_up[..gates.len()].copy_from_slice(&gates);
    let found = everywhere(|isa| {
        let mut out = vec![0.0; width];
        swiglu(isa, width, &gate_up, &mut out);
        out
    });
    for (&x, &y) in gates.iter().zip(&found) {
        assert_eq!(y.to_bits(), (x / (1.0 + exponential(-x))).to_bits(), "{x}");
        let exact = f64::from(x) * common::sigmoid(f64::from(x));
        assert!(
            (f64::from(y) - exact).abs() <= 3e-7 * exact.abs() + 1e-36,
            "{x}: {y} {exact}"
        );
    }
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn norms_add_squares_one_by_one(rows in 0usize..5, groups in 1usize..3, count in 1usize..90, seed: u64) {
        let width = padded(count);
        let norm = Norm { groups, width, count, epsilon: 1e-5 };
        let x = random_rows(rows * groups, count, width, seed);
        let gain = random_rows(1, count, width, seed ^ 1);
        let y = everywhere(|isa| {
            let (mut y, mut inverse) = (vec![0.0; x.len()], vec![0.0; rows * groups]);
            let step = groups * width;
            rms_norm(isa, norm, rows, &x, step, &gain, &mut y, step, &mut inverse);
            y
        });
        for (x, y) in x.chunks_exact(width).zip(y.chunks_exact(width)) {
            let sum: f64 = x.iter().map(|x| f64::from(x * x)).sum();
            let scale = 1.0 / ((sum / count as f64) as f32 + 1e-5).sqrt();
            for ((x, g), y) in x.iter().zip(&gain).zip(y) {
                prop_assert_eq!((x * scale * g).to_bits(), y.to_bits());
            }
        }
    }

    #[test]
    fn rotations_fuse_the_first_of_each_pair(rotated in 1usize..20, position in 0u32..600, scale in prop::sample::select(vec![1.0f32, 0.25]), seed: u64) {
        let (rotated, width) = (2 * rotated, padded(2 * rotated));
        let divisors: Vec<f32> = random(rotated / 2, seed ^ 1).iter().map(|x| x + 2.0).collect();
        let mut rotary = Rotary::new(width, Angles::chain(rotated, 1e5, scale, divisors.clone()), 1.0, true);
        rotary.extend(601);
        let x = random_rows(1, rotated, width, seed);
        let margin = rotary.margin();
        let mut between = vec![0.0; width + 2 * margin];
        between[margin..margin + width].copy_from_slice(&x);
        let y = everywhere(|isa| {
            let mut y = vec![0.0; width];
            rotate(isa, &rotary, 1, &[position], &between, &mut y, false);
            y
        });
        let mut angle = position as f32;
        for (i, j) in (0..rotated / 2).map(|i| (i, i + rotated / 2)) {
            let (sin, cos) = (scale * (angle / divisors[i])).sin_cos();
            prop_assert_eq!(y[i], x[i].mul_add(cos, -(x[j] * sin)));
            prop_assert_eq!(y[j], x[i].mul_add(sin, x[j] * cos));
            angle *= 1e5f32.powf(-2.0 / rotated as f32);
        }
    }
}

// --- attention

struct Case {
    heads: Heads,
    positions: usize,
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    order: Vec<u32>,
}

fn case(groups: usize, key_heads: usize, width: usize, positions: usize, seed: u64) -> Case {
    let heads = Heads {
        queries: groups * key_heads,
        keys: key_heads,
        width,
        scale: 1.0 / (width as f32).sqrt(),
    };
    let rounded = |heads: usize, seed| {
        let mut x = random(positions * heads * width, seed);
        round_to_half(Isa::best(), positions, heads * width, heads * width, &mut x);
        x
    };
    Case {
        heads,
        positions,
        queries: rounded(heads.queries, seed),
        keys: rounded(key_heads, seed ^ 1),
        values: rounded(key_heads, seed ^ 2),
        // As the files of llama: pairs that are turned together stand side by side.
        order: (0..width)
            .map(|d| (d / 2 + d % 2 * width / 2) as u32)
            .collect(),
    }
}

/// ggml's inner product of rows of f16: of many rows at once, or of one.
fn rows_product(a: &[f32], b: &[f32], alone: bool) -> f32 {
    let apart = if alone { 64 } else { 16 };
    let whole = a.len() / apart * apart;
    let mut chains = vec![0.0f32; apart];
    for (i, (a, b)) in a[..whole].iter().zip(b).enumerate() {
        chains[i % apart] = a.mul_add(*b, chains[i % apart]);
    }
    if !alone {
        return tree(chains);
    }
    // Four vectors: the first and the third, the second and the fourth, then both.
    let mut sum = f64::from(tree(chains));
    for (a, b) in a[whole..].iter().zip(&b[whole..]) {
        sum += f64::from(a * b);
    }
    sum as f32
}

impl Case {
    fn row<'a>(&self, of: &'a [f32], heads: usize, t: usize, head: usize) -> &'a [f32] {
        &of[(t * heads + head) * self.heads.width..][..self.heads.width]
    }

    /// One head of one query, in plain operations.
    fn reference(&self, t: usize, head: usize, alone: bool) -> Vec<f32> {
        let Heads {
            queries,
            keys,
            width,
            scale,
        } = self.heads;
        let key_head = head / (queries / keys);
        let ordered =
            |x: &[f32]| -> Vec<f32> { self.order.iter().map(|&d| x[d as usize]).collect() };
        let query = ordered(self.row(&self.queries, queries, t, head));
        let mut scores: Vec<f32> = (0..=t)
            .map(|s| {
                let key = ordered(self.row(&self.keys, keys, s, key_head));
                rows_product(&query, &key, alone) * scale
            })
            .collect();
        // llama.cpp pads to whole multiples of 256 positions, which nobody sees.
        scores.resize(scores.len().next_multiple_of(256), f32::NEG_INFINITY);
        let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weights: Vec<f32> = scores.iter().map(|s| exponential(s - top)).collect();
        let sum: f64 = weights
            .chunks_exact(16)
            .map(|chunk| f64::from(tree(chunk.to_vec())))
            .sum();
        let share = (1.0 / sum) as f32;
        let weights: Vec<f32> = weights.iter().map(|w| half(w * share)).collect();
        (0..width)
            .map(|d| {
                let mut column: Vec<f32> = (0..=t)
                    .map(|s| self.row(&self.values, keys, s, key_head)[d])
                    .collect();
                column.resize(weights.len(), 0.0);
                rows_product(&column, &weights, alone)
            })
            .collect()
    }

    fn attend(&self, isa: Isa, prompt: usize) -> Vec<f32> {
        let (row, stride) = (self.heads.keys * self.heads.width, padded(self.positions));
        let (mut keys, mut values) = (vec![0.0; row * stride], vec![0.0; row * stride]);
        let (from, to) = ((&self.keys[..], row), (&self.values[..], row));
        let order = Some(&self.order[..]);
        remember(
            self.heads,
            self.positions,
            0,
            from,
            to,
            order,
            stride,
            &mut keys,
            &mut values,
        );
        let memory = Memory {
            keys: &keys,
            values: &values,
            stride,
        };
        let as_ggml = Some(AsGgml {
            order: &self.order,
            prompt,
        });
        let last: Vec<u32> = (0..self.positions as u32).collect();
        let mut probabilities = vec![f32::NAN; self.heads.queries * stride];
        let mut out = vec![f32::NAN; self.queries.len()];
        attend(
            isa,
            self.heads,
            memory,
            &last,
            &self.queries,
            as_ggml,
            &mut probabilities,
            false,
            &mut out,
        );
        out
    }
}

proptest! {
    #![proptest_config(cases(32))]

    #[test]
    fn attention_adds_up_as_ggml_does(
        groups in 1usize..6, keys in 1usize..3, width in 1usize..10, n in 1usize..90, prompt in 0usize..90, seed: u64,
    ) {
        let case = case(groups, keys, 16 * width, n, seed);
        let found = everywhere(|isa| case.attend(isa, prompt));
        let heads = case.heads.queries;
        for t in 0..n {
            // A prompt of one token is computed as a token after it is.
            let alone = t >= prompt || prompt == 1;
            for head in 0..heads {
                let expected = case.reference(t, head, alone);
                let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                prop_assert_eq!(bits(case.row(&found, heads, t, head)), bits(&expected));
            }
        }
    }

    #[test]
    fn blocks_give_the_bits_of_the_whole(groups in 1usize..6, keys in 1usize..3, n in 1usize..70, prompt in 0usize..70, seed: u64) {
        let case = case(groups, keys, 64, n, seed);
        let row = case.heads.keys * case.heads.width;
        let mut blocks: Vec<Block> = (0..n.div_ceil(LANES)).map(|_| block(case.heads, 2)).collect();
        let order = Some(&case.order[..]);
        for t in 0..n {
            let at = Arc::get_mut(&mut blocks[t / LANES]).expect("nobody else holds it");
            remember_in_block(case.heads, 1, t % LANES, &case.keys[t * row..], &case.values[t * row..], order, at);
        }
        let last: Vec<u32> = (0..n as u32).collect();
        for isa in Isa::available() {
            let mut scratch = vec![f32::NAN; case.heads.queries * padded(n)];
            let mut out = vec![f32::NAN; case.queries.len()];
            let as_ggml = Some(AsGgml { order: &case.order, prompt });
            attend_blocks(isa, case.heads, &blocks, 1, &last, &case.queries, as_ggml, &mut scratch, &mut out);
            prop_assert_eq!(out, case.attend(isa, prompt));
        }
    }
}

#[test]
fn the_token_that_a_prompt_of_513_leaves_over_is_computed_alone() {
    let case = case(1, 1, 64, 513, 3);
    let found = case.attend(Isa::best(), 513);
    for (t, alone) in [(511, false), (512, true)] {
        assert_eq!(case.row(&found, 1, t, 0), case.reference(t, 0, alone));
        assert_ne!(case.row(&found, 1, t, 0), case.reference(t, 0, !alone));
    }
}

#[test]
fn halves_are_rounded_to_the_nearest() {
    let mut x: Vec<f32> = random(4096, 1)
        .iter()
        .enumerate()
        .map(|(i, x)| x * 2.0f32.powi(i as i32 % 40 - 22))
        .collect();
    x[..4].copy_from_slice(&[65_519.0, 65_520.0, -1e9, 2.0f32.powi(-25)]);
    let found = everywhere(|isa| {
        let mut y = x.clone();
        round_to_half(isa, 64, 64, 64, &mut y);
        y
    });
    let expected: Vec<f64> = doubles(&x.iter().map(|&x| half(x)).collect::<Vec<_>>());
    assert_eq!(doubles(&found), expected);
}
