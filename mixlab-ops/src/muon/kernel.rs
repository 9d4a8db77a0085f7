//! Kernels: momentum into the batch, the iteration around the matrix products, and the step.

use burn::tensor::DType;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::prelude::*;

use super::orthogonalize::QUINTIC;
use super::{Momentum, MuonStep, Orthogonalize};
use crate::all;
use crate::plumbing::cube::{
    contiguous, elementwise, empty, narrow, owned, per_launch, spread, vector_size,
};
use crate::plumbing::product::{Rows, product, transposed};
use crate::plumbing::reduce::cube_sum;

/// Units of a cube that sums.
const UNITS: usize = 256;
/// Cubes that share the sum of one matrix.
const PARTS: usize = 16;

/// Of the vectors of some matrices, one after the other, as they lie in the batch from `offset` on.
#[cube(launch_unchecked)]
fn momentum_kernel<N: Size>(
    grads: &Sequence<Array<Vector<f32, N>>>,
    factor: &Array<f32>,
    momenta: &mut Sequence<Array<Vector<f32, N>>>,
    batch: &mut Array<Vector<f32, N>>,
    momentum: f32,
    offset: u32,
    #[comptime] nesterov: bool,
    #[comptime] count: usize,
) {
    let factor = factor[0];
    // In the unit's own matrix; past the end of earlier ones, and a large number for later ones.
    let mut at = ABSOLUTE_POS;
    #[unroll]
    for k in 0..count {
        let before = momenta.index_mut(k);
        if at < before.len() && factor >= 0.0 {
            let momentum = Vector::<f32, N>::new(momentum);
            let g = grads.index(k)[at] * Vector::new(factor);
            let next = before[at] * momentum + g;
            before[at] = next;
            if comptime!(nesterov) {
                batch[offset as usize + ABSOLUTE_POS] = g + next * momentum;
            } else {
                batch[offset as usize + ABSOLUTE_POS] = next;
            }
        }
        at -= before.len();
    }
}

/// As [`momentum_kernel`].
#[cube(launch_unchecked)]
fn step_kernel<N: Size>(
    batch: &Array<Vector<f32, N>>,
    factor: &Array<f32>,
    weights: &mut Sequence<Array<Vector<f32, N>>>,
    lr: f32,
    decay: f32,
    offset: u32,
    #[comptime] count: usize,
) {
    let factor = factor[0];
    let mut at = ABSOLUTE_POS;
    #[unroll]
    for k in 0..count {
        let weight = weights.index_mut(k);
        if at < weight.len() && factor >= 0.0 {
            let w = weight[at];
            let update = batch[offset as usize + ABSOLUTE_POS];
            weight[at] = w - w * Vector::new(decay) - update * Vector::new(lr);
        }
        at -= weight.len();
    }
}

/// `x` to the nearest bfloat16, by its bits: round half to even. A NaN stays one.
#[cube]
fn to_bf16(x: f32) -> f32 {
    let bits = u32::reinterpret(x);
    let rounded = bits + 0x7fffu32 + ((bits >> 16u32) & 1u32);
    let finite = (bits & 0x7f80_0000u32) != 0x7f80_0000u32;
    f32::reinterpret(select(finite, rounded & 0xffff_0000u32, bits))
}

/// Part `CUBE_POS_X` of the sum of squares of matrix `CUBE_POS_Y`.
#[cube(launch_unchecked)]
fn squares_kernel(x: &Array<f32>, sums: &mut Array<f32>, matrix: u32) {
    let unit = UNIT_POS as usize;
    let start = CUBE_POS_Y as usize * matrix as usize;
    let mut at = CUBE_POS_X as usize * UNITS.comptime() + unit;
    let mut sum = 0.0f32;
    while at < matrix as usize {
        let v = to_bf16(x[start + at]);
        sum += v * v;
        at += UNITS.comptime() * PARTS.comptime();
    }
    let sum = cube_sum(sum, UNITS);
    if unit == 0 {
        sums[CUBE_POS_Y as usize * PARTS.comptime() + CUBE_POS_X as usize] = sum;
    }
}

/// Each matrix, rounded to bfloat16, over its norm; zeros between rows.
#[cube(launch_unchecked)]
fn normalize_kernel<F: Float>(
    x: &Array<f32>,
    sums: &Array<f32>,
    y: &mut Array<F>,
    rows: u32,
    columns: u32,
    step: u32,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS < y.len() {
        let (row, column) = (ABSOLUTE_POS / step as usize, ABSOLUTE_POS % step as usize);
        let index = row / rows as usize;
        let mut sum = 0.0f32;
        for part in 0..PARTS.comptime() {
            sum += sums[index * PARTS.comptime() + part];
        }
        let at = row * columns as usize + min(column, columns as usize - 1);
        let value = to_bf16(x[at]) / (f32::sqrt(sum) + 1e-7);
        y[ABSOLUTE_POS] = F::cast_from(select(column < columns as usize, value, 0.0f32));
    }
}

/// `p·x + q·y`; the rows of the result may be closer together.
#[cube(launch_unchecked)]
fn combine_kernel<F: Float, G: Float, N: Size>(
    x: &Array<Vector<F, N>>,
    y: &Array<Vector<F, N>>,
    out: &mut Array<Vector<G, N>>,
    p: f32,
    q: f32,
    columns: u32,
    step: u32,
    #[define(F, G)] _dtypes: [StorageType; 2],
) {
    if ABSOLUTE_POS < out.len() {
        let (row, column) = (ABSOLUTE_POS / columns as usize, ABSOLUTE_POS % columns as usize);
        let at = row * step as usize + column;
        let x = Vector::<f32, N>::cast_from(x[at]);
        let y = Vector::<f32, N>::cast_from(y[at]);
        out[ABSOLUTE_POS] = Vector::cast_from(x * Vector::new(p) + y * Vector::new(q));
    }
}

pub(super) fn momentum<R: CubeRuntime>(
    op: &Momentum,
    inputs: Vec<CubeTensor<R>>,
) -> Vec<CubeTensor<R>> {
    let mut inputs = inputs.into_iter();
    let [factor, batch] = all(inputs.by_ref().take(2).collect());
    let (factor, batch) = (contiguous(factor), owned(batch));
    let together = per_launch(&factor, 2, 2);
    let (client, size) = (batch.client.clone(), vector_size(&batch));
    let mut index = op.index;
    let mut outputs = vec![batch.clone()];
    while inputs.len() > 0 {
        let [mut grads, mut momenta] = [(); 2].map(|()| SequenceArg::new());
        let count = together.min(inputs.len() / 2);
        for _ in 0..count {
            let [grad, before] = all(inputs.by_ref().take(2).collect());
            let before = owned(before);
            grads.push(contiguous(grad).into_array_arg());
            momenta.push(before.clone().into_array_arg());
            outputs.push(before);
        }
        let vectors = matrix(&batch) / size;
        let (cubes, cube) = spread(count * vectors, 256);
        // SAFETY: gradients and momenta are matrices of the batch's shape, the batch has `count`
        // of them from `index` on, and units past the end do nothing.
        unsafe {
            momentum_kernel::launch_unchecked::<R>(
                &client,
                cubes,
                cube,
                size,
                grads,
                factor.clone().into_array_arg(),
                momenta,
                batch.clone().into_array_arg(),
                op.momentum,
                narrow(index * vectors),
                op.nesterov,
                count,
            );
        }
        index += count;
    }
    outputs
}

/// Elements of a matrix of `batch`.
fn matrix<R: CubeRuntime>(batch: &CubeTensor<R>) -> usize {
    batch.meta.shape()[1..].iter().product()
}

pub(super) fn step<R: CubeRuntime>(
    op: &MuonStep,
    inputs: Vec<CubeTensor<R>>,
) -> Vec<CubeTensor<R>> {
    let mut inputs = inputs.into_iter();
    let [factor, batch] = all::<_, 2>(inputs.by_ref().take(2).collect()).map(contiguous);
    let weights: Vec<_> = inputs.map(owned).collect();
    let (client, size) = (batch.client.clone(), vector_size(&batch));
    let vectors = matrix(&batch) / size;
    let mut index = op.index;
    for weights in weights.chunks(per_launch(&factor, 1, 2)) {
        let (cubes, cube) = spread(weights.len() * vectors, 256);
        // SAFETY: as above.
        unsafe {
            step_kernel::launch_unchecked::<R>(
                &client,
                cubes,
                cube,
                size,
                batch.clone().into_array_arg(),
                factor.clone().into_array_arg(),
                weights.iter().cloned().map(CubeTensor::into_array_arg).collect(),
                op.lr,
                op.decay,
                narrow(index * vectors),
                weights.len(),
            );
        }
        index += weights.len();
    }
    weights
}

/// The batch rounded and normalised, in the type of the iteration, its rows as those of products.
fn normalized<R: CubeRuntime>(batch: CubeTensor<R>, dtype: DType) -> CubeTensor<R> {
    let batch = contiguous(batch);
    let [s, r, c] = batch.meta.shape().dims();
    let step = c.next_multiple_of(16 / dtype.size());
    let client = batch.client.clone();
    let sums = empty(&batch, [s * PARTS], DType::F32);
    let mut y = empty(&batch, [s, r, step], dtype);
    let (count, cube) = spread(s * r * step, 256);
    // SAFETY: `s` rows of cubes for `s` matrices of `r·c` elements; then a unit an element.
    unsafe {
        squares_kernel::launch_unchecked::<R>(
            &client,
            CubeCount::Static(PARTS as u32, narrow(s), 1),
            CubeDim::new_1d(UNITS as u32),
            batch.clone().into_array_arg(),
            sums.clone().into_array_arg(),
            narrow(r * c),
        );
        normalize_kernel::launch_unchecked::<R>(
            &client,
            count,
            cube,
            batch.into_array_arg(),
            sums.into_array_arg(),
            y.clone().into_array_arg(),
            narrow(r),
            narrow(c),
            narrow(step),
            dtype.into(),
        );
    }
    y.meta.shape = [s, r, c].into();
    y
}

/// `p·x + q·y`, its rows as those of `x` and `y`, or without gaps as a tensor of type `dense`.
fn combine<R: CubeRuntime>(
    [p, q]: [f32; 2],
    [x, y]: [CubeTensor<R>; 2],
    dense: Option<DType>,
) -> CubeTensor<R> {
    let shape = x.meta.shape().clone();
    let columns = shape[2];
    let ([x, y], gaps) = elementwise([x, y]);
    let step = x.meta.shape()[2];
    let out = match dense {
        Some(dtype) => empty(&x, shape, dtype),
        None => empty(&x, x.meta.shape().clone(), x.dtype),
    };
    let columns = if dense.is_some() { columns } else { step };
    let size = vector_size(&x).min(vector_size(&out));
    let (cubes, cube) = spread(out.meta.num_elements() / size, 256);
    let (client, types) = (x.client.clone(), [x.dtype.into(), out.dtype.into()]);
    // SAFETY: a unit for each vector of `out`, which has as many rows as `x` and `y`, of at most as
    // many columns.
    unsafe {
        combine_kernel::launch_unchecked::<R>(
            &client,
            cubes,
            cube,
            size,
            x.into_array_arg(),
            y.into_array_arg(),
            out.clone().into_array_arg(),
            p,
            q,
            narrow(columns / size),
            narrow(step / size),
            types,
        );
    }
    if dense.is_some() { out } else { gaps.restore(out) }
}

pub(super) fn orthogonalize<R: CubeRuntime>(
    op: &Orthogonalize,
    batch: CubeTensor<R>,
) -> CubeTensor<R> {
    let [a, b, c] = QUINTIC;
    let [_, rows, columns] = batch.meta.shape().dims::<3>();
    let (dtype, precision) = (op.precision.operand(), op.precision);
    let multiply = |x: &CubeTensor<R>, y: &CubeTensor<R>| {
        product(x.clone(), y.clone(), precision, dtype, Rows::Aligned)
    };
    let mut x = normalized(batch, dtype);
    // `XᵀX` for tall matrices: the iteration of the transpose, without transposing.
    let tall = rows > columns;
    for step in 1..=op.steps {
        let t = transposed(x.clone());
        let gram = if tall { multiply(&t, &x) } else { multiply(&x, &t) };
        let square = multiply(&gram, &gram);
        let mix = combine([b, c], [gram, square], None);
        let y = if tall { multiply(&x, &mix) } else { multiply(&mix, &x) };
        x = combine([a, 1.0], [x, y], (step == op.steps).then_some(DType::F32));
    }
    contiguous(burn_cubecl::kernel::cast(x, DType::F32))
}
