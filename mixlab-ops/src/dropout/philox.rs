//! Philox-4x32-10 of Salmon et al. (2011): ten rounds of multiplication and exclusive or turn a
//! counter into random words.

/// Words of a counter, and of what comes out.
pub const WORDS: usize = 4;
/// Rounds.
pub const ROUNDS: usize = 10;
/// What the first and the third word are multiplied by.
pub const MULTIPLIERS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];
/// What the words of the key grow by in each round.
pub const INCREMENTS: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];

/// The random words of `counter` under `key`.
#[inline(always)]
pub fn philox(mut counter: [u32; WORDS], mut key: [u32; 2]) -> [u32; WORDS] {
    for _ in 0..ROUNDS {
        let [a, b, c, d] = counter;
        let first = u64::from(MULTIPLIERS[0]) * u64::from(a);
        let second = u64::from(MULTIPLIERS[1]) * u64::from(c);
        let [high_first, high_second] = [first, second].map(|product| (product >> 32) as u32);
        counter = [high_second ^ b ^ key[0], second as u32, high_first ^ d ^ key[1], first as u32];
        key = [key[0].wrapping_add(INCREMENTS[0]), key[1].wrapping_add(INCREMENTS[1])];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::philox;

    /// The known answers that the authors publish with their code (Random123).
    #[test]
    fn known_answers() {
        let ones = u32::MAX;
        let zero = [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8];
        assert_eq!(philox([0; 4], [0; 2]), zero);
        let full = [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd];
        assert_eq!(philox([ones; 4], [ones; 2]), full);
        let counter = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        let pi = [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1];
        assert_eq!(philox(counter, [0xa409_3822, 0x299f_31d0]), pi);
    }
}
