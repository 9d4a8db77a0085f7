//! Lengths in a graph: as constants where they are, else computed from the shapes of inputs.

use super::super::OnnxError;
use super::super::extent::{Extent, Quotient};
use super::super::graph::{Attribute, Graph, Place};
use super::super::trace::Traced;

/// The name of a tensor `[1]` with the value of `extent`.
pub(super) fn length(
    traced: &Traced,
    graph: &mut Graph,
    extent: &Extent,
) -> Result<String, OnnxError> {
    if let Some(value) = extent.constant() {
        return Ok(graph.ints(&[value]));
    }
    let (constant, terms) = extent.terms();
    let mut sum: Option<String> = None;
    for (factors, factor) in terms {
        let mut term = product(traced, graph, factors)?;
        if factor != 1 {
            term = shared(graph, "Mul", &term, factor);
        }
        sum = Some(match sum {
            None => term,
            Some(sum) => {
                let key = format!("Add {sum} {term}");
                graph.shared("length", key, |graph| graph.node("Add", &[&sum, &term], vec![]))
            }
        });
    }
    let sum = sum.expect("only constants have no terms");
    Ok(if constant == 0 { sum } else { shared(graph, "Add", &sum, constant) })
}

fn shared(graph: &mut Graph, op: &str, x: &str, value: i64) -> String {
    graph.shared("length", format!("{op} {x} {value}"), |graph| {
        let value = graph.ints(&[value]);
        graph.node(op, &[x, &value], vec![])
    })
}

/// The product of axes and quotients.
fn product(traced: &Traced, graph: &mut Graph, factors: &[usize]) -> Result<String, OnnxError> {
    let [first, rest @ ..] = factors else { unreachable!("only the constant has no factors") };
    let mut all = factor_length(traced, graph, *first)?;
    for axis in rest {
        let axis = factor_length(traced, graph, *axis)?;
        let key = format!("Mul {all} {axis}");
        all = graph.shared("length", key, |graph| graph.node("Mul", &[&all, &axis], vec![]));
    }
    Ok(all)
}

/// The value of an axis, or of a quotient.
fn factor_length(traced: &Traced, graph: &mut Graph, number: usize) -> Result<String, OnnxError> {
    let Some(Quotient { of, plus, by }) = traced.basis.quotient(number) else {
        return axis_length(traced, graph, number);
    };
    // Division of ONNX drops what is behind the point, and no length is negative.
    let whole = length(traced, graph, &of.plus(&Extent::fixed(*plus)))?;
    Ok(shared(graph, "Div", &whole, *by))
}

/// The length of a dynamic axis: off the first input that has it, or that has it beside other lengths.
fn axis_length(traced: &Traced, graph: &mut Graph, axis: usize) -> Result<String, OnnxError> {
    let (wanted, name) = (traced.basis.axis(axis), &traced.axes[axis]);
    if let Some((input, place)) = find(traced, |extent| *extent == wanted) {
        return Ok(read(graph, name, &input, place));
    }
    let beside = |extent: &Extent| {
        let rest = extent.minus(&wanted);
        let mut others = rest.terms().1;
        extent.has(&wanted) && others.all(|(factors, _)| !factors.contains(&axis))
    };
    let found = find(traced, beside).ok_or_else(|| OnnxError::Axis { axis: name.clone() });
    let (input, place) = found?;
    let port = traced.program().inputs().iter().find(|port| port.name == input);
    let all = &traced.extents(port.expect("it was found there").value)[place as usize];
    let rest = length(traced, graph, &all.minus(&wanted))?;
    let all = read(graph, "length", &input, place);
    let key = format!("Sub {all} {rest}");
    Ok(graph.shared(name, key, |graph| graph.node("Sub", &[&all, &rest], vec![])))
}

/// The first input with an axis that is `wanted`, and the place of the axis.
fn find(traced: &Traced, wanted: impl Fn(&Extent) -> bool) -> Option<(String, i64)> {
    traced.program().inputs().iter().find_map(|port| {
        let place = traced.extents(port.value).iter().position(&wanted)?;
        Some((port.name.clone(), place as i64))
    })
}

/// The length of one axis of an input, called `name`.
fn read(graph: &mut Graph, name: &str, input: &str, place: i64) -> String {
    graph.shared(name, format!("Shape {input} {place}"), |graph| {
        let ends = vec![Attribute::Int("start", place), Attribute::Int("end", place + 1)];
        graph.node("Shape", &[input], ends)
    })
}

/// The name of a tensor with the lengths `extents`.
pub(super) fn lengths(
    traced: &Traced,
    graph: &mut Graph,
    extents: &[Extent],
) -> Result<String, OnnxError> {
    let fixed: Option<Vec<i64>> = extents.iter().map(Extent::constant).collect();
    if let Some(fixed) = fixed {
        return Ok(graph.ints(&fixed));
    }
    let before = graph.turn_to(Place::Prologue);
    let parts = extents.iter().map(|extent| length(traced, graph, extent));
    let parts = parts.collect::<Result<Vec<_>, _>>();
    graph.turn_to(before);
    let parts = parts?;
    Ok(graph.shared("shape", format!("Concat {parts:?}"), |graph| {
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        graph.node("Concat", &parts, vec![Attribute::Int("axis", 0)])
    }))
}

/// The name of the integers from `start` to before `end`.
pub(super) fn counted(
    traced: &Traced,
    graph: &mut Graph,
    start: &Extent,
    end: &Extent,
) -> Result<String, OnnxError> {
    let before = graph.turn_to(Place::Prologue);
    let ends = [start, end].map(|at| length(traced, graph, at));
    graph.turn_to(before);
    let [start, end] = ends;
    let (start, end) = (start?, end?);
    Ok(graph.shared("positions", format!("Range {start} {end}"), |graph| {
        let step = graph.ints(&[1]);
        let scalars = [start, end, step].map(|x| graph.node("Squeeze", &[&x], vec![]));
        graph.node("Range", &scalars.each_ref().map(String::as_str), vec![])
    }))
}

/// The last input of a `Reshape` from `from` to `to`: without computing anything if one length
/// follows from the others.
pub(super) fn reshape(
    traced: &Traced,
    graph: &mut Graph,
    from: &[Extent],
    to: &[Extent],
) -> Result<String, OnnxError> {
    let kept = |axis: usize| from.get(axis) == Some(&to[axis]);
    let open = |axis: &usize| to[*axis].constant().is_none() && !kept(*axis);
    let place = |axis: usize| match to[axis].constant() {
        Some(length) => length,
        None if kept(axis) => 0,
        None => -1,
    };
    match (0..to.len()).filter(open).count() {
        0 | 1 => Ok(graph.ints(&(0..to.len()).map(place).collect::<Vec<_>>())),
        _ => lengths(traced, graph, to),
    }
}

/// The name of a tensor `[1]` with a place along an axis of length `end`: counted from the end where
/// that makes it a constant.
pub(super) fn position(
    traced: &Traced,
    graph: &mut Graph,
    at: &Extent,
    end: &Extent,
) -> Result<String, OnnxError> {
    if at == end {
        return Ok(graph.ints(&[i64::MAX]));
    }
    match (at.constant(), at.minus(end).constant()) {
        (None, Some(back)) if back < 0 => Ok(graph.ints(&[back])),
        _ => length(traced, graph, at),
    }
}
