//! Looking for numbers that are not finite, in the bits of the stored format: nothing is decoded.

use super::{Format, decode_row};

/// Index of the first number, of rows of whole blocks, that is infinite or NaN.
///
/// A block of quantised numbers is finite if its scales are, so only those are looked at; scales apart from the
/// blocks, as FP8 matrices have them, are the caller's to check.
pub fn not_finite(format: Format, bytes: &[u8]) -> Option<usize> {
    let length = format.block_len();
    let first = |at: Option<usize>| at.map(|block| block * length);
    let size = format.block_bytes();
    match format {
        Format::F32 => bytes
            .as_chunks::<4>()
            .0
            .iter()
            .position(|&x| !f32::from_le_bytes(x).is_finite()),
        Format::F16 => bytes.as_chunks::<2>().0.iter().position(|x| !half(x)),
        Format::Bf16 => bytes
            .as_chunks::<2>()
            .0
            .iter()
            .position(|&x| u16::from_le_bytes(x) & 0x7f80 == 0x7f80),
        Format::Fp8 => bytes.iter().position(|x| x & 0x7f == 0x7f),
        Format::Q4_0
        | Format::Q5_0
        | Format::Q8_0
        | Format::Iq3Xxs
        | Format::Iq3S
        | Format::Iq4Nl
        | Format::Iq4Xs => first(bytes.chunks_exact(size).position(|b| !half(&b[..2]))),
        Format::Q4_1 | Format::Q5_1 | Format::Q4K | Format::Q5K => first(
            bytes
                .chunks_exact(size)
                .position(|b| !half(&b[..2]) || !half(&b[2..4])),
        ),
        Format::Q3K | Format::Q6K => {
            first(bytes.chunks_exact(size).position(|b| !half(&b[size - 2..])))
        }
        Format::Q2K => first(
            bytes
                .chunks_exact(size)
                .position(|b| !half(&b[size - 4..size - 2]) || !half(&b[size - 2..])),
        ),
        // The largest powers overflow in the largest values.
        Format::Mxfp4 => first(bytes.chunks_exact(size).position(|b| {
            let mut values = [0.0; 32];
            b[0] > 252 && {
                decode_row(format, b, &mut values);
                values.iter().any(|x| !x.is_finite())
            }
        })),
    }
}

/// Whether an f16 is finite: its exponent is not all ones.
fn half(bytes: &[u8]) -> bool {
    bytes[1] & 0x7c != 0x7c
}
