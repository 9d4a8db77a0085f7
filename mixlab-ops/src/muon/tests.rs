use burn::tensor::{Tensor, Tolerance};
use burn_backend::tensor::FloatTensor;
use burn_flex::Flex;

use super::{Momentum, MuonStep, momentum, muon_step, orthogonalize};
use crate::testing::noise;
use crate::{Backend, Op, Precision, lift, lower};

fn random(shape: [usize; 3], seed: u64) -> Tensor<Flex, 3> {
    let data: Vec<f32> = noise(&shape, seed).data.iter().map(|v| *v as f32).collect();
    Tensor::<Flex, 1>::from_floats(&data[..], &Default::default()).reshape(shape)
}

#[test]
fn singular_values_end_near_one() {
    for (rows, columns) in [(8, 8), (4, 16), (16, 4)] {
        let y = orthogonalize(random([2, rows, columns], 1), 5, Precision::F32);
        let gram = if rows > columns {
            y.clone().swap_dims(1, 2).matmul(y)
        } else {
            y.clone().matmul(y.swap_dims(1, 2))
        };
        let side = gram.dims()[1];
        let eye = Tensor::<Flex, 2>::eye(side, &Default::default()).unsqueeze();
        let off: f32 = (gram - eye).abs().max().into_scalar();
        assert!(off < 0.75, "{rows}×{columns}: {off}");
    }
}

#[test]
fn a_matrix_does_not_see_the_others_of_its_batch() {
    let batch = random([3, 5, 7], 2);
    let alone = orthogonalize(batch.clone().narrow(0, 1, 1), 5, Precision::F32);
    let together = orthogonalize(batch, 5, Precision::F32).narrow(0, 1, 1);
    alone.into_data().assert_approx_eq::<f32>(&together.into_data(), Tolerance::absolute(1e-6));
}

#[test]
fn a_zero_matrix_stays_zero() {
    let zero = Tensor::<Flex, 3>::zeros([1, 3, 5], &Default::default());
    let y = orthogonalize(zero, 5, Precision::F32);
    assert!(y.into_data().to_vec::<f32>().unwrap().iter().all(|v| *v == 0.0));
}

/// Momentum and step of matrices 1 and 2 of three.
fn ops(nesterov: bool) -> (Momentum, MuonStep) {
    let momentum = Momentum { momentum: 0.9, nesterov, index: 1 };
    (momentum, MuonStep { lr: 0.1, decay: 0.01, index: 1 })
}

#[test]
fn the_fused_bodies_equal_the_references_and_a_negative_factor_skips() {
    let close = |ours: &[FloatTensor<Flex>], theirs: &[FloatTensor<Flex>]| {
        assert_eq!(ours.len(), theirs.len());
        for (ours, theirs) in ours.iter().zip(theirs) {
            let data = |x: &FloatTensor<Flex>| lift::<Flex, 2>(x.clone()).into_data();
            let [ours, theirs] = [ours, theirs].map(data);
            ours.assert_approx_eq::<f32>(&theirs, Tolerance::absolute(1e-6));
        }
    };
    let matrix = |seed| lower(random([1, 5, 7], seed).squeeze_dim::<2>(0));
    for (f, nesterov) in [(0.5, true), (1.0, false), (-1.0, true)] {
        let factor = lower(Tensor::<Flex, 1>::from_floats([f, 0.0], &Default::default()));
        let batch = lower(random([3, 5, 7], 3));
        let (momentum, step) = ops(nesterov);
        let [a, b, c, d] = [4, 5, 6, 7].map(matrix);
        let inputs = [factor.clone(), batch, a.clone(), b.clone(), c, d];
        let fused = Flex::execute(&momentum, inputs.clone(), vec![]);
        let reference = momentum.reference::<Flex>(inputs, &[]);
        // What a skipped update leaves in the batch does not matter.
        let from = if f < 0.0 { 1 } else { 0 };
        close(&fused[from..], &reference[from..]);

        let inputs = [factor, reference[0].clone(), a.clone(), b];
        let ours = Flex::execute(&step, inputs.clone(), vec![]);
        close(&ours, &step.reference::<Flex>(inputs, &[]));
        let [after, before] = [ours[0].clone(), a].map(|x| lift::<Flex, 2>(x).into_data());
        assert_eq!(after == before, f < 0.0);
    }
}

#[test]
fn every_matrix_of_a_long_list_has_its_own_update() {
    let matrices =
        |seed: u64| (0..21).map(move |i| lower(random([1, 2, 3], seed + i).squeeze_dim::<2>(0)));
    let factor = lower(Tensor::<Flex, 1>::from_floats([0.5, 0.0], &Default::default()));
    let together: Vec<_> = matrices(1).zip(matrices(50)).map(|(g, m)| [g, m]).collect();
    let alone = together.clone();
    let (updates, momenta) = momentum::<Flex>(0.9, true, &factor, together);
    let weights = muon_step::<Flex>(0.1, 0.01, &factor, updates.clone(), matrices(99).collect());
    assert_eq!([momenta.len(), weights.len()], [21, 21]);
    let data = |x: &FloatTensor<Flex>| lift::<Flex, 2>(x.clone()).into_data();
    for (i, (pair, weight)) in alone.into_iter().zip(matrices(99)).enumerate() {
        let (update, m) = momentum::<Flex>(0.9, true, &factor, vec![pair]);
        assert_eq!(updates.clone().narrow(0, i, 1).into_data(), update.clone().into_data());
        assert_eq!(data(&momenta[i]), data(&m[0]));
        let w = muon_step::<Flex>(0.1, 0.01, &factor, update, vec![weight]);
        assert_eq!(data(&weights[i]), data(&w[0]));
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
#[test]
fn the_kernels_equal_the_references() {
    use super::Orthogonalize;
    use crate::testing::{Host, kernels::same_f32};
    for (r, c) in [(1, 1), (5, 7), (64, 24), (24, 130)] {
        let batch = noise(&[3, r, c], 6);
        let matrices = [7, 8, 9, 10].map(|seed| noise(&[r, c], seed));
        let [a, b, ..] = matrices.clone();
        for (f, nesterov) in [(0.5, true), (1.0, false), (-1.0, true)] {
            let factor = Host { data: vec![f, 0.0], shape: vec![2] };
            let (momentum, step) = ops(nesterov);
            let step = |n: usize| MuonStep { index: 3 - n, ..step.clone() };
            same_f32(step(1), &[factor.clone(), batch.clone(), a.clone()], &[]);
            same_f32(step(2), &[factor.clone(), batch.clone(), a.clone(), b.clone()], &[]);
            // What a skipped update leaves in the batch does not matter.
            if f > 0.0 {
                let [a, b, c, d] = matrices.clone();
                same_f32(momentum, &[factor, batch.clone(), a, b, c, d], &[]);
            }
        }
        let op = Orthogonalize { steps: 3, precision: Precision::F32 };
        same_f32(op, &[batch], &[]);
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
#[test]
fn the_kernels_take_more_matrices_than_a_device_binds_at_once() {
    use crate::testing::{Host, kernels::same_f32};
    let factor = Host { data: vec![0.5, 0.0], shape: vec![2] };
    let batch = noise(&[40, 3, 4], 1);
    let matrices = |count: u64| (0..count).map(|i| noise(&[3, 4], 2 + i));
    let inputs = |count| [factor.clone(), batch.clone()].into_iter().chain(matrices(count));
    let (momentum, step) = ops(true);
    let pairs: Vec<_> = inputs(32).collect();
    same_f32::<_, 34>(momentum, &pairs.try_into().ok().unwrap(), &[]);
    let weights: Vec<_> = inputs(32).collect();
    same_f32::<_, 34>(step, &weights.try_into().ok().unwrap(), &[]);
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
#[test]
fn kernels_that_round_operands_come_near_the_exact_iteration() {
    use super::Orthogonalize;
    use crate::testing::kernels::{Rounding, rounding};
    for (r, c) in [(1, 1), (7, 64), (130, 64), (130, 257), (257, 130)] {
        let inputs = [noise(&[3, r, c], 11)];
        // The largest coefficient, 4.8, times a rounding of half a step (2⁻¹² or 2⁻⁹) in each of two
        // operands, and three iterations of that: at most 7e-3 and 6e-2.
        for (precision, tolerance) in [(Precision::Tf32, 7e-3), (Precision::Bf16, 5e-2)] {
            let [op, exact] =
                [precision, Precision::F32].map(|precision| Orthogonalize { steps: 3, precision });
            let held = &[burn::tensor::DType::F32];
            rounding(&op, &exact, &inputs, Rounding { precision, tolerance, held });
        }
    }
}
