//! The backends that compute without CubeCL: burn-flex with fused bodies where an op has one, the
//! others with the reference.

use burn_router::{BackendRouter, DirectChannel, RunnerChannel};

use crate::Backend;

#[cfg(feature = "cpu")]
impl Backend for burn_flex::Flex {
    fn awake<R>(_: &Self::Device, run: impl FnOnce() -> R) -> R {
        super::cpu::awake(run)
    }

    unsafe fn execute_unchecked<O: crate::Op<N>, const N: usize>(
        op: &O,
        inputs: [burn_flex::FlexTensor; N],
        ints: Vec<burn_flex::FlexTensor>,
        _: &[crate::Spec],
    ) -> Vec<burn_flex::FlexTensor> {
        let fused = inputs.iter().all(|x| x.dtype() == burn::tensor::DType::F32);
        #[cfg(test)]
        let fused = fused && !crate::testing::only_references();
        let outputs = if fused { op.cpu_owned(inputs, &ints) } else { Err(inputs) };
        outputs.unwrap_or_else(|inputs| op.reference::<Self>(inputs, &ints))
    }
}

#[cfg(feature = "ndarray")]
impl<E, I, Q> Backend for burn_ndarray::NdArray<E, I, Q>
where
    E: burn_ndarray::FloatNdArrayElement,
    I: burn_ndarray::IntNdArrayElement,
    Q: burn_ndarray::QuantElement,
    burn_ndarray::NdArrayTensor: From<burn_ndarray::SharedArray<E>>,
    burn_ndarray::NdArrayTensor: From<burn_ndarray::SharedArray<I>>,
{
}

// Burn 0.21 is the last release with it. With other floats its own `sum` panics: tensors are f32 all the
// same, unless each is asked for in another type.
#[cfg(feature = "candle")]
#[allow(deprecated)]
impl<I: burn_candle::IntCandleElement> Backend for burn_candle::Candle<f32, I> {}

#[cfg(feature = "tch")]
impl<E: burn_tch::TchElement> Backend for burn_tch::LibTorch<E> {}

/// Several backends as one: tensors pass between them, and each op runs where its inputs are.
impl<Backends, Bridge> Backend for BackendRouter<DirectChannel<Backends, Bridge>> where
    DirectChannel<Backends, Bridge>: RunnerChannel
{
}
