//! Reading little-endian numbers and strings, never past the end.

/// What is wrong with the bytes; the caller knows where it was.
pub type Read<T> = std::result::Result<T, String>;

/// A position in the file's bytes.
#[derive(Clone, Copy)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// Offset from the beginning of the file.
    pub fn at(&self) -> usize {
        self.at
    }

    pub fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    pub fn take(&mut self, count: u64) -> Read<&'a [u8]> {
        let wanted = usize::try_from(count).ok().filter(|&n| n <= self.left());
        let Some(count) = wanted else {
            let left = self.left();
            return Err(format!("{count} bytes are promised, but {left} are left"));
        };
        let taken = &self.bytes[self.at..self.at + count];
        self.at += count;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N as u64)?);
        Ok(out)
    }

    pub fn u32(&mut self) -> Read<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Read<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A length, then as many bytes of UTF-8.
    pub fn string(&mut self) -> Read<&'a str> {
        let length = self.u64()?;
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map_err(|e| format!("a string is not UTF-8: {e}"))
    }

    /// A count of things that take at least `least` bytes each.
    pub fn count(&mut self, least: usize, what: &str) -> Read<usize> {
        let count = self.u64()?;
        let most = (self.left() / least) as u64;
        if count > most {
            return Err(format!(
                "{count} {what} are promised, but the {} bytes left hold at most {most}",
                self.left()
            ));
        }
        Ok(count as usize)
    }
}
