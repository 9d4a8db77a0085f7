use burn::backend::Autodiff;
use burn::module::{AutodiffModule, Module};
use burn::record::{FullPrecisionSettings, NamedMpkBytesRecorder, Recorder};
use burn_flex::Flex;

use super::*;
use crate::weights::values;

const JSON: &str = r#"{"model_dim": 8, "vocab_size": 11, "bigram_vocab_size": 13, "bigram_dim": 4,
    "blocks": [{"type": "plain", "heads": 2}, {"type": "swiglu"}]}"#;

fn plan() -> Plan {
    Plan::parse(JSON, "test.json", &[]).unwrap().plan
}

fn batch() -> Batch {
    let x: Vec<i32> = vec![3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8];
    Batch { batch: 2, seq: 6, y: x.clone(), x, prev: vec![-1, -1] }
}

fn ids<B: Backend>() -> Tensor<B, 2, Int> {
    Tensor::from_data(TensorData::new(batch().x, [2, 6]), &Default::default())
}

#[test]
#[should_panic(expected = "target `-1` at place `2` of the batch is not in 0..5")]
fn ids_outside_of_the_vocabulary_are_named() {
    check_vocabulary("token", &[0, 4], 5);
    check_vocabulary("target", &[0, 4, -1], 5);
}

#[test]
fn a_plain_tensor_of_ids_gets_the_bigrams_that_an_upload_gets() {
    let device = Default::default();
    let model = plan().init::<Flex>(&device);
    let (tokens, _) = model.upload(batch(), &device);
    assert!(tokens.bigrams.is_some());
    let expected = model.forward(tokens).into_data();
    model.forward(ids()).into_data().assert_eq(&expected, true);
    // They matter.
    let none = Tokens { ids: ids(), bigrams: Some(ids::<Flex>().zeros_like()) };
    let other = (model.forward(none) - model.forward(ids())).abs().max().into_scalar();
    assert!(other > 1e-3, "{other}");
}

#[test]
fn bigrams_of_a_row_that_goes_on_read_the_last_token_of_the_pass_before() {
    let model = plan().init::<Flex>(&Default::default());
    let whole = model.hidden(ids(), None).reshape([2, 6, 8]);
    let mut memory = model.memory().expect("its blocks stream");
    for piece in [0..1, 1..4, 4..6] {
        let (start, columns) = (piece.start, piece.len());
        let tokens = ids().narrow(1, start, columns);
        let (hidden, after) = model.advance(tokens, memory);
        memory = after;
        let expected = whole.clone().narrow(1, start, columns).into_data();
        let found = hidden.reshape([2, columns, 8]).into_data();
        found.assert_approx_eq::<f32>(&expected, burn::tensor::Tolerance::absolute(1e-5));
    }
}

#[test]
fn bigrams_follow_rows_that_are_joined_and_kept() {
    let model = plan().init::<Flex>(&Default::default());
    let whole = model.hidden(ids(), None).reshape([2, 6, 8]);
    let read = |row: usize, tokens: std::ops::Range<usize>| {
        ids::<Flex>().narrow(0, row, 1).narrow(1, tokens.start, tokens.len())
    };
    let after = |row, count| {
        model.advance(read(row, 0..count), model.memory().expect("its blocks stream")).1
    };
    let check = |hidden: Tensor<Flex, 2>, expected: &[(usize, usize)]| {
        let expected = expected.iter().map(|(row, token)| {
            whole.clone().narrow(0, *row, 1).narrow(1, *token, 1).reshape([1, 8])
        });
        let expected = Tensor::cat(expected.collect(), 0).into_data();
        let tolerance = burn::tensor::Tolerance::absolute(1e-5);
        hidden.into_data().assert_approx_eq::<f32>(&expected, tolerance);
    };
    let next = Tensor::cat(vec![read(0, 2..3), read(1, 4..5)], 0);
    let (hidden, memory) = model.advance(next, after(0, 2).join(after(1, 4)));
    check(hidden, &[(0, 2), (1, 4)]);
    let (hidden, _) = model.advance(read(1, 5..6), memory.keep(&[1]));
    check(hidden, &[(1, 5)]);
}

#[test]
fn a_model_is_a_module_of_burn() {
    type Training = Autodiff<Flex>;
    let device = Default::default();
    let model = plan().init::<Training>(&device);
    let expected = model.forward(ids()).into_data();
    model.valid().forward(ids()).into_data().assert_eq(&expected, true);
    model.clone().fork(&device).forward(ids()).into_data().assert_eq(&expected, true);
    model.clone().to_device(&device).forward(ids()).into_data().assert_eq(&expected, true);
    assert_eq!(model.num_params(), values(&model).iter().map(Vec::len).sum::<usize>());
    assert!(model.to_string().contains(&format!("params: {}", model.num_params())), "{model}");

    let recorder = NamedMpkBytesRecorder::<FullPrecisionSettings>::default();
    let bytes = recorder.record(model.into_record(), ()).unwrap();
    let blank: Model<Training> = Model::new(Arc::new(plan()), &device);
    let loaded = blank.load_record(recorder.load(bytes, &device).unwrap());
    loaded.forward(ids()).into_data().assert_eq(&expected, true);
}

#[test]
fn a_file_is_loaded_by_its_path_and_a_mistake_names_place_and_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.json");
    std::fs::write(&path, JSON).unwrap();
    let loaded = Plan::load(&path).unwrap();
    assert_eq!(Plan { name: "test.json".into(), ..loaded }, plan());
    std::fs::write(&path, JSON.replace("\"heads\": 2", "\"heads\": 3")).unwrap();
    let message = Plan::load(&path).unwrap_err().to_string();
    assert!(message.contains("model.json:2: blocks[0].heads: `3` does not divide"), "{message}");
    assert!(message.contains("\n  hint: use one of 1, 2, 4, 8"), "{message}");
    let message = Plan::load(folder.path().join("absent.json")).unwrap_err().to_string();
    assert!(
        message.contains("cannot read the config file") && message.contains("hint: "),
        "{message}"
    );
}
