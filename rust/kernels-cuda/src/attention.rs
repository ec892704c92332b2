//! Causal attention with grouped heads on a device: within packed sequences, over a cache in blocks, and its gradients.

use crate::device::{Address, Device, launch, size, warps};
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
    /// Blocks of a cache: `blocks` has the address of each of the sequences' blocks, one sequence after another.
    Paged {
        blocks: Address,
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
    /// For each row the token of its sequence's first position, or where its sequence's blocks begin.
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
) -> Result<Argument> {
    let mut argument = Argument {
        queries: queries.at,
        keys: 0,
        values: 0,
        out,
        logs,
        last: queries.last,
        first: queries.first,
        blocks: 0,
        layer_floats: 0,
        rows: size("rows", queries.rows)?,
        heads: size("heads", heads.queries)?,
        key_heads: size("key_heads", heads.keys)?,
        width: size("width", heads.width)?,
        key_step: 0,
        value_step: 0,
        scale: heads.scale,
    };
    match from {
        KeyValues::Packed { keys, values } => {
            (argument.keys, argument.key_step) = (keys.0, size("key_step", keys.1)?);
            (argument.values, argument.value_step) = (values.0, size("value_step", values.1)?);
        }
        KeyValues::Paged {
            blocks,
            layer_floats,
        } => (argument.blocks, argument.layer_floats) = (blocks, layer_floats),
    }
    Ok(argument)
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
    let mut argument = argument(heads, queries, from, out, logs)?;
    let kernel = match from {
        KeyValues::Packed { .. } => "attend_packed",
        KeyValues::Paged { .. } => "attend_paged",
    };
    let blocks = warps(queries.rows * heads.queries)?;
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
        forward: argument(heads, queries, from, out, logs)?,
        dout: gradients.dout,
        along: gradients.along,
        dqueries: gradients.dqueries,
        dkeys: gradients.dkeys.0,
        dvalues: gradients.dvalues.0,
        index: gradients.index,
        row_first: gradients.row_first,
        row_end: gradients.row_end,
        tokens: size("tokens", gradients.tokens)?,
        dkey_step: size("dkey_step", gradients.dkeys.1)?,
        dvalue_step: size("dvalue_step", gradients.dvalues.1)?,
    };
    let arguments = &mut [pointer(&mut argument)];
    let shared = 2 * 4 * 4 * heads.width;
    let pairs = warps(queries.rows * heads.queries)?;
    launch(
        device,
        "attend_backward_queries",
        pairs,
        128,
        shared,
        arguments,
    )?;
    let pairs = warps(gradients.tokens * heads.keys)?;
    launch(
        device,
        "attend_backward_keys",
        pairs,
        128,
        shared,
        arguments,
    )
}

/// Rows that go into a cache: keys and values, and of each row its block's address and its position.
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
    let (mut key_step, mut value_step) =
        (size("key_step", key_step)?, size("value_step", value_step)?);
    let (mut count, mut columns) = (size("rows", rows)?, size("width", width)?);
    let arguments = &mut [
        pointer(&mut keys),
        pointer(&mut key_step),
        pointer(&mut values),
        pointer(&mut value_step),
        pointer(&mut blocks),
        pointer(&mut positions),
        pointer(&mut layer_floats),
        pointer(&mut count),
        pointer(&mut columns),
    ];
    let grid = [width.div_ceil(128), rows.min(32_768), 1];
    launch(device, "append_paged", grid, 128, 0, arguments)
}
