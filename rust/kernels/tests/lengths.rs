//! Sizes that do not fit their slices end the call, those beyond all memory too: no kernel reads or writes past an end.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};

use common::blocks::random_blocks;
use common::{cases, random};
use moevolve_kernels::attention::{
    BlockHeads, Heads, KeyValues, Line, Queries, Saved, attend, attend_backward, attend_blocks,
    block,
};
use moevolve_kernels::norm::{Norm, rms_norm};
use moevolve_kernels::panels::Precision;
use moevolve_kernels::rope::{Angles, Pairs, Rotary, rotate};
use moevolve_kernels::stored::{
    BackwardScratch, FloatSums, Format, Matrix, Product, Scratch, backward, products,
};
use moevolve_kernels::swiglu::swiglu_backward;
use moevolve_kernels::worker_pool::WorkerPool;
use moevolve_kernels::{BatchClass, Isa, bf16, gemm, loss, rows};
use proptest::prelude::*;

/// A kernel with one size given, beside slices that are far shorter.
type Call = fn(isa: Isa, size: usize);

/// Kernels that multiply the size by sixteen.
const CALLS: [(&str, Call); 15] = [
    ("add_row", |isa, n| {
        rows::add_row(isa, n, &[0.0; 16], &mut [0.0; 16]);
    }),
    ("sum_rows", |isa, n| {
        rows::sum_rows(isa, n, &[0.0; 16], &mut [0.0; 16]);
    }),
    ("gemm::multiply", |isa, n| {
        gemm::multiply(isa, n, 16, 16, &[], &[0.0; 256], &mut [], false);
    }),
    ("gemm::weight_gradient", |isa, n| {
        gemm::weight_gradient(isa, n, 16, 16, &[], &[], &mut [0.0; 256], &mut Vec::new());
    }),
    ("bf16::multiply", |isa, n| {
        let scratch = &mut bf16::Scratch::default();
        bf16::multiply(isa, n, 16, 16, &[], &[0; 256], &mut [], false, scratch);
    }),
    ("bf16::multiply_rounded", |isa, n| {
        bf16::multiply_rounded(isa, n, 16, 16, &[], 16, &[0; 256], &mut [], false);
    }),
    ("bf16::pack_forward", |isa, n| {
        bf16::pack_forward(isa, &[], n, 16, &mut []);
    }),
    ("bf16::pack_backward", |isa, n| {
        bf16::pack_backward(isa, &[], 16, n, &mut []);
    }),
    ("bf16::weight_gradient", |isa, n| {
        let scratch = &mut bf16::Scratch::default();
        bf16::weight_gradient(isa, n, 16, 16, &[], &[], &mut [0.0; 256], scratch);
    }),
    ("cross_entropy", |isa, n| {
        loss::cross_entropy(isa, 1, n, &[0; 16], &[1.0; 16], &mut []);
    }),
    ("swiglu_backward", |isa, n| {
        let weights = [1.0; 16];
        swiglu_backward(
            isa,
            n,
            0,
            &weights,
            &[],
            &[],
            &[],
            &mut [],
            &mut [],
            &mut [0.0; 16],
        );
    }),
    ("rotate", |isa, n| {
        let mut rotary = Rotary::new(16, Angles::Frequencies(Vec::new()), 1.0, Pairs::Fused);
        rotary.extend(1);
        rotate(isa, &rotary, n, &[0], &[], &mut [], false);
    }),
    ("attend", |isa, n| {
        let heads = Heads {
            queries: 16,
            keys: 16,
            width: 16,
            scale: 1.0,
        };
        let cache = KeyValues {
            keys: &[],
            values: &[],
            stride: n,
        };
        let values = &random(256, 1);
        let queries = Queries {
            values,
            last: &[0],
            classes: &[],
            order: &[],
        };
        attend(isa, heads, cache, queries, &mut [], false, &mut [0.0; 256]);
    }),
    ("attend_backward", |isa, n| {
        let heads = Heads {
            queries: 16,
            keys: 16,
            width: 16,
            scale: 1.0,
        };
        let rows = &random(256, 1);
        let saved = Saved {
            keys: rows,
            values: &[],
            queries: rows,
            probabilities: &[],
            stride: n,
        };
        let [mut dqueries, mut dkeys, mut dvalues] = [[0.0; 256]; 3];
        let scratch = &mut vec![0.0; 64];
        attend_backward(
            isa,
            heads,
            saved,
            &[0],
            rows,
            &mut dqueries,
            &mut dkeys,
            &mut dvalues,
            256,
            scratch,
        );
    }),
    ("stored::backward", |isa, n| {
        let bytes = &[0; 16 * 16 * 4];
        let matrix = Matrix {
            format: Format::F32,
            bytes,
            out: 16,
            inp: 16,
            scales: &[],
        };
        let scratch = &mut BackwardScratch::default();
        backward(
            isa,
            Precision::F32,
            matrix,
            n,
            &[],
            16,
            &mut [],
            false,
            scratch,
        );
    }),
];

fn is_refused(call: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(call)).is_err()
}

/// 2⁶⁰ times sixteen is nothing.
#[test]
fn sizes_that_wrap_around_are_refused() {
    for isa in Isa::available() {
        for (name, call) in CALLS {
            assert!(is_refused(|| call(isa, 1 << 60)), "{name} on {isa}");
        }
    }
}

proptest! {
    #![proptest_config(cases(64))]

    /// Also where neither side is beyond memory by itself.
    #[test]
    fn rows_that_wrap_around_are_refused(power in 4u32..60, over in 0usize..3) {
        let (rows, width) = (1usize << (64 - power), 1usize << power);
        for isa in Isa::available() {
            let norm = Norm { groups: 1, width: 16, count: 16, epsilon: 1e-6 };
            let (x, mut y, mut inverse) = ([0.0; 32], [0.0; 32], [0.0; 2]);
            // The second row begins where addresses begin again.
            let step = usize::MAX - 15 + over;
            prop_assert!(is_refused(|| rms_norm(isa, norm, 2, &x, step, &[1.0; 16], &mut y, 16, &mut inverse)));
            prop_assert!(is_refused(|| gemm::multiply_apart(isa, 1 + rows, 0, 0, &[], width, &[], &mut [], false)));
            prop_assert!(is_refused(|| bf16::pack_forward(isa, &[], rows, width, &mut [])));
        }
        let matrix = Matrix { format: Format::F32, bytes: &[], out: rows, inp: width, scales: &[] };
        prop_assert!(!matrix.is_whole());
    }

    /// A layer that a block has not.
    #[test]
    fn layers_past_a_blocks_end_are_refused(layer in 0usize..6, far: bool) {
        let heads = Heads { queries: 2, keys: 1, width: 16, scale: 1.0 };
        let lines = block(3 * heads.lines());
        let blocks: [&[Line]; 1] = [&lines];
        let layer = if far { usize::MAX - layer } else { layer };
        let values = &random(32, 1);
        for isa in Isa::available() {
            let queries = Queries { values, last: &[3], classes: &[], order: &[] };
            let call = || attend_blocks(isa, heads, BlockHeads { blocks: &blocks, layer, keys: 0..1 }, queries, &mut [0.0; 32], &mut [0.0; 32]);
            prop_assert_eq!(is_refused(call), layer >= 3);
        }
    }

    /// Query heads that no key head serves would have no output.
    #[test]
    fn each_key_head_has_as_many_query_heads(queries in 1usize..9, keys in 1usize..9) {
        let heads = Heads { queries, keys, width: 16, scale: 1.0 };
        let lines = block(heads.lines());
        let blocks: [&[Line]; 1] = [&lines];
        let values = &random(16 * queries, 1);
        let asked = Queries { values, last: &[3], classes: &[], order: &[] };
        for isa in Isa::available() {
            let mut out = vec![f32::NAN; 16 * queries];
            let refused = is_refused(|| attend_blocks(isa, heads, BlockHeads { blocks: &blocks, layer: 0, keys: 0..keys }, asked, &mut vec![0.0; 16 * queries], &mut out));
            prop_assert_eq!(refused, queries % keys != 0);
            prop_assert!(refused || out.iter().all(|&x| x == 0.0));
        }
    }

    /// Numbers of sixteen bits need not lie where pairs of them may.
    #[test]
    fn rounded_rows_may_begin_anywhere(rows in 1usize..14, apart in 0usize..3, seed: u64) {
        let (x, weight) = (random(rows * 32, seed), random(32 * 32, seed ^ 1));
        let a_row = 32 + 2 * apart;
        for isa in Isa::available() {
            let (mut panels, mut rounded) = (vec![0; 32 * 32], vec![0; 32 * rows]);
            bf16::pack_forward(isa, &weight, 32, 32, &mut panels);
            bf16::round(isa, &x, &mut rounded);
            let results = [0, 1].map(|offset| {
                let mut a = vec![0; offset + rows * a_row];
                for (to, from) in a[offset..].chunks_exact_mut(a_row).zip(rounded.chunks_exact(32)) {
                    to[..32].copy_from_slice(from);
                }
                let mut y = vec![0.0; rows * 32];
                bf16::multiply_rounded(isa, rows, 32, 32, &a[offset..], a_row, &panels, &mut y, false);
                y
            });
            prop_assert_eq!(&results[0], &results[1]);
        }
    }

    /// Products of one call share what they make of their activations only where it is the same.
    #[test]
    fn rows_of_other_classes_are_rounded_by_themselves(
        format in prop::sample::select(vec![Format::Q4K, Format::Q5K, Format::Q6K, Format::Q2K, Format::Q8_0]),
        rows in 1usize..6, seed: u64,
    ) {
        let (inp, out) = (512, 20);
        // Several of the largest magnitude, of either sign.
        let x: Vec<f32> = random(rows * inp, seed).into_iter().map(|x| (4.0 * x).round() / 4.0).collect();
        let bytes = random_blocks(format, out * inp / format.block_len(), seed);
        let matrix = Matrix { format, bytes: &bytes, out, inp, scales: &[] };
        let alone = vec![BatchClass::default(); rows];
        let together = vec![BatchClass { twos: true, fours: true, eights: true }; rows];
        let pool = WorkerPool::new(1);
        for isa in Isa::available() {
            let call = |of: &[&[BatchClass]]| -> Vec<Vec<u32>> {
                let mut ys = vec![vec![f32::NAN; rows * out]; of.len()];
                let mut jobs: Vec<Product<'_>> = ys.iter_mut().zip(of).map(|(y, classes)| Product {
                    matrix, rows, x: &x, x_stride: inp, y, y_stride: out, add: false, sums: FloatSums::Ggml, classes,
                }).collect();
                products(isa, &pool, &mut jobs, &mut Scratch::default());
                ys.iter().map(|y| y.iter().map(|y| y.to_bits()).collect()).collect()
            };
            let both = call(&[&alone, &together]);
            prop_assert_eq!(&both, &[call(&[&alone]), call(&[&together])].concat());
        }
    }
}
