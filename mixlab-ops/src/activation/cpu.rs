//! Activations and gates for burn-flex: one pass over memory, sixteen elements at a time.

use burn_flex::FlexTensor;

use super::{Activation, GELU_C};
use crate::plumbing::cpu::{Lanes, each, pointwise, sigmoid, tanh};

impl Activation {
    #[inline(always)]
    fn lanes(self, x: Lanes) -> Lanes {
        match self {
            Self::Sigmoid => each(x, sigmoid),
            Self::Silu => each(x, silu),
            Self::Gelu => each(x, gelu),
            Self::Relu => each(x, relu),
            Self::LeakyReluSquared { slope } => each(x, |x| leaky(x, slope) * leaky(x, slope)),
            Self::Softcap { cap } => each(
                x,
                #[inline(always)]
                |x| cap * tanh(x / cap),
            ),
        }
    }

    #[inline(always)]
    fn lanes_derivative(self, x: Lanes) -> Lanes {
        match self {
            Self::Sigmoid => each(x, sigmoid_derivative),
            Self::Silu => each(x, silu_derivative),
            Self::Gelu => each(x, gelu_derivative),
            Self::Relu => each(x, |x| if x > 0.0 { 1.0 } else { 0.0 }),
            Self::LeakyReluSquared { slope } => {
                each(x, |x| 2.0 * leaky(x, slope) * if x > 0.0 { 1.0 } else { slope })
            }
            Self::Softcap { cap } => each(
                x,
                #[inline(always)]
                |x| 1.0 - tanh(x / cap) * tanh(x / cap),
            ),
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
fn times(mut a: Lanes, b: Lanes) -> Lanes {
    for (a, b) in a.iter_mut().zip(b) {
        *a *= b;
    }
    a
}

pub(super) fn activate(kind: Activation, [x]: [&FlexTensor; 1]) -> [FlexTensor; 1] {
    pointwise(
        [x],
        #[inline(always)]
        |[x]| [kind.lanes(x)],
    )
}

pub(super) fn activate_gradient(kind: Activation, inputs: [&FlexTensor; 2]) -> [FlexTensor; 1] {
    pointwise(
        inputs,
        #[inline(always)]
        |[x, g]| [times(kind.lanes_derivative(x), g)],
    )
}

pub(super) fn gated(kind: Activation, inputs: [&FlexTensor; 2]) -> [FlexTensor; 1] {
    pointwise(
        inputs,
        #[inline(always)]
        |[gate, x]| [times(kind.lanes(gate), x)],
    )
}

pub(super) fn gated_gradient(kind: Activation, inputs: [&FlexTensor; 3]) -> [FlexTensor; 2] {
    pointwise(
        inputs,
        #[inline(always)]
        |[gate, x, g]| {
            let dgate = times(times(kind.lanes_derivative(gate), x), g);
            [dgate, times(kind.lanes(gate), g)]
        },
    )
}
