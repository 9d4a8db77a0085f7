//! A backend of somebody else's, a type that no crate of mixlab has heard of: burn-flex, and a count of
//! the matrix products that it was asked for.

use std::sync::atomic::{AtomicUsize, Ordering};

use burn::backend::Flex;
use burn::backend::flex::{FlexDevice as Device, FlexQTensor as Q, FlexTensor as T};
use burn::tensor::backend::{Backend, BackendTypes, DTypeUsageSet, ExecutionError};
use burn::tensor::ops::*;
use burn::tensor::quantization::{QuantScheme, QuantizationParametersPrimitive};
use burn::tensor::{
    BoolDType, DType, Distribution, FloatDType, IntDType, Scalar, Shape, Slice, TensorData,
};

/// Matrix products so far.
pub static PRODUCTS: AtomicUsize = AtomicUsize::new(0);

#[derive(Clone, Copy, Debug, Default)]
pub struct Counted;

// All that mixlab asks for.
impl mixlab_burn::ops::Backend for Counted {}

/// What burn-flex does.
macro_rules! of_flex {
    ($(fn $name:ident($($input:ident: $of:ty),*) $(-> $to:ty)?;)*) => {
        $(fn $name($($input: $of),*) $(-> $to)? { Flex::$name($($input),*) })*
    };
}

impl BackendTypes for Counted {
    type Device = Device;
    type FloatTensorPrimitive = T;
    type FloatElem = f32;
    type IntTensorPrimitive = T;
    type IntElem = i32;
    type BoolTensorPrimitive = T;
    type BoolElem = bool;
    type QuantizedTensorPrimitive = Q;
}

impl Backend for Counted {
    fn name(_: &Device) -> String {
        "counted".into()
    }

    of_flex! {
        fn seed(device: &Device, seed: u64);
        fn dtype_usage(device: &Device, dtype: DType) -> DTypeUsageSet;
        fn device_count(type_id: u16) -> usize;
    }
}

impl ActivationOps<Self> for Counted {}
impl TransactionOps<Self> for Counted {}

impl FloatTensorOps<Self> for Counted {
    async fn float_into_data(tensor: T) -> Result<TensorData, ExecutionError> {
        Flex::float_into_data(tensor).await
    }

    fn float_matmul(lhs: T, rhs: T) -> T {
        PRODUCTS.fetch_add(1, Ordering::Relaxed);
        Flex::float_matmul(lhs, rhs)
    }

    of_flex! {
        fn float_from_data(data: TensorData, device: &Device) -> T;
        fn float_random(
            shape: Shape, distribution: Distribution, device: &Device, dtype: FloatDType
        ) -> T;
        fn float_device(tensor: &T) -> Device;
        fn float_to_device(tensor: T, device: &Device) -> T;
        fn float_into_int(tensor: T, out_dtype: IntDType) -> T;
        fn float_empty(shape: Shape, device: &Device, dtype: FloatDType) -> T;
        fn float_add(lhs: T, rhs: T) -> T;
        fn float_add_scalar(lhs: T, rhs: Scalar) -> T;
        fn float_sub(lhs: T, rhs: T) -> T;
        fn float_sub_scalar(lhs: T, rhs: Scalar) -> T;
        fn float_mul(lhs: T, rhs: T) -> T;
        fn float_mul_scalar(lhs: T, rhs: Scalar) -> T;
        fn float_div(lhs: T, rhs: T) -> T;
        fn float_div_scalar(lhs: T, rhs: Scalar) -> T;
        fn float_remainder(lhs: T, rhs: T) -> T;
        fn float_remainder_scalar(lhs: T, rhs: Scalar) -> T;
        fn float_cross(lhs: T, rhs: T, dim: usize) -> T;
        fn float_recip(tensor: T) -> T;
        fn float_swap_dims(tensor: T, dim1: usize, dim2: usize) -> T;
        fn float_permute(tensor: T, axes: &[usize]) -> T;
        fn float_flip(tensor: T, axes: &[usize]) -> T;
        fn float_reshape(tensor: T, shape: Shape) -> T;
        fn float_gather(dim: usize, tensor: T, indices: T) -> T;
        fn float_scatter_add(dim: usize, tensor: T, indices: T, value: T) -> T;
        fn float_select(tensor: T, dim: usize, indices: T) -> T;
        fn float_select_add(tensor: T, dim: usize, indices: T, value: T) -> T;
        fn float_slice(tensor: T, slices: &[Slice]) -> T;
        fn float_slice_assign(tensor: T, slices: &[Slice], value: T) -> T;
        fn float_mask_where(tensor: T, mask: T, value: T) -> T;
        fn float_mask_fill(tensor: T, mask: T, value: Scalar) -> T;
        fn float_equal(lhs: T, rhs: T, out_dtype: BoolDType) -> T;
        fn float_equal_elem(lhs: T, rhs: Scalar, out_dtype: BoolDType) -> T;
        fn float_greater(lhs: T, rhs: T, out_dtype: BoolDType) -> T;
        fn float_greater_elem(lhs: T, rhs: Scalar, out_dtype: BoolDType) -> T;
        fn float_greater_equal(lhs: T, rhs: T, out_dtype: BoolDType) -> T;
        fn float_greater_equal_elem(lhs: T, rhs: Scalar, out_dtype: BoolDType) -> T;
        fn float_lower(lhs: T, rhs: T, out_dtype: BoolDType) -> T;
        fn float_lower_elem(lhs: T, rhs: Scalar, out_dtype: BoolDType) -> T;
        fn float_lower_equal(lhs: T, rhs: T, out_dtype: BoolDType) -> T;
        fn float_lower_equal_elem(lhs: T, rhs: Scalar, out_dtype: BoolDType) -> T;
        fn float_sum(tensor: T) -> T;
        fn float_sum_dim(tensor: T, dim: usize) -> T;
        fn float_mean_dim(tensor: T, dim: usize) -> T;
        fn float_cumsum(tensor: T, dim: usize) -> T;
        fn float_cumprod(tensor: T, dim: usize) -> T;
        fn float_cummin(tensor: T, dim: usize) -> T;
        fn float_cummax(tensor: T, dim: usize) -> T;
        fn float_cast(tensor: T, dtype: FloatDType) -> T;
        fn float_exp(tensor: T) -> T;
        fn float_log(tensor: T) -> T;
        fn float_log1p(tensor: T) -> T;
        fn float_powf(lhs: T, rhs: T) -> T;
        fn float_powf_scalar_impl(tensor: T, value: Scalar) -> T;
        fn float_sqrt(tensor: T) -> T;
        fn float_abs(tensor: T) -> T;
        fn float_cos(tensor: T) -> T;
        fn float_sin(tensor: T) -> T;
        fn float_tan(tensor: T) -> T;
        fn float_cosh(tensor: T) -> T;
        fn float_sinh(tensor: T) -> T;
        fn float_tanh(tensor: T) -> T;
        fn float_acos(tensor: T) -> T;
        fn float_acosh(tensor: T) -> T;
        fn float_asin(tensor: T) -> T;
        fn float_asinh(tensor: T) -> T;
        fn float_atan(tensor: T) -> T;
        fn float_atanh(tensor: T) -> T;
        fn float_atan2(lhs: T, rhs: T) -> T;
        fn float_round(tensor: T) -> T;
        fn float_floor(tensor: T) -> T;
        fn float_ceil(tensor: T) -> T;
        fn float_trunc(tensor: T) -> T;
        fn float_erf(tensor: T) -> T;
        fn float_argmax(tensor: T, dim: usize, out_dtype: IntDType) -> T;
        fn float_argtopk(tensor: T, dim: usize, k: usize, out_dtype: IntDType) -> T;
        fn float_argmin(tensor: T, dim: usize, out_dtype: IntDType) -> T;
        fn float_expand(tensor: T, shape: Shape) -> T;
        fn float_unfold(tensor: T, dim: usize, size: usize, step: usize) -> T;
    }
}

impl IntTensorOps<Self> for Counted {
    async fn int_into_data(tensor: T) -> Result<TensorData, ExecutionError> {
        Flex::int_into_data(tensor).await
    }

    of_flex! {
        fn int_empty(shape: Shape, device: &Device, dtype: IntDType) -> T;
        fn int_from_data(data: TensorData, device: &Device) -> T;
        fn int_device(tensor: &T) -> Device;
        fn int_to_device(tensor: T, device: &Device) -> T;
        fn int_reshape(tensor: T, shape: Shape) -> T;
        fn int_slice(tensor: T, slices: &[Slice]) -> T;
        fn int_slice_assign(tensor: T, slices: &[Slice], value: T) -> T;
        fn int_into_float(tensor: T, out_dtype: FloatDType) -> T;
        fn int_mask_where(tensor: T, mask: T, value: T) -> T;
        fn int_mask_fill(tensor: T, mask: T, value: Scalar) -> T;
        fn int_gather(dim: usize, tensor: T, indices: T) -> T;
        fn int_scatter_add(dim: usize, tensor: T, indices: T, value: T) -> T;
        fn int_select(tensor: T, dim: usize, indices: T) -> T;
        fn int_select_add(tensor: T, dim: usize, indices: T, value: T) -> T;
        fn int_equal(lhs: T, rhs: T, out_dtype: BoolDType) -> T;
        fn int_equal_elem(lhs: T, rhs: Scalar, out_dtype: BoolDType) -> T;
        fn int_greater(lhs: T, rhs: T, out_dtype: BoolDType) -> T;
        fn int_greater_elem(lhs: T, rhs: Scalar, out_dtype: BoolDType) -> T;
        fn int_greater_equal(lhs: T, rhs: T, out_dtype: BoolDType) -> T;
        fn int_greater_equal_elem(lhs: T, rhs: Scalar, out_dtype: BoolDType) -> T;
        fn int_lower(lhs: T, rhs: T, out_dtype: BoolDType) -> T;
        fn int_lower_elem(lhs: T, rhs: Scalar, out_dtype: BoolDType) -> T;
        fn int_lower_equal(lhs: T, rhs: T, out_dtype: BoolDType) -> T;
        fn int_lower_equal_elem(lhs: T, rhs: Scalar, out_dtype: BoolDType) -> T;
        fn int_add(lhs: T, rhs: T) -> T;
        fn int_add_scalar(lhs: T, rhs: Scalar) -> T;
        fn int_sub(lhs: T, rhs: T) -> T;
        fn int_sub_scalar(lhs: T, rhs: Scalar) -> T;
        fn int_mul(lhs: T, rhs: T) -> T;
        fn int_mul_scalar(lhs: T, rhs: Scalar) -> T;
        fn int_div(lhs: T, rhs: T) -> T;
        fn int_div_scalar(lhs: T, rhs: Scalar) -> T;
        fn int_remainder(lhs: T, rhs: T) -> T;
        fn int_remainder_scalar(lhs: T, rhs: Scalar) -> T;
        fn int_matmul(lhs: T, rhs: T) -> T;
        fn int_sum(tensor: T) -> T;
        fn int_sum_dim(tensor: T, dim: usize) -> T;
        fn int_prod(tensor: T) -> T;
        fn int_prod_dim(tensor: T, dim: usize) -> T;
        fn int_mean_dim(tensor: T, dim: usize) -> T;
        fn int_cumsum(tensor: T, dim: usize) -> T;
        fn int_cumprod(tensor: T, dim: usize) -> T;
        fn int_cummin(tensor: T, dim: usize) -> T;
        fn int_cummax(tensor: T, dim: usize) -> T;
        fn int_argmax(tensor: T, dim: usize) -> T;
        fn int_argtopk(tensor: T, dim: usize, k: usize) -> T;
        fn int_argmin(tensor: T, dim: usize) -> T;
        fn int_abs(tensor: T) -> T;
        fn int_swap_dims(tensor: T, dim1: usize, dim2: usize) -> T;
        fn int_permute(tensor: T, axes: &[usize]) -> T;
        fn int_flip(tensor: T, axes: &[usize]) -> T;
        fn int_random(
            shape: Shape, distribution: Distribution, device: &Device, dtype: IntDType
        ) -> T;
        fn int_expand(tensor: T, shape: Shape) -> T;
        fn bitwise_and(lhs: T, rhs: T) -> T;
        fn bitwise_and_scalar(lhs: T, rhs: Scalar) -> T;
        fn bitwise_or(lhs: T, rhs: T) -> T;
        fn bitwise_or_scalar(lhs: T, rhs: Scalar) -> T;
        fn bitwise_xor(lhs: T, rhs: T) -> T;
        fn bitwise_xor_scalar(lhs: T, rhs: Scalar) -> T;
        fn bitwise_not(tensor: T) -> T;
        fn bitwise_left_shift(lhs: T, rhs: T) -> T;
        fn bitwise_left_shift_scalar(lhs: T, rhs: Scalar) -> T;
        fn bitwise_right_shift(lhs: T, rhs: T) -> T;
        fn bitwise_right_shift_scalar(lhs: T, rhs: Scalar) -> T;
        fn int_cast(tensor: T, dtype: IntDType) -> T;
        fn int_unfold(tensor: T, dim: usize, size: usize, step: usize) -> T;
    }
}

impl BoolTensorOps<Self> for Counted {
    async fn bool_into_data(tensor: T) -> Result<TensorData, ExecutionError> {
        Flex::bool_into_data(tensor).await
    }

    of_flex! {
        fn bool_empty(shape: Shape, device: &Device, dtype: BoolDType) -> T;
        fn bool_zeros(shape: Shape, device: &Device, dtype: BoolDType) -> T;
        fn bool_ones(shape: Shape, device: &Device, dtype: BoolDType) -> T;
        fn bool_from_data(data: TensorData, device: &Device) -> T;
        fn bool_into_int(tensor: T, out_dtype: IntDType) -> T;
        fn bool_into_float(tensor: T, out_dtype: FloatDType) -> T;
        fn bool_device(tensor: &T) -> Device;
        fn bool_to_device(tensor: T, device: &Device) -> T;
        fn bool_reshape(tensor: T, shape: Shape) -> T;
        fn bool_slice(tensor: T, slices: &[Slice]) -> T;
        fn bool_slice_assign(tensor: T, slices: &[Slice], value: T) -> T;
        fn bool_mask_where(tensor: T, mask: T, value: T) -> T;
        fn bool_mask_fill(tensor: T, mask: T, value: Scalar) -> T;
        fn bool_gather(dim: usize, tensor: T, indices: T) -> T;
        fn bool_scatter_or(dim: usize, tensor: T, indices: T, value: T) -> T;
        fn bool_select(tensor: T, dim: usize, indices: T) -> T;
        fn bool_select_or(tensor: T, dim: usize, indices: T, value: T) -> T;
        fn bool_equal(lhs: T, rhs: T) -> T;
        fn bool_equal_elem(lhs: T, rhs: Scalar) -> T;
        fn bool_not(tensor: T) -> T;
        fn bool_and(lhs: T, rhs: T) -> T;
        fn bool_or(lhs: T, rhs: T) -> T;
        fn bool_swap_dims(tensor: T, dim1: usize, dim2: usize) -> T;
        fn bool_permute(tensor: T, axes: &[usize]) -> T;
        fn bool_flip(tensor: T, axes: &[usize]) -> T;
        fn bool_expand(tensor: T, shape: Shape) -> T;
        fn bool_unfold(tensor: T, dim: usize, size: usize, step: usize) -> T;
    }
}

impl QTensorOps<Self> for Counted {
    async fn q_into_data(tensor: Q) -> Result<TensorData, ExecutionError> {
        Flex::q_into_data(tensor).await
    }

    fn quantize(
        x: T, scheme: &QuantScheme, parameters: QuantizationParametersPrimitive<Self>,
    ) -> Q {
        let parameters = QuantizationParametersPrimitive { scales: parameters.scales };
        Flex::quantize(x, scheme, parameters)
    }

    of_flex! {
        fn q_from_data(data: TensorData, device: &Device) -> Q;
        fn dequantize(tensor: Q, dtype: FloatDType) -> T;
        fn q_device(tensor: &Q) -> Device;
        fn q_to_device(tensor: Q, device: &Device) -> Q;
        fn q_reshape(tensor: Q, shape: Shape) -> Q;
        fn q_expand(tensor: Q, shape: Shape) -> Q;
        fn q_swap_dims(tensor: Q, dim1: usize, dim2: usize) -> Q;
        fn q_permute(tensor: Q, axes: &[usize]) -> Q;
        fn q_flip(tensor: Q, axes: &[usize]) -> Q;
        fn q_select(tensor: Q, dim: usize, indices: T) -> Q;
        fn q_slice(tensor: Q, slices: &[Slice]) -> Q;
    }
}

impl ModuleOps<Self> for Counted {
    fn deform_conv2d_backward(
        x: T, offset: T, weight: T, mask: Option<T>, bias: Option<T>, grad: T,
        options: DeformConvOptions<2>,
    ) -> DeformConv2dBackward<Self> {
        let by = Flex::deform_conv2d_backward(x, offset, weight, mask, bias, grad, options);
        DeformConv2dBackward::new(
            by.x_grad, by.offset_grad, by.weight_grad, by.mask_grad, by.bias_grad,
        )
    }

    fn max_pool2d_with_indices(
        x: T, size: [usize; 2], stride: [usize; 2], padding: [usize; 2], dilation: [usize; 2],
        ceil: bool,
    ) -> MaxPool2dWithIndices<Self> {
        let found = Flex::max_pool2d_with_indices(x, size, stride, padding, dilation, ceil);
        MaxPool2dWithIndices::new(found.output, found.indices)
    }

    fn max_pool2d_with_indices_backward(
        x: T, size: [usize; 2], stride: [usize; 2], padding: [usize; 2], dilation: [usize; 2],
        ceil: bool, grad: T, indices: T,
    ) -> MaxPool2dBackward<Self> {
        let by = Flex::max_pool2d_with_indices_backward(
            x, size, stride, padding, dilation, ceil, grad, indices,
        );
        MaxPool2dBackward::new(by.x_grad)
    }

    of_flex! {
        fn conv2d(x: T, weight: T, bias: Option<T>, options: ConvOptions<2>) -> T;
        fn deform_conv2d(
            x: T, offset: T, weight: T, mask: Option<T>, bias: Option<T>,
            options: DeformConvOptions<2>
        ) -> T;
        fn conv3d(x: T, weight: T, bias: Option<T>, options: ConvOptions<3>) -> T;
        fn conv_transpose2d(
            x: T, weight: T, bias: Option<T>, options: ConvTransposeOptions<2>
        ) -> T;
        fn conv_transpose3d(
            x: T, weight: T, bias: Option<T>, options: ConvTransposeOptions<3>
        ) -> T;
        fn avg_pool2d(
            x: T, kernel_size: [usize; 2], stride: [usize; 2], padding: [usize; 2],
            count_include_pad: bool, ceil_mode: bool
        ) -> T;
        fn avg_pool2d_backward(
            x: T, grad: T, kernel_size: [usize; 2], stride: [usize; 2], padding: [usize; 2],
            count_include_pad: bool, ceil_mode: bool
        ) -> T;
        fn adaptive_avg_pool2d(x: T, output_size: [usize; 2]) -> T;
        fn adaptive_avg_pool2d_backward(x: T, grad: T) -> T;
        fn max_pool2d(
            x: T, kernel_size: [usize; 2], stride: [usize; 2], padding: [usize; 2],
            dilation: [usize; 2], ceil_mode: bool
        ) -> T;
        fn interpolate(x: T, output_size: [usize; 2], options: InterpolateOptions) -> T;
        fn interpolate_backward(
            x: T, grad: T, output_size: [usize; 2], options: InterpolateOptions
        ) -> T;
        fn attention(
            query: T, key: T, value: T, mask: Option<T>, attn_bias: Option<T>,
            options: AttentionModuleOptions
        ) -> T;
        fn rfft(signal: T, dim: usize, n: Option<usize>) -> (T, T);
        fn irfft(spectrum_re: T, spectrum_im: T, dim: usize, n: Option<usize>) -> T;
    }
}
