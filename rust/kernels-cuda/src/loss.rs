//! Rows of logits on a device: log-probabilities, entropies, cross-entropy and its gradient.

use std::sync::Arc;

use crate::device::{Address, Device, Memory, launch, size};
use crate::error::Result;
use crate::route::pointer;

/// Logits (rows, width), of which the first `vocabulary` of each row count.
#[derive(Clone, Copy, Debug)]
pub struct Logits {
    pub at: Address,
    pub rows: usize,
    pub vocabulary: usize,
    pub width: usize,
}

#[repr(C)]
struct Argument {
    logits: Address,
    targets: Address,
    scale: Address,
    logprobs: Address,
    entropies: Address,
    rows: u32,
    vocabulary: u32,
    width: u32,
}

fn run(
    device: &Arc<dyn Device>,
    kernel: &'static str,
    logits: Logits,
    targets: &[u32],
    scale: Address,
) -> Result<[Vec<f32>; 2]> {
    assert!(
        targets.len() == logits.rows && targets.iter().all(|&t| (t as usize) < logits.vocabulary)
    );
    let targets = Memory::from_slice(device, targets)?;
    let logprobs = Memory::<f32>::zeros(device, logits.rows)?;
    let entropies = Memory::<f32>::zeros(device, logits.rows)?;
    let mut argument = Argument {
        logits: logits.at,
        targets: targets.address(),
        scale,
        logprobs: logprobs.address(),
        entropies: entropies.address(),
        rows: size("rows", logits.rows)?,
        vocabulary: size("vocabulary", logits.vocabulary)?,
        width: size("width", logits.width)?,
    };
    let blocks = [logits.rows, 1, 1];
    let arguments = &mut [pointer(&mut argument)];
    launch(&**device, kernel, blocks, 256, 4 * 8, arguments)?;
    Ok([logprobs.download()?, entropies.download()?])
}

/// Log-probability of each row's target, and the entropy of each row in nats.
pub fn log_probabilities(
    device: &Arc<dyn Device>,
    logits: Logits,
    targets: &[u32],
) -> Result<[Vec<f32>; 2]> {
    run(device, "log_probabilities", logits, targets, 0)
}

/// Turns logits into the gradient of each row's scaled cross-entropy; returns the sum of the losses.
pub fn cross_entropy(
    device: &Arc<dyn Device>,
    logits: Logits,
    targets: &[u32],
    scale: &[f32],
) -> Result<f64> {
    let on = Memory::from_slice(device, scale)?;
    let [logprobs, _] = run(device, "cross_entropy", logits, targets, on.address())?;
    let each = scale.iter().zip(&logprobs);
    Ok(each.map(|(&s, &l)| -f64::from(s) * f64::from(l)).sum())
}
