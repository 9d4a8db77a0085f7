//! What stands in the future part of a matrix of scores, and what operations make of it.

use super::{Lane, Reach};

/// A score as low as this is 0 after softmax and `exp`, beside any scores of a model.
const HIDDEN: f32 = -1e6;

/// What stands where the column of a pair is ahead of its row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mask {
    /// What there is.
    Open,
    /// About this number, far below any score.
    Low(f32),
    /// 0.
    Zero,
}

impl Mask {
    fn is_hidden(self) -> bool {
        matches!(self, Self::Low(value) if value <= HIDDEN)
    }
}

/// What an operation that works element by element makes of the future.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Each {
    /// Any function: nothing is known of the result.
    Any,
    /// Of 0 it makes 0.
    Zero,
    /// Of 0 and of a masked score it makes 0.
    Gate,
    /// Of a masked score it makes 0.
    Exponential,
    /// A product with the number `scalar`.
    Scale,
    /// A product.
    Product,
    /// A quotient.
    Quotient,
    /// A sum.
    Sum,
    /// A difference.
    Difference,
    /// The same elements in another place.
    Same,
}

impl Each {
    /// The future of the result of the inputs' `futures`.
    pub fn future(self, futures: &[Mask], scalar: Option<f32>) -> Mask {
        use Mask::{Low, Open, Zero};
        let all_zero = futures.iter().all(|future| *future == Zero);
        let masked = futures.iter().find(|future| matches!(future, Low(_)));
        match (self, futures) {
            (Self::Product, _) if futures.contains(&Zero) => Zero,
            (Self::Quotient, [Zero, _]) => Zero,
            (Self::Zero | Self::Gate | Self::Scale | Self::Sum | Self::Difference, _)
                if all_zero =>
            {
                Zero
            }
            (Self::Gate | Self::Exponential, [future]) if future.is_hidden() => Zero,
            (Self::Scale, [Low(value)]) => match scalar {
                Some(scalar) if scalar > 0.0 => Low(value * scalar),
                _ => Open,
            },
            (Self::Sum, _) => masked.copied().unwrap_or(Open),
            (Self::Difference, [Low(value), Open | Zero]) => Low(*value),
            (Self::Same, [first, rest @ ..]) if rest.iter().all(|other| other == first) => *first,
            _ => Open,
        }
    }
}

/// What an operation along one axis makes of that axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// A sum or a mean.
    Sum,
    /// The largest element.
    Max,
    /// The smallest element.
    Min,
    /// Shares that add up to 1.
    Softmax,
    /// A norm by the mean square, which keeps zeros.
    Norm,
    /// A norm by mean and variance.
    Centered,
}

impl Over {
    /// The reach of the result for an input that depends on `reach`; the axis keeps its place.
    pub fn along(self, axis: usize, reach: Reach) -> Reach {
        match reach {
            Reach::Along(lane) if lane.axis == axis => Reach::Along(lane.blurred()),
            Reach::Pairs { rows, columns, future } if columns.axis == axis => {
                self.over_columns(rows, columns, future)
            }
            Reach::Pairs { rows, columns, .. } if rows.axis == axis => {
                Reach::Along(columns.knowing(rows.last()))
            }
            Reach::Pairs { rows, columns, future } => {
                let stays = match self {
                    Self::Sum => future == Mask::Zero,
                    Self::Max | Self::Min => true,
                    Self::Softmax | Self::Norm | Self::Centered => false,
                };
                let future = if stays { future } else { Mask::Open };
                Reach::Pairs { rows, columns, future }
            }
            other => other,
        }
    }

    /// Over the columns: if nothing of the future counts, each row knows its past.
    fn over_columns(self, rows: Lane, columns: Lane, future: Mask) -> Reach {
        let past = rows.knowing(columns.ahead);
        match (self, future) {
            (Self::Softmax, hidden) if hidden.is_hidden() => {
                Reach::Pairs { rows: past, columns, future: Mask::Zero }
            }
            (Self::Norm, Mask::Zero) => Reach::Pairs { rows: past, columns, future },
            (Self::Max, hidden) if hidden.is_hidden() => Reach::Along(past),
            (_, Mask::Zero) => Reach::Along(past),
            _ => Reach::Along(rows.knowing(columns.last())),
        }
    }
}
