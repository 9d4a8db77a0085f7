//! Rows of a table by their numbers.
//!
//! `y_n = E[id_n]`, and `∂E[v] = Σ_{n: id_n = v} g_n`, summed in an order that depends on the ids
//! alone: the same sum in every run, which scattering with atomic additions does not give.

#[cfg(feature = "cube")]
mod kernel;

use burn::tensor::{Bool, IndexingUpdateOp, Int, Tensor};
use burn_backend::tensor::{FloatTensor, IntTensor};
#[cfg(feature = "cube")]
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};

use crate::plumbing::indices::within;
use crate::{Axes, Backend, Mismatch, Op, Spec, Tape, all, indices, lift, lower, run};

/// [`embedding`] has no attributes.
#[derive(Clone, Debug)]
pub struct Embedding;

/// The gradient of [`Embedding`], of the table, which only gives its size, and of the gradient of
/// the output.
#[derive(Clone, Debug)]
pub struct EmbeddingGradient;

/// The rows `[N, D]` of `table` `[V, D]` that `ids` `[N]` number.
///
/// An id outside `0..V`, like −1, stands for no row: it reads zeros, and its gradient goes nowhere.
pub fn embedding<B: Backend>(table: Tensor<B, 2>, ids: Tensor<B, 1, Int>) -> Tensor<B, 2> {
    run(&Embedding, [lower(table)], vec![ids.into_primitive()])
}

/// `ids` `[N]` brought within the rows of `table` `[V, D]`, and `[N, D]` where they stood for none.
fn rows<B: burn::tensor::backend::Backend>(
    table: &Tensor<B, 2>,
    ids: &IntTensor<B>,
) -> (Tensor<B, 1, Int>, Tensor<B, 2, Bool>) {
    let [classes, width] = table.dims();
    let (ids, none) = within::<B>(ids, classes);
    let shape = [ids.dims()[0], width];
    (ids, none.unsqueeze_dim::<2>(1).expand(shape))
}

impl Op<1> for Embedding {
    const NAME: &'static str = "mixlab.embedding";
    const GRADIENT: bool = true;
    const KEEPS_OUTPUT: bool = false;
    const KERNEL: bool = true;

    fn outputs(&self, [table]: &[Spec; 1], ints: &[Spec]) -> Result<Vec<Spec>, Mismatch> {
        let mut axes = Axes::default();
        let [_, width] = axes.of("table", table, ["V", "D"])?;
        let [ids] = indices(ints)?;
        let [count] = axes.of("ids", ids, ["N"])?;
        Ok(vec![Spec::new([count, width], table.dtype)])
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        [table]: [FloatTensor<B>; 1],
        ints: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        let table = lift::<B, 2>(table);
        let (ids, none) = rows::<B>(&table, &ints[0]);
        vec![lower(table.select(0, ids).mask_fill(none, 0.0))]
    }

    fn gradient<B: Backend>(
        &self,
        mut tape: Tape<B, 1>,
        grad: FloatTensor<B>,
    ) -> [FloatTensor<B>; 1] {
        let [table] = tape.inputs();
        all(B::execute(&EmbeddingGradient, [table, grad], tape.ints))
    }

    #[cfg(feature = "cube")]
    unsafe fn cube<R: CubeRuntime>(
        &self,
        [table]: [CubeTensor<R>; 1],
        ints: Vec<CubeTensor<R>>,
    ) -> Vec<CubeTensor<R>> {
        let [ids] = all(ints);
        vec![kernel::rows(table, ids)]
    }
}

impl Op<2> for EmbeddingGradient {
    const NAME: &'static str = "mixlab.embedding_gradient";
    const KERNEL: bool = true;

    fn outputs(&self, [table, grad]: &[Spec; 2], ints: &[Spec]) -> Result<Vec<Spec>, Mismatch> {
        let mut axes = Axes::default();
        axes.of("table", table, ["V", "D"])?;
        axes.of("grad", grad, ["N", "D"])?;
        let [ids] = indices(ints)?;
        axes.of("ids", ids, ["N"])?;
        Ok(vec![table.clone()])
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        [table, grad]: [FloatTensor<B>; 2],
        ints: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        let zeros = lift::<B, 2>(table).zeros_like();
        let (ids, none) = rows::<B>(&zeros, &ints[0]);
        let grad = lift::<B, 2>(grad).cast(zeros.dtype()).mask_fill(none, 0.0);
        vec![lower(zeros.select_assign(0, ids, grad, IndexingUpdateOp::Add))]
    }

    #[cfg(feature = "cube")]
    unsafe fn cube<R: CubeRuntime>(
        &self,
        [table, grad]: [CubeTensor<R>; 2],
        ints: Vec<CubeTensor<R>>,
    ) -> Vec<CubeTensor<R>> {
        let [ids] = all(ints);
        vec![kernel::gradient(table, grad, ids)]
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests;
