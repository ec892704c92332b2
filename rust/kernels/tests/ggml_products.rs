//! Products in ggml's arithmetic against plain references in its order of operations, to the bit, and against what ggml
//! computed.

mod common;

use common::blocks::{inner_product, nested_product, random_blocks};
use common::ggml::{brain, half, pairs_product, rows_product};
use common::{cases, everywhere, random};
use moevolve_kernels::stored::{FloatSums, Format, Matrix, Product, Scratch, encode, products};
use moevolve_kernels::worker_pool::WorkerPool;
use moevolve_kernels::{BatchClass, Isa, padded};
use proptest::prelude::*;

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
        format in prop::sample::select(vec![
            Format::Q4_0, Format::Q4_1, Format::Q5_0, Format::Q5_1, Format::Q8_0, Format::Iq4Nl, Format::Mxfp4,
        ]),
        out in 1usize..40, blocks in 1usize..9, rows in 1usize..12, seed: u64,
    ) {
        let inp = 32 * blocks;
        let bytes = random_blocks(format, out * blocks, seed);
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
        format in prop::sample::select(vec![Format::Q2K, Format::Q3K, Format::Q4K, Format::Q5K, Format::Q6K, Format::Iq3Xxs, Format::Iq3S, Format::Iq4Xs]),
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
    if format == Format::Bf16 {
        let x: Vec<f32> = x.iter().map(|&x| brain(x)).collect();
        return pairs_product(weights, &x, !together);
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
        format in prop::sample::select(vec![Format::F32, Format::F16, Format::Bf16]), out in 1usize..30, width in 1usize..200, whole: bool,
        twos in prop::collection::vec(any::<bool>(), 1..12), seed: u64,
    ) {
        let inp = if whole { padded(width) } else { width };
        let weights = random(out * inp, seed);
        let bytes = encode(format, &weights).unwrap_or_else(|| weights.iter().flat_map(|x| x.to_le_bytes()).collect());
        let narrow = match format {
            Format::F16 => half,
            Format::Bf16 => brain,
            _ => |x| x,
        };
        let weights: Vec<f32> = weights.into_iter().map(narrow).collect();
        let classes: Vec<BatchClass> = twos.iter().map(|&twos| BatchClass { twos, ..BatchClass::default() }).collect();
        let x = random(classes.len() * inp, seed ^ 1);
        let matrix = Matrix { format, bytes: &bytes, out, inp, scales: &[] };
        let y = everywhere(|isa| multiply(isa, matrix, classes.len(), &x, &classes));
        for (row, (x, twos)) in x.chunks_exact(inp).zip(twos).enumerate() {
            let step = if format == Format::Bf16 { 32 } else { 16 };
            let together = twos && out % 4 == 0 && inp % step == 0;
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
fn rows_alone_in_fours_and_in_eights_are_those_that_ggml_computed() {
    let floats = |bytes: &[u8]| -> Vec<f32> {
        bytes
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect()
    };
    // Eight rows of 512 columns of random bits, by ggml 0.25 with AVX-512: a token alone, the first of four and of eight.
    let x = floats(include_bytes!("golden/values.f32"));
    macro_rules! golden {
        ($name:literal) => {
            (
                &include_bytes!(concat!("golden/", $name, ".rows"))[..],
                &include_bytes!(concat!("golden/", $name, ".products"))[..],
            )
        };
    }
    for (format, (bytes, expected)) in [
        (Format::Q5_1, golden!("q51")),
        (Format::Q2K, golden!("q2k")),
        (Format::Q3K, golden!("q3k")),
        (Format::Iq3Xxs, golden!("iq3xxs")),
        (Format::Iq3S, golden!("iq3s")),
        (Format::Iq4Nl, golden!("iq4nl")),
        (Format::Iq4Xs, golden!("iq4xs")),
        (Format::Mxfp4, golden!("mxfp4")),
    ] {
        let (out, inp, scales) = (8, 512, &[][..]);
        let matrix = Matrix {
            format,
            bytes,
            out,
            inp,
            scales,
        };
        let classes = [1, 4, 8].map(|prompt| BatchClass::of(0, prompt));
        for (class, expected) in classes.iter().zip(floats(expected).chunks_exact(8)) {
            let y = everywhere(|isa| multiply(isa, matrix, 1, &x, &[*class]));
            assert_eq!(y, expected, "{} {class:?}", format.name());
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
