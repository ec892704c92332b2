//! Attention: queries, keys and values, and what they attend to, in packed sequences or in blocks of a cache.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use moevolve_kernels::attention::{
    BlockHeads, Heads, KeyValues, Queries, append, attend_blocks_within, attend_within,
};
use moevolve_kernels::rope::rotate;
use moevolve_kernels::rows::{add_row, gather};
use moevolve_kernels::{LANES, padded, reserve};

use super::{Activations, Cpu, KvCache, Workspace};
use crate::batch::{Packed, Paged, QueryRows};
use crate::layout::Layer;
use crate::linear::Product;

/// Query rows that a thread attends from at a time.
const ATTENDED: usize = 32;
/// Multiplications of a single row's attention from which on its key heads are shared out among threads that have no row.
const SHARED: usize = 64 * 1024;

/// Query rows of a sequence, key heads of it, and where the results go: whole rows, or a part of one.
struct Part<'a> {
    heads: BlockHeads<'a>,
    rows: Range<usize>,
    out: &'a mut [f32],
}

impl Cpu<'_> {
    /// The order in which the cache has a layer's keys. Within a reach there is but our own arithmetic, which has no order.
    pub(super) fn key_order(&self, layer: usize) -> &[u32] {
        if self.reach(layer).is_whole() {
            self.weights.key_order()
        } else {
            &[]
        }
    }

    /// Some rows of a sequence as a layer's attention reads them, of all `queries` (rows, queries).
    fn queries<'a>(
        &self,
        order: &'a [u32],
        rows: &'a QueryRows,
        part: Range<usize>,
        queries: &'a [f32],
    ) -> Queries<'a> {
        Queries {
            values: &queries[part.start * self.layout.widths.queries..],
            last: &rows.last[part.clone()],
            classes: &rows.classes[part],
            order,
        }
    }

    /// Queries, keys and values of a layer, normalised and rotated, from its input.
    pub(super) fn project(
        &self,
        layer: &Layer,
        all: &QueryRows,
        rows: &QueryRows,
        input: &[f32],
        a: &mut Activations,
        b: &mut Workspace,
    ) {
        let (tokens, count) = (all.len(), rows.len());
        let w = self.layout.widths;
        let attention = layer.attention();
        let gated = attention.query.out > w.queries;
        reserve(&mut a.input_inverse, tokens);
        reserve(&mut a.normal, tokens * w.hidden);
        reserve(&mut a.raw_queries, count * w.queries);
        reserve(&mut a.key_values, tokens * 2 * w.keys);

        let gain = &layer.input_norm;
        self.normalise(tokens, input, gain, &mut a.normal, &mut a.input_inverse);
        let query_normal = if rows.whole {
            &a.normal
        } else {
            reserve(&mut a.query_normal, count * w.hidden);
            let (from, to) = (&a.normal, &mut a.query_normal);
            gather(self.isa, w.hidden, &rows.rows, from, to);
            &a.query_normal
        };
        let asked = if gated {
            reserve(&mut a.asked, count * attention.query.out);
            &mut a.asked
        } else {
            &mut a.raw_queries
        };
        self.multiply(
            &mut [
                Product {
                    matrix: &attention.query,
                    rows: count,
                    x: query_normal,
                    y: asked,
                    classes: &rows.classes,
                },
                Product {
                    matrix: &attention.key_value,
                    rows: tokens,
                    x: &a.normal,
                    y: &mut a.key_values,
                    classes: &all.classes,
                },
            ],
            false,
        );

        if let Some(biases) = &attention.biases {
            let query = self.weights.vector(&biases.query);
            let key_value = self.weights.vector(&biases.key_value);
            add_row(self.isa, count, query, asked);
            add_row(self.isa, tokens, key_value, &mut a.key_values);
        }

        if gated {
            reserve(&mut a.gates, count * w.queries);
            let pairs = a
                .asked
                .chunks_exact(2 * w.head)
                .take(count * self.config.heads);
            let queries = a.raw_queries.chunks_exact_mut(w.head);
            for ((pair, query), gate) in pairs.zip(queries).zip(a.gates.chunks_exact_mut(w.head)) {
                query.copy_from_slice(&pair[..w.head]);
                gate.copy_from_slice(&pair[w.head..]);
            }
        }

        let (heads, key_heads) = (self.config.heads, self.config.key_heads);
        self.apply_rope(
            attention.qk_norms.as_ref().map(|norms| &norms[0]),
            heads,
            &rows.positions,
            (&a.raw_queries, w.queries),
            &mut a.query_inverse,
            &mut a.queries,
            &mut b.unrotated,
        );
        self.apply_rope(
            attention.qk_norms.as_ref().map(|norms| &norms[1]),
            key_heads,
            &all.positions,
            (&a.key_values, 2 * w.keys),
            &mut a.key_inverse,
            &mut a.keys,
            &mut b.unrotated,
        );
        let (isa, round) = (self.isa, self.weights.arithmetic().round_heads);
        round(isa, count, w.queries, w.queries, &mut a.queries);
        round(isa, tokens, w.keys, w.keys, &mut a.keys);
        round(isa, tokens, w.keys, 2 * w.keys, &mut a.key_values[w.keys..]);
    }

    /// Heads normalised, if they have a gain, and rotated: from rows some floats apart to packed ones.
    #[allow(clippy::too_many_arguments)]
    fn apply_rope(
        &self,
        gain: Option<&Range<usize>>,
        heads: usize,
        positions: &[u32],
        (raw, step): (&[f32], usize),
        inverse: &mut Vec<f32>,
        out: &mut Vec<f32>,
        unrotated: &mut Vec<f32>,
    ) {
        let (rows, width) = (positions.len(), heads * self.layout.widths.head);
        reserve(out, rows * width);
        let between = self.rotary.frame(unrotated, rows * width);
        match gain {
            Some(gain) => {
                let norm = self.heads_norm(heads);
                reserve(inverse, rows * norm.groups);
                let gain = self.gain(gain);
                (self.weights.arithmetic().rms_norm)(
                    self.isa, norm, rows, raw, step, &gain, between, width, inverse,
                );
            }
            None => {
                for (to, from) in between.chunks_exact_mut(width).zip(raw.chunks(step)) {
                    to.copy_from_slice(&from[..width]);
                }
            }
        }
        rotate(
            self.isa,
            self.rotary,
            heads,
            positions,
            unrotated,
            out,
            false,
        );
    }

    /// Attention within each packed sequence; keeps the probabilities for the backward pass if `keep`.
    pub(super) fn attend_packed(
        &self,
        layer: usize,
        batch: &Packed,
        rows: &QueryRows,
        keep: bool,
        a: &mut Activations,
        b: &mut Workspace,
    ) {
        let (heads, w) = (self.heads(), self.layout.widths);
        let (reach, order) = (self.reach(layer), self.key_order(layer));
        let stride = padded(batch.longest);
        let row = heads.queries * stride;
        reserve(&mut a.attended, rows.len() * w.queries);
        let kept = if keep {
            rows.len()
        } else {
            rows.len().div_ceil(ATTENDED)
        };
        reserve(&mut a.probabilities, kept * row);
        reserve(&mut b.key_cache, w.keys * stride);
        reserve(&mut b.value_cache, w.keys * stride);
        for (tokens, part) in batch.all.spans.iter().zip(&rows.spans) {
            if part.is_empty() {
                continue;
            }
            let keys = (&a.keys[tokens.start * w.keys..], w.keys);
            let values = (
                &a.key_values[tokens.start * 2 * w.keys + w.keys..],
                2 * w.keys,
            );
            b.key_cache[..w.keys * stride].fill(0.0);
            append(
                heads,
                tokens.len(),
                0,
                keys,
                values,
                order,
                stride,
                &mut b.key_cache,
                &mut b.value_cache,
            );
            let cache = KeyValues {
                keys: &b.key_cache,
                values: &b.value_cache,
                stride,
            };
            let (isa, whole) = (self.isa, self.weights.arithmetic().attend);
            let attend = |queries: Queries<'_>, scratch: &mut [f32], keep, out: &mut [f32]| {
                if reach.is_whole() {
                    whole(isa, heads, cache, queries, scratch, keep, out);
                } else {
                    attend_within(isa, heads, reach, cache, queries, scratch, keep, out);
                }
            };
            let attended = &mut a.attended[part.start * w.queries..part.end * w.queries];
            if keep {
                let kept = &mut a.probabilities[part.start * row..];
                let queries = self.queries(order, rows, part.clone(), &a.queries);
                attend(queries, kept, true, attended);
                continue;
            }
            let mut parts: Vec<_> = attended
                .chunks_mut(ATTENDED * w.queries)
                .zip(a.probabilities.chunks_mut(row))
                .enumerate()
                .collect();
            self.pool
                .each(&mut parts, &|(index, (attended, scratch)), _| {
                    let first = part.start + *index * ATTENDED;
                    let part = first..part.end.min(first + ATTENDED);
                    let queries = self.queries(order, rows, part, &a.queries);
                    attend(queries, scratch, false, attended);
                });
        }
    }

    /// Attention to the blocks of each sequence, whose rows follow one another in `rows`.
    pub(super) fn attend_blocks(
        &self,
        layer: usize,
        cache: &KvCache,
        sequences: &[Paged<'_>],
        rows: &QueryRows,
        a: &mut Activations,
        b: &mut Workspace,
    ) {
        let (heads, w) = (self.heads(), self.layout.widths);
        let end = layer + 1 == self.layout.layers.len();
        let index = self.layout.layers[layer].attention().index;
        reserve(&mut a.attended, rows.len() * w.queries);
        let threads = self.pool.threads().max(b.scores.len());
        b.scores.resize_with(threads, Mutex::default);
        // SAFETY: this layer's rows are appended, and what others write meanwhile is no block of these sequences.
        let blocks = unsafe { cache.blocks(sequences) };
        let mut blocks = &blocks[..];
        let mut parts: Vec<Part<'_>> = Vec::new();
        let (mut row, mut rest) = (0, &mut a.attended[..]);
        for sequence in sequences {
            let (own, others) = blocks.split_at(sequence.blocks.len());
            blocks = others;
            let mut left = if end {
                sequence.outputs
            } else {
                sequence.tokens
            };
            while left > 0 {
                let count = left.min(ATTENDED);
                let (now, later) = rest.split_at_mut(count * w.queries);
                rest = later;
                parts.push(Part {
                    heads: BlockHeads {
                        blocks: own,
                        layer: index,
                        keys: 0..heads.keys,
                    },
                    rows: row..row + count,
                    out: now,
                });
                row += count;
                left -= count;
            }
        }
        if parts.len() < self.pool.threads() {
            parts = parts
                .into_iter()
                .flat_map(|part| by_key_heads(part, heads))
                .collect();
        }
        let (scores, queries) = (&b.scores, &a.queries);
        let (isa, whole) = (self.isa, self.weights.arithmetic().attend_blocks);
        let (reach, order) = (self.reach(layer), self.key_order(layer));
        self.pool.each(&mut parts, &|part, thread| {
            let own = part.heads.clone();
            let first = own.keys.start * (w.queries / heads.keys);
            let queries = self.queries(order, rows, part.rows.clone(), &queries[first..]);
            let mut scores = scores[thread]
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            reserve(&mut scores, heads.queries * own.blocks.len() * LANES);
            if reach.is_whole() {
                whole(isa, heads, own, queries, &mut scores, part.out);
            } else {
                attend_blocks_within(isa, heads, reach, own, queries, &mut scores, part.out);
            }
        });
    }
}

/// A part of one row as one part a key head, where that is worth handing out.
fn by_key_heads(part: Part<'_>, heads: Heads) -> Vec<Part<'_>> {
    let positions = part.heads.blocks.len() * LANES;
    if part.rows.len() != 1 || 2 * heads.queries * heads.width * positions < SHARED {
        return vec![part];
    }
    let Part {
        heads: all,
        rows,
        out,
    } = part;
    let each = out.len() / heads.keys;
    let outs = out.chunks_exact_mut(each).enumerate();
    outs.map(|(key, out)| Part {
        heads: BlockHeads {
            keys: key..key + 1,
            ..all.clone()
        },
        rows: rows.clone(),
        out,
    })
    .collect()
}
