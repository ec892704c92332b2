//! Products with stored weights: the same bits everywhere, near the exact product, independent of other rows.

mod common;

use common::{apart, cases, doubles, everywhere, product, random};
use moevolve_kernels::panels::Precision;
use moevolve_kernels::stored::{
    BackwardScratch, FP8_BLOCK, FloatSums, Format, Matrix, Product, Scratch, backward, embed,
    from_f16, products, to_f16,
};
use moevolve_kernels::worker_pool::WorkerPool;
use moevolve_kernels::{BatchClass, Isa, padded};
use proptest::prelude::*;

/// Bytes and scales of a random matrix whose numbers are of ordinary size.
struct Stored {
    format: Format,
    out: usize,
    inp: usize,
    bytes: Vec<u8>,
    scales: Vec<f32>,
}

impl Stored {
    fn random(format: Format, out: usize, inp: usize, seed: u64) -> Self {
        let length = out * format.row_bytes(inp);
        let mut bytes: Vec<u8> = random(length, seed)
            .iter()
            .map(|x| ((x + 1.0) * 127.99) as u8)
            .collect();
        // Where any bits are a number, random ones do; the halves and floats among them are made ordinary.
        for (i, block) in bytes.chunks_exact_mut(format.block_bytes()).enumerate() {
            let value = random(2, seed ^ (i as u64) << 20);
            let half = |at: usize, x: f32, block: &mut [u8]| {
                let bits = moevolve_kernels::stored::to_f16(x * 0.1);
                block[at..at + 2].copy_from_slice(&bits.to_le_bytes());
            };
            match format {
                Format::F32 => block.copy_from_slice(&value[0].to_le_bytes()),
                Format::F16 => half(0, value[0], block),
                Format::Bf16 => {
                    let bits = moevolve_kernels::stored::to_bf16(value[0]);
                    block.copy_from_slice(&bits.to_le_bytes());
                }
                Format::Fp8 => block[0] &= 0xb7, // Magnitudes below 2.
                Format::Mxfp4 => block[0] = 120 + block[0] % 8,
                Format::Q4_0
                | Format::Q5_0
                | Format::Q8_0
                | Format::Iq3Xxs
                | Format::Iq3S
                | Format::Iq4Nl
                | Format::Iq4Xs => {
                    half(0, value[0], block);
                }
                Format::Q4_1 | Format::Q5_1 | Format::Q4K | Format::Q5K => {
                    half(0, value[0], block);
                    half(2, value[1], block);
                }
                Format::Q2K => {
                    half(80, value[0], block);
                    half(82, value[1], block);
                }
                Format::Q3K => half(108, value[0], block),
                Format::Q6K => half(208, value[0], block),
            }
        }
        let grid = if format == Format::Fp8 {
            out.div_ceil(FP8_BLOCK) * inp.div_ceil(FP8_BLOCK)
        } else {
            0
        };
        Self {
            format,
            out,
            inp,
            bytes,
            scales: random(grid, seed + 1),
        }
    }

    fn matrix(&self) -> Matrix<'_> {
        Matrix {
            format: self.format,
            bytes: &self.bytes,
            out: self.out,
            inp: self.inp,
            scales: &self.scales,
        }
    }

    fn decoded(&self) -> Vec<f32> {
        let ids: Vec<u32> = (0..self.out as u32).collect();
        let mut out = vec![0.0; self.out * self.inp];
        embed(&self.matrix(), &ids, &mut out);
        out
    }
}

/// Bytes of a quantised block that belong to floats.
fn floats_at(format: Format) -> Vec<usize> {
    match format {
        Format::Mxfp4 => vec![0],
        Format::Q4_1 | Format::Q5_1 | Format::Q4K | Format::Q5K => vec![0, 1, 2, 3],
        Format::Q2K => vec![80, 81, 82, 83],
        Format::Q3K => vec![108, 109],
        Format::Q6K => vec![208, 209],
        _ => vec![0, 1],
    }
}

fn multiply(isa: Isa, pool: &WorkerPool, stored: &Stored, rows: usize, x: &[f32]) -> Vec<f32> {
    multiply_as(isa, pool, stored, rows, x, &[])
}

fn multiply_as(
    isa: Isa,
    pool: &WorkerPool,
    stored: &Stored,
    rows: usize,
    x: &[f32],
    classes: &[BatchClass],
) -> Vec<f32> {
    let mut y = vec![f32::NAN; rows * stored.out];
    let product = Product {
        matrix: stored.matrix(),
        rows,
        x,
        x_stride: stored.inp,
        y: &mut y,
        y_stride: stored.out,
        add: false,
        sums: FloatSums::Chains,
        classes,
    };
    products(isa, pool, &mut [product], &mut Scratch::default());
    y
}

/// What the kernel does to activations, in plain Rust: to int8 and back, in blocks of the weights' size. Scales of 32
/// are rounded to half precision.
fn rounded(format: Format, x: &[f32]) -> Vec<f64> {
    // MXFP4 is multiplied as the floats that it is, where nothing asks for ggml's arithmetic.
    if !format.is_quantised() || format == Format::Mxfp4 {
        return doubles(x);
    }
    x.chunks_exact(format.block_len())
        .flat_map(|block| {
            let most = block.iter().fold(0.0f32, |most, x| most.max(x.abs()));
            let inverse = 127.0 / most;
            let mut scale = most / 127.0;
            if format.block_len() == 32 {
                scale = from_f16(to_f16(scale));
            }
            let scale = f64::from(scale);
            block
                .iter()
                .map(move |x| f64::from((x * inverse).round_ties_even()) * scale)
        })
        .collect()
}

fn any_format() -> impl Strategy<Value = Format> {
    prop::sample::select(Format::ALL.to_vec())
}

proptest! {
    #![proptest_config(cases(96))]

    #[test]
    fn every_instruction_set_agrees_with_the_exact_product(
        format in any_format(), out in 1usize..70, blocks in 1usize..4, rows in 1usize..21, seed in any::<u32>(),
    ) {
        // Floats: any length.
        let inp = if format.is_quantised() { blocks * format.block_len() } else { 75 * blocks + seed as usize % 3 };
        let stored = Stored::random(format, out, inp, seed.into());
        let x = random(rows * inp, seed as u64 + 7);
        let y = common::everywhere(|isa| multiply(isa, &WorkerPool::new(1), &stored, rows, &x));
        let expected = product(&rounded(format, &x), &doubles(&stored.decoded()), inp);
        // A minimum multiplies the sum of the activations, which is rounded to half precision as well.
        let bound = if matches!(format, Format::Q4_1 | Format::Q5_1) { 1e-3 } else { 1e-5 };
        prop_assert!(apart(&y, &expected) < bound, "{} {}", format.name(), apart(&y, &expected));
        // And the rounding costs little: half a step of 1/127 a value, at random signs.
        let exact = product(&doubles(&x), &doubles(&stored.decoded()), inp);
        let size = stored.decoded().iter().map(|w| w * w).sum::<f32>() / stored.out as f32;
        let bound = 0.5 / 127.0 * f64::from(size).sqrt() * 5.0;
        let scale = exact.iter().fold(1.0f64, |most, x| most.max(x.abs()));
        prop_assert!(apart(&y, &exact) * scale < bound + 1e-4 * scale, "{}", format.name());
    }

    #[test]
    fn rows_threads_and_other_products_do_not_change_a_bit(
        format in any_format(), other in any_format(), out in 1usize..200, rows in 1usize..40, seed in any::<u32>(),
    ) {
        let stored = Stored::random(format, out, 256, seed.into());
        let beside = Stored::random(other, 33, 256, seed as u64 + 1);
        let x = random(rows * 260, seed as u64 + 7);
        let packed: Vec<f32> = x.chunks_exact(260).flat_map(|row| row[..256].to_vec()).collect();
        let isa = Isa::best();
        let alone = WorkerPool::new(1);
        let expected: Vec<f32> = packed.chunks_exact(256).flat_map(|row| multiply(isa, &alone, &stored, 1, row)).collect();
        let begin = random(rows * (out + 3), 5);
        let (mut y, mut z) = (begin.clone(), vec![0.0; rows * 33]);
        let mut jobs = [
            Product { matrix: beside.matrix(), rows, x: &x, x_stride: 260, y: &mut z, y_stride: 33, add: false, sums: FloatSums::Chains, classes: &[] },
            Product { matrix: stored.matrix(), rows, x: &x, x_stride: 260, y: &mut y, y_stride: out + 3, add: true, sums: FloatSums::Chains, classes: &[] },
        ];
        products(isa, &WorkerPool::new(3), &mut jobs, &mut Scratch::default());
        for row in 0..rows {
            for column in 0..out + 3 {
                let at = row * (out + 3) + column;
                let sum = if column < out { begin[at] + expected[row * out + column] } else { begin[at] };
                prop_assert_eq!(y[at].to_bits(), sum.to_bits());
            }
        }
    }
}

/// Every sum as large as it can be: none may leave the bits that a kernel adds it up in.
#[test]
fn the_largest_sums_fit() {
    for format in Format::ALL
        .into_iter()
        .filter(|format| format.is_quantised())
    {
        let inp = 2 * format.block_len();
        let ordinary = Stored::random(format, 19, inp, 3);
        for fill in [0xffu8, 0x7f, 0x80] {
            let mut stored = Stored::random(format, 19, inp, 3);
            stored.bytes.fill(fill);
            // The floats of a block stand where they are ordinary.
            let (blocks, from) = (
                stored.bytes.chunks_exact_mut(format.block_bytes()),
                &ordinary.bytes,
            );
            for (block, from) in blocks.zip(from.chunks_exact(format.block_bytes())) {
                for at in floats_at(format) {
                    block[at] = from[at];
                }
            }
            for rows in [1, 2, 3, 4, 9] {
                for sign in [1.0f32, -1.0] {
                    let x: Vec<f32> = (0..rows * inp)
                        .map(|i| sign * (1 + i / inp) as f32)
                        .collect();
                    for together in [false, true] {
                        let classes = vec![
                            BatchClass {
                                twos: together,
                                fours: together,
                                eights: together
                            };
                            rows
                        ];
                        let pool = WorkerPool::new(1);
                        let y =
                            everywhere(|isa| multiply_as(isa, &pool, &stored, rows, &x, &classes));
                        let expected =
                            product(&rounded(format, &x), &doubles(&stored.decoded()), inp);
                        let bound = if matches!(format, Format::Q4_1 | Format::Q5_1) {
                            1e-3
                        } else {
                            1e-5
                        };
                        assert!(
                            apart(&y, &expected) < bound,
                            "{} of {fill:#x}, {rows} rows",
                            format.name()
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn scratch_serves_products_of_all_sizes() {
    let (pool, mut scratch) = (WorkerPool::new(2), Scratch::default());
    for (format, rows, inp) in [
        (Format::Q4K, 3, 512),
        (Format::F16, 20, 17),
        (Format::Q8_0, 1, 32),
        (Format::Q4K, 100, 256),
        (Format::Fp8, 2, 300),
    ] {
        let stored = Stored::random(format, 40, inp, 3);
        let x = random(rows * inp, 4);
        let expected = multiply(Isa::best(), &pool, &stored, rows, &x);
        let mut y = vec![0.0; rows * 40];
        let product = Product {
            matrix: stored.matrix(),
            rows,
            x: &x,
            x_stride: inp,
            y: &mut y,
            y_stride: 40,
            add: false,
            sums: FloatSums::Chains,
            classes: &[],
        };
        products(Isa::best(), &pool, &mut [product], &mut scratch);
        assert_eq!(y, expected, "{}", format.name());
    }
}

#[test]
fn what_is_not_finite_stays_so_in_its_row() {
    for format in Format::ALL {
        let inp = 256;
        let stored = Stored::random(format, 20, inp, 9);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = random(3 * inp, 4);
            let good = multiply(Isa::best(), &WorkerPool::new(1), &stored, 3, &x);
            x[inp + 37] = bad;
            let y = common::everywhere(|isa| {
                let y = multiply(isa, &WorkerPool::new(1), &stored, 3, &x);
                // Which NaN it is may differ.
                y.iter()
                    .map(|y| if y.is_finite() { *y } else { 0.5 })
                    .collect()
            });
            assert_eq!(y[..20], good[..20], "{}", format.name());
            assert_eq!(y[40..], good[40..]);
            assert_eq!(y[20..40], [0.5; 20], "{}", format.name());
        }
    }
}

#[test]
fn zeros_and_the_smallest_numbers_multiply_to_nothing() {
    for x in [0.0, -0.0, 1e-40, 1e-31] {
        let stored = Stored::random(Format::Q8_0, 16, 64, 2);
        let y =
            common::everywhere(|isa| multiply(isa, &WorkerPool::new(1), &stored, 1, &vec![x; 64]));
        assert!(y.iter().all(|y| y.abs() < 1e-28), "{y:?}");
    }
}

#[test]
fn no_rows_and_no_outputs_are_no_work() {
    let stored = Stored::random(Format::Q4_0, 0, 64, 2);
    assert!(multiply(Isa::best(), &WorkerPool::new(2), &stored, 2, &[1.0; 128]).is_empty());
    let stored = Stored::random(Format::F32, 5, 64, 2);
    assert!(multiply(Isa::best(), &WorkerPool::new(2), &stored, 0, &[]).is_empty());
}

#[test]
#[should_panic(expected = "do not fit")]
fn a_short_matrix_is_refused() {
    let mut stored = Stored::random(Format::Q4_0, 3, 64, 2);
    stored.bytes.pop();
    multiply(Isa::best(), &WorkerPool::new(1), &stored, 1, &[1.0; 64]);
}

#[test]
#[should_panic(expected = "too short")]
fn short_activations_are_refused() {
    let stored = Stored::random(Format::Q4_0, 3, 64, 2);
    multiply(Isa::best(), &WorkerPool::new(1), &stored, 2, &[1.0; 127]);
}

proptest! {
    #![proptest_config(cases(40))]

    #[test]
    fn the_way_back_equals_plain_loops(which in 0usize..64, rows in 0usize..9, out in 1usize..200, blocks in 1usize..3, add: bool, seed: u64) {
        let format = Format::ALL[which % Format::ALL.len()];
        let inp = blocks * format.block_len().max(4);
        let stored = Stored::random(format, out, inp, seed);
        let (height, width) = (padded(out), padded(inp));
        let stride = height + 16;
        let dy = random(rows * stride, seed ^ 2);
        let start = random(rows * width, seed ^ 3);
        let weights = doubles(&stored.decoded());
        let mut expected = if add { doubles(&start) } else { vec![0.0; start.len()] };
        for row in 0..rows {
            for o in 0..out {
                for i in 0..inp {
                    expected[row * width + i] += f64::from(dy[row * stride + o]) * weights[o * inp + i];
                }
            }
        }
        for (precision, most) in [(Precision::F32, 1e-4), (Precision::Bf16, 2e-2)] {
            let mut found = everywhere(|isa| {
                let mut dx = start.clone();
                backward(isa, precision, stored.matrix(), rows, &dy, stride, &mut dx, add, &mut BackwardScratch::default());
                dx
            });
            // What is padding of dx stays as it was if added to, and is zero else.
            for (at, (found, start)) in found.iter_mut().zip(&start).enumerate() {
                if at % width >= inp {
                    prop_assert_eq!(*found, if add { *start } else { 0.0 });
                    *found = if add { *start } else { 0.0 };
                }
            }
            prop_assert!(apart(&found, &expected) < most, "{precision}");
        }
    }
}
