//! The backward pass, block by block, as `backend/cpu/backward.rs` has it.

use moevolve_kernels_cuda::attention::{Gradients as AttentionGradients, Queries, attend_backward};
use moevolve_kernels_cuda::experts::Gradients;
use moevolve_kernels_cuda::norm::{rms_norm_backward, rotate};
use moevolve_kernels_cuda::products::{Operand, Rows, rounded_copy};
use moevolve_kernels_cuda::rows::{Pieces, scatter_add, sum};
use moevolve_kernels_cuda::{Address, Memory, Result, rows as move_rows};

use super::forward::{firsts, packed};
use super::memory::{ActivationGradients, Activations, Buffer, Head};
use super::{Card, apart};
use crate::batch::{Packed, QueryRows};
use crate::layout::Matrix;

impl Card<'_> {
    /// Adds the gradient of a matrix, and writes or adds that of its input.
    #[allow(clippy::too_many_arguments)]
    fn through(
        &self,
        matrix: &Matrix,
        rows: usize,
        dy: Address,
        x: Address,
        dx: Address,
        add: bool,
        gradient: &Buffer,
    ) -> Result<()> {
        let (products, w) = (self.products(), self.matrix(matrix));
        let round = |at, width| rounded_copy(self.device(), w.format, at, rows * width);
        let (dy_rounded, x_rounded) = (round(dy, matrix.out)?, round(x, matrix.inp)?);
        let operand = |at, rounded: &Option<Memory<u16>>| {
            Operand::plain(rounded.as_ref().map_or(at, Memory::address))
        };
        let (dy, x) = (operand(dy, &dy_rounded), operand(x, &x_rounded));
        let dw = gradient.at(matrix.range.start);
        let (rows, shape) = (Rows::Whole(rows), (matrix.out, matrix.inp));
        products.weight_gradient(w.format, rows, dy, x, shape, dw, 0)?;
        products.input_gradient(rows, dy, w, dx, add)
    }

    /// Adds the gradient of a bias: the sum of rows.
    fn bias(
        &self,
        rows: usize,
        dy: Address,
        range: &std::ops::Range<usize>,
        gradient: &Buffer,
    ) -> Result<()> {
        let pieces = Pieces {
            at: dy,
            step: range.len(),
            other: (0, 0),
            scales: 0,
            rows,
            groups: 1,
            width: range.len(),
        };
        sum(self.device(), pieces, gradient.at(range.start))
    }

    pub(super) fn back_through_head(
        &self,
        rows: usize,
        output: &Buffer,
        head: &Head,
        d: &mut ActivationGradients,
        gradient: &Buffer,
    ) -> Result<()> {
        let (device, w) = (self.device(), self.layout.widths);
        let normal = d.normal.reserve(device, rows * w.hidden)?;
        let to = d.output.reserve(device, rows * w.hidden)?;
        let (logits, x) = (head.logits.address(), head.normal.address());
        self.through(&self.layout.head, rows, logits, x, normal, false, gradient)?;
        rms_norm_backward(
            device,
            self.hidden_norm(rows),
            packed(output.address(), w.hidden),
            self.at(&self.layout.final_norm),
            head.inverse.address(),
            packed(normal, w.hidden),
            packed(to, w.hidden),
            false,
            gradient.at(self.layout.final_norm.start),
        )
    }

    /// From the gradient of the layer's output in `output` to that of its middle, in the same buffer.
    pub(super) fn back_through_experts(
        &self,
        index: usize,
        rows: usize,
        a: &Activations,
        d: &mut ActivationGradients,
        gradient: &Buffer,
    ) -> Result<()> {
        let (device, w) = (self.device(), self.layout.widths);
        let layer = &self.layout.layers[index];
        let Some(saved) = &a.experts else {
            return Ok(());
        };
        let normal = d.normal.reserve(device, rows * w.hidden)?;
        let ranges = &layer.experts;
        let gradients = Gradients {
            router: gradient.at(ranges.router.start),
            gate_up: gradient.at(ranges.gate_up[0].start),
            down: gradient.at(ranges.down[0].start),
            gate_up_apart: apart(&ranges.gate_up),
            down_apart: apart(&ranges.down),
        };
        let (block, h) = (self.block(index, layer), a.middle_normal.address());
        let dout = d.output.address();
        self.experts()
            .backward(&block, saved, h, dout, normal, gradients)?;
        rms_norm_backward(
            device,
            self.hidden_norm(rows),
            packed(a.middle.address(), w.hidden),
            self.at(&layer.middle_norm),
            a.middle_inverse.address(),
            packed(normal, w.hidden),
            packed(dout, w.hidden),
            true,
            gradient.at(layer.middle_norm.start),
        )
    }

    /// To the gradients of the layer's queries, keys and values, still rotated.
    pub(super) fn back_through_attention(
        &self,
        index: usize,
        batch: &Packed,
        queries: &QueryRows,
        a: &Activations,
        d: &mut ActivationGradients,
        gradient: &Buffer,
    ) -> Result<()> {
        let (device, w) = (self.device(), self.layout.widths);
        let layer = &self.layout.layers[index];
        let (rows, tokens) = (queries.len(), batch.len());
        let dattended = d.attended.reserve(device, rows * w.queries)?;
        let (dy, x) = (d.output.address(), a.attended.address());
        let (output, bias) = layer.output();
        self.through(output, rows, dy, x, dattended, false, gradient)?;
        if let Some(bias) = bias {
            self.bias(rows, dy, bias, gradient)?;
        }
        let (mut position, mut row_first, mut row_end) = (Vec::new(), Vec::new(), Vec::new());
        for (span, part) in batch.all.spans.iter().zip(&queries.spans) {
            position.extend(0..span.len() as u32);
            row_first.extend(std::iter::repeat_n(part.start as u32, span.len()));
            row_end.extend(std::iter::repeat_n(part.end as u32, span.len()));
        }
        let (position, row_first, row_end) = (
            self.index(&position)?,
            self.index(&row_first)?,
            self.index(&row_end)?,
        );
        let (last, first) = (
            self.index(&queries.last)?,
            self.index(&firsts(batch, queries))?,
        );
        let forward = Queries {
            at: a.queries.address(),
            rows,
            last: last.address(),
            first: first.address(),
        };
        d.key_values.reserve(device, tokens * 2 * w.keys)?;
        let gradients = AttentionGradients {
            dout: dattended,
            along: d.along.reserve(device, rows * self.config.heads)?,
            dqueries: d.queries.reserve(device, rows * w.queries)?,
            dkeys: (d.keys.reserve(device, tokens * w.keys)?, w.keys),
            dvalues: (d.key_values.at(w.keys), 2 * w.keys),
            tokens,
            index: position.address(),
            row_first: row_first.address(),
            row_end: row_end.address(),
        };
        let (out, logs) = (a.attended.address(), a.logs.address());
        attend_backward(
            &**device,
            self.heads(),
            forward,
            self.own_keys(a),
            out,
            logs,
            gradients,
        )
    }

    /// To the gradient of the layer's input, in `output`.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn back_through_projections(
        &self,
        index: usize,
        batch: &Packed,
        queries: &QueryRows,
        input: &Buffer,
        a: &Activations,
        d: &mut ActivationGradients,
        gradient: &Buffer,
    ) -> Result<()> {
        let (device, w) = (self.device(), self.layout.widths);
        let layer = &self.layout.layers[index];
        let (rows, tokens, attention) = (queries.len(), batch.len(), layer.attention());
        let (heads, key_heads) = (self.config.heads, self.config.key_heads);
        // Rotated back, then through the norms.
        let back = |at: Address, heads: usize, positions: &[u32]| -> Result<()> {
            let rotated = packed(at, heads * w.head);
            let (count, positions) = (positions.len(), self.index(positions)?);
            rotate(
                &**device,
                self.weights.angles(),
                positions.address(),
                count,
                heads,
                w.head,
                rotated,
                rotated,
                true,
            )
        };
        let (dqueries, dkeys) = (d.queries.address(), d.keys.address());
        back(dqueries, heads, &queries.positions)?;
        back(dkeys, key_heads, &batch.all.positions)?;
        let raw = d.raw_queries.reserve(device, rows * w.queries)?;
        let key_values = d.key_values.address();
        if let Some([query_norm, key_norm]) = &attention.qk_norms {
            rms_norm_backward(
                device,
                self.heads_norm(rows, heads),
                packed(a.raw_queries.address(), w.queries),
                self.at(query_norm),
                a.query_inverse.address(),
                packed(dqueries, w.queries),
                packed(raw, w.queries),
                false,
                gradient.at(query_norm.start),
            )?;
            rms_norm_backward(
                device,
                self.heads_norm(tokens, key_heads),
                packed(a.key_values.address(), 2 * w.keys),
                self.at(key_norm),
                a.key_inverse.address(),
                packed(dkeys, w.keys),
                packed(key_values, 2 * w.keys),
                false,
                gradient.at(key_norm.start),
            )?;
        } else {
            device.copy(dqueries, raw, 4 * rows * w.queries)?;
            let (from, to) = ((dkeys, w.keys), (key_values, 2 * w.keys));
            move_rows::copy(&**device, from, to, tokens, w.keys)?;
        }
        if let Some(biases) = &attention.biases {
            self.bias(rows, raw, &biases.query, gradient)?;
            self.bias(tokens, key_values, &biases.key_value, gradient)?;
        }
        let normal = d.normal.reserve(device, tokens * w.hidden)?;
        let (x, key_value) = (a.normal.address(), &attention.key_value);
        self.through(key_value, tokens, key_values, x, normal, false, gradient)?;
        if queries.whole {
            self.through(&attention.query, rows, raw, x, normal, true, gradient)?;
        } else {
            let x = a.query_normal.address();
            let part = d.query_normal.reserve(device, rows * w.hidden)?;
            self.through(&attention.query, rows, raw, x, part, false, gradient)?;
            let index = self.index(&queries.rows)?;
            scatter_add(&**device, part, index.address(), normal, rows, w.hidden)?;
            let whole = d.input.reserve(device, tokens * w.hidden)?;
            device.clear(whole, 4 * tokens * w.hidden)?;
            let output = d.output.address();
            scatter_add(&**device, output, index.address(), whole, rows, w.hidden)?;
            std::mem::swap(&mut d.input, &mut d.output);
        }
        rms_norm_backward(
            device,
            self.hidden_norm(tokens),
            packed(input.address(), w.hidden),
            self.at(&layer.input_norm),
            a.input_inverse.address(),
            packed(normal, w.hidden),
            packed(d.output.address(), w.hidden),
            true,
            gradient.at(layer.input_norm.start),
        )
    }

    pub(super) fn back_through_embedding(
        &self,
        ids: &[u32],
        d: &ActivationGradients,
        gradient: &Buffer,
    ) -> Result<()> {
        let to = gradient.at(self.layout.embedding.range.start);
        let (from, hidden) = (d.output.address(), self.layout.widths.hidden);
        let index = self.index(ids)?;
        scatter_add(
            &**self.device(),
            from,
            index.address(),
            to,
            ids.len(),
            hidden,
        )
    }
}
