//! The parameters of a `custom` block: a list whose names and ranks come from the config.
//!
//! A derived Burn module has its parameters' names and ranks in its type. Here a [`NamedParam`]
//! holds both at run time: it enters a visitor's path under its own name, and its rank is a variant.

use burn::module::{
    AutodiffModule, Content, Devices, HasAutodiffModule, Initializer, Module, ModuleDisplay,
    ModuleDisplayDefault, ModuleMapper, ModuleVisitor, Param,
};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Shape, Tensor};
use burn_backend::tensor::FloatTensor;
use mixlab_ops::lower;

/// The greatest number of axes that a weight can have.
pub const MAX_RANK: usize = 4;

/// Weights of a `custom` block, in the order of the config.
#[derive(Module, Debug)]
pub struct CustomWeights<B: Backend> {
    /// One for each entry of the block's `weights`.
    pub params: Vec<NamedParam<B>>,
}

/// One weight: a parameter and the name that the config gives it.
#[derive(Clone, Debug)]
pub struct NamedParam<B: Backend> {
    name: String,
    value: Ranked<B>,
}

/// A parameter of any rank.
#[derive(Module, Debug)]
pub enum Ranked<B: Backend> {
    /// `[n]`.
    Rank1(Param<Tensor<B, 1>>),
    /// `[rows, columns]`.
    Rank2(Param<Tensor<B, 2>>),
    /// Three axes.
    Rank3(Param<Tensor<B, 3>>),
    /// Four axes.
    Rank4(Param<Tensor<B, 4>>),
}

/// The same expression for the parameter of each rank.
macro_rules! each_rank {
    ($value:expr, $param:ident => $body:expr) => {
        match $value {
            Ranked::Rank1($param) => $body,
            Ranked::Rank2($param) => $body,
            Ranked::Rank3($param) => $body,
            Ranked::Rank4($param) => $body,
        }
    };
}

impl<B: Backend> NamedParam<B> {
    /// A weight of zeros; those with two axes or more are still to be drawn.
    ///
    /// # Panics
    /// If `shape` has no axis or more than four.
    pub fn zeros(name: &str, shape: &[usize], device: &B::Device) -> Self {
        fn start<B: Backend, const D: usize>(
            shape: &[usize],
            device: &B::Device,
        ) -> Param<Tensor<B, D>> {
            Initializer::Zeros.init(Shape::from(shape.to_vec()), device)
        }
        let value = match shape.len() {
            1 => Ranked::Rank1(start(shape, device)),
            2 => Ranked::Rank2(start(shape, device)),
            3 => Ranked::Rank3(start(shape, device)),
            4 => Ranked::Rank4(start(shape, device)),
            rank => panic!("a weight has 1 to {MAX_RANK} axes, not {rank}"),
        };
        Self { name: name.into(), value }
    }

    /// The name in the config.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The weight as operations see it: a matrix as it is, anything else as one row.
    pub fn matrix(&self) -> FloatTensor<B> {
        each_rank!(&self.value, param => {
            let value = param.val();
            let shape = seen_shape(&value.dims());
            B::float_reshape(lower(value), shape.into())
        })
    }
}

/// The shape in which operations see a weight: a matrix as it is, anything else as one row.
pub fn seen_shape(declared: &[usize]) -> [usize; 2] {
    match declared {
        [rows, columns] => [*rows, *columns],
        other => [1, other.iter().product()],
    }
}

impl<B: Backend> Module<B> for NamedParam<B> {
    type Record = <Ranked<B> as Module<B>>::Record;

    fn visit<V: ModuleVisitor<B>>(&self, visitor: &mut V) {
        visitor.enter_module(&self.name, "NamedParam");
        each_rank!(&self.value, param => param.visit(visitor));
        visitor.exit_module(&self.name, "NamedParam");
    }

    fn map<M: ModuleMapper<B>>(self, mapper: &mut M) -> Self {
        let Self { name, value } = self;
        mapper.enter_module(&name, "NamedParam");
        let value = match value {
            Ranked::Rank1(param) => Ranked::Rank1(Module::map(param, mapper)),
            Ranked::Rank2(param) => Ranked::Rank2(Module::map(param, mapper)),
            Ranked::Rank3(param) => Ranked::Rank3(Module::map(param, mapper)),
            Ranked::Rank4(param) => Ranked::Rank4(Module::map(param, mapper)),
        };
        mapper.exit_module(&name, "NamedParam");
        Self { name, value }
    }

    fn collect_devices(&self, devices: Devices<B>) -> Devices<B> {
        self.value.collect_devices(devices)
    }

    fn fork(self, device: &B::Device) -> Self {
        Self { value: self.value.fork(device), ..self }
    }

    fn to_device(self, device: &B::Device) -> Self {
        Self { value: self.value.to_device(device), ..self }
    }

    fn load_record(self, record: Self::Record) -> Self {
        Self { value: self.value.load_record(record), ..self }
    }

    fn into_record(self) -> Self::Record {
        self.value.into_record()
    }
}

impl<B: AutodiffBackend> AutodiffModule<B> for NamedParam<B> {
    type InnerModule = NamedParam<B::InnerBackend>;

    fn valid(&self) -> Self::InnerModule {
        NamedParam { name: self.name.clone(), value: self.value.valid() }
    }

    fn from_inner(module: Self::InnerModule) -> Self {
        Self { name: module.name, value: Ranked::from_inner(module.value) }
    }
}

impl<B: AutodiffBackend> HasAutodiffModule<B> for NamedParam<B::InnerBackend> {
    type TrainModule = NamedParam<B>;
}

impl<B: Backend> ModuleDisplayDefault for NamedParam<B> {
    fn content(&self, content: Content) -> Option<Content> {
        each_rank!(&self.value, param => content.add(&self.name, param).optional())
    }
}

impl<B: Backend> ModuleDisplay for NamedParam<B> {}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use burn::backend::Autodiff;
    use burn::record::{FullPrecisionSettings, NamedMpkBytesRecorder, Recorder};
    use burn_flex::Flex;

    use super::*;
    use crate::weights::{fill, layout, values};

    type Train = Autodiff<Flex>;

    const SHAPES: [(&str, &[usize]); 4] =
        [("p", &[3]), ("7", &[2, 3]), ("a_scale", &[2, 1, 2]), ("p", &[1, 2, 1, 2])];

    fn numbered<B: Backend>() -> CustomWeights<B> {
        let device = Default::default();
        let params = SHAPES.map(|(name, shape)| NamedParam::zeros(name, shape, &device)).into();
        let weights = CustomWeights { params };
        fill(weights, |i, weight| Some((0..weight.len()).map(|j| (10 * i + j) as f32).collect()))
    }

    #[test]
    fn names_shapes_and_order_are_those_of_the_config() {
        let found: Vec<_> =
            layout(&numbered::<Flex>()).into_iter().map(|w| (w.name, w.shape)).collect();
        let expected = SHAPES.map(|(name, shape)| (name.to_owned(), shape.to_vec()));
        assert_eq!(found, expected);
    }

    #[test]
    fn operations_see_a_matrix_as_it_is_and_anything_else_as_one_row() {
        use burn::tensor::TensorMetadata;
        let shapes: Vec<_> =
            numbered::<Flex>().params.iter().map(|p| p.matrix().shape().to_vec()).collect();
        assert_eq!(shapes, [[1, 3], [2, 3], [1, 4], [1, 4]]);
    }

    #[test]
    fn values_survive_a_record_and_the_way_to_training_and_back() {
        let recorder = NamedMpkBytesRecorder::<FullPrecisionSettings>::default();
        let original = numbered::<Flex>();
        let bytes = recorder.record(original.clone().into_record(), ()).unwrap();
        let device = Default::default();
        let record = Recorder::<Flex>::load(&recorder, bytes, &device).unwrap();
        let blank = fill(numbered::<Flex>(), |_, weight| Some(vec![-1.0; weight.len()]));
        assert_eq!(values(&blank.load_record(record)), values(&original));

        let train = original.clone().train::<Train>();
        assert_eq!(values(&train), values(&original));
        assert_eq!(values(&train.valid()), values(&original));
        assert_eq!(layout(&train), layout(&original));
        assert_eq!(original.devices(), [device]);
    }

    #[test]
    fn a_weight_is_shown_under_its_name() {
        let shown = format!("{}", numbered::<Flex>());
        assert!(shown.contains("a_scale") && shown.contains("rank: 3"), "{shown}");
    }
}
