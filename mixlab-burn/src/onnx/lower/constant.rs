//! Data that a forward carries: constants where they are the same at all sizes, else ranges.

use burn::tensor::{DType, TensorData};
use mixlab_ops::capture::{Origin, Program, ValueId};

use super::super::OnnxError;
use super::super::extent::Extent;
use super::super::graph::{Attribute, Graph, data_type, tensor_proto};
use super::super::place::place;
use super::super::trace::Traced;
use super::shape::{counted, lengths};

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
    let reason = "its data depend on sizes and are no range of integers";
    let range = range(traced, &all).ok_or_else(|| varies(traced, id, reason))?;
    let [start, end, step] = range;
    if step.constant() != Some(1) {
        return Err(varies(traced, id, reason));
    }
    let range = counted(traced, graph, &start, &end)?;
    let key = format!("cast {range} {:?}", all[0].dtype);
    let dtype = i64::from(data_type(all[0].dtype).expect("ranges are of integers"));
    let to = vec![Attribute::Int("to", dtype)];
    Ok(graph.shared("positions", key, |graph| graph.node("Cast", &[&range], to)))
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

/// Start, end and step of one-dimensional `data` that count, as forms.
fn range(traced: &Traced, data: &[TensorData]) -> Option<[Extent; 3]> {
    let integers = |data: &TensorData| -> Option<[i64; 3]> {
        let integral = matches!(data.dtype, DType::I64 | DType::I32);
        let values: Vec<i64> = data.iter::<i64>().collect();
        let step = values.get(1)? - values[0];
        let counts = values.windows(2).all(|pair| pair[1] - pair[0] == step);
        let one_axis = data.shape.len() == 1;
        let end = values[0] + step * values.len() as i64;
        (integral && one_axis && counts && step != 0).then_some([values[0], end, step])
    };
    let all: Vec<[i64; 3]> = data.iter().map(integers).collect::<Option<_>>()?;
    let form = |i: usize| traced.basis.solve(&all.iter().map(|of| of[i]).collect::<Vec<_>>());
    Some([form(0)?, form(1)?, form(2)?])
}
