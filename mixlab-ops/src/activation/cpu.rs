//! Activations and gates for burn-flex: one pass over memory, sixteen elements at a time.

use burn_flex::FlexTensor;

use super::{Activation, GELU_C};
use crate::plumbing::cpu::{Lanes, by_lane, each, pointwise, sigmoid, tanh};

/// What is computed, by an op's inputs.
pub(super) enum Job<'a> {
    /// Of `x`.
    Activate([&'a FlexTensor; 1]),
    /// Of `x` and the gradient.
    ActivateGradient([&'a FlexTensor; 2]),
    /// Of the gate and `x`.
    Gate([&'a FlexTensor; 2]),
    /// Of the gate, `x` and the gradient.
    GateGradient([&'a FlexTensor; 3]),
}

/// The outputs of the op with activation `kind`.
pub(super) fn run(kind: Activation, job: Job<'_>) -> Vec<FlexTensor> {
    match kind {
        Activation::Sigmoid => job.run(sigmoid, sigmoid_derivative),
        Activation::Silu => job.run(silu, silu_derivative),
        Activation::Gelu => job.run(gelu, gelu_derivative),
        Activation::Relu => job.run(relu, |x| if x > 0.0 { 1.0 } else { 0.0 }),
        Activation::LeakyReluSquared { slope } => job.run(
            #[inline(always)]
            move |x| leaky(x, slope) * leaky(x, slope),
            #[inline(always)]
            move |x| 2.0 * leaky(x, slope) * if x > 0.0 { 1.0 } else { slope },
        ),
        Activation::Softcap { cap } => job.run(
            #[inline(always)]
            move |x| cap * tanh(x / cap),
            #[inline(always)]
            move |x| 1.0 - tanh(x / cap) * tanh(x / cap),
        ),
    }
}

impl Job<'_> {
    /// By an activation and its derivative: a loop for each, since a choice within it takes longer than
    /// what it chooses.
    fn run(
        self,
        f: impl Fn(f32) -> f32 + Copy + Sync,
        derivative: impl Fn(f32) -> f32 + Copy + Sync,
    ) -> Vec<FlexTensor> {
        match self {
            Self::Activate(inputs) => pointwise(
                inputs,
                #[inline(always)]
                |[x]| [each(x, f)],
            )
            .into(),
            Self::ActivateGradient(inputs) => pointwise(
                inputs,
                #[inline(always)]
                |[x, g]| [times(each(x, derivative), g)],
            )
            .into(),
            Self::Gate(inputs) => pointwise(
                inputs,
                #[inline(always)]
                |[gate, x]| [times(each(gate, f), x)],
            )
            .into(),
            Self::GateGradient(inputs) => pointwise(
                inputs,
                #[inline(always)]
                |[gate, x, g]| {
                    [times(times(each(gate, derivative), x), g), times(each(gate, f), g)]
                },
            )
            .into(),
        }
    }
}

#[inline(always)]
fn sigmoid_derivative(x: f32) -> f32 {
    let s = sigmoid(x);
    s * (1.0 - s)
}

#[inline(always)]
fn silu(x: f32) -> f32 {
    x * sigmoid(x)
}

#[inline(always)]
fn silu_derivative(x: f32) -> f32 {
    let s = sigmoid(x);
    s * (1.0 + x * (1.0 - s))
}

#[inline(always)]
fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + tanh(gelu_inner(x)))
}

#[inline(always)]
fn gelu_derivative(x: f32) -> f32 {
    let t = tanh(gelu_inner(x));
    let slope = GELU_C * (1.0 + 0.134_145 * x * x);
    0.5 * (1.0 + t + x * (1.0 - t * t) * slope)
}

#[inline(always)]
fn gelu_inner(x: f32) -> f32 {
    GELU_C * (x + 0.044_715 * x * x * x)
}

#[inline(always)]
fn relu(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}

#[inline(always)]
fn leaky(x: f32, slope: f32) -> f32 {
    if x > 0.0 { x } else { slope * x }
}

#[inline(always)]
fn times(a: Lanes, b: Lanes) -> Lanes {
    by_lane(|i| a[i] * b[i])
}
