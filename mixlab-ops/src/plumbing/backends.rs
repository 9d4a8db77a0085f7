//! The backends that run the reference bodies.

use crate::Backend;

#[cfg(feature = "cpu")]
impl Backend for burn_flex::Flex {}

#[cfg(feature = "ndarray")]
impl Backend for burn_ndarray::NdArray {}

// Burn 0.21 is the last release with it.
#[cfg(feature = "candle")]
#[allow(deprecated)]
impl Backend for burn_candle::Candle {}

#[cfg(feature = "cube")]
mod cube {
    use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement};
    use burn_fusion::{Fusion, FusionBackend};

    impl<R, F, I, BT> crate::Backend for CubeBackend<R, F, I, BT>
    where
        R: CubeRuntime,
        F: FloatElement,
        I: IntElement,
        BT: BoolElement,
    {
    }

    impl<B: FusionBackend + crate::Backend> crate::Backend for Fusion<B> {}
}
