//! The backends that compute: burn-flex with fused bodies where an op has one, the others with the
//! reference.

use crate::Backend;

#[cfg(feature = "cpu")]
impl Backend for burn_flex::Flex {
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
impl Backend for burn_ndarray::NdArray {}

// Burn 0.21 is the last release with it.
#[cfg(feature = "candle")]
#[allow(deprecated)]
impl Backend for burn_candle::Candle {}
