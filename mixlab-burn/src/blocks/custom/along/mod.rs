//! Along T: which tokens each value of a program depends on, worked out at planning.
//!
//! A program may do with the axis of time what it likes, so whether a block is causal is a property
//! of the program. [`Reach`] says of one value which tokens its elements depend on: a [`Lane`] is an
//! axis along which the steps of a row lie, and an element depends on tokens up to its own step and
//! `ahead` of it. Each row of the table has a [`Rule`] that works out the [`Reach`] of its results
//! from that of its inputs, at given sizes; [`Outlook`] runs a whole program through them, for some
//! batches and lengths, since symbols may mean something else at each.
//!
//! One pass answers three questions. A program is *causal* if `x` leaves with each element at its
//! own step and nothing ahead. It *streams* if it is causal and no operation needs a whole row at
//! once: each is local in time, or remembers what the tokens before left ([`Passage`]). A program
//! that streams can also be exported with its state as inputs and outputs.
//!
//! Scores `[…, T, T]` have two lanes, rows and columns, and it matters what stands where a column is
//! ahead of its row. `causal_mask` puts −10⁹ there, softmax and `exp` make 0 of that, and a sum over
//! columns of which the future is 0 sees only the past: so hand-written attention is causal, and
//! does not stream.
//!
//! A masked score is taken to stay one: numbers of 10⁹ that undo a mask are not seen through.
//!
//! Where the rules do not know better they assume the worst: steps that a reshape spreads over
//! several axes (`T/2`), masks that are computed from `arange`, products of two matrices of scores
//! and weights that are rewritten from data count as looking ahead.

mod arranged;

mod lane;
mod mask;
mod outlook;
mod rules;
mod sequences;

pub use lane::Lane;
pub use mask::{Each, Mask, Over};
pub use outlook::Outlook;
pub use rules::{Effect, Passage, Rule, Scanned, Step};

use super::ops::Dims;

/// Which tokens the elements of a value depend on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reach {
    /// None, and it is the same for any `T`.
    Fixed,
    /// None, and it is the same at any step, though its size depends on `T`.
    Uniform,
    /// None, but it depends on the position or on `T`.
    Placed,
    /// Those up to a step along one axis.
    Along(Lane),
    /// Those up to the later of two steps, as in a matrix of scores.
    Pairs {
        /// The steps that look.
        rows: Lane,
        /// The steps that are looked at.
        columns: Lane,
        /// What stands where the column is ahead of the row.
        future: Mask,
    },
    /// Any.
    Whole,
}

/// A value as the rules see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// Its sizes.
    pub dims: Dims,
    /// What it depends on.
    pub reach: Reach,
}

impl Reach {
    /// Scores between `rows` and `columns`; if one of them is known everywhere, the other remains.
    fn pairs(rows: Lane, columns: Lane, future: Mask) -> Self {
        match (rows.length, columns.length) {
            (1, _) => Self::Along(columns.knowing(rows.ahead)),
            (_, 1) => Self::Along(rows.knowing(columns.ahead)),
            _ if rows.axis == columns.axis => Self::Whole,
            _ => Self::Pairs { rows, columns, future },
        }
    }

    /// Whether it depends on no token.
    pub fn is_constant(self) -> bool {
        matches!(self, Self::Fixed | Self::Uniform | Self::Placed)
    }

    /// Whether any element may depend on a token after its step.
    pub fn looks_ahead(self) -> bool {
        self == Self::Whole || self.lanes().iter().any(|lane| lane.ahead > 0)
    }

    /// Its lanes, rows first.
    fn lanes(self) -> Vec<Lane> {
        match self {
            Self::Along(lane) => vec![lane],
            Self::Pairs { rows, columns, .. } => vec![rows, columns],
            _ => vec![],
        }
    }

    /// The same with each lane changed by `f`; [`Reach::Whole`] if one is lost.
    fn with_lanes(self, f: impl Fn(Lane) -> Option<Lane>) -> Self {
        let changed = match self {
            Self::Along(lane) => f(lane).map(Self::Along),
            Self::Pairs { rows, columns, future } => {
                f(rows).zip(f(columns)).map(|(rows, columns)| Self::pairs(rows, columns, future))
            }
            other => Some(other),
        };
        changed.unwrap_or(Self::Whole)
    }

    /// The same elements with other sizes.
    fn reshaped(self, from: &Dims, to: &Dims) -> Self {
        self.with_lanes(|lane| lane.reshaped(from, to))
    }

    /// The same with any mask forgotten.
    fn open(self) -> Self {
        match self {
            Self::Pairs { rows, columns, .. } => Self::Pairs { rows, columns, future: Mask::Open },
            other => other,
        }
    }

    /// The same, depending on all that `other` depends on, wherever that is.
    fn knowing_all_of(self, other: Self) -> Self {
        let last = other.lanes().into_iter().map(Lane::last).max();
        match last {
            _ if other == Self::Whole => Self::Whole,
            Some(last) => self.with_lanes(|lane| Some(lane.knowing(last))),
            None => self,
        }
    }
}

/// Values that meet element by element in a result of `rank` axes, aligned at their last axes; of
/// two lanes `future` says what becomes of what stands in the future of each value.
fn meet(values: &[Value], rank: usize, future: impl Fn(&[Mask]) -> Mask) -> Reach {
    let lifted: Vec<Reach> = values.iter().map(|value| lift(value, rank)).collect();
    if lifted.contains(&Reach::Whole) {
        return Reach::Whole;
    }
    let lanes: Vec<Lane> = lifted.iter().flat_map(|reach| reach.lanes()).collect();
    let (known, lanes): (Vec<Lane>, Vec<Lane>) = lanes.into_iter().partition(|l| l.length == 1);
    let Some(lanes) = merged(lanes) else { return Reach::Whole };
    let known = known.into_iter().reduce(|a, b| a.knowing(b.ahead));
    let knowing = |lane: Lane| known.map_or(lane, |known| lane.knowing(known.ahead));
    match (lanes.as_slice(), known) {
        ([], Some(known)) => Reach::Along(known),
        ([], None) => constant(&lifted),
        ([lane], _) => Reach::Along(knowing(*lane)),
        ([a, b], _) => {
            let (rows, futures) = oriented(&lifted, a.axis.min(b.axis));
            let (rows, columns) = if a.axis == rows { (a, b) } else { (b, a) };
            Reach::pairs(knowing(*rows), knowing(*columns), future(&futures))
        }
        _ => Reach::Whole,
    }
}

/// The reach of `value` in a result of `rank` axes.
fn lift(value: &Value, rank: usize) -> Reach {
    let shift = rank - value.dims.len();
    value.reach.with_lanes(|lane| Some(lane.at(lane.axis + shift)))
}

/// One lane for each axis, `None` if two of an axis do not match.
fn merged(lanes: Vec<Lane>) -> Option<Vec<Lane>> {
    let mut merged: Vec<Lane> = Vec::new();
    for lane in lanes {
        match merged.iter_mut().find(|known| known.axis == lane.axis) {
            Some(known) if (known.length, known.inner) != (lane.length, lane.inner) => return None,
            Some(known) => *known = known.knowing(lane.ahead),
            None => merged.push(lane),
        }
    }
    Some(merged)
}

/// The axis of the rows, by the first value with a mask, else `first`; and the future of each value
/// as seen from those rows.
fn oriented(reaches: &[Reach], first: usize) -> (usize, Vec<Mask>) {
    let masked = reaches.iter().find_map(|reach| match reach {
        Reach::Pairs { rows, future, .. } if *future != Mask::Open => Some(rows.axis),
        _ => None,
    });
    let axis = masked.unwrap_or(first);
    let future = |reach: &Reach| match reach {
        Reach::Pairs { rows, future, .. } if rows.axis == axis => *future,
        _ => Mask::Open,
    };
    (axis, reaches.iter().map(future).collect())
}

/// What several constants make.
fn constant(reaches: &[Reach]) -> Reach {
    let order = [Reach::Placed, Reach::Uniform];
    order.into_iter().find(|reach| reaches.contains(reach)).unwrap_or(Reach::Fixed)
}
