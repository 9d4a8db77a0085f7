//! Rows of weights as small integers with one scale each.

use std::fmt;

/// What weights are rounded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Levels {
    /// All whole numbers of −127…127.
    Int8,
    /// The multiples of 4 in −128…124: 64 levels.
    Int6,
}

/// What decides where a row's values are cut.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Clip {
    /// The 0.9999-quantile of its absolute values.
    Quantile,
    /// A multiple of its standard deviation beyond its mean, never more than its largest value. (Mixlab
    /// 0.10.1 counts from 0, and knows no largest value.)
    StandardDeviations {
        /// The multiple.
        k: f32,
        /// That of weights whose name contains `embed`.
        k_embed: f32,
    },
}

/// How weights are quantized.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantization {
    /// What they are rounded to.
    pub levels: Levels,
    /// Where rows are cut.
    pub clip: Clip,
    /// Whether scales are at least 1/127, multiples of 4 are found by rounding twice and cuts may lie
    /// beyond the largest value, as in mixlab 0.10.1. Weights below 1 lose most of their digits by it.
    pub legacy_floor: bool,
    /// Whether the 64 levels of [`Levels::Int6`] take six bits each instead of a byte.
    pub packed: bool,
}

/// Matrices of fewer elements stay as they are.
pub const FEWEST_ELEMENTS: usize = 256;
/// The least scale of mixlab 0.10.1.
const LEGACY_FLOOR: f32 = 1.0 / 127.0;

impl fmt::Display for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Int8 => "int8",
            Self::Int6 => "int6",
        })
    }
}

impl Quantization {
    /// The integers of one row of the weight `name`, and its scale: `value = integer · scale`.
    pub fn row(&self, name: &str, row: &[f32]) -> (Vec<i8>, f32) {
        let clip = self.cut(name, row);
        if self.legacy_floor { self.legacy_row(clip, row) } else { self.close_row(clip, row) }
    }

    /// Where `row` is cut.
    fn cut(&self, name: &str, row: &[f32]) -> f32 {
        let largest = row.iter().fold(0f32, |max, v| max.max(v.abs()));
        match self.clip {
            Clip::Quantile => quantile(row),
            Clip::StandardDeviations { k, k_embed } => {
                let k = if name.to_lowercase().contains("embed") { k_embed } else { k };
                let (mean, deviation) = moments(row);
                let far = f64::from(k) * deviation;
                if self.legacy_floor {
                    (far as f32).max(LEGACY_FLOOR)
                } else {
                    ((mean.abs() + far) as f32).min(largest)
                }
            }
        }
    }

    /// As mixlab 0.10.1 rounds: halves away from zero, first to whole numbers.
    fn legacy_row(&self, clip: f32, row: &[f32]) -> (Vec<i8>, f32) {
        let scale = (clip / 127.0).max(LEGACY_FLOOR);
        let integer = |v: &f32| {
            let r = (v.clamp(-clip, clip) / scale).round();
            match self.levels {
                Levels::Int8 => r.clamp(-127.0, 127.0) as i8,
                Levels::Int6 => (4.0 * (r / 4.0).round()).clamp(-128.0, 124.0) as i8,
            }
        };
        (row.iter().map(integer).collect(), scale)
    }

    /// Rounds once, with a scale by which the cut itself is a level.
    fn close_row(&self, clip: f32, row: &[f32]) -> (Vec<i8>, f32) {
        let (largest, least, apart) = match self.levels {
            Levels::Int8 => (127.0, -127.0, 1.0),
            Levels::Int6 => (124.0, -128.0, 4.0),
        };
        // A row of zeros, or one too small for its scale to be a normal number.
        let scale = clip / largest;
        if scale < f32::MIN_POSITIVE {
            return (vec![0; row.len()], f32::MIN_POSITIVE);
        }
        let integer = |v: &f32| (apart * (v / scale / apart).round()).clamp(least, largest) as i8;
        (row.iter().map(integer).collect(), scale)
    }
}

/// The 0.9999-quantile of the absolute values.
fn quantile(row: &[f32]) -> f32 {
    let mut sorted: Vec<f32> = row.iter().map(|v| v.abs()).collect();
    let last = sorted.len().saturating_sub(1);
    let index = ((0.9999 * row.len() as f64).ceil() as usize).saturating_sub(1).min(last);
    if sorted.is_empty() { 0.0 } else { *sorted.select_nth_unstable_by(index, f32::total_cmp).1 }
}

/// Mean and standard deviation of the values, which are the whole population.
fn moments(row: &[f32]) -> (f64, f64) {
    let count = row.len() as f64;
    let sum = |f: &dyn Fn(f64) -> f64| row.iter().map(|v| f(f64::from(*v))).sum::<f64>();
    let mean = sum(&|v| v) / count;
    // Rounding can make this less than 0 for values that are all the same.
    (mean, (sum(&|v| v * v) / count - mean * mean).max(0.0).sqrt())
}

/// Multiples of 4 in −128…124 with six bits each, four of them in three bytes, low bits first; the
/// last bytes of a row are filled with zeros.
pub(super) fn pack6(row: &[i8]) -> Vec<u8> {
    let four = |quad: &[i8]| {
        let bits = quad.iter().enumerate().fold(0u32, |bits, (i, q)| {
            let level = (i32::from(*q) / 4 + 32) as u32;
            bits | level << (6 * i)
        });
        bits.to_le_bytes()
    };
    let mut bytes: Vec<u8> = row.chunks(4).flat_map(|quad| four(quad)[..3].to_vec()).collect();
    bytes.truncate(packed_len(row.len()));
    bytes
}

/// What [`pack6`] packed, `columns` of it.
pub(super) fn unpack6(bytes: &[u8], columns: usize) -> impl Iterator<Item = i8> {
    let quads = bytes.chunks(3).flat_map(|three| {
        let byte = |i: usize| three.get(i).map_or(0, |b| u32::from(*b));
        let bits = byte(0) | byte(1) << 8 | byte(2) << 16;
        [0, 6, 12, 18].map(|shift| 4 * ((bits >> shift & 63) as i32 - 32) as i8)
    });
    quads.take(columns)
}

/// Bytes of a packed row of `columns` values.
pub(super) fn packed_len(columns: usize) -> usize {
    (6 * columns).div_ceil(8)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: [f32; 8] = [0.5, -0.25, 0.013, -0.9, 0.004, 2.0, -1.99, 0.0];
    const K: Clip = Clip::StandardDeviations { k: 12.85, k_embed: 20.0 };

    fn legacy(levels: Levels, clip: Clip) -> Quantization {
        Quantization { levels, clip, legacy_floor: true, packed: false }
    }

    fn rows(quantization: Quantization, columns: usize) -> (Vec<i8>, Vec<f32>) {
        let rows = ROW.chunks(columns).map(|row| quantization.row("w", row));
        let (integers, scales): (Vec<_>, Vec<_>) = rows.unzip();
        (integers.concat(), scales)
    }

    #[test]
    fn rows_are_rounded_as_mixlab_0_10_1_does() {
        use Levels::{Int6, Int8};
        let one = [0.015_748_031];
        let (q, scale) = rows(legacy(Int8, Clip::Quantile), 8);
        assert_eq!((&q[..], &scale[..]), (&[32, -16, 1, -57, 0, 127, -126, 0][..], &one[..]));
        let (q, scale) = rows(legacy(Int6, Clip::Quantile), 8);
        assert_eq!((&q[..], &scale[..]), (&[32, -16, 0, -56, 0, 124, -128, 0][..], &one[..]));
        let two = [0.007_874_016, 0.015_748_031];
        let (q, scale) = rows(legacy(Int8, Clip::Quantile), 4);
        assert_eq!((&q[..], &scale[..]), (&[64, -32, 2, -114, 0, 127, -126, 0][..], &two[..]));
        let (q, _) = rows(legacy(Int6, Clip::Quantile), 4);
        assert_eq!(q, [64, -32, 4, -116, 0, 124, -128, 0]);
        let deviations = [0.051_124_67, 0.142_734_13];
        let (q, scale) = rows(legacy(Int8, K), 4);
        assert_eq!((&q[..], &scale[..]), (&[10, -5, 0, -18, 0, 14, -14, 0][..], &deviations[..]));
        let (q, _) = rows(legacy(Int6, K), 4);
        assert_eq!(q, [12, -4, 0, -20, 0, 16, -16, 0]);
        let narrow = Clip::StandardDeviations { k: 1.5, k_embed: 20.0 };
        let (q, scale) = rows(legacy(Int8, narrow), 4);
        let expected = [0.007_874_016, 0.016_661_57];
        assert_eq!((&q[..], &scale[..]), (&[64, -32, 2, -96, 0, 120, -119, 0][..], &expected[..]));
    }

    #[test]
    fn without_the_floor_the_error_is_half_a_level_of_the_row_at_most() {
        for (levels, apart) in [(Levels::Int8, 1.0), (Levels::Int6, 4.0)] {
            for clip in [Clip::Quantile, K] {
                let quantization =
                    Quantization { levels, clip, legacy_floor: false, packed: false };
                let row = ROW.map(|v| v * 1e-3);
                let (q, scale) = quantization.row("w", &row);
                for (q, v) in q.iter().zip(row) {
                    let error = (f32::from(*q) * scale - v).abs();
                    assert!(error <= 0.501 * apart * scale, "{levels} {clip:?} {v} {q} {scale}");
                }
            }
        }
    }

    #[test]
    fn rows_that_are_all_the_same_keep_their_value() {
        let quantization = Quantization {
            levels: Levels::Int8,
            clip: Clip::Quantile,
            legacy_floor: false,
            packed: false,
        };
        for value in [0.0f32, 0.1, -3e-30, 1e-44] {
            let (q, scale) = quantization.row("w", &[value; 300]);
            let error = (f32::from(q[0]) * scale - value).abs();
            assert!(error <= 1e-6 * value.abs() + 1e-43, "{value}");
        }
        let close = Quantization { clip: K, ..quantization };
        let (q, scale) = close.row("w", &[0.1; 300]);
        assert!(q.iter().all(|q| (f32::from(*q) * scale - 0.1).abs() < 1e-6));
        // Where the original makes a scale that is no number.
        assert!(legacy(Levels::Int8, K).row("w", &[0.1; 300]).1 > 0.0);
    }

    #[test]
    fn six_bits_hold_each_level() {
        let levels: Vec<i8> = (-32..32).map(|n| 4 * n).collect();
        for count in [1, 2, 3, 4, 5, 63, 64] {
            let packed = pack6(&levels[..count]);
            assert_eq!(packed.len(), (6 * count).div_ceil(8));
            assert_eq!(unpack6(&packed, count).collect::<Vec<_>>(), levels[..count]);
        }
    }
}
