//! Operations on elements.

use burn::tensor::DType;
use burn_ir::{
    BinaryOpIr, BoolOperationIr, CrossOpIr, FloatOperationIr, IntOperationIr, NumericOperationIr,
    ScalarOpIr, TensorIr, UnaryOpIr,
};

use super::super::graph::Attribute;
use super::number::float_of;
use super::shape::lengths;
use super::{Lowered, Lowering};

impl Lowering<'_> {
    pub(super) fn numeric(&mut self, op: &NumericOperationIr, float: bool) -> Lowered {
        use NumericOperationIr as Op;
        match op {
            Op::Add(op) => self.binary("Add", op),
            Op::Sub(op) => self.binary("Sub", op),
            Op::Mul(op) => self.binary("Mul", op),
            Op::Div(op) => self.binary("Div", op),
            Op::Rem(op) => {
                let (x, y) = (self.input(&op.lhs)?, self.input(&op.rhs)?);
                Ok(self.remainder(&x, &y, float))
            }
            Op::Powi(op) => self.binary("Pow", op),
            Op::AddScalar(op) => self.with_number("Add", op),
            Op::SubScalar(op) => self.with_number("Sub", op),
            Op::MulScalar(op) => self.with_number("Mul", op),
            Op::DivScalar(op) => self.with_number("Div", op),
            Op::PowiScalar(op) => self.with_number("Pow", op),
            Op::RemScalar(op) => {
                let (x, y) = (self.input(&op.lhs)?, self.number(0, op.lhs.dtype)?);
                Ok(self.remainder(&x, &y, float))
            }
            Op::Abs(op) => self.unary("Abs", op),
            Op::Full(op) => {
                if let Some(value) = self.fixed_number(0) {
                    return self.filled(&op.out, float_of(&value));
                }
                let (value, shape) = (self.number(0, op.out.dtype)?, self.extents(&op.out));
                let shape = lengths(self.traced, self.graph, &shape)?;
                Ok(self.op("Expand", &[&value, &shape]))
            }
            Op::Greater(op) => self.binary("Greater", op),
            Op::GreaterEqual(op) => self.binary("GreaterOrEqual", op),
            Op::Lower(op) => self.binary("Less", op),
            Op::LowerEqual(op) => self.binary("LessOrEqual", op),
            Op::GreaterElem(op) => self.with_number("Greater", op),
            Op::GreaterEqualElem(op) => self.with_number("GreaterOrEqual", op),
            Op::LowerElem(op) => self.with_number("Less", op),
            Op::LowerEqualElem(op) => self.with_number("LessOrEqual", op),
            Op::Clamp(op) => {
                let x = self.input(&op.tensor)?;
                let min = self.number(0, op.tensor.dtype)?;
                let max = self.number(1, op.tensor.dtype)?;
                Ok(self.op("Clip", &[&x, &min, &max]))
            }
            Op::CumSum(op) => {
                let (x, axis) = (self.input(&op.input)?, self.graph.ints(&[op.axis as i64]));
                Ok(self.op("CumSum", &[&x, &axis]))
            }
            _ => self.reduction(op),
        }
    }

    pub(super) fn float(&mut self, op: &FloatOperationIr) -> Lowered {
        use FloatOperationIr as Op;
        match op {
            Op::Exp(op) => self.unary("Exp", op),
            Op::Log(op) => self.unary("Log", op),
            Op::Log1p(op) => self.log_1p(op),
            Op::Erf(op) => self.unary("Erf", op),
            Op::Sqrt(op) => self.unary("Sqrt", op),
            Op::Cos(op) => self.unary("Cos", op),
            Op::Cosh(op) => self.unary("Cosh", op),
            Op::Sin(op) => self.unary("Sin", op),
            Op::Sinh(op) => self.unary("Sinh", op),
            Op::Tan(op) => self.unary("Tan", op),
            Op::Tanh(op) => self.unary("Tanh", op),
            Op::ArcCos(op) => self.unary("Acos", op),
            Op::ArcCosh(op) => self.unary("Acosh", op),
            Op::ArcSin(op) => self.unary("Asin", op),
            Op::ArcSinh(op) => self.unary("Asinh", op),
            Op::ArcTan(op) => self.unary("Atan", op),
            Op::ArcTanh(op) => self.unary("Atanh", op),
            Op::Round(op) => self.unary("Round", op),
            Op::Floor(op) => self.unary("Floor", op),
            Op::Ceil(op) => self.unary("Ceil", op),
            Op::Trunc(op) => {
                let x = self.input(&op.input)?;
                let (sign, size) = (self.op("Sign", &[&x]), self.op("Abs", &[&x]));
                let floor = self.op("Floor", &[&size]);
                Ok(self.op("Mul", &[&sign, &floor]))
            }
            Op::Recip(op) => self.unary("Reciprocal", op),
            Op::IsNan(op) => self.unary("IsNaN", op),
            Op::IsInf(op) => {
                let x = self.input(&op.input)?;
                self.is_infinite(&x, op.input.dtype)
            }
            Op::Powf(op) => self.binary("Pow", op),
            Op::PowfScalar(op) => self.with_number("Pow", op),
            Op::ArcTan2(op) => self.arc_tan2(op),
            Op::Cross(op) => self.cross(op),
            Op::Matmul(op) => self.product(&op.lhs, &op.rhs),
            Op::IntoInt(op) => {
                let x = self.input(&op.input)?;
                self.cast(&x, op.out.dtype)
            }
            _ => Err(self.unsupported("no lowering is written for it")),
        }
    }

    pub(super) fn int(&mut self, op: &IntOperationIr) -> Lowered {
        use IntOperationIr as Op;
        match op {
            Op::IntoFloat(op) => {
                let x = self.input(&op.input)?;
                self.cast(&x, op.out.dtype)
            }
            Op::BitwiseAnd(op) => self.binary("BitwiseAnd", op),
            Op::BitwiseOr(op) => self.binary("BitwiseOr", op),
            Op::BitwiseXor(op) => self.binary("BitwiseXor", op),
            Op::BitwiseAndScalar(op) => self.with_number("BitwiseAnd", op),
            Op::BitwiseOrScalar(op) => self.with_number("BitwiseOr", op),
            Op::BitwiseXorScalar(op) => self.with_number("BitwiseXor", op),
            Op::BitwiseNot(op) => self.unary("BitwiseNot", op),
            Op::Matmul(op) => self.product(&op.lhs, &op.rhs),
            Op::BitwiseLeftShift(op) => self.shifted(op, Shift::Left),
            Op::BitwiseRightShift(op) => self.shifted(op, Shift::Right),
            Op::BitwiseLeftShiftScalar(op) => {
                let (x, by) = (self.input(&op.lhs)?, self.number(0, op.lhs.dtype)?);
                Ok(self.shift(&x, &by, op.lhs.dtype, Shift::Left))
            }
            Op::BitwiseRightShiftScalar(op) => {
                let (x, by) = (self.input(&op.lhs)?, self.number(0, op.lhs.dtype)?);
                Ok(self.shift(&x, &by, op.lhs.dtype, Shift::Right))
            }
        }
    }

    pub(super) fn boolean(&mut self, op: &BoolOperationIr) -> Lowered {
        use BoolOperationIr as Op;
        match op {
            Op::IntoFloat(op) | Op::IntoInt(op) => {
                let x = self.input(&op.input)?;
                self.cast(&x, op.out.dtype)
            }
            Op::Not(op) => self.unary("Not", op),
            Op::And(op) => self.binary("And", op),
            Op::Or(op) => self.binary("Or", op),
        }
    }

    pub(super) fn unary(&mut self, name: &str, op: &UnaryOpIr) -> Lowered {
        let x = self.input(&op.input)?;
        Ok(self.op(name, &[&x]))
    }

    pub(super) fn binary(&mut self, name: &str, op: &BinaryOpIr) -> Lowered {
        let (x, y) = (self.input(&op.lhs)?, self.input(&op.rhs)?);
        Ok(self.op(name, &[&x, &y]))
    }

    pub(super) fn with_number(&mut self, name: &str, op: &ScalarOpIr) -> Lowered {
        let (x, y) = (self.input(&op.lhs)?, self.number(0, op.lhs.dtype)?);
        Ok(self.op(name, &[&x, &y]))
    }

    pub(super) fn product(&mut self, lhs: &TensorIr, rhs: &TensorIr) -> Lowered {
        let (x, y) = (self.input(lhs)?, self.input(rhs)?);
        Ok(self.op("MatMul", &[&x, &y]))
    }

    /// `x − ⌊x / y⌋ y`, with the sign of `y`.
    fn remainder(&mut self, x: &str, y: &str, float: bool) -> String {
        if !float {
            return self.op("Mod", &[x, y]);
        }
        let ratio = self.op("Div", &[x, y]);
        let times = self.op("Floor", &[&ratio]);
        let whole = self.op("Mul", &[&times, y]);
        self.op("Sub", &[x, &whole])
    }

    /// `ln(1 + x)`, exact for small `x` too: `x ln(u) / (u − 1)` for the `u` that `1 + x` is rounded to.
    fn log_1p(&mut self, op: &UnaryOpIr) -> Lowered {
        let (x, one) = (self.input(&op.input)?, self.scalar(1.0, op.input.dtype));
        let u = self.op("Add", &[&x, &one]);
        let log = self.op("Log", &[&u]);
        let difference = self.op("Sub", &[&u, &one]);
        let ratio = self.op("Div", &[&x, &difference]);
        let scaled = self.op("Mul", &[&log, &ratio]);
        // Where that would be 0 / 0, or ∞ / ∞.
        let (none, endless) =
            (self.op("Equal", &[&u, &one]), self.is_infinite(&x, op.input.dtype)?);
        let finite = self.op("Where", &[&none, &x, &scaled]);
        Ok(self.op("Where", &[&endless, &log, &finite]))
    }

    /// Opset 18 asks this of floats of 32 and 64 bits only.
    fn is_infinite(&mut self, x: &str, dtype: DType) -> Lowered {
        let wide = matches!(dtype, DType::F32 | DType::F64);
        let x = if wide { x.into() } else { self.cast(x, DType::F32)? };
        Ok(self.op("IsInf", &[&x]))
    }

    /// The angle of `(x, y)`: the arc tangent of `y / x`, half a turn further where `x` is negative.
    fn arc_tan2(&mut self, op: &BinaryOpIr) -> Lowered {
        let (y, x) = (self.input(&op.lhs)?, self.input(&op.rhs)?);
        let numbers = [0.0, std::f64::consts::PI, -std::f64::consts::PI];
        let [zero, half, back] = numbers.map(|value| self.scalar(value, op.out.dtype));
        let ratio = self.op("Div", &[&y, &x]);
        let angle = self.op("Atan", &[&ratio]);
        let (left, below) = (self.op("Less", &[&x, &zero]), self.op("Less", &[&y, &zero]));
        let turn = self.op("Where", &[&below, &back, &half]);
        let turned = self.op("Add", &[&angle, &turn]);
        let angle = self.op("Where", &[&left, &turned, &angle]);
        // 0 / 0 has no arc tangent.
        let level = self.op("Equal", &[&y, &zero]);
        let flat = self.op("Where", &[&left, &half, &zero]);
        Ok(self.op("Where", &[&level, &flat, &angle]))
    }

    fn cross(&mut self, op: &CrossOpIr) -> Lowered {
        let (a, b) = (self.input(&op.lhs)?, self.input(&op.rhs)?);
        let mut turned = |x: &str, order: [i64; 3]| {
            let order = self.graph.ints(&order);
            self.graph.node("Gather", &[x, &order], vec![Attribute::Int("axis", op.dim as i64)])
        };
        let (next, last) = ([1, 2, 0], [2, 0, 1]);
        let [a1, b1, a2, b2] =
            [turned(&a, next), turned(&b, last), turned(&a, last), turned(&b, next)];
        let (ahead, behind) = (self.op("Mul", &[&a1, &b1]), self.op("Mul", &[&a2, &b2]));
        Ok(self.op("Sub", &[&ahead, &behind]))
    }

    fn shifted(&mut self, op: &BinaryOpIr, to: Shift) -> Lowered {
        let (x, by) = (self.input(&op.lhs)?, self.input(&op.rhs)?);
        Ok(self.shift(&x, &by, op.lhs.dtype, to))
    }

    /// ONNX shifts unsigned integers only: times `2^by`, or that many times less, rounded down.
    fn shift(&mut self, x: &str, by: &str, dtype: DType, to: Shift) -> String {
        let two = self.scalar(2.0, dtype);
        let times = self.op("Pow", &[&two, by]);
        if let Shift::Left = to {
            return self.op("Mul", &[x, &times]);
        }
        let rest = self.op("Mod", &[x, &times]);
        let even = self.op("Sub", &[x, &rest]);
        self.op("Div", &[&even, &times])
    }
}

/// Where bits go.
#[derive(Clone, Copy)]
enum Shift {
    Left,
    Right,
}
