//! What an operation of burn-ir consists of: a name, tensors and attributes.
//!
//! burn-ir gives an operation's tensors for reading only, and no names. The two tables at the end
//! add what is missing. They take every struct apart field by field and match every variant, so
//! that the compiler refuses them where they are not complete.

use burn_ir::*;

/// The name of `operation` in lower case, as `linear` or `slice_assign`, and its attributes:
/// for own operations the JSON text that was recorded, for Burn's `{field: value, …}`, else empty.
pub(super) fn describe(operation: &mut OperationIr) -> (String, String) {
    if let OperationIr::Custom(custom) = operation {
        let (name, attributes) = split(&custom.id);
        return (name.into(), attributes.into());
    }
    let (variant, parts) = take_apart(operation);
    let attributes = parts.attributes();
    let text = attributes.iter().map(|(field, value)| format!("{field}: {value}"));
    let text = text.collect::<Vec<_>>().join(", ");
    let text = if text.is_empty() { text } else { format!("{{{text}}}") };
    (snake_case(variant), text)
}

/// The name of `operation`, without taking it apart.
pub(super) fn name(operation: &OperationIr) -> String {
    describe(&mut operation.clone()).0
}

/// Calls `visit` with each input and output of `operation`, in no particular order.
pub(super) fn for_each_tensor(operation: &mut OperationIr, visit: &mut dyn FnMut(&mut TensorIr)) {
    take_apart(operation).1.tensors(visit);
}

/// Splits the id of an own operation where its JSON object begins.
fn split(id: &str) -> (&str, &str) {
    id.split_at(id.find('{').unwrap_or(id.len()))
}

fn take_apart(operation: &mut OperationIr) -> (&'static str, &mut dyn Parts) {
    match operation {
        OperationIr::BaseFloat(op) | OperationIr::BaseInt(op) | OperationIr::BaseBool(op) => {
            op.variant()
        }
        OperationIr::NumericFloat(_, op) | OperationIr::NumericInt(_, op) => op.variant(),
        OperationIr::Bool(op) => op.variant(),
        OperationIr::Int(op) => op.variant(),
        OperationIr::Float(_, op) => op.variant(),
        OperationIr::Module(op) => op.variant(),
        OperationIr::Init(op) => ("Init", op),
        OperationIr::Custom(op) => ("Custom", op),
        OperationIr::Drop(op) => ("Drop", op),
        // burn-ir has one more variant when some crate of the build switches `distributed` on.
        // It can only come from `DistributedBackend`, which a router does not implement.
        #[allow(unreachable_patterns)]
        _ => unreachable!("a router records no collective operations"),
    }
}

/// `LinearXBackward` → `linear_x_backward`.
fn snake_case(variant: &str) -> String {
    let letters: Vec<char> = variant.chars().collect();
    let mut name = String::with_capacity(variant.len() + 4);
    for (i, letter) in letters.iter().enumerate() {
        let after_word = i > 0 && !letters[i - 1].is_uppercase();
        let before_word = i > 0 && letters.get(i + 1).is_some_and(|next| next.is_lowercase());
        if letter.is_uppercase() && (after_word || before_word) {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

/// The operands and attributes of one kind of operation.
trait Parts: Tensors {
    /// Fields that are no tensors, with their values as text.
    fn attributes(&self) -> Vec<(&'static str, String)>;
}

/// A field or a struct with any number of tensors in it.
trait Tensors {
    fn tensors(&mut self, visit: &mut dyn FnMut(&mut TensorIr));
}

/// An enum of operations.
trait Family {
    /// The variant's name and contents.
    fn variant(&mut self) -> (&'static str, &mut dyn Parts);
}

impl Tensors for TensorIr {
    fn tensors(&mut self, visit: &mut dyn FnMut(&mut TensorIr)) {
        visit(self);
    }
}

impl<T: Tensors> Tensors for Option<T> {
    fn tensors(&mut self, visit: &mut dyn FnMut(&mut TensorIr)) {
        self.iter_mut().for_each(|field| field.tensors(visit));
    }
}

impl<T: Tensors> Tensors for Vec<T> {
    fn tensors(&mut self, visit: &mut dyn FnMut(&mut TensorIr)) {
        self.iter_mut().for_each(|field| field.tensors(visit));
    }
}

impl<T: Tensors> Tensors for Box<T> {
    fn tensors(&mut self, visit: &mut dyn FnMut(&mut TensorIr)) {
        self.as_mut().tensors(visit);
    }
}

impl<T: Parts> Parts for Box<T> {
    fn attributes(&self) -> Vec<(&'static str, String)> {
        self.as_ref().attributes()
    }
}

impl Parts for TensorIr {
    fn attributes(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}

/// `Struct { tensors; attributes }` for every operation of burn-ir.
macro_rules! operations {
    ($($op:ident { $($tensor:ident),* $(; $($attribute:ident),*)? })*) => { $(
        impl Tensors for $op {
            fn tensors(&mut self, visit: &mut dyn FnMut(&mut TensorIr)) {
                let Self { $($tensor,)* $($($attribute: _,)*)? } = self;
                $($tensor.tensors(visit);)*
            }
        }
        impl Parts for $op {
            fn attributes(&self) -> Vec<(&'static str, String)> {
                vec![$($((stringify!($attribute), format!("{:?}", self.$attribute))),*)?]
            }
        }
    )* };
}

/// The variants of every enum of operations.
macro_rules! families {
    ($($family:ident: $($variant:ident)*;)*) => { $(
        impl Family for $family {
            fn variant(&mut self) -> (&'static str, &mut dyn Parts) {
                match self { $(Self::$variant(op) => (stringify!($variant), op),)* }
            }
        }
    )* };
}

operations! {
    CustomOpIr { inputs, outputs; id }
    QuantizationParametersIr { scales }
    SwapDimsOpIr { input, out; dim1, dim2 }
    PermuteOpIr { input, out; axes }
    ShapeOpIr { input, out }
    UnfoldOpIr { input, out; dim, size, step }
    FlipOpIr { input, out; axes }
    RandomOpIr { out; distribution }
    CreationOpIr { out }
    FullOpIr { out; value }
    InitOperationIr { out }
    BinaryOpIr { lhs, rhs, out }
    MatmulOpIr { lhs, rhs, out }
    CrossOpIr { lhs, rhs, out; dim }
    UnaryOpIr { input, out }
    ScalarOpIr { lhs, out; rhs }
    ReduceOpIr { input, out }
    ReduceDimOpIr { input, out; axis, accumulator_len }
    CastOpIr { input, out }
    DimOpIr { input, out; axis }
    GatherOpIr { tensor, indices, out; dim }
    ScatterOpIr { tensor, indices, value, out; dim, update }
    ScatterNdOpIr { data, indices, values, out; reduction }
    GatherNdOpIr { data, indices, out }
    SelectOpIr { tensor, indices, out; dim }
    SelectAssignOpIr { tensor, indices, value, out; dim, update }
    SliceOpIr { tensor, out; ranges }
    SliceAssignOpIr { tensor, value, out; ranges }
    MaskWhereOpIr { tensor, mask, value, out }
    MaskFillOpIr { tensor, mask, out; value }
    ClampOpIr { tensor, out; min, max }
    RepeatDimOpIr { tensor, out; dim, times }
    CatOpIr { tensors, out; dim }
    ReduceDimWithIndicesOpIr { tensor, out, out_indices; dim }
    EmbeddingOpIr { weights, indices, out }
    EmbeddingBackwardOpIr { weights, out_grad, indices, out }
    LinearOpIr { x, weight, bias, out }
    LinearXBackwardOpIr { weight, output_grad, out }
    LinearWeightBackwardOpIr { x, output_grad, out }
    LinearBiasBackwardOpIr { output_grad, out }
    Conv1dOpIr { x, weight, bias, out; options }
    Conv1dXBackwardOpIr { x, weight, output_grad, out; options }
    Conv1dWeightBackwardOpIr { x, weight, output_grad, out; options }
    Conv1dBiasBackwardOpIr { x, bias, output_grad, out }
    Conv2dOpIr { x, weight, bias, out; options }
    Conv2dXBackwardOpIr { x, weight, output_grad, out; options }
    Conv2dWeightBackwardOpIr { x, weight, output_grad, out; options }
    Conv2dBiasBackwardOpIr { x, bias, output_grad, out }
    DeformConv2dOpIr { x, offset, weight, mask, bias, out; options }
    DeformConv2dBackwardOpIr { x, offset, weight, mask, bias, out_grad, input_grad, offset_grad,
        weight_grad, mask_grad, bias_grad;
        options }
    Conv3dOpIr { x, weight, bias, out; options }
    Conv3dXBackwardOpIr { x, weight, output_grad, out; options }
    Conv3dWeightBackwardOpIr { x, weight, output_grad, out; options }
    Conv3dBiasBackwardOpIr { x, bias, output_grad, out }
    ConvTranspose1dOpIr { x, weight, bias, out; options }
    ConvTranspose2dOpIr { x, weight, bias, out; options }
    ConvTranspose3dOpIr { x, weight, bias, out; options }
    QuantizeOpIr { tensor, qparams, out; scheme }
    DequantizeOpIr { input, out }
    AvgPool1dOpIr { x, out; kernel_size, stride, padding, count_include_pad, ceil_mode }
    AvgPool2dOpIr { x, out; kernel_size, stride, padding, count_include_pad, ceil_mode }
    AvgPool1dBackwardOpIr { x, grad, out;
        kernel_size, stride, padding, count_include_pad, ceil_mode }
    AvgPool2dBackwardOpIr { x, grad, out;
        kernel_size, stride, padding, count_include_pad, ceil_mode }
    AdaptiveAvgPool1dOpIr { x, out; output_size }
    AdaptiveAvgPool2dOpIr { x, out; output_size }
    AdaptiveAvgPool1dBackwardOpIr { x, grad, out }
    AdaptiveAvgPool2dBackwardOpIr { x, grad, out }
    MaxPool1dOpIr { x, out; kernel_size, stride, padding, dilation, ceil_mode }
    MaxPool1dWithIndicesOpIr { x, out, out_indices;
        kernel_size, stride, padding, dilation, ceil_mode }
    MaxPool1dWithIndicesBackwardOpIr { x, grad, indices, out;
        kernel_size, stride, padding, dilation, ceil_mode }
    MaxPool2dOpIr { x, out; kernel_size, stride, padding, dilation, ceil_mode }
    MaxPool2dWithIndicesOpIr { x, out, out_indices;
        kernel_size, stride, padding, dilation, ceil_mode }
    MaxPool2dWithIndicesBackwardOpIr { x, grad, indices, out;
        kernel_size, stride, padding, dilation, ceil_mode }
    InterpolateOpIr { x, out; output_size, options }
    RfftOpIr { signal, out_re, out_im; dim, n }
    IRfftOpIr { input_re, input_im, out_signal; dim, n }
    AttentionOpIr { query, key, value, mask, attn_bias, out; options }
    CtcLossOpIr { log_probs, targets, input_lengths, target_lengths, out; blank }
    CtcLossBackwardOpIr { log_probs, targets, input_lengths, target_lengths, grad_loss, out; blank }
    InterpolateBackwardOpIr { x, grad, out; output_size, options }
    GridSample2dOpIr { tensor, grid, out; options }
}

families! {
    FloatOperationIr: Exp Log Log1p Erf PowfScalar Sqrt Cos Cosh Sin Sinh Tan Tanh ArcCos
        ArcCosh ArcSin ArcSinh ArcTan ArcTanh ArcTan2 Round Floor Ceil Trunc IntoInt Matmul
        Cross Random Recip IsNan IsInf Quantize Dequantize GridSample2d Powf;
    ModuleOperationIr: Embedding EmbeddingBackward Linear LinearXBackward LinearWeightBackward
        LinearBiasBackward Conv1d Conv1dXBackward Conv1dWeightBackward Conv1dBiasBackward Conv2d
        Conv2dXBackward Conv2dWeightBackward Conv2dBiasBackward Conv3d Conv3dXBackward
        Conv3dWeightBackward Conv3dBiasBackward DeformableConv2d DeformableConv2dBackward
        ConvTranspose1d ConvTranspose2d ConvTranspose3d AvgPool1d AvgPool2d AvgPool1dBackward
        AvgPool2dBackward AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool1dBackward
        AdaptiveAvgPool2dBackward MaxPool1d MaxPool1dWithIndices MaxPool1dWithIndicesBackward
        MaxPool2d MaxPool2dWithIndices MaxPool2dWithIndicesBackward Interpolate
        InterpolateBackward Rfft IRfft Attention CtcLoss CtcLossBackward;
    BaseOperationIr: Reshape SwapDims Permute Flip Expand Unfold Slice SliceAssign Select
        SelectAssign MaskWhere MaskFill Gather Scatter ScatterNd GatherNd Equal EqualElem
        RepeatDim Cat Cast Empty Ones Zeros;
    NumericOperationIr: Add AddScalar Sub SubScalar Div DivScalar Rem RemScalar Mul MulScalar
        Abs Full MeanDim Mean Sum SumDim Prod ProdDim Greater GreaterElem GreaterEqual
        GreaterEqualElem Lower LowerElem LowerEqual LowerEqualElem ArgMax ArgTopK TopK ArgMin
        Max MaxDimWithIndices MinDimWithIndices Min MaxDim MinDim MaxAbs MaxAbsDim Clamp
        IntRandom Powi PowiScalar CumSum CumProd CumMin CumMax;
    IntOperationIr: IntoFloat BitwiseAnd BitwiseAndScalar BitwiseOr BitwiseOrScalar BitwiseXor
        BitwiseXorScalar BitwiseNot BitwiseLeftShift BitwiseLeftShiftScalar BitwiseRightShift
        BitwiseRightShiftScalar Matmul;
    BoolOperationIr: IntoFloat IntoInt Not And Or;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(id: u64) -> TensorIr {
        let dtype = burn_backend::DType::F32;
        TensorIr::uninit(TensorId::new(id), [2, 3].into(), dtype)
    }

    #[test]
    fn variant_names_become_snake_case() {
        for (variant, name) in [
            ("Add", "add"),
            ("SliceAssign", "slice_assign"),
            ("ArgTopK", "arg_top_k"),
            ("LinearXBackward", "linear_x_backward"),
            ("Conv1dXBackward", "conv1d_x_backward"),
            ("ArcTan2", "arc_tan2"),
        ] {
            assert_eq!(snake_case(variant), name);
        }
    }

    #[test]
    fn every_operand_is_visited_also_optional_ones() {
        let (x, weight, bias, out) = (tensor(1), tensor(2), Some(tensor(3)), tensor(4));
        let linear = LinearOpIr { x, weight, bias, out };
        let mut operation = OperationIr::Module(ModuleOperationIr::Linear(linear));
        for_each_tensor(&mut operation, &mut |t| t.id = TensorId::new(t.id.value() + 10));
        let ids: Vec<u64> = operation.nodes().iter().map(|t| t.id.value()).collect();
        assert_eq!(ids, [11, 12, 13, 14]);
    }

    #[test]
    fn attributes_are_the_fields_that_are_no_tensors() {
        let swap = SwapDimsOpIr { input: tensor(0), out: tensor(1), dim1: 1, dim2: 2 };
        let mut operation = OperationIr::BaseFloat(BaseOperationIr::SwapDims(swap));
        let expected = ("swap_dims".to_owned(), "{dim1: 1, dim2: 2}".to_owned());
        assert_eq!(describe(&mut operation), expected);
    }

    #[test]
    fn own_operations_have_their_name_and_json_apart() {
        let id = r#"mixlab.rope{"base":10000.0,"of":{"x":1}}"#.to_owned();
        let custom = CustomOpIr { id, inputs: vec![tensor(0)], outputs: vec![] };
        let (name, attributes) = describe(&mut OperationIr::Custom(custom));
        assert_eq!(name, "mixlab.rope");
        assert_eq!(attributes, r#"{"base":10000.0,"of":{"x":1}}"#);
    }
}
