//! A model's matrices packed for products, in f32 or in bf16.
//!
//! The panels of a matrix lie where its values lie in the parameters. In bf16 some matrices stay exact: a router's
//! rounding would send tokens to other experts.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;

use crate::{Isa, bf16, gemm};

/// What the operands of products are rounded to; sums are f32 in either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    #[default]
    F32,
    /// Twice the rate where the processor multiplies bf16 ([`Isa::has_bf16`]), and the same bits elsewhere, slowly.
    Bf16,
}

impl Precision {
    /// The faster one.
    pub fn fastest(isa: Isa) -> Self {
        if isa.has_bf16() {
            Self::Bf16
        } else {
            Self::F32
        }
    }

    /// The precision of this name; `fastest` is what suits `isa`.
    pub fn chosen(name: &str, isa: Isa) -> Option<Self> {
        match name {
            "f32" => Some(Self::F32),
            "bf16" => Some(Self::Bf16),
            "fastest" => Some(Self::fastest(isa)),
            _ => None,
        }
    }

    /// `f32` or `bf16`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which product the panels are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Y = X Wᵀ.
    Forward,
    /// dX = dY W.
    Backward,
}

/// Packed matrices at the places of their values; empty until they are made.
#[derive(Clone, Debug)]
pub struct Panels {
    precision: Precision,
    side: Side,
    single: Vec<f32>,
    half: Vec<u16>,
    /// The matrices that are exact although `precision` is bf16, by where they begin, in ascending order.
    exact: Vec<(usize, Vec<f32>)>,
}

/// A part of [`Panels`] that one thread packs.
pub struct PanelsMut<'a> {
    side: Side,
    start: usize,
    single: &'a mut [f32],
    half: &'a mut [u16],
    exact: &'a mut [(usize, Vec<f32>)],
}

thread_local! {
    /// Where a thread rounds the left-hand matrices of its products; its threads live as long as the engine's.
    static ROUNDED: RefCell<bf16::Scratch> = RefCell::default();
}

impl Panels {
    /// Nothing packed yet.
    pub fn empty(side: Side) -> Self {
        Self {
            precision: Precision::F32,
            side,
            single: Vec::new(),
            half: Vec::new(),
            exact: Vec::new(),
        }
    }

    /// Room for `total` values. In bf16 the matrices at `exact`, ascending, stay f32.
    pub fn new(
        side: Side,
        precision: Precision,
        total: usize,
        exact: impl IntoIterator<Item = Range<usize>>,
    ) -> Self {
        let mut panels = Self::empty(side);
        panels.precision = precision;
        match precision {
            Precision::F32 => {
                panels.single = vec![0.0; total];
                in_large_pages(&panels.single);
            }
            Precision::Bf16 => {
                panels.half = vec![0; total];
                in_large_pages(&panels.half);
                panels.exact = exact
                    .into_iter()
                    .map(|range| (range.start, vec![0.0; range.len()]))
                    .collect();
            }
        }
        panels
    }

    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// That of the matrix at `range`: f32 for one that stays exact.
    pub fn precision_of(&self, range: &Range<usize>) -> Precision {
        let exact = self
            .exact
            .binary_search_by_key(&range.start, |exact| exact.0);
        if exact.is_ok() {
            Precision::F32
        } else {
            self.precision
        }
    }

    pub fn is_empty(&self) -> bool {
        self.single.is_empty() && self.half.is_empty()
    }

    /// The f32 panels; empty in bf16.
    pub(crate) fn single(&self) -> &[f32] {
        &self.single
    }

    /// The bf16 panels; empty in f32.
    pub(crate) fn half(&self) -> &[u16] {
        &self.half
    }

    /// All of it.
    pub fn whole(&mut self) -> PanelsMut<'_> {
        PanelsMut {
            side: self.side,
            start: 0,
            single: &mut self.single,
            half: &mut self.half,
            exact: &mut self.exact,
        }
    }

    /// `c` (rows, columns) = `a` (rows, depth) times the matrix at `range`, added to `c` if `add`.
    #[allow(clippy::too_many_arguments)]
    pub fn multiply(
        &self,
        isa: Isa,
        range: &Range<usize>,
        rows: usize,
        depth: usize,
        columns: usize,
        a: &[f32],
        c: &mut [f32],
        add: bool,
    ) {
        let single = match self.precision {
            Precision::F32 => Some(&self.single[range.clone()]),
            Precision::Bf16 => self
                .exact
                .binary_search_by_key(&range.start, |exact| exact.0)
                .ok()
                .map(|at| &self.exact[at].1[..]),
        };
        match single {
            Some(panels) => gemm::multiply(isa, rows, depth, columns, a, panels, c, add),
            None => ROUNDED.with_borrow_mut(|scratch| {
                let panels = &self.half[range.clone()];
                bf16::multiply(isa, rows, depth, columns, a, panels, c, add, scratch);
            }),
        }
    }
}

impl<'a> PanelsMut<'a> {
    /// The first `count` values' part, and the rest.
    pub fn split(self, count: usize) -> (Self, Self) {
        let (single, half) = (count.min(self.single.len()), count.min(self.half.len()));
        let single = self.single.split_at_mut(single);
        let half = self.half.split_at_mut(half);
        let end = self.start + count;
        let exact = self.exact.partition_point(|exact| exact.0 < end);
        let exact = self.exact.split_at_mut(exact);
        let part = |start, single, half, exact| Self {
            side: self.side,
            start,
            single,
            half,
            exact,
        };
        (
            part(self.start, single.0, half.0, exact.0),
            part(end, single.1, half.1, exact.1),
        )
    }

    /// Packs `weight` (out, inp), the matrix that begins at `start` of the parameters; nothing where all is empty.
    pub fn pack(&mut self, isa: Isa, start: usize, out: usize, inp: usize, weight: &[f32]) {
        let at = start - self.start;
        let single = if self.half.is_empty() {
            self.single.get_mut(at..at + weight.len())
        } else {
            let exact = self.exact.binary_search_by_key(&start, |exact| exact.0);
            exact.ok().map(|at| &mut self.exact[at].1[..])
        };
        if let Some(panels) = single {
            match self.side {
                Side::Forward => gemm::pack_forward(weight, out, inp, panels),
                Side::Backward => gemm::pack_backward(weight, out, inp, panels),
            }
        } else if let Some(panels) = self.half.get_mut(at..at + weight.len()) {
            match self.side {
                Side::Forward => bf16::pack_forward(isa, weight, out, inp, panels),
                Side::Backward => bf16::pack_backward(isa, weight, out, inp, panels),
            }
        }
    }
}

/// Asks for pages of 2 MiB before the first touch: products stream through panels, and small pages cost them
/// translations. Without effect where the system has none.
fn in_large_pages<T>(buffer: &[T]) {
    #[cfg(target_os = "linux")]
    {
        const LARGE: usize = 1 << 21;
        let (start, bytes) = (buffer.as_ptr().addr(), size_of_val(buffer));
        let first = start.next_multiple_of(LARGE);
        let end = (start + bytes) / LARGE * LARGE;
        if first < end {
            let skipped = first - start;
            // SAFETY: whole pages inside the buffer; advice changes no content.
            unsafe {
                let at = buffer.as_ptr().cast::<u8>().add(skipped);
                libc::madvise(at.cast_mut().cast(), end - first, libc::MADV_HUGEPAGE);
            }
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = buffer;
}

/// Buffers of [`weight_gradient`] that hold nothing between calls.
#[derive(Clone, Debug, Default)]
pub struct GradientScratch {
    single: Vec<f32>,
    half: bf16::Scratch,
}

/// `dw` (out, inp) += `dy` (rows, out)ᵀ times `x` (rows, inp), both rounded to `precision`.
#[allow(clippy::too_many_arguments)]
pub fn weight_gradient(
    isa: Isa,
    precision: Precision,
    rows: usize,
    out: usize,
    inp: usize,
    dy: &[f32],
    x: &[f32],
    dw: &mut [f32],
    scratch: &mut GradientScratch,
) {
    match precision {
        Precision::F32 => {
            gemm::weight_gradient(isa, rows, out, inp, dy, x, dw, &mut scratch.single);
        }
        Precision::Bf16 => {
            bf16::weight_gradient(isa, rows, out, inp, dy, x, dw, &mut scratch.half);
        }
    }
}
