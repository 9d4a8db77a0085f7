//! From a module to captures of its forward at several sizes.

use std::collections::HashMap;

use burn::module::Module;
use burn::tensor::{Bool, Int, Tensor};
use mixlab_ops::capture::{
    Capture, CaptureDevice, CaptureError, Port, Program, Session, ValueId, capture,
};

use super::OnnxError;
use super::extent::{Basis, Extent, LENGTHS, LONG, SHORT};
use super::lower::{is_known, lower};
use super::place::{difference, place};
use super::profile::Profile;
use crate::plan::Plan;

/// The length of an axis of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dim {
    /// Always the same.
    Fixed(usize),
    /// That of the dynamic axis of this name.
    Axis(String),
}

impl From<usize> for Dim {
    fn from(length: usize) -> Self {
        Self::Fixed(length)
    }
}

impl From<&str> for Dim {
    fn from(axis: &str) -> Self {
        Self::Axis(axis.into())
    }
}

/// One capture in the making: makes inputs at its sizes, and takes outputs.
pub struct Trace<'a> {
    session: &'a Session,
    axes: &'a [String],
    sizes: &'a [usize],
}

impl Trace<'_> {
    /// The length of an axis in this capture.
    ///
    /// # Panics
    /// If it is a dynamic axis that was not declared.
    pub fn size(&self, dim: &Dim) -> usize {
        match dim {
            Dim::Fixed(length) => *length,
            Dim::Axis(name) => {
                let place = self.axes.iter().position(|axis| axis == name);
                self.sizes[place.unwrap_or_else(|| panic!("the axis `{name}` is not declared"))]
            }
        }
    }

    /// The device of this capture.
    pub fn device(&self) -> &CaptureDevice {
        self.session.device()
    }

    fn shape<const D: usize>(&self, dims: &[Dim; D]) -> [usize; D] {
        dims.each_ref().map(|dim| self.size(dim))
    }

    /// An input of 32-bit floats.
    pub fn float<const D: usize>(&self, name: &str, dims: [Dim; D]) -> Tensor<Capture, D> {
        self.session.input_float(name, self.shape(&dims))
    }

    /// An input of 64-bit integers.
    pub fn int<const D: usize>(&self, name: &str, dims: [Dim; D]) -> Tensor<Capture, D, Int> {
        self.session.input_int(name, self.shape(&dims))
    }

    /// An input of booleans.
    pub fn bool<const D: usize>(&self, name: &str, dims: [Dim; D]) -> Tensor<Capture, D, Bool> {
        self.session.input_bool(name, self.shape(&dims))
    }

    /// The session, for inputs of another type or of a rank that is known at run time only.
    pub fn session(&self) -> &Session {
        self.session
    }

    /// Names a result.
    pub fn output(&self, name: &str, tensor: impl Into<mixlab_ops::capture::Captured>) {
        self.session.output(name, tensor);
    }
}

/// A forward, captured at several sizes of its dynamic axes.
pub struct Traced {
    pub(super) axes: Vec<String>,
    pub(super) basis: Basis,
    /// The same operations between the same values, at each of the sizes.
    programs: Vec<Program>,
    /// The lengths of the axes of each value.
    extents: Vec<Vec<Extent>>,
    /// What its numbered blocks are called.
    pub(super) labels: Vec<String>,
}

/// Captures the forward of a module, for which the lengths of the axes named `axes` stay open.
///
/// `build` makes the module, whose weights do not matter; `forward` makes the inputs, runs the
/// module and names the outputs. Both run several times, at lengths from 3 to 37; if the forward panics
/// there, at lengths from 2 to 8, for those whose table of positions is short, and from 61 to 107, for those
/// whose windows are long.
///
/// # Errors
/// If the forward cannot be captured ([`CaptureError`]), does something else at other sizes, or has lengths
/// that are no sums of products of the axes; and if two of its values have the same name.
pub fn trace<M: Module<Capture>>(
    axes: &[&str],
    build: impl Fn(&CaptureDevice) -> M,
    forward: impl Fn(&M, &Trace<'_>),
) -> Result<Traced, OnnxError> {
    let axes: Vec<String> = axes.iter().map(|axis| axis.to_string()).collect();
    let run = |basis: Basis| Traced::capture(axes.clone(), basis, &build, &forward);
    let basis = |degree: usize, lengths: &[usize]| {
        let basis = Basis::new(axes.len(), degree, lengths);
        basis.ok_or(OnnxError::Axes(axes.len(), lengths.len()))
    };
    let traced = match run(basis(2, &LENGTHS)?) {
        Err(error) if panicked(&error) => elsewhere(error, |lengths| run(basis(2, lengths)?)),
        Err(error @ OnnxError::Extent { .. }) if axes.len() > 2 => {
            basis(3, &LENGTHS).and_then(run).map_err(|_| error)
        }
        traced => traced,
    }?;
    traced.named()
}

/// Whether the forward panicked.
fn panicked(error: &OnnxError) -> bool {
    matches!(error, OnnxError::Sizes { .. })
}

/// What `run` finds at shorter or at longer lengths, after `error` at the usual ones; what is no panic says
/// more than one.
fn elsewhere(
    mut error: OnnxError,
    run: impl Fn(&[usize]) -> Result<Traced, OnnxError>,
) -> Result<Traced, OnnxError> {
    for lengths in [&SHORT[..], &LONG] {
        match run(lengths) {
            Err(other) if panicked(&other) => {}
            Err(other) => error = other,
            traced => return traced,
        }
    }
    Err(error)
}

impl Traced {
    /// Captures a forward at the sizes of `basis`.
    fn capture<M: Module<Capture>>(
        axes: Vec<String>,
        basis: Basis,
        build: impl Fn(&CaptureDevice) -> M,
        forward: impl Fn(&M, &Trace<'_>),
    ) -> Result<Self, OnnxError> {
        let one = |(at, sizes): (usize, &Vec<usize>)| -> Result<Program, OnnxError> {
            let run = |module: &M, session: &Session| {
                forward(module, &Trace { session, axes: &axes, sizes });
            };
            let whole = capture(&build, run).and_then(|whole| {
                whole.without_dead_nodes().expanded_where(|node| !is_known(node))
            });
            whole.map_err(|source| match source {
                CaptureError::Panicked { .. } if !axes.is_empty() => {
                    OnnxError::Sizes { sizes: basis.describe(&axes, at), source }
                }
                source => source.into(),
            })
        };
        let programs = basis.sizes.iter().enumerate().map(one).collect::<Result<Vec<_>, _>>()?;
        if let Some(other) = programs.iter().position(|p| !p.same_structure(&programs[0])) {
            let [expected, found] = difference(&programs[0], &programs[other]);
            let sizes = basis.describe(&axes, other);
            return Err(OnnxError::Structure { sizes, found, expected });
        }
        let mut traced = Self { axes, basis, programs, extents: Vec::new(), labels: Vec::new() };
        for index in 0..traced.program().values().len() {
            let rank = traced.program().values()[index].shape.num_dims();
            let of = |axis: usize| {
                let length = |program: &Program| program.values()[index].shape[axis] as i64;
                traced.solve(length).map_err(|found| traced.misfit(index, axis, found))
            };
            let extents = (0..rank).map(of).collect::<Result<_, _>>()?;
            traced.extents.push(extents);
        }
        Ok(traced)
    }

    /// Itself, if no two of inputs, outputs and parameters have the same name.
    fn named(self) -> Result<Self, OnnxError> {
        let program = self.program();
        let ports = |role, ports: &[Port]| -> Vec<(&'static str, String)> {
            ports.iter().map(|port| (role, port.name.clone())).collect()
        };
        let parameters = program.parameters().iter().map(|one| ("parameter", one.paths[0].clone()));
        let mut taken: HashMap<String, &'static str> = HashMap::new();
        let all = ports("input", program.inputs()).into_iter();
        for (role, name) in all.chain(ports("output", program.outputs())).chain(parameters) {
            if let Some(other) = taken.insert(name.clone(), role) {
                return Err(OnnxError::Name { name, roles: [other, role] });
            }
        }
        Ok(self)
    }
}

impl Traced {
    /// With the blocks of `plan` for names of functions.
    pub(super) fn labelled<K>(mut self, plan: &Plan<K>) -> Self {
        self.labels = plan.steps.iter().map(|step| step.label.clone()).collect();
        self
    }

    /// Whether all operations have counterparts in files of `profile`.
    ///
    /// # Errors
    /// For the first that has none.
    pub fn check(&self, profile: Profile) -> Result<(), OnnxError> {
        lower(self, profile).map(drop)
    }

    /// The forward at the first of the sizes.
    pub fn program(&self) -> &Program {
        &self.programs[0]
    }

    /// The lengths of the axes of `value`.
    pub(super) fn extents(&self, value: ValueId) -> &[Extent] {
        &self.extents[value.index()]
    }

    /// The form of a number that `read` finds in each capture; or all those numbers, if they have none.
    pub(super) fn solve(&self, read: impl Fn(&Program) -> i64) -> Result<Extent, Vec<i64>> {
        let values: Vec<i64> = self.programs.iter().map(read).collect();
        self.basis.solve(&values).ok_or(values)
    }

    /// What each capture has.
    pub(super) fn programs(&self) -> &[Program] {
        &self.programs
    }

    /// The error about a number of an operation that has no form.
    pub(super) fn no_form(&self, what: String, node: usize, found: Vec<i64>) -> OnnxError {
        let node = &self.program().nodes()[node];
        let sizes = (0..self.programs.len()).map(|at| self.basis.describe(&self.axes, at));
        let sizes = sizes.collect::<Vec<_>>().join("; ");
        let (operation, part) = (node.name.clone(), place(self.program(), node));
        OnnxError::Extent { what, operation, part, found, sizes }
    }

    fn misfit(&self, value: usize, axis: usize, found: Vec<i64>) -> OnnxError {
        let made =
            |node: &mixlab_ops::capture::Node| node.outputs.iter().any(|out| out.index() == value);
        let node = self.program().nodes().iter().position(made);
        let node = node.expect("only operations make lengths of their own");
        self.no_form(format!("axis {axis} of the result"), node, found)
    }
}
