//! Routing on a device: the choice of experts, the order of copies by expert, and the gradient of the logits.

use std::ffi::c_void;
use std::sync::Arc;

use crate::device::{Address, Device, Memory, launch, size};
use crate::error::{Error, Result};

/// Experts that the kernels can order.
pub const MOST_EXPERTS: usize = 512;
/// Experts that a token can go to: a lane of a warp each.
pub const MOST_CHOSEN: usize = 32;

const TOKENS: usize = 32;
const DEPTH: usize = 16;
const STEP: usize = 64;
const THREADS: u32 = 128;
const CHUNK: usize = 1024;

/// How logits become a choice; the numbers are those of `route.cu`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Rule {
    Sigmoid = 0,
    Softmax = 1,
    SoftmaxNormalised = 2,
    /// One expert without a router.
    Dense = 3,
}

#[repr(C)]
struct RouteArgument {
    h: Address,
    router: Address,
    bias: Address,
    scores: Address,
    experts: Address,
    weights: Address,
    tokens: u32,
    hidden: u32,
    among: u32,
    chosen: u32,
    stride: u32,
    rule: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct OrderArgument {
    experts: Address,
    weights: Address,
    counts: Address,
    offsets: Address,
    tiles64: Address,
    tiles128: Address,
    slots: Address,
    tokens: Address,
    slot_weights: Address,
    copies: u32,
    among: u32,
    chosen: u32,
}

#[repr(C)]
struct BackwardArgument {
    scores: Address,
    experts: Address,
    weights: Address,
    slots: Address,
    dweights: Address,
    dlogits: Address,
    tokens: u32,
    among: u32,
    chosen: u32,
    stride: u32,
    rule: u32,
}

/// Shared memory that choosing among so many experts takes: what kernels here take at most.
pub fn select_bytes(among: usize) -> usize {
    4 * (DEPTH * (TOKENS + 1) + DEPTH * (STEP + 1) + 2 * TOKENS * among)
}

/// A pointer to an argument, as launches take them.
pub(crate) fn pointer<T>(argument: &mut T) -> *mut c_void {
    std::ptr::from_mut(argument).cast()
}

/// Which experts each token goes to, and where its copies lie when sorted by expert.
pub struct Routing {
    device: Arc<dyn Device>,
    pub rule: Rule,
    pub tokens: usize,
    /// Experts there are.
    pub among: usize,
    /// Experts per token.
    pub chosen: usize,
    /// Floats from one token's scores to the next one's.
    pub stride: usize,
    /// (tokens, stride): sigmoid or softmax of the logits.
    pub scores: Memory<f32>,
    /// (tokens, chosen), the best first.
    pub experts: Memory<u32>,
    /// (tokens, chosen)
    pub weights: Memory<f32>,
    /// (tokens, chosen): the row of each copy in expert order.
    pub slots: Memory<u32>,
    /// (copies): token of each row.
    pub row_tokens: Memory<u32>,
    /// (copies): weight of each row.
    pub slot_weights: Memory<f32>,
    /// (among + 1): where each expert's rows begin.
    pub offsets: Memory<u32>,
    /// (among + 1): where each expert's tiles of 64 and of 128 rows begin.
    pub tiles: [Memory<u32>; 2],
    counts: Memory<u32>,
}

impl Routing {
    /// Room for so many tokens.
    pub fn new(
        device: &Arc<dyn Device>,
        rule: Rule,
        tokens: usize,
        among: usize,
        chosen: usize,
        stride: usize,
    ) -> Result<Self> {
        for (what, value, most) in [
            ("the number of experts", among, MOST_EXPERTS),
            ("the number of experts of a token", chosen, MOST_CHOSEN),
            (
                "the number of copies of tokens",
                tokens * chosen,
                i32::MAX as usize,
            ),
        ] {
            if value > most {
                return Err(Error::TooLarge { what, value, most });
            }
        }
        assert!(chosen <= among && among <= stride);
        let copies = tokens * chosen;
        Ok(Self {
            device: device.clone(),
            rule,
            tokens,
            among,
            chosen,
            stride,
            scores: Memory::new(device, tokens * stride)?,
            experts: Memory::new(device, copies)?,
            weights: Memory::new(device, copies)?,
            slots: Memory::new(device, copies)?,
            row_tokens: Memory::new(device, copies)?,
            slot_weights: Memory::new(device, copies)?,
            offsets: Memory::new(device, among + 1)?,
            tiles: [
                Memory::new(device, among + 1)?,
                Memory::new(device, among + 1)?,
            ],
            counts: Memory::new(device, copies.div_ceil(CHUNK) * among)?,
        })
    }

    pub fn copies(&self) -> usize {
        self.tokens * self.chosen
    }

    /// Chooses the experts of `h` (tokens, hidden) by `router` (among, hidden) and the selection bias, if there is one.
    pub fn select(
        &self,
        h: Address,
        hidden: usize,
        router: Address,
        bias: Option<Address>,
    ) -> Result<()> {
        if self.rule == Rule::Dense || self.tokens == 0 {
            return Ok(());
        }
        let mut argument = RouteArgument {
            h,
            router,
            bias: bias.unwrap_or(0),
            scores: self.scores.address(),
            experts: self.experts.address(),
            weights: self.weights.address(),
            tokens: size("tokens", self.tokens)?,
            hidden: size("hidden", hidden)?,
            among: size("among", self.among)?,
            chosen: size("chosen", self.chosen)?,
            stride: size("stride", self.stride)?,
            rule: self.rule as u32,
        };
        self.run(
            "route_select",
            self.tokens.div_ceil(TOKENS),
            THREADS,
            select_bytes(self.among),
            &mut [pointer(&mut argument)],
        )
    }

    /// Sorts the copies by expert.
    pub fn order(&self) -> Result<()> {
        let mut argument = OrderArgument {
            experts: self.experts.address(),
            weights: self.weights.address(),
            counts: self.counts.address(),
            offsets: self.offsets.address(),
            tiles64: self.tiles[0].address(),
            tiles128: self.tiles[1].address(),
            slots: self.slots.address(),
            tokens: self.row_tokens.address(),
            slot_weights: self.slot_weights.address(),
            copies: size("copies", self.copies())?,
            among: size("among", self.among)?,
            chosen: size("chosen", self.chosen)?,
        };
        if self.rule == Rule::Dense {
            let (mut experts, mut weights) = (self.experts.address(), self.weights.address());
            let blocks = self.copies().div_ceil(256).max(1);
            let mut arguments = [
                pointer(&mut argument),
                pointer(&mut experts),
                pointer(&mut weights),
            ];
            return self.run("route_dense", blocks, 256, 0, &mut arguments);
        }
        let (chunks, threads) = (self.copies().div_ceil(CHUNK), CHUNK as u32);
        let arguments = &mut [pointer(&mut argument)];
        self.run("route_count", chunks, threads, 4 * self.among, arguments)?;
        self.run("route_offsets", 1, threads, 3 * 4 * CHUNK, arguments)?;
        let before = 4 * CHUNK / 32 * self.among;
        self.run("route_scatter", chunks, threads, before, arguments)
    }

    /// `dlogits` (tokens, stride) from the gradient of each row's weight, in expert order.
    pub fn backward(&self, dweights: &Memory<f32>, dlogits: &Memory<f32>) -> Result<()> {
        assert!(dweights.len() >= self.copies() && dlogits.len() >= self.tokens * self.stride);
        if self.rule == Rule::Dense {
            return Ok(());
        }
        let mut argument = BackwardArgument {
            scores: self.scores.address(),
            experts: self.experts.address(),
            weights: self.weights.address(),
            slots: self.slots.address(),
            dweights: dweights.address(),
            dlogits: dlogits.address(),
            tokens: size("tokens", self.tokens)?,
            among: size("among", self.among)?,
            chosen: size("chosen", self.chosen)?,
            stride: size("stride", self.stride)?,
            rule: self.rule as u32,
        };
        let blocks = self.tokens.div_ceil(4);
        self.run(
            "route_backward",
            blocks,
            128,
            0,
            &mut [pointer(&mut argument)],
        )
    }

    fn run(
        &self,
        kernel: &'static str,
        blocks: usize,
        threads: u32,
        shared: usize,
        arguments: &mut [*mut c_void],
    ) -> Result<()> {
        launch(
            &*self.device,
            kernel,
            [blocks, 1, 1],
            threads,
            shared,
            arguments,
        )
    }
}
