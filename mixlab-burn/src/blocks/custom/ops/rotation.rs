//! `rope`: rotation by any positions.

use burn::tensor::{Tensor, TensorData};
use burn_backend::tensor::FloatTensor;
use mixlab_ops::{Backend, lift, lower};

use super::{Call, Dims, Site, reshape};
use crate::blocks::context::rotation::{Steps, frequencies, turn};
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
    let (start, step) = (i128::from(call.site.int("start")), i128::from(call.site.int("step")));
    let starts = match (call.remembers, call.flow.padding()) {
        (false, _) => vec![start],
        (true, None) => vec![start + step * call.flow.past() as i128],
        (true, Some(_)) => {
            let own = call.flow.positions().into_iter();
            own.map(|position| start + step * position as i128).collect()
        }
    };
    let positions = inputs.next();
    if let (None, 1, [start]) = (&positions, step, starts.as_slice())
        && let Ok(start) = usize::try_from(*start)
    {
        return [q, k].map(|x| lower(mixlab_ops::rope(x, dims, base, start))).into();
    }
    let angles = match positions {
        Some(positions) => {
            let positions = reshape::<B>(B::float_detach(positions), &[1, 1, seq, 1]);
            let whole = lift::<B, 4>(positions).int().float();
            let rates = Tensor::from_data(
                TensorData::new(
                    frequencies(dims, base).map(|f| f as f32).collect(),
                    [1, 1, 1, dims / 2],
                ),
                call.device,
            );
            let angles = whole * rates;
            [angles.clone().cos(), angles.sin()]
        }
        None => Steps { starts, seq, step }.angles::<B>(dims, base, call.device),
    };
    [q, k].map(|x| lower(turn(x, angles.clone()))).into()
}
