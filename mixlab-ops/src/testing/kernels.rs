//! Kernels against references: the same inputs on a GPU backend and in the reference on burn-flex.
//!
//! Outputs of kernels are allocated full of NaN in tests, so that an element that nobody wrote
//! fails. Inputs come contiguous, as transposed views and with gaps between rows. What runs here is
//! also translated for Metal and WGSL, and the text checked ([`text`](super::text)).

use burn::tensor::{DType, Int, Shape, Slice, Tensor, TensorMetadata};
use burn_backend::ops::FloatTensorOps;
use burn_backend::tensor::FloatTensor;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::full_device_dtype;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeRuntime};
use burn_flex::Flex;
use burn_fusion::Fusion;
use cubecl::prelude::InputScalar;

#[cfg(feature = "wgpu")]
pub use super::text::{TextDevice, TextRuntime, runs_kernels, translated};
use super::{Host, primitive, tensor, with_references};
use crate::{Backend, Op, Precision, Spec, lift};

type Plain<R> = CubeBackend<R, f32, i32, u32>;

const HALVES: [DType; 2] = [DType::F16, DType::BF16];

impl Host {
    /// Its numbers, exact in f32, to the nearest number of `dtype`: f32, f16 or bf16.
    pub fn rounded(&self, dtype: DType) -> Self {
        let round = |v: &f64| match dtype {
            // From f32, which holds the numbers exactly: `from_f64` of `half` looks at the first 32
            // bits alone, and rounds what lies just beyond a tie the wrong way.
            DType::F16 => half::f16::from_f32(*v as f32).to_f64(),
            DType::BF16 => half::bf16::from_f32(*v as f32).to_f64(),
            _ => *v,
        };
        Self { data: self.data.iter().map(round).collect(), shape: self.shape.clone() }
    }
}

/// Runs `op` on every GPU backend of this build and compares all outputs with its reference in
/// f32: to `1e-5` of the largest magnitude in f32, to `2e-2` in half precision.
pub fn same<O: Op<N>, const N: usize>(op: O, inputs: &[Host; N], ints: &[i64]) {
    same_f32(op.clone(), inputs, ints);
    for dtype in HALVES {
        let expected = reference(&op, (inputs, ints), dtype);
        for got in everywhere(&op, (inputs, ints), &[dtype]) {
            compare(O::NAME, (dtype, 2e-2), &got, &expected);
        }
    }
}

/// As [`same`], in half precision alone, on a device with matrix units that this machine pretends to
/// have; nothing if it cannot.
#[cfg(feature = "wgpu")]
pub fn same_by_matrix_units<O: Op<N>, const N: usize>(op: &O, inputs: &[Host; N]) {
    if !runs_kernels() {
        return;
    }
    for dtype in HALVES {
        let expected = reference(op, (inputs, &[]), dtype);
        for arranged in [|x| x, with_gaps::<TextRuntime>] {
            let types = [dtype; 2];
            let device = TextDevice::Runs;
            let got =
                run_on::<Plain<TextRuntime>, O, N>(op, (inputs, &[]), types, arranged, &device);
            translated();
            compare(O::NAME, (dtype, 2e-2), &got, &expected);
        }
    }
}

/// As [`same`], in f32 alone.
pub fn same_f32<O: Op<N>, const N: usize>(op: O, inputs: &[Host; N], ints: &[i64]) {
    within(1e-5, op, inputs, ints);
}

/// As [`same_f32`], for an op that may round its operands to TensorFloat-32.
pub fn near<O: Op<N>, const N: usize>(op: O, inputs: &[Host; N]) {
    within(5e-3, op, inputs, &[]);
}

fn within<O: Op<N>, const N: usize>(tolerance: f32, op: O, inputs: &[Host; N], ints: &[i64]) {
    let expected = reference(&op, (inputs, ints), DType::F32);
    for got in everywhere(&op, (inputs, ints), &[DType::F32]) {
        compare(O::NAME, (DType::F32, tolerance), &got, &expected);
    }
}

/// How an op rounds operands of its products, and how near it comes.
#[derive(Clone, Copy)]
pub struct Rounding<'a> {
    pub precision: Precision,
    /// Of the largest magnitude, in f32.
    pub tolerance: f32,
    /// Types of inputs to try.
    pub held: &'a [DType],
}

/// Runs `op`, whose products round their operands, and compares it with the reference of `exact`, the
/// same op in f32, on inputs that are rounded alike: to the tolerance, or to what the type of the
/// result can tell apart.
pub fn rounding<O: Op<N>, const N: usize>(
    op: &O,
    exact: &O,
    inputs: &[Host; N],
    how: Rounding<'_>,
) {
    for held in how.held.iter().copied() {
        let mut rounded = inputs.each_ref().map(|x| x.rounded(held));
        if how.precision == Precision::Bf16 {
            rounded = rounded.map(|x| x.rounded(DType::BF16));
        }
        let spec = |x: &Host| Spec { shape: Shape::from(x.shape.clone()), dtype: held };
        let written = op.outputs(&inputs.each_ref().map(spec), &[]).expect("inputs fit")[0].dtype;
        let tolerance = how.tolerance.max(step(written));
        let expected = reference(exact, (&rounded, &[]), DType::F32);
        for got in everywhere(op, (inputs, &[]), &[held, how.precision.operand(), written]) {
            compare(O::NAME, (held, tolerance), &got, &expected);
        }
    }
}

/// What rounding to `dtype` adds to an error, of a number's magnitude.
pub fn step(dtype: DType) -> f32 {
    match dtype {
        DType::BF16 => 4e-3,
        DType::F16 => 5e-4,
        _ => 0.0,
    }
}

/// The mean of `(got − expected) / expected` over output `n` of `op`, on each GPU backend of this
/// build, where the reference of `exact` in f32 expects it.
pub fn bias<O: Op<N>, const N: usize>(op: &O, exact: &O, inputs: &[Host; N], n: usize) -> Vec<f64> {
    let expected = &reference(exact, (inputs, &[]), DType::F32)[n];
    let found = everywhere(op, (inputs, &[]), &[DType::F32]);
    let mean = |got: &Vec<Vec<f32>>| {
        let errors = got[n].iter().zip(expected).map(|(g, e)| f64::from(g - e) / f64::from(*e));
        errors.sum::<f64>() / expected.len() as f64
    };
    found.iter().map(mean).collect()
}

/// All outputs of the reference of `op` in f32.
#[cfg(feature = "wgpu")]
pub fn expected<O: Op<N>, const N: usize>(op: &O, inputs: &[Host; N]) -> Vec<Vec<f32>> {
    reference(op, (inputs, &[]), DType::F32)
}

/// All outputs of `op` in f32 on each GPU backend of this build.
pub fn outputs<O: Op<N>, const N: usize>(op: O, inputs: &[Host; N]) -> Vec<Vec<Vec<f32>>> {
    everywhere(&op, (inputs, &[]), &[DType::F32])
}

/// Whether this machine has an NVIDIA card to test, and asks for it; others run wgpu, if only on the
/// processor.
pub fn cuda() -> bool {
    std::env::var_os("MIXLAB_TEST_CUDA").is_some()
}

/// Runs a block with `$runtime` as each GPU runtime of this build that this machine tests, and as the
/// one that only translates: what it computes is nothing, which `$computes` says.
#[cfg(feature = "wgpu")]
macro_rules! on_gpu {
    ($runtime:ident, $computes:ident, $body:block) => {
        {
            #[cfg(feature = "cuda")]
            if $crate::testing::kernels::cuda() {
                type $runtime = cubecl::cuda::CudaRuntime;
                let $computes = true;
                $body
            }
            if !$crate::testing::kernels::cuda() {
                {
                    type $runtime = cubecl::wgpu::WgpuRuntime;
                    let $computes = true;
                    $body
                }
                type $runtime = $crate::testing::kernels::TextRuntime;
                let $computes = false;
                $body
                assert!($crate::testing::kernels::translated() > 0);
            }
        }
    };
}
#[cfg(feature = "wgpu")]
pub(crate) use on_gpu;

/// For inputs held as the first of `types`; a device that lacks one of them is left out.
fn everywhere<O: Op<N>, const N: usize>(
    op: &O,
    inputs: (&[Host; N], &[i64]),
    types: &[DType],
) -> Vec<Vec<Vec<f32>>> {
    assert!(O::KERNEL, "`{}` has no kernel to compare", O::NAME);
    let mut found = Vec::new();
    #[cfg(feature = "wgpu")]
    if !cuda() {
        found.extend(fused::<cubecl::wgpu::WgpuRuntime, _, N>(op, inputs, types));
        on::<TextRuntime, _, N>(op, inputs, types);
        assert!(translated() > 0);
    }
    #[cfg(feature = "cuda")]
    if cuda() {
        found.extend(fused::<cubecl::cuda::CudaRuntime, _, N>(op, inputs, types));
    }
    let refused = crate::fallbacks();
    assert!(refused.is_empty(), "kernels were refused: {refused:?}");
    found
}

/// Contiguous inputs, transposed views, and rows with gaps between them as CUDA makes them; nothing
/// if the device lacks one of `types`, the first of which holds the inputs.
fn on<R: CubeRuntime, O: Op<N>, const N: usize>(
    op: &O,
    inputs: (&[Host; N], &[i64]),
    types: &[DType],
) -> Vec<Vec<Vec<f32>>> {
    let device = Default::default();
    let has = |dtype| <Plain<R> as burn::tensor::backend::Backend>::supports_dtype(&device, dtype);
    if !types.iter().copied().all(has) {
        return vec![];
    }
    let held = [types[0]; 2];
    vec![
        run::<Plain<R>, O, N>(op, inputs, held, |x| x),
        run::<Plain<R>, O, N>(op, inputs, held, transposed::<R>),
        run::<Plain<R>, O, N>(op, inputs, held, with_gaps::<R>),
    ]
}

/// As [`on`], and through `Fusion`.
fn fused<R: CubeRuntime, O: Op<N>, const N: usize>(
    op: &O,
    inputs: (&[Host; N], &[i64]),
    types: &[DType],
) -> Vec<Vec<Vec<f32>>> {
    let mut found = on::<R, O, N>(op, inputs, types);
    if !found.is_empty() {
        found.push(run::<Fusion<Plain<R>>, O, N>(op, inputs, [types[0]; 2], |x| x));
    }
    found
}

/// A copy in the order of the last two axes swapped, looked at in the original one.
fn transposed<R: CubeRuntime>(x: CubeTensor<R>) -> CubeTensor<R> {
    let rank = x.shape().num_dims();
    if rank < 2 {
        return x;
    }
    let swap = |x| <Plain<R> as FloatTensorOps<Plain<R>>>::float_swap_dims(x, rank - 2, rank - 1);
    // `x` is held meanwhile: the product would take its place, and its order.
    let copy =
        <Plain<R> as FloatTensorOps<Plain<R>>>::float_mul_scalar(swap(x.clone()), 1f32.into());
    let y = swap(copy);
    assert_eq!(y.meta.strides()[rank - 2], 1, "neighbours in a column are neighbours in memory");
    y
}

/// A copy whose rows are followed by NaNs that are none of its elements.
fn with_gaps<R: CubeRuntime>(x: CubeTensor<R>) -> CubeTensor<R> {
    let shape = x.shape().to_vec();
    let [.., width] = shape[..] else { return x };
    if shape.len() < 2 {
        return x;
    }
    let mut wide = shape.clone();
    *wide.last_mut().expect("at least two axes") = width + 4 - width % 4;
    let (client, device, dtype) = (x.client.clone(), x.device.clone(), x.dtype);
    let nan = InputScalar::new(f32::NAN, dtype);
    let gaps = full_device_dtype(client, wide.into(), device, nan, dtype);
    let gaps = into_contiguous(gaps);
    let place: Vec<Slice> = shape.iter().map(|&n| (0..n).into()).collect();
    let mut y = <Plain<R> as FloatTensorOps<Plain<R>>>::float_slice_assign(gaps, &place, x);
    y.meta.shape = shape.into();
    y
}

/// What the reference of `op` gives in f32 for inputs rounded to `rounded`.
fn reference<O: Op<N>, const N: usize>(
    op: &O,
    inputs: (&[Host; N], &[i64]),
    rounded: DType,
) -> Vec<Vec<f32>> {
    with_references(|| run::<Flex, O, N>(op, inputs, [rounded, DType::F32], |x| x))
}

/// All outputs of `op` for inputs rounded to one type, held as another, and `arranged` in memory.
fn run<B: Backend, O: Op<N>, const N: usize>(
    op: &O,
    (inputs, ints): (&[Host; N], &[i64]),
    [rounded, held]: [DType; 2],
    arranged: fn(FloatTensor<B>) -> FloatTensor<B>,
) -> Vec<Vec<f32>> {
    run_on::<B, O, N>(op, (inputs, ints), [rounded, held], arranged, &Default::default())
}

/// As [`run`], on `device`.
fn run_on<B: Backend, O: Op<N>, const N: usize>(
    op: &O,
    (inputs, ints): (&[Host; N], &[i64]),
    [rounded, held]: [DType; 2],
    arranged: fn(FloatTensor<B>) -> FloatTensor<B>,
    device: &B::Device,
) -> Vec<Vec<f32>> {
    let float = |x: &Host| -> FloatTensor<B> {
        let flat = match rounded {
            DType::F32 => tensor::<B>(x, device),
            _ => tensor::<B>(&x.rounded(rounded), device).cast(held),
        };
        arranged(primitive(flat, &x.shape))
    };
    let floats = inputs.each_ref().map(float);
    let int = (!ints.is_empty()).then(|| Tensor::<B, 1, Int>::from_ints(ints, device));
    let ints = int.into_iter().map(Tensor::into_primitive).collect();
    let outputs = B::execute(op, floats, ints);
    outputs.into_iter().map(|x| host::<B>(x)).collect()
}

fn host<B: Backend>(x: FloatTensor<B>) -> Vec<f32> {
    let count = x.shape().num_elements();
    let flat: Tensor<B, 1> = lift(B::float_reshape(x, Shape::new([count])));
    flat.cast(DType::F32).into_data().to_vec().expect("cast to f32")
}

pub fn compare(
    name: &str,
    (dtype, tolerance): (DType, f32),
    got: &[Vec<f32>],
    expected: &[Vec<f32>],
) {
    assert_eq!(got.len(), expected.len(), "`{name}`: outputs");
    for (n, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert_eq!(got.len(), expected.len(), "`{name}`: length of output {n}");
        // Smaller results of inputs of size 1 are differences of rounded terms.
        let largest = expected.iter().fold(1e-1f32, |m, v| m.max(v.abs()));
        for (i, (g, e)) in got.iter().zip(expected).enumerate() {
            let error = (g - e).abs() / largest;
            assert!(
                error <= tolerance,
                "`{name}` in {dtype:?}, output {n}[{i}]: got {g}, expected {e} (error {error:e})"
            );
        }
    }
}
