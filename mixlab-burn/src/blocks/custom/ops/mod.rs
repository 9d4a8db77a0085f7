//! The operations of `custom` blocks: the machinery of the table.
//!
//! A row says everything about one operation: its names, inputs, number of outputs and parameters,
//! a shape rule that planning and execution share, and how it runs on a backend.

mod elementwise;
pub(super) mod layout;
mod product;
mod reduction;
mod rotation;
pub(super) mod sequence;
mod table;

use burn::tensor::{Slice, TensorMetadata};
use burn_backend::tensor::FloatTensor;
use mixlab_ops::Backend;

use super::along::Rule;
use super::fault::Fault;
use super::params::{Param, Site};
use crate::blocks::Flow;

pub use table::{ROWS, run};

pub(super) use product::factors;

/// The shape of a value.
pub type Dims = Vec<usize>;

/// One operation of the table.
#[derive(Debug)]
pub struct Row {
    /// Its names; the first is the one that messages use.
    pub names: &'static [&'static str],
    /// What it does.
    pub doc: &'static str,
    /// Its inputs, in order; those that end in `?` may be left out.
    pub inputs: &'static [&'static str],
    /// Number of its outputs.
    pub outputs: usize,
    /// Its parameters.
    pub params: &'static [Param],
    /// What it does to the axis of time.
    pub along: Rule,
    /// The shapes of its outputs for inputs of the given shapes.
    pub shapes: fn(&Site<'_>, &[Dims]) -> Result<Vec<Dims>, Fault>,
}

impl Row {
    /// The row of an operation.
    pub fn find(name: &str) -> Option<&'static Self> {
        Self::number(name).map(|row| &ROWS[row])
    }

    /// The place of its row in the table.
    pub fn number(name: &str) -> Option<usize> {
        ROWS.iter().position(|row| row.names.contains(&name))
    }

    /// The name that messages use.
    pub fn name(&self) -> &'static str {
        self.names[0]
    }

    /// How many inputs it needs at least.
    pub fn least_inputs(&self) -> usize {
        self.inputs.iter().filter(|name| !name.ends_with('?')).count()
    }
}

/// One execution of an operation on tensors.
pub struct Call<'a, B: Backend> {
    /// Parameters and extent.
    pub site: Site<'a>,
    /// The inputs.
    pub inputs: Vec<FloatTensor<B>>,
    /// The shapes of the outputs, by the row's rule.
    pub shapes: &'a [Dims],
    /// The forward pass that this is part of.
    pub flow: &'a mut Flow<B>,
    /// Whether it goes on from what the tokens before left, along the axis that it works on.
    pub remembers: bool,
    /// Where values are made.
    pub device: &'a B::Device,
}

impl<B: Backend> Call<'_, B> {
    /// The `N` inputs.
    fn take<const N: usize>(&mut self) -> [FloatTensor<B>; N] {
        let inputs = std::mem::take(&mut self.inputs);
        inputs.try_into().expect("planning has counted the inputs")
    }

    /// `value` as the only output, in the shape that the rule gives it.
    fn shaped(&self, value: FloatTensor<B>) -> Vec<FloatTensor<B>> {
        vec![reshape::<B>(value, &self.shapes[0])]
    }
}

/// The shape of a value.
fn dims<B: Backend>(x: &FloatTensor<B>) -> Dims {
    x.shape().to_vec()
}

/// `x` in another shape of as many elements; nothing happens if it has that shape.
fn reshape<B: Backend>(x: FloatTensor<B>, shape: &[usize]) -> FloatTensor<B> {
    if x.shape().as_slice() == shape {
        return x;
    }
    B::float_reshape(x, shape.to_vec().into())
}

/// The last `count` elements of `x` along `axis`.
fn last<B: Backend>(x: FloatTensor<B>, axis: usize, count: usize) -> FloatTensor<B> {
    let length = dims::<B>(&x)[axis];
    let mut slices = vec![Slice::full(); dims::<B>(&x).len()];
    slices[axis] = Slice::from(length - count..length);
    B::float_slice(x, &slices)
}

/// `x` with axes of length 1 put in front until it has `rank` axes.
fn with_rank<B: Backend>(x: FloatTensor<B>, rank: usize) -> FloatTensor<B> {
    let own = dims::<B>(&x);
    let shape = [vec![1; rank - own.len()], own].concat();
    reshape::<B>(x, &shape)
}

/// `x` repeated to `shape` by the rules of broadcasting.
fn expand<B: Backend>(x: FloatTensor<B>, shape: &[usize]) -> FloatTensor<B> {
    let x = with_rank::<B>(x, shape.len());
    if x.shape().as_slice() == shape {
        return x;
    }
    B::float_expand(x, shape.to_vec().into())
}

/// The shape of inputs that are combined element by element, aligned at their last axes, an axis of
/// length 1 being repeated as needed.
pub(super) fn broadcast(inputs: &[Dims]) -> Result<Dims, Fault> {
    let rank = inputs.iter().map(Vec::len).max().unwrap_or(0);
    let mut shape = vec![1; rank];
    for dims in inputs {
        for (known, &n) in shape[rank - dims.len()..].iter_mut().zip(dims) {
            match (*known, n) {
                (a, b) if a == b || b == 1 => {}
                (1, b) => *known = b,
                (a, b) => {
                    return Err(Fault::new(
                        format!("lengths `{a}` and `{b}` do not match"),
                        "shapes are aligned at their last axes, and only axes of length 1 are repeated",
                    ));
                }
            }
        }
    }
    Ok(shape)
}

/// The axis that a parameter names, counted from the end if negative.
pub(super) fn axis(site: &Site<'_>, rank: usize) -> Result<usize, Fault> {
    let written = site.int("axis");
    let counted = if written < 0 { written + rank as i64 } else { written };
    usize::try_from(counted).ok().filter(|axis| *axis < rank).ok_or_else(|| {
        Fault::new(
            format!("there is no axis `{written}`"),
            format!("axes go from 0 to {}, or from -{rank} to -1", rank - 1),
        )
    })
}
