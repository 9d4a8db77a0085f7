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

    /// The place that each of `tokens` tokens comes from: whole blocks are reordered, and what is
    /// left over at the end stays there.
    pub fn places(&mut self, tokens: usize) -> impl ExactSizeIterator<Item = usize> + use<> {
        let order = self.permutation(tokens / BLOCK);
        (0..tokens).map(move |i| order.get(i / BLOCK).map_or(i, |block| block * BLOCK + i % BLOCK))
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
        let places: Vec<_> = BlockShuffle::new().places(9 * BLOCK + 7).collect();
        let whole: Vec<_> = (0..9 * BLOCK + 7).collect();
        assert_eq!(places[..BLOCK], whole[3 * BLOCK..4 * BLOCK]);
        assert_eq!(places[9 * BLOCK..], whole[9 * BLOCK..]);
        assert_eq!(places[4 * BLOCK..5 * BLOCK], whole[4 * BLOCK..5 * BLOCK]);
    }

    #[test]
    fn less_than_two_blocks_stay_and_draw_nothing() {
        let mut shuffle = BlockShuffle::new();
        assert!(shuffle.places(2 * BLOCK - 1).eq(0..2 * BLOCK - 1));
        assert_eq!(shuffle.permutation(9), [3, 0, 7, 2, 4, 6, 1, 5, 8]);
    }
}
