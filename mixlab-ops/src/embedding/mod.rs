//! Rows of a table by their numbers.
//!
//! `y_n = E[id_n]`, and `∂E[v] = Σ_{n: id_n = v} g_n`, summed in the order of `n`: the same sum in
//! every run, which scattering with atomic additions does not give.

#[cfg(feature = "cube")]
mod kernel;

use burn::tensor::{IndexingUpdateOp, Int, Tensor};
use burn_backend::tensor::{FloatTensor, IntTensor};
#[cfg(feature = "cube")]
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};

use crate::{Backend, Op, Spec, Tape, all, lift, lower, run};

/// Attributes of [`embedding`].
#[derive(Clone, Debug)]
pub struct Embedding {
    /// `N`: how many rows are read.
    pub count: usize,
}

/// The gradient of [`Embedding`], of the table, which only gives its size, and of the gradient of
/// the output.
#[derive(Clone, Debug)]
pub struct EmbeddingGradient;

/// The rows `[N, D]` of `table` `[V, D]` that `ids` `[N]` number.
///
/// An id outside `0..V` is undefined behaviour of the backend: check the data before.
pub fn embedding<B: Backend>(table: Tensor<B, 2>, ids: Tensor<B, 1, Int>) -> Tensor<B, 2> {
    let op = Embedding { count: ids.dims()[0] };
    run(&op, [lower(table)], vec![ids.into_primitive()])
}

impl Op<1> for Embedding {
    const NAME: &'static str = "mixlab.embedding";
    const GRADIENT: bool = true;

    fn outputs(&self, [table]: &[Spec; 1]) -> Vec<Spec> {
        vec![Spec { shape: [self.count, table.shape[1]].into(), dtype: table.dtype }]
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        [table]: [FloatTensor<B>; 1],
        ints: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        vec![B::float_select(table, 0, ints[0].clone())]
    }

    fn trim<B: burn::tensor::backend::Backend>(&self, tape: &mut Tape<B, 1>) {
        tape.outputs.clear();
    }

    fn gradient<B: Backend>(
        &self,
        mut tape: Tape<B, 1>,
        grad: FloatTensor<B>,
    ) -> [FloatTensor<B>; 1] {
        let [table] = tape.inputs();
        all(B::execute(&EmbeddingGradient, [table, grad], tape.ints))
    }
}

impl Op<2> for EmbeddingGradient {
    const NAME: &'static str = "mixlab.embedding_gradient";
    const KERNEL: bool = true;

    fn outputs(&self, [table, _]: &[Spec; 2]) -> Vec<Spec> {
        vec![table.clone()]
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        [table, grad]: [FloatTensor<B>; 2],
        ints: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        let zeros = lift::<B, 2>(table).zeros_like();
        let ids = Tensor::<B, 1, Int>::from_primitive(ints[0].clone());
        vec![lower(zeros.select_assign(0, ids, lift(grad), IndexingUpdateOp::Add))]
    }

    #[cfg(feature = "cube")]
    fn cube<R: CubeRuntime>(
        &self,
        [table, grad]: [CubeTensor<R>; 2],
        ints: Vec<CubeTensor<R>>,
    ) -> Vec<CubeTensor<R>> {
        vec![kernel::gradient(table, grad, ints)]
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests;
