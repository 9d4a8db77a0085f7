//! The tensors of a state as a safetensors file, one after the other.

use std::collections::BTreeMap;
use std::path::Path;

use ::safetensors::SafeTensors;
use ::safetensors::tensor::{Dtype, TensorView};
use burn::tensor::{DType, TensorData};
use mixlab_ops::Backend;
use serde_json::{Map, Value, json};

use crate::train::Held;
use crate::weights::padded;

/// The header of a file of `tensors` in their order, padded so that numbers lie at multiples of 8.
pub fn header<B: Backend>(tensors: &[Held<B>]) -> String {
    let (mut entries, mut offset) = (Map::new(), 0);
    for tensor in tensors {
        let (dtype, size) = match tensor.dtype() {
            DType::F64 => ("F64", 8),
            DType::U64 => ("U64", 8),
            _ => ("F32", 4),
        };
        let end = offset + size * tensor.shape.iter().product::<usize>();
        let entry = json!({"dtype": dtype, "shape": tensor.shape, "data_offsets": [offset, end]});
        entries.insert(tensor.name.clone(), entry);
        offset = end;
    }
    padded(Value::Object(entries).to_string())
}

/// All tensors of the file at `path`.
pub fn read(path: &Path) -> Result<BTreeMap<String, TensorData>, String> {
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| error.to_string())?;
    let data = |(name, view): (String, TensorView<'_>)| {
        let shape = view.shape().to_vec();
        let (fours, eights) = (view.data().as_chunks().0, view.data().as_chunks().0);
        let data = match view.dtype() {
            Dtype::F32 => {
                let values = fours.iter().map(|b| f32::from_le_bytes(*b));
                TensorData::new(values.collect::<Vec<_>>(), shape)
            }
            Dtype::F64 => {
                let values = eights.iter().map(|b| f64::from_le_bytes(*b));
                TensorData::new(values.collect::<Vec<_>>(), shape)
            }
            Dtype::U64 => {
                let values = eights.iter().map(|b| u64::from_le_bytes(*b));
                TensorData::new(values.collect::<Vec<_>>(), shape)
            }
            other => return Err(format!("`{name}` has type {other:?}")),
        };
        Ok((name, data))
    };
    file.tensors().into_iter().map(data).collect()
}
