//! Training: an op's hand-written gradient becomes a node of Burn's autodiff graph.

use burn::backend::Autodiff;
use burn::backend::autodiff::{
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::tensor::{DType, FloatDType, backend::AutodiffBackend};
use burn_backend::ops::FloatTensorOps;
use burn_backend::tensor::{FloatTensor, IntTensor};

use crate::shape::checked;
use crate::{Backend, Op, Precision, Spec, Tape};

#[derive(Debug)]
struct Recorded<O>(O);

impl<B: Backend, O: Op<N>, const N: usize> Backward<B, N> for Recorded<O> {
    type State = Tape<B, N>;

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let inputs = self.0.gradient(ops.state, grad);
        for (parent, grad) in ops.parents.into_iter().zip(inputs) {
            if let Some(node) = parent {
                grads.register::<B>(node.id, grad);
            }
        }
    }
}

/// What reads up to [`JOIN_PARENTS`] tensors and is read by nobody.
#[derive(Debug)]
struct Join;

/// More weights than models have whose steps are short.
const JOIN_PARENTS: usize = 1024;

impl<B: Backend> Backward<B, JOIN_PARENTS> for Join {
    type State = ();

    fn backward(self, _: Ops<(), JOIN_PARENTS>, _: &mut Gradients, _: &mut Checkpointer) {
        unreachable!("no loss reads what joins leaves")
    }
}

impl<B: Backend, C: CheckpointStrategy> Backend for Autodiff<B, C> {
    fn execute<O: Op<N>, const N: usize>(
        op: &O,
        inputs: [FloatTensor<Self>; N],
        ints: Vec<IntTensor<Self>>,
    ) -> Vec<FloatTensor<Self>> {
        if !O::GRADIENT {
            checked(op, &inputs, &ints);
            return op.reference::<Self>(inputs, &ints);
        }
        // Below, `B` checks.
        let nodes = inputs.each_ref().map(|x| x.node.clone());
        let inputs = inputs.map(|x| x.primitive);
        let recorded = op.recorded(&inputs.each_ref().map(Spec::of));
        let prepared = Backward::<B, N>::prepare::<C>(Recorded(recorded.clone()), nodes)
            .compute_bound()
            .stateful();
        let (first, rest) = match prepared {
            OpsKind::Tracked(prep) => {
                let kept = core::array::from_fn(|i| O::KEEPS[i].then(|| inputs[i].clone()));
                let outputs = B::execute(&recorded, inputs, ints.clone());
                let (first, rest) = split_first(outputs.clone());
                let outputs = outputs.into_iter().skip(usize::from(!O::KEEPS_OUTPUT)).collect();
                (prep.finish(Tape { inputs: kept, ints, outputs }, first), rest)
            }
            OpsKind::UnTracked(prep) => {
                let (first, rest) = split_first(B::execute(op, inputs, ints));
                (prep.finish(first), rest)
            }
        };
        let rest = rest.into_iter().map(<Self as AutodiffBackend>::from_inner);
        std::iter::once(first).chain(rest).collect()
    }

    /// In one operation: autodiff loses sight of a graph that is moved a second time.
    fn join(mut leaves: Vec<FloatTensor<Self>>) {
        let Some(first) = leaves.first() else { return };
        let primitive = first.primitive.clone();
        if leaves.len() <= JOIN_PARENTS {
            let nodes = core::array::from_fn(|i| leaves[i.min(leaves.len() - 1)].node.clone());
            let prepared = Backward::<B, JOIN_PARENTS>::prepare::<C>(Join, nodes).compute_bound();
            drop(prepared.stateless(primitive));
        } else {
            // Of any number of tensors, here of one element each.
            let one = B::float_zeros([1].into(), &B::float_device(&primitive), FloatDType::F32);
            leaves.iter_mut().for_each(|leaf| leaf.primitive = one.clone());
            drop(Self::float_cat(leaves, 0));
        }
    }

    fn awake<R>(device: &Self::Device, run: impl FnOnce() -> R) -> R {
        B::awake(device, run)
    }

    fn precision(device: &Self::Device) -> Precision {
        B::precision(device)
    }

    fn half(device: &Self::Device) -> Option<DType> {
        B::half(device)
    }

    fn memory(device: &Self::Device) -> Option<u64> {
        B::memory(device)
    }
}

fn split_first<T>(outputs: Vec<T>) -> (T, Vec<T>) {
    let mut outputs = outputs.into_iter();
    let first = outputs.next().expect("an op has at least one output");
    (first, outputs.collect())
}
