//! Numbers that operations have besides tensors. Where one depends on sizes, as the count that a
//! variance is divided by, it is computed from them.

use burn::tensor::{DType, TensorData};
use burn_ir::{
    BaseOperationIr, FloatOperationIr, IntOperationIr, NumericOperationIr, OperationIr, ScalarIr,
};

use super::shape::length;
use super::{Lowered, Lowering};

/// From a number to the whole one that it is made of, and back in the graph.
type Form = (fn(f64) -> f64, fn(&mut Lowering<'_>, &str, DType) -> String);

/// What modules make of lengths.
const FORMS: [Form; 6] = [
    (|x| x, |_, x, _| x.into()),
    (|x| 1.0 / x, |lowering, x, _| lowering.op("Reciprocal", &[x])),
    (
        |x| 2.0 * x,
        |lowering, x, dtype| {
            let half = lowering.scalar(0.5, dtype);
            lowering.op("Mul", &[x, &half])
        },
    ),
    (|x| x * x, |lowering, x, _| lowering.op("Sqrt", &[x])),
    (
        |x| 1.0 / (x * x),
        |lowering, x, _| {
            let root = lowering.op("Sqrt", &[x]);
            lowering.op("Reciprocal", &[&root])
        },
    ),
    (f64::exp, |lowering, x, _| lowering.op("Log", &[x])),
];

impl Lowering<'_> {
    /// The `place`-th number of this operation as a scalar of type `dtype`.
    pub(super) fn number(&mut self, place: usize, dtype: DType) -> Lowered {
        if let Some(value) = self.fixed_number(place) {
            return Ok(self.constant(&value, dtype));
        }
        let floats: Vec<f64> = self.numbers(place).iter().map(float_of).collect();
        for (undone, done) in FORMS {
            let whole: Vec<f64> = floats.iter().map(|value| undone(*value)).collect();
            if let Some(counted) = self.counted_by(&whole, dtype) {
                let counted = counted?;
                return Ok(done(self, &counted, dtype));
            }
        }
        let reason = format!(
            "a number of it is {floats:?} at several sizes, which is no sum of products of axes, \
             and not half of one, one over it, its root or its logarithm"
        );
        Err(self.unsupported(reason))
    }

    /// The `place`-th number of this operation, if it is the same at all sizes.
    pub(super) fn fixed_number(&self, place: usize) -> Option<ScalarIr> {
        let all = self.numbers(place);
        all.iter().all(|value| *value == all[0]).then_some(all[0])
    }

    fn numbers(&self, place: usize) -> Vec<ScalarIr> {
        let programs = self.traced.programs().iter();
        programs.map(|p| numbers(&p.nodes()[self.index].operation)[place]).collect()
    }

    /// Numbers that are a form of the axes, computed.
    fn counted_by(&mut self, values: &[f64], dtype: DType) -> Option<Lowered> {
        // What 32 bits make of one over a length, say, is not quite one over it.
        let whole = |value: &f64| (value - value.round()).abs() <= 1e-5 * value.abs();
        if !values.iter().all(whole) {
            return None;
        }
        let values: Vec<i64> = values.iter().map(|value| value.round() as i64).collect();
        let extent = self.traced.basis.solve(&values)?;
        Some(length(self.traced, self.graph, &extent).and_then(|length| {
            let scalar = self.op("Squeeze", &[&length]);
            if dtype == DType::I64 { Ok(scalar) } else { self.cast(&scalar, dtype) }
        }))
    }

    fn constant(&mut self, value: &ScalarIr, dtype: DType) -> String {
        match (value, dtype) {
            // Floats do not have all large integers.
            (ScalarIr::Int(value), DType::I64) => {
                self.graph.constant(&TensorData::new(vec![*value], Vec::<usize>::new()))
            }
            _ => self.scalar(float_of(value), dtype),
        }
    }
}

/// The numbers of an operation, in the order of its fields.
fn numbers(operation: &OperationIr) -> Vec<ScalarIr> {
    use NumericOperationIr as Op;
    match operation {
        OperationIr::BaseFloat(op) | OperationIr::BaseInt(op) | OperationIr::BaseBool(op) => {
            match op {
                BaseOperationIr::MaskFill(op) => vec![op.value],
                BaseOperationIr::EqualElem(op) => vec![op.rhs],
                _ => vec![],
            }
        }
        OperationIr::NumericFloat(_, op) | OperationIr::NumericInt(_, op) => match op {
            Op::AddScalar(op)
            | Op::SubScalar(op)
            | Op::MulScalar(op)
            | Op::DivScalar(op)
            | Op::RemScalar(op)
            | Op::PowiScalar(op)
            | Op::GreaterElem(op)
            | Op::GreaterEqualElem(op)
            | Op::LowerElem(op)
            | Op::LowerEqualElem(op) => vec![op.rhs],
            Op::Full(op) => vec![op.value],
            Op::Clamp(op) => vec![op.min, op.max],
            _ => vec![],
        },
        OperationIr::Float(_, FloatOperationIr::PowfScalar(op)) => vec![op.rhs],
        OperationIr::Int(
            IntOperationIr::BitwiseAndScalar(op)
            | IntOperationIr::BitwiseOrScalar(op)
            | IntOperationIr::BitwiseXorScalar(op)
            | IntOperationIr::BitwiseLeftShiftScalar(op)
            | IntOperationIr::BitwiseRightShiftScalar(op),
        ) => vec![op.rhs],
        _ => vec![],
    }
}

pub(super) fn float_of(value: &ScalarIr) -> f64 {
    match value {
        ScalarIr::Float(x) => *x,
        ScalarIr::Int(x) => *x as f64,
        ScalarIr::UInt(x) => *x as f64,
        ScalarIr::Bool(x) => f64::from(u8::from(*x)),
    }
}
