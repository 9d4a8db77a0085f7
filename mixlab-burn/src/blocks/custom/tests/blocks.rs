//! Whole blocks: what is run, with which data, and what of it can be trained and captured.

use std::sync::Arc;

use burn::backend::Autodiff;
use burn::tensor::{Int, Tensor, TensorData};
use burn_flex::Flex;
use mixlab_ops::capture::{Node, capture};
use serde_json::{Value as Json, json};

use super::{block, config, first, plan};
use crate::blocks::{Block, Builtin, Flow};
use crate::model::{Model, Tokens};
use crate::plan::Plan;
use crate::weights::layout;

/// Tests read the example of the module's documentation.
const SOURCE: &str = include_str!("../mod.rs");

fn example() -> Json {
    let lines = SOURCE.lines().filter_map(|line| line.strip_prefix("//!"));
    let snippet: Vec<_> =
        lines.skip_while(|l| *l != " ```json").skip(1).take_while(|l| *l != " ```").collect();
    serde_json::from_str(&snippet.concat()).expect("the example is JSON")
}

fn tokens<B: burn::tensor::backend::Backend>(batch: usize, seq: usize) -> Tokens<B> {
    let ids: Vec<i32> = (0..batch * seq).map(|n| (n * n % 37) as i32).collect();
    let ids = TensorData::new(ids, [batch, seq]);
    Tokens { ids: Tensor::<B, 2, Int>::from_data(ids, &Default::default()), bigrams: None }
}

fn model<B: burn::tensor::backend::Backend>(blocks: Json) -> Model<B> {
    let planned = plan(blocks).unwrap_or_else(|e| panic!("{e}"));
    Model::init(Arc::new(planned.plan), &Default::default())
}

/// Names of everything that a forward executes, whether or not the logits depend on it.
fn nodes(blocks: Json) -> Vec<String> {
    let planned = plan(blocks).unwrap_or_else(|e| panic!("{e}"));
    captured(planned.plan).into_iter().map(|(name, _)| name).collect()
}

/// Names and attributes of what a forward executes.
fn captured(planned: Plan) -> Vec<(String, String)> {
    let planned = Arc::new(planned);
    let program = capture(
        |device| Model::<_>::new(planned.clone(), device),
        |model, session| {
            let ids = session.input_int("input_ids", [2, 12]);
            session.output("logits", model.forward(Tokens { ids, bigrams: None }));
        },
    );
    let program = program.expect("the forward can be captured");
    let node = |node: &Node| (node.name.clone(), node.attributes.clone());
    program.nodes().iter().map(node).collect()
}

#[test]
fn products_have_operands_in_the_precision_of_training() {
    let mixed = [
        ("reshape", json!(["x"]), json!("a"), json!({"shape": ["BT", "H", "HD"]})),
        ("transpose", json!(["a"]), json!("b"), json!({"axes": [0, 2, 1]})),
        ("matmul", json!(["a", "b"]), json!("s"), json!({})),
        ("matmul", json!(["s", "a"]), json!("a"), json!({})),
        ("reshape", json!(["a"]), json!("x"), json!({"shape": ["BT", "D"]})),
    ];
    let mut mixed = block(&[("w", json!(["D"]))], &mixed);
    mixed["heads"] = json!(4);
    let planned = |dtype: &str, blocks: &[Json]| {
        let mut config = config(json!(blocks));
        config["training"]["compute_dtype"] = json!(dtype);
        Plan::<Builtin>::parse(&config.to_string(), "t.json", &[]).unwrap().plan
    };
    let run = |dtype: &str| {
        let (plan, device) = (planned(dtype, &[mixed.clone()]), Default::default());
        let mut flow = Flow::<Flex>::new(2, 12);
        flow.precision = plan.training.precision.unwrap_or_default();
        let x: Vec<f32> = (0..384).map(|n| (n * n % 97) as f32 / 97.0 - 0.4).collect();
        let x = Tensor::<Flex, 1>::from_floats(x.as_slice(), &device).reshape([24, 16]);
        let block = &plan.steps[0].block;
        block.forward(&block.init(&device), x, &mut flow).into_data().to_vec::<f32>().unwrap()
    };
    let [single, half] = ["f32", "bf16"].map(run);
    let errors: Vec<f32> = single.iter().zip(&half).map(|(a, b)| (a - b).abs()).collect();
    let most = errors.iter().copied().fold(0.0, f32::max);
    assert!((1e-4..2e-2).contains(&most), "{most}");

    for dtype in ["f32", "tf32"] {
        let nodes = captured(planned(dtype, &[heads()]));
        let attention = nodes.iter().find(|(name, _)| name == "mixlab.attention").unwrap();
        let expected = format!("\"precision\":\"{dtype}\"");
        assert!(attention.1.contains(&expected), "{attention:?}");
    }
}

#[test]
fn the_example_of_the_documentation_runs() {
    let planned = plan(json!([example()])).unwrap_or_else(|e| panic!("{e}"));
    assert!(planned.warnings.is_empty(), "{:?}", planned.warnings);
    assert_eq!(first(&planned).name(), "gated residual");
    let logits = model::<Flex>(json!([example()])).forward(tokens(2, 12));
    assert!(logits.into_data().to_vec::<f32>().unwrap().iter().all(|v| v.is_finite()));
}

#[test]
fn another_batch_gives_the_same_rows() {
    let model = model::<Flex>(json!([example(), heads()]));
    let rows = |batch| model.forward(tokens(batch, 12)).into_data().to_vec::<f32>().unwrap();
    let (one, three) = (rows(1), rows(3));
    for (a, b) in one.iter().zip(&three) {
        assert!((a - b).abs() <= 1e-5, "{a} {b}");
    }
}

/// Attention with everything that depends on the batch.
fn heads() -> Json {
    let split = json!({"shape": ["B", "T", "H", "HD"]});
    let swap = json!({"axes": [0, 2, 1, 3]});
    let mut ops = vec![("matmul", json!(["x", "w"]), json!("q"), json!({}))];
    ops.push(("reshape", json!(["q"]), json!("q"), split));
    ops.push(("transpose", json!(["q"]), json!("q"), swap.clone()));
    ops.push(("rope", json!(["q", "q"]), json!(["q", "k"]), json!({})));
    ops.push(("attention", json!(["q", "k", "q"]), json!("y"), json!({})));
    ops.push(("transpose", json!(["y"]), json!("y"), swap));
    ops.push(("reshape", json!(["y"]), json!("y"), json!({"shape": ["BT", "D"]})));
    ops.push(("add", json!(["x", "y"]), json!("x"), json!({})));
    let mut block = block(&[("w", json!(["D", "D"]))], &ops);
    block["heads"] = json!(4);
    block
}

#[test]
fn no_row_of_a_batch_and_no_later_token_changes_a_result() {
    let model = model::<Flex>(json!([heads()]));
    let of = |ids: Vec<i32>| {
        let ids = TensorData::new(ids, [2, 12]);
        let ids = Tensor::<Flex, 2, Int>::from_data(ids, &Default::default());
        model.forward(Tokens { ids, bigrams: None }).into_data().to_vec::<f32>().unwrap()
    };
    let start: Vec<i32> = (0..24).collect();
    let mut changed = start.clone();
    changed[6..].fill(5);
    let (a, b) = (of(start), of(changed));
    assert_eq!(a[..6 * 37], b[..6 * 37]);
    assert_ne!(a[6 * 37..7 * 37], b[6 * 37..7 * 37]);
}

#[test]
fn operations_that_never_reach_the_stream_are_not_run() {
    let ops = [
        ("matmul", json!(["x", "w"]), json!("a"), json!({})),
        ("tanh", json!(["a"]), json!("x"), json!({})), // overwritten unread
        ("exp", json!(["a"]), json!("b"), json!({})),
        ("sigmoid", json!(["a"]), json!("x"), json!({})),
    ];
    let block = block(&[("w", json!(["D", "D"]))], &ops);
    assert_eq!(first(&plan(json!([block])).unwrap()).dead(), [(1, "tanh"), (2, "exp")]);
    let nodes = nodes(json!([block]));
    let has = |name: &str| nodes.iter().any(|node| node == name);
    assert!(has("mixlab.linear") && has("mixlab.activate"), "{nodes:?}");
    assert!(!has("tanh") && !has("exp"), "{nodes:?}");
}

#[test]
fn known_operations_are_single_nodes_of_a_captured_forward() {
    let sizes = json!({"B": "B", "T": "T", "D": "D"});
    let ops = [
        ("rmsnorm", json!(["x", "v"]), json!("n"), json!({"eps": 1e-5})),
        ("scan", json!(["n", "v"]), json!("a"), sizes.clone()),
        ("scan_tv", json!(["n", "a"]), json!("b"), sizes),
        ("outer", json!(["n", "b"]), json!("u"), json!({})),
        ("matrix_scan", json!(["u", "b"]), json!("u"), json!({})),
        ("sum", json!(["u"]), json!("u"), json!({})),
        ("reshape", json!(["u"]), json!("u"), json!({"shape": ["BT", "D"]})),
        ("add", json!(["x", "u"]), json!("x"), json!({})),
    ];
    let nodes = nodes(json!([block(&[("v", json!(["D"]))], &ops), heads()]));
    for name in ["rms_norm", "scan", "scan_tv", "matrix_scan", "rope", "attention", "activate"] {
        assert!(nodes.contains(&format!("mixlab.{name}")), "{name} is not in {nodes:?}");
    }
}

#[test]
fn every_weight_that_is_read_gets_a_gradient_and_no_other() {
    let model = model::<Autodiff<Flex>>(json!([example(), {
        "type": "custom", "name": "two", "weights": [
            {"name": "unread", "shape": ["D"]}, {"name": "12", "shape": ["D", "D"]},
        ],
        "ops": [{"op": "matmul", "inputs": ["x", "12"], "output": "x"}],
    }]));
    let targets = Tensor::from_data(TensorData::new(vec![1i32; 24], [24]), &Default::default());
    let grads = model.losses(tokens(2, 12), targets, None).mean().backward();
    let mut found = Vec::new();
    struct Read<'a>(&'a burn::backend::autodiff::grads::Gradients, &'a mut Vec<bool>);
    impl burn::module::ModuleVisitor<Autodiff<Flex>> for Read<'_> {
        fn visit_float<const D: usize>(
            &mut self,
            param: &burn::module::Param<Tensor<Autodiff<Flex>, D>>,
        ) {
            self.1.push(param.val().grad(self.0).is_some());
        }
    }
    burn::module::Module::visit(&model, &mut Read(&grads, &mut found));
    let names: Vec<_> = layout(&model).into_iter().map(|w| w.name).collect();
    let own = ["norm_scale", "w_up", "w_down", "unread", "12"];
    assert_eq!(names[names.len() - 5..], own);
    assert_eq!(found[found.len() - 5..], [true, true, true, false, true]);
}

#[test]
fn another_length_is_refused_only_where_it_does_not_fit() {
    let planned = plan(json!([heads()])).unwrap();
    assert_eq!(first(&planned).fits(3, 5), Ok(()));
    let ops = [("add", json!(["x", "late"]), json!("x"), json!({}))];
    let mut fixed = block(&[("p", json!(["T", "D"]))], &ops);
    let views = [
        ("reshape", json!(["x"]), json!("y"), json!({"shape": ["B", "T", "D"]})),
        ("add", json!(["y", "p"]), json!("y"), json!({})),
        ("reshape", json!(["y"]), json!("x"), json!({"shape": ["BT", "D"]})),
    ];
    fixed["ops"] = block(&[], &views)["ops"].clone();
    let planned = plan(json!([fixed])).unwrap();
    assert_eq!(first(&planned).fits(7, 12), Ok(()));
    let refusal = first(&planned).fits(2, 6).unwrap_err();
    assert_eq!(refusal.op, Some(1));
    assert!(refusal.fault.message.contains("[2, 6, 16] and [12, 16]"), "{refusal:?}");
}

#[test]
fn blocks_may_share_weights_and_differ_in_operations() {
    let weights = [("p", json!(["D", "D"]))];
    let mut a = block(&weights, &[("matmul", json!(["x", "p"]), json!("x"), json!({}))]);
    let mut b = block(
        &weights,
        &[
            ("matmul", json!(["x", "p"]), json!("y"), json!({})),
            ("add", json!(["x", "y"]), json!("x"), json!({})),
        ],
    );
    (a["weight_group"], b["weight_group"]) = (json!("g"), json!("g"));
    let planned = plan(json!([a, b])).unwrap();
    let owners: Vec<_> = planned.plan.steps.iter().map(|step| step.owner).collect();
    assert_eq!(owners, [0, 0]);
    b["heads"] = json!(1); // what a block without heads has
    assert!(plan(json!([a, b])).is_ok());
    b["weights"][0]["shape"] = json!(["D", "2D"]);
    b["ops"][0]["output"] = json!("unused");
    b["ops"][1]["inputs"][1] = json!("x");
    let error = plan(json!([a, b])).unwrap_err().to_string();
    assert!(error.contains("their weights differ"), "{error}");
}

#[test]
fn a_config_in_text_and_a_recurrence_work_alike() {
    let mut text = config(json!([example(), example()]));
    text["recurrence"] = json!([0, 0]);
    let planned = Plan::<Builtin>::parse(&text.to_string(), "t.json", &[]);
    assert_eq!(planned.unwrap().plan.steps[1].owner, 0);
}
