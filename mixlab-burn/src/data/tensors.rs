//! Files of tensors for other programs: raw, NumPy, safetensors.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::files::Replacement;
use crate::weights::padded;

/// A tensor of f32 with a name.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// Its elements, row-major.
    pub values: Vec<f32>,
}

/// Tensors of one shape, and the file format that they go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Little-endian f32 without a header, one tensor after the other.
    Raw,
    /// NumPy's `.npy`, with one more axis in front if there are several tensors.
    Npy,
    /// safetensors, by name.
    Safetensors,
}

impl Format {
    /// The format that the ending of `path` names; raw for any that it does not know.
    pub fn of(path: &Path) -> Self {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("npy") => Self::Npy,
            Some("safetensors" | "st") => Self::Safetensors,
            _ => Self::Raw,
        }
    }
}

/// Writes `tensors`, all of `shape`, in the format of the ending of the path, and returns the bytes of
/// the file.
///
/// # Errors
/// If the system refuses; an old file is then untouched.
pub fn write(place: Replacement, tensors: &[Named], shape: &[usize]) -> io::Result<u64> {
    let header = match Format::of(place.path()) {
        Format::Raw => Vec::new(),
        Format::Npy => npy(tensors.len(), shape),
        Format::Safetensors => safetensors(tensors, shape),
    };
    let values = || tensors.iter().flat_map(|tensor| &tensor.values);
    place.commit(|file: &mut File| {
        let mut file = BufWriter::new(file);
        file.write_all(&header)?;
        values().try_for_each(|value| file.write_all(&value.to_le_bytes()))?;
        file.flush()
    })?;
    Ok((header.len() + 4 * values().count()) as u64)
}

/// The header of version 1.0: a Python dictionary, padded to a multiple of 64 bytes.
fn npy(count: usize, shape: &[usize]) -> Vec<u8> {
    let several = (count != 1).then_some(count);
    let axes: String = several.iter().chain(shape).map(|n| format!("{n}, ")).collect();
    let about = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({axes}), }}");
    let size = (10 + about.len() + 1).next_multiple_of(64) - 10;
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend((size as u16).to_le_bytes());
    header.extend(format!("{about:<width$}\n", width = size - 1).bytes());
    header
}

fn safetensors(tensors: &[Named], shape: &[usize]) -> Vec<u8> {
    let bytes = 4 * shape.iter().product::<usize>();
    let entry = |(i, tensor): (usize, &Named)| {
        let place = [i * bytes, (i + 1) * bytes];
        (tensor.name.clone(), json!({"dtype": "F32", "shape": shape, "data_offsets": place}))
    };
    let entries: Map<String, Value> = tensors.iter().enumerate().map(entry).collect();
    let text = padded(Value::Object(entries).to_string());
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::safetensors::SafeTensors;

    fn tensors(count: usize) -> Vec<Named> {
        let values = |i: usize| (0..6).map(|n| (10 * i + n) as f32).collect();
        (0..count).map(|i| Named { name: format!("block.{i}"), values: values(i) }).collect()
    }

    fn written(name: &str, count: usize) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new").join(name);
        let bytes = write(Replacement::begin(&path).unwrap(), &tensors(count), &[2, 3]).unwrap();
        let content = std::fs::read(path).unwrap();
        assert_eq!(content.len() as u64, bytes);
        content
    }

    #[test]
    fn raw_files_have_the_numbers_alone() {
        let content = written("h.bin", 2);
        assert_eq!(content.len(), 48);
        assert_eq!(content[24..28], 10f32.to_le_bytes());
    }

    #[test]
    fn npy_files_say_what_they_hold() {
        for (count, shape) in [(1, "(2, 3, )"), (2, "(2, 2, 3, )")] {
            let content = written("h.npy", count);
            let size = u16::from_le_bytes([content[8], content[9]]) as usize;
            assert!((10 + size).is_multiple_of(64));
            let header = std::str::from_utf8(&content[10..10 + size]).unwrap();
            assert!(header.contains(shape) && header.ends_with('\n'), "{header}");
            assert_eq!(content.len(), 10 + size + 24 * count);
        }
    }

    #[test]
    fn safetensors_files_have_each_tensor_by_name() {
        let content = written("h.safetensors", 2);
        let file = SafeTensors::deserialize(&content).unwrap();
        let view = file.tensor("block.1").unwrap();
        assert_eq!(view.shape(), [2, 3]);
        assert_eq!(view.data()[..4], 10f32.to_le_bytes());
    }
}
