//! Products in ggml's arithmetic against plain references in its order of operations, to the bit, and against what ggml
//! computed.

mod common;

use common::ggml::{half, rows_product, tree};
use common::{cases, everywhere, random};
use moevolve_kernels::stored::{
    FloatSums, Format, Matrix, Product, Scratch, encode, from_f16, products, to_f16,
};
use moevolve_kernels::worker_pool::WorkerPool;
use moevolve_kernels::{BatchClass, Isa, padded};
use proptest::prelude::*;

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

/// ggml's inner product of a row of Q4_K, Q5_K or Q6_K with `x`, which it multiplies in this batch class.
fn nested_product(format: Format, row: &[u8], x: &[f32], class: BatchClass) -> f32 {
    let fours = class.fours && format == Format::Q4K;
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
        if class.eights {
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

fn multiply(
    isa: Isa,
    matrix: Matrix<'_>,
    rows: usize,
    x: &[f32],
    classes: &[BatchClass],
) -> Vec<f32> {
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
        sums: FloatSums::Ggml,
        classes,
    };
    products(
        isa,
        &WorkerPool::new(1),
        &mut [product],
        &mut Scratch::default(),
    );
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
        out in 1usize..40, blocks in 1usize..4, classes in prop::collection::vec(any::<(bool, bool)>(), 1..20), coarse: bool, seed: u64,
    ) {
        let classes: Vec<BatchClass> = classes.into_iter().map(|(fours, eights)| BatchClass { twos: true, fours, eights }).collect();
        let (inp, rows) = (256 * blocks, classes.len());
        let bytes = random_blocks(format, out * blocks, seed);
        let x = activations(rows * inp, coarse, seed ^ 1);
        let matrix = Matrix { format, bytes: &bytes, out, inp, scales: &[] };
        let y = everywhere(|isa| multiply(isa, matrix, rows, &x, &classes));
        for (row, (x, &class)) in x.chunks_exact(inp).zip(&classes).enumerate() {
            for (column, weights) in bytes.chunks_exact(format.row_bytes(inp)).enumerate() {
                let expected = nested_product(format, weights, x, class);
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
        let classes: Vec<BatchClass> = twos.iter().map(|&twos| BatchClass { twos, ..BatchClass::default() }).collect();
        let x = random(classes.len() * inp, seed ^ 1);
        let matrix = Matrix { format, bytes: &bytes, out, inp, scales: &[] };
        let y = everywhere(|isa| multiply(isa, matrix, classes.len(), &x, &classes));
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
        let classes = [0, 7].map(|prompt| BatchClass::of(0, prompt + 1));
        for (class, expected) in classes.iter().zip(floats(expected).chunks_exact(2)) {
            let y = everywhere(|isa| multiply(isa, matrix, 1, &x, &[*class]));
            assert_eq!(y, expected, "{}", format.name());
        }
    }
}

#[test]
fn a_token_has_the_class_of_its_batch() {
    let of = |position, prompt| {
        let BatchClass {
            twos,
            fours,
            eights,
        } = BatchClass::of(position, prompt);
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
