//! The rules of operations that arrange, select and contract.

use super::lane::NOTHING;
use super::{Each, Effect, Lane, Over, Passage, Reach, Step, Value, meet};
use crate::blocks::custom::ops::{Dims, broadcast, factors, layout};

impl Step<'_> {
    pub(super) fn transposed(&self) -> Effect {
        let order = layout::permutation(&self.site, self.rank()).expect("checked axes");
        let to = |axis: usize| order.iter().position(|from| *from == axis);
        self.local(self.reach(0).with_lanes(|lane| to(lane.axis).map(|axis| lane.at(axis))))
    }

    pub(super) fn sliced(&self) -> Effect {
        let axis = self.axis();
        let whole = self.dims(0)[axis];
        let [start, end, stride] = layout::bounds(&self.site, whole).expect("checked bounds");
        if [start, end, stride] == [0, whole, 1] {
            return self.local(self.reach(0));
        }
        let length = self.outputs[0][axis];
        let part = |lane: Lane| match lane {
            _ if lane.axis != axis || lane.length == 1 => lane,
            _ if lane.length != whole => lane.blurred(),
            _ => {
                let ahead = lane.ahead + (start + (length - 1) * (stride - 1)) as i64;
                Lane { length, ahead, ..lane }
            }
        };
        let reach = self.reach(0);
        let is_cut = reach.lanes().iter().any(|lane| lane.axis == axis);
        let cut = reach.with_lanes(|lane| Some(part(lane)));
        let varies = self.site.params.varies(&["start", "end", "step"]);
        let passage = if varies { Passage::Rows } else { Passage::Local };
        self.all(if is_cut { cut.open() } else { cut }, passage)
    }

    pub(super) fn joined(&self) -> Effect {
        let axis = self.axis();
        let is_along = |lane: &Lane| lane.axis == axis && lane.length > 1;
        if !self.inputs.iter().any(|value| value.reach.lanes().iter().any(is_along)) {
            return self.each(Each::Same);
        }
        let mut ahead = NOTHING;
        let mut offset = 0;
        for Value { dims, reach } in self.inputs {
            match *reach {
                Reach::Along(lane) if is_along(&lane) && lane.length == dims[axis] => {
                    ahead = ahead.max(lane.ahead - offset);
                }
                Reach::Along(lane) if is_along(&lane) || lane.length == 1 => {
                    ahead = ahead.max(lane.last());
                }
                constant if constant.is_constant() => {}
                _ => return self.local(Reach::Whole),
            }
            offset += dims[axis] as i64;
        }
        self.local(Reach::Along(Lane::whole_axis(axis, self.outputs[0][axis], ahead)))
    }

    pub(super) fn looked_up(&self) -> Effect {
        let is_known = self.reach(0).is_constant();
        self.local(if is_known { self.reach(1).open() } else { Reach::Whole })
    }

    /// As products over `[…, M, K, N]`, summed over `K`.
    pub(super) fn product(&self) -> Effect {
        let [left, right] = factors(self.dims(0), self.dims(1));
        let a = self.viewed(0, [&left[..], &[1]].concat());
        let (lead, matrix) = right.split_at(right.len() - 2);
        let b = self.viewed(1, [lead, &[1], matrix].concat());
        let mut dims = broadcast(&[a.dims.clone(), b.dims.clone()]).expect("checked sizes");
        let inner = dims.len() - 2;
        let reach = meet(&[a, b], dims.len(), |futures| Each::Product.future(futures, None));
        let summed = Over::Sum.along(inner, reach).with_lanes(|lane| match lane.axis {
            axis if axis < inner => Some(lane),
            axis if axis > inner => Some(lane.at(axis - 1)),
            _ => (lane.length == 1).then(|| lane.at(0)),
        });
        dims.remove(inner);
        self.local(summed.reshaped(&dims, &self.outputs[0]))
    }

    pub(super) fn outer(&self) -> Effect {
        let column = self.viewed(0, [&self.dims(0)[..], &[1]].concat());
        let (lead, width) = self.dims(1).split_at(self.dims(1).len() - 1);
        let row = self.viewed(1, [lead, &[1], width].concat());
        self.local(meet(&[column, row], self.rank(), |f| Each::Product.future(f, None)))
    }

    /// An input with other sizes.
    pub(super) fn viewed(&self, input: usize, dims: Dims) -> Value {
        Value { reach: self.reach(input).reshaped(self.dims(input), &dims), dims }
    }
}
