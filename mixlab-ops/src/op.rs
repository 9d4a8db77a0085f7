//! What an operation is, and what a backend must offer to run one.

use core::fmt::Debug;

use burn::tensor::DType;
use burn_backend::tensor::{FloatTensor, IntTensor};
#[cfg(feature = "cube")]
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
#[cfg(feature = "cpu")]
use burn_flex::FlexTensor;

use crate::shape::checked;
use crate::{Mismatch, Precision, Spec};

/// What the forward of an op leaves behind for its gradient.
#[derive(Clone, Debug)]
pub struct Tape<B: burn::tensor::backend::Backend, const N: usize> {
    /// The float inputs of the forward; `None` where [`Op::KEEPS`] has one left out.
    pub inputs: [Option<FloatTensor<B>>; N],
    /// The integer inputs of the forward.
    pub ints: Vec<IntTensor<B>>,
    /// The outputs of the forward; without the first one, the differentiable result, unless
    /// [`Op::KEEPS_OUTPUT`].
    pub outputs: Vec<FloatTensor<B>>,
}

impl<B: burn::tensor::backend::Backend, const N: usize> Tape<B, N> {
    /// All float inputs, for an op that keeps them all.
    ///
    /// # Panics
    /// If [`Op::KEEPS`] leaves one out.
    pub fn inputs(&mut self) -> [FloatTensor<B>; N] {
        self.inputs.each_mut().map(|x| x.take().expect("the op keeps its inputs"))
    }
}

/// An operation with `N` float inputs, any number of integer inputs (indices) and one
/// differentiable output, which further outputs may follow for the gradient's use.
///
/// The fields of the implementing struct are the op's attributes.
pub trait Op<const N: usize>: Clone + Debug + Send + Sync + 'static {
    /// Name in captured programs, for example `mixlab.rms_norm`.
    const NAME: &'static str;

    /// Whether [`Op::gradient`] is written by hand. If not, autodiff goes through the reference.
    const GRADIENT: bool = false;

    /// Which float inputs the gradient reads. The others are not held until then, so that kernels
    /// may write over them.
    const KEEPS: [bool; N] = [true; N];

    /// Whether the gradient reads the first output. If not, it is not held until then.
    const KEEPS_OUTPUT: bool = true;

    /// Whether bodies write results over inputs of the same shape and type that nobody else holds:
    /// what a program would take of memory is counted by that.
    const IN_PLACE: bool = false;

    /// Whether GPU backends run `Op::cube` instead of the reference.
    const KERNEL: bool = false;

    /// The attributes as a compact JSON object, for captured programs.
    fn attributes(&self) -> String {
        "{}".into()
    }

    /// The shape rule: shapes and types of the outputs for inputs and indices of the given ones.
    ///
    /// # Errors
    /// If the op does not take such inputs. Nothing else runs then: bodies and kernels rely on it.
    fn outputs(&self, inputs: &[Spec; N], ints: &[Spec]) -> Result<Vec<Spec>, Mismatch>;

    /// The definition, in ordinary Burn operations. Returns as many tensors as [`Op::outputs`].
    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        inputs: [FloatTensor<B>; N],
        ints: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>>;

    /// The op to run in place of this one, on inputs of the given shapes and types, when its
    /// gradient is going to be asked for: one that leaves more for the gradient behind.
    fn recorded(&self, _inputs: &[Spec; N]) -> Self {
        self.clone()
    }

    /// Gradients of the float inputs, given the gradient of the first output.
    ///
    /// Only called when [`Op::GRADIENT`] is true.
    fn gradient<B: Backend>(
        &self,
        _tape: Tape<B, N>,
        _grad: FloatTensor<B>,
    ) -> [FloatTensor<B>; N] {
        unreachable!("`{}` has no hand-written gradient", Self::NAME)
    }

    /// A fused body for burn-flex: what the reference computes, faster. Inputs are `f32`, of any
    /// layout. `None` runs the reference.
    #[cfg(feature = "cpu")]
    fn cpu(&self, _inputs: &[FlexTensor; N], _ints: &[FlexTensor]) -> Option<Vec<FlexTensor>> {
        None
    }

    /// [`Op::cpu`] for an op that writes over an input which nobody else holds.
    ///
    /// # Errors
    /// With the inputs, if it does not take them: the reference runs.
    #[cfg(feature = "cpu")]
    fn cpu_owned(
        &self,
        inputs: [FlexTensor; N],
        ints: &[FlexTensor],
    ) -> Result<Vec<FlexTensor>, [FlexTensor; N]> {
        self.cpu(&inputs, ints).ok_or(inputs)
    }

    /// Why [`Op::cube`] cannot take these inputs, so that the reference runs; [`fallbacks`] lists
    /// it. `None` if it can.
    ///
    /// [`fallbacks`]: crate::fallbacks
    #[cfg(feature = "cube")]
    fn refusal<R: CubeRuntime>(&self, _inputs: &[CubeTensor<R>; N]) -> Option<String> {
        None
    }

    /// The kernels for GPU backends: what the reference computes, in one or few launches. Inputs
    /// have any layout and float type, and may be written over if [`CubeTensor::can_mut`] says so.
    ///
    /// Only called when [`Op::KERNEL`] is true and [`Op::refusal`] has nothing against it.
    ///
    /// # Safety
    /// [`Op::outputs`] must take the inputs, and no tensor may have more elements than a `u32` counts.
    #[cfg(feature = "cube")]
    unsafe fn cube<R: CubeRuntime>(
        &self,
        _inputs: [CubeTensor<R>; N],
        _ints: Vec<CubeTensor<R>>,
    ) -> Vec<CubeTensor<R>> {
        unreachable!("`{}` has no kernel", Self::NAME)
    }
}

/// A Burn backend that runs the operations of this crate: `impl Backend for Mine {}` makes any other
/// one, which then runs references.
pub trait Backend: burn::tensor::backend::Backend {
    /// Runs `op` and returns all of its outputs.
    ///
    /// # Panics
    /// If the op does not take these inputs ([`Op::outputs`]), naming it, them and what does not fit.
    fn execute<O: Op<N>, const N: usize>(
        op: &O,
        inputs: [FloatTensor<Self>; N],
        ints: Vec<IntTensor<Self>>,
    ) -> Vec<FloatTensor<Self>> {
        let outputs = checked(op, &inputs, &ints);
        // SAFETY: these are the outputs that the op has for these inputs.
        unsafe { Self::execute_unchecked(op, inputs, ints, &outputs) }
    }

    /// [`Backend::execute`] where the inputs are known to fit: what a backend has of its own to do.
    ///
    /// # Safety
    /// `outputs` must be what [`Op::outputs`] says for these inputs.
    unsafe fn execute_unchecked<O: Op<N>, const N: usize>(
        op: &O,
        inputs: [FloatTensor<Self>; N],
        ints: Vec<IntTensor<Self>>,
        _outputs: &[Spec],
    ) -> Vec<FloatTensor<Self>> {
        op.reference::<Self>(inputs, &ints)
    }

    /// Number format of matrix products where nobody asks for one: the fastest that is no worse than
    /// what people expect of the device.
    fn precision(_device: &Self::Device) -> Precision {
        Precision::F32
    }

    /// Says that the operations from here on belong to part `scope` of a model: to
    /// [`Capture`](crate::capture::Capture), which writes it down. Others do not listen.
    fn enter(_device: &Self::Device, _scope: usize) {}

    /// Says what `x` is called where one part of a model reads it from another, likewise.
    fn label(_x: &FloatTensor<Self>, _name: &str) {}

    /// Says that what follows is computed from all of `leaves`, for a backend that differentiates:
    /// autodiff keeps a graph a leaf and moves one into the other, node by node, where an operation
    /// reads both, so that the time of a forward grows with the square of its depth. Here all are
    /// put into one while they are small.
    fn join(_leaves: Vec<FloatTensor<Self>>) {}

    /// What `run` gives: many short operations, each of which waits for the one before. A backend that
    /// computes by threads keeps them awake in between.
    fn awake<R>(_device: &Self::Device, run: impl FnOnce() -> R) -> R {
        run()
    }

    /// The type that activations may have when matrix products have bfloat16 operands: half as many
    /// bytes to move. `None` where that would be slower.
    fn half(_device: &Self::Device) -> Option<DType> {
        None
    }

    /// Bytes of device memory that this process holds for tensors: their peak, since freed memory is
    /// kept for later tensors. `None` where it is not known.
    fn memory(_device: &Self::Device) -> Option<u64> {
        None
    }
}
