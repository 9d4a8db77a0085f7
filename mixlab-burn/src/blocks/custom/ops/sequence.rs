//! Operations along the sequence.

use burn::tensor::{Bool, Tensor};
use burn_backend::tensor::FloatTensor;
use mixlab_ops::{Activation, Backend, activate, attention, lift, lower, matrix_scan as matrices};

use super::{Call, Dims, Site, dims, reshape};
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
    let [q, k, v] = inputs.map(|x| call.flow.activation(x));
    vec![lower(attention(q, k, v, scale, call.flow.precision).cast(dtype))]
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
    let (seq, channels) = (view[1], view[2]);
    let a = lift::<B, 3>(reshape::<B>(a, &view));
    let w = lift::<B, 2>(w);
    let taps = w.dims()[0];
    let before =
        Tensor::<B, 3>::zeros([a.dims()[0], taps - 1, channels], call.device).cast(a.dtype());
    let padded = if taps > 1 { Tensor::cat(vec![before, a], 1) } else { a };
    let term = |k: usize| padded.clone().narrow(1, k, seq) * w.clone().narrow(0, k, 1).unsqueeze();
    let y = (1..taps).fold(term(0), |sum, k| sum + term(k));
    call.shaped(lower(y))
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

/// A moving average with one decay per channel.
pub fn scan<B: Backend>(mut call: Call<'_, B>) -> Vec<FloatTensor<B>> {
    let [u, decay] = call.take();
    let sizes = scan_view(&call.site, &dims::<B>(&u)).expect("planning has checked the view");
    let u = lift::<B, 3>(reshape::<B>(u, &sizes));
    let decay = lift::<B, 2>(reshape::<B>(decay, &[1, sizes[2]]));
    let gate = activate(Activation::Sigmoid, decay).flatten::<1>(0, 1);
    call.shaped(lower(mixlab_ops::scan(u, gate)))
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
    call.shaped(lower(mixlab_ops::scan_tv(u, g)))
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
    call.shaped(lower(matrices(update, g)))
}
