//! The optimiser's step on a device, and what comes before it: sums of gradients and their norm.

use std::sync::Arc;

use crate::device::{Address, Device, Memory, each, launch};
use crate::error::Result;
use crate::route::pointer;

/// One step's numbers, as of the CPU's kernel; `step` counts from 1.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    pub learning_rate: f32,
    pub beta1: f32,
    pub beta2: f32,
    pub epsilon: f32,
    pub weight_decay: f32,
    pub gradient_scale: f32,
    pub step: u32,
}

#[repr(C)]
struct Argument {
    gradient: Address,
    weight: Address,
    first: Address,
    second: Address,
    rounded: Address,
    count: usize,
    step: f32,
    root: f32,
    keep: f32,
    new1: f32,
    beta2: f32,
    new2: f32,
    epsilon: f32,
    gradient_scale: f32,
}

/// Updates `count` weights and both moments, and a bf16 copy unless `rounded` is 0.
#[allow(clippy::too_many_arguments)]
pub fn adamw(
    device: &dyn Device,
    adam: AdamW,
    gradient: Address,
    weight: Address,
    first: Address,
    second: Address,
    rounded: Address,
    count: usize,
) -> Result<()> {
    // The corrections in double precision, as torch does.
    let power = |beta: f32| 1.0 - f64::from(beta).powi(adam.step.min(i32::MAX as u32) as i32);
    let mut argument = Argument {
        gradient,
        weight,
        first,
        second,
        rounded,
        count,
        step: (f64::from(adam.learning_rate) / power(adam.beta1)) as f32,
        root: power(adam.beta2).sqrt() as f32,
        keep: 1.0 - adam.learning_rate * adam.weight_decay,
        new1: 1.0 - adam.beta1,
        beta2: adam.beta2,
        new2: 1.0 - adam.beta2,
        epsilon: adam.epsilon,
        gradient_scale: adam.gradient_scale,
    };
    each(device, "adamw", count, &mut [pointer(&mut argument)])
}

/// `to` += `from`, number by number.
pub fn add(
    device: &dyn Device,
    mut from: Address,
    mut to: Address,
    mut count: usize,
) -> Result<()> {
    let arguments = &mut [pointer(&mut from), pointer(&mut to), pointer(&mut count)];
    each(device, "add", count, arguments)
}

/// Σ x² in double precision and a fixed order.
pub fn sum_squares(device: &Arc<dyn Device>, mut x: Address, mut count: usize) -> Result<f64> {
    let many = count.div_ceil(4096);
    let parts = Memory::<f64>::new(device, many)?;
    let mut to = parts.address();
    let arguments = &mut [pointer(&mut x), pointer(&mut to), pointer(&mut count)];
    launch(&**device, "sum_squares", [many, 1, 1], 256, 64, arguments)?;
    Ok(parts.download()?.iter().sum())
}
