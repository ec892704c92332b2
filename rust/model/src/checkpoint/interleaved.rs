//! gpt-oss's experts in files: all of a layer in one tensor, transposed, the columns of gate and up taking turns; or in
//! MXFP4, whose rows are the outputs and which stays what it is.

use std::collections::BTreeMap;

use moevolve_checkpoint::safetensors::ByteTensor;
use moevolve_checkpoint::{Error, Result, TensorView, Tensors};
use moevolve_kernels::stored::Format;

use crate::config::Config;

/// Tensors of bytes by their names.
pub type Blocks = BTreeMap<String, ByteTensor>;

/// What follows a matrix's name in those of its MXFP4 parts.
const BLOCKS: &str = "_blocks";
const SCALES: &str = "_scales";

/// Numbers that share a scale, two in a byte.
const BLOCK: usize = 32;

/// Whether a tensor of bytes is a part of an expert's matrix.
pub fn is_part(name: &str) -> bool {
    name.contains(".experts.") && (name.ends_with(BLOCKS) || name.ends_with(SCALES))
}

/// The name of a layer's experts in files.
pub fn stem(config: &Config, layer: usize) -> String {
    let block = config.family.describe().block;
    format!("model.layers.{layer}.{block}.experts.")
}

/// Takes the tensors of all experts apart.
pub fn separate(tensors: &mut Tensors, mut blocks: Blocks, config: &Config) -> Result<()> {
    let described = config.family.describe();
    let (experts, hidden, inner) = (config.experts, config.hidden, config.intermediate);
    for layer in 0..config.layers {
        let stem = stem(config, layer);
        for (name, out, inp, parts) in [
            ("gate_up_proj", 2 * inner, hidden, &[0, 1][..]),
            ("down_proj", hidden, inner, &[2][..]),
        ] {
            let name = format!("{stem}{name}");
            let matrices = match blocks.remove(&format!("{name}{BLOCKS}")) {
                Some(values) => {
                    let scales = format!("{name}{SCALES}");
                    let Some(scales) = blocks.remove(&scales) else {
                        return Err(Error::tensor(values.file(), &scales, "is missing"));
                    };
                    Matrices::of_blocks(&name, &values, &scales, [experts, out, inp])?
                }
                None => Matrices::transposed(&name, tensors.take(&name, &[experts, inp, out])?)?,
            };
            let bias = tensors.take(&format!("{name}_bias"), &[experts, out])?;
            let bias = Matrices {
                shape: [experts, out, 1],
                ..Matrices::plain(&format!("{name}_bias"), &bias)?
            };
            for e in 0..experts {
                for (turn, &part) in parts.iter().enumerate() {
                    let weight = described.expert_name(layer, e, part);
                    let vector = weight.replace(".weight", ".bias");
                    let rows = (turn, parts.len());
                    tensors.insert(weight, matrices.matrix(e, rows, false))?;
                    tensors.insert(vector, bias.matrix(e, rows, true))?;
                }
            }
        }
    }
    match blocks.pop_first() {
        None => Ok(()),
        Some((name, tensor)) => {
            let reason = "is no part of an expert's matrix here";
            Err(Error::tensor(tensor.file(), &name, reason))
        }
    }
}

/// Matrices (experts, out, inp) with rows as the layout has them.
struct Matrices {
    file: String,
    format: Format,
    bytes: Vec<u8>,
    shape: [usize; 3],
}

impl Matrices {
    /// As they lie there.
    fn plain(name: &str, tensor: &TensorView) -> Result<Self> {
        if !matches!(tensor.format, Format::F32 | Format::F16 | Format::Bf16) {
            let reason = format!("is {}, which experts cannot be here", tensor.format.name());
            return Err(Error::tensor(&tensor.file, name, reason));
        }
        Ok(Self {
            file: tensor.file.clone(),
            format: tensor.format,
            bytes: tensor.bytes().to_vec(),
            shape: [0; 3],
        })
    }

    /// From (experts, inp, out).
    fn transposed(name: &str, tensor: TensorView) -> Result<Self> {
        let [experts, inp, out] = tensor.shape[..] else {
            return Err(Error::tensor(&tensor.file, name, "is no stack of matrices"));
        };
        let plain = Self::plain(name, &tensor)?;
        let size = plain.format.block_bytes();
        let mut bytes = vec![0; plain.bytes.len()];
        let each = out * inp * size;
        for (to, from) in bytes
            .chunks_exact_mut(each)
            .zip(plain.bytes.chunks_exact(each))
        {
            for (row, to) in to.chunks_exact_mut(inp * size).enumerate() {
                for (column, to) in to.chunks_exact_mut(size).enumerate() {
                    to.copy_from_slice(&from[(column * out + row) * size..][..size]);
                }
            }
        }
        Ok(Self {
            bytes,
            shape: [experts, out, inp],
            ..plain
        })
    }

    /// From MXFP4: blocks (experts, out, inp / 32, 16) of two numbers a byte, the lower half first, and a power of two for
    /// each.
    fn of_blocks(
        name: &str,
        values: &ByteTensor,
        scales: &ByteTensor,
        [experts, out, inp]: [usize; 3],
    ) -> Result<Self> {
        let count = inp / BLOCK;
        let whole = [experts, out, count, BLOCK / 2];
        for (suffix, tensor, expected) in
            [(BLOCKS, values, &whole[..]), (SCALES, scales, &whole[..3])]
        {
            if tensor.shape != expected || !inp.is_multiple_of(BLOCK) {
                let reason = format!("has shape {:?}, expected {expected:?}", tensor.shape);
                return Err(Error::tensor(
                    tensor.file(),
                    &format!("{name}{suffix}"),
                    reason,
                ));
            }
        }
        if let Some(at) = scales.bytes().iter().position(|&scale| scale == 255) {
            let name = format!("{name}{SCALES}");
            let reason = format!("holds a scale that is NaN at index {at}");
            return Err(Error::tensor(scales.file(), &name, reason));
        }
        let blocks = values.bytes().chunks_exact(BLOCK / 2);
        let mut bytes = Vec::with_capacity(blocks.len() * Format::Mxfp4.block_bytes());
        for (block, &scale) in blocks.zip(scales.bytes()) {
            // Neighbours share a byte there; here number i does with number i + 16.
            let number = |i: usize| block[i / 2] >> (4 * (i % 2)) & 15;
            bytes.push(scale);
            bytes.extend((0..BLOCK / 2).map(|i| number(i) | number(i + BLOCK / 2) << 4));
        }
        Ok(Self {
            file: values.file().to_owned(),
            format: Format::Mxfp4,
            bytes,
            shape: [experts, out, inp],
        })
    }

    /// Every `step`-th row of expert `e` from `first` on; a `vector` has no second dimension.
    fn matrix(&self, e: usize, (first, step): (usize, usize), vector: bool) -> TensorView {
        let [_, out, inp] = self.shape;
        let row = self.format.row_bytes(inp);
        let of_expert = &self.bytes[e * out * row..][..out * row];
        let rows = of_expert.chunks_exact(row).skip(first).step_by(step);
        let bytes: Vec<u8> = rows.flatten().copied().collect();
        let height = out / step;
        let shape = if vector {
            vec![height]
        } else {
            vec![height, inp]
        };
        TensorView::owned(&self.file, bytes, self.format, shape)
            .expect("as many bytes as the rows have")
    }
}
