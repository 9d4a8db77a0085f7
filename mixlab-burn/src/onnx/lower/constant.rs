//! Data that a forward carries: constants where they are the same at all sizes, else ranges.

use burn::tensor::{DType, TensorData};
use mixlab_ops::capture::{Origin, Program, ValueId};

use super::super::OnnxError;
use super::super::extent::Extent;
use super::super::graph::{Attribute, Graph, data_type, tensor_proto};
use super::super::place::place;
use super::super::trace::Traced;
use super::shape::{counted, length, lengths};

/// Elements of a constant that is written where it is read.
const SMALL: usize = 64;

/// The name of the constant `id`.
pub(super) fn lower(traced: &Traced, id: ValueId, graph: &mut Graph) -> Result<String, OnnxError> {
    let data = |program: &Program| match program.value(id).origin {
        Origin::Constant(place) => program.constants()[place].data.clone(),
        _ => unreachable!("asked for constants only"),
    };
    let all: Vec<TensorData> = traced.programs().iter().map(data).collect();
    if all.iter().all(|data| *data == all[0]) {
        let data = &all[0];
        if data_type(data.dtype).is_none() {
            return Err(varies(traced, id, "its type is none of ONNX"));
        }
        if data.num_elements() <= SMALL {
            return Ok(graph.constant(data));
        }
        let name = format!("constant{}", id.index());
        if graph.constants.iter().all(|constant| constant.name != name) {
            graph.constants.push(tensor_proto(&name, data));
        }
        return Ok(name);
    }
    if let Some(element) = element(&all) {
        let shape = lengths(traced, graph, traced.extents(id))?;
        let value = vec![Attribute::Tensor("value", tensor_proto("", &element))];
        return Ok(graph.node("ConstantOfShape", &[&shape], value));
    }
    let Some(Range { start, count, step }) = range(traced, &all) else {
        let reason = "its data depend on sizes, and do not count up or down by whole numbers";
        return Err(varies(traced, id, reason));
    };
    let dtype = i64::from(data_type(all[0].dtype).expect("ranges are of types that ONNX has"));
    let to = vec![Attribute::Int("to", dtype)];
    if step == 1 {
        let places = counted(traced, graph, &start, &start.plus(&count))?;
        let key = format!("cast {places} {dtype}");
        return Ok(graph.shared("positions", key, |graph| graph.node("Cast", &[&places], to)));
    }
    if step == 0 {
        let (value, shape) =
            (length(traced, graph, &start)?, lengths(traced, graph, traced.extents(id))?);
        let value = graph.node("Cast", &[&value], to);
        return Ok(graph.node("Expand", &[&value, &shape], vec![]));
    }
    let places = counted(traced, graph, &Extent::fixed(0), &count)?;
    let (step, start) = (graph.ints(&[step]), length(traced, graph, &start)?);
    let offsets = graph.node("Mul", &[&places, &step], vec![]);
    let places = graph.node("Add", &[&offsets, &start], vec![]);
    Ok(graph.node("Cast", &[&places], to))
}

fn varies(traced: &Traced, id: ValueId, reason: &str) -> OnnxError {
    let program = traced.program();
    let reader = program.nodes().iter().find(|node| node.inputs.contains(&id));
    let (operation, part) = match reader {
        Some(node) => (format!("a constant of {}", node.name), place(program, node)),
        None => ("a constant".into(), "the forward".into()),
    };
    let shapes = format!(" {}", program.value(id));
    OnnxError::Unsupported { operation, shapes, part, reason: reason.into() }
}

/// The one element, as `[1]`, that all of `data` consist of.
fn element(data: &[TensorData]) -> Option<TensorData> {
    let size = data[0].dtype.size();
    let first = data[0].as_bytes().get(..size)?;
    let same = data.iter().all(|data| data.as_bytes().chunks(size).all(|one| one == first));
    same.then(|| TensorData::from_bytes_vec(first.to_vec(), [1], data[0].dtype))
}

/// Numbers `start`, `start + step` … as forms of the axes.
struct Range {
    start: Extent,
    count: Extent,
    step: i64,
}

/// The numbers that `data` count through at each size, along one axis if they are several.
fn range(traced: &Traced, data: &[TensorData]) -> Option<Range> {
    let counting = |data: &TensorData| -> Option<[i64; 3]> {
        let values = whole(data)?;
        let first = *values.first()?;
        let step = values.get(1).map_or(0, |second| second - first);
        let counts = values.windows(2).all(|pair| pair[1] - pair[0] == step);
        // All of one number may have any shape.
        (counts && (step == 0 || data.shape.len() == 1)).then_some([
            first,
            values.len() as i64,
            step,
        ])
    };
    let all: Vec<[i64; 3]> = data.iter().map(counting).collect::<Option<_>>()?;
    let form = |i: usize| traced.basis.solve(&all.iter().map(|of| of[i]).collect::<Vec<_>>());
    Some(Range { start: form(0)?, count: form(1)?, step: form(2)?.constant()? })
}

/// The elements of `data`, if they are whole numbers; those of floats only as far as these count by ones.
fn whole(data: &TensorData) -> Option<Vec<i64>> {
    match data.dtype {
        DType::I64 | DType::I32 => Some(data.iter::<i64>().collect()),
        DType::F32 => {
            let values: Vec<f32> = data.iter::<f32>().collect();
            let whole = |value: &f32| value.fract() == 0.0 && value.abs() < 16_777_216.0;
            values.iter().all(whole).then(|| values.iter().map(|value| *value as i64).collect())
        }
        _ => None,
    }
}
