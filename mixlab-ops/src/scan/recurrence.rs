//! First-order linear recurrences over a sequence, in a number of tensor operations that grows with
//! the logarithm of its length.
//!
//! The sequence is cut into blocks of sixteen steps. All blocks run side by side from zero, which
//! gives their ends and the products of their gates; these form a recurrence sixteen times as short,
//! solved the same way; and with its states as starting points all blocks run side by side again.
//! This is the work-efficient prefix scan of Blelloch (1990) with a wide tree: O(T) work, where
//! doubling (Hillis and Steele, 1986) does O(T log T). Nothing is divided and no logarithm is taken,
//! so gates of any sign, zero and one included, are exact.

use burn::tensor::{Tensor, backend::Backend};

const BLOCK: usize = 16;

/// The end of the sequence at which a recurrence begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Origin {
    Start,
    End,
}

/// All states of `s_t = a_t ⊙ s_{t∓1} + x_t` with `s = 0` beyond the end that it begins at.
///
/// `x` is `[B, T, C]`; `gate` is `[B, T, C]`, or `[1, 1, C]` where it does not depend on time.
/// The product of any 16 successive gates (for T > 256 any 16², and so on) must be finite.
pub(crate) fn recurrence<B: Backend>(
    gate: Tensor<B, 3>,
    x: Tensor<B, 3>,
    from: Origin,
) -> Tensor<B, 3> {
    let [n, t, c] = x.dims();
    let len = t.min(BLOCK);
    let blocks = t.div_ceil(len);
    let constant = gate.dims()[1] == 1 && t > 1;
    let gates = if constant { vec![gate.reshape([1, c]); len] } else { steps(gate, len, from) };
    let xs = steps(x, len, from);
    let start = (blocks > 1).then(|| {
        let product = gates.iter().cloned().reduce(|p, a| p * a).expect("a block is not empty");
        let product = product.reshape(if constant { [1, 1, c] } else { [n, blocks, c] });
        let end = run(&gates, &xs, None).pop().expect("a block is not empty");
        let carried = recurrence(product, end.reshape([n, blocks, c]), from);
        delayed(carried, from).reshape([n * blocks, c])
    });
    let mut states = run(&gates, &xs, start);
    if from == Origin::End {
        states.reverse();
    }
    Tensor::stack::<3>(states, 1).reshape([n, blocks * len, c]).narrow(1, 0, t)
}

/// `x` `[B, T, C]` one step later, as a recurrence that begins at `from` sees it: zero, then all
/// but the last.
pub(crate) fn delayed<B: Backend>(x: Tensor<B, 3>, from: Origin) -> Tensor<B, 3> {
    let [n, t, c] = x.dims();
    let zero = Tensor::zeros([n, 1, c], (&x.device(), x.dtype()));
    let parts = match from {
        _ if t == 1 => vec![zero],
        Origin::Start => vec![zero, x.narrow(1, 0, t - 1)],
        Origin::End => vec![x.narrow(1, 1, t - 1), zero],
    };
    Tensor::cat(parts, 1)
}

/// Every step of the blocks of `x` `[B, T, C]` as `[B·blocks, C]`, in the order of visit.
///
/// Rank 2, since that is what CPU backends stride over fastest.
fn steps<B: Backend>(x: Tensor<B, 3>, len: usize, from: Origin) -> Vec<Tensor<B, 2>> {
    let [n, t, c] = x.dims();
    let missing = t.next_multiple_of(len) - t;
    let x = match missing {
        0 => x,
        _ => {
            let zeros = Tensor::zeros([n, missing, c], (&x.device(), x.dtype()));
            Tensor::cat(vec![x, zeros], 1)
        }
    };
    let x = x.reshape([n * t.div_ceil(len), len, c]);
    let step = |j| x.clone().narrow(1, j, 1).squeeze_dim(1);
    match from {
        Origin::Start => (0..len).map(step).collect(),
        Origin::End => (0..len).rev().map(step).collect(),
    }
}

/// The states of all blocks after each step; a `start` of none is zero.
fn run<B: Backend>(
    gates: &[Tensor<B, 2>],
    xs: &[Tensor<B, 2>],
    start: Option<Tensor<B, 2>>,
) -> Vec<Tensor<B, 2>> {
    let mut state = start;
    let step = |(a, x): (&Tensor<B, 2>, &Tensor<B, 2>)| {
        let next = match state.take() {
            Some(s) => s * a.clone() + x.clone(),
            None => x.clone(),
        };
        state = Some(next.clone());
        next
    };
    gates.iter().zip(xs).map(step).collect()
}
