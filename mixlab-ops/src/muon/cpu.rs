//! Momentum, iteration and step for burn-flex, on all cores.

use core::array;

use burn_backend::TensorMetadata;
use burn_flex::FlexTensor;
use burn_std::bf16;

use super::orthogonalize::QUINTIC;
use super::{Momentum, MuonStep};
use crate::plumbing::cpu::{
    Lanes, Matrix, Product, multiply, parallel_if, pointwise, sum, tensor, wide,
};

fn factor(x: &FlexTensor) -> f32 {
    x.to_contiguous().storage::<f32>()[0]
}

pub(super) fn momentum(op: &Momentum, inputs: &[FlexTensor]) -> Vec<FlexTensor> {
    let (f, batch, matrices) = (factor(&inputs[0]), &inputs[1], inputs[2..].chunks(2));
    if f < 0.0 {
        return core::iter::once(batch).chain(matrices.map(|x| &x[1])).cloned().collect();
    }
    let mut updates = batch.to_contiguous().storage::<f32>().to_vec();
    let [_, r, c] = batch.shape().dims();
    let mut momenta = Vec::new();
    for (x, place) in matrices.zip(updates.chunks_mut(r * c).skip(op.index)) {
        let [update, momentum] = pointwise(
            [&x[0], &x[1]],
            #[inline(always)]
            |[g, m]: [Lanes; 2]| {
                let m: Lanes = array::from_fn(|i| op.momentum * m[i] + f * g[i]);
                if op.nesterov {
                    [array::from_fn(|i| f * g[i] + op.momentum * m[i]), m]
                } else {
                    [m, m]
                }
            },
        );
        place.copy_from_slice(update.storage());
        momenta.push(momentum);
    }
    core::iter::once(tensor(updates, batch.shape())).chain(momenta).collect()
}

/// The Newton–Schulz iteration, so many `steps` of it, on each matrix of `batch` `[S, R, C]`: several at
/// a time, or with several threads for one.
pub(super) fn orthogonalize(steps: usize, batch: &FlexTensor) -> FlexTensor {
    let [matrices, r, c] = batch.shape().dims();
    let data = batch.to_contiguous();
    let parts: Vec<&[f32]> = data.storage::<f32>().chunks((r * c).max(1)).collect();
    let together = matrices >= rayon::current_num_threads();
    let done = parallel_if(together, parts, |x| newton_schulz(steps, x, [r, c], !together));
    tensor(done.concat(), batch.shape())
}

/// As the reference, on the smaller side of `x` `[R, C]`, without turning it round: of a higher matrix
/// `aX + X(bA + cA²)` with `A = XᵀX`.
fn newton_schulz(steps: usize, x: &[f32], [r, c]: [usize; 2], threads: bool) -> Vec<f32> {
    let mut x: Vec<f32> = x.iter().map(|x| bf16::from_f32(*x).to_f32()).collect();
    let squares = wide(
        #[inline(always)]
        || sum(x.len(), |s, i| x[i].mul_add(x[i], s)),
    );
    let norm = squares.sqrt() + 1e-7;
    x.iter_mut().for_each(|x| *x /= norm);
    let side = r.min(c);
    let [mut gram, mut mix] = [(); 2].map(|()| vec![0.0; side * side]);
    let mut next = vec![0.0; r * c];
    let [first, third, fifth] = QUINTIC;
    let add = Product { factor: 1.0, add: true, threads };
    for _ in 0..steps {
        let matrix = Matrix::whole(&x, c);
        let (left, right) = sides(matrix, matrix.transposed(), r > c);
        multiply(&mut gram, side, left, right, Product { add: false, ..add });
        scale(&mut mix, third, &gram);
        let square = Matrix::whole(&gram, side);
        multiply(&mut mix, side, square, square, Product { factor: fifth, ..add });
        scale(&mut next, first, &x);
        let (left, right) = sides(Matrix::whole(&mix, side), matrix, r > c);
        multiply(&mut next, c, left, right, add);
        core::mem::swap(&mut x, &mut next);
    }
    x
}

/// Both, or the other way round.
fn sides<'a>(a: Matrix<'a>, b: Matrix<'a>, turned: bool) -> (Matrix<'a>, Matrix<'a>) {
    if turned { (b, a) } else { (a, b) }
}

/// `to ← factor · x`.
fn scale(to: &mut [f32], factor: f32, x: &[f32]) {
    to.iter_mut().zip(x).for_each(|(to, x)| *to = factor * x);
}

pub(super) fn step(op: &MuonStep, inputs: &[FlexTensor]) -> Vec<FlexTensor> {
    use burn_backend::ops::FloatTensorOps;
    type Flex = burn_flex::Flex;
    let (f, batch, weights) = (factor(&inputs[0]), &inputs[1], &inputs[2..]);
    if f < 0.0 {
        return weights.to_vec();
    }
    let [_, r, c] = batch.shape().dims();
    let step = |(weight, index): (&FlexTensor, usize)| {
        let place = [index..index + 1, 0..r, 0..c].map(Into::into);
        let update = Flex::float_reshape(Flex::float_slice(batch.clone(), &place), [r, c].into());
        let [next] = pointwise(
            [weight, &update],
            #[inline(always)]
            |[w, u]: [Lanes; 2]| [array::from_fn(|i| w[i] - w[i] * op.decay - u[i] * op.lr)],
        );
        next
    };
    weights.iter().zip(op.index..).map(step).collect()
}
