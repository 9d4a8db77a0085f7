//! Sums of squares for burn-flex: each tensor read once, on all cores.

use burn_flex::FlexTensor;

use crate::plumbing::cpu::{TASK, parallel, sum, tensor, wide};

/// The partial sums, the first of `inputs`, with the squares of the other tensors added to the first sum.
pub(super) fn add_squares(inputs: &[FlexTensor]) -> FlexTensor {
    let inputs: Vec<FlexTensor> = inputs.iter().map(FlexTensor::to_contiguous).collect();
    let (parts, tensors) = inputs.split_first().expect("the partial sums");
    let mut parts = parts.storage::<f32>().to_vec();
    let tasks = tensors.iter().flat_map(|x| x.storage::<f32>().chunks(TASK)).collect();
    let squares = parallel(tasks, |x: &[f32]| {
        wide(
            #[inline(always)]
            || sum([x], |s, [x], _| x.mul_add(x, s)),
        )
    });
    parts[0] += squares.iter().sum::<f32>();
    let len = parts.len();
    tensor(parts, [len])
}
