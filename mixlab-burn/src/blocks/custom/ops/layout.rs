//! Operations that arrange, select or make elements.

use burn::tensor::{Int, Slice, Tensor};
use burn_backend::tensor::FloatTensor;
use mixlab_ops::{Backend, lift, lower};

use super::{Call, Dims, Site, axis, dims, reshape};
use crate::blocks::custom::fault::Fault;

/// The sizes that `shape` or `axes` asks for.
pub fn reshape_shape(site: &Site<'_>, inputs: &[Dims]) -> Result<Vec<Dims>, Fault> {
    let sizes = match (site.list("shape"), site.list("axes")) {
        (Some(sizes), None) | (None, Some(sizes)) => sizes,
        (None, None) => {
            return Err(Fault::new("`shape` is missing", "add the new sizes as `shape`"));
        }
        _ => {
            return Err(Fault::new(
                "has both `shape` and `axes`",
                "they mean the same; keep `shape`",
            ));
        }
    };
    let count: usize = inputs[0].iter().product();
    let known = sizes.iter().filter(|n| **n != -1);
    let known = positive(known)?.into_iter().try_fold(1usize, usize::checked_mul);
    let open = sizes.iter().filter(|n| **n == -1).count();
    let rest = match (open, known) {
        (0, Some(known)) if known == count && !sizes.is_empty() => Some(1),
        (1, Some(known)) if count.is_multiple_of(known) => Some(count / known),
        _ => None,
    };
    let Some(rest) = rest else {
        return Err(Fault::new(
            format!("`{count}` elements do not make {sizes:?}"),
            "the new sizes must multiply to the number of elements; one of them may be `-1`",
        ));
    };
    Ok(vec![sizes.iter().map(|n| usize::try_from(*n).unwrap_or(rest)).collect()])
}

/// Sizes, all of which must be positive.
fn positive<'a>(sizes: impl IntoIterator<Item = &'a i64>) -> Result<Dims, Fault> {
    let size = |n: &i64| usize::try_from(*n).ok().filter(|n| *n > 0).ok_or(*n);
    sizes
        .into_iter()
        .map(size)
        .collect::<Result<_, _>>()
        .map_err(|n| Fault::new(format!("`{n}` is not a size"), "sizes are integers of at least 1"))
}

/// Only the shape changes.
pub fn reshaped<B: Backend>(mut call: Call<'_, B>) -> Vec<FloatTensor<B>> {
    let [a] = call.take();
    call.shaped(a)
}

/// `axes` as a permutation of `rank` axes.
pub fn permutation(site: &Site<'_>, rank: usize) -> Result<Vec<usize>, Fault> {
    let axes = site.list("axes").unwrap_or_default();
    let counted = |n: &i64| usize::try_from(if *n < 0 { n + rank as i64 } else { *n }).ok();
    let order: Vec<usize> = axes.iter().filter_map(counted).collect();
    let mut sorted = order.clone();
    sorted.sort_unstable();
    if axes.len() != rank || !sorted.into_iter().eq(0..rank) {
        return Err(Fault::new(
            format!("`axes` {axes:?} is not an order of `{rank}` axes"),
            format!("name each of the axes 0 to {} once", rank - 1),
        ));
    }
    Ok(order)
}

/// The sizes in the order of `axes`.
pub fn transpose_shape(site: &Site<'_>, inputs: &[Dims]) -> Result<Vec<Dims>, Fault> {
    let order = permutation(site, inputs[0].len())?;
    Ok(vec![order.into_iter().map(|axis| inputs[0][axis]).collect()])
}

/// The axes in another order.
pub fn transpose<B: Backend>(mut call: Call<'_, B>) -> Vec<FloatTensor<B>> {
    let [a] = call.take();
    let order = permutation(&call.site, dims::<B>(&a).len());
    vec![B::float_permute(a, &order.expect("planning has checked the axes"))]
}

/// First index, end and step of a slice along an axis of `length`.
pub fn bounds(site: &Site<'_>, length: usize) -> Result<[usize; 3], Fault> {
    let length = length as i64;
    let from_end = |n: i64| if n < 0 { n.saturating_add(length) } else { n }.clamp(0, length);
    let (start, step) = (from_end(site.int("start")), site.int("step"));
    let end = from_end(site.given("end").unwrap_or(length));
    if step < 1 {
        return Err(Fault::new(format!("`step` is `{step}`"), "the step is at least 1"));
    }
    if start >= end {
        return Err(Fault::new(
            format!("there is nothing from `{start}` to before `{end}` in an axis of `{length}`"),
            "name `axis`, `start` and `end`; without names `axes` is [start, end, step, axis]",
        ));
    }
    Ok([start as usize, end as usize, step as usize])
}

/// The length of the slice along `axis`.
pub fn slice_shape(site: &Site<'_>, inputs: &[Dims]) -> Result<Vec<Dims>, Fault> {
    let mut shape = inputs[0].clone();
    let axis = axis(site, shape.len())?;
    let [start, end, step] = bounds(site, shape[axis])?;
    shape[axis] = (end - start).div_ceil(step);
    Ok(vec![shape])
}

/// Some elements of one axis.
pub fn slice<B: Backend>(mut call: Call<'_, B>) -> Vec<FloatTensor<B>> {
    let [a] = call.take();
    let shape = dims::<B>(&a);
    let axis = axis(&call.site, shape.len()).expect("planning has checked the axis");
    let [start, end, step] = bounds(&call.site, shape[axis]).expect("planning has checked them");
    let mut slices = vec![Slice::full(); shape.len()];
    slices[axis] = Slice::new(start as isize, Some(end as isize), step as isize);
    vec![B::float_slice(a, &slices)]
}

/// The sum of the lengths along `axis`; the other axes must be equal.
pub fn concat_shape(site: &Site<'_>, inputs: &[Dims]) -> Result<Vec<Dims>, Fault> {
    let [a, b] = inputs else { unreachable!("planning has counted the inputs") };
    let axis = axis(site, a.len())?;
    let others = |dims: &Dims| {
        dims.iter().enumerate().filter(|(n, _)| *n != axis).map(|(_, d)| *d).collect::<Dims>()
    };
    if a.len() != b.len() || others(a) != others(b) {
        return Err(Fault::new(
            format!("the inputs do not match beside axis `{axis}`"),
            "both need the same number of axes, and equal lengths in all but one of them",
        ));
    }
    let mut shape = a.clone();
    shape[axis] += b[axis];
    Ok(vec![shape])
}

/// One input after the other.
pub fn concat<B: Backend>(mut call: Call<'_, B>) -> Vec<FloatTensor<B>> {
    let axis = axis(&call.site, call.shapes[0].len()).expect("planning has checked the axis");
    vec![B::float_cat(std::mem::take(&mut call.inputs), axis)]
}

/// The shape of the indices, then that of one row of the table.
pub fn embed_shape(_: &Site<'_>, inputs: &[Dims]) -> Result<Vec<Dims>, Fault> {
    let [table, indices] = inputs else { unreachable!("planning has counted the inputs") };
    Ok(vec![[indices, &table[1..]].concat()])
}

/// Rows of a table.
pub fn embed<B: Backend>(mut call: Call<'_, B>) -> Vec<FloatTensor<B>> {
    let [table, indices] = call.take();
    let rows = dims::<B>(&table)[0] as i64;
    let count = dims::<B>(&indices).iter().product();
    let indices = lift::<B, 1>(reshape::<B>(B::float_detach(indices), &[count])).int();
    let negative = indices.clone().lower_elem(0);
    let indices = indices.clone().mask_where(negative, indices + rows).clamp(0, rows - 1);
    let picked = B::float_select(table, 0, Tensor::<B, 1, Int>::into_primitive(indices));
    call.shaped(picked)
}

/// How many numbers there are from `start` to before `end`.
pub fn arange_shape(site: &Site<'_>, _: &[Dims]) -> Result<Vec<Dims>, Fault> {
    let [start, end, step] = ["start", "end", "step"].map(|name| site.int(name));
    if step == 0 || start.cmp(&end) != 0.cmp(&step) {
        return Err(Fault::new(
            format!("there is nothing from `{start}` to before `{end}` in steps of `{step}`"),
            "`start` plus some steps must come before `end`",
        ));
    }
    let count = end.abs_diff(start).div_ceil(step.unsigned_abs());
    Ok(vec![vec![usize::try_from(count).unwrap_or(usize::MAX)]])
}

/// Numbers at equal distances, made where they are needed: exact as far as integers of 32 bits go.
pub fn arange<B: Backend>(call: Call<'_, B>) -> Vec<FloatTensor<B>> {
    let [start, step] = ["start", "step"].map(|name| call.site.int(name));
    let count = call.shapes[0][0] as i64;
    let numbers = Tensor::<B, 1, Int>::arange(0..count, call.device);
    let last = step.saturating_mul(count - 1).saturating_add(start);
    let is_exact = [start, step, last].iter().all(|n| i32::try_from(*n).is_ok());
    let numbers = match (start, step) {
        (0, 1) => numbers.float(),
        _ if is_exact => (numbers * step as i32 + start as i32).float(),
        _ => numbers.float() * step as f64 + start as f64,
    };
    vec![lower(numbers)]
}

/// The sizes of `shape`.
pub fn full_shape(site: &Site<'_>, _: &[Dims]) -> Result<Vec<Dims>, Fault> {
    let sizes = site.list("shape").unwrap_or_default();
    if sizes.is_empty() {
        return Err(Fault::new("`shape` is empty", "give at least one size"));
    }
    Ok(vec![positive(&sizes)?])
}

/// One number everywhere.
pub fn full<B: Backend>(call: Call<'_, B>) -> Vec<FloatTensor<B>> {
    let count: usize = call.shapes[0].iter().product();
    let value = call.site.float("value");
    call.shaped(lower(Tensor::<B, 1>::full([count], value, call.device)))
}
