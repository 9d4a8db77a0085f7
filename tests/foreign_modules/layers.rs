//! More nets of Burn's own modules: language models, images of any size, recurrences with states.

use std::path::Path;

use burn::module::{Module, Param};
use burn::nn::attention::{
    CrossAttention, CrossAttentionConfig, MhaInput, MultiHeadAttention, MultiHeadAttentionConfig,
    generate_autoregressive_mask,
};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::interpolate::{Interpolate2d, Interpolate2dConfig};
use burn::nn::pool::{AdaptiveAvgPool2d, AdaptiveAvgPool2dConfig, MaxPool2d, MaxPool2dConfig};
use burn::nn::transformer::{
    TransformerEncoder, TransformerEncoderConfig, TransformerEncoderInput,
};
use burn::nn::{
    BatchNorm, BatchNormConfig, BiGru, BiGruConfig, BiRnn, BiRnnConfig, Embedding, EmbeddingConfig,
    GroupNorm, GroupNormConfig, Gru, GruConfig, InstanceNorm, InstanceNormConfig, LayerNorm,
    LayerNormConfig, Linear, LinearConfig, LocalResponseNorm, LocalResponseNormConfig, Lstm,
    LstmConfig, LstmState, PaddingConfig2d, PositionalEncoding, PositionalEncodingConfig, Rnn,
    RnnConfig, RnnState, RotaryEncoding, RotaryEncodingConfig, SwiGlu, SwiGluConfig,
};
use burn::tensor::activation::relu;
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Distribution, Tensor, backend::Backend};
use burn_flex::Flex;
use mixlab_burn::onnx::Dim;

use super::net::{Net, Ports, write};

/// Writes all of them.
pub fn all(folder: &Path) {
    write::<Gpt<Flex>>(folder);
    write::<Turned<Flex>>(folder);
    write::<Residual<Flex>>(folder);
    write::<UNet<Flex>>(folder);
    write::<Patches<Flex>>(folder);
    write::<Convolutional<Flex>>(folder);
    write::<States<Flex>>(folder);
    write::<Stepwise<Flex>>(folder);
}

/// Ids of at most 12 tokens to logits, by a head that is the table of embeddings.
#[derive(Module, Debug)]
struct Gpt<B: Backend> {
    tokens: Embedding<B>,
    positions: Param<Tensor<B, 2>>,
    norm: LayerNorm<B>,
    attention: MultiHeadAttention<B>,
}

impl Net for Gpt<Flex> {
    const NAME: &'static str = "gpt";
    const AXES: &'static [&'static str] = &["batch", "sequence"];
    const SIZES: &'static [&'static [usize]] = &[&[3, 5], &[1, 12], &[2, 1]];
    type Of<B: Backend> = Gpt<B>;

    fn new<B: Backend>(device: &B::Device) -> Gpt<B> {
        let positions = Tensor::random([12, 16], Distribution::Normal(0.0, 1.0), device);
        Gpt {
            tokens: EmbeddingConfig::new(11, 16).init(device),
            positions: Param::from_tensor(positions),
            norm: LayerNormConfig::new(16).init(device),
            attention: MultiHeadAttentionConfig::new(16, 4).with_quiet_softmax(true).init(device),
        }
    }

    fn run<B: Backend>(net: &Gpt<B>, ports: &mut impl Ports<B>) {
        let ids = ports.int("ids", [Dim::from("batch"), "sequence".into()], 11);
        let padding = ports.bool("padding", [Dim::from("batch"), "sequence".into()]);
        let [batch, length] = ids.dims();
        let causal = generate_autoregressive_mask(batch, length, &ids.device());
        let positions = net.positions.val().narrow(0, 0, length).unsqueeze::<3>();
        let x = net.tokens.forward(ids) + positions;
        let read = MhaInput::self_attn(net.norm.forward(x.clone()));
        let found = net.attention.forward(read.mask_attn(causal).mask_pad(padding));
        let x = x + found.context;
        ports.put("logits", x.matmul(net.tokens.weight.val().transpose().unsqueeze()));
        ports.put("weights", found.weights);
    }
}

/// Rotations and sinusoids of positions, gates, and attention to another sequence.
#[derive(Module, Debug)]
struct Turned<B: Backend> {
    rotary: RotaryEncoding<B>,
    sinusoids: PositionalEncoding<B>,
    gate: SwiGlu<B>,
    cross: CrossAttention<B>,
}

impl Net for Turned<Flex> {
    const NAME: &'static str = "turned";
    const AXES: &'static [&'static str] = &["batch", "from", "to"];
    const SIZES: &'static [&'static [usize]] = &[&[3, 5, 2], &[1, 1, 9], &[2, 7, 7]];
    type Of<B: Backend> = Turned<B>;

    fn new<B: Backend>(device: &B::Device) -> Turned<B> {
        Turned {
            rotary: RotaryEncodingConfig::new(64, 8).init(device),
            sinusoids: PositionalEncodingConfig::new(16).with_max_sequence_size(50).init(device),
            gate: SwiGluConfig::new(16, 16).init(device),
            cross: CrossAttentionConfig::new(16, 16, 4, 2, 4).init(device),
        }
    }

    fn run<B: Backend>(net: &Turned<B>, ports: &mut impl Ports<B>) {
        let x = ports.float("x", [Dim::from("batch"), "to".into(), 16.into()]);
        let context = ports.float("context", [Dim::from("batch"), "from".into(), 16.into()]);
        let hidden = ports.bool("hidden", [Dim::from("batch"), "from".into()]);
        let x = net.gate.forward(net.sinusoids.forward(x));
        let [batch, length, _] = x.dims();
        let heads = x.clone().reshape([batch, length, 2, 8]).swap_dims(1, 2);
        let (q, k) = (net.rotary.forward(heads.clone()), net.rotary.apply(heads.clone(), 3));
        let causal = AttentionModuleOptions { is_causal: true, ..Default::default() };
        ports.put("turned", attention(q, k, heads, None, None, causal));
        ports.put("crossed", net.cross.forward(x, context, Some(hidden)));
    }
}

/// A block of a residual image net, and what classifies after it.
#[derive(Module, Debug)]
struct Residual<B: Backend> {
    first: Conv2d<B>,
    first_norm: BatchNorm<B>,
    second: Conv2d<B>,
    second_norm: BatchNorm<B>,
    shortcut: Conv2d<B>,
    pool: AdaptiveAvgPool2d,
    head: Linear<B>,
}

impl Net for Residual<Flex> {
    const NAME: &'static str = "residual";
    const AXES: &'static [&'static str] = &["batch"];
    const SIZES: &'static [&'static [usize]] = &[&[3], &[1]];
    type Of<B: Backend> = Residual<B>;

    fn new<B: Backend>(device: &B::Device) -> Residual<B> {
        let same = PaddingConfig2d::Explicit(1, 1, 1, 1);
        let first = Conv2dConfig::new([3, 8], [3, 3]).with_stride([2, 2]);
        Residual {
            first: first.with_padding(same.clone()).with_bias(false).init(device),
            first_norm: BatchNormConfig::new(8).init(device),
            second: Conv2dConfig::new([8, 8], [3, 3]).with_padding(same).init(device),
            second_norm: BatchNormConfig::new(8).init(device),
            shortcut: Conv2dConfig::new([3, 8], [1, 1]).with_stride([2, 2]).init(device),
            pool: AdaptiveAvgPool2dConfig::new([1, 1]).init(),
            head: LinearConfig::new(8, 5).init(device),
        }
    }

    fn run<B: Backend>(net: &Residual<B>, ports: &mut impl Ports<B>) {
        let x = ports.float("x", [Dim::from("batch"), 3.into(), 9.into(), 7.into()]);
        let y = relu(net.first_norm.forward(net.first.forward(x.clone())));
        let y = net.second_norm.forward(net.second.forward(y));
        let y = relu(y + net.shortcut.forward(x));
        ports.put("class", net.head.forward(net.pool.forward(y).flatten::<2>(1, 3)));
    }
}

/// Down, up, and a way past both.
#[derive(Module, Debug)]
struct UNet<B: Backend> {
    outer: Conv2d<B>,
    down: MaxPool2d,
    inner: Conv2d<B>,
    up: Interpolate2d,
    last: Conv2d<B>,
}

impl Net for UNet<Flex> {
    const NAME: &'static str = "unet";
    const AXES: &'static [&'static str] = &["batch"];
    const SIZES: &'static [&'static [usize]] = &[&[2], &[1]];
    type Of<B: Backend> = UNet<B>;

    fn new<B: Backend>(device: &B::Device) -> UNet<B> {
        let same = PaddingConfig2d::Same;
        let conv = |channels| Conv2dConfig::new(channels, [3, 3]).with_padding(same.clone());
        UNet {
            outer: conv([2, 4]).init(device),
            down: MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
            inner: conv([4, 6]).init(device),
            up: Interpolate2dConfig::new().with_scale_factor(Some([2.0, 2.0])).init(),
            last: conv([10, 3]).init(device),
        }
    }

    fn run<B: Backend>(net: &UNet<B>, ports: &mut impl Ports<B>) {
        let x = ports.float("x", [Dim::from("batch"), 2.into(), 8.into(), 12.into()]);
        let outer = relu(net.outer.forward(x));
        let inner = relu(net.inner.forward(net.down.forward(outer.clone())));
        let joined = Tensor::cat(vec![outer, net.up.forward(inner)], 1);
        ports.put("y", net.last.forward(joined));
    }
}

/// Images as sequences of patches, with a token that stands for all of them.
#[derive(Module, Debug)]
struct Patches<B: Backend> {
    cut: Conv2d<B>,
    whole: Param<Tensor<B, 3>>,
    positions: Param<Tensor<B, 3>>,
    encoder: TransformerEncoder<B>,
    head: Linear<B>,
}

impl Net for Patches<Flex> {
    const NAME: &'static str = "patches";
    const AXES: &'static [&'static str] = &["batch"];
    const SIZES: &'static [&'static [usize]] = &[&[3], &[1]];
    type Of<B: Backend> = Patches<B>;

    fn new<B: Backend>(device: &B::Device) -> Patches<B> {
        let drawn = |length| {
            let drawn = Tensor::random([1, length, 8], Distribution::Normal(0.0, 1.0), device);
            Param::from_tensor(drawn)
        };
        Patches {
            cut: Conv2dConfig::new([3, 8], [4, 4]).with_stride([4, 4]).init(device),
            whole: drawn(1),
            positions: drawn(7),
            encoder: TransformerEncoderConfig::new(8, 16, 2, 2).with_norm_first(true).init(device),
            head: LinearConfig::new(8, 5).init(device),
        }
    }

    fn run<B: Backend>(net: &Patches<B>, ports: &mut impl Ports<B>) {
        let x = ports.float("x", [Dim::from("batch"), 3.into(), 8.into(), 12.into()]);
        let patches = net.cut.forward(x).flatten::<3>(2, 3).swap_dims(1, 2);
        let whole = net.whole.val().expand([patches.dims()[0], 1, 8]);
        let x = Tensor::cat(vec![whole, patches], 1) + net.positions.val();
        let y = net.encoder.forward(TransformerEncoderInput::new(x));
        ports.put("class", net.head.forward(y.narrow(1, 0, 1).squeeze_dim::<2>(1)));
    }
}

/// Images of any height and width.
#[derive(Module, Debug)]
struct Convolutional<B: Backend> {
    conv: Conv2d<B>,
    groups: GroupNorm<B>,
    instances: InstanceNorm<B>,
    response: LocalResponseNorm,
    channels: LayerNorm<B>,
    up: Interpolate2d,
    pool: AdaptiveAvgPool2d,
}

impl Net for Convolutional<Flex> {
    const NAME: &'static str = "convolutional";
    const AXES: &'static [&'static str] = &["batch", "height", "width"];
    const SIZES: &'static [&'static [usize]] = &[&[2, 5, 4], &[1, 3, 8], &[3, 6, 6]];
    type Of<B: Backend> = Convolutional<B>;

    fn new<B: Backend>(device: &B::Device) -> Convolutional<B> {
        let same = PaddingConfig2d::Explicit(1, 1, 1, 1);
        Convolutional {
            conv: Conv2dConfig::new([2, 6], [3, 3]).with_padding(same).init(device),
            groups: GroupNormConfig::new(3, 6).init(device),
            instances: InstanceNormConfig::new(6).init(device),
            response: LocalResponseNormConfig::new(4).init(),
            channels: LayerNormConfig::new(6).init(device),
            up: Interpolate2dConfig::new().with_scale_factor(Some([2.0, 3.0])).init(),
            pool: AdaptiveAvgPool2dConfig::new([1, 1]).init(),
        }
    }

    fn run<B: Backend>(net: &Convolutional<B>, ports: &mut impl Ports<B>) {
        let x = ports.float("x", [Dim::from("batch"), 2.into(), "height".into(), "width".into()]);
        let x = net.conv.forward(x);
        let x = net.response.forward(net.instances.forward(net.groups.forward(x)));
        let [batch, channels, height, width] = x.dims();
        let pixels = x.permute([0, 2, 3, 1]).reshape([batch * height * width, channels]);
        let x = net.channels.forward(pixels).reshape([batch, height, width, channels]);
        let x = x.permute([0, 3, 1, 2]);
        ports.put("mean", net.pool.forward(x.clone()));
        ports.put("large", net.up.forward(x));
    }
}

/// Recurrences over six tokens that go on from states.
#[derive(Module, Debug)]
struct States<B: Backend> {
    lstm: Lstm<B>,
    gru: Gru<B>,
    both: BiGru<B>,
    rnn: Rnn<B>,
    both_rnn: BiRnn<B>,
}

impl Net for States<Flex> {
    const NAME: &'static str = "states";
    const AXES: &'static [&'static str] = &["batch"];
    const SIZES: &'static [&'static [usize]] = &[&[3], &[1]];
    type Of<B: Backend> = States<B>;

    fn new<B: Backend>(device: &B::Device) -> States<B> {
        States {
            lstm: LstmConfig::new(5, 4, false).with_reverse(true).init(device),
            gru: GruConfig::new(5, 4, true).with_reset_after(false).init(device),
            both: BiGruConfig::new(5, 4, true).init(device),
            rnn: RnnConfig::new(5, 4, true).init(device),
            both_rnn: BiRnnConfig::new(5, 4, true).init(device),
        }
    }

    fn run<B: Backend>(net: &States<B>, ports: &mut impl Ports<B>) {
        let x = ports.float("x", [Dim::from("batch"), 6.into(), 5.into()]);
        let h = ports.float("h", [Dim::from("batch"), 4.into()]);
        let cell = ports.float("cell", [Dim::from("batch"), 4.into()]);
        let state = LstmState::new(cell, h.clone());
        let (states, last) = net.lstm.forward(x.clone(), Some(state));
        ports.put("lstm", states);
        ports.put("lstm_cell", last.cell);
        ports.put("lstm_hidden", last.hidden);
        ports.put("gru", net.gru.forward(x.clone(), Some(h.clone())));
        let (states, last) = net.both.forward(x.clone(), None);
        ports.put("both", states);
        // Its first axis is that of the directions.
        ports.put("both_last", last.swap_dims(0, 1));
        let (states, last) = net.rnn.forward(x.clone(), Some(RnnState::new(h)));
        ports.put("rnn", states);
        ports.put("rnn_last", last.hidden);
        ports.put("both_rnn", net.both_rnn.forward(x, None).0);
    }
}

/// An encoder that reads a row, and then one token more from what it remembers.
#[derive(Module, Debug)]
struct Stepwise<B: Backend> {
    encoder: TransformerEncoder<B>,
}

impl Net for Stepwise<Flex> {
    const NAME: &'static str = "stepwise";
    const AXES: &'static [&'static str] = &["batch", "sequence"];
    const SIZES: &'static [&'static [usize]] = &[&[3, 5], &[1, 1], &[2, 8]];
    type Of<B: Backend> = Stepwise<B>;

    fn new<B: Backend>(device: &B::Device) -> Stepwise<B> {
        Stepwise { encoder: TransformerEncoderConfig::new(8, 16, 2, 2).init(device) }
    }

    fn run<B: Backend>(net: &Stepwise<B>, ports: &mut impl Ports<B>) {
        let x = ports.float("x", [Dim::from("batch"), "sequence".into(), 8.into()]);
        let more = ports.float("more", [Dim::from("batch"), 1.into(), 8.into()]);
        let mut cache = net.encoder.new_autoregressive_cache();
        let mut read = |x: Tensor<B, 3>| {
            let input = TransformerEncoderInput::new(x);
            net.encoder.forward_autoregressive_inference(input, &mut cache)
        };
        ports.put("first", read(x.clone()));
        ports.put("next", read(Tensor::cat(vec![x, more], 1)));
    }
}
