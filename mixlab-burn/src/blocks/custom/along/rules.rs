//! The rules: from what the inputs of an operation depend on to what its results do.

use super::{Each, Mask, Over, Reach, Value, meet};
use crate::blocks::custom::ops::{Dims, axis};
use crate::blocks::custom::params::Site;

/// How an operation treats the axis of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Each element by itself.
    Each(Each),
    /// All elements along one axis together.
    Over(Over),
    /// All elements along the last axis together, then element by element with other inputs.
    Norm(Over),
    /// Along one axis, from what was before.
    Running,
    /// Other sizes for the same elements.
    Reshape,
    /// Another order of axes.
    Transpose,
    /// A part of one axis.
    Slice,
    /// One input after the other.
    Concat,
    /// Rows of a table.
    Lookup,
    /// Numbers in order.
    Numbers,
    /// The same number everywhere.
    Filled,
    /// A sum of products over one axis of each input.
    Matmul,
    /// Products of all pairs of the last axes.
    Outer,
    /// A mask on the last two axes.
    Mask,
    /// Causal attention.
    Attention,
    /// Rotation by the position.
    Rotation,
    /// Causal convolution.
    Convolution,
    /// A recurrence.
    Scan(Scanned),
}

/// What the second input of a recurrence is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scanned {
    /// A decay of each channel.
    Decay,
    /// A gate of each element.
    Gates,
    /// A gate of each row of a matrix.
    Matrices,
}

/// How an operation can be run on a part of each row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Passage {
    /// As it is: no step depends on another.
    Local,
    /// From what the steps before left.
    Remembers,
    /// Not at all: it takes whole rows.
    Rows,
}

/// One operation at given sizes.
pub struct Step<'a> {
    /// Its parameters, and how much data there is.
    pub site: Site<'a>,
    /// Its inputs.
    pub inputs: &'a [Value],
    /// The sizes of its results.
    pub outputs: &'a [Dims],
}

/// What an operation does to the steps of a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Effect {
    /// What each result depends on.
    pub reaches: Vec<Reach>,
    /// How it can be run on parts of rows.
    pub passage: Passage,
}

impl Rule {
    /// What it does to the axis of time, for the reference.
    pub fn doc(self) -> &'static str {
        match self {
            Self::Each(_) | Self::Transpose | Self::Filled | Self::Outer => "keeps",
            Self::Over(_) | Self::Norm(_) => "keeps; over T: sees all",
            Self::Running => "keeps; along T: remembers the sum",
            Self::Reshape => "keeps; T over several axes: sees all",
            Self::Slice | Self::Concat => "keeps; of T: whole rows, and the shift counts",
            Self::Lookup => "keeps, of a constant table; else sees all",
            Self::Numbers => "whole rows, if there is a `T` in it",
            Self::Matmul => "keeps; over T: sees all, but for a masked future",
            Self::Mask => "masks scores `[…, T, T]`: whole rows",
            Self::Attention => "remembers keys and values",
            Self::Rotation => "remembers the position",
            Self::Convolution => "remembers K − 1 steps",
            Self::Scan(_) => "remembers the state",
        }
    }

    /// What the operation does to the steps of a row.
    pub fn apply(self, step: &Step<'_>) -> Effect {
        let reaches = || step.inputs.iter().map(|value| value.reach);
        if reaches().any(|reach| reach == Reach::Whole) {
            return step.all(Reach::Whole, Passage::Rows);
        }
        if reaches().all(Reach::is_constant) {
            return step.all(self.of_constants(step), Passage::Local);
        }
        match self {
            Self::Each(each) => step.each(each),
            Self::Over(over) => step.over(over),
            Self::Norm(over) => step.norm(over),
            Self::Running => step.running(),
            Self::Reshape => step.local(step.reach(0).reshaped(step.dims(0), &step.outputs[0])),
            Self::Transpose => step.transposed(),
            Self::Slice => step.sliced(),
            Self::Concat => step.joined(),
            Self::Lookup => step.looked_up(),
            Self::Matmul => step.product(),
            Self::Outer => step.outer(),
            Self::Mask => step.masked(),
            Self::Attention => step.attention(),
            Self::Rotation => step.rotation(),
            Self::Convolution => step.convolution(),
            Self::Scan(scanned) => step.scan(scanned),
            Self::Numbers | Self::Filled => unreachable!("without inputs there are no tokens"),
        }
    }

    /// The result of inputs that depend on no token.
    fn of_constants(self, step: &Step<'_>) -> Reach {
        let reach = step.inputs.iter().map(|value| value.reach);
        let reach = super::constant(&reach.collect::<Vec<_>>());
        let varies = step.site.params.vary();
        match self {
            Self::Filled if varies => Reach::Uniform,
            Self::Each(_) | Self::Reshape | Self::Transpose => reach,
            Self::Mask if reach != Reach::Fixed => step.constant_mask(),
            _ if reach == Reach::Fixed && !varies => Reach::Fixed,
            _ => Reach::Placed,
        }
    }
}

impl Step<'_> {
    pub(super) fn reach(&self, input: usize) -> Reach {
        self.inputs[input].reach
    }

    pub(super) fn dims(&self, input: usize) -> &Dims {
        &self.inputs[input].dims
    }

    pub(super) fn rank(&self) -> usize {
        self.outputs[0].len()
    }

    /// The axis that is named; planning has checked it.
    pub(super) fn axis(&self) -> usize {
        axis(&self.site, self.dims(0).len()).expect("planning has checked the axis")
    }

    pub(super) fn all(&self, reach: Reach, passage: Passage) -> Effect {
        Effect { reaches: vec![reach; self.outputs.len()], passage }
    }

    pub(super) fn local(&self, reach: Reach) -> Effect {
        self.all(reach, Passage::Local)
    }

    pub(super) fn each(&self, each: Each) -> Effect {
        let scalar = self.site.given_float("scalar");
        self.local(meet(self.inputs, self.rank(), |futures| each.future(futures, scalar)))
    }

    pub(super) fn over(&self, over: Over) -> Effect {
        self.local(over.along(self.axis(), self.reach(0)))
    }

    pub(super) fn norm(&self, over: Over) -> Effect {
        let mut inputs = self.inputs.to_vec();
        inputs[0].reach = over.along(inputs[0].dims.len() - 1, inputs[0].reach);
        let future = |futures: &[Mask]| if futures.len() < 3 { futures[0] } else { Mask::Open };
        self.local(meet(&inputs, self.rank(), future))
    }
}
