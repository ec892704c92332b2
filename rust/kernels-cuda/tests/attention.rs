//! Attention on the twin against the CPU's kernels: packed and in blocks, forward and backward.

mod common;

use std::sync::Arc;

use common::{apart_beside, cases, largest, random, twin};
use moevolve_kernels::attention::{
    self as cpu, append, attend as cpu_attend, attend_backward as cpu_backward,
};
use moevolve_kernels::{Isa, padded};
use moevolve_kernels_cuda::attention::{
    Appended, Gradients, Heads, KeyValues, POSITIONS, Queries, append as append_paged, attend,
    attend_backward,
};
use moevolve_kernels_cuda::{Device, Memory};
use proptest::prelude::*;

/// Sequences whose last `outputs` rows are computed. Widths are whole vectors, as the CPU's kernels need them.
struct Case {
    heads: Heads,
    /// Tokens and output rows of each sequence.
    sequences: Vec<(usize, usize)>,
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl Case {
    fn new(
        group: usize,
        key_heads: usize,
        width: usize,
        sequences: &[(usize, usize)],
        seed: u64,
    ) -> Self {
        let heads = Heads {
            queries: group * key_heads,
            keys: key_heads,
            width,
            scale: (width as f32).sqrt().recip(),
        };
        let tokens: usize = sequences.iter().map(|s| s.0).sum();
        let rows: usize = sequences.iter().map(|s| s.1).sum();
        let row = key_heads * width;
        Self {
            heads,
            sequences: sequences.to_vec(),
            queries: random(rows * heads.queries * width, seed)
                .iter()
                .map(|x| x * 2.0)
                .collect(),
            keys: random(tokens * row, seed ^ 1)
                .iter()
                .map(|x| x * 2.0)
                .collect(),
            values: random(tokens * row, seed ^ 2),
        }
    }

    fn row(&self) -> usize {
        self.heads.keys * self.heads.width
    }

    fn cpu_heads(&self) -> cpu::Heads {
        let Heads {
            queries,
            keys,
            width,
            scale,
        } = self.heads;
        cpu::Heads {
            queries,
            keys,
            width,
            scale,
        }
    }

    /// Of every query row: the last position it sees, and its sequence's first token.
    fn lasts(&self) -> (Vec<u32>, Vec<u32>) {
        let (mut last, mut first, mut token) = (Vec::new(), Vec::new(), 0);
        for &(tokens, rows) in &self.sequences {
            last.extend((tokens - rows..tokens).map(|i| i as u32));
            first.extend(std::iter::repeat_n(token as u32, rows));
            token += tokens;
        }
        (last, first)
    }

    /// Output, and the gradients of queries, keys and values for the output's gradient.
    fn on_cpu(&self, dout: &[f32]) -> [Vec<f32>; 4] {
        let (heads, row, isa) = (self.cpu_heads(), self.row(), Isa::best());
        let wide = self.heads.queries * self.heads.width;
        let mut out = vec![0.0; self.queries.len()];
        let (mut dq, mut dk, mut dv) = (
            vec![0.0; self.queries.len()],
            vec![0.0; self.keys.len()],
            vec![0.0; self.values.len()],
        );
        let (mut token, mut at) = (0, 0);
        for &(tokens, rows) in &self.sequences {
            let stride = padded(tokens);
            let (keys, values) = (&self.keys[token * row..], &self.values[token * row..]);
            let (mut key_cache, mut value_cache) =
                (vec![0.0; row * stride], vec![0.0; row * stride]);
            append(
                heads,
                tokens,
                0,
                (keys, row),
                (values, row),
                &[],
                stride,
                &mut key_cache,
                &mut value_cache,
            );
            let cache = cpu::KeyValues {
                keys: &key_cache,
                values: &value_cache,
                stride,
            };
            let last: Vec<u32> = (tokens - rows..tokens).map(|i| i as u32).collect();
            let queries = &self.queries[at * wide..(at + rows) * wide];
            let mut kept = vec![0.0; rows * heads.queries * stride];
            let q = cpu::Queries {
                values: queries,
                last: &last,
                classes: &[],
                order: &[],
            };
            cpu_attend(
                isa,
                heads,
                cache,
                q,
                &mut kept,
                true,
                &mut out[at * wide..(at + rows) * wide],
            );
            let mut transposed = vec![0.0; row * stride];
            for t in 0..tokens {
                for d in 0..row {
                    transposed[d * stride + t] = values[t * row + d];
                }
            }
            let saved = cpu::Saved {
                keys,
                values: &transposed,
                queries,
                probabilities: &kept,
                stride,
            };
            cpu_backward(
                isa,
                heads,
                saved,
                &last,
                &dout[at * wide..(at + rows) * wide],
                &mut dq[at * wide..(at + rows) * wide],
                &mut dk[token * row..],
                &mut dv[token * row..],
                row,
                &mut Vec::new(),
            );
            (token, at) = (token + tokens, at + rows);
        }
        [out, dq, dk, dv]
    }

    fn packed(&self, device: &Arc<dyn Device>, dout: &[f32]) -> [Vec<f32>; 4] {
        let memory = |x: &[f32]| Memory::from_slice(device, x).unwrap();
        let index = |x: &[u32]| Memory::from_slice(device, x).unwrap();
        let (queries, keys, values) = (
            memory(&self.queries),
            memory(&self.keys),
            memory(&self.values),
        );
        let (last, first) = self.lasts();
        let rows = last.len();
        let (last, first) = (index(&last), index(&first));
        let out = Memory::<f32>::new(device, self.queries.len()).unwrap();
        let logs = Memory::<f32>::new(device, rows * self.heads.queries).unwrap();
        let q = Queries {
            at: queries.address(),
            rows,
            last: last.address(),
            first: first.address(),
        };
        let row = self.row();
        let from = KeyValues::Packed {
            keys: (keys.address(), row),
            values: (values.address(), row),
        };
        attend(
            &**device,
            self.heads,
            q,
            from,
            out.address(),
            logs.address(),
        )
        .unwrap();
        let (mut position, mut row_first, mut row_end, mut at) =
            (Vec::new(), Vec::new(), Vec::new(), 0u32);
        for &(tokens, rows) in &self.sequences {
            position.extend(0..tokens as u32);
            row_first.extend(std::iter::repeat_n(at, tokens));
            at += rows as u32;
            row_end.extend(std::iter::repeat_n(at, tokens));
        }
        let tokens = position.len();
        let (position, row_first, row_end) = (index(&position), index(&row_first), index(&row_end));
        let dout = memory(dout);
        let along = Memory::<f32>::new(device, rows * self.heads.queries).unwrap();
        let dq = Memory::<f32>::new(device, self.queries.len()).unwrap();
        let dk = Memory::<f32>::new(device, self.keys.len()).unwrap();
        let dv = Memory::<f32>::new(device, self.values.len()).unwrap();
        let gradients = Gradients {
            dout: dout.address(),
            along: along.address(),
            dqueries: dq.address(),
            dkeys: (dk.address(), row),
            dvalues: (dv.address(), row),
            tokens,
            index: position.address(),
            row_first: row_first.address(),
            row_end: row_end.address(),
        };
        attend_backward(
            &**device,
            self.heads,
            q,
            from,
            out.address(),
            logs.address(),
            gradients,
        )
        .unwrap();
        [out, dq, dk, dv].map(|memory| memory.download().unwrap())
    }

    /// Over a cache of two layers whose blocks come in another order; the second layer counts.
    fn paged(&self, device: &Arc<dyn Device>) -> Vec<f32> {
        let (last, _) = self.lasts();
        let layer = self.heads.layer_floats();
        let mut blocks_of = Vec::new();
        let mut count = 0;
        for &(tokens, _) in &self.sequences {
            blocks_of.push(count..count + tokens.div_ceil(POSITIONS));
            count += tokens.div_ceil(POSITIONS);
        }
        // Wherever each of them lies.
        let cache: Vec<Memory<f32>> = (0..count)
            .map(|_| Memory::new(device, 2 * layer).unwrap())
            .collect();
        let addresses: Vec<u64> = cache.iter().rev().map(Memory::address).collect();
        let (mut block, mut position, mut first) = (Vec::new(), Vec::new(), Vec::new());
        for (&(tokens, rows), blocks) in self.sequences.iter().zip(&blocks_of) {
            for t in 0..tokens {
                block.push(addresses[blocks.start + t / POSITIONS]);
                position.push(t as u32);
            }
            first.extend(std::iter::repeat_n(blocks.start as u32, rows));
        }
        let index = |x: &[u32]| Memory::from_slice(device, x).unwrap();
        let (keys, values) = (
            Memory::from_slice(device, &self.keys).unwrap(),
            Memory::from_slice(device, &self.values).unwrap(),
        );
        let (rows, row) = (position.len(), self.row());
        let block = Memory::from_slice(device, &block).unwrap();
        let position = index(&position);
        let appended = Appended {
            keys: (keys.address(), row),
            values: (values.address(), row),
            rows,
            blocks: block.address(),
            positions: position.address(),
        };
        append_paged(&**device, self.heads, appended, layer).unwrap();
        let queries = Memory::from_slice(device, &self.queries).unwrap();
        let blocks = Memory::from_slice(device, &addresses).unwrap();
        let (rows, last, first) = (last.len(), index(&last), index(&first));
        let q = Queries {
            at: queries.address(),
            rows,
            last: last.address(),
            first: first.address(),
        };
        let out = Memory::<f32>::new(device, self.queries.len()).unwrap();
        let from = KeyValues::Paged {
            blocks: blocks.address(),
            layer_floats: layer,
        };
        attend(&**device, self.heads, q, from, out.address(), 0).unwrap();
        out.download().unwrap()
    }
}

fn sequences() -> impl Strategy<Value = Vec<(usize, usize)>> {
    prop::collection::vec(
        (1usize..70, 1usize..70).prop_map(|(tokens, rows)| (tokens, rows.min(tokens))),
        1..4,
    )
}

proptest! {
    #![proptest_config(cases(16))]

    #[test]
    fn output_and_gradients_are_the_cpus(group in 1usize..4, key_heads in 1usize..4, wide in 1usize..9, sequences in sequences(), seed: u64) {
        let case = Case::new(group, key_heads, wide * 16, &sequences, seed);
        let dout = random(case.queries.len(), seed ^ 3);
        let found = case.packed(&twin(seed), &dout);
        let expected = case.on_cpu(&dout);
        // What queries and keys get is a difference, of nothing but rounding where a row sees one position.
        let terms = 0.1 * largest(&expected[3]);
        let near = [(1e-5, 1e-6), (1e-4, terms), (1e-4, terms), (1e-4, 1e-6)];
        for ((found, expected), (near, least)) in found.iter().zip(&expected).zip(near) {
            let gap = apart_beside(found, expected, least);
            prop_assert!(gap < near, "{gap}");
        }
    }

    #[test]
    fn a_cache_in_blocks_gives_the_same_bits(group in 1usize..4, key_heads in 1usize..3, wide in 1usize..5, sequences in sequences(), seed: u64) {
        let case = Case::new(group, key_heads, wide * 16, &sequences, seed);
        let device = twin(seed);
        let dout = vec![0.0; case.queries.len()];
        prop_assert_eq!(case.paged(&device), case.packed(&device, &dout)[0].clone());
    }
}

#[test]
fn a_head_that_is_too_wide_is_refused() {
    let case = Case::new(1, 1, 272, &[(1, 1)], 0);
    let device = twin(0);
    let q = Queries {
        at: 0,
        rows: 1,
        last: 0,
        first: 0,
    };
    let from = KeyValues::Packed {
        keys: (0, 0),
        values: (0, 0),
    };
    let error = attend(&*device, case.heads, q, from, 0, 0).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a head's width is 272; kernels take up to 256"
    );
}
