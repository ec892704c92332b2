//! Plain references of products with ggml's blocks, in its order of operations.

use moevolve_kernels::BatchClass;
use moevolve_kernels::stored::{Format, decode_row, from_f16, to_f16};

use super::ggml::{half, tree};
use super::random;

/// What four bits stand for in IQ4_NL and IQ4_XS.
const VALUES: [i32; 16] = [
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
];

/// A block's scale, minimum and 32 integers.
fn unpacked(format: Format, block: &[u8]) -> (f32, f32, Vec<i32>) {
    let f16 = |at: usize| from_f16(u16::from_le_bytes([block[at], block[at + 1]]));
    let nibbles = |at: usize, i: usize| i32::from(block[at + i % 16] >> (i / 16 * 4) & 15);
    match format {
        Format::Q4_0 => (f16(0), 0.0, (0..32).map(|i| nibbles(2, i) - 8).collect()),
        Format::Q4_1 => (f16(0), f16(2), (0..32).map(|i| nibbles(4, i)).collect()),
        Format::Q5_0 => {
            let fifth = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
            let five = |i: usize| nibbles(6, i) + ((fifth >> i & 1) << 4) as i32 - 16;
            (f16(0), 0.0, (0..32).map(five).collect())
        }
        Format::Q5_1 => {
            let fifth = u32::from_le_bytes([block[4], block[5], block[6], block[7]]);
            let five = |i: usize| nibbles(8, i) + ((fifth >> i & 1) << 4) as i32;
            (f16(0), f16(2), (0..32).map(five).collect())
        }
        Format::Iq4Nl => {
            let value = |i: usize| VALUES[nibbles(2, i) as usize];
            (f16(0), 0.0, (0..32).map(value).collect())
        }
        Format::Mxfp4 => {
            let twice = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];
            let value = |i: usize| twice[nibbles(1, i) as usize];
            let scale = 2f64.powi(i32::from(block[0]) - 128) as f32;
            (scale, 0.0, (0..32).map(value).collect())
        }
        _ => (
            f16(0),
            0.0,
            block[2..].iter().map(|&b| i32::from(b as i8)).collect(),
        ),
    }
}

/// ggml's inner product of a row of blocks with `x`.
pub fn inner_product(format: Format, row: &[u8], x: &[f32]) -> f32 {
    let (mut chains, mut minima) = ([0.0f32; 8], 0.0f32);
    let single = matches!(format, Format::Q4_0 | Format::Iq4Nl | Format::Mxfp4);
    for (block, x) in row
        .chunks_exact(format.block_bytes())
        .zip(x.chunks_exact(32))
    {
        let most = x.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let inverse = if most == 0.0 { 0.0 } else { 127.0 / most };
        let quanta: Vec<i32> = x
            .iter()
            .map(|x| (x * inverse).round_ties_even() as i32)
            .collect();
        let scale = most / 127.0;
        let sum = half(scale * quanta.iter().sum::<i32>() as f32);
        let (weight, minimum, integers) = unpacked(format, block);
        let both = weight * half(scale);
        let parts: Vec<i32> = integers.iter().zip(&quanta).map(|(a, b)| a * b).collect();
        if single {
            let whole = parts.iter().sum::<i32>() as f32;
            chains[0] = whole.mul_add(both, chains[0]);
            continue;
        }
        for (chain, four) in chains.iter_mut().zip(parts.chunks_exact(4)) {
            *chain = (four.iter().sum::<i32>() as f32).mul_add(both, *chain);
        }
        minima = minimum.mul_add(sum, minima);
    }
    if single {
        return chains[0];
    }
    tree(chains.to_vec()) + minima
}

/// A block of 256 columns: a scale and a minimum, integer scales and minima of each sixteen columns, and the integers, those
/// of Q6_K 32 too large.
struct Nested {
    scale: f32,
    minimum: f32,
    scales: Vec<i32>,
    minima: Vec<i32>,
    integers: Vec<i32>,
}

fn nested(format: Format, block: &[u8]) -> Nested {
    let f16 = |at: usize| from_f16(u16::from_le_bytes([block[at], block[at + 1]]));
    if format == Format::Q6K {
        let integer = |i: usize| {
            let (n, part, i) = (i / 128, i / 32 % 4, i % 32);
            let low = block[64 * n + 32 * (part % 2) + i] >> (part / 2 * 4) & 15;
            let high = block[128 + 32 * n + i] >> (2 * part) & 3;
            i32::from(low | high << 4)
        };
        let scales = block[192..208].iter();
        return Nested {
            scale: f16(208),
            minimum: 0.0,
            scales: scales.map(|&scale| i32::from(scale as i8)).collect(),
            minima: vec![0; 16],
            integers: (0..256).map(integer).collect(),
        };
    }
    if let Some(low) = low_bits(format, block) {
        return low;
    }
    let packed = &block[4..16];
    let six = |i: usize, minimum: bool| {
        let at = i % 4 + if minimum { 4 } else { 0 };
        let upper = packed[at] >> 6 << 4;
        let last = packed[8 + i % 4];
        i32::from(match i {
            0..4 => packed[at] & 63,
            _ if minimum => last >> 4 | upper,
            _ => last & 15 | upper,
        })
    };
    let integer = |i: usize| {
        let (part, nibbles) = (i / 32, block.len() - 128);
        let nibble = block[nibbles + part / 2 * 32 + i % 32] >> (part % 2 * 4) & 15;
        let fifth = block[16 + i % 32] >> part & 1;
        i32::from(if format == Format::Q5K {
            nibble | fifth << 4
        } else {
            nibble
        })
    };
    Nested {
        scale: f16(0),
        minimum: f16(2),
        scales: (0..16).map(|i| six(i / 2, false)).collect(),
        minima: (0..16).map(|i| six(i / 2, true)).collect(),
        integers: (0..256).map(integer).collect(),
    }
}

/// As [`nested`] for formats below four bits, and IQ4_XS.
fn low_bits(format: Format, block: &[u8]) -> Option<Nested> {
    let f16 = |at: usize| from_f16(u16::from_le_bytes([block[at], block[at + 1]]));
    let two =
        |at: usize, i: usize| i32::from(block[at + i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3);
    Some(match format {
        Format::Q2K => Nested {
            scale: f16(80),
            minimum: f16(82),
            scales: (0..16).map(|i| i32::from(block[i] & 15)).collect(),
            minima: (0..16).map(|i| i32::from(block[i] >> 4)).collect(),
            integers: (0..256).map(|i| two(16, i)).collect(),
        },
        Format::Q3K => {
            let scale = |i: usize| {
                let low = block[96 + i % 8] >> (i / 8 * 4) & 15;
                let upper = block[104 + i % 4] >> (i / 4 * 2) & 3;
                i32::from(low | upper << 4) - 32
            };
            let third = |i: usize| i32::from(block[i % 32] >> (i / 32) & 1);
            Nested {
                scale: f16(108),
                minimum: 0.0,
                scales: (0..16).map(scale).collect(),
                minima: vec![0; 16],
                integers: (0..256).map(|i| two(32, i) + 4 * third(i) - 4).collect(),
            }
        }
        Format::Iq4Xs => {
            let upper = u16::from_le_bytes([block[2], block[3]]);
            let scale = |part: usize| {
                let low = block[4 + part / 2] >> (part % 2 * 4) & 15;
                i32::from(low) + i32::from(upper >> (2 * part) & 3) * 16 - 32
            };
            let nibble = |i: usize| block[8 + i / 32 * 16 + i % 16] >> (i / 16 % 2 * 4) & 15;
            Nested {
                scale: f16(0),
                minimum: 0.0,
                scales: (0..16).map(|i| scale(i / 2)).collect(),
                minima: vec![0; 16],
                integers: (0..256).map(|i| VALUES[usize::from(nibble(i))]).collect(),
            }
        }
        Format::Iq3Xxs | Format::Iq3S => {
            let fine = format == Format::Iq3Xxs;
            let scale = |part: usize| {
                let four = match fine {
                    true => block[69 + 4 * part] >> 4,
                    false => block[106 + part / 2] >> (part % 2 * 4) & 15,
                };
                2 * i32::from(four) + 1
            };
            // Of a scale of one, or four where a quarter comes in.
            let mut alone = block.to_vec();
            let one = to_f16(if fine { 4.0 } else { 1.0 });
            alone[..2].copy_from_slice(&one.to_le_bytes());
            let mut values = [0.0f32; 256];
            decode_row(format, &alone, &mut values);
            let integer = |i: usize| values[i] as i32 / scale(i / 32);
            Nested {
                scale: f16(0) * if fine { 0.25 } else { 1.0 },
                minimum: 0.0,
                scales: (0..16).map(|i| scale(i / 2)).collect(),
                minima: vec![0; 16],
                integers: (0..256).map(integer).collect(),
            }
        }
        _ => return None,
    })
}

/// 256 values as bytes with one scale: the value of the largest magnitude becomes -127, the first one or, in fours, a
/// positive one if there is any.
fn bytes_of(x: &[f32], fours: bool) -> (f32, Vec<i32>) {
    let most = x.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    if most == 0.0 {
        return (0.0, vec![0; x.len()]);
    }
    let first = x.iter().find(|x| x.abs() == most);
    let largest = if fours && x.contains(&most) {
        most
    } else {
        *first.expect("the largest")
    };
    let inverse = -127.0 / largest;
    let quanta = x.iter().map(|x| (x * inverse).round_ties_even() as i32);
    (1.0 / inverse, quanta.collect())
}

/// ggml's inner product of a row of nested scales with `x`, which it multiplies in this batch class.
pub fn nested_product(format: Format, row: &[u8], x: &[f32], class: BatchClass) -> f32 {
    let in_fours = matches!(format, Format::Q2K | Format::Q4K);
    let fours = class.fours && in_fours;
    let (mut chains, mut minima) = (vec![0.0f32; 8], 0.0f32);
    for (block, x) in row
        .chunks_exact(format.block_bytes())
        .zip(x.chunks_exact(256))
    {
        let (by, quanta) = bytes_of(x, fours);
        let block = nested(format, block);
        // Scaled sums of four columns, and what the minima take from 32 of them.
        let products: Vec<i32> = (0..256)
            .map(|i| block.scales[i / 16] * block.integers[i] * quanta[i])
            .collect();
        let dots: Vec<i32> = products
            .chunks_exact(4)
            .map(|four| four.iter().sum())
            .collect();
        let sum = |from: usize, n: usize| quanta[from..from + n].iter().sum::<i32>();
        let least: Vec<i32> = (0..16)
            .map(|part| block.minima[part] * sum(16 * part, 16))
            .collect();
        // What the integers of Q6_K are too large by.
        let over = |part: usize| {
            if format == Format::Q6K {
                32 * block.scales[part] * sum(16 * part, 16)
            } else {
                0
            }
        };
        let (scale, minimum) = (block.scale * by, block.minimum * by);
        if in_fours {
            let parts = match (fours, format) {
                (true, Format::Q4K) => 2,
                (true, _) => 4,
                _ => 8,
            };
            for (dots, least) in dots
                .chunks_exact(8 * parts)
                .zip(least.chunks_exact(2 * parts))
            {
                chains[0] = (dots.iter().sum::<i32>() as f32).mul_add(scale, chains[0]);
                minima = (least.iter().sum::<i32>() as f32).mul_add(-minimum, minima);
            }
            continue;
        }
        let least = least.iter().sum::<i32>() as f32;
        if class.eights {
            let whole = dots.iter().sum::<i32>() - (0..16).map(over).sum::<i32>();
            let whole = least.mul_add(-block.minimum, whole as f32 * block.scale);
            chains[0] = whole.mul_add(by, chains[0]);
            continue;
        }
        for (i, chain) in chains.iter_mut().enumerate() {
            let lane = dots.iter().skip(i).step_by(8).sum::<i32>() - over(2 * i) - over(2 * i + 1);
            *chain = (lane as f32).mul_add(scale, *chain);
        }
        minima = least.mul_add(-minimum, minima);
    }
    tree(chains) + minima
}

/// Blocks of random bits with ordinary scales.
pub fn random_blocks(format: Format, blocks: usize, seed: u64) -> Vec<u8> {
    let size = format.block_bytes();
    let bits = random(blocks * size, seed);
    let mut bytes: Vec<u8> = bits
        .iter()
        .map(|x| (x * 128.0).floor() as i32 as u8)
        .collect();
    for (i, block) in bytes.chunks_exact_mut(size).enumerate() {
        let halves: &[usize] = match format {
            Format::Q4_1 | Format::Q5_1 | Format::Q4K | Format::Q5K => &[0, 2],
            Format::Q2K => &[80, 82],
            Format::Q3K => &[108],
            Format::Q6K => &[208],
            Format::Mxfp4 => &[],
            _ => &[0],
        };
        for &at in halves {
            let half = to_f16(bits[i * size + at] * 0.01);
            block[at..at + 2].copy_from_slice(&half.to_le_bytes());
        }
        if format == Format::Mxfp4 {
            block[0] = 110 + block[0] % 20;
        }
    }
    bytes
}
