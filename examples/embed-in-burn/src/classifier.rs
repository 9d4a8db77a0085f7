//! The model: two layers of Burn, and a block of mixlab between them.

use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::train::{ClassificationOutput, InferenceStep, TrainOutput, TrainStep};
use mixlab_burn::config::ConfigError;
use mixlab_burn::{BlockModule, ops};

use crate::waves::{CLASSES, Wave, WaveBatch, batch};

/// Width of the stream that the block works on.
const WIDTH: usize = 16;

/// Says of waves `[B, T, 1]` what they are, `[B, CLASSES]`.
#[derive(Module, Debug)]
pub struct Classifier<B: Backend> {
    widen: Linear<B>,
    block: BlockModule<B>,
    head: Linear<B>,
}

impl<B: Backend> Classifier<B> {
    /// A model with the block that `json` describes.
    pub fn new(json: &str, device: &B::Device) -> Result<Self, ConfigError> {
        Ok(Self {
            widen: LinearConfig::new(1, WIDTH).init(device),
            block: BlockModule::from_json(json, WIDTH, device)?,
            head: LinearConfig::new(WIDTH, CLASSES).init(device),
        })
    }
}

// The operations of mixlab run on every backend of Burn; this bound says so.
impl<B: ops::Backend> Classifier<B> {
    /// Scores `[B, CLASSES]` of waves `[B, T, 1]`.
    pub fn forward(&self, waves: Tensor<B, 3>) -> Tensor<B, 2> {
        let stream = self.block.forward(self.widen.forward(waves));
        self.head.forward(stream.mean_dim(1).squeeze_dim(1))
    }

    /// The share of `waves` that the model is right about.
    pub fn accuracy(&self, waves: &[Wave]) -> f32 {
        let device = self.widen.weight.device();
        let WaveBatch { waves, classes } = batch(waves, &device);
        let found = self.forward(waves).argmax(1).squeeze_dim::<1>(1);
        found.equal(classes).float().mean().into_data().convert::<f32>().as_slice::<f32>().unwrap()
            [0]
    }

    fn output(&self, batch: WaveBatch<B>) -> ClassificationOutput<B> {
        let scores = self.forward(batch.waves);
        let loss = CrossEntropyLossConfig::new().init(&scores.device());
        let loss = loss.forward(scores.clone(), batch.classes.clone());
        ClassificationOutput::new(loss, scores, batch.classes)
    }
}

impl<B: AutodiffBackend + ops::Backend> TrainStep for Classifier<B> {
    type Input = WaveBatch<B>;
    type Output = ClassificationOutput<B>;

    fn step(&self, batch: WaveBatch<B>) -> TrainOutput<ClassificationOutput<B>> {
        let output = self.output(batch);
        TrainOutput::new(self, output.loss.backward(), output)
    }
}

impl<B: ops::Backend> InferenceStep for Classifier<B> {
    type Input = WaveBatch<B>;
    type Output = ClassificationOutput<B>;

    fn step(&self, batch: WaveBatch<B>) -> ClassificationOutput<B> {
        self.output(batch)
    }
}
