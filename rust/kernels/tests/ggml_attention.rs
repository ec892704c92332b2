//! Attention in ggml's arithmetic against a plain reference in its order of operations, to the bit.

mod common;

use common::ggml::{exponential, half, rows_product, tree};
use common::{cases, everywhere, random};
use moevolve_kernels::attention::{
    BlockHeads, Heads, KeyValues, Line, Queries, append, append_to_block, block,
};
use moevolve_kernels::ggml::{attend, attend_blocks, round_to_half};
use moevolve_kernels::{BatchClass, Isa, LANES, padded};
use proptest::prelude::*;

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

    fn classes(&self, prompt: usize) -> Vec<BatchClass> {
        (0..self.positions)
            .map(|t| BatchClass::of(t, prompt))
            .collect()
    }

    fn queries<'a>(&'a self, last: &'a [u32], classes: &'a [BatchClass]) -> Queries<'a> {
        Queries {
            values: &self.queries,
            last,
            classes,
            order: &self.order,
        }
    }

    fn attend(&self, isa: Isa, prompt: usize) -> Vec<f32> {
        let (row, stride) = (self.heads.keys * self.heads.width, padded(self.positions));
        let (mut keys, mut values) = (vec![0.0; row * stride], vec![0.0; row * stride]);
        let (from, to) = ((&self.keys[..], row), (&self.values[..], row));
        append(
            self.heads,
            self.positions,
            0,
            from,
            to,
            &self.order,
            stride,
            &mut keys,
            &mut values,
        );
        let cache = KeyValues {
            keys: &keys,
            values: &values,
            stride,
        };
        let classes = self.classes(prompt);
        let last: Vec<u32> = (0..self.positions as u32).collect();
        let mut probabilities = vec![f32::NAN; self.heads.queries * stride];
        let mut out = vec![f32::NAN; self.queries.len()];
        attend(
            isa,
            self.heads,
            cache,
            self.queries(&last, &classes),
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
        let mut blocks: Vec<Box<[Line]>> = (0..n.div_ceil(LANES)).map(|_| block(2 * case.heads.lines())).collect();
        for t in 0..n {
            let at = &mut blocks[t / LANES];
            append_to_block(case.heads, 1, t % LANES, &case.keys[t * row..], &case.values[t * row..], &case.order, at);
        }
        let blocks: Vec<&[Line]> = blocks.iter().map(|block| &block[..]).collect();
        let last: Vec<u32> = (0..n as u32).collect();
        for isa in Isa::available() {
            let mut scratch = vec![f32::NAN; case.heads.queries * padded(n)];
            let mut out = vec![f32::NAN; case.queries.len()];
            let classes = case.classes(prompt);
            let part = BlockHeads { blocks: &blocks, layer: 1, keys: 0..keys };
            attend_blocks(isa, case.heads, part, case.queries(&last, &classes), &mut scratch, &mut out);
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
