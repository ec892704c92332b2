//! Products on a device, grouped by expert or whole: forward, and the gradients of input and weight.
//!
//! One file above 400 lines: a launch forward and its two backward share what they say of rows, matrices and tiles.

use std::sync::Arc;

use crate::device::{Address, Device, Memory, each, launch, size};
use crate::error::Result;
use crate::route::{Routing, pointer};

/// How a matrix (out, inp) is written. Blocks run along a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    F32,
    Bf16,
    /// Times a scale for each 128 x 128, which lie apart.
    Fp8,
    Q8_0,
    Q4K,
}

/// Which gradient, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Forward,
    Swiglu,
    Input,
    Weight,
}

impl Format {
    /// Bytes of a row of `inp` numbers.
    pub fn row_bytes(self, inp: usize) -> usize {
        match self {
            Self::F32 => 4 * inp,
            Self::Bf16 => 2 * inp,
            Self::Fp8 => inp,
            Self::Q8_0 => inp / 32 * 34,
            Self::Q4K => inp / 256 * 144,
        }
    }

    /// Numbers of a row that share a block.
    pub fn block(self) -> usize {
        match self {
            Self::Q8_0 => 32,
            Self::Q4K => 256,
            _ => 1,
        }
    }

    /// Whether gradients go through weights of this format.
    pub fn trains(self) -> bool {
        matches!(self, Self::F32 | Self::Bf16)
    }

    fn kernel(self, form: Form) -> &'static str {
        match (self, form) {
            (Self::F32, Form::Forward) => "forward_f32",
            (Self::F32, Form::Swiglu) => "swiglu_f32",
            (Self::F32, Form::Input) => "input_f32",
            (Self::F32, Form::Weight) => "weight_f32",
            (Self::Bf16, Form::Forward) => "forward_bf16",
            (Self::Bf16, Form::Swiglu) => "swiglu_bf16",
            (Self::Bf16, Form::Input) => "input_bf16",
            (Self::Bf16, Form::Weight) => "weight_bf16",
            (Self::Fp8, Form::Forward) => "forward_fp8",
            (Self::Fp8, Form::Swiglu) => "swiglu_fp8",
            (Self::Q8_0, Form::Forward) => "forward_q8_0",
            (Self::Q8_0, Form::Swiglu) => "swiglu_q8_0",
            (Self::Q4K, Form::Forward) => "forward_q4k",
            (Self::Q4K, Form::Swiglu) => "swiglu_q4k",
            (Self::Fp8 | Self::Q8_0 | Self::Q4K, Form::Input | Form::Weight) => {
                unreachable!("stored weights do not train")
            }
        }
    }

    fn few(self, swiglu: bool) -> &'static str {
        match (self, swiglu) {
            (Self::F32, false) => "few_f32",
            (Self::F32, true) => "few_swiglu_f32",
            (Self::Bf16, false) => "few_bf16",
            (Self::Bf16, true) => "few_swiglu_bf16",
            (Self::Fp8, false) => "few_fp8",
            (Self::Fp8, true) => "few_swiglu_fp8",
            (Self::Q8_0, false) => "few_q8_0",
            (Self::Q8_0, true) => "few_swiglu_q8_0",
            (Self::Q4K, false) => "few_q4k",
            (Self::Q4K, true) => "few_swiglu_q4k",
        }
    }

    /// Rows and columns of a tile, threads, and shared memory of its kernels.
    fn tile(self) -> (usize, u32, u32) {
        match self {
            Self::F32 => (64, 256, 2 * 4 * 16 * (64 + 4)),
            _ => (128, 256, 2 * 3 * 2 * 128 * (32 + 8)),
        }
    }
}

/// Operands beside weights of a format: a bf16 copy of `count` floats, or nothing where weights are f32.
pub fn rounded_copy(
    device: &Arc<dyn Device>,
    format: Format,
    from: Address,
    count: usize,
) -> Result<Option<Memory<u16>>> {
    if format == Format::F32 {
        return Ok(None);
    }
    let rounded = Memory::new(device, count)?;
    round(&**device, from, rounded.address(), count)?;
    Ok(Some(rounded))
}

/// Rounds `count` floats to bf16.
pub fn round(
    device: &dyn Device,
    mut from: Address,
    mut to: Address,
    mut count: usize,
) -> Result<()> {
    let arguments = &mut [pointer(&mut from), pointer(&mut to), pointer(&mut count)];
    each(device, "round_bf16", count, arguments)
}

/// One matrix a group, `apart` bytes from one to the next.
#[derive(Clone, Copy, Debug)]
pub struct Matrices {
    pub format: Format,
    pub at: Address,
    pub apart: usize,
    /// Of FP8, with the floats from one group's to the next.
    pub scales: Address,
    pub scales_apart: usize,
    pub out: usize,
    pub inp: usize,
}

/// Which rows there are: all of them in one group, or an expert's copies in a group each.
#[derive(Clone, Copy)]
pub enum Rows<'a> {
    Whole(usize),
    Sorted(&'a Routing),
}

impl Rows<'_> {
    fn count(&self) -> usize {
        match self {
            Self::Whole(rows) => *rows,
            Self::Sorted(routing) => routing.copies(),
        }
    }

    fn groups(&self) -> usize {
        match self {
            Self::Whole(_) => 1,
            Self::Sorted(routing) => routing.among,
        }
    }

    /// Tiles there can be at most; the device knows how many there are.
    fn tiles(&self, side: usize) -> usize {
        let whole = self.count().div_ceil(side);
        match self {
            Self::Whole(_) => whole,
            Self::Sorted(routing) => whole + routing.among.min(routing.copies()),
        }
    }
}

/// The arguments of `tensor.cuh`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Argument {
    a: Address,
    b: Address,
    c: Address,
    kept: Address,
    scales: Address,
    a_rows: Address,
    b_rows: Address,
    offsets: Address,
    tiles: Address,
    b_apart: usize,
    scales_apart: usize,
    c_apart: usize,
    rows: u32,
    groups: u32,
    m: u32,
    n: u32,
    k: u32,
    add: u32,
}

#[repr(C)]
struct FewArgument {
    x: Address,
    experts: Address,
    w: Address,
    scales: Address,
    y: Address,
    w_apart: usize,
    scales_apart: usize,
    copies: u32,
    chosen: u32,
    n: u32,
    k: u32,
}

/// Rows of an operand: where they lie, and which of them each row of the product takes.
#[derive(Clone, Copy, Debug)]
pub struct Operand {
    pub at: Address,
    /// u32 for each row; 0: the row itself.
    pub rows: Address,
}

impl Operand {
    pub fn plain(at: Address) -> Self {
        Self { at, rows: 0 }
    }
}

/// The products of a device's stream.
#[derive(Clone)]
pub struct Products {
    pub device: Arc<dyn Device>,
}

impl Products {
    fn argument(rows: Rows<'_>, side: usize) -> Result<Argument> {
        let (offsets, tiles) = match rows {
            Rows::Whole(_) => (0, 0),
            Rows::Sorted(routing) => (
                routing.offsets.address(),
                routing.tiles[usize::from(side == 128)].address(),
            ),
        };
        Ok(Argument {
            a: 0,
            b: 0,
            c: 0,
            kept: 0,
            scales: 0,
            a_rows: 0,
            b_rows: 0,
            offsets,
            tiles,
            b_apart: 0,
            scales_apart: 0,
            c_apart: 0,
            rows: size("rows", rows.count())?,
            groups: size("groups", rows.groups())?,
            m: 0,
            n: 0,
            k: 0,
            add: 0,
        })
    }

    fn launch(
        &self,
        kernel: &'static str,
        format: Format,
        blocks: [usize; 3],
        mut argument: Argument,
    ) -> Result<()> {
        let (_, threads, shared) = format.tile();
        let (arguments, shared) = (&mut [pointer(&mut argument)], shared as usize);
        launch(&*self.device, kernel, blocks, threads, shared, arguments)
    }

    /// c (rows, out) = x (rows, inp) Wᵀ, added to c if `add`. Operands are f32 with f32 weights, bf16 with all others; c is f32.
    pub fn forward(
        &self,
        rows: Rows<'_>,
        x: Operand,
        w: Matrices,
        c: Address,
        add: bool,
    ) -> Result<()> {
        let (side, ..) = w.format.tile();
        let argument = Argument {
            a: x.at,
            a_rows: x.rows,
            b: w.at,
            b_apart: w.apart,
            scales: w.scales,
            scales_apart: w.scales_apart,
            c,
            n: size("n", w.out)?,
            k: size("k", w.inp)?,
            add: add.into(),
            ..Self::argument(rows, side)?
        };
        let blocks = [w.out.div_ceil(side), rows.tiles(side), 1];
        self.launch(w.format.kernel(Form::Forward), w.format, blocks, argument)
    }

    /// c (rows, out / 2) = silu(gate) ∘ up, of gates over ups (rows, out) = x Wᵀ, which go to `kept` unless it is 0. Both are f32
    /// with f32 weights, bf16 with all others.
    pub fn swiglu(
        &self,
        rows: Rows<'_>,
        x: Operand,
        w: Matrices,
        c: Address,
        kept: Address,
    ) -> Result<()> {
        let (side, ..) = w.format.tile();
        let argument = Argument {
            a: x.at,
            a_rows: x.rows,
            b: w.at,
            b_apart: w.apart,
            scales: w.scales,
            scales_apart: w.scales_apart,
            c,
            kept,
            n: size("n", w.out / 2)?,
            k: size("k", w.inp)?,
            ..Self::argument(rows, side)?
        };
        // A tile has as many gates as ups.
        let blocks = [w.out.div_ceil(side), rows.tiles(side), 1];
        self.launch(w.format.kernel(Form::Swiglu), w.format, blocks, argument)
    }

    /// dx (rows, inp) = dy (rows, out) W, added to dx if `add`: f32, of operands as for [`Self::forward`].
    pub fn input_gradient(
        &self,
        rows: Rows<'_>,
        dy: Operand,
        w: Matrices,
        dx: Address,
        add: bool,
    ) -> Result<()> {
        let (side, ..) = w.format.tile();
        let argument = Argument {
            a: dy.at,
            a_rows: dy.rows,
            b: w.at,
            b_apart: w.apart,
            c: dx,
            n: size("n", w.inp)?,
            k: size("k", w.out)?,
            add: add.into(),
            ..Self::argument(rows, side)?
        };
        let blocks = [w.inp.div_ceil(side), rows.tiles(side), 1];
        self.launch(w.format.kernel(Form::Input), w.format, blocks, argument)
    }

    /// dw (out, inp) of every group += dyᵀ x over its rows; `apart` floats from one group's to the next.
    #[allow(clippy::too_many_arguments)]
    pub fn weight_gradient(
        &self,
        format: Format,
        rows: Rows<'_>,
        dy: Operand,
        x: Operand,
        (out, inp): (usize, usize),
        dw: Address,
        apart: usize,
    ) -> Result<()> {
        let (side, ..) = format.tile();
        let argument = Argument {
            a: dy.at,
            a_rows: dy.rows,
            b: x.at,
            b_rows: x.rows,
            c: dw,
            c_apart: apart,
            m: size("m", out)?,
            n: size("n", inp)?,
            add: 1,
            ..Self::argument(rows, side)?
        };
        let blocks = [inp.div_ceil(side), out.div_ceil(side), rows.groups()];
        self.launch(format.kernel(Form::Weight), format, blocks, argument)
    }

    /// As [`Self::forward`] and [`Self::swiglu`] for the copies of few tokens in their own order, f32 in and out.
    pub fn few(
        &self,
        routing: &Routing,
        x: Address,
        w: Matrices,
        swiglu: bool,
        y: &Memory<f32>,
    ) -> Result<()> {
        let n = if swiglu { w.out / 2 } else { w.out };
        assert!(y.len() >= routing.copies() * n);
        let mut argument = FewArgument {
            x,
            experts: routing.experts.address(),
            w: w.at,
            scales: w.scales,
            y: y.address(),
            w_apart: w.apart,
            scales_apart: w.scales_apart,
            copies: size("copies", routing.copies())?,
            chosen: size("chosen", routing.chosen)?,
            n: size("n", n)?,
            k: size("k", w.inp)?,
        };
        let (kernel, blocks) = (w.format.few(swiglu), [n.div_ceil(4), routing.copies(), 1]);
        let (arguments, shared) = (&mut [pointer(&mut argument)], 4 * routing.copies());
        launch(&*self.device, kernel, blocks, 128, shared, arguments)
    }
}
