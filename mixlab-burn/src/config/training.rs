//! The `training` object and its phases.

use super::fields::{Rule, fields};

fields! {
    /// Training as it was written. What 0 means stands at each field and is decided by the plan.
    TrainingSpec {
        /// Number of optimizer steps; 0 and below mean the default. With `phases`, their sum counts
        /// instead.
        steps: Option<i64> = "200";
        /// Peak learning rate, to which the first 100 steps (or all, if there are fewer) rise from 0;
        /// 0 and below mean the default.
        lr: Option<f32> = "3e-4";
        /// Stretches of constant learning rate that replace the schedule and its warmup.
        phases: Vec<PhaseSpec> = "[]";
        /// Number of last steps over which the learning rate falls linearly; 0 means none.
        warmdown_steps: Option<i64> = "0", Rule::AtLeast(0.0);
        /// Validation loss (nats per token) at which training stops; 0 means never.
        target_val_loss: Option<f64> = "0", Rule::AtLeast(0.0);
        /// Validations in a row without a new best loss after which training stops; 0 means never.
        patience: Option<i64> = "0", Rule::AtLeast(0.0);
        /// Equal parts of a batch that are computed one after the other and make one update, so that
        /// it takes less memory; 0 means the default.
        grad_accum_steps: Option<i64> = "1", Rule::AtLeast(0.0);
        /// Weight of the mean squared logarithm of the softmax's denominator in what is minimized; 0
        /// means none.
        z_loss: Option<f32> = "0", Rule::AtLeast(0.0);
        /// Steps of test-time training on each evaluated batch; 0 means none.
        ttt_steps: Option<i64> = "0", Rule::AtLeast(0.0);
        /// What test-time training changes: all weights, or low-rank adapters.
        ttt_mode: Option<String> = "full", Rule::OneOf(&["full", "lora"]);
        /// Learning rate of test-time training; 0 means the default.
        ttt_lr: Option<f32> = "1e-5", Rule::AtLeast(0.0);
        /// Rank of the adapters of `ttt_mode` `lora`; 0 means the default.
        ttt_rank: Option<i64> = "4", Rule::AtLeast(0.0);
        /// Peak speed of the hardware in TFLOP/s, to show the share that is used; 0 means not
        /// shown.
        hardware_tflops: Option<f64> = "0", Rule::AtLeast(0.0);
        /// Greatest norm of all gradients together; 0 means no limit.
        grad_clip: Option<f32> = "0", Rule::AtLeast(0.0);
        /// Decoupled weight decay of the groups that set none; never acts on vectors.
        weight_decay: Option<f32> = "0.01", Rule::AtLeast(0.0);
        /// Decay of the first moment in AdamW; 0 means the default.
        beta1: Option<f32> = "0.9", Rule::Below(0.0, 1.0);
        /// Decay of the second moment in AdamW; 0 means the default.
        beta2: Option<f32> = "0.95", Rule::Below(0.0, 1.0);
        /// Term that keeps AdamW from dividing by zero; 0 means the default.
        epsilon: Option<f32> = "1e-8", Rule::AtLeast(0.0);
        /// Seed of initial weights, batches and dropout; 0 and below mean the default.
        seed: Option<i64> = "42";
        /// Tokens per step (B·T), a multiple of `seq_len`; 0 and below mean the default.
        batch_tokens: Option<i64> = "1024";
        /// Size in tokens of the pieces that are shuffled; 0 and below mean the default.
        shuffle_chunk_tokens: Option<i64> = "`seq_len`";
        /// Learning rate of the embeddings; 0 means the default.
        embed_lr: Option<f32> = "`lr`", Rule::AtLeast(0.0);
        /// Learning rate of the matrices; 0 means the default.
        matrix_lr: Option<f32> = "`lr`", Rule::AtLeast(0.0);
        /// Learning rate of scales and other vectors; 0 means the default.
        scalar_lr: Option<f32> = "`lr`", Rule::AtLeast(0.0);
        /// Learning rate of the output head; 0 means the default.
        head_lr: Option<f32> = "`lr`", Rule::AtLeast(0.0);
        /// Momentum of the matrices, with either optimizer; 0 means the default.
        muon_momentum: Option<f32> = "`beta1`", Rule::Below(0.0, 1.0);
        /// Newton–Schulz iterations of Muon; 0 and below mean the default.
        muon_backend_steps: Option<i64> = "5";
        /// Nesterov momentum in Muon.
        muon_nesterov: Option<bool> = "true";
        /// Optimizer of the matrices; everything else uses AdamW.
        optimizer: Option<String> = "muon", Rule::OneOf(&["muon", "adamw"]);
        /// Fake quantization of weights during training.
        qat: Option<String> = "none", Rule::WordOf(&["none", "int8", "int6"]);
        /// Step at which fake quantization begins.
        qat_start: Option<i64> = "0", Rule::AtLeast(0.0);
        /// Which weights fake quantization covers.
        qat_scope: Option<String> = "all", Rule::OneOf(&["all", "matrices"]);
        /// Distribution of initial matrices.
        weight_init: Option<String> = "xavier_uniform", Rule::OneOf(&["xavier_uniform", "normal"]);
        /// Standard deviation of `weight_init` `normal`; 0 and below mean the default.
        weight_init_std: Option<f32> = "0.02";
        /// Weight decay of the embeddings; 0 means the default, with a warning.
        embed_weight_decay: Option<f32> = "`weight_decay`", Rule::AtLeast(0.0);
        /// Weight decay of the matrices; 0 means the default, with a warning.
        matrix_weight_decay: Option<f32> = "`weight_decay`", Rule::AtLeast(0.0);
        /// Weight decay of scales and other vectors; 0 means the default, with a warning.
        scalar_weight_decay: Option<f32> = "`weight_decay`", Rule::AtLeast(0.0);
        /// Weight decay of the output head; 0 means the default, with a warning.
        head_weight_decay: Option<f32> = "`weight_decay`", Rule::AtLeast(0.0);
        /// Step from which a moving average of the weights is kept; 0 means none.
        swa_start: Option<i64> = "0", Rule::AtLeast(0.0);
        /// Share of the average that each update keeps.
        swa_decay: Option<f32> = "0.999", Rule::Below(0.0, 1.0);
        /// Steps between updates of the average.
        swa_interval: Option<i64> = "10";
        /// Arithmetic of matrix products; weights stay in 32 bits. `auto` is `tf32` on CUDA and `f32`
        /// elsewhere.
        compute_dtype: Option<String> = "auto", Rule::OneOf(&["auto", "f32", "tf32", "bf16"]);
    }
}

fields! {
    /// A stretch of training with its own learning rate.
    PhaseSpec {
        /// Number of steps.
        steps: i64 = required, Rule::Above(0.0);
        /// Learning rate.
        lr: f32 = required, Rule::Above(0.0);
        /// Name in the log.
        label: Option<String> = "none";
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use crate::config::tests::{BASE, error, errors};

    #[test]
    fn each_range_of_training_is_checked() {
        let at_least_zero = "warmdown_steps target_val_loss ttt_steps ttt_lr ttt_rank \
            hardware_tflops grad_clip weight_decay embed_lr matrix_lr scalar_lr head_lr \
            epsilon qat_start embed_weight_decay matrix_weight_decay \
            scalar_weight_decay head_weight_decay swa_start";
        for field in at_least_zero.split_whitespace() {
            assert_eq!(
                error(&format!("training.{field}=-1")),
                format!("training.{field}: expected a value ≥ 0, found `-1`")
            );
            assert_eq!(errors(BASE, &[&format!("training.{field}=0")]), [""; 0]);
        }
        for field in ["swa_decay", "beta1", "beta2", "muon_momentum"] {
            for value in ["1.0", "-0.1", "1.5", "1"] {
                let message = error(&format!("training.{field}={value}"));
                let expected = "expected a value ≥ 0 and < 1";
                assert_eq!(message, format!("training.{field}: {expected}, found `{value}`"));
            }
            assert_eq!(errors(BASE, &[&format!("training.{field}=0.999")]), [""; 0]);
        }
        for (phase, range) in
            [("[{\"steps\": 0, \"lr\": 1}]", "> 0"), ("[{\"steps\": 1, \"lr\": 0}]", "> 0")]
        {
            let message = error(&format!("training.phases={phase}"));
            assert!(
                message.ends_with(&format!("expected a value {range}, found `0`")),
                "{message}"
            );
        }
        let free = ["steps", "lr", "seed", "batch_tokens", "shuffle_chunk_tokens"];
        let more = ["muon_backend_steps", "weight_init_std", "swa_interval"];
        for field in free.iter().chain(&more) {
            assert_eq!(errors(BASE, &[&format!("training.{field}=-1")]), [""; 0], "{field}");
        }
    }

    #[test]
    fn no_number_that_is_kept_with_32_bits_is_beyond_them() {
        for field in [
            "training.lr",
            "training.ttt_lr",
            "training.phases[0].lr",
            "training.grad_clip",
            "blocks[0].qk_gain",
            "blocks[0].leaky_slope",
            "dropout",
        ] {
            let phases = "training.phases=[{\"steps\": 1, \"lr\": 1}]";
            for value in ["1e39", "3.5e38", "1e-46"] {
                let found = errors(BASE, &[phases, &format!("{field}={value}")]);
                let [message] = &found[..] else { panic!("{field}={value}: {found:?}") };
                let place = message.contains(&format!(": {field}: expected "));
                assert!(place && message.contains("32"), "{message}");
                assert!(message.ends_with(&format!("found `{value}`")), "{message}");
            }
        }
    }

    #[test]
    fn each_choice_of_training_is_checked() {
        for (field, wrong, nearest) in [
            ("optimizer", "adam", Some("adamw")),
            ("optimizer", "sgd", None),
            ("weight_init", "zz", None),
            ("weight_init", "Normal", Some("normal")),
            ("qat", "int4", Some("int8")),
            ("qat_scope", "matrix", Some("matrices")),
            ("ttt_mode", "x", None),
            ("ttt_mode", " lora", Some("lora")),
            ("compute_dtype", "bfloat16", None),
            ("compute_dtype", "bf-16", Some("bf16")),
        ] {
            let overrides = [format!("training.{field}={wrong}")];
            let (_, mut source) = Config::parse(BASE, "a.json", &overrides).unwrap();
            let error = source.finish().expect_err(field);
            let [problem] = error.problems().collect::<Vec<_>>()[..] else { panic!("{error}") };
            assert_eq!(problem.path, format!("training.{field}"));
            assert!(problem.message.ends_with(&format!("found `{wrong}`")), "{error}");
            let hint = problem.hint.as_deref().unwrap();
            match nearest {
                Some(found) => assert_eq!(hint, format!("did you mean `{found}`?")),
                None => assert!(hint.starts_with(&format!("`{field}` is one of `")), "{hint}"),
            }
        }
        assert_eq!(
            errors(
                BASE,
                &[
                    "training.optimizer=",
                    "training.weight_init=",
                    "training.qat=",
                    "training.ttt_mode="
                ]
            ),
            [""; 0]
        );
    }
}
