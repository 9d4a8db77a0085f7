//! Kernels: one unit computes one vector of elements, in f32.

use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::prelude::*;

use super::Activation;
use crate::plumbing::cube::{elementwise, empty, spread, vector_size};
use crate::plumbing::rows::tanh;

/// Which [`Activation`]; its parameter comes at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Sigmoid,
    Silu,
    Gelu,
    Relu,
    LeakyReluSquared,
    Softcap,
}

fn kind(activation: Activation) -> (Kind, f32) {
    match activation {
        Activation::Sigmoid => (Kind::Sigmoid, 0.0),
        Activation::Silu => (Kind::Silu, 0.0),
        Activation::Gelu => (Kind::Gelu, 0.0),
        Activation::Relu => (Kind::Relu, 0.0),
        Activation::LeakyReluSquared { slope } => (Kind::LeakyReluSquared, slope),
        Activation::Softcap { cap } => (Kind::Softcap, cap),
    }
}

#[cube]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + f32::exp(-x))
}

#[cube]
fn gelu_inner(x: f32) -> f32 {
    tanh((x + x * x * x * 0.044715) * 0.7978846)
}

#[cube]
fn value(x: f32, parameter: f32, #[comptime] kind: Kind) -> f32 {
    match comptime!(kind) {
        Kind::Sigmoid => sigmoid(x),
        Kind::Silu => x * sigmoid(x),
        Kind::Gelu => 0.5 * x * (1.0 + gelu_inner(x)),
        Kind::Relu => max(x, 0.0f32),
        Kind::LeakyReluSquared => {
            let l = x * select(x > 0.0, 1.0f32, parameter);
            l * l
        }
        Kind::Softcap => parameter * tanh(x / parameter),
    }
}

#[cube]
fn derivative(x: f32, parameter: f32, #[comptime] kind: Kind) -> f32 {
    match comptime!(kind) {
        Kind::Sigmoid => {
            let s = sigmoid(x);
            s * (1.0 - s)
        }
        Kind::Silu => {
            let s = sigmoid(x);
            s * (1.0 + x * (1.0 - s))
        }
        Kind::Gelu => {
            let t = gelu_inner(x);
            let slope = (x * x * 0.134145 + 1.0) * 0.7978846;
            0.5 * (1.0 + t + x * (1.0 - t * t) * slope)
        }
        Kind::Relu => select(x > 0.0, 1.0f32, 0.0f32),
        Kind::LeakyReluSquared => {
            let side = select(x > 0.0, 1.0f32, parameter);
            2.0 * x * side * side
        }
        Kind::Softcap => {
            let t = tanh(x / parameter);
            1.0 - t * t
        }
    }
}

/// `y = kind(x)`, or `kind(gate) · x` with `gated`.
#[cube(launch_unchecked)]
fn forward<F: Float, N: Size>(
    gate: &Array<Vector<F, N>>,
    x: &Array<Vector<F, N>>,
    y: &mut Array<Vector<F, N>>,
    parameter: f32,
    #[comptime] kind: Kind,
    #[comptime] gated: bool,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS < y.len() {
        let mut out = Vector::<F, N>::empty();
        let (a, b) = (gate[ABSOLUTE_POS], x[ABSOLUTE_POS]);
        #[unroll]
        for i in 0..N::value() {
            let mut v = value(f32::cast_from(a[i]), parameter, kind);
            if comptime!(gated) {
                v *= f32::cast_from(b[i]);
            }
            out[i] = F::cast_from(v);
        }
        y[ABSOLUTE_POS] = out;
    }
}

/// `dgate = kind′(gate) · x · g` and `dx = kind(gate) · g`; without `gated`, `dgate = kind′(gate) · g`.
#[cube(launch_unchecked)]
fn backward<F: Float, N: Size>(
    gate: &Array<Vector<F, N>>,
    x: &Array<Vector<F, N>>,
    g: &Array<Vector<F, N>>,
    dgate: &mut Array<Vector<F, N>>,
    dx: &mut Array<Vector<F, N>>,
    parameter: f32,
    #[comptime] kind: Kind,
    #[comptime] gated: bool,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS < dgate.len() {
        let (mut first, mut second) = (Vector::<F, N>::empty(), Vector::<F, N>::empty());
        let (a, b, c) = (gate[ABSOLUTE_POS], x[ABSOLUTE_POS], g[ABSOLUTE_POS]);
        #[unroll]
        for i in 0..N::value() {
            let (z, w) = (f32::cast_from(a[i]), f32::cast_from(c[i]));
            let mut d = derivative(z, parameter, kind) * w;
            if comptime!(gated) {
                d *= f32::cast_from(b[i]);
                second[i] = F::cast_from(value(z, parameter, kind) * w);
            }
            first[i] = F::cast_from(d);
        }
        dgate[ABSOLUTE_POS] = first;
        if comptime!(gated) {
            dx[ABSOLUTE_POS] = second;
        }
    }
}

/// Launches [`forward`]; without `x`, ungated.
pub(super) fn launch<R: CubeRuntime>(
    activation: Activation,
    gate: CubeTensor<R>,
    x: Option<CubeTensor<R>>,
) -> CubeTensor<R> {
    let gated = x.is_some();
    let x = x.unwrap_or_else(|| gate.clone());
    let ([gate, x], gaps) = elementwise([gate, x]);
    let y = empty(&gate, gate.meta.shape().clone(), gate.dtype);
    let (size, count) = (vector_size(&y), y.meta.num_elements());
    let (cubes, cube) = spread(count / size, 256);
    let (kind, parameter) = kind(activation);
    let client = y.client.clone();
    let arguments = [gate, x, y.clone()].map(CubeTensor::into_array_arg);
    let [gate, x, out] = arguments;
    // SAFETY: all three hold `count` elements, and units past the end do nothing.
    unsafe {
        forward::launch_unchecked::<R>(
            &client,
            cubes,
            cube,
            size,
            gate,
            x,
            out,
            parameter,
            kind,
            gated,
            y.dtype.into(),
        );
    }
    gaps.restore(y)
}

/// Launches [`backward`]: `dgate`, and `dx` if there is an `x`.
pub(super) fn launch_gradient<R: CubeRuntime>(
    activation: Activation,
    gate: CubeTensor<R>,
    x: Option<CubeTensor<R>>,
    g: CubeTensor<R>,
) -> Vec<CubeTensor<R>> {
    let gated = x.is_some();
    let x = x.unwrap_or_else(|| gate.clone());
    let ([gate, x, g], gaps) = elementwise([gate, x, g]);
    let dgate = empty(&gate, gate.meta.shape().clone(), gate.dtype);
    let dx =
        if gated { empty(&gate, gate.meta.shape().clone(), gate.dtype) } else { dgate.clone() };
    let (size, count) = (vector_size(&dgate), dgate.meta.num_elements());
    let (cubes, cube) = spread(count / size, 256);
    let (kind, parameter) = kind(activation);
    let (client, dtype) = (dgate.client.clone(), dgate.dtype);
    let outputs = if gated { vec![dgate.clone(), dx.clone()] } else { vec![dgate.clone()] };
    let [gate, x, g, dgate, dx] = [gate, x, g, dgate, dx].map(CubeTensor::into_array_arg);
    // SAFETY: all five hold `count` elements, and units past the end do nothing.
    unsafe {
        backward::launch_unchecked::<R>(
            &client,
            cubes,
            cube,
            size,
            gate,
            x,
            g,
            dgate,
            dx,
            parameter,
            kind,
            gated,
            dtype.into(),
        );
    }
    outputs.into_iter().map(|y| gaps.restore(y)).collect()
}
