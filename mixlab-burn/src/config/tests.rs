//! Whole configs: what is accepted, and what is said about the rest.

use super::*;

pub(super) const BASE: &str = r#"{
  "name": "base", "model_dim": 32, "vocab_size": 64,
  "blocks": [{"type": "plain", "heads": 4}, {"type": "swiglu"}],
  "training": {"steps": 20, "lr": 0.005, "batch_tokens": 32}
}"#;

/// The errors of `text` after overrides, one line each, without hints.
pub(super) fn errors(text: &str, overrides: &[&str]) -> Vec<String> {
    let overrides: Vec<_> = overrides.iter().map(|text| (*text).to_owned()).collect();
    let result =
        Config::parse(text, "a.json", &overrides).and_then(|(_, mut source)| source.finish());
    match result {
        Ok(warnings) => {
            assert_eq!(warnings, []);
            Vec::new()
        }
        Err(error) => error
            .to_string()
            .lines()
            .filter(|line| !line.starts_with("  "))
            .map(str::to_owned)
            .collect(),
    }
}

/// The one error that `BASE` has after one override, without its place.
pub(super) fn error(override_text: &str) -> String {
    let found = errors(BASE, &[override_text]);
    let [only] = found.as_slice() else { panic!("`{override_text}` gives {found:?}") };
    let place = format!("--set {override_text}: ");
    only.strip_prefix(&place).unwrap_or(only).to_owned()
}

pub(super) fn config(text: &str) -> Config {
    let (config, mut source) = Config::parse(text, "a.json", &[]).expect("the text is JSON");
    source.finish().expect("the config is right");
    config
}

#[test]
fn what_was_written_is_kept_and_what_was_not_is_none() {
    let config = config(
        r#"{"model_dim": 32, "Vocab_Size": 64, "mlp_mult": 0, "recurrence": [], "dropout": null,
            "blocks": [{"type": " Mamba ", "weight_group": " a ", "options": {"k": [1, 2.5]}}],
            "training": {"weight_decay": 0, "qat": " Int8 ", "phases": [{"steps": 1, "lr": 1}]}}"#,
    );
    assert_eq!((config.name.as_str(), config.model_dim, config.vocab_size), ("a.json", 32, 64));
    assert_eq!(
        (config.mlp_mult, config.dropout, config.recurrence),
        (Some(0.0), None, Some(vec![]))
    );
    let block = &config.blocks[0];
    assert_eq!(
        (block.kind.as_str(), block.weight_group.as_deref(), block.heads),
        ("mamba", Some("a"), None)
    );
    assert_eq!(serde_json::Value::from(block.options.clone()), serde_json::json!({"k": [1, 2.5]}));
    let training = &config.training;
    assert_eq!((training.weight_decay, training.beta1), (Some(0.0), None));
    assert_eq!(training.qat.as_deref(), Some("int8"));
    assert_eq!(training.phases, [PhaseSpec { steps: 1, lr: 1.0, label: None }]);
}

#[test]
fn all_errors_of_a_file_are_reported_at_once_with_their_lines() {
    let text = r#"{ // a comment
  "model_dim": 32.0,
  "foo": 1,
  "blocks": [
    {"type": "plain", "heads": "4"},
    {
      "typ": "mlp"
    },
    7
  ],
  "training": {
    "optimizer": "AdamW",
    "lr": true, "steps": 1e2
  }
}"#;
    assert_eq!(
        errors(text, &["training.seed=x"]),
        [
            "a.json:1: vocab_size: this field is required (integer > 0)",
            "a.json:2: model_dim: expected an integer, found `32.0`",
            "a.json:3: foo: unknown field",
            "a.json:5: blocks[0].heads: expected an integer, found the string `4`",
            "a.json:6: blocks[1].type: this field is required (string)",
            "a.json:7: blocks[1].typ: unknown field",
            "a.json:9: blocks[2]: expected an object, found `7`",
            "a.json:12: training.optimizer: expected one of `muon`, `adamw`, found `AdamW`",
            "a.json:13: training.lr: expected a number, found `true`",
            "a.json:13: training.steps: expected an integer, found `1e2`",
            "--set training.seed=x: training.seed: expected an integer, found the string `x`",
        ]
    );
}

#[test]
fn a_wrong_value_gets_the_values_and_the_meaning_of_its_field() {
    let text = r#"{"model_dim": -1, "vocab_size": 1, "blocks": [7], "recurrence": [true],
        "training": {"optimizer": "sgd", "steps": [], "swa_decay": 1}}"#;
    let (_, mut source) = Config::parse(text, "a.json", &[]).unwrap();
    let error = source.finish().unwrap_err();
    let hints: Vec<_> = error.problems().map(|p| p.hint.as_deref().unwrap()).collect();
    let expected = [
        "`model_dim` is an integer > 0: width of the residual stream (D)",
        "`blocks` is a list of objects with at least one entry: the blocks, in the order of the forward pass",
        "`recurrence` is a list of integers: for each block the index of the block whose weights it uses, its own index for its own",
        "`optimizer` is one of `muon`, `adamw`: optimizer of the matrices; everything else uses AdamW",
        "`steps` is an integer: number of optimizer steps; 0 and below mean the default. With `phases`, their sum counts instead",
        "`swa_decay` is a number ≥ 0 and < 1: share of the average that each update keeps",
    ];
    assert_eq!(hints, expected);
}

#[test]
fn an_unknown_field_is_an_error_at_every_level_and_gets_a_hint() {
    let text = r#"{"model_dim": 1, "vocab_size": 1, "steps": 5, "heads": 2, "zzz": 1,
        "blocks": [{"type": "mlp", "n_heads": 1, "weights": [{"name": "w", "shape": ["D"], "init": 0}],
        "ops": [{"op": "add", "input": ["x"]}]}],
        "training": {"batchTokens": 1, "phases": [{"steps": 1, "lr": 1, "lable": "a"}]}}"#;
    let (_, mut source) = Config::parse(text, "a.json", &[]).unwrap();
    let error = source.finish().unwrap_err();
    let found: Vec<_> =
        error.problems().map(|p| (p.path.as_str(), p.hint.as_deref().unwrap())).collect();
    let known = Config::FIELDS.iter().map(|field| field.name).collect::<Vec<_>>().join("`, `");
    assert_eq!(
        found,
        [
            ("steps", "`steps` belongs in `training`"),
            ("heads", "`heads` belongs in `blocks[…]`"),
            ("zzz", format!("known fields: `{known}`").as_str()),
            ("blocks[0].n_heads", "did you mean `heads`?"),
            ("blocks[0].weights[0].init", "known fields: `name`, `shape`"),
            ("blocks[0].ops[0].input", "did you mean `inputs`?"),
            ("training.batchTokens", "did you mean `batch_tokens`?"),
            ("training.phases[0].lable", "did you mean `label`?"),
        ]
    );
}

#[test]
fn two_spellings_of_one_key_are_an_error() {
    let text = BASE.replace("\"vocab_size\"", "\"Model_Dim\": 64, \"vocab_size\"");
    let repeats = "`Model_Dim` repeats `model_dim`: upper and lower case are the same here";
    assert_eq!(errors(&text, &[]), [format!("a.json:2: Model_Dim: {repeats}")]);
}

#[test]
fn an_override_is_checked_like_the_file() {
    let overrides =
        ["training.steps=7".to_owned(), "BLOCKS[1].TYPE=mlp".to_owned(), "name=".to_owned()];
    let (config, mut source) = Config::parse(BASE, "a.json", &overrides).unwrap();
    assert_eq!(source.finish().unwrap(), []);
    assert_eq!((config.training.steps, config.blocks[1].kind.as_str()), (Some(7), "mlp"));
    assert_eq!(config.name, "a.json");
    assert_eq!(error("training.stpes=20"), "training.stpes: unknown field");
    assert_eq!(error("trainin.steps=20"), "trainin: unknown field");
}

#[test]
fn overrides_that_lead_nowhere_are_all_named() {
    assert_eq!(
        errors(BASE, &["blocks[7].heads=8", "seq_len", "training.steps=1"]),
        [
            "--set blocks[7].heads=8: `blocks` has 2 entries, and indices begin at 0, so `7` is too large",
            "--set seq_len: expected `path=value`, found `seq_len`",
        ]
    );
}

#[test]
fn text_that_is_no_config_fails_with_line_and_column() {
    assert_eq!(errors("{\"name\": }", &[]), ["a.json:1:10: expected value"]);
    assert_eq!(errors("", &[]), ["a.json:1:1: the text is empty"]);
    let garbage = "a.json:2:3: unexpected text after the end of the config: `xyz`";
    assert_eq!(errors("{\"name\": \"a\"}\n  xyz", &[]), [garbage]);
}

#[test]
fn comments_anywhere_are_accepted() {
    let text = "// hi\n{\"name\":\"a//b\",\"model_dim\":32,\"vocab_size\":64,\
        \"blocks\":[{\"type\":\"plain\",\"heads\":4}], // x\n\"training\":{}}";
    assert_eq!(config(text).name, "a//b");
}

#[test]
fn a_file_is_read_under_its_path_and_its_faults_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("good.json"), BASE.replace("\"name\": \"base\", ", "")).unwrap();
    std::fs::write(path("latin.json"), b"{\n\"name\": \"\xe9\"}").unwrap();
    let (config, source) = Config::read(path("good.json"), &[]).unwrap();
    assert_eq!(
        (config.name, source.place("model_dim")),
        (path("good.json"), format!("{}:2", path("good.json")))
    );
    let error = Config::read(path("latin.json"), &[]).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("{}:2: the text is not UTF-8", path("latin.json"))),
        "{error}"
    );
    let error = Config::read(path("nope.json"), &[]).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("{}: cannot read the config file", path("nope.json"))),
        "{error}"
    );
}

#[test]
fn a_relative_path_is_looked_for_above_the_working_directory_too() {
    // The tests of a package run in its folder, so that `../<its name>` exists.
    let here = std::env::current_dir().unwrap();
    let within = format!("{}/Cargo.toml", here.file_name().unwrap().to_str().unwrap());
    let error = Config::read(&within, &[]).unwrap_err().to_string();
    assert!(error.starts_with(&format!("../{within}:1:")), "{error}");
    let error = Config::read("no/such.json", &[]).unwrap_err().to_string();
    assert_eq!(
        error,
        "no/such.json: there is no such config file, and no `../no/such.json` either\n  hint: check the path"
    );
    assert_eq!(
        Config::read("", &[]).unwrap_err().to_string(),
        "config: the path of the config file is empty\n  hint: name a file of JSON"
    );
}
