//! Low-rank adapters (Hu et al., 2021) on every weight: `W + A·B`, without a factor.

use burn::module::Module;
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Tensor, TensorData};
use burn_backend::TensorMetadata;
use burn_backend::tensor::FloatTensor;
use mixlab_ops::{Backend, lift, lower};

use crate::random::Generator;
use crate::train::parameters::{gradients, weights, with_weights};
use crate::train::{Assignment, Optimizer, OptimizerPlan};

/// Spread of the second factor before the first step; the first factor is 0.
const SPREAD: f64 = 0.01;

/// Two factors for each weight of a model, and the optimizer that updates them. A weight that is no
/// matrix is one row.
pub struct Adapters<B: Backend> {
    /// `A` `[rows, rank]` and `B` `[rank, columns]`, in the order of the weights.
    pub factors: Vec<[Tensor<B, 2>; 2]>,
    optimizer: Optimizer<B>,
}

impl<B: Backend> Adapters<B> {
    /// Adapters that change nothing yet, with the second factor drawn from `generator`.
    pub fn drawn(
        plan: &OptimizerPlan,
        rank: usize,
        generator: &mut Generator,
        device: &B::Device,
    ) -> Self {
        let factors = plan.weights.iter().map(|weight| {
            let [rows, columns] = matrix(&weight.shape);
            let draws = (0..rank * columns).map(|_| (generator.normal() * SPREAD) as f32);
            let drawn = TensorData::new(draws.collect::<Vec<_>>(), [rank, columns]);
            [Tensor::zeros([rows, rank], device), Tensor::from_data(drawn, device)]
        });
        Self::new(plan, factors.collect(), device)
    }

    /// Adapters with these factors, which learn as the weights of `plan` do, but do not decay.
    pub fn new(plan: &OptimizerPlan, factors: Vec<[Tensor<B, 2>; 2]>, device: &B::Device) -> Self {
        let pairs = plan.weights.iter().zip(&factors);
        let of_factors = pairs.flat_map(|(weight, pair)| {
            ["a", "b"].into_iter().zip(pair).map(|(part, factor)| Assignment {
                name: format!("{}.{part}", weight.name),
                shape: factor.dims().to_vec(),
                decay: false,
                ..weight.clone()
            })
        });
        let plan = OptimizerPlan { weights: of_factors.collect(), ..plan.clone() };
        Self { factors, optimizer: Optimizer::of(plan, None, device) }
    }

    /// `module` with these adapters; the values of its weights are leaves.
    pub fn on<A, M>(&self, module: &M) -> M
    where
        A: AutodiffBackend<InnerBackend = B>,
        M: Module<A>,
    {
        let pairs = weights::<A, M>(module).into_iter().zip(&self.factors);
        let adapted = pairs.map(|(weight, [a, b])| {
            let delta = lower(a.clone().matmul(b.clone()));
            let delta = B::float_reshape(delta, weight.shape());
            B::float_add(weight, delta)
        });
        with_weights::<A, M>(module, adapted.collect())
    }

    /// One update, by the gradients of `adapted`, the module with these adapters: for `W' = W + A·B`
    /// they are `∂A = ∂W'·Bᵀ` and `∂B = Aᵀ·∂W'`.
    pub fn step<A, M>(&mut self, adapted: &M, grads: &mut A::Gradients, lr: f32)
    where
        A: AutodiffBackend<InnerBackend = B>,
        M: Module<A>,
    {
        let by_factor = |(grad, [a, b]): (Option<FloatTensor<B>>, &[Tensor<B, 2>; 2])| {
            let shape = [a.dims()[0], b.dims()[1]];
            let grad = grad.map(|g| lift::<B, 2>(B::float_reshape(g, shape.into())));
            let by_a = grad.clone().map(|g| lower(g.matmul(b.clone().transpose())));
            [by_a, grad.map(|g| lower(a.clone().transpose().matmul(g)))]
        };
        let found = gradients::<A, M>(adapted, grads).into_iter().zip(&self.factors);
        let grads: Vec<_> = found.flat_map(by_factor).collect();
        let health = self.optimizer.health(&grads);
        let factors = self.factors.drain(..).flatten().map(|x| Some(lower(x))).collect();
        let updated = self.optimizer.update(factors, grads, &health, lr);
        let mut updated = updated.into_iter().map(|x| lift(x.expect("each is given back")));
        while let (Some(a), Some(b)) = (updated.next(), updated.next()) {
            self.factors.push([a, b]);
        }
    }
}

/// Rows and columns of a weight as the original keeps it.
fn matrix(shape: &[usize]) -> [usize; 2] {
    match *shape {
        [rows, columns] => [rows, columns],
        _ => [1, shape.iter().product()],
    }
}
