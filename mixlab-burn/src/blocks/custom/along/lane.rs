//! Where the steps of a row lie in a value, and how far ahead of them it looks.

use crate::blocks::custom::ops::Dims;

/// Less than any token: what a constant knows.
pub const NOTHING: i64 = i64::MIN / 4;

/// The steps of a row along one axis of a value.
///
/// Index `i` of the axis belongs to step `k = ⌊i / inner⌋ mod length`, and what is there depends on
/// no token after `k + ahead`. A lane of length 1 says this for all of the value at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane {
    /// The axis.
    pub axis: usize,
    /// Number of steps.
    pub length: usize,
    /// Neighbours along the axis that belong to one step.
    pub inner: usize,
    /// How many tokens after its step an element may depend on; negative if it lags.
    pub ahead: i64,
}

impl Lane {
    /// All `length` steps along `axis`, each in its place.
    pub fn whole_axis(axis: usize, length: usize, ahead: i64) -> Self {
        Self { axis, length, inner: 1, ahead }
    }

    /// The same steps along another axis.
    pub fn at(self, axis: usize) -> Self {
        Self { axis, ..self }
    }

    /// The last token that any step depends on.
    pub fn last(self) -> i64 {
        self.ahead + self.length as i64 - 1
    }

    /// No step told from another: each depends on what any did.
    pub fn blurred(self) -> Self {
        Self { length: 1, inner: 1, ahead: self.last(), ..self }
    }

    /// Each step also depends on tokens up to `ahead` after it.
    pub fn knowing(self, ahead: i64) -> Self {
        Self { ahead: self.ahead.max(ahead), ..self }
    }

    /// Whether the axis of a value of these sizes holds the steps of a single row.
    pub fn covers(self, dims: &[usize]) -> bool {
        self.length * self.inner == dims[self.axis]
    }

    /// The lane in the same elements with other sizes, if its steps still lie along one axis.
    pub fn reshaped(self, from: &Dims, to: &Dims) -> Option<Self> {
        if self.length == 1 {
            return Some(self.at(0));
        }
        let below = |dims: &Dims, axis: usize| dims[axis + 1..].iter().product::<usize>();
        let stride = self.inner * below(from, self.axis);
        let holds = |axis: &usize| {
            let unit = below(to, *axis);
            stride.is_multiple_of(unit) && (unit * to[*axis]).is_multiple_of(stride * self.length)
        };
        let axis = (0..to.len()).find(holds)?;
        Some(Self { axis, inner: stride / below(to, axis), ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_found_again_after_any_reshape_that_keeps_them_together() {
        let rows = Lane::whole_axis(0, 12, 0); // of [24, 16]
        type Place = Option<(usize, usize)>;
        let cases: [(&[usize], Place); 8] = [
            (&[2, 12, 16], Some((1, 1))),
            (&[2, 12, 4, 4], Some((1, 1))),
            (&[2, 48, 4], Some((1, 4))),
            (&[384], Some((0, 16))),
            (&[1, 24, 1, 16], Some((1, 1))),
            (&[2, 3, 4, 16], None),
            (&[2, 2, 6, 16], None),
            (&[16, 24], None),
        ];
        for (to, expected) in cases {
            let found = rows.reshaped(&vec![24, 16], &to.to_vec());
            assert_eq!(found.map(|lane| (lane.axis, lane.inner)), expected, "{to:?}");
        }
        let back = Lane { inner: 16, ..rows }.reshaped(&vec![384], &vec![24, 16]);
        assert_eq!(back, Some(rows));
    }

    #[test]
    fn a_blurred_lane_is_anywhere_and_knows_the_last_token() {
        let lane = Lane::whole_axis(1, 12, -1).blurred();
        assert_eq!((lane.length, lane.ahead), (1, 10));
        assert_eq!(lane.reshaped(&vec![2, 1, 3], &vec![6]), Some(lane.at(0)));
    }
}
