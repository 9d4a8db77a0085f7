use super::Xsa;
use crate::testing::{Host, check, noise};

fn naive([y, v]: &[Host; 2]) -> Vec<f64> {
    let [b, h, t, hd] = y.shape[..] else { panic!("rank 4") };
    let hk = v.shape[1];
    let mut out = y.data.clone();
    for (row, z) in out.chunks_mut(hd).enumerate() {
        let (i, head, batch) = (row % t, row / t % h, row / t / h);
        assert!(batch < b);
        let at = ((batch * hk + head * hk / h) * t + i) * hd;
        let v = &v.data[at..at + hd];
        let along: f64 = z.iter().zip(v).map(|(a, b)| a * b).sum();
        let norm: f64 = v.iter().map(|a| a * a).sum::<f64>() + 1e-8;
        z.iter_mut().zip(v).for_each(|(z, v)| *z -= along / norm * v);
    }
    out
}

#[test]
fn the_own_value_is_projected_out() {
    for (t, h, hk, hd) in
        [(1, 1, 1, 1), (2, 4, 2, 5), (63, 2, 2, 8), (257, 2, 1, 4), (2, 2, 1, 500)]
    {
        check(Xsa, [noise(&[2, h, t, hd], 7), noise(&[2, hk, t, hd], 8)], &[], naive);
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
#[test]
fn the_kernels_equal_the_references() {
    use super::XsaGradient;
    use crate::testing::kernels::same;
    for (b, h, hk, t, hd) in
        [(1, 1, 1, 1, 1), (2, 6, 2, 5, 5), (1, 2, 2, 63, 64), (2, 3, 1, 33, 128), (1, 2, 1, 7, 500)]
    {
        let v = noise(&[b, hk, t, hd], 61);
        let [y, g] = [60, 62].map(|seed| noise(&[b, h, t, hd], seed));
        same(Xsa, &[y.clone(), v.clone()], &[]);
        same(XsaGradient, &[y, v, g], &[]);
    }
}
