//! What weights are stored as, and the operations that make 32-bit floats of them again.
//!
//! The rest of a graph does not know: it reads the result under the name of the weight.

use std::io;
use std::ops::Range;

use burn::tensor::{DType, TensorData};
use half::{bf16, f16};
use onnx_protobuf::NodeProto;

use super::OnnxError;
use super::graph::{Attribute, data_type, node_proto, tensor_proto};
use super::profile::Profile;

/// Weights of fewer elements stay as they are: a scale would not pay.
const FEWEST_ELEMENTS: usize = 256;
/// Input channels that share a scale in [`WeightType::Int4`].
const BLOCK: usize = 32;
/// The number of 4-bit integers in ONNX; Burn has no such type.
const INT4: i32 = 22;
/// Elements that are converted at a time; even.
const PIECE: usize = 1 << 18;

/// The attribute of a `Cast` to 32-bit floats.
const TO_F32: Attribute = Attribute::Int("to", 1);

/// What the weights of a file are stored as. They are computed with as 32-bit floats all the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WeightType {
    /// 32-bit floats.
    #[default]
    F32,
    /// 16-bit floats, where there are two axes or more.
    F16,
    /// The upper halves of 32-bit floats, where there are two axes or more.
    Bf16,
    /// Integers of −127…127, where there are two axes: with a scale for each output channel, or for each
    /// row of a table that is looked up.
    Int8,
    /// Integers of −8…7, with a scale for every 32 input channels of an output channel; tables that are
    /// looked up as `Int8`, whose rows can be taken. Needs a profile of opset 21 or later.
    Int4,
}

impl WeightType {
    /// All there are.
    pub const ALL: [Self; 5] = [Self::F32, Self::F16, Self::Bf16, Self::Int8, Self::Int4];

    /// What files and flags call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
            Self::Int4 => "int4",
        }
    }

    /// Refuses what the operations of `profile` cannot read.
    pub(super) fn check(self, profile: Profile) -> Result<(), OnnxError> {
        if self == Self::Int4 && profile.opset() < 21 {
            return Err(OnnxError::Model(format!(
                "weights of int4 need opset 21, and the profile `{}` has {}\n  \
                 hint: `--profile modern` or `--profile genai`, or weights of int8",
                profile.name(),
                profile.opset()
            )));
        }
        Ok(())
    }

    /// How a weight of this `shape` is stored, if not as it is; `looked_up` if it is a table of rows.
    pub(super) fn format(self, shape: &[usize], looked_up: bool) -> Option<Format> {
        if shape.len() < 2 || shape.iter().product::<usize>() < FEWEST_ELEMENTS {
            return None;
        }
        let scaled = |bits| {
            let [rows, columns] = *shape else { return None };
            let along = usize::from(looked_up);
            let block = if bits == 8 { shape[along] } else { BLOCK };
            Some(Format::Scaled(Grid { rows, columns, along, block, bits }))
        };
        match self {
            Self::F32 => None,
            Self::F16 => Some(Format::Half(DType::F16)),
            Self::Bf16 => Some(Format::Half(DType::BF16)),
            Self::Int4 if !looked_up => scaled(4),
            Self::Int8 | Self::Int4 => scaled(8),
        }
    }
}

/// How a weight is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// As floats of this type.
    Half(DType),
    /// As integers with scales.
    Scaled(Grid),
}

impl Format {
    /// Bytes of `elements` elements, with their scales.
    pub fn bytes(&self, elements: usize) -> usize {
        match self {
            Self::Half(_) => 2 * elements,
            Self::Scaled(grid) => {
                let scales: usize = grid.shape().iter().product();
                (elements * usize::from(grid.bits)).div_ceil(8) + 4 * scales
            }
        }
    }
}

/// Which elements of a matrix share a scale: `block` neighbours along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grid {
    rows: usize,
    columns: usize,
    along: usize,
    block: usize,
    bits: u8,
}

impl Grid {
    /// The scales, row by row, as a matrix.
    fn shape(&self) -> [usize; 2] {
        match self.along {
            0 => [self.rows.div_ceil(self.block), self.columns],
            _ => [self.rows, self.columns.div_ceil(self.block)],
        }
    }

    /// Which scale the element `at` has.
    fn scale(&self, at: usize) -> usize {
        let (row, column) = (at / self.columns, at % self.columns);
        match self.along {
            0 => row / self.block * self.columns + column,
            _ => row * self.columns.div_ceil(self.block) + column / self.block,
        }
    }

    /// The least and the largest integer.
    fn range(&self) -> [f32; 2] {
        if self.bits == 8 { [-127.0, 127.0] } else { [-8.0, 7.0] }
    }

    /// The scales of `values`: the element that is farthest from zero in each block is an integer.
    fn scales(&self, values: &[f32]) -> Vec<f32> {
        let mut far = vec![0f32; self.shape().iter().product()];
        for (at, value) in values.iter().enumerate() {
            let far = &mut far[self.scale(at)];
            if value.abs() > far.abs() {
                *far = *value;
            }
        }
        // Four bits have one integer more below zero: the farthest element is that one, by the sign of
        // its scale.
        let scale = |far: f32| if self.bits == 8 { far.abs() / 127.0 } else { far / -8.0 };
        far.into_iter().map(scale).collect()
    }
}

/// A weight as it is stored.
pub(super) struct Stored<'a> {
    values: &'a [f32],
    format: Format,
    /// None for floats.
    pub scales: Vec<f32>,
}

impl<'a> Stored<'a> {
    /// `values` in `format`.
    ///
    /// # Errors
    /// Says which element 16-bit floats cannot hold.
    pub fn new(values: &'a [f32], format: Format) -> Result<Self, String> {
        let large = |value: &&f32| f16::from_f32(**value).is_infinite() && value.is_finite();
        let found = (format == Format::Half(DType::F16)).then(|| values.iter().find(large));
        if let Some(value) = found.flatten() {
            return Err(format!("holds `{value}`, which is beyond the largest f16, 65504"));
        }
        let scales = match &format {
            Format::Half(_) => Vec::new(),
            Format::Scaled(grid) => grid.scales(values),
        };
        Ok(Self { values, format, scales })
    }

    /// The number of its type in ONNX.
    pub fn data_type(&self) -> i32 {
        match self.format {
            Format::Half(dtype) => data_type(dtype).expect("both are types of ONNX"),
            Format::Scaled(Grid { bits: 8, .. }) => data_type(DType::I8).expect("it has one"),
            Format::Scaled(_) => INT4,
        }
    }

    /// Writes the elements, some at a time.
    pub fn write(&self, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        for start in (0..self.values.len()).step_by(PIECE) {
            let piece = start..self.values.len().min(start + PIECE);
            sink(&self.bytes(piece))?;
        }
        Ok(())
    }

    fn bytes(&self, piece: Range<usize>) -> Vec<u8> {
        let values = &self.values[piece.clone()];
        match self.format {
            Format::Half(DType::F16) => {
                values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect()
            }
            Format::Half(_) => {
                values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect()
            }
            Format::Scaled(grid) => {
                let integers: Vec<i8> = piece.map(|at| self.integer(&grid, at)).collect();
                // Two to a byte, the first in the lower half.
                let byte = |two: &[i8]| {
                    (two[0] & 15) as u8 | ((two.get(1).copied().unwrap_or(0) & 15) as u8) << 4
                };
                match grid.bits {
                    8 => integers.into_iter().map(|q| q as u8).collect(),
                    _ => integers.chunks(2).map(byte).collect(),
                }
            }
        }
    }

    fn integer(&self, grid: &Grid, at: usize) -> i8 {
        let [least, largest] = grid.range();
        let scale = self.scales[grid.scale(at)];
        // A block of zeros has no scale: 0/0 is none of the integers, and becomes 0.
        (self.values[at] / scale).round().clamp(least, largest) as i8
    }

    /// What the file's operations make of the element `at`.
    fn value(&self, at: usize) -> f32 {
        match self.format {
            Format::Half(DType::F16) => f16::from_f32(self.values[at]).to_f32(),
            Format::Half(_) => bf16::from_f32(self.values[at]).to_f32(),
            Format::Scaled(grid) => {
                f32::from(self.integer(&grid, at)) * self.scales[grid.scale(at)]
            }
        }
    }

    /// What the file's operations make of it.
    pub fn rounded(&self) -> Vec<f32> {
        (0..self.values.len()).map(|at| self.value(at)).collect()
    }

    /// Sums of squares: of what is lost, and of the elements.
    pub fn squares(&self) -> [f64; 2] {
        let mut sums = [0.0; 2];
        for (at, value) in self.values.iter().enumerate() {
            sums[0] += f64::from(self.value(at) - value).powi(2);
            sums[1] += f64::from(*value).powi(2);
        }
        sums
    }

    /// The shape of the scales in the file: of one axis if a channel has one scale.
    pub fn scales_shape(&self) -> Vec<usize> {
        match self.format {
            Format::Half(_) => Vec::new(),
            Format::Scaled(grid) if grid.bits == 8 => vec![self.scales.len()],
            Format::Scaled(grid) => grid.shape().to_vec(),
        }
    }
}

/// What the stored elements of `name` are called.
pub(super) fn stored_name(name: &str, format: Format) -> String {
    let kind = match format {
        Format::Half(DType::F16) => "f16",
        Format::Half(_) => "bf16",
        Format::Scaled(Grid { bits: 8, .. }) => "int8",
        Format::Scaled(_) => "int4",
    };
    format!("{name}.{kind}")
}

/// What the scales of `name` are called.
pub(super) fn scales_name(name: &str) -> String {
    format!("{name}.scale")
}

/// The operation that makes the weight `name` of what is stored.
pub(super) fn restoring(name: &str, format: Format) -> NodeProto {
    let stored = stored_name(name, format);
    let scales = scales_name(name);
    let hint = format!("{name}.restored");
    match format {
        Format::Half(_) => node("Cast", hint, &[&stored], name, vec![TO_F32]),
        Format::Scaled(grid) => {
            // Blocks lie along an axis, one scale a channel along the other.
            let attributes = match grid.bits {
                8 => vec![Attribute::Int("axis", 1 - grid.along as i64)],
                _ => vec![
                    Attribute::Int("axis", grid.along as i64),
                    Attribute::Int("block_size", grid.block as i64),
                ],
            };
            node("DequantizeLinear", hint, &[&stored, &scales], name, attributes)
        }
    }
}

/// The operations that do what `lookup` does, which takes rows of a weight, with what is stored.
pub(super) fn restoring_rows(lookup: &NodeProto, format: Format) -> Vec<NodeProto> {
    let (table, at, out) = (&lookup.input[0], &lookup.input[1], &lookup.output[0]);
    let name = |part: &str| format!("{out}.{part}");
    let (rows, floats, scales, axis, column) =
        (name("rows"), name("floats"), name("scales"), name("axis"), name("column"));
    let stored = stored_name(table, format);
    let take = |table: &str, out: &str| {
        node("Gather", out.into(), &[table, at], out, vec![Attribute::Int("axis", 0)])
    };
    let cast = |out: &str| node("Cast", floats.clone(), &[&rows], out, vec![TO_F32]);
    let Format::Scaled(_) = format else {
        return vec![take(&stored, &rows), cast(out)];
    };
    let last = tensor_proto("", &TensorData::new(vec![-1i64], [1]));
    vec![
        take(&stored, &rows),
        cast(&floats),
        take(&scales_name(table), &scales),
        node("Constant", axis.clone(), &[], &axis, vec![Attribute::Tensor("value", last)]),
        node("Unsqueeze", column.clone(), &[&scales, &axis], &column, vec![]),
        node("Mul", lookup.name.clone(), &[&floats, &column], out, vec![]),
    ]
}

/// A node with one result.
fn node(
    op: &str,
    name: String,
    inputs: &[&str],
    output: &str,
    attributes: Vec<Attribute>,
) -> NodeProto {
    NodeProto {
        output: vec![output.into()],
        attribute: attributes.into_iter().map(Attribute::proto).collect(),
        ..node_proto(op, name, inputs)
    }
}

#[cfg(test)]
mod tests;
