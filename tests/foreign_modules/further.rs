//! More of Burn's operations, each as an output of its own.

use std::path::Path;

use burn::tensor::activation as act;
use burn::tensor::linalg::{Norm, cosine_similarity, outer, vector_norm, vector_normalize};
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{
    Bool, ElementConversion, FloatDType, IndexingUpdateOp, Int, IntDType, Tensor, backend::Backend,
    s,
};

use super::operations::{Family, Given, Sink, family};

/// Writes all of them.
pub fn all(folder: &Path) {
    family::<Activations>(folder);
    family::<Puts>(folder);
    family::<Counted>(folder);
    family::<Narrow>(folder);
    family::<Halves>(folder);
    family::<Attentions>(folder);
    family::<Wholes>(folder);
}

struct Activations;

impl Family for Activations {
    const NAME: &'static str = "activations";

    fn run<B: Backend>(Given { x, y, .. }: Given<B>, out: &mut impl Sink<B>) {
        out.float("relu", act::relu(x.clone()));
        out.float("gelu", act::gelu(x.clone()));
        out.float("gelu_approximate", act::gelu_approximate(x.clone()));
        out.float("elu", act::elu(x.clone(), 0.7));
        out.float("celu", act::celu(x.clone(), 1.3));
        out.float("selu", act::selu(x.clone()));
        out.float("hard_swish", act::hard_swish(x.clone() * 3.0));
        out.float("hard_shrink", act::hard_shrink(x.clone(), 0.5));
        out.float("soft_shrink", act::soft_shrink(x.clone(), 0.5));
        out.float("shrink", act::shrink(x.clone(), 0.5, 0.2));
        out.float("softsign", act::softsign(x.clone()));
        out.float("softmin", act::softmin(x.clone(), 2));
        out.float("log_softmax", act::log_softmax(x.clone(), 2));
        out.float("thresholded", act::thresholded_relu(x.clone(), 0.5));
        out.float("tanh", act::tanh(x.clone()));
        let slopes = Tensor::from_floats([0.1, 0.2, 0.3, 0.4], &x.device());
        out.float("prelu", act::prelu(x.clone(), slopes));
        out.float("softplus", act::softplus(x.clone() * 20.0, 2.0));
        for (name, norm) in [
            ("l0", Norm::L0),
            ("l1", Norm::L1),
            ("l2", Norm::L2),
            ("largest", Norm::LInf),
            ("smallest", Norm::LNegInf),
            ("l3", Norm::Lp(3.0)),
        ] {
            out.float(name, vector_norm(x.clone(), norm, 1));
        }
        out.float("unit", vector_normalize(x.clone(), Norm::L2, 2, 1e-6));
        out.float("cosine", cosine_similarity(x.clone(), y.clone(), 1, None));
        out.float("outer", outer::<B, 2, 3, _>(row(x.clone()), row(y.clone())));
        let (variance, mean) = x.clone().var_mean_bias(2);
        out.float("variance", variance + mean);
        out.float("powers", y.abs().powi(x.round()));
    }
}

/// The first channel `[B, T]`.
fn row<B: Backend>(x: Tensor<B, 3>) -> Tensor<B, 2> {
    x.narrow(1, 0, 1).squeeze_dim::<2>(1)
}

/// Elements put at places, in all ways.
struct Puts;

impl Family for Puts {
    const NAME: &'static str = "puts";

    fn run<B: Backend>(Given { x, y, ids, mask, .. }: Given<B>, out: &mut impl Sink<B>) {
        let half = y.clone().slice(s![.., 0..2, ..]);
        out.float("every_second", x.clone().slice_assign(s![.., ..;2, ..], half.clone()));
        out.float("backwards", x.clone().slice_assign(s![.., ..;-1, ..], y.clone()));
        out.float("every_second_back", x.clone().slice_assign(s![.., 1..;-2, ..], half));
        let part = y.clone().slice(s![.., 0..2, 1..3]);
        out.float("within", x.clone().slice_assign(s![.., 0..3;2, 1..3], part.clone()));
        out.float("then_steps", x.clone().slice_assign(s![.., 1..3, 0..3;2], part));
        let all_but_one = y.clone().slice(s![.., .., 1..]);
        out.float("open", x.clone().slice_assign(s![.., .., 1..;-1], all_but_one));
        out.bool(
            "mask_steps",
            mask.clone().slice_assign(s![.., 0..3;2], mask.clone().slice(s![.., 1..3])),
        );
        let at = ids.clone().unsqueeze_dim::<3>(1);
        let value = y.clone().slice(s![.., 0..1, ..]);
        for (name, update) in [
            ("scattered", IndexingUpdateOp::Add),
            ("assigned", IndexingUpdateOp::Assign),
            ("product", IndexingUpdateOp::Mul),
            ("smaller", IndexingUpdateOp::Min),
            ("larger", IndexingUpdateOp::Max),
        ] {
            if IndexingUpdateOp::Add == update {
                out.float(name, x.clone().scatter(1, at.clone(), value.clone(), update));
            }
            let places = Tensor::<B, 2, Int>::from_ints([[0, 1], [2, 0]], &x.device());
            let table = x.clone().swap_dims(0, 1).reshape([4, -1]).narrow(1, 0, 2);
            let put = Tensor::<B, 1>::from_floats([0.5, -2.0], &x.device());
            out.float(&format!("{name}_nd"), table.scatter_nd::<2, 1>(places, put, update));
        }
        let places = Tensor::<B, 1, Int>::from_ints([1, 0], &x.device());
        let add = IndexingUpdateOp::Add;
        let two = mask.clone().slice(s![.., 1..3]);
        out.bool("either", mask.clone().select_assign(1, places.clone(), two, add));
        let small = ids.clone().slice(s![.., 0..2]);
        let in_row = small.clone().remainder_scalar(2);
        let values = mask.clone().slice(s![.., 1..3]);
        out.bool("scattered_mask", mask.clone().scatter(1, in_row, values, add));
        out.int("select_ids", ids.clone().select_assign(1, places, small, add));
        let (largest, at) = (x.clone().topk(3, 1), out.two_largest(x.clone()));
        out.float("largest", largest);
        out.int("largest_at", at);
        let most = x.dims()[2] - 1;
        out.float("sorted", x.topk(most, 2));
        out.int("sorted_ids", ids.topk(most, 1));
    }
}

/// Numbers and data that depend on lengths.
struct Counted;

impl Family for Counted {
    const NAME: &'static str = "counted";

    fn run<B: Backend>(Given { x, ids, .. }: Given<B>, out: &mut impl Sink<B>) {
        let (length, device) = (x.dims()[2], x.device());
        let size = length as f64;
        out.float("average", x.clone().sum_dim(2) / size);
        out.float("half", x.clone() * (size / 2.0));
        out.float("middle", x.clone() - (size - 1.0) / 2.0);
        out.float("root", x.clone() / size.sqrt());
        out.float("over_root", x.clone() * (1.0 / size.sqrt()));
        out.float("logarithm", x.clone() + size.ln());
        out.float("more", x.clone().mul_scalar(2.0 * size + 1.0));
        let last = length as i64;
        let down =
            Tensor::<B, 1, Int>::from_ints((0..last).rev().collect::<Vec<_>>().as_slice(), &device);
        out.float("reversed", x.clone().select(2, down));
        let even: Vec<i64> = (0..last).map(|i| 2 * i + 3).collect();
        let even = Tensor::<B, 1, Int>::from_ints(even.as_slice(), &device);
        out.int("odd", ids.clone() + even.unsqueeze());
        let floats: Vec<f32> = (0..length).map(|i| i as f32 - 4.0).collect();
        let floats = Tensor::<B, 1>::from_floats(floats.as_slice(), &device);
        out.float("positions", x.clone() * floats.unsqueeze());
        out.int(
            "length",
            ids.clone() * Tensor::<B, 1, Int>::from_ints([last], &device).unsqueeze(),
        );
        let steps = Tensor::<B, 1, Int>::arange_step(0..3 * last, 3, &device);
        out.int("steps", ids.clone() - steps.unsqueeze());
        out.int(
            "filled",
            Tensor::<B, 2, Int>::full([2, 2], last, &device) + ids.sum_dim(1).narrow(0, 0, 1),
        );
        let earlier = Tensor::<B, 2, Bool>::tril_mask([length, length], 0, &device);
        out.float(
            "later",
            x.clone().matmul(
                x.clone().transpose().matmul(x.clone()).mask_fill(earlier.unsqueeze(), 0.0),
            ),
        );
        out.int("range", Tensor::<B, 1, Int>::arange(0..last, &device).unsqueeze::<2>());
        out.float("ones", Tensor::<B, 2>::ones([2, length], &device));
        out.float("itself", x.clone());
        let twice = x.clone() * 2.0;
        out.float("twice", twice.clone());
        out.float("twice_too", twice);
        let diagonal = Tensor::<B, 2>::eye(length, &device).unsqueeze::<3>();
        out.float("diagonal", x.matmul(diagonal));
    }
}

/// Integers of 32 bits.
struct Narrow;

impl Family for Narrow {
    const NAME: &'static str = "narrow";

    fn run<B: Backend>(Given { ids, whole, .. }: Given<B>, out: &mut impl Sink<B>) {
        let (ids, whole) = (ids.cast(IntDType::I32), whole.cast(IntDType::I32));
        let mut put = |name: &str, x: Tensor<B, 2, Int>| out.int(name, x.cast(IntDType::I64));
        put("add", ids.clone() * 3 + whole.clone());
        put("div", (ids.clone() * 7) / whole.clone());
        put("remainder", (ids.clone() * 7).remainder(whole.clone()));
        put("or", ids.clone().bitwise_or(whole.clone()));
        put("and_scalar", whole.clone().bitwise_and_scalar(6.elem()));
        put("xor_scalar", whole.clone().bitwise_xor_scalar(3.elem()));
        put("left", whole.clone().bitwise_left_shift(ids.clone()));
        put("right", whole.clone().bitwise_right_shift_scalar(1.elem()));
        put("cumsum", whole.clone().cumsum(1));
        put("cummin", whole.clone().cummin(1));
        put("argmin", whole.clone().argmin(1));
        put("max", whole.clone().max_dim(1));
        put("prod", whole.clone().clamp(-2, 2).prod_dim(1));
        put("mean", (whole.clone().abs() * 6).mean_dim(1));
        put("gather", whole.clone().gather(1, ids.clone().remainder_scalar(2)));
        put("product", ids.clone().matmul(whole.clone().transpose()));
        put("powers", whole.clone().powi(ids.clone()));
        let sum = whole.clone().unsqueeze_dim::<3>(2).sum_dim(1).squeeze_dim::<2>(1);
        put("sum", sum);
        put("where", whole.clone().mask_where(ids.clone().greater_elem(1), ids));
        out.float("float", whole.float());
    }
}

/// Floats of 16 bits.
struct Halves;

impl Family for Halves {
    const NAME: &'static str = "halves";

    fn run<B: Backend>(Given { x, y, mask, .. }: Given<B>, out: &mut impl Sink<B>) {
        let (x, y) = (x.cast(FloatDType::F16), y.cast(FloatDType::F16));
        let positive = x.clone().abs() + 0.5;
        let infinite = positive.clone() / 0.0;
        out.bool("is_inf", infinite.is_inf());
        out.bool("is_nan", x.clone().is_nan());
        // Not of two numbers that 16 bits may make the same.
        out.bool("greater", x.clone().greater(x.clone() * 2.0));
        let mut put = |name: &str, x: Tensor<B, 3>| out.float(name, x.cast(FloatDType::F32));
        put("add", x.clone() + y.clone() * 2.0);
        put("div", x.clone() / y.clone());
        put("exp", x.clone().exp());
        put("log", positive.clone().log());
        put("log1p", positive.clone().log1p());
        put("sqrt", positive.clone().sqrt());
        put("powf", positive.powf_scalar(1.5));
        put("erf", x.clone().erf());
        put("gelu", act::gelu(x.clone()));
        put("softmax", act::softmax(x.clone(), 2));
        put("product", x.clone().matmul(y.clone().transpose()));
        put("sum", x.clone().sum_dim(2));
        put("mean", x.clone().mean_dim(1));
        put("max", x.clone().max_dim(1));
        put("clamp", x.clone().clamp(-0.5, 0.5));
        put("cumsum", x.clone().cumsum(1));
        put("slice", x.clone().slice(s![.., 1.., ..;-1]));
        put("fill", x.clone().mask_fill(mask.unsqueeze_dim::<3>(1), -1.0));
        put("topk", x.clone().topk(2, 1));
        let heads = |x: Tensor<B, 3>| x.swap_dims(1, 2).unsqueeze_dim::<4>(1);
        let causal = AttentionModuleOptions { is_causal: true, ..Default::default() };
        let seen = attention(heads(x.clone()), heads(y.clone()), heads(x), None, None, causal);
        put("attention", seen.squeeze_dim::<3>(1));
    }
}

/// Burn's attention with all that it may have.
struct Attentions;

impl Family for Attentions {
    const NAME: &'static str = "attentions";

    fn run<B: Backend>(Given { x, y, mask, .. }: Given<B>, out: &mut impl Sink<B>) {
        let heads = |x: Tensor<B, 3>| {
            let [batch, _, length] = x.dims();
            x.swap_dims(1, 2).reshape([batch, length, 2, 2]).swap_dims(1, 2)
        };
        let [batch, _, length] = x.dims();
        let (q, k, v) = (heads(x.clone()), heads(y.clone()), heads(x.clone() + y.clone()));
        let hidden = mask.reshape([batch, 1, 1, length]).expand([batch, 2, length, length]);
        let bias = x.clone().transpose().matmul(y).unsqueeze_dim::<4>(1);
        let bias = bias.expand([batch, 2, length, length]);
        let plain = AttentionModuleOptions::default();
        let causal = AttentionModuleOptions { is_causal: true, ..plain };
        let all = AttentionModuleOptions { scale: Some(0.3), softcap: Some(2.0), is_causal: true };
        let mut put = |name: &str, q: &Tensor<B, 4>, mask, bias, options| {
            out.float(name, attention(q.clone(), k.clone(), v.clone(), mask, bias, options));
        };
        put("plain", &q, None, None, plain);
        put("causal", &q, None, None, causal);
        put("hidden", &q, Some(hidden.clone()), None, plain);
        // Some queries see nothing at all.
        put("hidden_causal", &q, Some(hidden.clone()), None, causal);
        put("biased", &q, None, Some(bias.clone()), plain);
        put("all", &q, Some(hidden), Some(bias), all);
        let last = q.clone().slice(s![.., .., -1.., ..]);
        put("last", &last, None, None, causal);
        let longer = Tensor::cat(vec![q.clone(), q], 2);
        put("longer", &longer, None, None, causal);
    }
}

/// Reductions of everything, where rows are no rows.
struct Wholes;

impl Family for Wholes {
    const NAME: &'static str = "wholes";

    fn run<B: Backend>(Given { x, y, ids, whole, mask }: Given<B>, out: &mut impl Sink<B>) {
        out.float("prod", x.clone().prod());
        out.float("min", x.clone().min());
        out.int("int_min", whole.clone().min());
        out.int("int_prod", whole.clone().clamp(-2, 2).narrow(1, 0, 2).prod());
        out.int("int_mean", (whole.clone() * 6).mean());
        out.int("int_max_abs", whole.max_abs());
        out.bool("and", mask.clone().bool_and(ids.clone().greater_elem(1)));
        out.bool("or", mask.clone().bool_or(ids.clone().greater_elem(1)));
        let flat = x.clone().reshape([-1]);
        out.float("line", flat.clone() * y.clone().reshape([-1]));
        out.float("dot", flat.clone().abs().dot(y.clone().abs().reshape([-1])));
        out.float("line_sum", flat.clone().cumsum(0).flip([0]));
        out.float("covariance", x.clone().reshape([-1, 4]).cov(0, 1));
        out.float("tensor_power", y.abs().powf(x));
        out.float("chosen", flat.select(0, ids.reshape([-1])));
    }
}
