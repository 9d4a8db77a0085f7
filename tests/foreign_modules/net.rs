//! Nets that are written once: their forward runs on numbers, and is traced.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Bool, Distribution, Int, Tensor, TensorData, backend::Backend};
use burn_flex::Flex;
use mixlab_burn::onnx::{Dim, Profile, Trace};
use mixlab_burn::ops::capture::Capture;

use super::{export_to, random};

/// Where inputs come from and results go.
pub trait Ports<B: Backend> {
    /// An input of floats.
    fn float<const D: usize>(&mut self, name: &str, dims: [Dim; D]) -> Tensor<B, D>;
    /// An input of integers from 0 to before `end`.
    fn int<const D: usize>(&mut self, name: &str, dims: [Dim; D], end: i64) -> Tensor<B, D, Int>;
    /// An input of booleans.
    fn bool<const D: usize>(&mut self, name: &str, dims: [Dim; D]) -> Tensor<B, D, Bool>;
    /// A result of floats.
    fn put<const D: usize>(&mut self, name: &str, x: Tensor<B, D>);
    /// A result of integers.
    fn put_int<const D: usize>(&mut self, name: &str, x: Tensor<B, D, Int>);
}

impl Ports<Capture> for &Trace<'_> {
    fn float<const D: usize>(&mut self, name: &str, dims: [Dim; D]) -> Tensor<Capture, D> {
        Trace::float(self, name, dims)
    }

    fn int<const D: usize>(
        &mut self,
        name: &str,
        dims: [Dim; D],
        _: i64,
    ) -> Tensor<Capture, D, Int> {
        Trace::int(self, name, dims)
    }

    fn bool<const D: usize>(&mut self, name: &str, dims: [Dim; D]) -> Tensor<Capture, D, Bool> {
        Trace::bool(self, name, dims)
    }

    fn put<const D: usize>(&mut self, name: &str, x: Tensor<Capture, D>) {
        self.output(name, x);
    }

    fn put_int<const D: usize>(&mut self, name: &str, x: Tensor<Capture, D, Int>) {
        self.output(name, x);
    }
}

/// Inputs by chance, and what became of them.
struct Run<'a> {
    axes: &'a [&'a str],
    sizes: &'a [usize],
    values: Vec<(String, TensorData)>,
}

impl Run<'_> {
    fn shape<const D: usize>(&self, dims: [Dim; D]) -> [usize; D] {
        dims.map(|dim| match dim {
            Dim::Fixed(length) => length,
            Dim::Axis(name) => {
                let place = self.axes.iter().position(|axis| *axis == name);
                self.sizes[place.expect("the net declares its axes")]
            }
        })
    }

    fn keep(&mut self, name: &str, data: TensorData) {
        self.values.push((name.into(), data));
    }
}

fn uniform<const D: usize>(shape: [usize; D]) -> Tensor<Flex, D> {
    Tensor::random(shape, Distribution::Uniform(0.0, 1.0), &Default::default())
}

impl Ports<Flex> for Run<'_> {
    fn float<const D: usize>(&mut self, name: &str, dims: [Dim; D]) -> Tensor<Flex, D> {
        let x = random(self.shape(dims));
        self.keep(name, x.to_data());
        x
    }

    fn int<const D: usize>(
        &mut self,
        name: &str,
        dims: [Dim; D],
        end: i64,
    ) -> Tensor<Flex, D, Int> {
        let x = (uniform(self.shape(dims)) * end as f64).int().clamp(0, end - 1);
        self.keep(name, x.to_data().convert::<i64>());
        x
    }

    fn bool<const D: usize>(&mut self, name: &str, dims: [Dim; D]) -> Tensor<Flex, D, Bool> {
        let x = uniform(self.shape(dims)).lower_elem(0.4);
        self.keep(name, x.to_data());
        x
    }

    fn put<const D: usize>(&mut self, name: &str, x: Tensor<Flex, D>) {
        self.keep(name, x.into_data());
    }

    fn put_int<const D: usize>(&mut self, name: &str, x: Tensor<Flex, D, Int>) {
        self.keep(name, x.into_data().convert::<i64>());
    }
}

/// A net that files are written of.
pub trait Net {
    /// What files are called.
    const NAME: &'static str;
    /// Its open axes.
    const AXES: &'static [&'static str];
    /// Lengths of these that it is tried at.
    const SIZES: &'static [&'static [usize]];
    /// The profiles that can have it.
    const PROFILES: &'static [Profile] = &[Profile::Portable, Profile::Modern];

    /// Its module on a backend.
    type Of<B: Backend>: Module<B>;

    /// With start values.
    fn new<B: Backend>(device: &B::Device) -> Self::Of<B>;

    /// From inputs to results.
    fn run<B: Backend>(net: &Self::Of<B>, ports: &mut impl Ports<B>);
}

/// Writes `N` and what it computes.
pub fn write<N: Net>(folder: &Path) {
    let net = N::new::<Flex>(&Default::default());
    let values = N::SIZES.iter().map(|sizes| {
        let mut run = Run { axes: N::AXES, sizes, values: Vec::new() };
        N::run(&net, &mut run);
        run.values
    });
    let values: Vec<_> = values.collect();
    let forward = |net: &N::Of<Capture>, trace: &Trace<'_>| N::run(net, &mut &*trace);
    let path = folder.join(N::NAME);
    export_to(N::PROFILES, path, N::AXES, &net, N::new::<Capture>, forward, &values);
}
