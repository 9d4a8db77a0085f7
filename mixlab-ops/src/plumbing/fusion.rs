//! `Fusion<B>`: an op is one custom operation, run by `B` when its turn comes.

use core::fmt::{self, Debug, Formatter};
use core::marker::PhantomData;

use burn::tensor::DType;
use burn_backend::tensor::{FloatTensor, IntTensor};
use burn_fusion::stream::{Operation, OperationStreams};
use burn_fusion::{Fusion, FusionBackend, FusionRuntime};
use burn_ir::{CustomOpIr, HandleContainer, OperationIr, TensorIr};

use crate::{Backend, Op, Precision, Spec};

/// An op and the tensors of one call: `N` float inputs, then the integer ones.
struct Call<B, O, const N: usize> {
    op: O,
    tensors: CustomOpIr,
    outputs: Vec<Spec>,
    backend: PhantomData<B>,
}

impl<B, O: Debug, const N: usize> Debug for Call<B, O, N> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.op.fmt(f)
    }
}

impl<B, O, const N: usize> Operation<B::FusionRuntime> for Call<B, O, N>
where
    B: FusionBackend + Backend,
    O: Op<N>,
{
    fn execute(
        &self,
        handles: &mut HandleContainer<<B::FusionRuntime as FusionRuntime>::FusionHandle>,
    ) {
        let (floats, ints) = self.tensors.inputs.split_at(N);
        let floats = core::array::from_fn(|i| handles.get_float_tensor::<B>(&floats[i]));
        let ints = ints.iter().map(|x| handles.get_int_tensor::<B>(x)).collect();
        // SAFETY: whoever made the call promised that these are the outputs for these inputs.
        let outputs = unsafe { B::execute_unchecked(&self.op, floats, ints, &self.outputs) };
        for (ir, output) in self.tensors.outputs.iter().zip(outputs) {
            handles.register_float_tensor::<B>(&ir.id, output);
        }
    }
}

impl<B: FusionBackend + Backend> Backend for Fusion<B> {
    unsafe fn execute_unchecked<O: Op<N>, const N: usize>(
        op: &O,
        inputs: [FloatTensor<Self>; N],
        ints: Vec<IntTensor<Self>>,
        outputs: &[Spec],
    ) -> Vec<FloatTensor<Self>> {
        let client = inputs[0].client.clone();
        let results: Vec<TensorIr> = outputs
            .iter()
            .map(|x| TensorIr::uninit(client.create_empty_handle(), x.shape.clone(), x.dtype))
            .collect();
        let streams = OperationStreams::with_inputs(inputs.iter().chain(&ints));
        let inputs: Vec<TensorIr> = inputs.into_iter().chain(ints).map(|x| x.into_ir()).collect();
        let tensors = CustomOpIr::new(O::NAME, &inputs, &results);
        let (op, outputs) = (op.clone(), outputs.to_vec());
        let call = Call::<B, O, N> { op, tensors: tensors.clone(), outputs, backend: PhantomData };
        client.register(streams, OperationIr::Custom(tensors), call)
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
