//! Floats of 16 and 8 bits.

/// Widens IEEE half precision, exactly.
pub fn from_f16(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let (exponent, mantissa) = (u32::from(bits >> 10 & 0x1f), u32::from(bits & 0x3ff));
    let magnitude = match exponent {
        // Subnormal: mantissa units of 2^-24, exact in f32.
        0 => (mantissa as f32 * (1.0 / 16_777_216.0)).to_bits(),
        31 if mantissa == 0 => 0x7f80_0000,
        // Quiet, as the processor's conversion makes it.
        31 => 0x7fc0_0000 | mantissa << 13,
        _ => (exponent + 112) << 23 | mantissa << 13,
    };
    f32::from_bits(sign | magnitude)
}

/// Rounds to IEEE half precision, ties to even; too large becomes infinite.
pub fn to_f16(x: f32) -> u16 {
    let bits = x.to_bits();
    let sign = (bits >> 16 & 0x8000) as u16;
    let magnitude = bits & 0x7fff_ffff;
    let rounded = if magnitude > 0x7f80_0000 {
        0x7e00 | (magnitude >> 13 & 0x1ff) as u16
    } else if magnitude >= 0x4780_0000 {
        0x7c00
    } else if magnitude < 0x3880_0000 {
        // Below 2^-14: units of 2^-24. Adding 0.5 leaves them, rounded, in the last bits of the sum.
        ((f32::from_bits(magnitude) + 0.5).to_bits() - 0.5f32.to_bits()) as u16
    } else {
        // A carry out of the mantissa raises the exponent, up to infinity.
        let odd = magnitude >> 13 & 1;
        ((magnitude + 0xfff + odd - (112 << 23)) >> 13) as u16
    };
    sign | rounded
}

/// Widens a bfloat16, exactly.
pub fn from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// Rounds to bfloat16, ties to even.
pub fn to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

/// Half of what an E8M0 stands for, exactly: 2^(bits - 128).
pub fn from_e8m0(bits: u8) -> f32 {
    f32::from_bits(e8m0_bits(bits))
}

/// The bits of [`from_e8m0`]; the two smallest are subnormal.
pub(super) fn e8m0_bits(bits: u8) -> u32 {
    match bits {
        0 | 1 => 0x20_0000 << bits,
        _ => u32::from(bits - 1) << 23,
    }
}

/// Widens an E4M3 without infinities (OCP 8-bit float, FN variant), exactly; 0x7f and 0xff are NaN.
pub fn from_fp8(bits: u8) -> f32 {
    if bits & 0x7f == 0x7f {
        return f32::NAN;
    }
    // The same fields as a half, whose exponent bias is larger by 8.
    from_f16(u16::from(bits & 0x80) << 8 | u16::from(bits & 0x7f) << 7) * 256.0
}
