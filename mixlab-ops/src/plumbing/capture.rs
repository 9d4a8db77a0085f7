//! Capture: an op is one named node, which remembers the op.

use burn::tensor::DType;
use burn_backend::tensor::{FloatTensor, IntTensor};

use crate::capture::{Capture, enter, half, label, record};
use crate::{Backend, Op, Spec};

impl Backend for Capture {
    unsafe fn execute_unchecked<O: Op<N>, const N: usize>(
        op: &O,
        inputs: [FloatTensor<Self>; N],
        ints: Vec<IntTensor<Self>>,
        outputs: &[Spec],
    ) -> Vec<FloatTensor<Self>> {
        record(op, inputs.into_iter().chain(ints).collect(), outputs)
    }

    fn enter(device: &Self::Device, scope: usize) {
        enter(device, scope);
    }

    fn half(device: &Self::Device) -> Option<DType> {
        half(device)
    }

    fn label(x: &FloatTensor<Self>, name: &str) {
        label(x, name);
    }
}
