//! Bounds of a JSON message that are checked while its bytes arrive, before anything is made of them.

use crate::error::{Error, Result};

/// What a message may hold.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes.
    pub bytes: usize,
    /// Values, as commas and opening brackets outside strings count them.
    pub values: usize,
    /// Brackets that are open at one time.
    pub depth: usize,
}

/// Counts what a message holds so far.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// Bytes looked at.
    seen: usize,
    values: usize,
    depth: usize,
    within_string: bool,
    escaped: bool,
}

impl Scan {
    /// Looks at what of `message` is new.
    ///
    /// # Errors
    /// [`Error::FrameTooRich`] if there are more values or levels than allowed.
    pub(crate) fn look(&mut self, message: &[u8], bounds: &Bounds) -> Result<()> {
        for &byte in message.get(self.seen..).unwrap_or_default() {
            if self.within_string {
                if self.escaped {
                    self.escaped = false;
                } else {
                    self.escaped = byte == b'\\';
                    self.within_string = byte != b'"';
                }
                continue;
            }
            match byte {
                b'"' => self.within_string = true,
                b',' => self.values += 1,
                b'[' | b'{' => {
                    self.values += 1;
                    self.depth += 1;
                }
                b']' | b'}' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
            if self.values > bounds.values || self.depth > bounds.depth {
                return Err(Error::FrameTooRich {
                    values: bounds.values,
                    depth: bounds.depth,
                });
            }
        }
        self.seen = message.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: Bounds = Bounds {
        bytes: 1 << 20,
        values: 10,
        depth: 3,
    };

    fn fits(text: &str) -> bool {
        Scan::default().look(text.as_bytes(), &BOUNDS).is_ok()
    }

    #[test]
    fn values_and_levels_are_counted_outside_strings() {
        assert!(fits(r#"[1,2,3,4,5,6,7,8,9,10]"#));
        assert!(!fits(r#"[1,2,3,4,5,6,7,8,9,10,11]"#));
        assert!(fits(r#"[[["[[[[,,,,,,,,,,,,,\"[[[["]]]"#));
        assert!(!fits("[[[["));
        assert!(fits(r#"["\\",[],[[]]]"#));
    }

    proptest! {
        #[test]
        fn pieces_count_as_the_whole(text in r#"[\[\]{},"\\a]{0,40}"#, cut in 0usize..40) {
            let cut = cut.min(text.len());
            let mut scan = Scan::default();
            let pieces = scan
                .look(&text.as_bytes()[..cut], &BOUNDS)
                .and_then(|()| scan.look(text.as_bytes(), &BOUNDS));
            prop_assert_eq!(pieces.is_ok(), fits(&text));
        }
    }
}
