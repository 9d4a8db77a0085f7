//! The same on devices: kernels that go on from a memory, and buffers that are written in place.

use mixlab_burn::weights::{fill, values};

use super::*;

/// The model of the CPU's tests on another backend.
fn model_on<B: Backend>(plan: &Plan) -> Model<B> {
    let mut values = values(&model(plan));
    let blank = Model::new(Arc::new(plan.clone()), &Default::default());
    fill(blank, |i, _| Some(std::mem::take(&mut values[i])))
}

/// Compares pieces with whole rows on a device, and these with the CPU's.
fn check_on<B: Backend>(blocks: &str, options: &str) {
    let plan = plan(blocks, options);
    let there = model_on::<B>(&plan);
    let cuts: [&[usize]; 3] = [&[7, 1], &[2, 3], &[SEQ - 1, 1]];
    check_model(&format!("{options} {blocks}"), &there, &cuts, 1e-4);
    let (got, expected) = (whole(&there), whole(&model(&plan)));
    let largest = expected.iter().fold(0f32, |most, z| most.max(z.abs()));
    let error = got.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
    assert!(error <= 1e-4 * largest, "off the CPU by {error:e} of {largest} in {blocks}");
}

const MIXED: &str = r#"{"type": "plain", "heads": 4, "kv_heads": 2, "qk_gain": 1.5},
    {"type": "plain", "heads": 4, "kv_heads": 2, "kv_source": 1, "xsa": true}, {"type": "mamba"},
    {"type": "retnet", "heads": 2}, {"type": "rwkv"}, {"type": "token_blend"}, {"type": "mamba3"}"#;

#[cfg(feature = "vulkan")]
#[test]
fn vulkan_goes_on_where_it_stopped() {
    check_on::<burn_wgpu::Wgpu>(MIXED, "");
    check_on::<burn_wgpu::Wgpu>(MIXED, r#""unet": true, "bigram_vocab_size": 50,"#);
}

/// In f32: with TF32 the two ways round their operands otherwise.
#[cfg(feature = "cuda")]
#[test]
#[ignore = "needs an NVIDIA card; run it by `-- --ignored cuda_goes_on`"]
fn cuda_goes_on_where_it_stopped() {
    let blocks = [
        r#"{"type": "plain", "heads": 4}"#,
        r#"{"type": "plain", "heads": 2, "kv_heads": 1, "xsa": true, "rope_dims": 4}"#,
        r#"{"type": "mamba"}"#,
        r#"{"type": "mamba3"}"#,
        r#"{"type": "retnet", "heads": 2}"#,
        r#"{"type": "rwkv"}"#,
        r#"{"type": "token_blend"}, {"type": "swiglu"}"#,
        MIXED,
    ];
    for block in blocks {
        check_on::<burn_cuda::Cuda>(block, "");
    }
    check_on::<burn_cuda::Cuda>(MIXED, r#""unet": true, "bigram_vocab_size": 50,"#);
    check_on::<burn_cuda::Cuda>(MIXED, r#""resid_mix": true, "block_scales": true,"#);
}
