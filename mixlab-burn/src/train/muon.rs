//! Orthogonalisation by Newton–Schulz iteration (Jordan et al., 2024, "Muon").

use burn::tensor::{Tensor, backend::Backend};

use super::optimizer::round_to_bf16;

/// Coefficients of the quintic `aX + (bA + cA²)X`, `A = XXᵀ`.
const QUINTIC: [f32; 3] = [3.4445, -4.7750, 2.0315];

/// Drives all singular values of `update` `[rows, columns]` towards 1.
///
/// As in mixlab 0.10.1 the input is rounded to bfloat16 and the iteration runs in 32 bits. A zero
/// input stays zero.
pub fn orthogonalize<B: Backend>(update: Tensor<B, 2>, steps: usize) -> Tensor<B, 2> {
    let [a, b, c] = QUINTIC;
    let [rows, columns] = update.dims();
    let x = round_to_bf16(update);
    let norm = (x.clone() * x.clone()).sum().sqrt() + 1e-7;
    let x = x / norm.unsqueeze();
    let mut x = if rows > columns { x.transpose() } else { x };
    for _ in 0..steps {
        let gram = x.clone().matmul(x.clone().transpose());
        let mix = gram.clone() * b + gram.clone().matmul(gram) * c;
        x = x.clone() * a + mix.matmul(x);
    }
    if rows > columns { x.transpose() } else { x }
}
