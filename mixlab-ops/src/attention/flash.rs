//! Attention with tensor cores on CUDA, in half precision or TF32: the launches of `flash.cu`.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::cuda::CudaRuntime;
use cubecl::prelude::*;

use super::Attention;
use crate::Precision;
use crate::plumbing::cube::{contiguous, empty};
use crate::plumbing::cuda::{Arguments, Source, Text, capability, from_cuda, launch, on_cuda};
use crate::scan::kernel::{ready, sum_first};

static TEXT: Text = Text::new(include_str!("flash.cu"));
/// Rows of a tile, and threads of a block.
const TILE: usize = 64;
const THREADS: u32 = 128;
/// Head widths that there are kernels for; others are padded up.
const WIDTHS: [usize; 5] = [16, 32, 64, 96, 128];

type Tensor = CubeTensor<CudaRuntime>;

/// One call: its inputs, ready to be read, and their sizes.
pub(crate) struct Call {
    of: Attention,
    inputs: [Tensor; 3],
    decay: Option<Tensor>,
    batch: usize,
    heads: usize,
    groups: usize,
    queries: usize,
    keys: usize,
    width: usize,
    padded: usize,
}

/// `x` `[B, H, T, hd]` with neighbours in a head next to each other, and rows at multiples of 16
/// bytes: as it lies, or copied.
fn readable(x: Tensor) -> Tensor {
    let strides = x.meta.strides();
    let aligned = strides[..3].iter().all(|s| (s * x.elem_size()).is_multiple_of(16));
    let start = x.handle.offset_start.unwrap_or(0).is_multiple_of(16);
    if strides[3] == 1 && aligned && start { x } else { contiguous(x) }
}

/// A new tensor of the shape `[B, H, T, hd]` of `like`, with the heads of a position side by side:
/// merging heads then needs no copy.
fn side_by_side(like: &Tensor) -> Tensor {
    let [b, h, t, hd] = like.meta.shape().dims();
    let mut x = empty(like, [b, t, h, hd], like.dtype);
    x.meta.swap(1, 2);
    x
}

impl Call {
    /// `None` if these inputs are not for tensor cores.
    pub fn new<R: CubeRuntime>(
        of: &Attention,
        inputs: [&CubeTensor<R>; 3],
        decay: Option<&CubeTensor<R>>,
    ) -> Option<Self> {
        let [q, k, v] = inputs.map(on_cuda);
        let inputs = [q?, k?, v?];
        let taken = match inputs[0].dtype {
            DType::BF16 | DType::F16 => true,
            DType::F32 => of.precision != Precision::F32,
            _ => false,
        };
        let same = taken && inputs.iter().all(|x| x.dtype == inputs[0].dtype);
        let [batch, heads, queries, width] = inputs[0].meta.shape().dims();
        let [_, groups, keys, _] = inputs[1].meta.shape().dims();
        let padded = *WIDTHS.iter().find(|w| **w >= width)?;
        let decay = decay.and_then(on_cuda).map(|x| ready(x, DType::F32));
        (same && width.is_multiple_of(8) && capability(&inputs[0]) >= (8, 0)).then(|| Self {
            of: of.clone(),
            inputs: inputs.map(readable),
            decay,
            batch,
            heads,
            groups,
            queries,
            keys,
            width,
            padded,
        })
    }

    /// The tensor in place of the decays, which a kernel without them never reads.
    fn decay(&self) -> Tensor {
        self.decay.clone().unwrap_or_else(|| self.inputs[0].clone())
    }

    fn source(&self, entry: &'static str, rows: usize) -> Source {
        let kind = match self.inputs[0].dtype {
            DType::BF16 => 0,
            DType::F16 => 1,
            _ => 2,
        };
        let size = self.inputs[0].elem_size();
        Source {
            entry,
            text: &TEXT,
            defines: vec![
                ("HD", self.padded),
                ("CAUSAL", self.of.causal as usize),
                ("DECAY", self.decay.is_some() as usize),
                ("TYPE", kind),
            ],
            preamble: |_| String::new(),
            block: CubeDim::new_1d(THREADS),
            shared: rows * (self.padded * size + 16),
        }
    }

    /// The bytes of `Info`; missing tensors have strides of zero.
    fn numbers(&self, others: [Option<&Tensor>; 5]) -> Vec<u64> {
        let sizes = [self.batch, self.heads, self.groups, self.queries, self.keys, self.width];
        let mut words: Vec<u32> = sizes.iter().map(|x| *x as u32).collect();
        words.extend([self.of.scale.to_bits(), 0]);
        for x in self.inputs.iter().map(Some).chain(others) {
            let strides = x.map_or([0; 3], |x| [0, 1, 2].map(|axis| x.meta.strides()[axis] as u32));
            words.extend(strides);
        }
        words.chunks(2).map(|w| u64::from(w[0]) | u64::from(w[1]) << 32).collect()
    }

    fn launch(
        &self,
        source: Source,
        grid: (usize, usize, usize),
        buffers: Vec<Tensor>,
        numbers: Vec<u64>,
    ) {
        let client = self.inputs[0].client.clone();
        // SAFETY: the sizes and strides are those of the tensors.
        unsafe { launch(&client, source, grid, Arguments { maps: vec![], buffers, numbers }) };
    }

    /// `y`, and the log-sum-exp `[B, H, T, 1]` in f32.
    pub fn forward<R: CubeRuntime>(&self) -> Option<[CubeTensor<R>; 2]> {
        let [q, k, v] = self.inputs.clone();
        let y = side_by_side(&q);
        let lse = empty(&q, [self.batch, self.heads, self.queries, 1], DType::F32);
        let numbers = self.numbers([Some(&y), None, None, None, None]);
        let grid = (self.queries.div_ceil(TILE), self.heads, self.batch);
        let buffers = vec![q, k, v, self.decay(), y.clone(), lse.clone()];
        self.launch(self.source("attention_forward", 4 * TILE), grid, buffers, numbers);
        Some([y, lse].map(from_cuda))
    }

    /// Gradients of `q`, `k`, `v`, and of the decays if there are any, from the outputs `y` and
    /// log-sum-exp and the gradient `g` of `y`.
    pub fn backward<R: CubeRuntime>(
        &self,
        [y, lse, g]: [&CubeTensor<R>; 3],
    ) -> Option<Vec<CubeTensor<R>>> {
        let [q, k, v] = self.inputs.clone();
        let [y, g] = [on_cuda(y)?, on_cuda(g)?].map(readable);
        let lse = ready(on_cuda(lse)?, DType::F32);
        let [dq, dk, dv] = [&q, &k, &v].map(side_by_side);
        let tiles = self.queries.div_ceil(TILE);
        let delta = empty(&q, [self.batch, self.heads, self.queries], DType::F32);
        let falls = empty(&q, [self.batch * tiles, self.heads], DType::F32);
        let numbers = self.numbers([Some(&y), Some(&g), Some(&dq), Some(&dk), Some(&dv)]);
        let grid = (self.queries.div_ceil(4), self.heads, self.batch);
        let buffers = vec![y, g.clone(), delta.clone()];
        self.launch(self.source("attention_delta", 0), grid, buffers, numbers.clone());
        let known = [q, k, v, self.decay(), lse, delta, g];
        let with = |outputs: [&Tensor; 2]| known.iter().chain(outputs).cloned().collect::<Vec<_>>();
        let grid = (tiles, self.heads, self.batch);
        let source = self.source("attention_dq", 4 * TILE);
        self.launch(source, grid, with([&dq, &falls]), numbers.clone());
        let queries = if self.padded > 64 { 32 } else { 64 };
        let grid = (self.keys.div_ceil(TILE), self.groups, self.batch);
        let source = self.source("attention_dkdv", 2 * TILE + 4 * queries);
        self.launch(source, grid, with([&dk, &dv]), numbers);
        let decays =
            self.decay.iter().map(|_| sum_first(falls.clone(), [self.heads].into(), DType::F32));
        Some([dq, dk, dv].into_iter().chain(decays).map(from_cuda).collect())
    }
}
