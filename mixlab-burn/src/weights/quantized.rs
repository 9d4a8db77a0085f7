//! Files of quantized weights.

use std::io::Write;
use std::path::Path;

use burn::module::Module;
use burn::tensor::backend::Backend;

use super::quantize::{Clip, FEWEST_ELEMENTS, Quantization, pack6, packed_len};
use super::safetensors::{Entry, Metadata, WeightError, header_of, reserve};
use super::{Weight, fill, layout, values};
use crate::files::Replacement;

/// A file of quantized weights, and how near they are to what they were.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantized {
    /// Tensors in the file, scales included.
    pub tensors: usize,
    /// Size of the file.
    pub bytes: usize,
    /// Size that the weights have in f32.
    pub float_bytes: usize,
    /// Norm of all errors together over the norm of all weights that were quantized.
    pub error: f64,
    /// The weight with the largest error relative to its own norm, and that error.
    pub worst: Option<(String, f64)>,
}

/// Sums of squares.
#[derive(Clone, Copy, Default)]
struct Squares {
    error: f64,
    weight: f64,
}

impl Squares {
    fn relative(self) -> f64 {
        if self.weight > 0.0 { (self.error / self.weight).sqrt() } else { 0.0 }
    }
}

/// Writes the weights of `module` to `path`, matrices of some size as small integers with one scale a
/// row (`name.scale`); all else stays f32. An existing file is replaced once all is written.
///
/// # Errors
/// If the file cannot be written; an existing one is then untouched.
pub fn save_quantized<B: Backend, M: Module<B>>(
    module: &M,
    path: &Path,
    metadata: &Metadata,
    how: &Quantization,
) -> Result<Quantized, WeightError> {
    write_quantized(module, reserve(path)?, metadata, how)
}

/// As [`save_quantized`], to a place that was reserved.
///
/// # Errors
/// If the file cannot be written; an existing one is then untouched.
pub fn write_quantized<B: Backend, M: Module<B>>(
    module: &M,
    place: Replacement,
    metadata: &Metadata,
    how: &Quantization,
) -> Result<Quantized, WeightError> {
    let path = place.path().to_owned();
    let weights = layout(module);
    let entries: Vec<Entry> =
        weights.iter().enumerate().flat_map(|(i, weight)| entries(i, weight, how)).collect();
    let (tensors, payload) = (entries.len(), entries.iter().map(|e| e.bytes).sum::<usize>());
    let header = header_of(entries.into_iter(), metadata, &about(how));
    let (mut all, mut worst) = (Squares::default(), None::<(String, f64)>);
    let written = place.commit(|file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        for (i, (weight, values)) in weights.iter().zip(values(module)).enumerate() {
            let (bytes, squares) = payload_of(weight, &values, how);
            file.write_all(&bytes)?;
            let Some(squares) = squares else { continue };
            all.error += squares.error;
            all.weight += squares.weight;
            let error = squares.relative();
            if worst.as_ref().is_none_or(|(_, most)| error > *most) {
                worst = Some((weight.file_name(i), error));
            }
        }
        Ok(())
    });
    written.map_err(|source| WeightError::Io { action: "write", path, source })?;
    let float_bytes = weights.iter().map(|weight| 4 * weight.len()).sum();
    let bytes = 8 + header.len() + payload;
    Ok(Quantized { tensors, bytes, float_bytes, error: all.relative(), worst })
}

/// `module` with the weights that it has when a file of [`save_quantized`] has been loaded.
pub fn quantized<B: Backend, M: Module<B>>(module: M, how: &Quantization) -> M {
    let mut values = values(&module);
    fill(module, |i, weight| {
        let [_, columns] = rows(weight)?;
        let whole = |row: &[f32]| {
            let (integers, scale) = how.row(&weight.name, row);
            integers.into_iter().map(move |q| f32::from(q) * scale)
        };
        Some(std::mem::take(&mut values[i]).chunks(columns).flat_map(whole).collect())
    })
}

/// Rows and columns of a weight that is quantized.
fn rows(weight: &Weight) -> Option<[usize; 2]> {
    let [rows, columns] = weight.shape[..] else { return None };
    (weight.len() >= FEWEST_ELEMENTS).then_some([rows, columns])
}

fn entries(index: usize, weight: &Weight, how: &Quantization) -> Vec<Entry> {
    let (name, shape) = (weight.file_name(index), weight.shape.clone());
    let Some([rows, columns]) = rows(weight) else {
        return vec![Entry { name, dtype: "F32", shape, bytes: 4 * weight.len() }];
    };
    let scale =
        Entry { name: format!("{name}.scale"), dtype: "F32", shape: vec![rows], bytes: 4 * rows };
    let (dtype, width) = if how.packed { ("U8", packed_len(columns)) } else { ("I8", columns) };
    vec![Entry { name, dtype, shape: vec![rows, width], bytes: rows * width }, scale]
}

/// The bytes of a weight in the file, and its errors if it is quantized.
fn payload_of(weight: &Weight, values: &[f32], how: &Quantization) -> (Vec<u8>, Option<Squares>) {
    let Some([_, columns]) = rows(weight) else {
        return (values.iter().flat_map(|v| v.to_le_bytes()).collect(), None);
    };
    let (mut bytes, mut scales, mut squares) = (Vec::new(), Vec::new(), Squares::default());
    for row in values.chunks(columns) {
        let (integers, scale) = how.row(&weight.name, row);
        for (q, value) in integers.iter().zip(row) {
            squares.error += f64::from(f32::from(*q) * scale - value).powi(2);
            squares.weight += f64::from(*value).powi(2);
        }
        if how.packed {
            bytes.extend(pack6(&integers))
        } else {
            bytes.extend(integers.iter().map(|q| q.cast_unsigned()))
        }
        scales.extend(scale.to_le_bytes());
    }
    bytes.extend(scales);
    (bytes, Some(squares))
}

fn about(how: &Quantization) -> Vec<(&'static str, String)> {
    let mut about = vec![("quantize", how.levels.to_string())];
    match how.clip {
        Clip::Quantile => about.push(("quant_method", "quantile".into())),
        Clip::StandardDeviations { k, k_embed } => about.extend([
            ("quant_method", "sdclip".into()),
            ("quant_k", k.to_string()),
            ("quant_k_embed", k_embed.to_string()),
        ]),
    }
    if how.packed {
        about.push(("quant_layout", "packed6".into()));
    }
    about
}
