//! The table of operations: one row each.
//!
//! A row reads: names, inputs, `->` number of outputs, parameters, along T, shape rule, execution.

use burn_backend::tensor::FloatTensor;
use mixlab_ops::{Activation, Backend};

use super::super::along::{Each, Over, Rule, Scanned};
use super::super::params::{Param, ParamKind, Presence};
use super::{Call, Row, elementwise as el, layout, product, reduction, rotation, sequence};

macro_rules! ops {
    ($(
        $(#[doc = $doc:literal])+
        $($name:literal)|+ [$($input:literal),*] -> $outputs:literal
        { $( $param:ident : $kind:ident $(= $default:tt)? ),* }
        $along:expr, $shapes:expr, $run:expr;
    )+) => {
        /// All operations, in the order of the reference.
        pub static ROWS: &[Row] = &[$( Row {
            names: &[$($name),+],
            doc: concat!($($doc),+).trim_ascii(),
            inputs: &[$($input),*],
            outputs: $outputs,
            params: &[$( Param {
                name: stringify!($param),
                kind: ParamKind::$kind,
                presence: ops!(@presence $($default)?),
            } ),*],
            along: $along,
            shapes: $shapes,
        } ),+];

        /// Runs the operation of row `row`.
        ///
        /// # Panics
        /// If there is no such row, or if planning would refuse the inputs.
        pub fn run<B: Backend>(row: usize, call: Call<'_, B>) -> Vec<FloatTensor<B>> {
            let runs: [fn(Call<'_, B>) -> Vec<FloatTensor<B>>; ROWS.len()] = [$( $run ),+];
            runs[row](call)
        }
    };
    (@presence) => { Presence::Required };
    (@presence unset) => { Presence::Optional };
    (@presence $value:tt) => { Presence::Default($value) };
}

ops! {
    /// `a·b`, batched over leading axes. A vector counts as one row on the left, as one column on
    /// the right.
    "matmul" ["a", "b"] -> 1 {} Rule::Matmul, product::matmul_shape, product::matmul::<B>;
    /// `a + b`.
    "add" ["a", "b"] -> 1 {}
        Rule::Each(Each::Sum), el::broadcast_shape, |c| el::binary(c, B::float_add);
    /// `a − b`.
    "sub" ["a", "b"] -> 1 {}
        Rule::Each(Each::Difference), el::broadcast_shape, |c| el::binary(c, B::float_sub);
    /// `a ⊙ b`.
    "mul" ["a", "b"] -> 1 {}
        Rule::Each(Each::Product), el::broadcast_shape, |c| el::binary(c, B::float_mul);
    /// `a / b`, without any guard against 0.
    "div" ["a", "b"] -> 1 {}
        Rule::Each(Each::Quotient), el::broadcast_shape, |c| el::binary(c, B::float_div);
    /// `a · scalar`.
    "scalar_mul" ["a"] -> 1 {scalar: Float}
        Rule::Each(Each::Scale), el::same_shape, el::scaled::<B>;
    /// `−a`.
    "neg" ["a"] -> 1 {} Rule::Each(Each::Zero), el::same_shape, |c| el::unary(c, B::float_neg);
    /// `a²`.
    "square" ["a"] -> 1 {}
        Rule::Each(Each::Zero), el::same_shape, |c| el::unary(c, |a| B::float_mul(a.clone(), a));
    /// `√a`.
    "sqrt" ["a"] -> 1 {} Rule::Each(Each::Zero), el::same_shape, |c| el::unary(c, B::float_sqrt);
    /// `1 / √a`.
    "rsqrt" ["a"] -> 1 {} Rule::Each(Each::Any), el::same_shape,
        |c| el::unary(c, |a| B::float_recip(B::float_sqrt(a)));
    /// `a` to the power of `exponent`.
    "pow" ["a"] -> 1 {exponent: Float} Rule::Each(Each::Any), el::same_shape, el::power::<B>;
    /// `eᵃ`.
    "exp" ["a"] -> 1 {}
        Rule::Each(Each::Exponential), el::same_shape, |c| el::unary(c, B::float_exp);
    /// Natural logarithm.
    "log" ["a"] -> 1 {} Rule::Each(Each::Any), el::same_shape, |c| el::unary(c, B::float_log);
    /// `|a|`.
    "abs" ["a"] -> 1 {} Rule::Each(Each::Zero), el::same_shape, |c| el::unary(c, B::float_abs);
    /// `a`, but not below `min` nor above `max`; one of them may be left out.
    "clamp" ["a"] -> 1 {min: Float = unset, max: Float = unset}
        Rule::Each(Each::Any), el::clamp_shape, el::clamp::<B>;
    /// Hyperbolic tangent.
    "tanh" ["a"] -> 1 {} Rule::Each(Each::Zero), el::same_shape, |c| el::unary(c, B::float_tanh);
    /// `1 / (1 + e⁻ᵃ)`.
    "sigmoid" ["a"] -> 1 {}
        Rule::Each(Each::Exponential), el::same_shape, |c| el::activation(c, Activation::Sigmoid);
    /// `max(a, 0)`.
    "relu" ["a"] -> 1 {}
        Rule::Each(Each::Gate), el::same_shape, |c| el::activation(c, Activation::Relu);
    /// `a·sigmoid(a)`.
    "silu" ["a"] -> 1 {}
        Rule::Each(Each::Gate), el::same_shape, |c| el::activation(c, Activation::Silu);
    /// `½a(1 + tanh(0.7978845608(a + 0.044715a³)))`.
    "gelu" ["a"] -> 1 {}
        Rule::Each(Each::Gate), el::same_shape, |c| el::activation(c, Activation::Gelu);
    /// `ln(1 + eᵃ)`.
    "softplus" ["a"] -> 1 {} Rule::Each(Each::Exponential), el::same_shape, el::softplus::<B>;
    /// The larger of `a` and `b`, element by element.
    "maximum" ["a", "b"] -> 1 {}
        Rule::Each(Each::Any), el::broadcast_shape, |c| el::extreme(c, true);
    /// The smaller of `a` and `b`, element by element.
    "minimum" ["a", "b"] -> 1 {}
        Rule::Each(Each::Any), el::broadcast_shape, |c| el::extreme(c, false);
    /// 1 where `a > b`, else 0; no gradient.
    "greater" ["a", "b"] -> 1 {}
        Rule::Each(Each::Any), el::broadcast_shape, |c| el::compare(c, |a, b| a.greater(b));
    /// 1 where `a ≥ b`, else 0; no gradient.
    "greater_equal" ["a", "b"] -> 1 {} Rule::Each(Each::Any), el::broadcast_shape,
        |c| el::compare(c, |a, b| a.greater_equal(b));
    /// 1 where `a < b`, else 0; no gradient.
    "less" ["a", "b"] -> 1 {}
        Rule::Each(Each::Any), el::broadcast_shape, |c| el::compare(c, |a, b| a.lower(b));
    /// 1 where `a ≤ b`, else 0; no gradient.
    "less_equal" ["a", "b"] -> 1 {} Rule::Each(Each::Any), el::broadcast_shape,
        |c| el::compare(c, |a, b| a.lower_equal(b));
    /// 1 where `a = b`, else 0; no gradient.
    "equal" ["a", "b"] -> 1 {}
        Rule::Each(Each::Any), el::broadcast_shape, |c| el::compare(c, |a, b| a.equal(b));
    /// `a` where `condition` is not 0, else `b`.
    "where" ["condition", "a", "b"] -> 1 {}
        Rule::Each(Each::Any), el::broadcast_shape, el::choose::<B>;
    /// In training, each element is kept with probability `1 − rate` and divided by that.
    "dropout" ["a"] -> 1 {rate: Float} Rule::Each(Each::Zero), el::dropout_shape, el::dropout::<B>;

    /// Sum over `axis`, which keeps length 1.
    "sum" ["a"] -> 1 {axis: Int = (-1.0)} Rule::Over(Over::Sum), reduction::reduced_shape,
        |c| reduction::reduce(c, B::float_sum_dim);
    /// Mean over `axis`, which keeps length 1.
    "mean" ["a"] -> 1 {axis: Int = (-1.0)} Rule::Over(Over::Sum), reduction::reduced_shape,
        |c| reduction::reduce(c, B::float_mean_dim);
    /// Largest element along `axis`, which keeps length 1. See `maximum` for two inputs.
    "max" ["a"] -> 1 {axis: Int = (-1.0)} Rule::Over(Over::Max), reduction::reduced_shape,
        |c| reduction::reduce(c, B::float_max_dim);
    /// Smallest element along `axis`, which keeps length 1. See `minimum` for two inputs.
    "min" ["a"] -> 1 {axis: Int = (-1.0)} Rule::Over(Over::Min), reduction::reduced_shape,
        |c| reduction::reduce(c, B::float_min_dim);
    /// Running sum along `axis`.
    "cumsum" ["a"] -> 1 {axis: Int = (-1.0)}
        Rule::Running, reduction::kept_shape, reduction::running_sum::<B>;
    /// `eᵃ / Σ eᵃ` over `axis`.
    "softmax" ["a"] -> 1 {axes: Positional = unset, axis: Int = (-1.0)}
        Rule::Over(Over::Softmax), reduction::kept_shape, |c| reduction::reduce(c, B::softmax);
    /// `a / √(mean(a²) + eps) ⊙ scale`, mean over the last axis.
    "rmsnorm" | "rms_norm" ["a", "scale"] -> 1 {eps: Float = 1e-5}
        Rule::Norm(Over::Norm), el::broadcast_shape, reduction::rms_norm::<B>;
    /// `(a − mean(a)) / √(var(a) + eps) ⊙ scale + bias`, over the last axis.
    "layernorm" | "layer_norm" ["a", "scale?", "bias?"] -> 1 {eps: Float = 1e-5}
        Rule::Norm(Over::Centered), el::broadcast_shape, reduction::layer_norm::<B>;

    /// `a` with the sizes `shape`; one of them may be `-1`, for what is left. `axes` means the same.
    "reshape" ["a"] -> 1 {shape: List = unset, axes: List = unset}
        Rule::Reshape, layout::reshape_shape, layout::reshaped::<B>;
    /// `a` with its axes in the order `axes`.
    "transpose" ["a"] -> 1 {axes: List}
        Rule::Transpose, layout::transpose_shape, layout::transpose::<B>;
    /// Elements `start`, `start + step` … before `end` along `axis`; a negative bound counts from
    /// the end, and `end` is the length if left out.
    "slice" ["a"] -> 1
        {axes: Positional = unset, start: Int = 0.0, end: Int = unset, step: Int = 1.0, axis: Int = 0.0}
        Rule::Slice, layout::slice_shape, layout::slice::<B>;
    /// `a`, then `b` along `axis`.
    "concat" ["a", "b"] -> 1 {axes: Positional = unset, axis: Int = 0.0}
        Rule::Concat, layout::concat_shape, layout::concat::<B>;
    /// Rows of `table` at `indices`: cut to integers, a negative one counts from the end, and one
    /// out of range is taken as the nearest row. No gradient for the indices.
    "embed" ["table", "indices"] -> 1 {} Rule::Lookup, layout::embed_shape, layout::embed::<B>;
    /// `start`, `start + step` … before `end`, as a vector.
    "arange" [] -> 1 {end: Int, start: Int = 0.0, step: Int = 1.0}
        Rule::Numbers, layout::arange_shape, layout::arange::<B>;
    /// `value` everywhere.
    "full" [] -> 1 {shape: List, value: Float} Rule::Filled, layout::full_shape, layout::full::<B>;

    /// `a[…, i]·b[…, j]`: `[M, a]` and `[M, b]` to `[M, a, b]`.
    "outer" ["a", "b"] -> 1 {} Rule::Outer, product::outer_shape, product::outer::<B>;
    /// `a` with −10⁹ where the last axis is ahead of the one before it.
    "causal_mask" ["a"] -> 1 {} Rule::Mask, sequence::mask_shape, sequence::causal_mask::<B>;
    /// Causal `softmax(scale·q kᵀ) v` on `[B, H, T, hd]`, `scale` being `1/√hd` if left out. `k` and
    /// `v` may have fewer heads, a divisor of `H`.
    "attention" ["q", "k", "v"] -> 1 {scale: Float = unset}
        Rule::Attention, sequence::attention_shape, sequence::attend::<B>;
    /// Rotates the pairs (0, 1), (2, 3) … of the first `rope_dims` channels of `q` and `k`
    /// `[B, H, T, hd]` by the positions `start + step·t`, or by `positions` `[T]`, cut to integers.
    "rope" ["q", "k", "positions?"] -> 2
        {shape: Positional = unset, axes: Positional = unset, T: Int = unset, head_dim: Int = unset,
         rope_dims: Int = unset, start: Int = 0.0, step: Int = 1.0, base: Float = 10000.0}
        Rule::Rotation, rotation::rope_shape, rotation::rotate::<B>;
    /// Causal convolution along `T` of each channel of `a` `[BT, C]` or `[…, T, C]` with its own
    /// taps `w` `[K, C]`; the last tap is for the present.
    "conv1d" ["a", "w"] -> 1 {} Rule::Convolution, sequence::conv1d_shape, sequence::conv1d::<B>;
    /// `h_t = g ⊙ h_{t−1} + (1 − g) ⊙ u_t` with `g = sigmoid(decay)`, `decay` `[D]`; `u` is viewed as
    /// `[B, T, D]`, the result is `[B·T, D]`.
    "scan" ["u", "decay"] -> 1
        {shape: Positional = unset, B: Int = unset, T: Int = unset, D: Int = unset}
        Rule::Scan(Scanned::Decay), sequence::scan_shape, sequence::scan::<B>;
    /// `h_t = g_t ⊙ h_{t−1} + (1 − g_t) ⊙ u_t`, `g` used as it is; both are viewed as `[B, T, D]`,
    /// the result is `[B·T, D]`.
    "scan_tv" ["u", "g"] -> 1
        {shape: Positional = unset, B: Int = unset, T: Int = unset, D: Int = unset}
        Rule::Scan(Scanned::Gates), sequence::scan_tv_shape, sequence::scan_tv::<B>;
    /// `H_t = g_t ⊙ H_{t−1} + U_t`, `g` used as it is; `U` is viewed as `[B, T, Da, Db]`, `g` as
    /// `[B, T, Da]`, the result is `[B·T, Da, Db]`.
    "matrix_scan" ["U", "g"] -> 1
        {shape: Positional = unset, B: Int = unset, T: Int = unset, Da: Int = unset, Db: Int = unset}
        Rule::Scan(Scanned::Matrices), sequence::matrix_scan_shape, sequence::matrix_scan::<B>;
}
