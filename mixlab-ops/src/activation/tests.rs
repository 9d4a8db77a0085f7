use super::{Activate, Activation, Gate};
use crate::testing::{Host, check, noise};

const KINDS: [Activation; 6] = [
    Activation::Sigmoid,
    Activation::Silu,
    Activation::Gelu,
    Activation::Relu,
    Activation::LeakyReluSquared { slope: 0.25 },
    Activation::Softcap { cap: 0.7 },
];

fn naive(kind: Activation, x: f64) -> f64 {
    match kind {
        Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::Gelu => 0.5 * x * (1.0 + (0.797_884_560_8 * (x + 0.044715 * x * x * x)).tanh()),
        Activation::Relu => x.max(0.0),
        Activation::LeakyReluSquared { slope } => {
            let l = if x > 0.0 { x } else { f64::from(slope) * x };
            l * l
        }
        Activation::Softcap { cap } => {
            let cap = f64::from(cap);
            cap * (x / cap).tanh()
        }
    }
}

fn wide(shape: &[usize], seed: u64) -> Host {
    let mut x = noise(shape, seed);
    x.data.iter_mut().for_each(|v| *v *= 4.0);
    x
}

#[test]
fn every_activation_has_the_values_and_gradients_of_its_formula() {
    for kind in KINDS {
        check(Activate { kind }, [wide(&[63, 5], 3)], &[], |[x]| {
            x.data.iter().map(|v| naive(kind, *v)).collect()
        });
    }
}

#[test]
fn every_gate_multiplies_by_its_activation() {
    for kind in KINDS {
        check(Gate { kind }, [wide(&[2, 257], 4), wide(&[2, 257], 5)], &[], |[gate, x]| {
            gate.data.iter().zip(&x.data).map(|(g, v)| naive(kind, *g) * v).collect()
        });
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
#[test]
fn the_kernels_equal_the_references() {
    use super::{ActivateGradient, GateGradient};
    use crate::testing::kernels::same;
    for kind in KINDS {
        for shape in [[1, 1], [3, 5], [63, 130], [2, 257]] {
            let [a, b, c] = [6, 7, 8].map(|seed| wide(&shape, seed));
            same(Activate { kind }, std::array::from_ref(&a), &[]);
            same(ActivateGradient { kind }, &[a.clone(), b.clone()], &[]);
            same(Gate { kind }, &[a.clone(), b.clone()], &[]);
            same(GateGradient { kind }, &[a, b, c], &[]);
        }
    }
}
