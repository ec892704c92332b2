//! Values of the metadata that are to be written.

use super::value::Kind;

/// A value of the metadata that is to be written.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    U16(u16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    Strings(Vec<String>),
    I32s(Vec<i32>),
    F32s(Vec<f32>),
}

impl Entry {
    /// Type and value as they lie in a file.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        let kind = |kind: Kind, out: &mut Vec<u8>| out.extend((kind as u32).to_le_bytes());
        let list = |of: Kind, count: usize, out: &mut Vec<u8>| {
            kind(Kind::Array, out);
            kind(of, out);
            out.extend((count as u64).to_le_bytes());
        };
        match self {
            Self::U16(n) => {
                kind(Kind::U16, out);
                out.extend(n.to_le_bytes());
            }
            Self::I32(n) => {
                kind(Kind::I32, out);
                out.extend(n.to_le_bytes());
            }
            Self::U32(n) => {
                kind(Kind::U32, out);
                out.extend(n.to_le_bytes());
            }
            Self::F32(x) => {
                kind(Kind::F32, out);
                out.extend(x.to_le_bytes());
            }
            Self::Bool(flag) => {
                kind(Kind::Bool, out);
                out.push(u8::from(*flag));
            }
            Self::String(text) => {
                kind(Kind::String, out);
                put_text(text, out);
            }
            Self::Strings(texts) => {
                list(Kind::String, texts.len(), out);
                texts.iter().for_each(|text| put_text(text, out));
            }
            Self::I32s(numbers) => {
                list(Kind::I32, numbers.len(), out);
                numbers.iter().for_each(|n| out.extend(n.to_le_bytes()));
            }
            Self::F32s(numbers) => {
                list(Kind::F32, numbers.len(), out);
                numbers.iter().for_each(|x| out.extend(x.to_le_bytes()));
            }
        }
    }
}

/// A length, then as many bytes of UTF-8.
pub(super) fn put_text(text: &str, out: &mut Vec<u8>) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}
