//! What has the weights of a model: a file, or a module. Each is read when it is asked for, so that
//! whoever writes them one by one holds one at a time.

use std::fs::File;
use std::io::{self, Read};
use std::marker::PhantomData;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use ::safetensors::tensor::{Metadata, SafeTensors};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Tensor, backend::Backend};
use memmap2::Mmap;

use super::safetensors::{check, open, read};
use super::{Weight, WeightError};

/// The weights of a model, in the order of [`layout`](super::layout).
pub trait Source {
    /// The elements of the `index`-th weight, row by row.
    ///
    /// # Errors
    /// If a file has it not, not as the model has it, or with numbers that are not finite.
    ///
    /// # Panics
    /// If there are not so many weights.
    fn read(&mut self, index: usize) -> Result<Vec<f32>, WeightError>;
}

/// What a file holds: mapped, or read where that cannot be.
pub struct Bytes(Held);

enum Held {
    /// A regular file.
    Mapped(Mmap),
    /// A pipe, or an empty file.
    Read(Vec<u8>),
}

impl Bytes {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn open(path: &Path) -> Result<Self, WeightError> {
        let open = || -> io::Result<Held> {
            let file = File::open(path)?;
            let about = file.metadata()?;
            if about.is_file() && about.len() > 0 {
                // SAFETY: the bytes are only read. Whoever writes weights here replaces a file and leaves
                // the old one as it is; a program that cuts off a file while it is read ends this process.
                return unsafe { Mmap::map(&file) }.map(Held::Mapped);
            }
            streamed(file).map(Held::Read)
        };
        open().map(Self).map_err(|source| WeightError::Io {
            action: "read",
            path: path.into(),
            source,
        })
    }
}

/// What comes through a pipe: what its header tells of and one byte, for it may have no end.
fn streamed(mut from: impl Read) -> io::Result<Vec<u8>> {
    /// Bytes that the header of a file may have.
    const HEADER: u64 = 100_000_000;
    let mut bytes = Vec::new();
    from.by_ref().take(8).read_to_end(&mut bytes)?;
    let Some(length) = bytes.first_chunk() else { return Ok(bytes) };
    let length = u64::from_le_bytes(*length).min(HEADER);
    from.by_ref().take(length).read_to_end(&mut bytes)?;
    // What has no header that is one is refused by who reads it.
    let header: Option<Metadata> = serde_json::from_slice(&bytes[8..]).ok();
    let length = header.map_or(0, |header| (header.data_len() as u64).saturating_add(1));
    from.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Held::Mapped(map) => map,
            Held::Read(bytes) => bytes,
        }
    }
}

/// The weights of a model in a file.
pub struct WeightFile<'a> {
    path: PathBuf,
    tensors: SafeTensors<'a>,
    weights: Vec<Weight>,
}

impl<'a> WeightFile<'a> {
    /// The file at `path`, which holds `bytes`, as one of the model that has `weights`
    /// ([`layout`](super::layout)).
    ///
    /// # Errors
    /// If it is not safetensors.
    pub fn new(path: &Path, bytes: &'a [u8], weights: Vec<Weight>) -> Result<Self, WeightError> {
        Ok(Self { path: path.into(), tensors: open(path, bytes)?, weights })
    }
}

impl Source for WeightFile<'_> {
    fn read(&mut self, index: usize) -> Result<Vec<f32>, WeightError> {
        let weight = &self.weights[index];
        let tensor = weight.file_name(index);
        let values = read(&self.tensors, &tensor, weight).map_err(|problem| {
            let (path, tensor) = (self.path.clone(), tensor.clone());
            WeightError::Tensor { path, tensor, problem }
        })?;
        check(&values, &self.path, &tensor)?;
        Ok(values)
    }
}

/// The weights that a module has.
pub struct InModule<'a, B, M> {
    module: &'a M,
    backend: PhantomData<B>,
}

impl<'a, B: Backend, M: Module<B>> InModule<'a, B, M> {
    /// Those of `module`.
    pub fn new(module: &'a M) -> Self {
        Self { module, backend: PhantomData }
    }
}

impl<B: Backend, M: Module<B>> Source for InModule<'_, B, M> {
    fn read(&mut self, index: usize) -> Result<Vec<f32>, WeightError> {
        let mut one = One { left: index, values: None };
        self.module.visit(&mut one);
        Ok(one.values.expect("asked for a weight that there is"))
    }
}

/// Reads the weight after the next `left`.
struct One {
    left: usize,
    values: Option<Vec<f32>>,
}

impl<B: Backend> ModuleVisitor<B> for One {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if self.left == 0 && self.values.is_none() {
            let data = param.val().into_data().convert::<f32>();
            self.values = Some(data.into_vec().expect("converted to f32 above"));
        }
        self.left = self.left.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use burn::nn::{Linear, LinearConfig};
    use burn_flex::Flex;

    use super::super::{Metadata, layout, save, values};
    use super::*;

    #[test]
    fn a_pipe_is_read_as_far_as_its_header_says() {
        let header = br#"{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}"#;
        let length = (header.len() as u64).to_le_bytes();
        let whole = [&length[..], header, &[1, 2, 3]].concat();
        assert_eq!(streamed(&whole[..]).unwrap(), whole);
        let endless = streamed(whole.chain(io::repeat(7))).unwrap();
        assert_eq!(endless, [&whole[..], &[7]].concat());
        assert_eq!(streamed(io::repeat(0)).unwrap(), [0; 8]);
        assert_eq!(streamed(&b"abc"[..]).unwrap(), b"abc");
    }

    #[test]
    fn a_module_and_its_file_have_the_same_weights_at_each_place() {
        let device = Default::default();
        let linear = |n| LinearConfig::new(n, 3).init::<Flex>(&device);
        let module: Vec<Linear<Flex>> = [5, 2, 7].map(linear).into();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.st");
        let metadata = Metadata { name: String::new(), dim: 1, vocab: 1, seq_len: 1, steps: 1 };
        save(&module, &path, &metadata).unwrap();
        let bytes = Bytes::open(&path).unwrap();
        let mut file = WeightFile::new(&path, &bytes, layout(&module)).unwrap();
        let mut source = InModule::<Flex, _>::new(&module);
        let all = values(&module);
        assert_eq!(all.len(), 6);
        for (index, expected) in all.iter().enumerate() {
            assert_eq!(file.read(index).unwrap(), *expected, "{index}");
            assert_eq!(source.read(index).unwrap(), *expected, "{index}");
        }
    }
}
