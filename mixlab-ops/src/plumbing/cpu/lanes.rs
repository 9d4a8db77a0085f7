//! Arithmetic on sixteen floats at a time, in plain Rust that the compiler turns into the vector
//! instructions of the processor it runs on.

/// Floats that are computed side by side: one AVX-512 register, or two or four narrower ones.
pub(crate) type Lanes = [f32; WIDTH];

/// Length of [`Lanes`].
pub(crate) const WIDTH: usize = 16;

/// Elements from one that is read to one that is fetched ahead: four lines of a cache.
const AHEAD: usize = 64;

/// Runs `body` compiled for the widest vectors that this processor has.
///
/// `body`, and every closure within that is not trivial, must be `#[inline(always)]`: only what is
/// inlined here gets the wide instructions.
#[inline(always)]
pub(crate) fn wide<R>(body: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
        fn avx512<R>(body: impl FnOnce() -> R) -> R {
            body()
        }

        #[target_feature(enable = "avx2,fma")]
        fn avx2<R>(body: impl FnOnce() -> R) -> R {
            body()
        }

        let fused = is_x86_feature_detected!("fma");
        if fused
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
        {
            // SAFETY: the processor has the features that the function is compiled for.
            return unsafe { avx512(body) };
        }
        if fused && is_x86_feature_detected!("avx2") {
            // SAFETY: as above.
            return unsafe { avx2(body) };
        }
    }
    body()
}

/// Asks for the place of `x` that will be read when [`AHEAD`] more elements have been, counted from
/// `at`; where the processor has an instruction for it, and whether or not `x` reaches that far.
#[inline(always)]
pub(super) fn prefetch(x: &[f32], at: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint, which reads nothing and takes any address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(x.as_ptr().wrapping_add(at + AHEAD).cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (x, at);
}

/// `f` of each lane of `x`.
#[inline(always)]
pub(crate) fn each(x: Lanes, f: impl Fn(f32) -> f32) -> Lanes {
    let mut y = [0.0; WIDTH];
    for i in 0..WIDTH {
        y[i] = f(x[i]);
    }
    y
}

/// The sixteen numbers `f` of `0..16`.
#[inline(always)]
pub(crate) fn by_lane(f: impl Fn(usize) -> f32) -> Lanes {
    // Not by the functions of arrays: these are compiled for narrow vectors, with what they are given.
    let mut y = [0.0; WIDTH];
    for (i, y) in y.iter_mut().enumerate() {
        *y = f(i);
    }
    y
}

/// Slices of length `len`, each as whole lanes and what is left.
#[inline(always)]
pub(super) fn in_lanes<const N: usize>(len: usize, xs: [&[f32]; N]) -> [(&[Lanes], &[f32]); N] {
    let mut parts: [(&[Lanes], &[f32]); N] = [(&[], &[]); N];
    for n in 0..N {
        parts[n] = xs[n][..len].as_chunks();
    }
    parts
}

/// The lanes at `at` of what [`in_lanes`] returns, which are followed by zeros in the last ones.
#[inline(always)]
pub(super) fn lanes_at<const N: usize>(parts: &[(&[Lanes], &[f32]); N], at: usize) -> [Lanes; N] {
    let mut lanes = [[0.0; WIDTH]; N];
    for n in 0..N {
        match parts[n].0.get(at) {
            Some(whole) => lanes[n] = *whole,
            None => lanes[n].iter_mut().zip(parts[n].1).for_each(|(to, x)| *to = *x),
        }
    }
    lanes
}

/// Lane `i` of each of `xs`.
#[inline(always)]
fn lane<const N: usize>(xs: &[Lanes; N], i: usize) -> [f32; N] {
    let mut x = [0.0; N];
    for n in 0..N {
        x[n] = xs[n][i];
    }
    x
}

/// `f` of each element of `x`, in place.
#[inline(always)]
pub(crate) fn update(x: &mut [f32], f: impl Fn(f32) -> f32) {
    combine(
        x,
        [],
        #[inline(always)]
        |x, []| f(x),
    );
}

/// `f` of the elements of `xs` into those of `to`.
#[inline(always)]
pub(crate) fn fill<const N: usize>(to: &mut [f32], xs: [&[f32]; N], f: impl Fn([f32; N]) -> f32) {
    combine(
        to,
        xs,
        #[inline(always)]
        |_, xs| f(xs),
    );
}

/// `f` of each element of `to` and of those of `xs`, in place of the former.
#[inline(always)]
pub(crate) fn combine<const N: usize>(
    to: &mut [f32],
    xs: [&[f32]; N],
    f: impl Fn(f32, [f32; N]) -> f32,
) {
    let parts = in_lanes(to.len(), xs);
    let (whole, rest) = to.as_chunks_mut::<WIDTH>();
    let blocks = whole.len();
    for (at, to) in whole.iter_mut().enumerate() {
        let (old, xs) = (*to, lanes_at(&parts, at));
        *to = by_lane(
            #[inline(always)]
            |i| f(old[i], lane(&xs, i)),
        );
    }
    if rest.is_empty() {
        return;
    }
    let mut old = [0.0; WIDTH];
    old.iter_mut().zip(rest.iter()).for_each(|(old, x)| *old = *x);
    let xs = lanes_at(&parts, blocks);
    let new = by_lane(
        #[inline(always)]
        |i| f(old[i], lane(&xs, i)),
    );
    rest.iter_mut().zip(new).for_each(|(x, new)| *x = new);
}

/// A sum over the places of slices of one length, in sixteen strands that are added at the end:
/// `add(s, x, i)` is `s` with the term of place `i`, where they have `x`.
#[inline(always)]
pub(crate) fn sum<const N: usize>(
    xs: [&[f32]; N],
    add: impl Fn(f32, [f32; N], usize) -> f32,
) -> f32 {
    let len = xs[0].len();
    let parts = in_lanes(len, xs);
    let mut strands = [0.0; WIDTH];
    for block in 0..len / WIDTH {
        let x = lanes_at(&parts, block);
        strands = by_lane(
            #[inline(always)]
            |i| add(strands[i], lane(&x, i), block * WIDTH + i),
        );
    }
    let rest = len % WIDTH;
    if rest > 0 {
        let x = lanes_at(&parts, len / WIDTH);
        for (i, strand) in strands[..rest].iter_mut().enumerate() {
            *strand = add(*strand, lane(&x, i), len - rest + i);
        }
    }
    total(strands)
}

/// The sum of all lanes.
#[inline(always)]
pub(super) fn total(strands: Lanes) -> f32 {
    halved(strands, |a, b| a + b)
}

/// The largest element, or `-∞` if there is none.
#[inline(always)]
pub(crate) fn maximum(x: &[f32]) -> f32 {
    let mut strands = [f32::NEG_INFINITY; WIDTH];
    let (blocks, rest) = x.as_chunks::<WIDTH>();
    for block in blocks {
        strands = by_lane(|i| larger(strands[i], block[i]));
    }
    let mut last = [f32::NEG_INFINITY; WIDTH];
    last.iter_mut().zip(rest).for_each(|(to, x)| *to = *x);
    halved(by_lane(|i| larger(strands[i], last[i])), larger)
}

#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// What `join` makes of all lanes, halves with each other.
#[inline(always)]
fn halved(x: Lanes, join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut eight = [0.0; 8];
    for i in 0..8 {
        eight[i] = join(x[i], x[i + 8]);
    }
    let mut four = [0.0; 4];
    for i in 0..4 {
        four[i] = join(eight[i], eight[i + 4]);
    }
    join(join(four[0], four[2]), join(four[1], four[3]))
}

/// `eˣ` to 10⁻⁷ of itself; zero below −86, where the result would hardly be a normal number.
///
/// `x = n ln 2 + r`, and a polynomial of degree 7 (Moshier, Cephes) for `eʳ`.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Adding it leaves a nearby integer in the low bits of the sum.
    const MAGIC: f32 = 12_582_912.0;
    // −ln 2 in two parts.
    const LN_2: [f32; 2] = [-0.693_359_4, 2.121_944_4e-4];
    const TERMS: [f32; 6] =
        [1.987_569_1e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
    let bounded = if x > 89.0 { 89.0 } else { x };
    let shifted = bounded.mul_add(core::f32::consts::LOG2_E, MAGIC);
    let n = shifted - MAGIC;
    let r = n.mul_add(LN_2[1], n.mul_add(LN_2[0], bounded));
    let mut p = TERMS[0];
    for term in &TERMS[1..] {
        p = p.mul_add(r, *term);
    }
    let p = p.mul_add(r * r, r) + 1.0;
    // Half of 2ⁿ, since 2¹²⁸ has no bits of its own.
    let half = f32::from_bits(shifted.to_bits().wrapping_shl(23).wrapping_add(126 << 23));
    if x < -86.0 { 0.0 } else { p * half * 2.0 }
}

/// `1 / (1 + e⁻ˣ)`.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `tanh x`: an odd polynomial (Moshier, Cephes) up to 0.625, and from there `1 − 2/(e²ˣ + 1)`.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    const TERMS: [f32; 5] =
        [-5.704_988_7e-3, 2.063_909e-2, -5.373_971_6e-2, 1.333_144_2e-1, -3.333_328e-1];
    let (size, square) = (x.abs(), x * x);
    let mut p = TERMS[0];
    for term in &TERMS[1..] {
        p = p.mul_add(square, *term);
    }
    let far = 1.0 - 2.0 / (exp(2.0 * size) + 1.0);
    if size < 0.625 { (p * square).mul_add(x, x) } else { far.copysign(x) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Largest relative error of `got` against `expected` at a million points of `range`.
    fn error(range: [f64; 2], got: fn(f32) -> f32, expected: fn(f64) -> f64) -> f64 {
        let points = 1_000_000;
        let step = (range[1] - range[0]) / f64::from(points);
        (0..=points)
            .map(|i| (range[0] + f64::from(i) * step) as f32)
            .filter(|x| *x != 0.0)
            .map(|x| (f64::from(got(x)) / expected(f64::from(x)) - 1.0).abs())
            .fold(0.0, f64::max)
    }

    #[test]
    fn exp_is_accurate_wherever_its_result_is_normal() {
        assert!(error([-86.0, 88.7], exp, f64::exp) <= 1e-7);
        assert!(error([-1.0, 1.0], exp, f64::exp) <= 1e-7);
    }

    #[test]
    fn tanh_and_sigmoid_are_accurate() {
        assert!(error([-0.7, 0.7], tanh, f64::tanh) <= 3e-7);
        assert!(error([-20.0, 20.0], tanh, f64::tanh) <= 3e-7);
        assert!(error([-80.0, 20.0], sigmoid, |x| 1.0 / (1.0 + (-x).exp())) <= 4e-7);
    }

    #[test]
    fn the_ends_of_the_line_and_nan_are_what_they_should_be() {
        assert_eq!([exp(f32::INFINITY), exp(1e9)], [f32::INFINITY; 2]);
        assert_eq!([exp(f32::NEG_INFINITY), exp(-1e9), exp(0.0)], [0.0, 0.0, 1.0]);
        assert_eq!([tanh(f32::INFINITY), tanh(-1e9), tanh(0.0)], [1.0, -1.0, 0.0]);
        assert_eq!([sigmoid(1e9), sigmoid(-1e9)], [1.0, 0.0]);
        assert!(exp(f32::NAN).is_nan() && tanh(f32::NAN).is_nan() && sigmoid(f32::NAN).is_nan());
    }

    #[test]
    fn sums_and_maxima_cover_every_element() {
        for len in [0, 1, 15, 16, 17, 100] {
            let x: Vec<f32> = (0..len).map(|i| i as f32 - 7.0).collect();
            assert_eq!(sum([&x], |s, [x], _| s + x), x.iter().sum::<f32>());
            assert_eq!(sum([&x], |s, _, i| s + i as f32), (0..len).sum::<usize>() as f32);
            let mut twice = x.clone();
            update(&mut twice, |x| x + x);
            assert!(twice.iter().zip(&x).all(|(twice, x)| *twice == x + x));
            assert_eq!(maximum(&x), x.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        }
    }

    #[test]
    fn wide_code_computes_the_same_bits_as_narrow_code() {
        let x: Vec<f32> = (0..1000).map(|i| (i as f32 - 500.0) / 20.0).collect();
        let narrow: Vec<u32> = x.iter().map(|x| tanh(std::hint::black_box(*x)).to_bits()).collect();
        let mut vector = vec![0.0; x.len()];
        wide(
            #[inline(always)]
            || vector.iter_mut().zip(&x).for_each(|(y, x)| *y = tanh(*x)),
        );
        assert_eq!(vector.iter().map(|y| y.to_bits()).collect::<Vec<_>>(), narrow);
    }
}
