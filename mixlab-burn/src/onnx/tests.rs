//! What an export says about itself and about what it cannot do.

use std::sync::Arc;

use burn::module::{Module, Param, ParamId};
use burn::nn::conv::{Conv1d, Conv1dConfig};
use burn::nn::{Linear, LinearConfig, PaddingConfig1d};
use burn::tensor::backend::Backend;
use burn::tensor::module::{avg_pool1d, interpolate};
use burn::tensor::ops::{InterpolateMode, InterpolateOptions};
use burn::tensor::{FloatDType, Int, IntDType, Tensor};
use burn_flex::Flex;
use onnx_protobuf::{Message, ModelProto};

use super::{Dim, OnnxError, Options, Profile, Traced, WeightType, trace, trace_model};
use crate::model::{Model, Part};
use crate::plan::Plan;

#[derive(Module, Debug)]
struct Inner<B: Backend> {
    up: Linear<B>,
}

/// Resizes what `inner` computes in a way that ONNX has not.
#[derive(Module, Debug)]
struct Outer<B: Backend> {
    inner: Inner<B>,
}

fn traced() -> Traced {
    let traced = trace(
        &["batch"],
        |device| Outer { inner: Inner { up: LinearConfig::new(3, 4).init(device) } },
        |module, trace| {
            let x = trace.float("x", [Dim::from("batch"), Dim::from(3)]);
            let y = module.inner.up.forward(x);
            let rows = y.dims()[0];
            let lanczos = InterpolateOptions::new(InterpolateMode::Lanczos3);
            trace.output("y", interpolate(y.reshape([rows, 1, 2, 2]), [3, 3], lanczos));
        },
    );
    traced.unwrap()
}

fn module() -> Outer<Flex> {
    let device = Default::default();
    Outer { inner: Inner { up: LinearConfig::new(3, 4).init(&device) } }
}

#[test]
fn an_operation_without_counterpart_is_named_with_its_shapes_and_the_weight_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m.onnx");
    let error = traced().write(&module(), &file, &Options::default()).unwrap_err();
    assert!(matches!(error, OnnxError::Unsupported { .. }));
    let message = error.to_string();
    for part in ["interpolate", ", 1, 2, 2] to f32[", ", 1, 3, 3]", "`inner.up.", "hint: "] {
        assert!(message.contains(part), "{part} is missing: {message}");
    }
    assert!(!file.exists());
}

#[test]
fn a_forward_that_branches_on_a_length_is_told_by_what_it_does_there() {
    let traced = trace(
        &["batch"],
        |device| Inner { up: LinearConfig::new(3, 4).init(device) },
        |module, trace| {
            let y = module.up.forward(trace.float("x", [Dim::from("batch"), Dim::from(3)]));
            let short = y.dims()[0] < 12;
            trace.output("y", if short { y.exp() } else { y.sqrt() });
        },
    );
    let message = traced.err().expect("it has two courses").to_string();
    for part in ["where batch = ", "`exp` of f32[", "`sqrt` of f32[", "`up.weight`", "hint: "] {
        assert!(message.contains(part), "{part} is missing: {message}");
    }
}

#[test]
fn a_forward_that_sorts_is_told_which_tensor_it_reads() {
    let traced = trace(
        &["batch"],
        |device| Inner { up: LinearConfig::new(3, 4).init(device) },
        |module, trace| {
            let y = module.up.forward(trace.float("x", [Dim::from("batch"), Dim::from(3)]));
            trace.output("y", y.exp().sort(1));
        },
    );
    let message = traced.err().expect("it reads data").to_string();
    for part in ["sort", "the result of `exp` of f32[", "after the weight `up.", "hint: "] {
        assert!(message.contains(part), "{part} is missing: {message}");
    }
}

#[test]
fn values_of_one_name_are_told_by_their_roles() {
    let named = |input: &'static str, output: &'static str| {
        let traced = trace(
            &["batch"],
            |device| Inner { up: LinearConfig::new(3, 4).init(device) },
            move |module, trace| {
                let x = trace.float(input, [Dim::from("batch"), Dim::from(3)]);
                trace.output(output, module.up.forward(x));
            },
        );
        traced.err().map(|error| error.to_string())
    };
    assert_eq!(named("x", "y"), None);
    let twice = named("x", "x").expect("both are x");
    assert!(twice.starts_with("the input and the output are both called `x`"), "{twice}");
    let weight = named("x", "up.bias").expect("both are up.bias");
    assert!(weight.starts_with("the output and the parameter are both called"), "{weight}");
}

#[test]
fn the_bodies_of_loops_have_no_names_of_values_around_them() {
    fn build<B: Backend>(device: &B::Device) -> Inner<B> {
        Inner { up: LinearConfig::new(3, 4).init(device) }
    }
    let traced = trace(&["batch"], build, |module, trace| {
        let x = trace.float("h", [Dim::from("batch"), Dim::from(3)]);
        trace
            .output("add_1", module.up.forward(x).cumprod(1).add_scalar(1.0).exp().add_scalar(2.0));
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m.onnx");
    let inner = build::<Flex>(&Default::default());
    traced.unwrap().write(&inner, &file, &Options::default()).unwrap();
    let model = ModelProto::parse_from_bytes(&std::fs::read(file).unwrap()).unwrap();
    let scan = model.graph.node.iter().find(|node| node.op_type == "Scan").unwrap();
    let body = scan.attribute.iter().find_map(|attribute| attribute.g.as_ref()).unwrap();
    assert!(body.input.iter().all(|port| port.name != "h"), "{body:?}");
    let mut names: Vec<&String> = model.graph.node.iter().flat_map(|node| &node.output).collect();
    let all = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all);
}

#[test]
fn weights_are_stored_in_the_type_that_was_traced() {
    #[derive(Module, Debug)]
    struct Half<B: Backend> {
        weight: Param<Tensor<B, 2>>,
        places: Param<Tensor<B, 1, Int>>,
    }
    fn half<B: Backend>(device: &B::Device, dtype: FloatDType) -> Half<B> {
        let places = Tensor::<B, 1, Int>::from_ints([1, 0], device).cast(IntDType::I32);
        Half {
            weight: Param::from_tensor(Tensor::<B, 2>::ones([16, 16], device).cast(dtype)),
            places: Param::initialized(ParamId::new(), places),
        }
    }
    let build = |device: &_| half(device, FloatDType::F16);
    let traced = trace(&["batch"], build, |module: &Half<_>, trace| {
        let x = trace.float("x", [Dim::from("batch"), Dim::from(16)]).cast(FloatDType::F16);
        let y = x.matmul(module.weight.val()).select(1, module.places.val());
        trace.output("y", y.cast(FloatDType::F32));
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m.onnx");
    // Trained in 32 bits.
    let trained = half::<Flex>(&Default::default(), FloatDType::F32);
    let options = Options { weights: WeightType::Int8, ..Options::default() };
    let written = traced.unwrap().write(&trained, &file, &options).unwrap();
    let model = ModelProto::parse_from_bytes(&std::fs::read(file).unwrap()).unwrap();
    let stored = |name: &str| {
        let tensor = model.graph.initializer.iter().find(|tensor| tensor.name == name).unwrap();
        (tensor.data_type, tensor.raw_data.len())
    };
    assert_eq!((stored("weight"), stored("places")), ((10, 512), (6, 8)));
    assert_eq!(written.bytes, 520);
}

#[test]
fn what_takes_few_positions_is_captured_at_short_lengths() {
    let up_to = |most: usize| {
        trace(
            &["batch", "sequence"],
            |device| Inner { up: LinearConfig::new(3, most).init(device) },
            |module, trace| {
                let x = trace.float("x", [Dim::from("batch"), Dim::from("sequence")]);
                let table: Tensor<_, 2> = module.up.weight.val();
                let length = x.dims()[1];
                trace.output("y", x + table.narrow(0, 0, 1).narrow(1, 0, length));
            },
        )
    };
    assert!(up_to(40).is_ok() && up_to(8).is_ok());
    let message = up_to(7).err().expect("it takes fewer").to_string();
    for part in ["where batch = ", "sequence = ", "panicked", "hint: "] {
        assert!(message.contains(part), "{part} is missing: {message}");
    }
}

#[test]
fn what_takes_no_short_rows_is_captured_at_long_lengths() {
    let from = |first: usize, share: usize| {
        let build = |device: &_| Inner { up: LinearConfig::new(1, 4).init(device) };
        let traced = trace(&["batch", "sequence"], build, |module, trace| {
            let x = trace.float("x", [Dim::from("batch"), "sequence".into(), 1.into()]);
            let left = (x.dims()[1] - first) / share;
            trace.output("y", module.up.forward(x.narrow(1, first, left)));
        });
        traced.err().map(|error| error.to_string())
    };
    for first in [40, 80, 1000] {
        assert_eq!((from(first, 1), from(first, 2)), (None, None));
    }
    let shares = from(40, 70).expect("that is by too much");
    assert!(shares.contains("which is no sum of products of axes"), "{shares}");
    let message = from(2000, 1).expect("it takes longer ones");
    assert!(message.contains("panicked") && message.contains("61 to 1800"), "{message}");
}

#[test]
fn windows_that_depend_on_lengths_are_exported_if_they_are_the_whole() {
    let pooled = |less: usize| {
        let build = |device: &_| Inner { up: LinearConfig::new(1, 4).init(device) };
        let traced = trace(&["length"], build, |module, trace| {
            let x = module.up.forward(trace.float("x", [Dim::from(1), "length".into(), 1.into()]));
            let window = x.dims()[1] - less;
            trace.output("y", avg_pool1d(x.swap_dims(1, 2), window, 1, 0, true, false));
        });
        traced.unwrap().check(Profile::Portable).err().map(|error| error.to_string())
    };
    assert_eq!(pooled(0), None);
    let message = pooled(1).expect("its window is another at each length");
    for part in ["avg_pool1d", "depends on sizes", "`up.weight`", "f32[1, 4, "] {
        assert!(message.contains(part), "{part} is missing: {message}");
    }
}

#[test]
fn padding_that_depends_on_a_length_is_refused() {
    let build = |device: &_| -> Conv1d<_> {
        let same = Conv1dConfig::new(1, 1, 3).with_padding(PaddingConfig1d::Same);
        same.with_stride(2).init(device)
    };
    let traced = trace(&["length"], build, |module, trace| {
        let x = trace.float("x", [Dim::from(1), 1.into(), "length".into()]);
        trace.output("y", module.forward(x));
    });
    let refused = traced.and_then(|traced| traced.check(Profile::Portable));
    let message = refused.expect_err("even rows get more at their end").to_string();
    assert!(message.contains("conv1d") && message.contains("another course"), "{message}");
}

#[test]
fn dynamic_axes_that_cannot_be_told_apart_are_too_many() {
    let axes: Vec<String> = (0..15).map(|axis| format!("axis{axis}")).collect();
    let axes: Vec<&str> = axes.iter().map(String::as_str).collect();
    let build = |device: &_| Inner { up: LinearConfig::new(3, 4).init(device) };
    let error = trace(&axes, build, |_, _| ()).err().expect("fourteen are the most");
    assert!(error.to_string().starts_with("15 dynamic axes are too many"), "{error}");
}

#[test]
fn places_name_the_part_of_a_model() {
    let program = traced();
    let mut node = program.program().nodes()[0].clone();
    node.scope = Some(4);
    assert_eq!(Part::of(4), Part::Block(2));
    let place = super::place::place(program.program(), &node);
    assert!(place.starts_with("blocks[2], after the weight `inner.up."), "{place}");
}

/// What is written of a model with these blocks.
fn written(blocks: &str, options: &Options) -> ModelProto {
    written_of(&config(blocks), options)
}

fn config(blocks: &str) -> String {
    format!(r#"{{"model_dim": 8, "vocab_size": 11, "seq_len": 8, "blocks": [{blocks}]}}"#)
}

/// What is written of the model of a config.
fn written_of(json: &str, options: &Options) -> ModelProto {
    let plan: Arc<Plan> = Arc::new(Plan::parse(json, "m.json", &[]).unwrap().plan);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m.onnx");
    let model = Model::<Flex>::init(plan.clone(), &Default::default());
    trace_model(&plan).unwrap().write(&model, &file, options).unwrap();
    ModelProto::parse_from_bytes(&std::fs::read(file).unwrap()).unwrap()
}

const BLOCKS: &str = r#"{"type": "plain", "heads": 2}, {"type": "mamba"}, {"type": "plain", "heads": 2},
    {"type": "plain", "heads": 4}, {"type": "token_blend"}"#;

fn calls(model: &ModelProto) -> Vec<&str> {
    let nodes = model.graph.node.iter().filter(|node| node.domain == "mixlab");
    nodes.map(|node| node.op_type.as_str()).collect()
}

#[test]
fn blocks_that_compute_the_same_call_one_function_with_their_own_weights() {
    let model = written(BLOCKS, &Options { functions: Some(true), ..Options::default() });
    assert_eq!(calls(&model), ["plain", "mamba", "plain", "plain_1", "token_blend"]);
    let functions: Vec<_> = model.functions.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(functions, ["plain", "mamba", "plain_1", "token_blend"]);
    assert_eq!(model.functions[0].doc_string, "plain heads=2");
    let plain = &model.functions[0];
    let reader = |index: usize| {
        let node = model.graph.node.iter().find(|node| node.name == format!("block{index}"));
        let place = plain.input.iter().position(|name| name == "wq").unwrap();
        node.unwrap().input[place].clone()
    };
    assert_eq!([reader(0), reader(2)], ["blocks.0.Plain.wq", "blocks.2.Plain.wq"]);
}

#[test]
fn a_function_calls_what_it_is_given_by_what_it_is() {
    let modern = Options { profile: Profile::Modern, ..Options::default() };
    let given = |json: &str| {
        let model = written_of(json, &modern);
        let named = |f: &onnx_protobuf::FunctionProto| (f.name.clone(), f.input.clone());
        model.functions.iter().map(named).collect::<Vec<_>>()
    };
    let all = given(&config(
        r#"{"type": "plain", "heads": 2, "kv_heads": 1}, {"type": "mamba"},
           {"type": "plain", "heads": 2, "kv_heads": 1, "kv_source": 1}"#,
    ));
    let weights = ["norm_scale", "wq", "wk", "wv", "wo", "ff1", "ff2"];
    assert_eq!(all[0].1[0], "input");
    for (function, inputs) in &all {
        let known = ["input", "k", "v", "shape", "position_ids", "sin", "cos", "mask"];
        let odd = |name: &&String| {
            let stem = name.trim_end_matches(|c: char| c == '_' || c.is_numeric());
            function != "mamba" && !weights.contains(&name.as_str()) && !known.contains(&stem)
        };
        assert_eq!(inputs.iter().find(odd), None, "of {function}");
    }
    assert!(["k", "v"].iter().all(|name| all[2].1.contains(&name.to_string())), "{all:?}");
    let unet = config(&[r#"{"type": "plain", "heads": 2}"#; 4].join(","));
    let unet = given(&unet.replace(r#""blocks""#, r#""unet": true, "blocks""#));
    let skips = unet.iter().filter(|(_, inputs)| inputs.contains(&"earlier".into()));
    assert_eq!(skips.count(), 1, "{unet:?}");
}

#[test]
fn a_function_knows_nothing_of_its_block_and_all_operations_are_in_one() {
    let functions = Options { functions: Some(true), ..Options::default() };
    let (model, flat) = (written(BLOCKS, &functions), written(BLOCKS, &Options::default()));
    assert_eq!((flat.functions.len(), calls(&flat).len()), (0, 0));
    let mut nodes = model.graph.node.len() - calls(&model).len();
    for name in calls(&model) {
        nodes += model.functions.iter().find(|f| f.name == name).unwrap().node.len();
    }
    assert_eq!(nodes, flat.graph.node.len());
    for node in model.functions.iter().flat_map(|f| &f.node) {
        let names = node.input.iter().chain(&node.output);
        assert!(names.clone().all(|name| !name.contains(['/', '.'])), "{node:?}");
    }
}

#[test]
fn modern_files_have_functions_and_portable_ones_none() {
    let with = |profile| written(BLOCKS, &Options { profile, ..Options::default() });
    assert!(with(Profile::Portable).functions.is_empty());
    let modern = with(Profile::Modern);
    assert_eq!(modern.functions.len(), 4);
    let versions = modern.opset_import.iter().map(|opset| (opset.domain.as_str(), opset.version));
    assert_eq!(versions.collect::<Vec<_>>(), [("", 23), ("mixlab", 1)]);
}

#[test]
fn viewers_are_told_what_the_graph_and_its_loops_are() {
    let model = written(BLOCKS, &Options { doc: "a model".into(), ..Options::default() });
    assert_eq!(model.graph.doc_string, "a model");
    let scan = model.graph.node.iter().find(|node| node.op_type == "Scan").unwrap();
    assert_eq!(scan.doc_string, "h = a h + x_t, for each token");
}
