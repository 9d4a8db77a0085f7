//! Operations that work element by element.

use burn::tensor::{Bool, Tensor};
use burn_backend::tensor::FloatTensor;
use mixlab_ops::{Activation, Backend, activate, lift, lower};

use super::{Call, Dims, Site, broadcast, dims, expand, reshape, with_rank};
use crate::blocks::custom::fault::Fault;

/// The shape of the only input.
pub fn same_shape(_: &Site<'_>, inputs: &[Dims]) -> Result<Vec<Dims>, Fault> {
    Ok(vec![inputs[0].clone()])
}

/// The shape of all inputs together.
pub fn broadcast_shape(_: &Site<'_>, inputs: &[Dims]) -> Result<Vec<Dims>, Fault> {
    Ok(vec![broadcast(inputs)?])
}

/// [`same_shape`], with a usable pair of bounds.
pub fn clamp_shape(site: &Site<'_>, inputs: &[Dims]) -> Result<Vec<Dims>, Fault> {
    match (site.given_float("min"), site.given_float("max")) {
        (None, None) => Err(Fault::new("there is no bound", "give `min`, `max` or both")),
        (Some(min), Some(max)) if min > max => Err(Fault::new(
            format!("`min` is `{min}` and `max` is `{max}`"),
            "`min` must not be more than `max`",
        )),
        _ => same_shape(site, inputs),
    }
}

/// [`same_shape`], with a rate that is a probability.
pub fn dropout_shape(site: &Site<'_>, inputs: &[Dims]) -> Result<Vec<Dims>, Fault> {
    let rate = site.float("rate");
    if !(0.0..=1.0).contains(&rate) {
        return Err(Fault::new(
            format!("`rate` is `{rate}`"),
            "the rate is the probability of a 0, from 0 to 1",
        ));
    }
    same_shape(site, inputs)
}

/// `op` on the only input.
pub fn unary<B: Backend>(
    mut call: Call<'_, B>,
    op: impl Fn(FloatTensor<B>) -> FloatTensor<B>,
) -> Vec<FloatTensor<B>> {
    let [a] = call.take();
    vec![op(a)]
}

/// `op` on both inputs, the shorter shape filled up in front.
pub fn binary<B: Backend>(
    mut call: Call<'_, B>,
    op: impl Fn(FloatTensor<B>, FloatTensor<B>) -> FloatTensor<B>,
) -> Vec<FloatTensor<B>> {
    let [a, b] = call.take();
    let rank = call.shapes[0].len();
    vec![op(with_rank::<B>(a, rank), with_rank::<B>(b, rank))]
}

/// `a · scalar`.
pub fn scaled<B: Backend>(call: Call<'_, B>) -> Vec<FloatTensor<B>> {
    let scalar = call.site.float("scalar");
    unary(call, |a| B::float_mul_scalar(a, scalar.into()))
}

/// `a` to the power of `exponent`.
pub fn power<B: Backend>(call: Call<'_, B>) -> Vec<FloatTensor<B>> {
    let exponent = call.site.float("exponent");
    unary(call, |a| B::float_powf_scalar(a, exponent.into()))
}

/// `a` between the bounds that there are.
pub fn clamp<B: Backend>(call: Call<'_, B>) -> Vec<FloatTensor<B>> {
    let (min, max) = (call.site.given_float("min"), call.site.given_float("max"));
    unary(call, |a| match (min, max) {
        (Some(min), Some(max)) => B::float_clamp(a, min.into(), max.into()),
        (Some(min), None) => B::float_clamp_min(a, min.into()),
        (None, Some(max)) => B::float_clamp_max(a, max.into()),
        (None, None) => a,
    })
}

/// A named activation, which works on two axes.
pub fn activation<B: Backend>(mut call: Call<'_, B>, kind: Activation) -> Vec<FloatTensor<B>> {
    let [a] = call.take();
    let y = activate(kind, matrix::<B>(a));
    call.shaped(lower(y))
}

/// `ln(1 + eᵃ)`, as the reflected log-sigmoid: exact and differentiable for any `a`.
pub fn softplus<B: Backend>(call: Call<'_, B>) -> Vec<FloatTensor<B>> {
    unary(call, |a| B::float_neg(B::log_sigmoid(B::float_neg(a))))
}

/// The larger or the smaller of two inputs; of equal ones the first.
pub fn extreme<B: Backend>(call: Call<'_, B>, larger: bool) -> Vec<FloatTensor<B>> {
    flat(call, |[a, b]| {
        let second = if larger { a.clone().lower(b.clone()) } else { a.clone().greater(b.clone()) };
        a.mask_where(second, b)
    })
}

/// 1 where `op` holds, else 0.
pub fn compare<B: Backend>(
    call: Call<'_, B>,
    op: impl Fn(Tensor<B, 1>, Tensor<B, 1>) -> Tensor<B, 1, Bool>,
) -> Vec<FloatTensor<B>> {
    flat(call, |[a, b]| op(a, b).float())
}

/// The second input where the first is not 0, else the third.
pub fn choose<B: Backend>(call: Call<'_, B>) -> Vec<FloatTensor<B>> {
    flat(call, |[condition, a, b]| b.mask_where(condition.not_equal_elem(0.0), a))
}

/// Dropout in the manner of all blocks.
pub fn dropout<B: Backend>(mut call: Call<'_, B>) -> Vec<FloatTensor<B>> {
    let [a] = call.take();
    let rate = call.site.float("rate");
    let y = call.flow.dropout(matrix::<B>(a), rate);
    call.shaped(lower(y))
}

/// `op` on all inputs, each repeated to the shape of the output and laid out in one axis.
fn flat<B: Backend, const N: usize>(
    mut call: Call<'_, B>,
    op: impl Fn([Tensor<B, 1>; N]) -> Tensor<B, 1>,
) -> Vec<FloatTensor<B>> {
    let shape = call.shapes[0].clone();
    let count: usize = shape.iter().product();
    let inputs = call.take::<N>();
    let inputs = inputs.map(|x| lift(reshape::<B>(expand::<B>(x, &shape), &[count])));
    call.shaped(lower(op(inputs)))
}

/// `x` with all axes but the last made one.
pub fn matrix<B: Backend>(x: FloatTensor<B>) -> Tensor<B, 2> {
    let shape = dims::<B>(&x);
    let width = shape.last().copied().unwrap_or(1);
    let rows = shape.iter().product::<usize>() / width;
    lift(reshape::<B>(x, &[rows, width]))
}
