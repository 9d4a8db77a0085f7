//! Weights and gradients out of a module, and back into it.

use std::sync::Arc;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;
use burn_backend::tensor::FloatTensor;
use mixlab_ops::{Backend, lift, lower};

/// The gradient of each weight of a model, in the order of its weights.
///
/// Between [`Optimizer::gradients`](super::Optimizer::gradients) and
/// [`Optimizer::apply`](super::Optimizer::apply) they can be added to others, averaged over devices,
/// or taken away.
#[derive(Clone, Debug)]
pub struct Gradients<B: Backend> {
    /// Names of the weights in files.
    pub(super) names: Arc<[String]>,
    pub(super) values: Vec<Option<FloatTensor<B>>>,
}

impl<B: Backend> Gradients<B> {
    /// Name of each weight in files, and its gradient, of the weight's shape: `None` if the loss
    /// does not depend on the weight, which then only decays.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Option<FloatTensor<B>>)> {
        self.names.iter().map(String::as_str).zip(&self.values)
    }

    /// As [`Gradients::iter`].
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut Option<FloatTensor<B>>)> {
        self.names.iter().map(String::as_str).zip(&mut self.values)
    }
}

/// The gradient of each weight of `module`, taken out of `grads`.
pub(super) fn gradients<A, M>(
    module: &M,
    grads: &mut A::Gradients,
) -> Vec<Option<FloatTensor<A::InnerBackend>>>
where
    A: AutodiffBackend<InnerBackend: Backend>,
    M: Module<A>,
{
    let mut collect = Collect::<A> { grads, found: Vec::new() };
    module.visit(&mut collect);
    collect.found
}

struct Collect<'a, A: AutodiffBackend> {
    grads: &'a mut A::Gradients,
    found: Vec<Option<FloatTensor<A::InnerBackend>>>,
}

impl<A: AutodiffBackend<InnerBackend: Backend>> ModuleVisitor<A> for Collect<'_, A> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<A, D>>) {
        self.found.push(param.val().grad_remove(self.grads).map(lower));
    }
}

/// The values of all weights of `module`, in order, shared with it.
pub(super) fn weights<A, M>(module: &M) -> Vec<FloatTensor<A::InnerBackend>>
where
    A: AutodiffBackend<InnerBackend: Backend>,
    M: Module<A>,
{
    struct Weights<B: Backend>(Vec<FloatTensor<B>>);
    impl<A: AutodiffBackend<InnerBackend: Backend>> ModuleVisitor<A> for Weights<A::InnerBackend> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<A, D>>) {
            self.0.push(lower(param.val().inner()));
        }
    }
    let mut found = Weights::<A::InnerBackend>(Vec::new());
    module.visit(&mut found);
    found.0
}

/// Puts the weights of `module` into one graph of autodiff before it is run ([`Backend::join`]).
pub(crate) fn join<A, M>(module: &M)
where
    A: AutodiffBackend + Backend,
    M: Module<A>,
{
    struct Leaves<A: Backend>(Vec<FloatTensor<A>>);
    impl<A: AutodiffBackend + Backend> ModuleVisitor<A> for Leaves<A> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<A, D>>) {
            self.0.push(lower(param.val()));
        }
    }
    let mut leaves = Leaves::<A>(Vec::new());
    module.visit(&mut leaves);
    A::join(leaves.0);
}

/// `module` with other values of its weights, each a leaf of its own: gradients of the loss of that
/// are gradients by those values.
pub(super) fn with_weights<A, M>(module: &M, weights: Vec<FloatTensor<A::InnerBackend>>) -> M
where
    A: AutodiffBackend<InnerBackend: Backend>,
    M: Module<A>,
{
    let weights = weights.into_iter().map(Some);
    module.clone().map(&mut Put { weights })
}

/// `module` with leaves of its own, as every backward needs them: Burn 0.21 forgets the leaves that one
/// has read, and then drops what a later forward computes from them whenever another thread ends a
/// backward, so that the gradient lacks it.
pub(super) fn renewed<A, M>(module: &M) -> M
where
    A: AutodiffBackend<InnerBackend: Backend>,
    M: Module<A>,
{
    with_weights(module, weights::<A, M>(module))
}

impl<B: Backend> Gradients<B> {
    /// `sum`, if there is one, and `share` times `other`.
    pub(super) fn add(sum: Option<Self>, other: Self, share: f32) -> Self {
        let scaled = |x| B::float_mul_scalar(x, share.into());
        let Some(sum) = sum else {
            let values = other.values.into_iter().map(|x| x.map(scaled)).collect();
            return Self { values, ..other };
        };
        let pairs = sum.values.into_iter().zip(other.values);
        let values = pairs.map(|pair| match pair {
            (Some(sum), Some(x)) => Some(B::float_add(sum, scaled(x))),
            (sum, x) => sum.or(x.map(scaled)),
        });
        Self { values: values.collect(), names: sum.names }
    }
}

/// Takes each weight out of the module, so that nobody else holds it while it is updated.
pub(super) struct Take<B: Backend> {
    pub weights: Vec<Option<FloatTensor<B>>>,
    /// What the module has meanwhile.
    pub stand_in: FloatTensor<B>,
}

impl<A: AutodiffBackend<InnerBackend: Backend>> ModuleMapper<A> for Take<A::InnerBackend> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<A, D>>) -> Param<Tensor<A, D>> {
        param.map(|weight| {
            let trained = weight.is_require_grad();
            self.weights.push(Some(lower(weight.inner())));
            Tensor::from_inner(lift(self.stand_in.clone())).set_require_grad(trained)
        })
    }
}

/// Gives each weight its new value.
pub(super) struct Put<W> {
    pub weights: W,
}

impl<A, W> ModuleMapper<A> for Put<W>
where
    A: AutodiffBackend<InnerBackend: Backend>,
    W: Iterator<Item = Option<FloatTensor<A::InnerBackend>>>,
{
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<A, D>>) -> Param<Tensor<A, D>> {
        let weight = self.weights.next().flatten().expect("every weight is given back");
        param.map(|old| Tensor::from_inner(lift(weight)).set_require_grad(old.is_require_grad()))
    }
}
