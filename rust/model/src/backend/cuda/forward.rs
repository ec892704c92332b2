//! The forward pass, block by block.

use moevolve_kernels_cuda::attention::{
    Appended, KeyValues, POSITIONS, Queries, append, attend as attend_rows,
};
use moevolve_kernels_cuda::experts::Combination;
use moevolve_kernels_cuda::norm::{Stepped, rms_norm, rotate};
use moevolve_kernels_cuda::products::{Operand, Rows, rounded_copy};
use moevolve_kernels_cuda::{Address, Memory, Result, rows as move_rows};

use super::Card;
use super::cache::KvCache;
use super::memory::{Activations, BlockTables, Buffer, Head, Workspace};
use crate::batch::{Packed, Paged, QueryRows};
use crate::layout::Matrix;

/// Rows one after another.
pub(super) fn packed(at: Address, step: usize) -> Stepped {
    Stepped { at, step }
}

/// Where an output row's keys begin, for rows in the order of their sequences.
pub(super) fn firsts(batch: &Packed, rows: &QueryRows) -> Vec<u32> {
    let mut firsts = vec![0; rows.len()];
    for (tokens, part) in batch.all.spans.iter().zip(&rows.spans) {
        firsts[part.clone()].fill(tokens.start as u32);
    }
    firsts
}

impl Card<'_> {
    pub(super) fn index(&self, values: &[u32]) -> Result<Memory<u32>> {
        Memory::from_slice(self.device(), values)
    }

    /// y (rows, out) = x (rows, inp) Wᵀ, added to y if `add`.
    fn multiply(
        &self,
        rows: usize,
        x: Address,
        matrix: &Matrix,
        y: Address,
        add: bool,
    ) -> Result<()> {
        let w = self.matrix(matrix);
        let rounded = rounded_copy(self.device(), w.format, x, rows * matrix.inp)?;
        let x = Operand::plain(rounded.as_ref().map_or(x, Memory::address));
        self.products().forward(Rows::Whole(rows), x, w, y, add)
    }

    pub(super) fn embed_rows(&self, ids: &[u32], out: &mut Buffer) -> Result<()> {
        let hidden = self.layout.widths.hidden;
        let to = out.reserve(self.device(), ids.len() * hidden)?;
        let (ids_on, from) = (self.index(ids)?, self.at(&self.layout.embedding.range));
        move_rows::gather(
            &**self.device(),
            from,
            ids_on.address(),
            to,
            ids.len(),
            hidden,
        )
    }

    /// Queries, keys and values of a layer, normalised and rotated, from its input.
    pub(super) fn project(
        &self,
        index: usize,
        all: &QueryRows,
        rows: &QueryRows,
        input: &Buffer,
        a: &mut Activations,
    ) -> Result<()> {
        let (device, w) = (self.device(), self.layout.widths);
        let layer = &self.layout.layers[index];
        let (tokens, count, attention) = (all.len(), rows.len(), layer.attention());
        let inverse = a.input_inverse.reserve(device, tokens)?;
        let normal = a.normal.reserve(device, tokens * w.hidden)?;
        let gain = self.at(&layer.input_norm);
        let (x, y) = (packed(input.address(), w.hidden), packed(normal, w.hidden));
        rms_norm(&**device, self.hidden_norm(tokens), x, gain, y, inverse)?;
        let query_normal = if rows.whole {
            normal
        } else {
            let to = a.query_normal.reserve(device, count * w.hidden)?;
            let index = self.index(&rows.rows)?;
            move_rows::gather(&**device, normal, index.address(), to, count, w.hidden)?;
            to
        };
        let raw = a.raw_queries.reserve(device, count * w.queries)?;
        let key_values = a.key_values.reserve(device, tokens * 2 * w.keys)?;
        self.multiply(count, query_normal, &attention.query, raw, false)?;
        self.multiply(tokens, normal, &attention.key_value, key_values, false)?;
        if let Some(biases) = &attention.biases {
            let (query, key_value) = (self.at(&biases.query), self.at(&biases.key_value));
            move_rows::add_row(&**device, query, raw, count, w.queries)?;
            move_rows::add_row(&**device, key_value, key_values, tokens, 2 * w.keys)?;
        }
        let gains = attention.qk_norms.as_ref();
        let (gain, heads) = (gains.map(|g| self.at(&g[0])), self.config.heads);
        let from = packed(raw, w.queries);
        let inverse = a.query_inverse.reserve(device, count * heads)?;
        let to = a.queries.reserve(device, count * w.queries)?;
        self.apply_rope(gain, heads, &rows.positions, from, inverse, to)?;
        let (gain, heads) = (gains.map(|g| self.at(&g[1])), self.config.key_heads);
        let from = packed(key_values, 2 * w.keys);
        let inverse = a.key_inverse.reserve(device, tokens * heads)?;
        let to = a.keys.reserve(device, tokens * w.keys)?;
        self.apply_rope(gain, heads, &all.positions, from, inverse, to)
    }

    /// Heads normalised, if they have a gain, and rotated: from rows some floats apart to packed ones.
    fn apply_rope(
        &self,
        gain: Option<Address>,
        heads: usize,
        positions: &[u32],
        raw: Stepped,
        inverse: Address,
        out: Address,
    ) -> Result<()> {
        let (device, head) = (&**self.device(), self.layout.widths.head);
        let (rows, width) = (positions.len(), heads * head);
        let out = packed(out, width);
        match gain {
            Some(gain) => rms_norm(
                device,
                self.heads_norm(rows, heads),
                raw,
                gain,
                out,
                inverse,
            )?,
            None => {
                move_rows::copy(device, (raw.at, raw.step), (out.at, width), rows, width)?;
            }
        }
        let (angles, positions) = (self.weights.angles(), self.index(positions)?);
        rotate(
            device,
            angles,
            positions.address(),
            rows,
            heads,
            head,
            out,
            out,
            false,
        )
    }

    /// Keys and values of a batch's own rows.
    pub(super) fn own_keys(&self, a: &Activations) -> KeyValues {
        let w = self.layout.widths;
        KeyValues::Packed {
            keys: (a.keys.address(), w.keys),
            values: (a.key_values.at(w.keys), 2 * w.keys),
        }
    }

    pub(super) fn attend_own(
        &self,
        batch: &Packed,
        rows: &QueryRows,
        a: &mut Activations,
    ) -> Result<()> {
        let (device, w) = (self.device(), self.layout.widths);
        let out = a.attended.reserve(device, rows.len() * w.queries)?;
        let logs = a.logs.reserve(device, rows.len() * self.config.heads)?;
        let (last, first) = (self.index(&rows.last)?, self.index(&firsts(batch, rows))?);
        let queries = Queries {
            at: a.queries.address(),
            rows: rows.len(),
            last: last.address(),
            first: first.address(),
        };
        let from = self.own_keys(a);
        attend_rows(&**device, self.heads(), queries, from, out, logs)
    }

    /// Floats of a block, and where a layer's part begins in it.
    pub(super) fn block_floats(&self, layer: usize) -> (usize, usize) {
        let floats = self.heads().layer_floats();
        (self.config.layers * floats, layer * floats)
    }

    fn block_tables(&self, cache: &KvCache, sequences: &[Paged<'_>]) -> Result<BlockTables> {
        let (mut written, mut positions, mut read) = (Vec::new(), Vec::new(), Vec::new());
        for sequence in sequences {
            for position in sequence.first..sequence.first + sequence.tokens {
                written.push(sequence.blocks[position / POSITIONS]);
                positions.push(position as u32);
            }
            read.extend_from_slice(sequence.blocks);
        }
        Ok(BlockTables {
            written: Memory::from_slice(self.device(), &cache.addresses(written))?,
            positions: self.index(&positions)?,
            read: Memory::from_slice(self.device(), &cache.addresses(read))?,
        })
    }

    pub(super) fn append_rows(
        &self,
        layer: usize,
        cache: &KvCache,
        sequences: &[Paged<'_>],
        a: &Activations,
        w: &mut Workspace,
    ) -> Result<()> {
        if layer == 0 {
            w.tables = Some(self.block_tables(cache, sequences)?);
        }
        let (widths, tables) = (self.layout.widths, w.tables());
        let appended = Appended {
            keys: (a.keys.address(), widths.keys),
            values: (a.key_values.at(widths.keys), 2 * widths.keys),
            rows: tables.positions.len(),
            blocks: tables.written.address(),
            positions: tables.positions.address(),
        };
        let (_, start) = self.block_floats(layer);
        append(&**self.device(), self.heads(), appended, start)
    }

    /// Attention to the blocks that [`Self::append_rows`] wrote to.
    pub(super) fn attend_blocks(
        &self,
        layer: usize,
        sequences: &[Paged<'_>],
        rows: &QueryRows,
        a: &mut Activations,
        w: &Workspace,
    ) -> Result<()> {
        let device = self.device();
        let end = layer + 1 == self.config.layers;
        let (mut blocks, mut first) = (0, Vec::new());
        for sequence in sequences {
            let count = if end {
                sequence.outputs
            } else {
                sequence.tokens
            };
            first.extend(std::iter::repeat_n(blocks as u32, count));
            blocks += sequence.blocks.len();
        }
        let out = a
            .attended
            .reserve(device, rows.len() * self.layout.widths.queries)?;
        let (last, first) = (self.index(&rows.last)?, self.index(&first)?);
        let queries = Queries {
            at: a.queries.address(),
            rows: rows.len(),
            last: last.address(),
            first: first.address(),
        };
        let (_, layer_floats) = self.block_floats(layer);
        let from = KeyValues::Paged {
            blocks: w.tables().read.address(),
            layer_floats,
        };
        attend_rows(&**device, self.heads(), queries, from, out, 0)
    }

    /// Output projection, residual and experts: from `attended` to the layer's output (rows, hidden).
    pub(super) fn after_attention(
        &self,
        index: usize,
        queries: &QueryRows,
        input: &Buffer,
        a: &mut Activations,
        out: &mut Buffer,
    ) -> Result<()> {
        let (device, w, rows) = (self.device(), self.layout.widths, queries.len());
        let layer = &self.layout.layers[index];
        let middle = a.middle.reserve(device, rows * w.hidden)?;
        if queries.whole {
            device.copy(input.address(), middle, 4 * rows * w.hidden)?;
        } else {
            let (from, index) = (input.address(), self.index(&queries.rows)?);
            move_rows::gather(&**device, from, index.address(), middle, rows, w.hidden)?;
        }
        let (output, bias) = layer.output();
        self.multiply(rows, a.attended.address(), output, middle, true)?;
        if let Some(bias) = bias {
            let bias = self.at(bias);
            move_rows::add_row(&**device, bias, middle, rows, w.hidden)?;
        }
        let normal = a.middle_normal.reserve(device, rows * w.hidden)?;
        let inverse = a.middle_inverse.reserve(device, rows)?;
        let gain = self.at(&layer.middle_norm);
        let (x, y) = (packed(middle, w.hidden), packed(normal, w.hidden));
        rms_norm(&**device, self.hidden_norm(rows), x, gain, y, inverse)?;
        let to = out.reserve(device, rows * w.hidden)?;
        let block = self.block(index, layer);
        let saved =
            self.experts()
                .forward(&block, rows, normal, middle, to, Combination::Ordered)?;
        a.experts = Some(saved);
        Ok(())
    }

    pub(super) fn head(&self, rows: usize, output: &Buffer, head: &mut Head) -> Result<()> {
        let (device, w) = (self.device(), self.layout.widths);
        let inverse = head.inverse.reserve(device, rows)?;
        let normal = head.normal.reserve(device, rows * w.hidden)?;
        let logits = head.logits.reserve(device, rows * w.vocabulary)?;
        let gain = self.at(&self.layout.final_norm);
        let (x, y) = (packed(output.address(), w.hidden), packed(normal, w.hidden));
        rms_norm(&**device, self.hidden_norm(rows), x, gain, y, inverse)?;
        self.multiply(rows, normal, &self.layout.head, logits, false)
    }
}
