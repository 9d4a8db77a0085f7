//! The random stream behind every seed: weights, data order, sampling.
//!
//! mixlab 0.10.1 draws everything from one additive lagged Fibonacci generator (607 words, lags
//! 607 and 273). [`Generator`] is the same stream bit for bit, so a seed means the same initial
//! weights and the same batches in both programs. It is not fit for cryptography.

mod offsets;
mod ziggurat;

pub(crate) use offsets::Jump;

/// Words of state, which is also the longer lag.
pub const WORDS: usize = 607;
/// The shorter lag.
const SHORT_LAG: usize = 273;
/// Modulus of the linear congruential generator that turns a seed into state.
const SEED_MODULUS: i64 = (1 << 31) - 1;

/// A seeded stream of random numbers; a clone continues from the same place.
#[derive(Clone, Debug)]
pub struct Generator {
    /// The last draws there are, oldest first.
    draws: [u64; WORDS],
    /// How many of them have been given out. The others are the next.
    given: usize,
}

impl Generator {
    /// Starts the stream of `seed`. Seeds that agree modulo 2³¹ − 1 give the same stream.
    pub fn new(seed: i64) -> Self {
        let mut words = seeded_words(reduce(seed), 40, 20);
        for (word, offset) in words.iter_mut().zip(offsets::table()) {
            *word ^= offset;
        }
        Self::from_words(words)
    }

    /// The stream that goes on where [`Generator::words`] were read.
    pub fn from_words(words: [u64; WORDS]) -> Self {
        Self { draws: std::array::from_fn(|k| words[slot(k as u64)]), given: WORDS }
    }

    /// All of its state: the last 607 draws, the oldest in the place where the next one goes.
    pub fn words(&self) -> [u64; WORDS] {
        let past = self.past();
        let mut words = [0; WORDS];
        (0..WORDS).for_each(|k| words[slot(k as u64)] = past[k]);
        words
    }

    /// The last 607 draws that were given out, oldest first.
    fn past(&self) -> [u64; WORDS] {
        let mut past = self.draws;
        for i in (self.given..WORDS).rev() {
            past[i] = past[i].wrapping_sub(past[shorter(i)]);
        }
        past.rotate_left(self.given);
        past
    }

    /// The stream after `jump`.
    pub(crate) fn after(&self, jump: &Jump) -> Self {
        Self { draws: jump.from(&self.past()), given: WORDS }
    }

    fn uint64(&mut self) -> u64 {
        if self.given == WORDS {
            self.refill();
        }
        let draw = self.draws[self.given];
        self.given += 1;
        draw
    }

    /// Each draw is the sum of those 607 and 273 before it. In two loops without a turn of the ring:
    /// both add vectors.
    #[inline(never)]
    fn refill(&mut self) {
        let (first, rest) = self.draws.split_at_mut(SHORT_LAG);
        for (draw, late) in first.iter_mut().zip(&rest[WORDS - 2 * SHORT_LAG..]) {
            *draw = draw.wrapping_add(*late);
        }
        for i in SHORT_LAG..WORDS {
            self.draws[i] = self.draws[i].wrapping_add(self.draws[i - SHORT_LAG]);
        }
        self.given = 0;
    }

    /// Uniform over the 63-bit integers.
    pub fn int63(&mut self) -> u64 {
        self.uint64() & (u64::MAX >> 1)
    }

    /// Uniform over the 32-bit integers.
    pub fn uint32(&mut self) -> u32 {
        (self.int63() >> 31) as u32
    }

    /// Uniform over [0, 1).
    pub fn float64(&mut self) -> f64 {
        loop {
            let value = self.unit();
            if value < 1.0 {
                return value;
            }
        }
    }

    /// One draw over [0, 1], of which 1 does not count.
    pub(crate) fn unit(&mut self) -> f64 {
        self.int63() as f64 / (1u64 << 63) as f64
    }

    /// Uniform over 0..n.
    ///
    /// # Panics
    /// If `n` is 0 or above 2⁶³ − 1.
    pub fn intn(&mut self, n: u64) -> u64 {
        let bits = if n < 1 << 31 { 31 } else { 63 };
        assert!(n > 0 && n < 1 << 63, "intn needs 0 < n < 2^63, was given {n}");
        let excess = if n.is_power_of_two() { 0 } else { (1u64 << bits) % n };
        let largest = (1u64 << bits) - 1 - excess;
        loop {
            let value = self.int63() >> (63 - bits);
            if value <= largest {
                return value % n;
            }
        }
    }

    /// Shuffles `n` things from the last to the second, through `swap(i, j)` with j ≤ i.
    ///
    /// # Panics
    /// If `n` does not fit 32 bits.
    pub fn shuffle(&mut self, n: usize, mut swap: impl FnMut(usize, usize)) {
        let n = u32::try_from(n).expect("no more than 2^32 - 1 things to shuffle");
        for i in (1..n).rev() {
            swap(i as usize, self.bounded(i + 1) as usize);
        }
    }

    /// Uniform over 0..n by multiplication; a different draw than [`Self::intn`] makes.
    fn bounded(&mut self, n: u32) -> u32 {
        let mut product = u64::from(self.uint32()) * u64::from(n);
        if (product as u32) < n {
            let threshold = n.wrapping_neg() % n;
            while (product as u32) < threshold {
                product = u64::from(self.uint32()) * u64::from(n);
            }
        }
        (product >> 32) as u32
    }

    /// Standard normal (mean 0, variance 1).
    pub fn normal(&mut self) -> f64 {
        ziggurat::draw(self)
    }
}

impl PartialEq for Generator {
    /// Whether both go on alike.
    fn eq(&self, other: &Self) -> bool {
        self.words() == other.words()
    }
}

/// Where the draw 273 before that at `i` lies when that at `i` is made.
fn shorter(i: usize) -> usize {
    if i < SHORT_LAG { i + WORDS - SHORT_LAG } else { i - SHORT_LAG }
}

/// Where the original keeps draw k − 607, if draw 0 is the next.
fn slot(k: u64) -> usize {
    let words = WORDS as u64;
    ((words + 333 - k % words) % words) as usize
}

/// The seed as the congruential generator takes it: 1 … 2³¹ − 2.
fn reduce(seed: i64) -> i64 {
    match seed.rem_euclid(SEED_MODULUS) {
        0 => 89_482_311,
        reduced => reduced,
    }
}

/// Three congruential steps to a word, the first 20 steps thrown away.
fn seeded_words(seed: i64, high: u32, middle: u32) -> [u64; WORDS] {
    let mut state = seed;
    let mut step = move || {
        state = state * 48_271 % SEED_MODULUS;
        state as u64
    };
    for _ in 0..20 {
        step();
    }
    std::array::from_fn(|_| (step() << high) ^ (step() << middle) ^ step())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::value::RawValue;
    use std::collections::HashMap;
    use std::str::FromStr;

    /// Lists of numbers as they are written: the JSON reader would round them once more.
    type Streams = HashMap<String, Vec<Box<RawValue>>>;

    fn golden() -> HashMap<String, Streams> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/gorand.json");
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    fn numbers<T: FromStr>(list: &[Box<RawValue>]) -> Vec<T> {
        let number = |raw: &RawValue| raw.get().trim_matches('"').parse().ok();
        list.iter().map(|raw| number(raw).unwrap()).collect()
    }

    /// Runs `check` for every seed of the golden file with a fresh generator.
    fn for_every_seed(check: impl Fn(Generator, &Streams)) {
        let seeds = golden();
        assert_eq!(seeds.len(), 5);
        for (seed, streams) in &seeds {
            check(Generator::new(seed.parse().unwrap()), streams);
        }
    }

    #[test]
    fn integers_are_those_of_the_original() {
        for_every_seed(|mut generator, streams| {
            let drawn: Vec<_> = (0..700).map(|_| generator.int63()).collect();
            let expected = numbers::<u64>(&streams["int63_first20_then_690_699"]);
            assert_eq!(drawn[..20], expected[..20]);
            assert_eq!(drawn[690..], expected[20..]);
        });
    }

    #[test]
    fn uniform_floats_are_those_of_the_original() {
        for_every_seed(|mut generator, streams| {
            let expected = numbers::<f64>(&streams["float64"]);
            let drawn: Vec<_> = expected.iter().map(|_| generator.float64()).collect();
            assert_eq!(drawn, expected);
        });
    }

    #[test]
    fn normals_are_those_of_the_original() {
        for_every_seed(|mut generator, streams| {
            let mut drawn: Vec<_> = (0..40).map(|_| generator.normal()).collect();
            let far = (0..1960).map(|_| generator.normal());
            drawn.extend(far.filter(|x| x.abs() > 3.3));
            let expected = numbers::<f64>(&streams["normfloat64_first40_then_abs_gt_3.3_of_2000"]);
            assert_eq!(drawn, expected);
        });
    }

    #[test]
    fn bounded_integers_are_those_of_the_original() {
        let bounds = [1, 2, 3, 7, 10, 64, 100, 1000, 5500, 1 << 20];
        let wide = [(1 << 31) - 1, 1 << 31, 1 << 40, (1 << 62) + 12_345];
        for_every_seed(|mut generator, streams| {
            let list =
                "intn_3_each_of_1_2_3_7_10_64_100_1000_5500_2^20_2^31-1_2^31_2^40_2^62+12345";
            let all = bounds.iter().chain(&wide);
            let drawn: Vec<_> = all.flat_map(|&n| [n; 3]).map(|n| generator.intn(n)).collect();
            assert_eq!(drawn, numbers::<u64>(&streams[list]));
        });
    }

    #[test]
    fn shuffles_are_those_of_the_original() {
        for_every_seed(|mut generator, streams| {
            let mut order: Vec<u64> = (0..25).collect();
            generator.shuffle(order.len(), |i, j| order.swap(i, j));
            assert_eq!(order, numbers::<u64>(&streams["shuffle25"]));
        });
    }

    #[test]
    fn a_million_normals_add_up_to_the_known_sum() {
        let mut generator = Generator::new(42);
        let (mut sum, mut largest) = (0.0, 0.0f64);
        for _ in 0..1_000_000 {
            let x = generator.normal();
            sum += x;
            largest = largest.max(x.abs());
        }
        assert_eq!(format!("{sum:.12}"), "272.322433380260");
        assert_eq!(format!("{largest:.12}"), "4.715545388037");
        assert_eq!(generator.int63(), 1_009_309_506_330_402_941);
    }

    #[test]
    fn a_stream_goes_on_from_its_words() {
        let mut generator = Generator::new(7);
        for count in [0, 1, 606, 607, 1000] {
            for _ in 0..count {
                generator.int63();
            }
            let mut resumed = Generator::from_words(generator.words());
            let drawn = |g: &mut Generator| (0..2000).map(|_| g.int63()).collect::<Vec<_>>();
            assert_eq!(drawn(&mut resumed), drawn(&mut generator.clone()));
        }
    }

    #[test]
    fn a_negative_or_zero_seed_starts_a_stream_too() {
        let first = |seed| Generator::new(seed).int63();
        assert_eq!(first(-1), first(SEED_MODULUS - 1));
        assert_eq!(first(0), first(89_482_311));
        assert_eq!(first(i64::MIN), first(i64::MIN.rem_euclid(SEED_MODULUS)));
    }
}
