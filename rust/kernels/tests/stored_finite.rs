//! What is not finite is found in the bits where decoding finds it.

use moevolve_kernels::stored::{Format, decode_row, not_finite};
use proptest::prelude::*;

proptest! {
    /// Exponents of all ones are rare in random bytes, so some bytes are made so.
    #[test]
    fn found_in_the_block_where_decoding_finds_it(
        index in 0..Format::ALL.len(),
        bytes in prop::collection::vec(prop_oneof![20 => 0_u8..0x70, 1 => 0x70_u8..=0xff], 2048),
    ) {
        let format = Format::ALL[index];
        let blocks = bytes.len() / format.block_bytes();
        let bytes = &bytes[..blocks * format.block_bytes()];
        let mut values = vec![0.0; blocks * format.block_len()];
        decode_row(format, bytes, &mut values);
        let decoded = values.iter().position(|x| !x.is_finite());
        let block = |at: usize| at / format.block_len();
        prop_assert_eq!(not_finite(format, bytes).map(block), decoded.map(block));
    }
}
