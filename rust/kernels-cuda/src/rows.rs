//! Rows of matrices on a device: gathered, scattered, added, and summed in a fixed order.

use crate::device::{Address, Device, Memory, launch, size};
use crate::error::Result;
use crate::route::pointer;

/// Rows that a block of threads walks over at most side by side.
const SIDE_BY_SIDE: usize = 32_768;
/// Rows of one part of a sum, as in `rows.cu`.
const SUMMED: usize = 64;

fn grid(width: usize, rows: usize) -> [usize; 3] {
    [width.div_ceil(128), rows.min(SIDE_BY_SIDE), 1]
}

/// `to` (count, width): the rows of `from` that `index` names.
pub fn gather(
    device: &dyn Device,
    mut from: Address,
    mut index: Address,
    mut to: Address,
    count: usize,
    width: usize,
) -> Result<()> {
    let (mut rows, mut columns) = (size("rows", count)?, size("width", width)?);
    let arguments = &mut [
        pointer(&mut from),
        pointer(&mut index),
        pointer(&mut to),
        pointer(&mut rows),
        pointer(&mut columns),
    ];
    launch(device, "gather_rows", grid(width, count), 128, 0, arguments)
}

/// Adds the rows of `from` (count, width) to those of `to` that `index` names, one after another.
pub fn scatter_add(
    device: &dyn Device,
    mut from: Address,
    mut index: Address,
    mut to: Address,
    count: usize,
    width: usize,
) -> Result<()> {
    let (mut rows, mut columns) = (size("rows", count)?, size("width", width)?);
    let arguments = &mut [
        pointer(&mut from),
        pointer(&mut index),
        pointer(&mut to),
        pointer(&mut rows),
        pointer(&mut columns),
    ];
    let blocks = [width.div_ceil(32), 1, 1];
    launch(device, "scatter_rows", blocks, 32, 0, arguments)
}

/// Adds a row to each of `count` rows.
pub fn add_row(
    device: &dyn Device,
    mut row: Address,
    mut to: Address,
    count: usize,
    width: usize,
) -> Result<()> {
    let (mut rows, mut columns) = (size("rows", count)?, size("width", width)?);
    let arguments = &mut [
        pointer(&mut row),
        pointer(&mut to),
        pointer(&mut rows),
        pointer(&mut columns),
    ];
    launch(device, "add_row", grid(width, count), 128, 0, arguments)
}

/// The first `width` numbers of `count` rows, each with the floats from one row to the next.
pub fn copy(
    device: &dyn Device,
    (mut from, from_step): (Address, usize),
    (mut to, to_step): (Address, usize),
    count: usize,
    width: usize,
) -> Result<()> {
    let (mut from_step, mut to_step) = (size("from_step", from_step)?, size("to_step", to_step)?);
    let (mut rows, mut columns) = (size("rows", count)?, size("width", width)?);
    let arguments = &mut [
        pointer(&mut from),
        pointer(&mut from_step),
        pointer(&mut to),
        pointer(&mut to_step),
        pointer(&mut rows),
        pointer(&mut columns),
    ];
    launch(device, "copy_rows", grid(width, count), 128, 0, arguments)
}

/// What is summed: rows that have `groups` pieces of `width` numbers each, some floats apart.
#[derive(Clone, Copy, Debug)]
pub struct Pieces {
    pub at: Address,
    pub step: usize,
    /// Rows to multiply by, number by number, and the floats from one to the next; 0: none.
    pub other: (Address, usize),
    /// A number to multiply each piece by; 0: none.
    pub scales: Address,
    pub rows: usize,
    pub groups: usize,
    pub width: usize,
}

/// `sum` (width) += all pieces, in an order that their number alone decides.
pub fn sum(device: &std::sync::Arc<dyn Device>, pieces: Pieces, mut to: Address) -> Result<()> {
    let Pieces {
        mut at,
        step,
        other: (mut other, other_step),
        mut scales,
        rows,
        groups,
        width,
    } = pieces;
    let count = rows * groups;
    let many = count.div_ceil(SUMMED);
    let parts = Memory::<f32>::new(device, many * width)?;
    let mut parts_at = parts.address();
    let (mut step, mut other_step) = (size("step", step)?, size("other_step", other_step)?);
    let (mut pieces, mut groups, mut columns) = (
        size("pieces", count)?,
        size("groups", groups)?,
        size("width", width)?,
    );
    let arguments = &mut [
        pointer(&mut at),
        pointer(&mut step),
        pointer(&mut other),
        pointer(&mut other_step),
        pointer(&mut scales),
        pointer(&mut parts_at),
        pointer(&mut pieces),
        pointer(&mut groups),
        pointer(&mut columns),
    ];
    let device = &**device;
    launch(device, "sum_parts", grid(width, many), 128, 0, arguments)?;
    let mut many = size("parts", many)?;
    let arguments = &mut [
        pointer(&mut parts_at),
        pointer(&mut to),
        pointer(&mut many),
        pointer(&mut columns),
    ];
    let blocks = [width.div_ceil(128), 1, 1];
    launch(device, "add_parts", blocks, 128, 0, arguments)
}
