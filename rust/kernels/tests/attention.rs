//! Grouped causal attention and its gradients against double precision and finite differences.

mod common;

use common::{apart, dot, doubles, everywhere, random_rows, slope};
use moevolve_kernels::Isa;
use moevolve_kernels::attention::{
    BlockHeads, Heads, KeyValues, Line, Queries, Reach, Saved, append, append_to_block, attend,
    attend_backward, attend_backward_within, attend_blocks, attend_blocks_within, attend_within,
    block, sink_gradient,
};
use moevolve_kernels::{LANES, padded};
use proptest::prelude::*;

/// One sequence: `true_width` of each head's `width` dimensions are not zero.
struct Case {
    heads: Heads,
    positions: usize,
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    last: Vec<u32>,
}

fn case(groups: usize, key_heads: usize, true_width: usize, positions: usize, seed: u64) -> Case {
    let width = padded(true_width);
    let heads = Heads {
        queries: groups * key_heads,
        keys: key_heads,
        width,
        scale: 1.0 / (true_width as f32).sqrt(),
    };
    let rows = |heads: usize, seed| random_rows(positions * heads, true_width, width, seed);
    Case {
        heads,
        positions,
        queries: rows(heads.queries, seed),
        keys: rows(key_heads, seed ^ 1),
        values: rows(key_heads, seed ^ 2),
        last: (0..positions as u32).collect(),
    }
}

fn queries<'a>(last: &'a [u32], values: &'a [f32]) -> Queries<'a> {
    Queries {
        values,
        last,
        classes: &[],
        order: &[],
    }
}

impl Case {
    fn stride(&self) -> usize {
        padded(self.positions)
    }

    fn cache(&self) -> (Vec<f32>, Vec<f32>) {
        let row = self.heads.keys * self.heads.width;
        let size = row * self.stride();
        let (mut keys, mut values) = (vec![0.0; size], vec![0.0; size]);
        let (from, to) = ((&self.keys[..], row), (&self.values[..], row));
        append(
            self.heads,
            self.positions,
            0,
            from,
            to,
            &[],
            self.stride(),
            &mut keys,
            &mut values,
        );
        (keys, values)
    }

    fn attend(&self, isa: Isa) -> (Vec<f32>, Vec<f32>) {
        self.attend_by(|cache, queries, probabilities, out| {
            attend(isa, self.heads, cache, queries, probabilities, true, out);
        })
    }

    fn attend_within(&self, isa: Isa, reach: Reach<'_>) -> (Vec<f32>, Vec<f32>) {
        self.attend_by(|cache, queries, probabilities, out| {
            attend_within(
                isa,
                self.heads,
                reach,
                cache,
                queries,
                probabilities,
                true,
                out,
            );
        })
    }

    fn attend_by(
        &self,
        attend: impl Fn(KeyValues<'_>, Queries<'_>, &mut [f32], &mut [f32]),
    ) -> (Vec<f32>, Vec<f32>) {
        let (keys, values) = self.cache();
        let cache = KeyValues {
            keys: &keys,
            values: &values,
            stride: self.stride(),
        };
        let mut probabilities = vec![f32::NAN; self.positions * self.heads.queries * self.stride()];
        let mut out = vec![f32::NAN; self.queries.len()];
        let queries = queries(&self.last, &self.queries);
        attend(cache, queries, &mut probabilities, &mut out);
        (out, probabilities)
    }

    fn reference(&self, queries: &[f64], keys: &[f64], values: &[f64]) -> Vec<f64> {
        self.reference_within(None, &[], queries, keys, values)
    }

    fn reference_within(
        &self,
        window: Option<usize>,
        sinks: &[f64],
        queries: &[f64],
        keys: &[f64],
        values: &[f64],
    ) -> Vec<f64> {
        let Heads {
            queries: heads,
            keys: key_heads,
            width,
            scale,
        } = self.heads;
        let mut out = vec![0.0; queries.len()];
        for t in 0..self.positions {
            for h in 0..heads {
                let row = (t * heads + h) * width;
                let key = |s: usize| (s * key_heads + h / (heads / key_heads)) * width;
                let score = |s| {
                    f64::from(scale)
                        * dot(&queries[row..row + width], &keys[key(s)..key(s) + width])
                };
                let first = window.map_or(0, |window| (t + 1).saturating_sub(window));
                let weights: Vec<f64> = (first..=t).map(|s| score(s).exp()).collect();
                let sink = sinks.get(h).map_or(0.0, |sink| sink.exp());
                let mass: f64 = weights.iter().sum::<f64>() + sink;
                for (s, weight) in (first..).zip(&weights) {
                    for d in 0..width {
                        out[row + d] += weight / mass * values[key(s) + d];
                    }
                }
            }
        }
        out
    }
}

proptest! {
    #![proptest_config(common::cases(32))]

    #[test]
    fn attention_equals_plain_loops(groups in 1usize..8, keys in 1usize..3, width in 1usize..36, n in 1usize..50, seed: u64) {
        let case = case(groups, keys, width, n, seed);
        let out = everywhere(|isa| case.attend(isa).0);
        let expected = case.reference(&doubles(&case.queries), &doubles(&case.keys), &doubles(&case.values));
        prop_assert!(apart(&out, &expected) < 1e-5);
    }

    #[test]
    fn one_row_against_a_cache_equals_the_whole(groups in 1usize..6, n in 2usize..40, seed: u64) {
        let case = case(groups, 2, 12, n, seed);
        let (keys, values) = case.cache();
        let row = case.heads.queries * case.heads.width;
        for isa in Isa::available() {
            let (whole, _) = case.attend(isa);
            let cache = KeyValues { keys: &keys, values: &values, stride: case.stride() };
            let mut probabilities = vec![0.0; case.heads.queries * case.stride()];
            let mut out = vec![0.0; row];
            let (last, query) = ([n as u32 - 1], &case.queries[(n - 1) * row..]);
            attend(isa, case.heads, cache, queries(&last, query), &mut probabilities, false, &mut out);
            prop_assert_eq!(&out[..], &whole[(n - 1) * row..]);
        }
    }

    #[test]
    fn blocks_give_the_bits_of_the_whole(groups in 1usize..6, keys in 1usize..3, width in 1usize..36, n in 1usize..70, layer in 0usize..3, seed: u64) {
        let case = case(groups, keys, width, n, seed);
        let row = case.heads.keys * case.heads.width;
        let mut blocks: Vec<Box<[Line]>> = (0..n.div_ceil(LANES)).map(|_| block(3 * case.heads.lines())).collect();
        for t in 0..n {
            let at = &mut blocks[t / LANES];
            append_to_block(case.heads, layer, t % LANES, &case.keys[t * row..], &case.values[t * row..], &[], at);
        }
        let blocks: Vec<&[Line]> = blocks.iter().map(|block| &block[..]).collect();
        for isa in Isa::available() {
            let mut scratch = vec![f32::NAN; case.heads.queries * case.stride()];
            let mut out = vec![f32::NAN; case.queries.len()];
            let all = BlockHeads { blocks: &blocks, layer, keys: 0..keys };
            attend_blocks(isa, case.heads, all.clone(), queries(&case.last, &case.queries), &mut scratch, &mut out);
            prop_assert_eq!(&out, &case.attend(isa).0);
            // One key head of one row at a time.
            let shared = groups * case.heads.width;
            for (at, whole) in out.chunks_exact(shared).enumerate() {
                let (row, key) = (at / keys, at % keys);
                let (mut alone, mut scratch) = (vec![f32::NAN; shared], vec![f32::NAN; groups * case.stride()]);
                let asked = queries(&case.last[row..=row], &case.queries[at * shared..(at + 1) * shared]);
                let one = BlockHeads { keys: key..key + 1, ..all.clone() };
                attend_blocks(isa, case.heads, one, asked, &mut scratch, &mut alone);
                prop_assert_eq!(&alone, whole);
            }
        }
    }
}

proptest! {
    #![proptest_config(common::cases(12))]

    #[test]
    fn gradients_match_finite_differences(groups in 1usize..6, keys in 1usize..3, width in 1usize..20, n in 1usize..19, seed: u64) {
        let case = case(groups, keys, width, n, seed);
        let (heads, stride) = (case.heads, case.stride());
        let dout = random_rows(n * heads.queries, width, heads.width, seed ^ 3);
        let row = heads.keys * heads.width;
        let mut transposed = vec![0.0; row * stride];
        append(heads, n, 0, (&case.values, row), (&case.values, row), &[], stride, &mut transposed, &mut vec![0.0; row * stride]);
        let found = everywhere(|isa| {
            let (_, probabilities) = case.attend(isa);
            let saved = Saved { keys: &case.keys, values: &transposed, queries: &case.queries, probabilities: &probabilities, stride };
            let mut dqueries = vec![0.0; case.queries.len()];
            let (mut dkeys, mut dvalues) = (vec![0.0; n * row], vec![0.0; n * row]);
            attend_backward(isa, heads, saved, &case.last, &dout, &mut dqueries, &mut dkeys, &mut dvalues, row, &mut Vec::new());
            [dqueries, dkeys, dvalues].concat()
        });
        let (q, k, v, dout) = (doubles(&case.queries), doubles(&case.keys), doubles(&case.values), doubles(&dout));
        let mut expected = slope(&q, |q| dot(&case.reference(q, &k, &v), &dout));
        expected.extend(slope(&k, |k| dot(&case.reference(&q, k, &v), &dout)));
        expected.extend(slope(&v, |v| dot(&case.reference(&q, &k, v), &dout)));
        // Padded dimensions are not part of the function; the kernel leaves them at zero.
        for (i, x) in expected.iter_mut().enumerate() {
            if i % heads.width >= width {
                *x = 0.0;
            }
        }
        prop_assert!(apart(&found, &expected) < 1e-4);
    }
}

/// A window, none if it is 0, and a sink a head if `sunk`.
fn reach_of(window: usize, sinks: &[f32]) -> Reach<'_> {
    Reach {
        window: (window > 0).then_some(window),
        sinks,
    }
}

fn sinks_of(case: &Case, sunk: bool, seed: u64) -> Vec<f32> {
    let sinks = random_rows(1, case.heads.queries, case.heads.queries, seed ^ 7);
    if sunk { sinks } else { Vec::new() }
}

proptest! {
    #![proptest_config(common::cases(32))]

    #[test]
    fn windows_and_sinks_equal_plain_loops(groups in 1usize..6, keys in 1usize..3, width in 1usize..20, n in 1usize..60, window in 0usize..40, sunk: bool, seed: u64) {
        let case = case(groups, keys, width, n, seed);
        let sinks = sinks_of(&case, sunk, seed);
        let reach = reach_of(window, &sinks);
        let out = everywhere(|isa| case.attend_within(isa, reach).0);
        let expected = case.reference_within(
            reach.window, &doubles(&sinks), &doubles(&case.queries), &doubles(&case.keys), &doubles(&case.values),
        );
        prop_assert!(apart(&out, &expected) < 1e-5);
        if reach.is_whole() {
            prop_assert_eq!(&out, &case.attend(Isa::best()).0);
        }
        let row = case.heads.keys * case.heads.width;
        let mut blocks: Vec<Box<[Line]>> = (0..n.div_ceil(LANES)).map(|_| block(case.heads.lines())).collect();
        for t in 0..n {
            let at = &mut blocks[t / LANES];
            append_to_block(case.heads, 0, t % LANES, &case.keys[t * row..], &case.values[t * row..], &[], at);
        }
        let blocks: Vec<&[Line]> = blocks.iter().map(|block| &block[..]).collect();
        for isa in Isa::available() {
            let mut scratch = vec![f32::NAN; case.heads.queries * case.stride()];
            let mut paged = vec![f32::NAN; case.queries.len()];
            let all = BlockHeads { blocks: &blocks, layer: 0, keys: 0..keys };
            attend_blocks_within(isa, case.heads, reach, all.clone(), queries(&case.last, &case.queries), &mut scratch, &mut paged);
            prop_assert_eq!(&paged, &out);
            let (shared, row) = (groups * case.heads.width, n - 1);
            for key in 0..keys {
                let part = (row * keys + key) * shared..(row * keys + key + 1) * shared;
                let mut alone = vec![f32::NAN; shared];
                let one = BlockHeads { keys: key..key + 1, ..all.clone() };
                let asked = queries(&case.last[row..=row], &case.queries[part.clone()]);
                attend_blocks_within(isa, case.heads, reach, one, asked, &mut scratch, &mut alone);
                prop_assert_eq!(&alone, &out[part]);
            }
        }
    }
}

proptest! {
    #![proptest_config(common::cases(12))]

    #[test]
    fn gradients_of_windows_and_sinks_match_finite_differences(groups in 1usize..4, keys in 1usize..3, width in 1usize..20, n in 1usize..19, window in 0usize..18, sunk: bool, seed: u64) {
        let case = case(groups, keys, width, n, seed);
        let sinks = sinks_of(&case, sunk, seed);
        let reach = reach_of(window, &sinks);
        let (heads, stride) = (case.heads, case.stride());
        let dout = random_rows(n * heads.queries, width, heads.width, seed ^ 3);
        let row = heads.keys * heads.width;
        let mut transposed = vec![0.0; row * stride];
        append(heads, n, 0, (&case.values, row), (&case.values, row), &[], stride, &mut transposed, &mut vec![0.0; row * stride]);
        let found = everywhere(|isa| {
            let (out, probabilities) = case.attend_within(isa, reach);
            let saved = Saved { keys: &case.keys, values: &transposed, queries: &case.queries, probabilities: &probabilities, stride };
            let mut dqueries = vec![0.0; case.queries.len()];
            let (mut dkeys, mut dvalues) = (vec![0.0; n * row], vec![0.0; n * row]);
            attend_backward_within(isa, heads, reach, saved, &case.last, &dout, &mut dqueries, &mut dkeys, &mut dvalues, row, &mut Vec::new());
            let mut dsinks = vec![0.0; sinks.len()];
            sink_gradient(heads, reach, &case.last, &probabilities, stride, &out, &dout, &mut dsinks);
            [dqueries, dkeys, dvalues, dsinks].concat()
        });
        let (q, k, v, s, dout) = (doubles(&case.queries), doubles(&case.keys), doubles(&case.values), doubles(&sinks), doubles(&dout));
        let mut expected = slope(&q, |q| dot(&case.reference_within(reach.window, &s, q, &k, &v), &dout));
        expected.extend(slope(&k, |k| dot(&case.reference_within(reach.window, &s, &q, k, &v), &dout)));
        expected.extend(slope(&v, |v| dot(&case.reference_within(reach.window, &s, &q, &k, v), &dout)));
        for (i, x) in expected.iter_mut().enumerate() {
            if i % heads.width >= width {
                *x = 0.0;
            }
        }
        expected.extend(slope(&s, |s| dot(&case.reference_within(reach.window, s, &q, &k, &v), &dout)));
        prop_assert!(apart(&found, &expected) < 1e-4);
    }
}
