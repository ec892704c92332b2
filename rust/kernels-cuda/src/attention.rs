//! Causal attention with grouped heads on a device: within packed sequences, over a cache in blocks, and its gradients.

use crate::device::{Address, Device, launch};
use crate::error::{Error, Result};
use crate::route::pointer;

/// Positions of a block of a cache.
pub const POSITIONS: usize = 16;
/// The widest head that the kernels take.
pub const MOST_WIDTH: usize = 256;

/// Head counts and widths, as of the CPU's kernels.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    pub queries: usize,
    pub keys: usize,
    pub width: usize,
    pub scale: f32,
}

impl Heads {
    /// Floats of a layer's part of a block: keys of its positions, then their values.
    pub fn layer_floats(self) -> usize {
        2 * POSITIONS * self.keys * self.width
    }
}

/// Where keys and values lie.
#[derive(Clone, Copy, Debug)]
pub enum KeyValues {
    /// Rows of all sequences, with the floats from one to the next.
    Packed {
        keys: (Address, usize),
        values: (Address, usize),
    },
    /// Blocks of a cache; `ids` are the sequences' blocks, one sequence after another.
    Paged {
        cache: Address,
        ids: Address,
        block_floats: usize,
        layer_floats: usize,
    },
}

/// The query rows of a call.
#[derive(Clone, Copy, Debug)]
pub struct Queries {
    /// (rows, query heads × width)
    pub at: Address,
    pub rows: usize,
    /// The last position that each row sees.
    pub last: Address,
    /// For each row the token of its sequence's first position, or its sequence's first block in the ids.
    pub first: Address,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Argument {
    queries: Address,
    keys: Address,
    values: Address,
    out: Address,
    logs: Address,
    last: Address,
    first: Address,
    blocks: Address,
    block_floats: usize,
    layer_floats: usize,
    rows: u32,
    heads: u32,
    key_heads: u32,
    width: u32,
    key_step: u32,
    value_step: u32,
    scale: f32,
}

#[repr(C)]
struct BackwardArgument {
    forward: Argument,
    dout: Address,
    along: Address,
    dqueries: Address,
    dkeys: Address,
    dvalues: Address,
    index: Address,
    row_first: Address,
    row_end: Address,
    tokens: u32,
    dkey_step: u32,
    dvalue_step: u32,
}

fn argument(
    heads: Heads,
    queries: Queries,
    from: KeyValues,
    out: Address,
    logs: Address,
) -> Argument {
    let mut argument = Argument {
        queries: queries.at,
        keys: 0,
        values: 0,
        out,
        logs,
        last: queries.last,
        first: queries.first,
        blocks: 0,
        block_floats: 0,
        layer_floats: 0,
        rows: queries.rows as u32,
        heads: heads.queries as u32,
        key_heads: heads.keys as u32,
        width: heads.width as u32,
        key_step: 0,
        value_step: 0,
        scale: heads.scale,
    };
    match from {
        KeyValues::Packed { keys, values } => {
            (argument.keys, argument.key_step) = (keys.0, keys.1 as u32);
            (argument.values, argument.value_step) = (values.0, values.1 as u32);
        }
        KeyValues::Paged {
            cache,
            ids,
            block_floats,
            layer_floats,
        } => {
            (argument.keys, argument.blocks) = (cache, ids);
            (argument.block_floats, argument.layer_floats) = (block_floats, layer_floats);
        }
    }
    argument
}

fn check(heads: Heads) -> Result<()> {
    if heads.width > MOST_WIDTH {
        return Err(Error::TooLarge {
            what: "a head's width",
            value: heads.width,
            most: MOST_WIDTH,
        });
    }
    Ok(())
}

/// `out` (rows, query heads × width), and ln Σ exp of each row's scores in `logs` (rows, query heads), unless it is 0.
pub fn attend(
    device: &dyn Device,
    heads: Heads,
    queries: Queries,
    from: KeyValues,
    out: Address,
    logs: Address,
) -> Result<()> {
    check(heads)?;
    let mut argument = argument(heads, queries, from, out, logs);
    let kernel = match from {
        KeyValues::Packed { .. } => "attend_packed",
        KeyValues::Paged { .. } => "attend_paged",
    };
    let blocks = [(queries.rows * heads.queries).div_ceil(4), 1, 1];
    let shared = 4 * 4 * heads.width;
    let arguments = &mut [pointer(&mut argument)];
    launch(device, kernel, blocks, 128, shared, arguments)
}

/// What the backward pass of packed sequences reads and writes beside the forward pass's arrays.
#[derive(Clone, Copy, Debug)]
pub struct Gradients {
    /// (rows, query heads × width)
    pub dout: Address,
    /// (rows, query heads): scratch.
    pub along: Address,
    pub dqueries: Address,
    /// With the floats from one token's to the next one's.
    pub dkeys: (Address, usize),
    pub dvalues: (Address, usize),
    /// Tokens, the position of each in its sequence, and the query rows of its sequence.
    pub tokens: usize,
    pub index: Address,
    pub row_first: Address,
    pub row_end: Address,
}

/// Gradients of [`attend`] over packed sequences, all written.
#[allow(clippy::too_many_arguments)]
pub fn attend_backward(
    device: &dyn Device,
    heads: Heads,
    queries: Queries,
    from: KeyValues,
    out: Address,
    logs: Address,
    gradients: Gradients,
) -> Result<()> {
    check(heads)?;
    let mut argument = BackwardArgument {
        forward: argument(heads, queries, from, out, logs),
        dout: gradients.dout,
        along: gradients.along,
        dqueries: gradients.dqueries,
        dkeys: gradients.dkeys.0,
        dvalues: gradients.dvalues.0,
        index: gradients.index,
        row_first: gradients.row_first,
        row_end: gradients.row_end,
        tokens: gradients.tokens as u32,
        dkey_step: gradients.dkeys.1 as u32,
        dvalue_step: gradients.dvalues.1 as u32,
    };
    let arguments = &mut [pointer(&mut argument)];
    let shared = 2 * 4 * 4 * heads.width;
    let blocks = |pairs: usize| [pairs.div_ceil(4), 1, 1];
    let pairs = blocks(queries.rows * heads.queries);
    launch(
        device,
        "attend_backward_queries",
        pairs,
        128,
        shared,
        arguments,
    )?;
    let pairs = blocks(gradients.tokens * heads.keys);
    launch(
        device,
        "attend_backward_keys",
        pairs,
        128,
        shared,
        arguments,
    )
}

/// Rows that go into a cache: keys and values, and of each row its block's id and its position.
#[derive(Clone, Copy, Debug)]
pub struct Appended {
    pub keys: (Address, usize),
    pub values: (Address, usize),
    pub rows: usize,
    pub blocks: Address,
    pub positions: Address,
}

/// Writes a layer's rows to their places in the cache.
pub fn append(
    device: &dyn Device,
    heads: Heads,
    appended: Appended,
    mut cache: Address,
    mut block_floats: usize,
    mut layer_floats: usize,
) -> Result<()> {
    let Appended {
        keys: (mut keys, key_step),
        values: (mut values, value_step),
        rows,
        mut blocks,
        mut positions,
    } = appended;
    let width = heads.keys * heads.width;
    let (mut key_step, mut value_step) = (key_step as u32, value_step as u32);
    let (mut count, mut columns) = (rows as u32, width as u32);
    let arguments = &mut [
        pointer(&mut keys),
        pointer(&mut key_step),
        pointer(&mut values),
        pointer(&mut value_step),
        pointer(&mut cache),
        pointer(&mut blocks),
        pointer(&mut positions),
        pointer(&mut block_floats),
        pointer(&mut layer_floats),
        pointer(&mut count),
        pointer(&mut columns),
    ];
    let grid = [width.div_ceil(128), rows.min(32_768), 1];
    launch(device, "append_paged", grid, 128, 0, arguments)
}
