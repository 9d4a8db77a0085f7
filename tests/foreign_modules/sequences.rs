//! Small ones of the nets that people have for words, waves, points and graphs.

use std::path::Path;

use burn::module::Module;
use burn::nn::attention::{MhaInput, MultiHeadAttention, MultiHeadAttentionConfig};
use burn::nn::conv::{Conv1d, Conv1dConfig, Conv2d};
use burn::nn::{
    BiLstm, BiLstmConfig, Embedding, EmbeddingConfig, Gru, GruConfig, Linear, LinearConfig,
};
use burn::tensor::activation::{relu, softmax};
use burn::tensor::module::interpolate;
use burn::tensor::ops::{InterpolateMode, InterpolateOptions, PadMode};
use burn::tensor::{Bool, IndexingUpdateOp, Int, Tensor, backend::Backend};

use super::architectures::{AXES, conv, images};
use super::net::{Net, Ports, write};

pub fn all(folder: &Path) {
    write::<CausalConvolutions>(folder);
    write::<MeanOfWords>(folder);
    write::<BiasedAttention>(folder);
    write::<Experts>(folder);
    write::<Codebook>(folder);
    write::<Graph>(folder);
    write::<Points>(folder);
    write::<Resampler>(folder);
    write::<ResizedPositions>(folder);
    write::<Tagger>(folder);
    write::<Waves>(folder);
}

fn linear<B: Backend>([from, to]: [usize; 2], device: &B::Device) -> Linear<B> {
    LinearConfig::new(from, to).init(device)
}

/// Dilated, with as much before the start as they look back.
struct CausalConvolutions;

impl Net for CausalConvolutions {
    const NAME: &'static str = "causal_convolutions";
    const AXES: &'static [&'static str] = &["batch", "time"];
    const SIZES: &'static [&'static [usize]] = &[&[2, 20], &[1, 1], &[3, 7]];
    type Of<B: Backend> = Vec<Conv1d<B>>;

    fn new<B: Backend>(device: &B::Device) -> Vec<Conv1d<B>> {
        let conv = |by| Conv1dConfig::new(4, 4, 3).with_dilation(by).init(device);
        [1, 2, 4].map(conv).into()
    }

    fn run<B: Backend>(net: &Vec<Conv1d<B>>, ports: &mut impl Ports<B>) {
        let x = ports.float("x", ["batch".into(), 4.into(), "time".into()]);
        let by = |x: Tensor<B, 3>, (conv, dilation): (&Conv1d<B>, usize)| {
            let past = x.clone().pad([(0, 0), (0, 0), (2 * dilation, 0)], PadMode::Constant(0.0));
            x + relu(conv.forward(past))
        };
        ports.put("y", net.iter().zip([1, 2, 4]).fold(x, by));
    }
}

/// The mean of the embeddings that are no padding, and its class.
struct MeanOfWords;

#[derive(Module, Debug)]
struct MeanOfWordsOf<B: Backend> {
    embedding: Embedding<B>,
    head: Linear<B>,
}

impl Net for MeanOfWords {
    const NAME: &'static str = "mean_of_words";
    const AXES: &'static [&'static str] = &["batch", "words"];
    const SIZES: &'static [&'static [usize]] = &[&[2, 20], &[1, 1], &[3, 7]];
    type Of<B: Backend> = MeanOfWordsOf<B>;

    fn new<B: Backend>(device: &B::Device) -> MeanOfWordsOf<B> {
        MeanOfWordsOf {
            embedding: EmbeddingConfig::new(9, 6).init(device),
            head: linear([6, 4], device),
        }
    }

    fn run<B: Backend>(net: &MeanOfWordsOf<B>, ports: &mut impl Ports<B>) {
        let ids = ports.int("ids", ["batch".into(), "words".into()], 9);
        let real: Tensor<B, 3> = ids.clone().not_equal_elem(0).float().unsqueeze_dim(2);
        let sum = (net.embedding.forward(ids) * real.clone()).sum_dim(1);
        let mean = sum / real.sum_dim(1).clamp_min(1.0);
        let scores = net.head.forward(mean.squeeze_dim::<2>(1));
        ports.put_int("class", scores.clone().argmax(1));
        ports.put("scores", scores);
    }
}

/// Attention with a slope for distances and a table of them.
struct BiasedAttention;

#[derive(Module, Debug)]
struct BiasedAttentionOf<B: Backend> {
    qkv: Linear<B>,
    table: Embedding<B>,
}

impl Net for BiasedAttention {
    const NAME: &'static str = "biased_attention";
    const AXES: &'static [&'static str] = &["batch", "time"];
    const SIZES: &'static [&'static [usize]] = &[&[2, 20], &[1, 1], &[3, 7]];
    type Of<B: Backend> = BiasedAttentionOf<B>;

    fn new<B: Backend>(device: &B::Device) -> BiasedAttentionOf<B> {
        BiasedAttentionOf {
            qkv: linear([8, 24], device),
            table: EmbeddingConfig::new(9, 2).init(device),
        }
    }

    fn run<B: Backend>(net: &BiasedAttentionOf<B>, ports: &mut impl Ports<B>) {
        let x = ports.float("x", ["batch".into(), "time".into(), 8.into()]);
        let ([batch, time, _], device) = (x.dims(), x.device());
        let heads = net.qkv.forward(x).reshape([batch, time, 3, 2, 4]).permute([2, 0, 3, 1, 4]);
        let part = |at| heads.clone().narrow(0, at, 1).squeeze_dim::<4>(0);
        let (q, k, v) = (part(0), part(1), part(2));
        let places = || Tensor::<B, 1, Int>::arange(0..time as i64, &device);
        let apart: Tensor<B, 2, Int> =
            places().unsqueeze_dim::<2>(0) - places().unsqueeze_dim::<2>(1);
        let near = apart.clone().clamp(-4, 4) + 4;
        let bias = net.table.forward(near).permute([2, 0, 1]).unsqueeze_dim::<4>(0);
        let slope = apart.abs().float().unsqueeze::<4>() * -0.5;
        let scores = q.matmul(k.swap_dims(2, 3)) * 0.5 + bias + slope;
        let later = Tensor::<B, 2, Bool>::tril_mask([time, time], 0, &device);
        let scores = scores.mask_fill(later.unsqueeze(), f32::NEG_INFINITY);
        let y = softmax(scores, 3).matmul(v).swap_dims(1, 2);
        ports.put("y", y.reshape([batch, time, 8]));
    }
}

/// The two best of four experts for each token.
struct Experts;

#[derive(Module, Debug)]
struct ExpertsOf<B: Backend> {
    gate: Linear<B>,
    experts: Vec<Linear<B>>,
}

impl Net for Experts {
    const NAME: &'static str = "experts";
    const AXES: &'static [&'static str] = &["batch", "time"];
    const SIZES: &'static [&'static [usize]] = &[&[2, 20], &[1, 1], &[3, 7]];
    type Of<B: Backend> = ExpertsOf<B>;

    fn new<B: Backend>(device: &B::Device) -> ExpertsOf<B> {
        let experts = (0..4).map(|_| linear([6, 6], device)).collect();
        ExpertsOf { gate: linear([6, 4], device), experts }
    }

    fn run<B: Backend>(net: &ExpertsOf<B>, ports: &mut impl Ports<B>) {
        let x = ports.float("x", ["batch".into(), "time".into(), 6.into()]);
        let scores = net.gate.forward(x.clone());
        let first = scores.clone().argmax(2);
        let most = Tensor::full(first.dims(), 1e9, &x.device());
        let others = scores.clone().scatter(2, first.clone(), -most, IndexingUpdateOp::Add);
        let best = Tensor::cat(vec![first, others.argmax(2)], 2);
        let weights = softmax(scores.clone().gather(2, best.clone()), 2);
        let gates = scores.zeros_like().scatter(2, best, weights, IndexingUpdateOp::Add);
        let each = net.experts.iter().enumerate();
        let each = each.map(|(i, one)| one.forward(x.clone()) * gates.clone().narrow(2, i, 1));
        ports.put("y", each.reduce(|a, b| a + b).expect("there are four"));
    }
}

/// The nearest code of each vector.
struct Codebook;

impl Net for Codebook {
    const NAME: &'static str = "codebook";
    const AXES: &'static [&'static str] = &["batch", "time"];
    const SIZES: &'static [&'static [usize]] = &[&[2, 20], &[1, 1], &[3, 7]];
    type Of<B: Backend> = Embedding<B>;

    fn new<B: Backend>(device: &B::Device) -> Embedding<B> {
        EmbeddingConfig::new(9, 6).init(device)
    }

    fn run<B: Backend>(net: &Embedding<B>, ports: &mut impl Ports<B>) {
        let x = ports.float("x", ["batch".into(), "time".into(), 6.into()]);
        let codes = net.weight.val();
        let length: Tensor<B, 3> = codes.clone().powi_scalar(2).sum_dim(1).transpose().unsqueeze();
        let products = x.matmul(codes.transpose().unsqueeze());
        let nearest = (length - products * 2.0).argmin(2).squeeze_dim::<2>(2);
        ports.put("y", net.forward(nearest.clone()));
        ports.put_int("codes", nearest);
    }
}

/// Sums of messages along edges between any number of nodes.
struct Graph;

impl Net for Graph {
    const NAME: &'static str = "graph";
    const AXES: &'static [&'static str] = &["nodes", "edges"];
    const SIZES: &'static [&'static [usize]] = &[&[5, 20], &[9, 3]];
    type Of<B: Backend> = Linear<B>;

    fn new<B: Backend>(device: &B::Device) -> Linear<B> {
        linear([6, 6], device)
    }

    fn run<B: Backend>(net: &Linear<B>, ports: &mut impl Ports<B>) {
        let x = ports.float("x", ["nodes".into(), 6.into()]);
        let (from, to) =
            (ports.int("from", ["edges".into()], 5), ports.int("to", ["edges".into()], 5));
        let messages = net.forward(x.clone()).select(0, from);
        let count = Tensor::ones([to.dims()[0], 1], &x.device());
        let none = x.clone().narrow(1, 0, 1).zeros_like();
        let degree = none.select_assign(0, to.clone(), count, IndexingUpdateOp::Add);
        let sums = x.zeros_like().select_assign(0, to, messages, IndexingUpdateOp::Add);
        ports.put("y", x + sums / degree.clamp_min(1.0));
    }
}

/// The largest of what each point says beside the one that is farthest from it.
struct Points;

impl Net for Points {
    const NAME: &'static str = "points";
    const AXES: &'static [&'static str] = &["batch", "points"];
    const SIZES: &'static [&'static [usize]] = &[&[2, 20], &[1, 4], &[3, 7]];
    type Of<B: Backend> = Linear<B>;

    fn new<B: Backend>(device: &B::Device) -> Linear<B> {
        linear([6, 8], device)
    }

    fn run<B: Backend>(net: &Linear<B>, ports: &mut impl Ports<B>) {
        let x = ports.float("x", ["batch".into(), "points".into(), 3.into()]);
        let [batch, points, _] = x.dims();
        let other = x.clone().unsqueeze_dim::<4>(1).expand([batch, points, points, 3]);
        let apart = other - x.clone().unsqueeze_dim::<4>(2);
        let distances = apart.powi_scalar(2).sum_dim(3).squeeze_dim::<3>(3);
        let far = distances.argmax(2).expand([batch, points, 3]);
        let far = x.clone().gather(1, far).unsqueeze_dim::<4>(2);
        let own = x.unsqueeze_dim::<4>(2);
        let pairs = relu(net.forward(Tensor::cat(vec![own.clone(), far - own], 3)));
        let each = pairs.max_dim(2).squeeze_dim::<3>(2);
        ports.put("all", each.max_dim(1).squeeze_dim::<2>(1));
    }
}

/// Rows of any length as four vectors.
struct Resampler;

#[derive(Module, Debug)]
struct ResamplerOf<B: Backend> {
    queries: Embedding<B>,
    attention: MultiHeadAttention<B>,
}

impl Net for Resampler {
    const NAME: &'static str = "resampler";
    const AXES: &'static [&'static str] = &["batch", "time"];
    const SIZES: &'static [&'static [usize]] = &[&[2, 20], &[1, 1], &[3, 7]];
    type Of<B: Backend> = ResamplerOf<B>;

    fn new<B: Backend>(device: &B::Device) -> ResamplerOf<B> {
        ResamplerOf {
            queries: EmbeddingConfig::new(4, 8).init(device),
            attention: MultiHeadAttentionConfig::new(8, 2).init(device),
        }
    }

    fn run<B: Backend>(net: &ResamplerOf<B>, ports: &mut impl Ports<B>) {
        let x = ports.float("x", ["batch".into(), "time".into(), 8.into()]);
        let queries = net.queries.weight.val().unsqueeze_dim::<3>(0).repeat_dim(0, x.dims()[0]);
        let found = net.attention.forward(MhaInput::new(queries, x.clone(), x));
        ports.put("weights", found.weights);
        ports.put("y", found.context);
    }
}

/// A table of positions in the size of what a stride leaves.
struct ResizedPositions;

#[derive(Module, Debug)]
struct ResizedPositionsOf<B: Backend> {
    patches: Conv2d<B>,
    table: Embedding<B>,
}

impl Net for ResizedPositions {
    const NAME: &'static str = "resized_positions";
    const AXES: &'static [&'static str] = AXES;
    const SIZES: &'static [&'static [usize]] = &[&[2, 16, 24], &[1, 9, 11]];
    type Of<B: Backend> = ResizedPositionsOf<B>;

    fn new<B: Backend>(device: &B::Device) -> ResizedPositionsOf<B> {
        ResizedPositionsOf {
            patches: conv([3, 8], [3, 2, 1], device),
            table: EmbeddingConfig::new(25, 8).init(device),
        }
    }

    fn run<B: Backend>(net: &ResizedPositionsOf<B>, ports: &mut impl Ports<B>) {
        let x = net.patches.forward(ports.float("image", images(3)));
        let [_, channels, height, width] = x.dims();
        let table = net.table.weight.val().transpose().reshape([1, channels, 5, 5]);
        let to = InterpolateOptions::new(InterpolateMode::Bilinear).with_align_corners(false);
        ports.put("y", x + interpolate(table, [height, width], to));
    }
}

/// Recurrent cells over rows of eight.
struct Tagger;

#[derive(Module, Debug)]
struct TaggerOf<B: Backend> {
    embedding: Embedding<B>,
    both: BiLstm<B>,
    gru: Gru<B>,
    head: Linear<B>,
}

impl Net for Tagger {
    const NAME: &'static str = "tagger";
    const AXES: &'static [&'static str] = &["batch"];
    const SIZES: &'static [&'static [usize]] = &[&[2], &[1]];
    type Of<B: Backend> = TaggerOf<B>;

    fn new<B: Backend>(device: &B::Device) -> TaggerOf<B> {
        TaggerOf {
            embedding: EmbeddingConfig::new(9, 6).init(device),
            both: BiLstmConfig::new(6, 5, true).init(device),
            gru: GruConfig::new(10, 5, true).init(device),
            head: linear([5, 3], device),
        }
    }

    fn run<B: Backend>(net: &TaggerOf<B>, ports: &mut impl Ports<B>) {
        let ids = ports.int("ids", ["batch".into(), 8.into()], 9);
        let x = net.both.forward(net.embedding.forward(ids), None).0;
        let tags = net.head.forward(net.gru.forward(x, None));
        ports.put_int("tags", tags.clone().argmax(2));
        ports.put("scores", tags);
    }
}

/// Frames of a wave that overlap, as sums that go on.
struct Waves;

impl Net for Waves {
    const NAME: &'static str = "waves";
    const AXES: &'static [&'static str] = &["batch", "samples"];
    const SIZES: &'static [&'static [usize]] = &[&[2, 40], &[1, 13], &[3, 99]];
    type Of<B: Backend> = Linear<B>;

    fn new<B: Backend>(device: &B::Device) -> Linear<B> {
        linear([8, 6], device)
    }

    fn run<B: Backend>(net: &Linear<B>, ports: &mut impl Ports<B>) {
        let x = ports.float("wave", ["batch".into(), "samples".into()]);
        let edges = x.pad([(0, 0), (2, 2)], PadMode::Reflect);
        let frames: Tensor<B, 3> = edges.unfold(1, 8, 5);
        let power = net.forward(frames).powi_scalar(2).log1p();
        let (var, mean) = power.clone().var_mean(1);
        ports.put("normed", (power.clone() - mean) / (var + 1e-2).sqrt());
        ports.put("sums", power.cumsum(1));
    }
}
