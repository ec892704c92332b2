//! Root-mean-square normalisation and rotary embedding on a device.

use std::sync::Arc;

use crate::device::{Address, Device, launch, size, warps};
use crate::error::Result;
use crate::route::pointer;
use crate::rows::{Pieces, sum};

/// Shape of a normalisation, as of the CPU's kernels: `groups` pieces of a row, each of `width` floats of which `count` count.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    pub rows: usize,
    pub groups: usize,
    pub width: usize,
    pub count: usize,
    pub epsilon: f32,
}

impl Norm {
    /// Rows, groups, width and count as kernels take them.
    fn sizes(self) -> Result<[u32; 4]> {
        Ok([
            size("rows", self.rows)?,
            size("groups", self.groups)?,
            size("width", self.width)?,
            size("count", self.count)?,
        ])
    }
}

/// Rows, and the floats from one to the next.
#[derive(Clone, Copy, Debug)]
pub struct Stepped {
    pub at: Address,
    pub step: usize,
}

#[repr(C)]
struct Forward {
    x: Address,
    gain: Address,
    y: Address,
    inverse: Address,
    rows: u32,
    groups: u32,
    width: u32,
    count: u32,
    x_step: u32,
    y_step: u32,
    epsilon: f32,
}

#[repr(C)]
struct Backward {
    x: Address,
    gain: Address,
    inverse: Address,
    dy: Address,
    dx: Address,
    rows: u32,
    groups: u32,
    width: u32,
    count: u32,
    x_step: u32,
    dy_step: u32,
    dx_step: u32,
    add: u32,
}

#[repr(C)]
struct RotateArgument {
    x: Address,
    y: Address,
    cosines: Address,
    sines: Address,
    positions: Address,
    rows: u32,
    heads: u32,
    width: u32,
    half: u32,
    x_step: u32,
    y_step: u32,
    sign: f32,
}

/// Normalises rows; `inverse` (rows, groups) gets 1/rms.
pub fn rms_norm(
    device: &dyn Device,
    norm: Norm,
    x: Stepped,
    gain: Address,
    y: Stepped,
    inverse: Address,
) -> Result<()> {
    let [rows, groups, width, count] = norm.sizes()?;
    let mut argument = Forward {
        x: x.at,
        gain,
        y: y.at,
        inverse,
        rows,
        groups,
        width,
        count,
        x_step: size("x_step", x.step)?,
        y_step: size("y_step", y.step)?,
        epsilon: norm.epsilon,
    };
    let blocks = warps(norm.rows * norm.groups)?;
    launch(
        device,
        "rms_norm",
        blocks,
        128,
        0,
        &mut [pointer(&mut argument)],
    )
}

/// Gradients of [`rms_norm`]: `dx` is written, or added to if `add`; `dgain` accumulates, unless it is 0.
#[allow(clippy::too_many_arguments)]
pub fn rms_norm_backward(
    device: &Arc<dyn Device>,
    norm: Norm,
    x: Stepped,
    gain: Address,
    inverse: Address,
    dy: Stepped,
    dx: Stepped,
    add: bool,
    dgain: Address,
) -> Result<()> {
    if dgain != 0 {
        let pieces = Pieces {
            at: x.at,
            step: x.step,
            other: (dy.at, dy.step),
            scales: inverse,
            rows: norm.rows,
            groups: norm.groups,
            width: norm.width,
        };
        sum(device, pieces, dgain)?;
    }
    let [rows, groups, width, count] = norm.sizes()?;
    let mut argument = Backward {
        x: x.at,
        gain,
        inverse,
        dy: dy.at,
        dx: dx.at,
        rows,
        groups,
        width,
        count,
        x_step: size("x_step", x.step)?,
        dy_step: size("dy_step", dy.step)?,
        dx_step: size("dx_step", dx.step)?,
        add: add.into(),
    };
    let blocks = warps(norm.rows * norm.groups)?;
    let arguments = &mut [pointer(&mut argument)];
    launch(&**device, "rms_norm_backward", blocks, 128, 0, arguments)
}

/// Cosines and sines (positions, pairs) on the device.
#[derive(Clone, Copy, Debug)]
pub struct Angles {
    pub cosines: Address,
    pub sines: Address,
    pub pairs: usize,
}

/// Rotates the pairs (i, i + pairs) of each head's `width` dimensions, back if `back`; y may be x.
#[allow(clippy::too_many_arguments)]
pub fn rotate(
    device: &dyn Device,
    angles: Angles,
    positions: Address,
    rows: usize,
    heads: usize,
    width: usize,
    x: Stepped,
    y: Stepped,
    back: bool,
) -> Result<()> {
    let mut argument = RotateArgument {
        x: x.at,
        y: y.at,
        cosines: angles.cosines,
        sines: angles.sines,
        positions,
        rows: size("rows", rows)?,
        heads: size("heads", heads)?,
        width: size("width", width)?,
        half: size("half", angles.pairs)?,
        x_step: size("x_step", x.step)?,
        y_step: size("y_step", y.step)?,
        sign: if back { -1.0 } else { 1.0 },
    };
    let blocks = [rows, 1, 1];
    launch(
        device,
        "rotate",
        blocks,
        128,
        0,
        &mut [pointer(&mut argument)],
    )
}
