//! GGUF files written by hand, to be wrong in one place.

use moevolve_checkpoint::gguf::Gguf;

/// A file by hand: metadata as given, one f32 tensor of 4 numbers.
pub struct Draft {
    pub version: u32,
    pub metadata: Vec<(String, Vec<u8>)>,
    pub tensor: (String, Vec<u64>, u32, u64),
    pub twice: bool,
    pub count: u64,
    pub data: usize,
}

pub fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

pub fn typed(kind: u32, bytes: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], bytes].concat()
}

impl Draft {
    pub fn new() -> Self {
        Self {
            version: 3,
            metadata: vec![("a".to_owned(), typed(4, &7u32.to_le_bytes()))],
            tensor: ("t".to_owned(), vec![4], 0, 0),
            twice: false,
            count: 1,
            data: 16,
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend((self.count + u64::from(self.twice)).to_le_bytes());
        out.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            out.extend(text(key));
            out.extend(value);
        }
        let (name, dims, kind, offset) = &self.tensor;
        for _ in 0..1 + usize::from(self.twice) {
            out.extend(text(name));
            out.extend((dims.len() as u32).to_le_bytes());
            dims.iter().for_each(|d| out.extend(d.to_le_bytes()));
            out.extend(kind.to_le_bytes());
            out.extend(offset.to_le_bytes());
        }
        out.resize(out.len().next_multiple_of(32) + self.data, 0);
        out
    }

    pub fn error(&self) -> String {
        let bytes = self.bytes();
        Gguf::parse(&bytes, "m.gguf")
            .expect_err("refused")
            .to_string()
    }
}
