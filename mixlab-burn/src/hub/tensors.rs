//! Tensors with names, as safetensors in one file or in several with an index.

use std::io::{self, Write};
use std::path::Path;

use serde_json::{Map, Value, json};

use super::HubError;
use super::error::io as failed;
use crate::files::replace_file;
use crate::weights::{Source, padded};

/// Elements that are made at a time.
const PIECE: usize = 1 << 18;

/// A tensor of 32-bit floats that is made when it is written, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// What its elements are made of.
    pub elements: Elements,
}

/// What the elements of a tensor are made of: a few numbers, or a weight of the model, by its place.
#[derive(Clone, Debug, PartialEq)]
pub enum Elements {
    /// These.
    Given(Vec<f32>),
    /// All the same.
    Same(f32),
    /// Those of a weight.
    Weight(usize),
    /// The rows of a weight `[·, D]`, each with zeros after it.
    Padded {
        /// The weight.
        weight: usize,
        /// Its width `D`.
        width: usize,
    },
    /// The columns of a weight `[in, out]` as rows: each with a factor, and zeros after it.
    Turned {
        /// The weight.
        weight: usize,
        /// Column and factor of each row; further rows are zeros.
        rows: Vec<(usize, f32)>,
        /// Its width `out`.
        width: usize,
    },
}

impl Named {
    /// Elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of its elements.
    pub(super) fn bytes(&self) -> usize {
        4 * self.len()
    }

    /// Writes the elements: no more than the weight that they are made of is held at once. An error of
    /// `source` is within the one that is returned.
    pub(super) fn write(&self, source: &mut dyn Source, file: &mut impl Write) -> io::Result<()> {
        let mut put = |values: &[f32]| {
            values.chunks(PIECE).try_for_each(|piece| file.write_all(&little_endian(piece)))
        };
        let mut read = |index: usize| source.read(index).map_err(io::Error::other);
        let to = self.shape.last().copied().unwrap_or(1).max(1);
        match &self.elements {
            Elements::Given(values) => put(values),
            Elements::Weight(index) => put(&read(*index)?),
            Elements::Same(value) => {
                let piece = vec![*value; PIECE.min(self.len())];
                let pieces = (0..self.len()).step_by(PIECE).map(|at| PIECE.min(self.len() - at));
                pieces.into_iter().try_for_each(|count| put(&piece[..count]))
            }
            Elements::Padded { weight, width } => {
                let values = read(*weight)?;
                let few = (PIECE / to).max(1);
                values.chunks(few * width).try_for_each(|rows| {
                    let mut padded = Vec::with_capacity(few * to);
                    for row in rows.chunks(*width) {
                        padded.extend_from_slice(row);
                        padded.resize(padded.len() + to - width, 0.0);
                    }
                    put(&padded)
                })
            }
            Elements::Turned { weight, rows, width } => {
                let values = read(*weight)?;
                let few = (PIECE / to).max(1);
                rows.chunks(few).try_for_each(|some| put(&turned(&values, some, *width, to)))?;
                (rows.len()..self.shape[0]).try_for_each(|_| put(&vec![0.0; to]))
            }
        }
    }
}

/// Columns of `values` `[in, width]` as rows of `to` elements.
fn turned(values: &[f32], rows: &[(usize, f32)], width: usize, to: usize) -> Vec<f32> {
    let mut all = vec![0.0; rows.len() * to];
    // Along the rows of the weight, which lie together.
    for (place, row) in values.chunks(width).enumerate() {
        for (at, (column, factor)) in rows.iter().enumerate() {
            all[at * to + place] = row[*column] * factor;
        }
    }
    all
}

/// Writes `tensors` to `folder`: as `model.safetensors`, or as several files of at most `most` bytes
/// (or of one tensor) and `model.safetensors.index.json`. Returns the names of the weight files.
pub(super) fn write(
    folder: &Path,
    tensors: &[Named],
    source: &mut dyn Source,
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
        replace_file(&path, |file| write_file(file, shard, source))
            .map_err(failed("write", &path))?;
        map.extend(shard.iter().map(|tensor| (tensor.name.clone(), name(index).into())));
    }
    let index = folder.join("model.safetensors.index.json");
    if count > 1 {
        let size: usize = tensors.iter().map(Named::bytes).sum();
        let text = json!({"metadata": {"total_size": size}, "weight_map": map});
        replace_file(&index, |file| writeln!(file, "{text:#}")).map_err(failed("write", &index))?;
    } else if index.exists() {
        // Of a larger model that was here: loaders prefer it.
        std::fs::remove_file(&index).map_err(failed("remove", &index))?;
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

fn write_file(file: &mut impl Write, tensors: &[Named], source: &mut dyn Source) -> io::Result<()> {
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
    let header = padded(Value::Object(header).to_string());
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    tensors.iter().try_for_each(|tensor| tensor.write(source, file))
}

/// The bytes of `values` as files have them.
fn little_endian(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::WeightError;

    /// Weights that are given.
    struct Given(Vec<Vec<f32>>);

    impl Source for Given {
        fn read(&mut self, index: usize) -> Result<Vec<f32>, WeightError> {
            Ok(self.0[index].clone())
        }
    }

    fn numbers(count: usize) -> Vec<f32> {
        (0..count).map(|i| i as f32 + 1.0).collect()
    }

    #[test]
    fn large_models_are_several_files_with_an_index() {
        let folder = tempfile::tempdir().unwrap();
        let counts = [3, 100, 2, 4];
        let tensor = |(index, name): (usize, &str)| Named {
            name: name.into(),
            shape: vec![counts[index]],
            elements: Elements::Weight(index),
        };
        let tensors: Vec<Named> =
            ["a", "b", "c", "d"].into_iter().enumerate().map(tensor).collect();
        let mut source = Given(counts.map(numbers).into());
        let names = write(folder.path(), &tensors, &mut source, 24).unwrap();
        let shard = |n: usize| format!("model-0000{n}-of-00003.safetensors");
        assert_eq!(names, [shard(1), shard(2), shard(3)]);
        let index = folder.path().join("model.safetensors.index.json");
        let index: Value = serde_json::from_slice(&std::fs::read(&index).unwrap()).unwrap();
        assert_eq!(index["metadata"]["total_size"], 4 * 109);
        for (tensor, values) in tensors.iter().zip(&source.0) {
            let file = index["weight_map"][&tensor.name].as_str().unwrap();
            let bytes = std::fs::read(folder.path().join(file)).unwrap();
            let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            let read = file.tensor(&tensor.name).unwrap();
            assert_eq!((read.shape(), read.data()), (&tensor.shape[..], &*little_endian(values)));
        }
        let whole = write(folder.path(), &tensors, &mut source, 4000).unwrap();
        assert_eq!(whole, ["model.safetensors"]);
        assert!(!folder.path().join("model.safetensors.index.json").exists());
    }

    /// What `elements` of a weight become as a tensor of `shape`.
    fn made(elements: Elements, shape: &[usize], weight: &[f32]) -> Vec<f32> {
        let tensor = Named { name: "t".into(), shape: shape.into(), elements };
        let mut bytes = Vec::new();
        tensor.write(&mut Given(vec![weight.to_vec()]), &mut bytes).unwrap();
        bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    #[test]
    fn tensors_are_made_of_weights_by_rows_and_columns() {
        let weight = numbers(6);
        let padded = Elements::Padded { weight: 0, width: 3 };
        assert_eq!(
            made(padded, &[2, 5], &weight),
            [1.0, 2.0, 3.0, 0.0, 0.0, 4.0, 5.0, 6.0, 0.0, 0.0]
        );
        let rows = vec![(2, 1.0), (0, -2.0)];
        let turned = Elements::Turned { weight: 0, rows, width: 3 };
        assert_eq!(made(turned, &[3, 3], &weight), [3.0, 6.0, 0.0, -2.0, -8.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(made(Elements::Weight(0), &[2, 3], &weight), weight);
        assert_eq!(made(Elements::Given(vec![7.0]), &[1], &weight), [7.0]);
    }

    #[test]
    fn tensors_of_many_pieces_are_whole() {
        let [rows, width, to] = [700, 900, 960];
        let weight = numbers(rows * width);
        let padded = made(Elements::Padded { weight: 0, width }, &[rows, to], &weight);
        let columns: Vec<(usize, f32)> = (0..width).rev().map(|c| (c, 0.5)).collect();
        let turned =
            made(Elements::Turned { weight: 0, rows: columns, width }, &[width, to], &weight);
        assert_eq!((padded.len(), turned.len()), (rows * to, width * to));
        for (row, column) in [(0, 0), (699, 899), (300, 511), (273, 1)] {
            let value = weight[row * width + column];
            assert_eq!(padded[row * to + column], value);
            assert_eq!(turned[(width - 1 - column) * to + row], value * 0.5);
        }
        assert!(turned[700..960].iter().all(|v| *v == 0.0));
        let same = made(Elements::Same(3.0), &[rows, width], &[]);
        assert_eq!(same, vec![3.0; rows * width]);
    }
}
