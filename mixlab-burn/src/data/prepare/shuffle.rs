//! Block shuffle of training shards, with the random stream that NumPy's `default_rng(42)` yields.

/// Tokens that stay together.
const BLOCK: usize = 2048;

const MULTIPLIER: u128 = 47026247687942121848144207491837523525;
const INCREMENT: u128 = 332724090758049132448979897138935081983;
const SEED_42: u128 = 274674114334540486603088602300644985544;

/// PCG64: a 128-bit congruential generator, its output folded and rotated (XSL-RR).
pub(super) struct BlockShuffle {
    state: u128,
    /// High half of the last output, if it has not been used yet.
    half: Option<u32>,
}

impl BlockShuffle {
    /// The stream of seed 42; one serves all training shards.
    pub fn new() -> Self {
        Self { state: SEED_42, half: None }
    }

    fn next32(&mut self) -> u32 {
        if let Some(half) = self.half.take() {
            return half;
        }
        self.state = self.state.wrapping_mul(MULTIPLIER).wrapping_add(INCREMENT);
        let folded = (self.state >> 64) as u64 ^ self.state as u64;
        let output = folded.rotate_right((self.state >> 122) as u32);
        self.half = Some((output >> 32) as u32);
        output as u32
    }

    /// Uniform over 0..=largest: draws under the next power of two until one fits.
    fn up_to(&mut self, largest: u32) -> u32 {
        let mask = u32::MAX >> largest.leading_zeros().min(31);
        loop {
            let value = self.next32() & mask;
            if value <= largest {
                return value;
            }
        }
    }

    fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<_> = (0..n).collect();
        for i in (1..n).rev() {
            order.swap(i, self.up_to(i as u32) as usize);
        }
        order
    }

    /// Reorders the whole blocks; what is left over at the end stays there.
    pub fn apply(&mut self, tokens: &[u16]) -> Vec<u16> {
        let blocks = tokens.len() / BLOCK;
        let order = self.permutation(blocks);
        let shuffled = order.iter().flat_map(|b| &tokens[b * BLOCK..(b + 1) * BLOCK]);
        shuffled.chain(&tokens[blocks * BLOCK..]).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permutations_are_those_of_the_original() {
        let mut shuffle = BlockShuffle::new();
        assert_eq!(shuffle.permutation(9), [3, 0, 7, 2, 4, 6, 1, 5, 8]);
        assert_eq!(shuffle.permutation(5), [2, 4, 0, 1, 3]);
    }

    #[test]
    fn blocks_move_and_the_tail_stays() {
        let tokens: Vec<u16> = (0..9 * BLOCK as u16 + 7).collect();
        let shuffled = BlockShuffle::new().apply(&tokens);
        assert_eq!(shuffled[..BLOCK], tokens[3 * BLOCK..4 * BLOCK]);
        assert_eq!(shuffled[9 * BLOCK..], tokens[9 * BLOCK..]);
        assert_eq!(shuffled[4 * BLOCK..5 * BLOCK], tokens[4 * BLOCK..5 * BLOCK]);
    }

    #[test]
    fn less_than_two_blocks_stay_and_draw_nothing() {
        let tokens: Vec<u16> = (0..2 * BLOCK as u16 - 1).collect();
        let mut shuffle = BlockShuffle::new();
        assert_eq!(shuffle.apply(&tokens), tokens);
        assert_eq!(shuffle.permutation(9), [3, 0, 7, 2, 4, 6, 1, 5, 8]);
    }
}
