//! Draft tokens from the text itself: what followed when its last tokens came before (Saxena 2023, prompt lookup).

/// Tokens whose earlier occurrence is looked for, from most to fewest.
const LENGTHS: [usize; 2] = [3, 2];

/// At most `most` tokens that followed the newest earlier occurrence of the last ones; empty if there is none.
pub fn continuation(ids: &[u32], most: usize) -> &[u32] {
    for length in LENGTHS {
        let Some(start) = ids.len().checked_sub(length) else {
            continue;
        };
        let tail = &ids[start..];
        if let Some(at) = (0..start).rev().find(|&at| ids[at..].starts_with(tail)) {
            let after = at + length;
            return &ids[after..ids.len().min(after + most)];
        }
    }
    &[]
}

#[cfg(test)]
mod tests {
    use super::continuation;

    #[test]
    fn the_newest_occurrence_of_the_longest_tail_tells_what_follows() {
        let ids = [1, 2, 3, 9, 1, 2, 3, 7, 5, 2, 3, 8, 1, 2, 3];
        assert_eq!(continuation(&ids, 2), [7, 5]);
        assert_eq!(continuation(&ids, 9), [7, 5, 2, 3, 8, 1, 2, 3]);
        assert_eq!(continuation(&[4, 2, 3, 8, 6, 2, 3], 2), [8, 6]);
        assert_eq!(continuation(&[6, 6, 6], 4), [6]);
        for short in [&[][..], &[1], &[1, 1], &[1, 2, 3]] {
            assert_eq!(continuation(short, 4), [0u32; 0]);
        }
    }
}
