//! Operations of Burn, each as an output of its own: whatever a module may be made of.

use std::f32::consts::PI;

use burn::nn::Gelu;
use burn::tensor::ops::PadMode;
use burn::tensor::{
    Bool, Distribution, ElementConversion, IndexingUpdateOp, Int, IntDType, Tensor, TensorData,
    backend::Backend, s,
};
use burn_flex::Flex;
use mixlab_burn::onnx::{Dim, Trace};
use mixlab_burn::ops::capture::Capture;
use std::path::Path;

use super::export_all;

/// Where results go: their data, or the outputs of a graph.
pub trait Sink<B: Backend> {
    fn float<const D: usize>(&mut self, name: &str, x: Tensor<B, D>);
    fn int<const D: usize>(&mut self, name: &str, x: Tensor<B, D, Int>);
    fn bool<const D: usize>(&mut self, name: &str, x: Tensor<B, D, Bool>);
    /// Where the two largest elements are along axis 1, which burn-flex does not tell.
    fn two_largest(&self, x: Tensor<B, 3>) -> Tensor<B, 3, Int>;
}

impl Sink<Flex> for Vec<(String, TensorData)> {
    fn float<const D: usize>(&mut self, name: &str, x: Tensor<Flex, D>) {
        self.push((name.into(), x.into_data()));
    }

    fn int<const D: usize>(&mut self, name: &str, x: Tensor<Flex, D, Int>) {
        self.push((name.into(), x.into_data().convert::<i64>()));
    }

    fn bool<const D: usize>(&mut self, name: &str, x: Tensor<Flex, D, Bool>) {
        self.push((name.into(), x.into_data()));
    }

    fn two_largest(&self, x: Tensor<Flex, 3>) -> Tensor<Flex, 3, Int> {
        x.argsort_descending(1).narrow(1, 0, 2)
    }
}

impl Sink<Capture> for &Trace<'_> {
    fn float<const D: usize>(&mut self, name: &str, x: Tensor<Capture, D>) {
        self.output(name, x);
    }

    fn int<const D: usize>(&mut self, name: &str, x: Tensor<Capture, D, Int>) {
        self.output(name, x);
    }

    fn bool<const D: usize>(&mut self, name: &str, x: Tensor<Capture, D, Bool>) {
        self.output(name, x);
    }

    fn two_largest(&self, x: Tensor<Capture, 3>) -> Tensor<Capture, 3, Int> {
        x.argtopk(2, 1)
    }
}

/// What all operations are tried on.
#[derive(Clone)]
pub struct Given<B: Backend> {
    /// Floats `[B, 4, T]`.
    pub x: Tensor<B, 3>,
    /// Floats `[B, 4, T]`, none of which is near 0.
    pub y: Tensor<B, 3>,
    /// 0 to 3, `[B, T]`.
    pub ids: Tensor<B, 2, Int>,
    /// Integers `[B, T]` of both signs, none of which is 0.
    pub whole: Tensor<B, 2, Int>,
    /// `[B, T]`.
    pub mask: Tensor<B, 2, Bool>,
}

/// An operation family on what is given.
pub trait Family {
    const NAME: &'static str;

    fn run<B: Backend>(given: Given<B>, out: &mut impl Sink<B>);
}

struct Floats;

impl Family for Floats {
    const NAME: &'static str = "floats";

    fn run<B: Backend>(Given { x, y, .. }: Given<B>, out: &mut impl Sink<B>) {
        let positive = x.clone().abs() + 0.1;
        let within = x.clone().tanh() * 0.9;
        out.float("exp", x.clone().exp());
        out.float("log", positive.clone().log());
        out.float("log1p", positive.clone().log1p());
        out.float("log1p_small", (x.clone() * 1e-6).log1p());
        out.float("erf", x.clone().erf());
        out.float("sqrt", positive.clone().sqrt());
        out.float("trigonometry", x.clone().cos() + x.clone().sin() * x.clone().tanh());
        out.float("tan", within.clone().tan());
        out.float("hyperbolic", x.clone().cosh() - x.clone().sinh());
        out.float("arcs", within.clone().acos() + within.clone().asin() * within.clone().atan());
        out.float("asinh", x.clone().asinh());
        out.float("acosh", (positive.clone() + 1.0).acosh());
        out.float("atanh", within.atanh());
        out.float("atan2", x.clone().atan2(y.clone()));
        out.float("round", (x.clone() * 4.0).round());
        out.float("half", (x.clone() * 4.0).round() * 0.5);
        out.float("rounded_half", ((x.clone() * 4.0).round() * 0.5).round());
        out.float("floor", x.clone().floor());
        out.float("ceil", x.clone().ceil());
        out.float("trunc", x.clone().trunc());
        out.float("sign", x.clone().sign());
        out.float("recip", y.clone().recip());
        out.float("powf", positive.clone().powf(x.clone()));
        out.float("powf_scalar", positive.clone().powf_scalar(1.7));
        out.float("powi_scalar", x.clone().powi_scalar(3));
        out.float("square", x.clone().square());
        out.float("remainder", x.clone().remainder(y.clone()));
        out.float("remainder_scalar", x.clone().remainder_scalar(0.7));
        out.float("fmod", x.clone().fmod_scalar(0.7));
        out.float("clamp", x.clone().clamp(-0.5, 0.5));
        out.float("clamp_max", x.clone().clamp_max(0.2));
        out.float("max_pair", x.clone().max_pair(y.clone()));
        out.float("degrees", x.clone().rad2deg());
        out.float("softmax", burn::tensor::activation::softmax(x.clone(), 1));
        out.float("mish", burn::tensor::activation::mish(x.clone()));
        out.float("softplus", burn::tensor::activation::softplus(x.clone(), 1.0));
        out.float("silu", burn::tensor::activation::silu(x.clone()));
        out.float("hard_sigmoid", burn::tensor::activation::hard_sigmoid(x.clone(), 0.2, 0.5));
        out.float("leaky", burn::tensor::activation::leaky_relu(x.clone(), 0.1));
        out.float("glu", burn::tensor::activation::glu(x.clone(), 1));
        out.float("log_sigmoid", burn::tensor::activation::log_sigmoid(x.clone()));
        out.float("quiet", burn::tensor::activation::quiet_softmax(x.clone(), 1));
        out.bool("is_nan", x.clone().is_nan());
        out.bool("is_inf", (x.clone() / 0.0).is_inf());
        out.int("into_int", (x.clone() * 3.0).int());
        out.bool("greater", x.clone().greater(y.clone()));
        out.bool("lower_equal", x.clone().lower_equal(y.clone()));
        out.bool("lower_elem", x.clone().lower_elem(0.3));
        out.bool("not_equal", x.not_equal(y));
    }
}

struct Integers;

impl Family for Integers {
    const NAME: &'static str = "integers";

    fn run<B: Backend>(Given { ids, whole, mask, .. }: Given<B>, out: &mut impl Sink<B>) {
        out.int("add", ids.clone() + whole.clone());
        out.int("large", whole.clone().cast(IntDType::I64) * 9_007_199_254_740_993_i64);
        out.int("div", ids.clone() * 7 / whole.clone());
        out.int("div_negative", whole.clone() * 7 / 3);
        out.int("remainder", (ids.clone() * 7).remainder(whole.clone()));
        out.int("remainder_scalar", whole.clone().remainder_scalar(3));
        out.int("powi", whole.clone().powi_scalar(3));
        out.int("abs", whole.clone().abs());
        out.int("neg", whole.clone().neg());
        out.int("sign", whole.clone().sign());
        out.int("clamp", whole.clone().clamp(-2, 2));
        out.int("and", ids.clone().bitwise_and(whole.clone()));
        out.int("or_scalar", ids.clone().bitwise_or_scalar(5.elem()));
        out.int("xor", ids.clone().bitwise_xor(whole.clone()));
        out.int("not", whole.clone().bitwise_not());
        out.int("left", whole.clone().bitwise_left_shift_scalar(3.elem()));
        out.int("right", whole.clone().bitwise_right_shift_scalar(1.elem()));
        out.int("shifted", whole.clone().bitwise_left_shift(ids.clone()));
        out.int("shifted_back", (whole.clone() * 9).bitwise_right_shift(ids.clone()));
        out.float("float", whole.clone().float());
        out.bool("equal", ids.clone().equal(whole.clone()));
        out.bool("equal_elem", ids.clone().equal_elem(2));
        out.int("max_dim", whole.clone().max_dim(1));
        out.int("sum_dim", whole.clone().sum_dim(1));
        out.int("cumsum", whole.clone().cumsum(1));
        out.int("cummax", whole.clone().cummax(1));
        out.int("cumprod", ids.clone().cumprod(1));
        out.int("argmax", ids.clone().argmax(1));
        out.bool("any", mask.clone().any_dim(1));
        out.bool("all", mask.clone().all_dim(1));
        out.bool("bool_xor", mask.clone().bool_xor(ids.clone().greater_elem(1)));
        out.bool("bool_not", mask.clone().bool_not());
        out.bool("bool_equal", mask.clone().equal(ids.clone().greater_elem(1)));
        out.float("bool_float", mask.clone().float());
        out.int("bool_int", mask.clone().int());
        out.int("where", whole.clone().mask_where(mask.clone(), ids));
        out.int("fill", whole.mask_fill(mask.clone(), -7));
        out.bool("bool_flip", mask.clone().flip([1]));
        out.bool("bool_cat", Tensor::cat(vec![mask.clone(), mask.clone().bool_not()], 1));
        out.bool("bool_slice", mask.clone().slice(s![.., 1..]));
        out.bool("bool_repeat", mask.repeat_dim(1, 2));
    }
}

struct Reductions;

impl Family for Reductions {
    const NAME: &'static str = "reductions";

    fn run<B: Backend>(Given { x, ids, .. }: Given<B>, out: &mut impl Sink<B>) {
        for dim in [1, 2] {
            let name = |what: &str| format!("{what}_{dim}");
            out.float(&name("sum"), x.clone().sum_dim(dim));
            out.float(&name("mean"), x.clone().mean_dim(dim));
            out.float(&name("prod"), x.clone().prod_dim(dim));
            out.float(&name("max"), x.clone().max_dim(dim));
            out.float(&name("min"), x.clone().min_dim(dim));
            out.float(&name("max_abs"), x.clone().max_abs_dim(dim));
            out.int(&name("argmax"), x.clone().argmax(dim));
            out.int(&name("argmin"), x.clone().argmin(dim));
            let (values, places) = x.clone().max_dim_with_indices(dim);
            out.float(&name("largest"), values);
            out.int(&name("largest_at"), places);
            let (values, places) = x.clone().min_dim_with_indices(dim);
            out.float(&name("smallest"), values * 2.0);
            out.int(&name("smallest_at"), places);
            out.float(&name("topk"), x.clone().topk(2, dim));
            out.float(&name("cumsum"), x.clone().cumsum(dim));
            out.float(&name("cumprod"), x.clone().cumprod(dim));
            out.float(&name("cummax"), x.clone().cummax(dim));
            out.float(&name("cummin"), x.clone().cummin(dim));
            out.float(&name("var"), x.clone().var(dim));
        }
        out.float("sum_dims", (x.clone() + 2.0).sum_dims(&[1, 2]));
        out.int("sum_ids", ids.sum_dim(1));
        out.float("cross", {
            let three = x.slice(s![.., 0..3, ..]);
            three.clone().cross(three.exp(), 1)
        });
    }
}

struct Moves;

impl Family for Moves {
    const NAME: &'static str = "moves";

    fn run<B: Backend>(Given { x, y, ids, .. }: Given<B>, out: &mut impl Sink<B>) {
        let [batch, _, length] = x.dims();
        out.float("slice", x.clone().slice(s![.., 1..3, 2..]));
        out.float("slice_end", x.clone().slice(s![.., -3..-1, ..-1]));
        out.float("slice_step", x.clone().slice(s![.., ..;2, 1..]));
        out.float("slice_back", x.clone().slice(s![.., ..;-1, 1..;-1]));
        out.float("slice_back_two", x.clone().slice(s![.., 1..;-2, ..]));
        out.float("flip", x.clone().flip([1, 2]));
        out.float("roll", x.clone().roll_dim(1, 1));
        out.float("roll_open", x.clone().roll_dim(2, 2));
        out.float("permute", x.clone().permute([0, 2, 1]));
        out.float("flatten", x.clone().flatten::<2>(1, 2));
        out.float("expand", x.clone().unsqueeze_dim::<4>(1).expand([-1, 3, -1, -1]));
        out.float("repeat", x.clone().repeat_dim(1, 2).repeat_dim(2, 3));
        out.float("stack", Tensor::stack::<4>(vec![x.clone(), y.clone()], 3));
        out.float("chunk", x.clone().chunk(2, 1).remove(1));
        out.float("tril", x.clone().tril(0));
        out.float("triu", x.clone().triu(1));
        out.float("pad", x.clone().pad((1, 2, 3, 0), 0.5));
        out.float("pad_edge", x.clone().pad((1, 2, 1, 1), PadMode::Edge));
        out.float("pad_reflect", x.clone().pad((1, 2, 1, 1), PadMode::Reflect));
        out.float("unfold", x.clone().unfold::<4, _>(1, 2, 1));
        out.float("unfold_open", x.clone().unfold::<4, _>(2, 3, 1));
        out.float(
            "assign",
            x.clone().slice_assign(s![.., 1..3, ..], y.clone().slice(s![.., 0..2, ..])),
        );
        let part = y.clone().slice(s![.., 0..2, 0..2]);
        out.float("assign_two", x.clone().slice_assign(s![.., 1..3, 1..3], part));
        out.float("fill", x.clone().slice_fill(s![.., 0..2, ..], 2.0));
        let at = ids.clone().unsqueeze_dim::<3>(1);
        out.float("gather", x.clone().gather(1, at.clone().repeat_dim(1, 2)));
        out.float(
            "scatter",
            x.clone().scatter(1, at, y.clone().slice(s![.., 0..1, ..]), IndexingUpdateOp::Add),
        );
        let rows = Tensor::<B, 1, Int>::from_ints([2, 0, 2], &x.device());
        out.float("select", x.clone().select(1, rows.clone()));
        let values = y.clone().slice(s![.., 0..3, ..]);
        out.float("select_assign", x.clone().select_assign(1, rows, values, IndexingUpdateOp::Add));
        out.float(
            "diagonal",
            Tensor::<B, 2>::eye(4, &x.device()).unsqueeze::<3>().matmul(x.clone()),
        );
        let positions = Tensor::<B, 1, Int>::arange(0..length as i64, &x.device());
        out.float("positions", x.clone() + positions.float().unsqueeze::<3>() * (PI / 7.0));
        let zeros = Tensor::<B, 3>::zeros([batch, 4, length], &x.device());
        out.float("like", zeros + x.ones_like() * y);
    }
}

/// Where rows are told apart by their number, so that each alone is another.
struct Places;

impl Family for Places {
    const NAME: &'static str = "places";

    fn run<B: Backend>(Given { x, y, ids, mask, .. }: Given<B>, out: &mut impl Sink<B>) {
        let table = x.clone().slice(s![0..1, .., 0..2]).squeeze_dim::<2>(0);
        let index = ids.clone().slice(s![.., 0..2]);
        // Rows and columns that are there for any batch.
        let index =
            Tensor::cat(vec![index.clone(), index.remainder_scalar(2)], 1).slice(s![.., 1..3]);
        out.float("gather_nd", table.clone().gather_nd::<2, 1>(index.clone()));
        let values = y.clone().slice(s![.., 0..1, 0..1]).reshape([-1]);
        out.float(
            "scatter_nd",
            table.clone().scatter_nd::<2, 1>(index, values, IndexingUpdateOp::Add),
        );
        out.float("sum", (x.clone() + 2.0).sum());
        out.float("mean", (x.clone() + 2.0).mean());
        out.float("max", x.clone().max());
        out.float("max_abs", x.clone().max_abs());
        out.float("sum_rows", x.clone().sum_dim(0));
        out.float("cumsum_rows", x.clone().cumsum(0));
        out.bool("any", mask.clone().any());
        out.bool("all", mask.all());
        out.int("sum_ids", ids.sum());
        out.float("flip_rows", x.clone().flip([0]));
        out.float("product", x.clone().flatten::<2>(1, 2).matmul(y.flatten::<2>(1, 2).transpose()));
    }
}

/// Writes all of them.
pub fn all(folder: &Path) {
    family::<Floats>(folder);
    family::<Integers>(folder);
    family::<Reductions>(folder);
    family::<Moves>(folder);
    family::<Places>(folder);
}

/// Writes the results of a family, and the file that computes them.
pub fn family<F: Family>(folder: &Path) {
    let dims = || [Dim::from("batch"), Dim::from("length")];
    let forward = |_: &Gelu, trace: &Trace<'_>| {
        let floats = || [Dim::from("batch"), 4.into(), "length".into()];
        let given = Given {
            x: trace.float("x", floats()),
            y: trace.float("y", floats()),
            ids: trace.int("ids", dims()),
            whole: trace.int("whole", dims()),
            mask: trace.bool("mask", dims()),
        };
        F::run(given, &mut &*trace);
    };
    let values = [(3, 5), (1, 8), (2, 4)].map(|(batch, length)| {
        let given = drawn(batch, length);
        let mut found: Vec<(String, TensorData)> = Vec::new();
        F::run(given.clone(), &mut found);
        let Given { x, y, ids, whole, mask } = given;
        Sink::<Flex>::float(&mut found, "x", x);
        Sink::<Flex>::float(&mut found, "y", y);
        Sink::<Flex>::int(&mut found, "ids", ids);
        Sink::<Flex>::int(&mut found, "whole", whole);
        Sink::<Flex>::bool(&mut found, "mask", mask);
        found
    });
    let path = folder.join(F::NAME);
    export_all(path, &["batch", "length"], &Gelu::new(), |_| Gelu::new(), forward, &values);
}

fn drawn(batch: usize, length: usize) -> Given<Flex> {
    let device = Default::default();
    let normal =
        || Tensor::<Flex, 3>::random([batch, 4, length], Distribution::Normal(0.0, 1.0), &device);
    let uniform =
        || Tensor::<Flex, 2>::random([batch, length], Distribution::Uniform(0.0, 1.0), &device);
    let y = normal();
    let whole = (uniform() * 5.0 + 1.0).int();
    let negative = uniform().lower_elem(0.5);
    Given {
        x: normal(),
        y: y.clone().sign() * (y.abs() + 0.3),
        ids: (uniform() * 4.0).int().clamp(0, 3),
        whole: whole.clone().mask_where(negative, whole.neg()),
        mask: uniform().lower_elem(0.6),
    }
}
