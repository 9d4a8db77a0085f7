//! The rules of operations along the sequence.

use super::lane::NOTHING;
use super::{Effect, Lane, Mask, Passage, Reach, Scanned, Step, Value, meet};
use crate::blocks::custom::ops::{Dims, sequence};

/// What stands in the future of masked scores.
const MASKED: Mask = Mask::Low(sequence::MASKED);

/// From what was before along `axis` of a value that depends on `reach`.
fn running(reach: Reach, dims: &Dims, axis: usize) -> (Reach, Passage) {
    let is_along = |lane: &Lane| lane.axis == axis && lane.length > 1;
    match reach {
        Reach::Along(lane) if is_along(&lane) && !lane.covers(dims) => {
            (Reach::Along(lane.blurred()), Passage::Rows)
        }
        Reach::Along(lane) if is_along(&lane) => (reach, Passage::Remembers),
        Reach::Pairs { rows, columns, .. } => {
            let mixes = [rows, columns].iter().any(|lane| is_along(lane) && !lane.covers(dims));
            (if mixes { Reach::Whole } else { reach.open() }, Passage::Rows)
        }
        other => (other, Passage::Local),
    }
}

fn open(_: &[Mask]) -> Mask {
    Mask::Open
}

impl Step<'_> {
    pub(super) fn running(&self) -> Effect {
        let (reach, passage) = running(self.reach(0), self.dims(0), self.axis());
        self.all(reach, passage)
    }

    /// The last two axes, each as steps of its own.
    fn square(&self, ahead: i64) -> [Lane; 2] {
        let rank = self.rank();
        [rank - 2, rank - 1].map(|axis| Lane::whole_axis(axis, self.outputs[0][axis], ahead))
    }

    /// A mask that is a constant: all its columns are ahead of its rows, or not.
    pub(super) fn constant_mask(&self) -> Reach {
        let [rows, columns] = self.square(NOTHING);
        if rows.length == columns.length && rows.length > 1 {
            return Reach::Pairs { rows, columns, future: MASKED };
        }
        Reach::Placed
    }

    pub(super) fn masked(&self) -> Effect {
        let reach = self.reach(0);
        let lanes = reach.lanes();
        let is_masked = |lane: &Lane| lane.axis + 2 >= self.rank() && lane.length > 1;
        if !lanes.iter().any(is_masked) {
            return self.local(reach.open());
        }
        let found = self.square(0).map(|square| {
            let same = |lane: &&Lane| Lane { ahead: 0, ..**lane } == square;
            lanes.iter().find(same).copied()
        });
        let reach = match found {
            [Some(rows), Some(columns)] if rows.length == columns.length => {
                Reach::Pairs { rows, columns, future: MASKED }
            }
            _ => reach.open(),
        };
        self.all(reach, Passage::Rows)
    }

    pub(super) fn attention(&self) -> Effect {
        match meet(self.inputs, 4, open) {
            Reach::Along(lane) if lane.axis == 3 => self.local(Reach::Along(lane.blurred())),
            Reach::Pairs { .. } => self.local(Reach::Whole),
            reach => {
                let (reach, passage) = running(reach, &self.outputs[0], 2);
                self.all(reach, passage)
            }
        }
    }

    /// Queries and keys, each by itself; positions may be a third input.
    pub(super) fn rotation(&self) -> Effect {
        let mut passage = Passage::Local;
        let positions = self.inputs.get(2).map(|value| value.reach);
        let rotated = |value: &Value| {
            let reach = match value.reach {
                Reach::Along(lane) if lane.axis == 3 => Reach::Along(lane.blurred()),
                Reach::Along(lane) if lane.axis == 2 && lane.length > 1 => {
                    let counts = lane.length == value.dims[2] && positions.is_none();
                    passage = passage.max(if counts { Passage::Remembers } else { Passage::Rows });
                    value.reach
                }
                Reach::Pairs { .. } => Reach::Whole,
                reach => reach,
            };
            positions.map_or(reach, |positions| reach.knowing_all_of(positions))
        };
        let reaches = self.inputs[..2].iter().map(rotated).collect();
        if self.site.params.varies(&["start", "step"]) {
            passage = Passage::Rows;
        }
        Effect { reaches, passage }
    }

    pub(super) fn convolution(&self) -> Effect {
        if !self.reach(1).is_constant() {
            return self.local(Reach::Whole);
        }
        let [view, axis] = [sequence::conv1d_view(&self.site, self.dims(0)), vec![1]];
        let value = self.viewed(0, view);
        let (reach, passage) = running(value.reach, &value.dims, axis[0]);
        self.all(reach.reshaped(&value.dims, &self.outputs[0]), passage)
    }

    pub(super) fn scan(&self, scanned: Scanned) -> Effect {
        let view = match scanned {
            Scanned::Matrices => sequence::matrix_view(&self.site, self.dims(0)),
            _ => sequence::scan_view(&self.site, self.dims(0)),
        };
        let view = view.expect("planning has checked the view");
        let second = match scanned {
            Scanned::Decay if self.reach(1).is_constant() => vec![1, 1, view[2]],
            Scanned::Decay => return self.local(Reach::Whole),
            Scanned::Gates => view.clone(),
            Scanned::Matrices => [&view[..3], &[1]].concat(),
        };
        let inputs = [self.viewed(0, view.clone()), self.viewed(1, second)];
        let (reach, passage) = running(meet(&inputs, view.len(), open), &view, 1);
        self.all(reach.reshaped(&view, &self.outputs[0]), passage)
    }
}
