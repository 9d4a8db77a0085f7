use crate::blocks::Builtin;
use crate::plan::{Plan, Planned};

fn planned(model: &str, training: &str) -> Planned {
    let json = format!(
        r#"{{"model_dim": 8, "vocab_size": 11, {model} "blocks": [{{"type": "swiglu"}}],
            "training": {{{training}}}}}"#
    );
    Plan::<Builtin>::parse(&json, "test.json", &[]).unwrap()
}

fn warnings(model: &str, training: &str) -> Vec<String> {
    let warnings = planned(model, training).warnings.into_iter();
    warnings.map(|w| format!("{}: {}", w.problem.path, w.problem.message)).collect()
}

#[test]
fn a_schedule_that_stays_below_its_rate_is_warned_about() {
    let warned = |training: &str| {
        let found = warnings("", training).into_iter().next().unwrap_or_default();
        found.split(':').next().unwrap_or_default().to_owned()
    };
    for (training, field) in [
        (r#""steps": 1"#, "training.steps"),
        (r#""steps": 5"#, "training.steps"),
        (r#""steps": 20"#, ""),
        (r#""steps": 200, "warmdown_steps": 200"#, "training.warmdown_steps"),
        (r#""steps": 200, "warmdown_steps": 120"#, "training.warmdown_steps"),
        (r#""steps": 200, "warmdown_steps": 100"#, ""),
        (r#""steps": 1, "phases": [{"steps": 1, "lr": 1}]"#, ""),
    ] {
        assert_eq!(warned(training), field, "{training}");
    }
}

#[test]
fn a_decay_that_makes_weights_grow_is_an_error_of_the_field_that_sets_it() {
    let failed = |training: &str| {
        let json = format!(
            r#"{{"model_dim": 8, "vocab_size": 11, "blocks": [{{"type": "swiglu"}}],
                "training": {{{training}}}}}"#
        );
        let error = Plan::<Builtin>::parse(&json, "test.json", &[]).unwrap_err();
        let paths: Vec<_> = error.problems().map(|problem| problem.path.clone()).collect();
        assert!(error.problems().all(|problem| problem.hint.is_some()), "{error}");
        paths
    };
    assert_eq!(failed(r#""weight_decay": 1e30"#), ["training.weight_decay"]);
    assert_eq!(failed(r#""lr": 1, "head_weight_decay": 3"#), ["training.head_weight_decay"]);
    assert_eq!(warnings("", r#""weight_decay": 1, "lr": 1"#), [""; 0]);
}

#[test]
fn a_hint_offers_a_size_that_can_be() {
    for (tokens, offered) in [(1000, "1024"), (2_147_483_647i64, "2147483520")] {
        let json = format!(
            r#"{{"model_dim": 1, "vocab_size": 1, "blocks": [{{"type": "swiglu"}}],
                "training": {{"batch_tokens": {tokens}}}}}"#
        );
        let error = Plan::<Builtin>::parse(&json, "test.json", &[]).unwrap_err().to_string();
        assert!(error.contains(&format!("use `{offered}`")), "{error}");
    }
}

#[test]
fn a_zero_decay_is_zero_for_all_and_the_default_for_one_group() {
    let all = planned("", r#""weight_decay": 0, "head_weight_decay": 0"#);
    assert_eq!((all.plan.training.matrix.weight_decay, all.warnings.len()), (0.0, 0));
    let one = r#""weight_decay": 0.02, "matrix_weight_decay": 0"#;
    assert_eq!(planned("", one).plan.training.matrix.weight_decay, 0.02);
    let expected = "training.matrix_weight_decay: `0` means the default here, weight_decay `0.02`";
    assert_eq!(warnings("", one), [expected]);
}

#[test]
fn the_learning_rate_of_a_tied_head_is_warned_about_where_it_differs() {
    let tied = r#""tie_embeddings": true,"#;
    let expected = "training.head_lr: `0.001` has no effect with `tie_embeddings`: the head is the embedding, whose learning rate is `0.01`";
    let different = r#""lr": 1e-3, "embed_lr": 1e-2"#;
    assert_eq!(warnings(tied, different), [expected]);
    assert_eq!(warnings("", different), [""; 0]);
    assert_eq!(warnings(tied, r#""head_lr": 1e-2, "embed_lr": 1e-2"#), [""; 0]);
}
