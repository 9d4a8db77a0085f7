//! Operations on elements, and reductions.

use burn::tensor::{DType, TensorData};
use burn_ir::{
    BinaryOpIr, BoolOperationIr, FloatOperationIr, IntOperationIr, NumericOperationIr,
    ReduceDimOpIr, ReduceOpIr, ScalarIr, ScalarOpIr, TensorIr, UnaryOpIr,
};

use super::super::graph::Attribute;
use super::{Lowered, Site};

impl Site<'_> {
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
                let (x, y) = (self.input(&op.lhs)?, self.number(&op.rhs, op.lhs.dtype));
                Ok(self.remainder(&x, &y, float))
            }
            Op::Abs(op) => self.unary("Abs", op),
            Op::Full(op) => self.filled(&op.out, float_of(&op.value)),
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
                let [min, max] = [&op.min, &op.max].map(|at| self.number(at, op.tensor.dtype));
                Ok(self.op("Clip", &[&x, &min, &max]))
            }
            Op::CumSum(op) => {
                let (x, axis) = (self.input(&op.input)?, self.graph.ints(&[op.axis as i64]));
                Ok(self.op("CumSum", &[&x, &axis]))
            }
            _ => self.reduction(op),
        }
    }

    fn reduction(&mut self, op: &NumericOperationIr) -> Lowered {
        use NumericOperationIr as Op;
        match op {
            Op::SumDim(op) => self.along("ReduceSum", op),
            Op::MeanDim(op) => self.along("ReduceMean", op),
            Op::ProdDim(op) => self.along("ReduceProd", op),
            Op::MaxDim(op) => self.along("ReduceMax", op),
            Op::MinDim(op) => self.along("ReduceMin", op),
            Op::Sum(op) => self.whole("ReduceSum", op),
            Op::Mean(op) => self.whole("ReduceMean", op),
            Op::Prod(op) => self.whole("ReduceProd", op),
            Op::Max(op) => self.whole("ReduceMax", op),
            Op::Min(op) => self.whole("ReduceMin", op),
            Op::ArgMax(op) => self.argument("ArgMax", op),
            Op::ArgMin(op) => self.argument("ArgMin", op),
            _ => Err(self.unsupported("no lowering is written for it")),
        }
    }

    pub(super) fn float(&mut self, op: &FloatOperationIr) -> Lowered {
        use FloatOperationIr as Op;
        match op {
            Op::Exp(op) => self.unary("Exp", op),
            Op::Log(op) => self.unary("Log", op),
            Op::Log1p(op) => {
                let (x, one) = (self.input(&op.input)?, self.scalar(1.0, op.input.dtype));
                let sum = self.op("Add", &[&x, &one]);
                Ok(self.op("Log", &[&sum]))
            }
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
            Op::IsInf(op) => self.unary("IsInf", op),
            Op::Powf(op) => self.binary("Pow", op),
            Op::PowfScalar(op) => self.with_number("Pow", op),
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
            Op::BitwiseLeftShift(_)
            | Op::BitwiseLeftShiftScalar(_)
            | Op::BitwiseRightShift(_)
            | Op::BitwiseRightShiftScalar(_) => {
                Err(self.unsupported("ONNX shifts unsigned integers only"))
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
        let (x, y) = (self.input(&op.lhs)?, self.number(&op.rhs, op.lhs.dtype));
        Ok(self.op(name, &[&x, &y]))
    }

    /// A number as a constant of type `dtype`.
    pub(super) fn number(&mut self, value: &ScalarIr, dtype: DType) -> String {
        match (value, dtype) {
            // Floats do not have all large integers.
            (ScalarIr::Int(value), DType::I64) => {
                self.graph.constant(&TensorData::new(vec![*value], Vec::<usize>::new()))
            }
            _ => self.scalar(float_of(value), dtype),
        }
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

    fn along(&mut self, name: &str, op: &ReduceDimOpIr) -> Lowered {
        let x = self.input(&op.input)?;
        if name == "ReduceSum" || op.out.shape[op.axis] == 1 {
            return Ok(self.reduced(name, &x, &[op.axis as i64]));
        }
        Err(self.unsupported("only reductions to one element are"))
    }

    /// The reduction of `x` over `axes`, which stay with length 1.
    pub(super) fn reduced(&mut self, name: &str, x: &str, axes: &[i64]) -> String {
        // With opset 18 axes are an input.
        let axes = self.graph.ints(axes);
        self.graph.node(name, &[x, &axes], vec![Attribute::Int("keepdims", 1)])
    }

    fn whole(&mut self, name: &str, op: &ReduceOpIr) -> Lowered {
        let x = self.input(&op.input)?;
        let all = self.graph.node(name, &[&x], vec![Attribute::Int("keepdims", 0)]);
        let shape = self.graph.ints(&[1]);
        Ok(self.op("Reshape", &[&all, &shape]))
    }

    fn argument(&mut self, name: &str, op: &ReduceDimOpIr) -> Lowered {
        let x = self.input(&op.input)?;
        let axis = vec![Attribute::Int("axis", op.axis as i64), Attribute::Int("keepdims", 1)];
        let at = self.graph.node(name, &[&x], axis);
        if op.out.dtype == DType::I64 { Ok(at) } else { self.cast(&at, op.out.dtype) }
    }
}

fn float_of(value: &ScalarIr) -> f64 {
    match value {
        ScalarIr::Float(x) => *x,
        ScalarIr::Int(x) => *x as f64,
        ScalarIr::UInt(x) => *x as f64,
        ScalarIr::Bool(x) => f64::from(u8::from(*x)),
    }
}
