//! Pointwise non-linearities, alone and as gates.
//!
//! | kind | value | derivative |
//! |---|---|---|
//! | sigmoid | `σ(x)` | `σ(1 − σ)` |
//! | silu | `x·σ(x)` | `σ(1 + x(1 − σ))` |
//! | gelu | `½x(1 + tanh(u))`, `u = c(x + 0.044715x³)`, `c = 0.7978845608` | `½(1 + t) + ½x(1 − t²)c(1 + 0.134145x²)` |
//! | relu | `max(x, 0)` | `1` if `x > 0` |
//! | leaky_relu_sq | `l²`, `l = x` if `x > 0` else `a·x` | `2l` if `x > 0` else `2a·l` |
//! | softcap | `c·tanh(x/c)` | `1 − tanh²(x/c)` |

#[cfg(feature = "cpu")]
mod cpu;
#[cfg(feature = "cube")]
mod kernel;

use burn::tensor::{Tensor, activation as act};
use burn_backend::tensor::{FloatTensor, IntTensor};
#[cfg(feature = "cube")]
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
#[cfg(feature = "cpu")]
use burn_flex::FlexTensor;

use crate::{Axes, Backend, Mismatch, Op, Spec, Tape, all, lift, lower, run, same_type};

/// A pointwise non-linearity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// The logistic function.
    Sigmoid,
    /// `x·σ(x)`, also known as swish.
    Silu,
    /// The tanh approximation of GELU (Hendrycks and Gimpel, 2016).
    Gelu,
    /// `max(x, 0)`.
    Relu,
    /// The square of a leaky ReLU.
    LeakyReluSquared {
        /// Slope for negative inputs.
        slope: f32,
    },
    /// `cap·tanh(x / cap)`: bounds logits to `±cap`.
    Softcap {
        /// The bound; must be positive.
        cap: f32,
    },
}

const GELU_C: f32 = 0.797_884_6;

impl Activation {
    fn json(self) -> String {
        match self {
            Self::Sigmoid => r#"{"kind":"sigmoid"}"#.into(),
            Self::Silu => r#"{"kind":"silu"}"#.into(),
            Self::Gelu => r#"{"kind":"gelu"}"#.into(),
            Self::Relu => r#"{"kind":"relu"}"#.into(),
            Self::LeakyReluSquared { slope } => {
                format!(r#"{{"kind":"leaky_relu_sq","slope":{slope:e}}}"#)
            }
            Self::Softcap { cap } => format!(r#"{{"kind":"softcap","cap":{cap:e}}}"#),
        }
    }

    fn value<B: burn::tensor::backend::Backend>(self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        match self {
            Self::Sigmoid => act::sigmoid(x),
            Self::Silu => x.clone() * act::sigmoid(x),
            Self::Gelu => {
                let t = gelu_inner(x.clone()).tanh();
                x * (t + 1.0) * 0.5
            }
            Self::Relu => act::relu(x),
            Self::LeakyReluSquared { slope } => {
                let l = leaky(x, slope);
                l.clone() * l
            }
            Self::Softcap { cap } => (x * (1.0 / cap)).tanh() * cap,
        }
    }

    fn derivative<B: burn::tensor::backend::Backend>(self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        match self {
            Self::Sigmoid => {
                let s = act::sigmoid(x);
                s.clone() * (-s + 1.0)
            }
            Self::Silu => {
                let s = act::sigmoid(x.clone());
                s.clone() * (x * (-s + 1.0) + 1.0)
            }
            Self::Gelu => {
                let t = gelu_inner(x.clone()).tanh();
                let slope = (x.clone() * x.clone() * 0.134_145 + 1.0) * GELU_C;
                let sech2 = -(t.clone() * t.clone()) + 1.0;
                (t + 1.0 + x * sech2 * slope) * 0.5
            }
            Self::Relu => x.greater_elem(0.0).float(),
            Self::LeakyReluSquared { slope } => {
                let side = x.clone().greater_elem(0.0).float() * (1.0 - slope) + slope;
                leaky(x, slope) * side * 2.0
            }
            Self::Softcap { cap } => {
                let t = (x * (1.0 / cap)).tanh();
                -(t.clone() * t) + 1.0
            }
        }
    }
}

fn gelu_inner<B: burn::tensor::backend::Backend>(x: Tensor<B, 2>) -> Tensor<B, 2> {
    (x.clone() + x.clone() * x.clone() * x * 0.044_715) * GELU_C
}

fn leaky<B: burn::tensor::backend::Backend>(x: Tensor<B, 2>, slope: f32) -> Tensor<B, 2> {
    act::relu(x.clone()) - act::relu(-x) * slope
}

/// Attributes of [`activate`].
#[derive(Clone, Debug)]
pub struct Activate {
    /// The function.
    pub kind: Activation,
}

/// Attributes of [`gated`].
#[derive(Clone, Debug)]
pub struct Gate {
    /// The function of the gate.
    pub kind: Activation,
}

/// The gradient of [`Activate`], of its input and the gradient of its output.
#[derive(Clone, Debug)]
pub struct ActivateGradient {
    /// The function.
    pub kind: Activation,
}

/// The gradients of [`Gate`], of its inputs and the gradient of its output.
#[derive(Clone, Debug)]
pub struct GateGradient {
    /// The function of the gate.
    pub kind: Activation,
}

/// `kind(x)` for `x` `[N, D]`.
pub fn activate<B: Backend>(kind: Activation, x: Tensor<B, 2>) -> Tensor<B, 2> {
    run(&Activate { kind }, [lower(x)], vec![])
}

/// `kind(gate) ⊙ x` for `gate` and `x` `[N, D]`.
pub fn gated<B: Backend>(kind: Activation, gate: Tensor<B, 2>, x: Tensor<B, 2>) -> Tensor<B, 2> {
    run(&Gate { kind }, [lower(gate), lower(x)], vec![])
}

/// Checks that all of `inputs` are `[N, D]` and of one type.
fn alike(inputs: &[(&str, &Spec)]) -> Result<(), Mismatch> {
    let mut axes = Axes::default();
    for (what, x) in inputs {
        axes.of(what, x, ["N", "D"])?;
    }
    same_type(inputs)
}

impl Op<1> for Activate {
    const NAME: &'static str = "mixlab.activate";
    const GRADIENT: bool = true;
    const KEEPS_OUTPUT: bool = false;
    const KERNEL: bool = true;

    fn attributes(&self) -> String {
        self.kind.json()
    }

    fn outputs(&self, [x]: &[Spec; 1], _: &[Spec]) -> Result<Vec<Spec>, Mismatch> {
        Axes::default().of("x", x, ["N", "D"])?;
        Ok(vec![x.clone()])
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        [x]: [FloatTensor<B>; 1],
        _: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        vec![lower(self.kind.value(lift::<B, 2>(x)))]
    }

    fn gradient<B: Backend>(
        &self,
        mut tape: Tape<B, 1>,
        grad: FloatTensor<B>,
    ) -> [FloatTensor<B>; 1] {
        let [x] = tape.inputs();
        all(B::execute(&ActivateGradient { kind: self.kind }, [x, grad], vec![]))
    }

    #[cfg(feature = "cpu")]
    fn cpu(&self, inputs: &[FlexTensor; 1], _: &[FlexTensor]) -> Option<Vec<FlexTensor>> {
        Some(cpu::run(self.kind, cpu::Job::Activate(inputs.each_ref())))
    }

    #[cfg(feature = "cube")]
    unsafe fn cube<R: CubeRuntime>(
        &self,
        [x]: [CubeTensor<R>; 1],
        _: Vec<CubeTensor<R>>,
    ) -> Vec<CubeTensor<R>> {
        vec![kernel::launch(self.kind, x, None)]
    }
}

impl Op<2> for ActivateGradient {
    const NAME: &'static str = "mixlab.activate_gradient";
    const KERNEL: bool = true;

    fn attributes(&self) -> String {
        self.kind.json()
    }

    fn outputs(&self, [x, grad]: &[Spec; 2], _: &[Spec]) -> Result<Vec<Spec>, Mismatch> {
        alike(&[("x", x), ("grad", grad)])?;
        Ok(vec![x.clone()])
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        [x, grad]: [FloatTensor<B>; 2],
        _: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        vec![lower(self.kind.derivative(lift::<B, 2>(x)) * lift(grad))]
    }

    #[cfg(feature = "cpu")]
    fn cpu(&self, inputs: &[FlexTensor; 2], _: &[FlexTensor]) -> Option<Vec<FlexTensor>> {
        Some(cpu::run(self.kind, cpu::Job::ActivateGradient(inputs.each_ref())))
    }

    #[cfg(feature = "cube")]
    unsafe fn cube<R: CubeRuntime>(
        &self,
        [x, g]: [CubeTensor<R>; 2],
        _: Vec<CubeTensor<R>>,
    ) -> Vec<CubeTensor<R>> {
        kernel::launch_gradient(self.kind, x, None, g)
    }
}

impl Op<2> for Gate {
    const NAME: &'static str = "mixlab.gated";
    const GRADIENT: bool = true;
    const KEEPS_OUTPUT: bool = false;
    const KERNEL: bool = true;

    fn attributes(&self) -> String {
        self.kind.json()
    }

    fn outputs(&self, [gate, x]: &[Spec; 2], _: &[Spec]) -> Result<Vec<Spec>, Mismatch> {
        alike(&[("gate", gate), ("x", x)])?;
        Ok(vec![gate.clone()])
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        [gate, x]: [FloatTensor<B>; 2],
        _: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        vec![lower(self.kind.value(lift::<B, 2>(gate)) * lift(x))]
    }

    fn gradient<B: Backend>(
        &self,
        mut tape: Tape<B, 2>,
        grad: FloatTensor<B>,
    ) -> [FloatTensor<B>; 2] {
        let [gate, x] = tape.inputs();
        all(B::execute(&GateGradient { kind: self.kind }, [gate, x, grad], vec![]))
    }

    #[cfg(feature = "cpu")]
    fn cpu(&self, inputs: &[FlexTensor; 2], _: &[FlexTensor]) -> Option<Vec<FlexTensor>> {
        Some(cpu::run(self.kind, cpu::Job::Gate(inputs.each_ref())))
    }

    #[cfg(feature = "cube")]
    unsafe fn cube<R: CubeRuntime>(
        &self,
        [gate, x]: [CubeTensor<R>; 2],
        _: Vec<CubeTensor<R>>,
    ) -> Vec<CubeTensor<R>> {
        vec![kernel::launch(self.kind, gate, Some(x))]
    }
}

impl Op<3> for GateGradient {
    const NAME: &'static str = "mixlab.gated_gradient";
    const KERNEL: bool = true;

    fn attributes(&self) -> String {
        self.kind.json()
    }

    fn outputs(&self, [gate, x, grad]: &[Spec; 3], _: &[Spec]) -> Result<Vec<Spec>, Mismatch> {
        alike(&[("gate", gate), ("x", x), ("grad", grad)])?;
        Ok(vec![gate.clone(), x.clone()])
    }

    fn reference<B: burn::tensor::backend::Backend>(
        &self,
        inputs: [FloatTensor<B>; 3],
        _: &[IntTensor<B>],
    ) -> Vec<FloatTensor<B>> {
        let [gate, x, g] = inputs.map(lift::<B, 2>);
        let dx = self.kind.value(gate.clone()) * g.clone();
        vec![lower(self.kind.derivative(gate) * x * g), lower(dx)]
    }

    #[cfg(feature = "cpu")]
    fn cpu(&self, inputs: &[FlexTensor; 3], _: &[FlexTensor]) -> Option<Vec<FlexTensor>> {
        Some(cpu::run(self.kind, cpu::Job::GateGradient(inputs.each_ref())))
    }

    #[cfg(feature = "cube")]
    unsafe fn cube<R: CubeRuntime>(
        &self,
        [gate, x, g]: [CubeTensor<R>; 3],
        _: Vec<CubeTensor<R>>,
    ) -> Vec<CubeTensor<R>> {
        kernel::launch_gradient(self.kind, gate, Some(x), g)
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests;
