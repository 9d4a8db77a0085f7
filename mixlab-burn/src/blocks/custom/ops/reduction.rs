//! Operations along one axis, and norms over the last.

use burn::tensor::Tensor;
use burn_backend::tensor::FloatTensor;
use mixlab_ops::{Backend, lift, lower};

use super::elementwise::matrix;
use super::{Call, Dims, Site, axis, dims, last, reshape, with_rank};
use crate::blocks::custom::fault::Fault;

/// The shape of the input with length 1 along `axis`.
pub fn reduced_shape(site: &Site<'_>, inputs: &[Dims]) -> Result<Vec<Dims>, Fault> {
    let mut shape = inputs[0].clone();
    let axis = axis(site, shape.len())?;
    shape[axis] = 1;
    Ok(vec![shape])
}

/// The shape of the input, which has the axis `axis`.
pub fn kept_shape(site: &Site<'_>, inputs: &[Dims]) -> Result<Vec<Dims>, Fault> {
    axis(site, inputs[0].len())?;
    Ok(vec![inputs[0].clone()])
}

/// `op` along `axis`.
pub fn reduce<B: Backend>(
    mut call: Call<'_, B>,
    op: impl Fn(FloatTensor<B>, usize) -> FloatTensor<B>,
) -> Vec<FloatTensor<B>> {
    let [a] = call.take();
    let axis = axis(&call.site, dims::<B>(&a).len()).expect("planning has checked the axis");
    vec![op(a, axis)]
}

/// The sum of all elements so far along `axis`.
pub fn running_sum<B: Backend>(mut call: Call<'_, B>) -> Vec<FloatTensor<B>> {
    let [a] = call.take();
    let axis = axis(&call.site, dims::<B>(&a).len()).expect("planning has checked the axis");
    let sums = B::float_cumsum(a, axis);
    if !call.remembers {
        return vec![sums];
    }
    vec![call.flow.through(|_, before| {
        let before = before.and_then(|state| state.into_iter().next());
        let sums = match before {
            Some(sum) => B::float_add(sums, sum),
            None => sums,
        };
        let all = sums.clone();
        (sums, move || vec![last::<B>(all, axis, 1)])
    })]
}

/// Rows of unit root mean square, times `scale`.
pub fn rms_norm<B: Backend>(mut call: Call<'_, B>) -> Vec<FloatTensor<B>> {
    let [a, scale] = call.take();
    let (shape, eps) = (dims::<B>(&a), call.site.float("eps"));
    let width = shape.last().copied().unwrap_or(1);
    let scale_shape = dims::<B>(&scale);
    let is_vector = scale_shape.last() == Some(&width)
        && scale_shape.iter().product::<usize>() == width
        && scale_shape.len() <= shape.len();
    if is_vector {
        let scale = lift(reshape::<B>(scale, &[width]));
        return call.shaped(lower(mixlab_ops::rms_norm(matrix::<B>(a), scale, eps)));
    }
    let normed = mixlab_ops::rms_norm(matrix::<B>(a), Tensor::ones([width], call.device), eps);
    call.inputs = vec![reshape::<B>(lower(normed), &shape), scale];
    super::elementwise::binary(call, B::float_mul)
}

/// Rows of mean 0 and variance 1, times `scale`, plus `bias`, as far as those are given.
pub fn layer_norm<B: Backend>(mut call: Call<'_, B>) -> Vec<FloatTensor<B>> {
    let mut inputs = std::mem::take(&mut call.inputs).into_iter();
    let a = inputs.next().expect("planning has counted the inputs");
    let shape = dims::<B>(&a);
    let centered = {
        let a = matrix::<B>(a);
        a.clone() - a.mean_dim(1)
    };
    let variance = (centered.clone() * centered.clone()).mean_dim(1);
    let normed = centered / (variance + call.site.float("eps")).sqrt();
    let rank = call.shapes[0].len();
    let align = |x| with_rank::<B>(x, rank);
    let y = align(reshape::<B>(lower(normed), &shape));
    let y = match inputs.next() {
        Some(scale) => B::float_mul(y, align(scale)),
        None => y,
    };
    vec![match inputs.next() {
        Some(bias) => B::float_add(y, align(bias)),
        None => y,
    }]
}
