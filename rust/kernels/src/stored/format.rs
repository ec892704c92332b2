//! The number formats of released weights and the geometry of their blocks.

use super::narrow;

/// Columns that share one scale of the activations.
pub(super) const BLOCK: usize = 32;

/// How the 32 columns of a block are added up: each part's integer sum is scaled by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Parts {
    /// One sum.
    Whole = 1,
    /// A sum for each sixteen columns, which have their own scales.
    Halves = 2,
    /// A sum for each four columns, and for each a chain over the blocks: see [`super::sums`].
    Fours = 8,
}

impl Parts {
    pub const MOST: usize = 8;
}

/// Rows that ggml adds up in another order than a row alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Together {
    None,
    /// See [`crate::BatchClass::fours`].
    Fours,
    /// See [`crate::BatchClass::eights`].
    Eights,
}

/// How the numbers of a matrix are written. Blocks run along a row and never across rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Little-endian `f32`.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of an `f32`.
    Bf16,
    /// 32 values `d (q - 8)`: d f16, q 4 bits. 4.5 bits a value.
    Q4_0,
    /// 32 values `d q + m`: d, m f16, q 4 bits. 5 bits a value.
    Q4_1,
    /// 32 values `d (q - 16)`: d f16, q 5 bits. 5.5 bits a value.
    Q5_0,
    /// 32 values `d q + m`: d, m f16, q 5 bits. 6 bits a value.
    Q5_1,
    /// 32 values `d q`: d f16, q int8. 8.5 bits a value.
    Q8_0,
    /// 256 values in 16 parts `d s q - e m`: d, e f16, s and m 4 bits a part, q 2 bits. 2.625 bits a value.
    Q2K,
    /// 256 values in 16 parts `d s (q - 4)`: d f16, s 6 bits a part, q 3 bits. 3.4375 bits a value.
    Q3K,
    /// 256 values in 8 parts `d s q - e m`: d, e f16, s and m 6 bits a part, q 4 bits. 4.5 bits a value.
    Q4K,
    /// As [`Format::Q4K`], q 5 bits. 5.5 bits a value.
    Q5K,
    /// 256 values in 16 parts `d s (q - 32)`: d f16, s int8 a part, q 6 bits. 6.5625 bits a value.
    Q6K,
    /// 256 values in 8 parts `d s v / 4`: d f16, s 4 bits a part, v by fours from a grid of 256, with signs. 3.0625 bits a value.
    Iq3Xxs,
    /// As [`Format::Iq3Xxs`], a grid of 512 and no quarter. 3.4375 bits a value.
    Iq3S,
    /// 32 values `d v[q]`: d f16, q 4 bits, v a table. 4.5 bits a value.
    Iq4Nl,
    /// 256 values in 8 parts `d s v[q]`: d f16, s 6 bits a part, q 4 bits, the table of [`Format::Iq4Nl`]. 4.25 bits a value.
    Iq4Xs,
    /// 32 values `2^e v[q]`: e 8 bits, q 4 bits: E2M1 by a table. 4.25 bits a value.
    Mxfp4,
    /// E4M3 without infinities, times a scale for each 128 x 128 values that lies beside the matrix.
    Fp8,
}

/// Rows and columns that share a scale in [`Format::Fp8`].
pub const FP8_BLOCK: usize = 128;

impl Format {
    /// Every format.
    pub const ALL: [Self; 19] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::Iq3Xxs,
        Self::Iq3S,
        Self::Iq4Nl,
        Self::Iq4Xs,
        Self::Mxfp4,
        Self::Fp8,
    ];

    /// Values in a block: a row's length is a multiple of it.
    pub const fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 | Self::Fp8 => 1,
            Self::Q4_0
            | Self::Q4_1
            | Self::Q5_0
            | Self::Q5_1
            | Self::Q8_0
            | Self::Iq4Nl
            | Self::Mxfp4 => 32,
            Self::Q2K
            | Self::Q3K
            | Self::Q4K
            | Self::Q5K
            | Self::Q6K
            | Self::Iq3Xxs
            | Self::Iq3S
            | Self::Iq4Xs => 256,
        }
    }

    /// Bytes of a block.
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Fp8 => 1,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q2K => 84,
            Self::Q3K => 110,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
            Self::Iq3Xxs => 98,
            Self::Iq3S => 110,
            Self::Iq4Nl => 18,
            Self::Iq4Xs => 136,
            Self::Mxfp4 => 17,
        }
    }

    /// Bytes of a row of `inp` values, a multiple of [`Self::block_len`].
    pub const fn row_bytes(self, inp: usize) -> usize {
        inp / self.block_len() * self.block_bytes()
    }

    /// The name that weight files use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q2K => "Q2_K",
            Self::Q3K => "Q3_K",
            Self::Q8_0 => "Q8_0",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
            Self::Iq3Xxs => "IQ3_XXS",
            Self::Iq3S => "IQ3_S",
            Self::Iq4Nl => "IQ4_NL",
            Self::Iq4Xs => "IQ4_XS",
            Self::Mxfp4 => "MXFP4",
            Self::Fp8 => "F8_E4M3",
        }
    }

    /// The format with this tensor type number of ggml.
    pub const fn from_ggml(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            6 => Self::Q5_0,
            7 => Self::Q5_1,
            8 => Self::Q8_0,
            10 => Self::Q2K,
            11 => Self::Q3K,
            12 => Self::Q4K,
            13 => Self::Q5K,
            14 => Self::Q6K,
            18 => Self::Iq3Xxs,
            20 => Self::Iq4Nl,
            21 => Self::Iq3S,
            23 => Self::Iq4Xs,
            30 => Self::Bf16,
            39 => Self::Mxfp4,
            _ => return None,
        })
    }

    /// This format's tensor type number in ggml; none for [`Format::Fp8`].
    pub const fn to_ggml(self) -> Option<u32> {
        Some(match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
            Self::Q5_0 => 6,
            Self::Q5_1 => 7,
            Self::Q8_0 => 8,
            Self::Q2K => 10,
            Self::Q3K => 11,
            Self::Q4K => 12,
            Self::Q5K => 13,
            Self::Q6K => 14,
            Self::Iq3Xxs => 18,
            Self::Iq4Nl => 20,
            Self::Iq3S => 21,
            Self::Iq4Xs => 23,
            Self::Bf16 => 30,
            Self::Mxfp4 => 39,
            Self::Fp8 => return None,
        })
    }

    /// Whether numbers come in blocks, for which [`super::products`] rounds activations to int8, those of MXFP4 only where
    /// ggml's arithmetic is asked for.
    pub const fn is_quantised(self) -> bool {
        self.block_len() > 1
    }
}

/// A matrix (out, inp), row-major, as its file holds it.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    pub format: Format,
    /// `out` rows of `format.row_bytes(inp)` bytes, at any alignment.
    pub bytes: &'a [u8],
    pub out: usize,
    pub inp: usize,
    /// [`Format::Fp8`] only: what to multiply by, (ceil(out / 128), ceil(inp / 128)).
    pub scales: &'a [f32],
}

impl<'a> Matrix<'a> {
    /// Whether the lengths fit together; every function here that takes a matrix asserts this.
    pub fn is_whole(&self) -> bool {
        let blocks = self.inp / self.format.block_len();
        let bytes = blocks.checked_mul(self.format.block_bytes());
        let bytes = bytes.and_then(|row| row.checked_mul(self.out));
        let grid = || self.out.div_ceil(FP8_BLOCK) * self.inp.div_ceil(FP8_BLOCK);
        self.inp.is_multiple_of(self.format.block_len())
            && bytes == Some(self.bytes.len())
            && (self.format != Format::Fp8 || self.scales.len() == grid())
    }

    /// The bytes of row `row`.
    pub(crate) fn row(&self, row: usize) -> &'a [u8] {
        let length = self.format.row_bytes(self.inp);
        &self.bytes[row * length..][..length]
    }

    /// The scales of row `row`, one for each 128 columns; none but for [`Format::Fp8`].
    pub(crate) fn row_scales(&self, row: usize) -> &'a [f32] {
        if self.format != Format::Fp8 {
            return &[];
        }
        let width = self.inp.div_ceil(FP8_BLOCK);
        &self.scales[row / FP8_BLOCK * width..][..width]
    }

    /// Decodes row `row` into `out` (inp). Panics unless the lengths fit together.
    pub fn decode_row(&self, row: usize, out: &mut [f32]) {
        assert!(self.is_whole() && out.len() == self.inp);
        super::decode_row(self.format, self.row(row), out);
        for (part, &scale) in out.chunks_mut(FP8_BLOCK).zip(self.row_scales(row)) {
            part.iter_mut().for_each(|x| *x *= scale);
        }
    }
}

/// Reads the f16 at `at`.
pub(super) fn half_at(bytes: &[u8], at: usize) -> f32 {
    narrow::from_f16(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}
