//! Weight files: safetensors in the layout of mixlab 0.10.1.
//!
//! Written files are byte for byte what the original writes: header keys sorted, no padding, the
//! payload in the order of weights. Read files may also hold f16, bf16, or int8 with one scale a
//! row (`name.scale`).

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use ::safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, TensorView};
use burn::module::Module;
use burn::tensor::backend::Backend;
use half::{bf16, f16};
use serde_json::json;

use super::quantize::{packed_len, unpack6};
use super::source::{Bytes, Source, WeightFile};
use super::{Weight, fill, foreign, layout, repeated, values};
use crate::config::shortened;
use crate::files::{self, Replacement};

/// One tensor of a file that is written.
pub(super) struct Entry {
    pub name: String,
    pub dtype: &'static str,
    pub shape: Vec<usize>,
    pub bytes: usize,
}

/// What a weight file says about itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Metadata {
    /// Label of the model.
    pub name: String,
    /// Width of the residual stream.
    pub dim: usize,
    /// Vocabulary size.
    pub vocab: usize,
    /// Tokens in a row.
    pub seq_len: usize,
    /// Total steps of the training plan.
    pub steps: usize,
}

/// Why a weight file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightError {
    /// The file system refused.
    #[error("cannot {action} `{}`: {source}\n  hint: {}", .path.display(), files::hint(source))]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is not safetensors.
    #[error("`{}` is not a safetensors file: {source}\n  hint: it may be cut off; export it again", .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: SafeTensorError,
    },
    /// The file is of another kind, which its first bytes tell.
    #[error("`{}` is not a safetensors file, but {what}\n  hint: {hint}", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
        /// What can be done.
        hint: &'static str,
    },
    /// Two tensors have one name.
    #[error("`{}` has two tensors `{}`\n  hint: write it anew, with a name for each", .path.display(), shortened(.tensor))]
    Repeated {
        /// The file.
        path: PathBuf,
        /// Their name.
        tensor: String,
    },
    /// A tensor of the model has a number in the file that no model can compute with.
    #[error("`{}`: tensor `{tensor}` holds `{value}` at position `{position}`\n  hint: the run that wrote it had broken down; take weights of an earlier one", .path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// Name of the tensor.
        tensor: String,
        /// Index of the first such number, row by row.
        position: usize,
        /// The number: NaN or infinite.
        value: f32,
    },
    /// A tensor of the model is not in the file, or not as the model has it.
    #[error("`{}`: tensor `{tensor}` {problem}\n  hint: load weights with the config that they were trained with", .path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// Name of the tensor.
        tensor: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// Writes the weights of `module` to `path`, replacing it only when all is written.
///
/// # Errors
/// If the file cannot be written; an existing one is then untouched.
pub fn save<B: Backend, M: Module<B>>(
    module: &M,
    path: &Path,
    metadata: &Metadata,
) -> Result<usize, WeightError> {
    write(module, reserve(path)?, metadata)
}

/// Makes sure that weights can be written to `path`, before there are any.
///
/// # Errors
/// If they cannot, or if another process is going to write there.
pub fn reserve(path: &Path) -> Result<Replacement, WeightError> {
    let failed = |source| WeightError::Io { action: "write", path: path.into(), source };
    Replacement::begin(path).map_err(failed)
}

/// Writes the weights of `module` to a place that was reserved.
///
/// # Errors
/// If the file cannot be written; an existing one is then untouched.
pub fn write<B: Backend, M: Module<B>>(
    module: &M,
    place: Replacement,
    metadata: &Metadata,
) -> Result<usize, WeightError> {
    let weights = layout(module);
    let header = header(&weights, metadata);
    let path = place.path().to_owned();
    let written = place.commit(|file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        for values in values(module) {
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            file.write_all(&bytes)?;
        }
        Ok(())
    });
    written.map_err(|source| WeightError::Io { action: "write", path, source })?;
    Ok(weights.len())
}

pub(crate) fn header(weights: &[Weight], metadata: &Metadata) -> String {
    let entry = |(index, weight): (usize, &Weight)| Entry {
        name: weight.file_name(index),
        dtype: "F32",
        shape: weight.shape.clone(),
        bytes: 4 * weight.len(),
    };
    header_of(weights.iter().enumerate().map(entry), metadata, &[])
}

/// The header of a file of `tensors` in the order of its payload; `more` goes to its metadata.
pub(super) fn header_of(
    tensors: impl Iterator<Item = Entry>,
    metadata: &Metadata,
    more: &[(&str, String)],
) -> String {
    let mut entries = BTreeMap::new();
    let mut offset = 0;
    for Entry { name, dtype, shape, bytes } in tensors {
        let end = offset + bytes;
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": [offset, end]});
        entries.insert(name, entry);
        offset = end;
    }
    let known = [
        ("format", "mixlab_v1".to_string()),
        ("model_dim", metadata.dim.to_string()),
        ("name", metadata.name.clone()),
        ("seq_len", metadata.seq_len.to_string()),
        ("steps", metadata.steps.to_string()),
        ("vocab_size", metadata.vocab.to_string()),
    ];
    // Sorted, as the original writes them.
    let about: BTreeMap<&str, &String> =
        known.iter().chain(more).map(|(key, text)| (*key, text)).collect();
    entries.insert("__metadata__".into(), json!(about));
    let plain = serde_json::to_string(&entries).expect("strings and numbers serialize");
    // These characters only occur inside strings; the original escapes them.
    plain.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

/// A header of safetensors, with spaces at its end up to a multiple of eight bytes.
pub(crate) fn padded(mut header: String) -> String {
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    header
}

/// The tensors in the `bytes` of the file at `path`, or what is there in their place.
pub(super) fn open<'a>(path: &Path, bytes: &'a [u8]) -> Result<SafeTensors<'a>, WeightError> {
    if let Some(tensor) = repeated::name(bytes) {
        return Err(WeightError::Repeated { path: path.to_owned(), tensor });
    }
    SafeTensors::deserialize(bytes).map_err(|source| {
        let path = path.to_owned();
        match foreign::named(bytes) {
            Some((what, hint)) => WeightError::Foreign { path, what, hint },
            None => WeightError::Format { path, source },
        }
    })
}

/// Replaces all weights of `module` by those in the file at `path`.
///
/// Tensors that the model does not have are ignored.
///
/// # Errors
/// If the file is not safetensors, or lacks a tensor, or has it in another shape or type, or with
/// numbers that are not finite.
pub fn load<B: Backend, M: Module<B>>(module: M, path: &Path) -> Result<M, WeightError> {
    let bytes = Bytes::open(path)?;
    let mut file = WeightFile::new(path, &bytes, layout(&module))?;
    let mut failed = None;
    let module = fill(module, |index, _| {
        if failed.is_some() {
            return None;
        }
        file.read(index).map_err(|error| failed = Some(error)).ok()
    });
    failed.map_or(Ok(module), Err)
}

/// Refuses `values` of `tensor` that no model can compute with.
pub(super) fn check(values: &[f32], path: &Path, tensor: &str) -> Result<(), WeightError> {
    let Some(position) = values.iter().position(|value| !value.is_finite()) else { return Ok(()) };
    let (path, tensor, value) = (path.into(), tensor.into(), values[position]);
    Err(WeightError::NotFinite { path, tensor, position, value })
}

pub(super) fn read(
    file: &SafeTensors<'_>,
    name: &str,
    weight: &Weight,
) -> Result<Vec<f32>, String> {
    let view = file.tensor(name).map_err(|_| {
        let near = file.names().into_iter().find(|n| n.ends_with(&format!("_{}", weight.name)));
        match near {
            Some(near) => format!("is missing (the file has `{near}`)"),
            None => "is missing".to_string(),
        }
    })?;
    if view.dtype() == Dtype::U8 {
        return unpack(file, name, &view, weight);
    }
    if view.shape() != weight.shape {
        return Err(format!("has shape {:?}, the model {:?}", view.shape(), weight.shape));
    }
    let bytes = view.data();
    match view.dtype() {
        Dtype::F32 => Ok(f32s(bytes)),
        Dtype::F16 => Ok(pairs(bytes).map(|b| f16::from_le_bytes(b).to_f32()).collect()),
        Dtype::BF16 => Ok(pairs(bytes).map(|b| bf16::from_le_bytes(b).to_f32()).collect()),
        Dtype::I8 => dequantize(file, name, &view),
        other => Err(format!("has type {other:?}; use F32, F16, BF16 or quantized I8")),
    }
}

fn f32s(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

fn pairs(bytes: &[u8]) -> impl Iterator<Item = [u8; 2]> {
    bytes.as_chunks().0.iter().copied()
}

/// The scales of the rows of a quantized tensor.
fn scales(file: &SafeTensors<'_>, name: &str, rows: usize) -> Result<Vec<f32>, String> {
    let scales = file
        .tensor(&format!("{name}.scale"))
        .map_err(|_| format!("is quantized, and `{name}.scale` is missing"))?;
    if scales.dtype() != Dtype::F32 || scales.shape() != [rows] {
        return Err(format!("is quantized, and `{name}.scale` is not F32 [{rows}]"));
    }
    Ok(f32s(scales.data()))
}

/// `q · scale[row]` of levels with six bits each.
fn unpack(
    file: &SafeTensors<'_>,
    name: &str,
    view: &TensorView<'_>,
    weight: &Weight,
) -> Result<Vec<f32>, String> {
    let [rows, columns] = weight.shape[..] else {
        return Err(format!("is packed, and the model has {:?}", weight.shape));
    };
    if view.shape() != [rows, packed_len(columns)] {
        let shape = view.shape();
        return Err(format!(
            "is packed as {shape:?}, which is not [{rows}, {columns}] of the model"
        ));
    }
    let packed = view.data().chunks(packed_len(columns).max(1)).zip(scales(file, name, rows)?);
    Ok(packed.flat_map(|(row, s)| unpack6(row, columns).map(move |q| f32::from(q) * s)).collect())
}

/// `q · scale[row]`, with the scales in the tensor `{name}.scale`.
fn dequantize(
    file: &SafeTensors<'_>,
    name: &str,
    view: &TensorView<'_>,
) -> Result<Vec<f32>, String> {
    let rows = view.shape().first().copied().unwrap_or(0);
    let columns = view.data().len() / rows.max(1);
    let quantized = view.data().chunks(columns.max(1)).zip(scales(file, name, rows)?);
    Ok(quantized.flat_map(|(row, s)| row.iter().map(move |q| f32::from(*q as i8) * s)).collect())
}

#[cfg(test)]
mod tests {
    #[test]
    fn headers_of_any_length_end_at_a_multiple_of_eight() {
        for length in [0, 7, 8, 70_001] {
            let header = super::padded("x".repeat(length));
            assert_eq!(header.len(), length.next_multiple_of(8));
            assert_eq!(header.trim_end().len(), length);
        }
    }
}
