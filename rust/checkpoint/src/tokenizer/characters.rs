//! Rows of tokens that stand for one byte each, as characters.

use std::mem::take;

use tokenizers::DecoderWrapper;

/// Whether a tokenizer reads tokens like `<0x0A>` as bytes.
pub fn bytes_fall_back(tokenizer: &tokenizers::Tokenizer) -> bool {
    fn reads(decoder: &DecoderWrapper) -> bool {
        match decoder {
            DecoderWrapper::ByteFallback(_) => true,
            DecoderWrapper::Sequence(all) => all.get_decoders().iter().any(reads),
            _ => false,
        }
    }
    tokenizer.get_decoder().is_some_and(reads)
}

/// Tokens in which each row of bytes that is no text has become the characters that are whole in it, and one U+FFFD for
/// each byte that belongs to none.
pub fn whole(tokens: Vec<String>) -> Vec<String> {
    let mut out = Vec::with_capacity(tokens.len());
    let (mut row, mut bytes) = (Vec::new(), Vec::new());
    for token in tokens {
        if let Some(byte) = byte(&token) {
            bytes.push(byte);
            row.push(token);
        } else {
            out.append(&mut settled(take(&mut row), &take(&mut bytes)));
            out.push(token);
        }
    }
    out.append(&mut settled(row, &bytes));
    out
}

fn settled(row: Vec<String>, bytes: &[u8]) -> Vec<String> {
    if std::str::from_utf8(bytes).is_ok() {
        return row;
    }
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    vec![text]
}

fn byte(token: &str) -> Option<u8> {
    let hex = token.strip_prefix("<0x")?.strip_suffix('>')?;
    (hex.len() == 2).then(|| u8::from_str_radix(hex, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_bytes_keeps_its_whole_characters() {
        let bytes = |text: &[u8]| {
            text.iter()
                .map(|b| format!("<0x{b:02X}>"))
                .collect::<Vec<_>>()
        };
        let emoji = "😀".as_bytes();
        let mut cut = vec!["a".to_owned()];
        cut.extend(bytes(&[emoji, &emoji[..2]].concat()));
        assert_eq!(whole(cut), ["a", "😀\u{fffd}\u{fffd}"]);
        assert_eq!(whole(bytes(emoji)), bytes(emoji));
        let mut torn = bytes(&[&emoji[1..], b"x"].concat());
        torn.push("b".to_owned());
        assert_eq!(whole(torn), ["\u{fffd}\u{fffd}\u{fffd}x", "b"]);
    }
}
