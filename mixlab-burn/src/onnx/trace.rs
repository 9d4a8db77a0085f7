//! From a module to captures of its forward at several sizes.

use std::collections::HashMap;

use burn::module::Module;
use burn::tensor::{Bool, Int, Tensor};
use mixlab_ops::capture::{
    Capture, CaptureDevice, CaptureError, Node, Origin, Port, Program, Session, ValueId, capture,
};

use super::OnnxError;
use super::extent::{Basis, DIVIDED, Extent, LENGTHS, LONG, SHORT};
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

/// Sizes that an error lists.
const SHOWN: usize = 8;

/// Captures the forward of a module, for which the lengths of the axes named `axes` stay open.
///
/// `build` makes the module, whose weights do not matter; `forward` makes the inputs, runs the
/// module and names the outputs. Both run several times, at lengths from 3 to 37; if the forward panics
/// there, at lengths from 2 to 8, for those whose table of positions is short, and from 61 to 107, for those
/// whose windows are long. If it divides a length, as by a stride, both run 48 times, at lengths from 61 to
/// 1800; where it panics there, at longer and shorter ones, then at multiples of 2, 4 … 64: what takes
/// nothing else is exported for these alone.
///
/// # Errors
/// If the forward cannot be captured ([`CaptureError`]), does something else at other sizes, or has lengths
/// that are no sums of products of the axes, nor of such sums divided by a number of 2 to 64; and if two of
/// its values have the same name.
pub fn trace<M: Module<Capture>>(
    axes: &[&str],
    build: impl Fn(&CaptureDevice) -> M,
    forward: impl Fn(&M, &Trace<'_>),
) -> Result<Traced, OnnxError> {
    let axes: Vec<String> = axes.iter().map(|axis| axis.to_string()).collect();
    let count = axes.len();
    let first = Basis::new(count, 2, &LENGTHS).ok_or(OnnxError::Axes(count, LENGTHS.len()))?;
    let run = |basis: Basis| Traced::capture(axes.clone(), basis, &build, &forward);
    let traced = run(first).or_else(|error| elsewhere(error, count, run))?;
    traced.named()
}

/// What `run` finds at other lengths of so many axes, after `error` at the usual ones: at shorter or longer
/// ones after a panic; of products of three after a length that is none of two; then of quotients. What is
/// no panic says more than one.
fn elsewhere(
    mut error: OnnxError,
    axes: usize,
    run: impl Fn(Basis) -> Result<Traced, OnnxError>,
) -> Result<Traced, OnnxError> {
    let sums = |of: &[(usize, &[usize])]| -> Vec<Option<Basis>> {
        of.iter().map(|(degree, lengths)| Basis::new(axes, *degree, lengths)).collect()
    };
    let sums = match &error {
        OnnxError::Sizes { .. } => sums(&[(2, &SHORT), (2, &LONG)]),
        OnnxError::Extent { .. } if axes > 2 => sums(&[(3, &LENGTHS)]),
        OnnxError::Extent { .. } => vec![],
        _ => return Err(error),
    };
    for basis in sums.into_iter().flatten() {
        match run(basis) {
            Err(OnnxError::Sizes { .. }) => {}
            Err(other) => error = other,
            traced => return traced,
        }
    }
    let quotients = DIVIDED.iter().map(|(start, step)| Basis::dividing(axes, *start, *step));
    let panicked = |traced: &Result<_, _>| matches!(traced, Err(OnnxError::Sizes { .. }));
    quotients.flatten().map(run).find(|traced| !panicked(traced)).unwrap_or(Err(error))
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
            let extents = (0..rank).map(|axis| traced.length_of(index, axis));
            let extents = extents.collect::<Result<_, _>>()?;
            traced.extents.push(extents);
        }
        Ok(traced)
    }

    /// The form of an axis of a value, when those of all values before it are known.
    fn length_of(&mut self, value: usize, axis: usize) -> Result<Extent, OnnxError> {
        let lengths = self.programs.iter().map(|p| p.values()[value].shape[axis] as i64);
        let lengths: Vec<i64> = lengths.collect();
        let near = match self.program().values()[value].origin {
            Origin::Node(node) => {
                let read = self.program().nodes()[node].inputs.iter();
                read.filter_map(|id| self.extents.get(id.index())).flatten().cloned().collect()
            }
            _ => vec![],
        };
        let form = self.basis.solve_or_divide(&lengths, &near);
        form.ok_or_else(|| self.misfit(value, axis, lengths))
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
    pub(super) fn no_form(&self, what: String, node: usize, mut found: Vec<i64>) -> OnnxError {
        let node = &self.program().nodes()[node];
        found.truncate(SHOWN);
        let sizes = (0..found.len()).map(|at| self.basis.describe(&self.axes, at));
        let sizes = sizes.collect::<Vec<_>>().join("; ");
        let (operation, part) = (node.name.clone(), place(self.program(), node));
        OnnxError::Extent { what, operation, part, found, sizes }
    }

    fn misfit(&self, value: usize, axis: usize, found: Vec<i64>) -> OnnxError {
        // Data that the forward carries have lengths of their own; what reads them is found.
        let made = |node: &Node| node.outputs.iter().any(|out| out.index() == value);
        let read = |node: &Node| node.inputs.iter().any(|input| input.index() == value);
        let position = |of: &dyn Fn(&Node) -> bool| self.program().nodes().iter().position(of);
        match position(&made) {
            Some(node) => self.no_form(format!("axis {axis} of the result"), node, found),
            None => {
                let node = position(&read).expect("what nothing reads is pruned");
                self.no_form(format!("axis {axis} of a constant"), node, found)
            }
        }
    }
}
