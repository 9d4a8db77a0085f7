//! Number formats of a pass on a device.

use burn::tensor::DType;
use mixlab_ops::{Backend, Precision};

/// Number format of matrix products, if a config asks for `asked` or nothing.
pub(super) fn precision<B: Backend>(asked: Option<Precision>, device: &B::Device) -> Precision {
    asked.unwrap_or_else(|| B::precision(device))
}

/// Type of activations: half as wide as the stream where products are, and the device likes it.
pub(super) fn activations<B: Backend>(asked: Option<Precision>, device: &B::Device) -> DType {
    let half = (precision::<B>(asked, device) == Precision::Bf16).then(|| B::half(device));
    half.flatten().unwrap_or(DType::F32)
}
