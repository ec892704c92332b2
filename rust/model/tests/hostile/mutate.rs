//! Changes to files: some blind, some that know what lengths, counts and JSON numbers look like.

/// Draws from a seed, the same everywhere.
pub struct Mutator {
    state: u64,
}

/// Integers at the edges of their types.
const EDGES: [u64; 14] = [
    0,
    1,
    2,
    0x7f,
    0xff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    1 << 32,
    1 << 40,
    i64::MAX as u64,
    1 << 63,
    u64::MAX,
];

/// Numbers and words at the edges of JSON.
const TEXTS: [&str; 16] = [
    "0",
    "-1",
    "1",
    "2",
    "16777216",
    "1073741823",
    "2147483647",
    "4294967296",
    "18446744073709551615",
    "99999999999999999999999",
    "1e308",
    "0.5",
    "null",
    "true",
    "[]",
    "\"x\"",
];

impl Mutator {
    pub fn new(seed: u64) -> Self {
        Self {
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x6a09_e667_f3bc_c908,
        }
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// A place: anywhere, or rather towards the beginning, where headers are.
    fn place(&mut self, length: usize) -> usize {
        let bound = if self.below(2) == 0 {
            length
        } else {
            length.min(1 << (4 + self.below(9)))
        };
        self.below(bound)
    }

    /// One of the specimens with one to four changes.
    pub fn mutate(&mut self, specimens: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = specimens[self.below(specimens.len())].clone();
        for _ in 0..=self.below(4) {
            if bytes.is_empty() {
                break;
            }
            let other = self.below(specimens.len());
            self.change(&mut bytes, &specimens[other]);
        }
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        let length = bytes.len();
        let at = self.place(length);
        let most = 1 << self.below(8);
        let span = (1 + self.below(most)).min(length - at);
        match self.below(11) {
            0 => bytes[at] ^= 1 << self.below(8),
            1 => bytes[at] = self.next() as u8,
            2 => self.number(bytes, at, 4),
            3 | 4 => self.number(bytes, at, 8),
            5 => bytes.truncate(at),
            6 => drop(bytes.drain(at..at + span)),
            7 => {
                let copy = bytes[at..at + span].to_vec();
                let to = self.below(length);
                bytes.splice(to..to, copy);
            }
            8 => {
                let from = self.below(other.len());
                let span = span.min(other.len() - from);
                bytes.splice(
                    at..at + span.min(length - at),
                    other[from..from + span].to_vec(),
                );
            }
            9 => self.value(bytes, at),
            _ => {
                let noise: Vec<u8> = (0..span).map(|_| self.next() as u8).collect();
                bytes[at..at + span].copy_from_slice(&noise);
            }
        }
    }

    /// An edge, or a step from what is there, in little-endian.
    fn number(&mut self, bytes: &mut [u8], at: usize, width: usize) {
        let at = at.min(bytes.len().saturating_sub(width));
        let Some(place) = bytes.get_mut(at..at + width) else {
            return;
        };
        let mut there = [0; 8];
        there[..width].copy_from_slice(place);
        let there = u64::from_le_bytes(there);
        let value = match self.below(4) {
            0 => there.wrapping_add(1),
            1 => there.wrapping_sub(1),
            _ => EDGES[self.below(EDGES.len())],
        };
        place.copy_from_slice(&value.to_le_bytes()[..width]);
    }

    /// Another value in the place of a run of digits.
    fn value(&mut self, bytes: &mut Vec<u8>, at: usize) {
        let Some(start) = bytes[at..].iter().position(u8::is_ascii_digit) else {
            return;
        };
        let start = at + start;
        let run = bytes[start..]
            .iter()
            .take_while(|b| b.is_ascii_digit())
            .count();
        let text = TEXTS[self.below(TEXTS.len())];
        bytes.splice(start..start + run, text.bytes());
    }
}
