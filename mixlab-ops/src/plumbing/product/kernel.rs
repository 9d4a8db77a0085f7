//! Which kernel multiplies, and cubek's.

use burn::tensor::DType;
use burn_cubecl::kernel::cast;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubek::matmul::definition::{MatmulElems, MatmulGlobalElems};
use cubek::matmul::launch::{Strategy, launch_ref};
use cubek::std::InputBinding;

#[cfg(feature = "cuda")]
use super::copies::with_padded_rows;
#[cfg(feature = "cuda")]
use super::hopper;
use super::{Precision, portable};
use crate::plumbing::cube::empty;

/// How the rows of a product lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rows {
    /// Without gaps.
    Dense,
    /// Where it helps, with gaps up to a multiple of 16 bytes: for what goes into another product.
    Aligned,
}

/// `a b` in the given precision, as a tensor of type `out`. `a` is `[…, N, K]`, `b` `[…, K, M]`, of
/// any strides: in bf16 a transposed view costs nothing.
pub(crate) fn product<R: CubeRuntime>(
    a: CubeTensor<R>,
    b: CubeTensor<R>,
    precision: Precision,
    out: DType,
    _rows: Rows,
) -> CubeTensor<R> {
    let [a, b] = [a, b].map(|x| operand(x, precision));
    #[cfg(feature = "cuda")]
    if hopper::takes([&a, &b], precision) {
        return hopper::product([a, b], precision, out, _rows);
    }
    let rounds = R::name(&a.client) == "cuda";
    match precision {
        Precision::Bf16 if portable::has_matrix_units(&a) => portable::product([a, b], out),
        Precision::Bf16 => by_cubek(a, b, out),
        Precision::Tf32 if rounds => by_cubek(a, b, out),
        Precision::F32 | Precision::Tf32 => portable::product([a, b], out),
    }
}

/// `x` in the type of the operands.
pub(crate) fn operand<R: CubeRuntime>(x: CubeTensor<R>, precision: Precision) -> CubeTensor<R> {
    if x.dtype == precision.operand() { x } else { cast(x, precision.operand()) }
}

/// `x` for two products, once by rows and once by columns: with aligned rows if that saves copies.
pub(crate) fn read_twice<R: CubeRuntime>(x: CubeTensor<R>, _precision: Precision) -> CubeTensor<R> {
    #[cfg(feature = "cuda")]
    if _precision != Precision::F32
        && hopper::available(&x)
        && x.is_contiguous()
        && !(x.meta.shape()[1] * x.elem_size()).is_multiple_of(16)
    {
        return with_padded_rows(x, 16);
    }
    x
}

/// `x` with its last two axes swapped, without a copy.
pub(crate) fn transposed<R: CubeRuntime>(mut x: CubeTensor<R>) -> CubeTensor<R> {
    let rank = x.meta.shape().num_dims();
    x.meta.swap(rank - 2, rank - 1);
    x
}

/// The product by cubek, with matrix units if it has kernels for those of the device.
fn by_cubek<R: CubeRuntime>(a: CubeTensor<R>, b: CubeTensor<R>, out: DType) -> CubeTensor<R> {
    let mut shape = a.meta.shape().to_vec();
    let last = shape.len() - 1;
    shape[last] = b.meta.shape()[last];
    let y = empty(&a, shape, out);
    let candidates = [Strategy::Auto, Strategy::SimpleUnit(Default::default()), Strategy::Naive];
    let launched = candidates.iter().any(|strategy| {
        let global =
            MatmulGlobalElems { lhs: a.dtype.into(), rhs: b.dtype.into(), out: out.into() };
        let [lhs, rhs] = [&a, &b].map(|x| InputBinding::new(x.clone().binding(), x.dtype.into()));
        let mut types = MatmulElems::from_globals(&global);
        launch_ref(strategy, &y.client, lhs, rhs, y.clone().binding(), &mut types).is_ok()
    });
    assert!(launched, "cubek has no kernel for {a:?} times {b:?}");
    y
}
