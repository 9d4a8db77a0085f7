//! `rope`: rotation by any positions.

use burn::tensor::{Tensor, TensorData};
use burn_backend::tensor::FloatTensor;
use mixlab_ops::{Backend, lift, lower};

use super::{Call, Dims, Site, reshape};
use crate::blocks::custom::fault::Fault;

/// The shapes of `q` and `k`, both `[B, H, T, hd]`.
pub fn rope_shape(site: &Site<'_>, inputs: &[Dims]) -> Result<Vec<Dims>, Fault> {
    let hint =
        "`q` and `k` are [B, H, T, hd] with an even hd; name `T` and `head_dim`, or leave them out";
    let wrong = |message: String| Err(Fault::new(message, hint));
    let (&[_, _, seq, width], &[_, _, other_seq, other_width]) = (&inputs[0][..], &inputs[1][..])
    else {
        return wrong("the inputs do not have four axes".into());
    };
    if (seq, width) != (other_seq, other_width) {
        return wrong("the last two axes of the inputs differ".into());
    }
    for (name, found) in [("T", seq), ("head_dim", width)] {
        if let Some(expected) = site.given(name).filter(|n| *n != found as i64) {
            return wrong(format!("`{name}` is `{expected}`, and the inputs have `{found}`"));
        }
    }
    if !turning(site, width).is_multiple_of(2) {
        return wrong(format!("`{}` channels do not make pairs", turning(site, width)));
    }
    let base = site.float("base");
    if base <= 0.0 {
        return wrong(format!("`base` is `{base}`, and must be positive"));
    }
    let [start, step] = ["start", "step"].map(|name| site.int(name));
    if last_position(start, step, seq).is_none() {
        return wrong(format!("positions from `{start}` in steps of `{step}` cannot be counted"));
    }
    match inputs.get(2).map(|positions| positions.iter().product::<usize>()) {
        Some(count) if count != seq => wrong(format!("`{count}` positions for `{seq}` tokens")),
        _ => Ok(vec![inputs[0].clone(), inputs[1].clone()]),
    }
}

/// The position of the last of `seq` tokens, if it is a number.
fn last_position(start: i64, step: i64, seq: usize) -> Option<i64> {
    let steps = i64::try_from(seq).ok()? - 1;
    step.checked_mul(steps)?.checked_add(start)
}

/// How many channels turn: `rope_dims` if that is a part of the head, else all.
fn turning(site: &Site<'_>, width: usize) -> usize {
    let written = site.given("rope_dims").and_then(|n| usize::try_from(n).ok());
    written.filter(|n| (1..width).contains(n)).unwrap_or(width)
}

/// Both inputs, rotated.
pub fn rotate<B: Backend>(mut call: Call<'_, B>) -> Vec<FloatTensor<B>> {
    let mut inputs = std::mem::take(&mut call.inputs).into_iter();
    let [q, k] = [inputs.next(), inputs.next()].map(|x| lift::<B, 4>(x.expect("two inputs")));
    let [.., seq, width] = call.shapes[0][..] else {
        unreachable!("planning has counted the axes")
    };
    let (dims, base) = (turning(&call.site, width), call.site.float("base"));
    let step = i128::from(call.site.int("step"));
    let past = if call.remembers { call.flow.past() } else { 0 };
    let start = i128::from(call.site.int("start")) + step * past as i128;
    let positions = inputs.next();
    if let (None, 1, Ok(start)) = (&positions, step, usize::try_from(start)) {
        return [q, k].map(|x| lower(mixlab_ops::rope(x, dims, base, start))).into();
    }
    let table = |values| from_host::<B>(values, dims / 2, call.device);
    let (cos, sin) = match positions {
        Some(positions) => {
            let positions = reshape::<B>(B::float_detach(positions), &[1, 1, seq, 1]);
            let whole = lift::<B, 4>(positions).int().float();
            let angles = whole * table(frequencies(dims, base).collect());
            (angles.clone().cos(), angles.sin())
        }
        None => {
            let position = move |t: usize| (start + step * t as i128) as f64;
            let row = |t: usize| frequencies(dims, base).map(move |f| position(t) * f);
            let angles: Vec<f64> = (0..seq).flat_map(row).collect();
            let of = |f: fn(f64) -> f64| table(angles.iter().map(|a| f(*a)).collect());
            (of(f64::cos), of(f64::sin))
        }
    };
    [q, k].map(|x| lower(turn(x, cos.clone(), sin.clone()))).into()
}

/// Radians per position of each pair.
fn frequencies(dims: usize, base: f32) -> impl Iterator<Item = f64> {
    let step = -2.0 * f64::from(base).ln() / dims as f64;
    (0..dims / 2).map(move |pair| (step * pair as f64).exp())
}

/// Numbers as a tensor `[1, 1, …, columns]`.
fn from_host<B: Backend>(values: Vec<f64>, columns: usize, device: &B::Device) -> Tensor<B, 4> {
    let rows = values.len() / columns;
    let values: Vec<f32> = values.into_iter().map(|v| v as f32).collect();
    Tensor::from_data(TensorData::new(values, [1, 1, rows, columns]), device)
}

/// Pairs of channels of `x` `[B, H, T, hd]` turned by the angles of `cos` and `sin`
/// `[1, 1, T, R/2]`; channels from `R` on stay.
fn turn<B: Backend>(x: Tensor<B, 4>, cos: Tensor<B, 4>, sin: Tensor<B, 4>) -> Tensor<B, 4> {
    let [b, h, t, width] = x.dims();
    let pairs = cos.dims()[3];
    let split = x.clone().narrow(3, 0, 2 * pairs).reshape([b, h, t, pairs, 2]);
    let [first, second] = [0, 1].map(|n| split.clone().narrow(4, n, 1).squeeze_dim::<4>(4));
    let turned =
        [first.clone() * cos.clone() - second.clone() * sin.clone(), first * sin + second * cos];
    let turned = Tensor::stack::<5>(turned.into(), 4).reshape([b, h, t, 2 * pairs]);
    match width - 2 * pairs {
        0 => turned,
        rest => Tensor::cat(vec![turned, x.narrow(3, 2 * pairs, rest)], 3),
    }
}
