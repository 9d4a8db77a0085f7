use burn::tensor::{Tensor, Tolerance};
use burn_flex::Flex;

use super::{Momentum, MuonStep, orthogonalize};
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
        let gram = match rows > columns {
            true => y.clone().swap_dims(1, 2).matmul(y),
            false => y.clone().matmul(y.swap_dims(1, 2)),
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

#[test]
fn the_fused_bodies_equal_the_references_and_a_negative_factor_skips() {
    for (f, nesterov) in [(0.5, true), (1.0, false), (-1.0, true)] {
        let factor = lower(Tensor::<Flex, 1>::from_floats([f, 0.0], &Default::default()));
        let batch = lower(random([3, 5, 7], 3));
        let [grad, buffer] = [4, 5].map(|seed| lower(random([1, 5, 7], seed).squeeze_dim::<2>(0)));
        let op = Momentum { momentum: 0.9, nesterov, index: 1 };
        let inputs = [grad, factor.clone(), buffer.clone(), batch];
        let fused = Flex::execute(&op, inputs.clone(), vec![]);
        let reference = op.reference::<Flex>(inputs, &[]);
        let [ours, theirs] = [&fused[1], &reference[1]].map(|x| lift::<Flex, 2>(x.clone()));
        ours.into_data().assert_approx_eq::<f32>(&theirs.into_data(), Tolerance::absolute(1e-6));
        let step = MuonStep { lr: 0.1, decay: 0.01, index: 1 };
        let inputs = [buffer.clone(), reference[0].clone(), factor];
        let ours = Flex::execute(&step, inputs.clone(), vec![]).remove(0);
        let theirs = step.reference::<Flex>(inputs, &[]).remove(0);
        let [ours, theirs, before] = [ours, theirs, buffer].map(|x| lift::<Flex, 2>(x).into_data());
        ours.assert_approx_eq::<f32>(&theirs, Tolerance::absolute(1e-6));
        assert_eq!(ours == before, f < 0.0);
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
#[test]
fn the_kernels_equal_the_references() {
    use super::Orthogonalize;
    use crate::testing::{Host, kernels::same_f32};
    for (r, c) in [(1, 1), (5, 7), (64, 24), (24, 130)] {
        let batch = noise(&[3, r, c], 6);
        let [grad, buffer] = [7, 8].map(|seed| noise(&[r, c], seed));
        for (f, nesterov) in [(0.5, true), (1.0, false), (-1.0, true)] {
            let factor = Host { data: vec![f, 0.0], shape: vec![2] };
            let step = MuonStep { lr: 0.1, decay: 0.01, index: 2 };
            same_f32(step, &[buffer.clone(), batch.clone(), factor.clone()], &[]);
            // What a skipped update leaves in the batch does not matter.
            if f > 0.0 {
                let op = Momentum { momentum: 0.9, nesterov, index: 1 };
                same_f32(op, &[grad.clone(), factor, buffer.clone(), batch.clone()], &[]);
            }
        }
        let op = Orthogonalize { steps: 3, precision: Precision::F32 };
        same_f32(op, &[batch], &[]);
    }
}
