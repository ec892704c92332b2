//! Tokens from logits on a device, by the same draws as on the CPU.

use std::sync::Arc;

use crate::device::{Address, Device, Memory, launch, size};
use crate::error::Result;
use crate::loss::Logits;
use crate::route::pointer;

/// How a row's token is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Draw {
    pub key: u64,
    pub counter: u64,
    /// 0 takes the likeliest, the lowest of equals.
    pub temperature: f32,
    /// Tokens at least this share as likely as the likeliest stay.
    pub min_p: f32,
}

#[repr(C)]
struct Argument {
    logits: Address,
    keys: Address,
    counters: Address,
    temperatures: Address,
    least: Address,
    tokens: Address,
    rows: u32,
    vocabulary: u32,
    width: u32,
}

/// One token a row; None where no logit is above -inf.
pub fn draw(device: &Arc<dyn Device>, logits: Logits, draws: &[Draw]) -> Result<Vec<Option<u32>>> {
    assert_eq!(draws.len(), logits.rows);
    let keys: Vec<u64> = draws.iter().map(|d| d.key).collect();
    let counters: Vec<u64> = draws.iter().map(|d| d.counter).collect();
    let temperatures: Vec<f32> = draws.iter().map(|d| d.temperature).collect();
    let least: Vec<f32> = draws.iter().map(|d| d.min_p).collect();
    let (keys, counters) = (
        Memory::from_slice(device, &keys)?,
        Memory::from_slice(device, &counters)?,
    );
    let (temperatures, least) = (
        Memory::from_slice(device, &temperatures)?,
        Memory::from_slice(device, &least)?,
    );
    let tokens = Memory::<u32>::new(device, logits.rows)?;
    let mut argument = Argument {
        logits: logits.at,
        keys: keys.address(),
        counters: counters.address(),
        temperatures: temperatures.address(),
        least: least.address(),
        tokens: tokens.address(),
        rows: size("rows", logits.rows)?,
        vocabulary: size("vocabulary", logits.vocabulary)?,
        width: size("width", logits.width)?,
    };
    let arguments = &mut [pointer(&mut argument)];
    let (blocks, shared) = ([logits.rows, 1, 1], 256 * (4 + 4 + 8));
    launch(&**device, "draw", blocks, 256, shared, arguments)?;
    let tokens = tokens.download()?.into_iter();
    let known = |&token: &u32| (token as usize) < logits.vocabulary;
    Ok(tokens.map(|token| Some(token).filter(known)).collect())
}
