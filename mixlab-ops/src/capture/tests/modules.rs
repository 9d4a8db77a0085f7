//! Modules of others, captured as they are.

use burn::module::Module;
use burn::nn::attention::{MhaInput, MultiHeadAttentionConfig, generate_autoregressive_mask};
use burn::nn::{
    BatchNormConfig, DropoutConfig, EmbeddingConfig, Gelu, LayerNorm, LayerNormConfig, Linear,
    LinearConfig, RotaryEncodingConfig,
};
use burn::tensor::{Int, Tensor, backend::Backend};

use super::super::{Capture, CaptureDevice, Program, Session, capture};
use super::{check, names};

/// Captures at two sizes and checks that only shapes differ.
fn both<M: Module<Capture>>(
    build: impl Fn(&CaptureDevice) -> M,
    forward: impl Fn(&M, &Session, [usize; 2]),
) -> Program {
    let [small, large] = [[2, 5], [3, 7]].map(|size| {
        let program = capture(&build, |module, session| forward(module, session, size)).unwrap();
        check(&program);
        program
    });
    assert!(small.same_structure(&large), "{small}\n{large}");
    assert_ne!(small, large);
    small
}

fn paths(program: &Program) -> Vec<&str> {
    program.parameters().iter().flat_map(|p| &p.paths).map(String::as_str).collect()
}

#[test]
fn linear() {
    let program = both(
        |device| LinearConfig::new(4, 8).init(device),
        |layer, session, [b, t]| {
            session.output("y", layer.forward(session.input_float("x", [b, t, 4])));
        },
    );
    let expected = "\
        input %0 x: f32[2, 5, 4]\n\
        parameter %1 weight: f32[4, 8]\n\
        parameter %2 bias: f32[8]\n\
        %3: f32[2, 5, 8] = linear(%0, %1, %2)\n\
        output y = %3\n";
    assert_eq!(program.to_string(), expected);
}

#[test]
fn layer_norm() {
    let program = both(
        |device| LayerNormConfig::new(4).init(device),
        |norm, session, [b, t]| {
            session.output("y", norm.forward(session.input_float("x", [b, t, 4])));
        },
    );
    assert_eq!(paths(&program), ["gamma", "beta"]);
    let last = program.nodes().last().unwrap();
    assert_eq!((last.name.as_str(), last.outputs[0]), ("add", program.outputs()[0].value));
    assert!(names(&program).contains(&"mean_dim"), "{program}");
}

#[test]
fn embedding_is_a_selection_of_rows() {
    let program = both(
        |device| EmbeddingConfig::new(11, 4).init(device),
        |embedding, session, [b, t]| {
            session.output("y", embedding.forward(session.input_int("ids", [b, t])));
        },
    );
    let expected = "\
        input %0 ids: i64[2, 5]\n\
        parameter %1 weight: f32[11, 4]\n\
        %2: i64[10] = reshape(%0)\n\
        %3: f32[10, 4] = select(%1, %2) {dim: 0}\n\
        %4: f32[2, 5, 4] = reshape(%3)\n\
        output y = %4\n";
    assert_eq!(program.to_string(), expected);
}

#[test]
fn causal_multi_head_attention() {
    let program = both(
        |device| MultiHeadAttentionConfig::new(8, 2).init(device),
        |attention, session, [b, t]| {
            let x = session.input_float("x", [b, t, 8]);
            let mask = generate_autoregressive_mask(b, t, &x.device());
            let output = attention.forward(MhaInput::self_attn(x).mask_attn(mask));
            session.output("context", output.context);
            session.output("weights", output.weights);
        },
    );
    let expected = ["query", "key", "value", "output"];
    let expected =
        expected.iter().flat_map(|name| [format!("{name}.weight"), format!("{name}.bias")]);
    assert_eq!(paths(&program), expected.collect::<Vec<_>>());
    let count = |name| names(&program).iter().filter(|node| **node == name).count();
    assert_eq!((count("linear"), count("matmul"), count("mask_fill")), (4, 2, 1), "{program}");
    assert_eq!(program.value(program.outputs()[1].value).shape[..], [2, 2, 5, 5]);
}

#[test]
fn dropout_does_nothing_as_in_evaluation() {
    let program = both(
        |_| DropoutConfig::new(0.5).init(),
        |dropout, session, [b, t]| {
            session.output("y", dropout.forward(session.input_float("x", [b, t])));
        },
    );
    assert_eq!(program.to_string(), "input %0 x: f32[2, 5]\noutput y = %0\n");
}

#[test]
fn gelu() {
    let program = both(
        |_| Gelu::new(),
        |gelu, session, [b, t]| {
            session.output("y", gelu.forward(session.input_float("x", [b, t])));
        },
    );
    assert!(names(&program).contains(&"erf"), "{program}");
    assert!(program.parameters().is_empty());
}

#[test]
fn batch_norm_reads_its_running_state_by_name() {
    let program = both(
        |device| BatchNormConfig::new(4).init::<Capture>(device),
        |norm, session, [b, t]| {
            session.output("y", norm.forward(session.input_float("x", [b, 4, t])));
        },
    );
    assert_eq!(paths(&program), ["gamma", "beta", "running_mean", "running_var"]);
    let reads = |value| program.nodes().iter().any(|node| node.inputs.contains(&value));
    assert!(program.parameters().iter().all(|p| reads(p.value)), "{program}");
}

#[test]
fn tables_that_a_module_computes_when_it_is_built_stay_in_the_program() {
    let program = both(
        |device| RotaryEncodingConfig::new(16, 4).init::<Capture>(device),
        |rope, session, [b, t]| {
            session.output("y", rope.forward(session.input_float("x", [b, 1, t, 4])));
        },
    );
    assert!(program.parameters().is_empty());
    for table in ["sin", "cos"] {
        assert!(names(&program).contains(&table), "{program}");
    }
    assert_eq!(program.clone().without_dead_nodes().outputs().len(), 1);
}

#[derive(Module, Debug)]
struct Plain<B: Backend> {
    wq: Linear<B>,
}

#[derive(Module, Debug)]
struct Gated<B: Backend> {
    norm: LayerNorm<B>,
    gate: Option<Linear<B>>,
    absent: Option<Linear<B>>,
}

#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
enum Block<B: Backend> {
    Plain(Plain<B>),
    Gated(Gated<B>),
}

#[derive(Module, Debug)]
struct Stack<B: Backend> {
    blocks: Vec<Block<B>>,
}

impl<B: Backend> Stack<B> {
    fn init(device: &B::Device) -> Self {
        let linear = || LinearConfig::new(4, 4).with_bias(false).init(device);
        let plain = Block::Plain(Plain { wq: linear() });
        let norm = LayerNormConfig::new(4).init(device);
        let gated = Block::Gated(Gated { norm, gate: Some(linear()), absent: None });
        Self { blocks: vec![plain, gated] }
    }

    /// Positions are added from an arange, so that an attribute depends on the size.
    fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let [b, t, d] = x.dims();
        let position = Tensor::<B, 1, Int>::arange(0..t as i64, &x.device()).float();
        let x = x + position.reshape([1, t, 1]).expand([b, t, d]);
        self.blocks.iter().fold(x, |x, block| match block {
            Block::Plain(block) => x.clone() + block.wq.forward(x),
            Block::Gated(block) => match &block.gate {
                Some(gate) => x.clone() * gate.forward(block.norm.forward(x)),
                None => block.norm.forward(x),
            },
        })
    }
}

#[test]
fn an_enum_of_blocks_has_the_variant_in_its_paths() {
    let program = both(Stack::<Capture>::init, |stack, session, [b, t]| {
        session.output("y", stack.forward(session.input_float("x", [b, t, 4])));
    });
    let expected = [
        "blocks.0.Plain.wq.weight",
        "blocks.1.Gated.norm.gamma",
        "blocks.1.Gated.norm.beta",
        "blocks.1.Gated.gate.weight",
    ];
    assert_eq!(paths(&program), expected);
}

#[test]
fn equal_forwards_give_equal_programs() {
    let forward = |stack: &Stack<Capture>, session: &Session| {
        session.output("y", stack.forward(session.input_float("x", [2, 5, 4])));
    };
    let program = capture(Stack::init, forward).unwrap();
    let again = capture(
        |device| {
            // A build that does more, and a module whose parameters have had values before.
            Tensor::<Capture, 1>::zeros([3], device).exp();
            Stack::init(device).clone()
        },
        forward,
    );
    assert_eq!(program, again.unwrap());
}
