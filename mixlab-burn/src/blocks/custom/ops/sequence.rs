//! Operations along the sequence.

use burn::tensor::{Bool, Tensor};
use burn_backend::tensor::FloatTensor;
use mixlab_ops::{Activation, Backend, activate, lift, lower};

use super::{Call, Dims, Site, dims, reshape};
use crate::blocks::KeyValue;
use crate::blocks::custom::fault::Fault;

/// What replaces a masked score.
pub const MASKED: f32 = -1e9;

/// The shape of an input with at least two axes.
pub fn mask_shape(_: &Site<'_>, inputs: &[Dims]) -> Result<Vec<Dims>, Fault> {
    if inputs[0].len() < 2 {
        return Err(Fault::new("a mask needs two axes", "give scores such as `[B, H, T, T]`"));
    }
    Ok(vec![inputs[0].clone()])
}

/// The future is replaced.
pub fn causal_mask<B: Backend>(mut call: Call<'_, B>) -> Vec<FloatTensor<B>> {
    let [a] = call.take();
    let shape = dims::<B>(&a);
    let [.., rows, columns] = shape[..] else { unreachable!("planning has counted the axes") };
    let matrices = shape.iter().product::<usize>() / (rows * columns);
    let future = Tensor::<B, 2, Bool>::tril_mask([rows, columns], 0, call.device);
    let future = future.unsqueeze::<3>().expand([matrices, rows, columns]);
    let a = lift::<B, 3>(reshape::<B>(a, &[matrices, rows, columns]));
    call.shaped(lower(a.mask_fill(future, MASKED)))
}

/// The shape of the queries; keys and values are equal and may have fewer heads.
pub fn attention_shape(_: &Site<'_>, inputs: &[Dims]) -> Result<Vec<Dims>, Fault> {
    let fits = |q: &[usize], k: &[usize]| match (q, k) {
        ([b, h, t, d], [kb, kh, kt, kd]) => b == kb && h % kh == 0 && t == kt && d == kd,
        _ => false,
    };
    if !fits(&inputs[0], &inputs[1]) || inputs[1] != inputs[2] {
        return Err(Fault::new(
            "these are not queries, keys and values",
            "`q` is [B, H, T, hd]; `k` and `v` are equal to it, or have a number of heads that divides `H`",
        ));
    }
    Ok(vec![inputs[0].clone()])
}

/// Softmax attention to the past and present, on values as wide as activations.
pub fn attend<B: Backend>(mut call: Call<'_, B>) -> Vec<FloatTensor<B>> {
    let width = call.shapes[0][3] as f32;
    let scale = call.site.given_float("scale").unwrap_or(1.0 / width.sqrt());
    let inputs = call.take().map(lift::<B, 4>);
    let dtype = inputs[0].dtype();
    let [q, keys, values] = inputs.map(|x| call.flow.activation(x));
    let mut pair = KeyValue { keys, values };
    if call.remembers {
        pair = call.flow.extend(pair);
    }
    vec![lower(call.flow.attend(q, pair, scale).cast(dtype))]
}

/// The shape of the input, `[BT, C]` or `[…, T, C]`, with taps `[K, C]`.
pub fn conv1d_shape(site: &Site<'_>, inputs: &[Dims]) -> Result<Vec<Dims>, Fault> {
    let [a, w] = inputs else { unreachable!("planning has counted the inputs") };
    let rows = site.extent.batch * site.extent.seq;
    let fits = match (a.as_slice(), w.as_slice()) {
        ([n, channels], [_, c]) => *n == rows && channels == c,
        ([_, .., _, channels], [_, c]) => a.len() > 2 && channels == c,
        _ => false,
    };
    if !fits {
        return Err(Fault::new(
            "these are not a sequence and its taps",
            "`a` is [BT, C] or […, T, C], and `w` is [K, C] with as many channels",
        ));
    }
    Ok(vec![a.clone()])
}

/// The input of a convolution as `[rows, T, C]`.
pub fn conv1d_view(site: &Site<'_>, input: &Dims) -> Dims {
    let [lead @ .., before, channels] = input.as_slice() else {
        unreachable!("planning has counted the axes")
    };
    if lead.is_empty() {
        return vec![site.extent.batch, site.extent.seq, *channels];
    }
    vec![lead.iter().product(), *before, *channels]
}

/// `y_t = Σ_k w_k ⊙ a_{t − K + 1 + k}`, zeros before the start.
pub fn conv1d<B: Backend>(mut call: Call<'_, B>) -> Vec<FloatTensor<B>> {
    let [a, w] = call.take();
    let view = conv1d_view(&call.site, &dims::<B>(&a));
    let a = lift::<B, 3>(reshape::<B>(a, &view));
    let w = lift::<B, 2>(w);
    let y = if call.remembers {
        call.flow.through(|_, before| {
            let before = before.and_then(|state| state.into_iter().next()).map(lift);
            let (y, seen) = convolve(a, before, w);
            (y, || seen.map(lower).into_iter().collect())
        })
    } else {
        convolve(a, None, w).0
    };
    call.shaped(lower(y))
}

/// The convolution of `a` `[rows, T, C]` with taps `w` `[K, C]`, which goes on after the `K − 1` steps
/// `before`, or after zeros; and the steps that matter to what comes next.
fn convolve<B: Backend>(
    a: Tensor<B, 3>,
    before: Option<Tensor<B, 3>>,
    w: Tensor<B, 2>,
) -> (Tensor<B, 3>, Option<Tensor<B, 3>>) {
    let ([rows, seq, channels], [taps, _]) = (a.dims(), w.dims());
    let zeros = || Tensor::zeros([rows, taps - 1, channels], (&a.device(), a.dtype()));
    let before = (taps > 1).then(|| before.unwrap_or_else(zeros));
    let all = Tensor::<B, 3>::cat(before.into_iter().chain([a.clone()]).collect(), 1);
    let tap = |k: usize| w.clone().narrow(0, k, 1).unsqueeze::<3>();
    let term = |k: usize| all.clone().narrow(1, k, seq) * tap(k);
    let y = (1..taps).fold(term(0), |sum, k| sum + term(k));
    let seen = (taps > 1).then(|| all.clone().narrow(1, seq, taps - 1));
    (y, seen)
}

/// The sizes `names` of a view of the inputs, each as given or else as in `inferred`; the first
/// input must have as many elements.
fn view(site: &Site<'_>, names: &[&str], inferred: &[usize], input: &Dims) -> Result<Dims, Fault> {
    let size = |(name, &found): (&&str, &usize)| site.given(name).unwrap_or(found as i64);
    let sizes: Vec<i64> = names.iter().zip(inferred).map(size).collect();
    let count: i64 = input.iter().product::<usize>() as i64;
    let product = sizes.iter().try_fold(1i64, |product, n| product.checked_mul(*n));
    if sizes.iter().any(|n| *n < 1) || product != Some(count) {
        return Err(Fault::new(
            format!("`{count}` elements cannot be viewed as [{}] = {sizes:?}", names.join(", ")),
            format!("{} must multiply to the number of elements", names.join(", ")),
        ));
    }
    Ok(sizes.into_iter().map(|n| n as usize).collect())
}

/// `[B, T, D]` for the first input of a scan.
pub fn scan_view(site: &Site<'_>, input: &Dims) -> Result<Dims, Fault> {
    let width = input.last().copied().unwrap_or(1);
    view(site, &["B", "T", "D"], &[site.extent.batch, site.extent.seq, width], input)
}

/// The second input of a scan must have `count` elements.
fn expect_count(name: &str, input: &Dims, expected: &Dims) -> Result<(), Fault> {
    if input.iter().product::<usize>() == expected.iter().product::<usize>() {
        return Ok(());
    }
    Err(Fault::new(
        format!("`{name}` cannot be viewed as {expected:?}"),
        format!("`{name}` must have as many elements as {expected:?}"),
    ))
}

/// `[B·T, D]`.
pub fn scan_shape(site: &Site<'_>, inputs: &[Dims]) -> Result<Vec<Dims>, Fault> {
    let sizes = scan_view(site, &inputs[0])?;
    expect_count("decay", &inputs[1], &vec![sizes[2]])?;
    Ok(vec![vec![sizes[0] * sizes[1], sizes[2]]])
}

/// All states that `run` makes of `u` `[B, T, …]` and of the last state before, if there was one.
fn recurrence<B: Backend, const D: usize, const S: usize>(
    call: &mut Call<'_, B>,
    u: Tensor<B, D>,
    run: impl FnOnce(Tensor<B, D>, Option<Tensor<B, S>>) -> Tensor<B, D>,
) -> Tensor<B, D> {
    if call.remembers { call.flow.recur(u, run) } else { run(u, None) }
}

/// A moving average with one decay per channel.
pub fn scan<B: Backend>(mut call: Call<'_, B>) -> Vec<FloatTensor<B>> {
    let [u, decay] = call.take();
    let sizes = scan_view(&call.site, &dims::<B>(&u)).expect("planning has checked the view");
    let u = lift::<B, 3>(reshape::<B>(u, &sizes));
    let decay = lift::<B, 2>(reshape::<B>(decay, &[1, sizes[2]]));
    let gate = activate(Activation::Sigmoid, decay).flatten::<1>(0, 1);
    let h = recurrence(&mut call, u, |u, h| mixlab_ops::scan_from(u, gate, h));
    call.shaped(lower(h))
}

/// `[B·T, D]`.
pub fn scan_tv_shape(site: &Site<'_>, inputs: &[Dims]) -> Result<Vec<Dims>, Fault> {
    let sizes = scan_view(site, &inputs[0])?;
    expect_count("g", &inputs[1], &sizes)?;
    Ok(vec![vec![sizes[0] * sizes[1], sizes[2]]])
}

/// A moving average whose gate varies with time.
pub fn scan_tv<B: Backend>(mut call: Call<'_, B>) -> Vec<FloatTensor<B>> {
    let [u, g] = call.take();
    let sizes = scan_view(&call.site, &dims::<B>(&u)).expect("planning has checked the view");
    let [u, g] = [u, g].map(|x| lift::<B, 3>(reshape::<B>(x, &sizes)));
    let h = recurrence(&mut call, u, |u, h| mixlab_ops::scan_tv_from(u, g, h));
    call.shaped(lower(h))
}

/// `[B, T, Da, Db]` for the updates of a matrix scan.
pub fn matrix_view(site: &Site<'_>, input: &Dims) -> Result<Dims, Fault> {
    let [.., rows, columns] = input[..] else {
        let hint = "`U` ends in the sizes of a matrix; `outer` makes such updates";
        return Err(Fault::new("updates need two axes", hint));
    };
    let inferred = [site.extent.batch, site.extent.seq, rows, columns];
    view(site, &["B", "T", "Da", "Db"], &inferred, input)
}

/// `[B·T, Da, Db]`.
pub fn matrix_scan_shape(site: &Site<'_>, inputs: &[Dims]) -> Result<Vec<Dims>, Fault> {
    let sizes = matrix_view(site, &inputs[0])?;
    expect_count("g", &inputs[1], &sizes[..3].to_vec())?;
    Ok(vec![vec![sizes[0] * sizes[1], sizes[2], sizes[3]]])
}

/// A linear recurrence of matrices.
pub fn matrix_scan<B: Backend>(mut call: Call<'_, B>) -> Vec<FloatTensor<B>> {
    let [update, g] = call.take();
    let sizes =
        matrix_view(&call.site, &dims::<B>(&update)).expect("planning has checked the view");
    let update = lift::<B, 4>(reshape::<B>(update, &sizes));
    let g = lift::<B, 3>(reshape::<B>(g, &sizes[..3]));
    let h = recurrence(&mut call, update, |update, h| mixlab_ops::matrix_scan_from(update, g, h));
    call.shaped(lower(h))
}
