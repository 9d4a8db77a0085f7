//! Tensors with names, as safetensors in one file or in several with an index.

use std::io::Write;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::HubError;
use super::error::io;
use crate::files::replace_file;

/// A tensor of 32-bit floats, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its elements.
    pub values: Vec<f32>,
}

impl Named {
    /// Bytes of its elements.
    fn bytes(&self) -> usize {
        4 * self.values.len()
    }
}

/// Writes `tensors` to `folder`: as `model.safetensors`, or as several files of at most `most` bytes
/// (or of one tensor) and `model.safetensors.index.json`. Returns the names of the weight files.
pub(super) fn write(
    folder: &Path,
    tensors: &[Named],
    most: usize,
) -> Result<Vec<String>, HubError> {
    let shards = shards(tensors, most);
    let count = shards.len();
    let name = |index: usize| match count {
        1 => "model.safetensors".to_owned(),
        _ => format!("model-{:05}-of-{count:05}.safetensors", index + 1),
    };
    let mut map = Map::new();
    for (index, shard) in shards.iter().enumerate() {
        let path = folder.join(name(index));
        replace_file(&path, |file| write_file(file, shard)).map_err(io("write", &path))?;
        map.extend(shard.iter().map(|tensor| (tensor.name.clone(), name(index).into())));
    }
    let index = folder.join("model.safetensors.index.json");
    if count > 1 {
        let size: usize = tensors.iter().map(Named::bytes).sum();
        let text = json!({"metadata": {"total_size": size}, "weight_map": map});
        replace_file(&index, |file| writeln!(file, "{text:#}")).map_err(io("write", &index))?;
    } else if index.exists() {
        // Of a larger model that was here: loaders prefer it.
        std::fs::remove_file(&index).map_err(io("remove", &index))?;
    }
    Ok((0..count).map(name).collect())
}

/// Runs of tensors that together have at most `most` bytes.
fn shards(tensors: &[Named], most: usize) -> Vec<&[Named]> {
    let mut shards = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (index, tensor) in tensors.iter().enumerate() {
        if index > start && bytes + tensor.bytes() > most {
            shards.push(&tensors[start..index]);
            (start, bytes) = (index, 0);
        }
        bytes += tensor.bytes();
    }
    shards.push(&tensors[start..]);
    shards
}

fn write_file(file: &mut impl Write, tensors: &[Named]) -> std::io::Result<()> {
    let mut header = Map::new();
    // Without it `transformers` refuses a file.
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut at = 0;
    for tensor in tensors {
        let offsets = [at, at + tensor.bytes()];
        let entry = json!({"dtype": "F32", "shape": tensor.shape, "data_offsets": offsets});
        header.insert(tensor.name.clone(), entry);
        at += tensor.bytes();
    }
    let mut header = Value::Object(header).to_string();
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    tensors.iter().try_for_each(|tensor| file.write_all(&little_endian(&tensor.values)))
}

/// The bytes of `values` as files have them.
pub(super) fn little_endian(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_models_are_several_files_with_an_index() {
        let folder = tempfile::tempdir().unwrap();
        let tensor = |name: &str, count: usize| Named {
            name: name.into(),
            shape: vec![count],
            values: (0..count).map(|i| i as f32).collect(),
        };
        let tensors = [tensor("a", 3), tensor("b", 100), tensor("c", 2), tensor("d", 4)];
        let names = write(folder.path(), &tensors, 24).unwrap();
        let shard = |n: usize| format!("model-0000{n}-of-00003.safetensors");
        assert_eq!(names, [shard(1), shard(2), shard(3)]);
        let index = folder.path().join("model.safetensors.index.json");
        let index: Value = serde_json::from_slice(&std::fs::read(&index).unwrap()).unwrap();
        assert_eq!(index["metadata"]["total_size"], 4 * 109);
        for tensor in &tensors {
            let file = index["weight_map"][&tensor.name].as_str().unwrap();
            let bytes = std::fs::read(folder.path().join(file)).unwrap();
            let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            let read = file.tensor(&tensor.name).unwrap();
            assert_eq!(
                (read.shape(), read.data()),
                (&tensor.shape[..], &*little_endian(&tensor.values))
            );
        }
        assert_eq!(write(folder.path(), &tensors, 4000).unwrap(), ["model.safetensors"]);
        assert!(!folder.path().join("model.safetensors.index.json").exists());
    }
}
