//! The block of experts on a device: route, sort by expert, SwiGLU experts, combine; and its gradients.

use std::sync::Arc;

use crate::device::{Address, Device, Memory, launch, size};
use crate::error::Result;
use crate::products::{Format, Matrices, Operand, Products, Rows, rounded_copy};
use crate::route::{Routing, Rule, pointer};

/// Copies up to which experts are computed without sorting.
pub const FEW_COPIES: usize = 128;

/// The widths of a block and where its weights lie.
#[derive(Clone, Copy)]
pub struct Block {
    pub rule: Rule,
    pub hidden: usize,
    pub intermediate: usize,
    pub experts: usize,
    pub chosen: usize,
    /// Floats from one token's scores to the next one's.
    pub stride: usize,
    /// (experts, hidden), f32.
    pub router: Address,
    /// (experts), or none.
    pub bias: Option<Address>,
    /// (2 intermediate, hidden) an expert: gates over ups.
    pub gate_up: Matrices,
    /// (hidden, intermediate) an expert.
    pub down: Matrices,
}

/// What the forward pass leaves for the backward pass, in the weights' own type.
pub struct Saved {
    pub routing: Routing,
    /// (copies, 2 intermediate), f32 or bf16.
    gate_up: Memory<u8>,
    /// (copies, intermediate); the backward pass multiplies them by the routing weights.
    activations: Memory<u8>,
    /// (tokens, hidden) in bf16, unless weights are f32.
    rounded: Option<Memory<u16>>,
}

/// Where gradients go: f32, added up.
#[derive(Clone, Copy)]
pub struct Gradients {
    /// (padded experts, hidden)
    pub router: Address,
    pub gate_up: Address,
    pub down: Address,
    /// Floats from one expert's to the next one's.
    pub gate_up_apart: usize,
    pub down_apart: usize,
}

#[repr(C)]
struct CombineArgument {
    rows: Address,
    slots: Address,
    weights: Address,
    residual: Address,
    out: Address,
    tokens: u32,
    chosen: u32,
    width: u32,
}

#[repr(C)]
struct SwigluArgument {
    dactivations: Address,
    weights: Address,
    gate_up: Address,
    activations: Address,
    dgate_up: Address,
    dweights: Address,
    rows: Address,
    width: u32,
}

/// How the copies of a token are added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Combination {
    /// One after another, to the same bits every time.
    Ordered,
    /// In whatever order they come.
    Atomic,
}

/// Blocks of experts of a device's stream.
#[derive(Clone)]
pub struct Experts {
    device: Arc<dyn Device>,
    products: Products,
}

impl Experts {
    pub fn new(device: &Arc<dyn Device>) -> Self {
        Self {
            device: device.clone(),
            products: Products {
                device: device.clone(),
            },
        }
    }

    fn route(&self, block: &Block, tokens: usize, h: Address) -> Result<Routing> {
        let Block {
            rule,
            experts,
            chosen,
            stride,
            ..
        } = *block;
        let routing = Routing::new(&self.device, rule, tokens, experts, chosen, stride)?;
        routing.select(h, block.hidden, block.router, block.bias)?;
        Ok(routing)
    }

    /// `out` (tokens, hidden) = residual + the block applied to `h` (tokens, hidden). Sorted by expert.
    pub fn forward(
        &self,
        block: &Block,
        tokens: usize,
        h: Address,
        residual: Address,
        out: Address,
        combination: Combination,
    ) -> Result<Saved> {
        let routing = self.route(block, tokens, h)?;
        routing.order()?;
        let (copies, width) = (routing.copies(), block.intermediate);
        let size = size_of_activation(block.gate_up.format);
        let gate_up = Memory::<u8>::new(&self.device, copies * 2 * width * size)?;
        let activations = Memory::<u8>::new(&self.device, copies * width * size)?;
        let rounded = rounded_copy(&self.device, block.gate_up.format, h, tokens * block.hidden)?;
        let x = Operand {
            at: rounded.as_ref().map_or(h, Memory::address),
            rows: routing.row_tokens.address(),
        };
        let rows = Rows::Sorted(&routing);
        let outputs = Memory::<f32>::new(&self.device, copies * block.hidden)?;
        self.products.swiglu(
            rows,
            x,
            block.gate_up,
            activations.address(),
            gate_up.address(),
        )?;
        let act = Operand::plain(activations.address());
        self.products
            .forward(rows, act, block.down, outputs.address(), false)?;
        match combination {
            Combination::Ordered => self.combine(
                &routing,
                &outputs,
                Some(routing.weights.address()),
                true,
                residual,
                out,
                block.hidden,
            )?,
            Combination::Atomic => self.combine_atomic(&routing, &outputs, residual, out, block)?,
        }
        Ok(Saved {
            routing,
            gate_up,
            activations,
            rounded,
        })
    }

    /// As [`Self::forward`] for at most [`FEW_COPIES`] copies, which are not sorted; nothing is kept.
    pub fn few(
        &self,
        block: &Block,
        tokens: usize,
        h: Address,
        residual: Address,
        out: Address,
    ) -> Result<()> {
        let routing = self.route(block, tokens, h)?;
        let copies = routing.copies();
        assert!(copies <= FEW_COPIES && block.rule != Rule::Dense);
        let activations = Memory::new(&self.device, copies * block.intermediate)?;
        let outputs = Memory::new(&self.device, copies * block.hidden)?;
        self.products
            .few(&routing, h, block.gate_up, true, &activations)?;
        self.products
            .few(&routing, activations.address(), block.down, false, &outputs)?;
        let weights = Some(routing.weights.address());
        self.combine(
            &routing,
            &outputs,
            weights,
            false,
            residual,
            out,
            block.hidden,
        )
    }

    /// `dh` (tokens, hidden) from `dout` (tokens, hidden), and the weights' gradients; the residual's share is the caller's.
    #[allow(clippy::too_many_arguments)]
    pub fn backward(
        &self,
        block: &Block,
        saved: &Saved,
        h: Address,
        dout: Address,
        dh: Address,
        gradients: Gradients,
    ) -> Result<()> {
        let Saved {
            routing,
            gate_up,
            activations,
            rounded,
        } = saved;
        let (format, width, hidden) = (block.gate_up.format, block.intermediate, block.hidden);
        let (copies, tokens) = (routing.copies(), routing.tokens);
        let rows = Rows::Sorted(routing);
        let by_token = |at| Operand {
            at,
            rows: routing.row_tokens.address(),
        };
        let rounded_dout = rounded_copy(&self.device, format, dout, tokens * hidden)?;
        let dy = by_token(rounded_dout.as_ref().map_or(dout, Memory::address));
        let dactivations = Memory::<f32>::new(&self.device, copies * width)?;
        self.products
            .input_gradient(rows, dy, block.down, dactivations.address(), false)?;
        let dgate_up = Memory::<u8>::new(
            &self.device,
            copies * 2 * width * size_of_activation(format),
        )?;
        let dweights = Memory::<f32>::new(&self.device, copies)?;
        let mut argument = SwigluArgument {
            dactivations: dactivations.address(),
            weights: routing.slot_weights.address(),
            gate_up: gate_up.address(),
            activations: activations.address(),
            dgate_up: dgate_up.address(),
            dweights: dweights.address(),
            // The end of the last expert's rows.
            rows: routing.offsets.at(block.experts),
            width: size("width", width)?,
        };
        self.run(
            if format == Format::F32 {
                "swiglu_backward_f32"
            } else {
                "swiglu_backward_bf16"
            },
            [copies.div_ceil(4), 1, 1],
            128,
            &mut [pointer(&mut argument)],
        )?;
        let act = Operand::plain(activations.address());
        let dgu = Operand::plain(dgate_up.address());
        let x = by_token(rounded.as_ref().map_or(h, Memory::address));
        self.products.weight_gradient(
            format,
            rows,
            dy,
            act,
            (hidden, width),
            gradients.down,
            gradients.down_apart,
        )?;
        self.products.weight_gradient(
            format,
            rows,
            dgu,
            x,
            (2 * width, hidden),
            gradients.gate_up,
            gradients.gate_up_apart,
        )?;
        let dx = Memory::<f32>::new(&self.device, copies * hidden)?;
        self.products
            .input_gradient(rows, dgu, block.gate_up, dx.address(), false)?;
        self.combine(routing, &dx, None, true, 0, dh, hidden)?;
        if block.rule == Rule::Dense {
            return Ok(());
        }
        let dlogits = Memory::<f32>::new(&self.device, tokens * block.stride)?;
        routing.backward(&dweights, &dlogits)?;
        let router = Matrices {
            format: Format::F32,
            at: block.router,
            apart: 0,
            scales: 0,
            scales_apart: 0,
            out: block.stride,
            inp: hidden,
        };
        let (all, dlogits) = (Rows::Whole(tokens), Operand::plain(dlogits.address()));
        self.products
            .input_gradient(all, dlogits, router, dh, true)?;
        let shape = (block.stride, hidden);
        let h = Operand::plain(h);
        self.products
            .weight_gradient(Format::F32, all, dlogits, h, shape, gradients.router, 0)
    }

    #[allow(clippy::too_many_arguments)]
    fn combine(
        &self,
        routing: &Routing,
        rows: &Memory<f32>,
        weights: Option<Address>,
        sorted: bool,
        residual: Address,
        out: Address,
        width: usize,
    ) -> Result<()> {
        let mut argument = CombineArgument {
            rows: rows.address(),
            slots: if sorted { routing.slots.address() } else { 0 },
            weights: weights.unwrap_or(0),
            residual,
            out,
            tokens: size("tokens", routing.tokens)?,
            chosen: size("chosen", routing.chosen)?,
            width: size("width", width)?,
        };
        let blocks = [width.div_ceil(128), routing.tokens.min(32_768), 1];
        self.run("combine_f32", blocks, 128, &mut [pointer(&mut argument)])
    }

    fn combine_atomic(
        &self,
        routing: &Routing,
        rows: &Memory<f32>,
        residual: Address,
        out: Address,
        block: &Block,
    ) -> Result<()> {
        let width = block.hidden;
        self.device
            .copy(residual, out, 4 * routing.tokens * width)?;
        let mut argument = CombineArgument {
            rows: rows.address(),
            slots: 0,
            weights: routing.slot_weights.address(),
            residual: 0,
            out,
            tokens: size("tokens", routing.tokens)?,
            chosen: size("chosen", routing.chosen)?,
            width: size("width", width)?,
        };
        let (mut tokens, mut copies) = (
            routing.row_tokens.address(),
            size("copies", routing.copies())?,
        );
        let blocks = [width.div_ceil(128), routing.copies().min(32_768), 1];
        let mut arguments = [
            pointer(&mut argument),
            pointer(&mut tokens),
            pointer(&mut copies),
        ];
        self.run("combine_atomic", blocks, 128, &mut arguments)
    }

    fn run(
        &self,
        kernel: &'static str,
        blocks: [usize; 3],
        threads: u32,
        arguments: &mut [*mut std::ffi::c_void],
    ) -> Result<()> {
        launch(&*self.device, kernel, blocks, threads, 0, arguments)
    }
}

/// Bytes of an activation beside weights of a format.
fn size_of_activation(format: Format) -> usize {
    if format == Format::F32 { 4 } else { 2 }
}
