//! Tokens as bytes: what each adds to a text, before bytes become characters.

use serde_json::Value;

use crate::tokenizer::Tokenizer;

/// What a token adds to a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    Bytes(Vec<u8>),
    /// A special token, by its name: it steers the model and is no text.
    Special(String),
    /// An id that no token has.
    Spare,
}

/// How a decoder turns tokens into text.
#[derive(Default)]
struct Decoding {
    /// Characters stand for bytes, as GPT-2 has it.
    byte_level: bool,
    /// `<0x0A>` is a byte.
    byte_fallback: bool,
    /// Replacements in order.
    replaced: Vec<(String, String)>,
    /// What marks that a token goes on the word before; others begin one.
    prefix: Option<String>,
}

impl Decoding {
    fn of(decoder: &Value) -> Self {
        let mut found = Self::default();
        found.read(decoder);
        found
    }

    fn read(&mut self, decoder: &Value) {
        let text = |key: &str| decoder[key].as_str().map(str::to_owned);
        match decoder["type"].as_str() {
            Some("Sequence") => {
                for one in decoder["decoders"].as_array().into_iter().flatten() {
                    self.read(one);
                }
            }
            Some("ByteLevel") => self.byte_level = true,
            Some("ByteFallback") => self.byte_fallback = true,
            Some("Metaspace") => {
                let mark = text("replacement").unwrap_or_else(|| "\u{2581}".to_owned());
                self.replaced.push((mark, " ".to_owned()));
            }
            Some("Replace") => {
                if let (Some(from), Some(to)) = (
                    decoder["pattern"]["String"].as_str(),
                    decoder["content"].as_str(),
                ) {
                    self.replaced.push((from.to_owned(), to.to_owned()));
                }
            }
            Some("BPEDecoder") => {
                let suffix = text("suffix").unwrap_or_else(|| "</w>".to_owned());
                self.replaced.push((suffix, " ".to_owned()));
            }
            Some("WordPiece") => {
                self.prefix = Some(text("prefix").unwrap_or_else(|| "##".to_owned()));
            }
            _ => {}
        }
    }

    fn bytes(&self, token: &str) -> Vec<u8> {
        if self.byte_level {
            let bytes: Option<Vec<u8>> = token.chars().map(byte_of).collect();
            return bytes.unwrap_or_else(|| token.as_bytes().to_vec());
        }
        if self.byte_fallback
            && let Some(hex) = token.strip_prefix("<0x").and_then(|t| t.strip_suffix('>'))
            && hex.len() == 2
            && let Ok(byte) = u8::from_str_radix(hex, 16)
        {
            return vec![byte];
        }
        let mut text = token.to_owned();
        if let Some(prefix) = &self.prefix {
            text = match text.strip_prefix(prefix.as_str()) {
                Some(rest) => rest.to_owned(),
                None => format!(" {text}"),
            };
        }
        for (from, to) in &self.replaced {
            if !from.is_empty() {
                text = text.replace(from.as_str(), to);
            }
        }
        text.into_bytes()
    }
}

/// The byte that a character of GPT-2's alphabet stands for: printable ones for themselves, the others in order from U+0100.
fn byte_of(character: char) -> Option<u8> {
    let code = u32::from(character);
    let printable = |byte: u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    if code < 0x100 {
        return printable(code).then_some(code as u8);
    }
    let place = usize::try_from(code - 0x100).ok()?;
    (0..=0xff_u32)
        .filter(|&byte| !printable(byte))
        .nth(place)
        .map(|byte| byte as u8)
}

impl Tokenizer {
    /// What each token of a vocabulary of so many adds to a text; special tokens named in `marks` are text.
    pub fn pieces(&self, vocabulary: usize, marks: &[String]) -> Vec<Piece> {
        let decoding = self
            .texts()
            .tokenizer
            .and_then(|json| serde_json::from_str::<Value>(json).ok())
            .map_or_else(Decoding::default, |json| Decoding::of(&json["decoder"]));
        let mut pieces = vec![Piece::Spare; vocabulary];
        let mut put = |id: u32, piece: Piece| {
            if let Some(place) = pieces.get_mut(id as usize) {
                *place = piece;
            }
        };
        for (token, id) in self.inner().get_vocab(false) {
            put(id, Piece::Bytes(decoding.bytes(&token)));
        }
        for (id, token) in self.inner().get_added_tokens_decoder() {
            let text = token.content;
            put(
                id,
                if token.special && !marks.contains(&text) {
                    Piece::Special(text)
                } else {
                    Piece::Bytes(text.into_bytes())
                },
            );
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn characters_of_byte_level_tokenizers_are_bytes() {
        let decoding = Decoding::of(&json!({"type": "ByteLevel"}));
        assert_eq!(decoding.bytes("\u{120}a"), b" a");
        assert_eq!(decoding.bytes("\u{f0}\u{141}"), [0xf0, 0x9f]);
        assert_eq!(decoding.bytes("\u{10a}"), b"\n");
        let all: Vec<u8> = (0..0x144)
            .filter_map(|c| byte_of(char::from_u32(c)?))
            .collect();
        assert_eq!(all.len(), 256);
    }

    #[test]
    fn tokens_of_sentencepiece_are_text_or_a_byte() {
        let decoding = Decoding::of(&json!({"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}));
        assert_eq!(decoding.bytes("\u{2581}the"), b" the");
        assert_eq!(decoding.bytes("<0x0A>"), b"\n");
        assert_eq!(decoding.bytes("<0xzz>"), b"<0xzz>");
    }

    #[test]
    fn tokens_of_wordpiece_go_on_a_word_or_begin_one() {
        let decoding = Decoding::of(&json!({"type": "WordPiece", "prefix": "##"}));
        assert_eq!(
            (decoding.bytes("##ing"), decoding.bytes("go")),
            (b"ing".to_vec(), b" go".to_vec())
        );
    }
}
