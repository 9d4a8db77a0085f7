//! Attention with tensor cores on CUDA: the launches of `flash.cu` and of `hopper.cu`.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::Attention;
use super::hopper::Warpgroups;
use crate::plumbing::cube::{contiguous, empty, narrow, ready};
use crate::plumbing::cuda::{Arguments, Source, Text, capability, launch};
use crate::plumbing::fallbacks::note;
use crate::plumbing::reduce::sum_first;
use crate::{Op, Precision};

static TEXT: Text = Text::new(concat!(include_str!("common.cu"), include_str!("flash.cu")));
/// Rows of a tile, and threads of a block.
const TILE: usize = 64;
const THREADS: u32 = 128;
/// Head widths that there are kernels for; others are padded up.
pub(super) const WIDTHS: [usize; 5] = [16, 32, 64, 96, 128];

/// Capabilities of cards whose tensor cores multiply TF32 more than six times as fast as other units
/// multiply floats: A100 and H100. On them three such products are the fastest way to one of floats.
const FASTER_IN_THREE: [(i32, i32); 2] = [(8, 0), (9, 0)];

/// Bytes of a block's shared memory besides its tiles.
const BESIDES: usize = 2 << 10;

/// Tiles of a block in shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tiles {
    /// Channels of a head that are computed.
    padded: usize,
    dtype: DType,
    /// Whether floats are multiplied with all their bits.
    whole: bool,
    /// Queries that the gradients of keys and values take at a time.
    queries: usize,
}

impl Tiles {
    /// Rows that a block over queries holds: two pairs of keys and values.
    const OF_QUERIES: usize = 4 * TILE;

    /// `None` if they do not fit into `shared` bytes of a block's shared memory.
    fn new(padded: usize, dtype: DType, precision: Precision, shared: usize) -> Option<Self> {
        let whole = precision == Precision::F32;
        let with = |queries| Self { padded, dtype, whole, queries };
        let fits = |rows: usize| rows * with(64).row() + BESIDES <= shared;
        let many = padded <= 64 && fits(with(64).of_keys());
        let tiles = with(if many { 64 } else { 32 });
        fits(tiles.of_keys().max(Self::OF_QUERIES)).then_some(tiles)
    }

    /// Bytes of a row.
    fn row(&self) -> usize {
        self.padded * self.dtype.size() + 16
    }

    /// Rows that a block over keys holds: its keys and values, and two pairs of queries and their
    /// gradients.
    fn of_keys(&self) -> usize {
        2 * TILE + 4 * self.queries
    }

    /// `entry`, which holds `rows` rows, for attention that is causal or not, with decays or without.
    fn source(&self, entry: &'static str, [causal, decay]: [bool; 2], rows: usize) -> Source {
        let kind = match self.dtype {
            DType::BF16 => 0,
            DType::F16 => 1,
            _ => 2 + self.whole as usize,
        };
        Source {
            entry,
            text: &TEXT,
            defines: vec![
                ("HD", self.padded),
                ("CAUSAL", causal as usize),
                ("DECAY", decay as usize),
                ("TYPE", kind),
                ("QUERIES", self.queries),
            ],
            preamble: |_| String::new(),
            block: CubeDim::new_1d(THREADS),
            shared: rows * self.row(),
        }
    }
}

/// One call: its inputs, ready to be read, and their sizes.
pub(crate) struct Call<R: CubeRuntime> {
    of: Attention,
    inputs: [CubeTensor<R>; 3],
    decay: Option<CubeTensor<R>>,
    batch: usize,
    heads: usize,
    groups: usize,
    queries: usize,
    keys: usize,
    width: usize,
    tiles: Tiles,
    /// The way of Hopper, which takes all but the deltas.
    warpgroups: Option<Warpgroups>,
}

/// `x` `[B, H, T, hd]` with neighbours in a head next to each other, and rows at multiples of 16
/// bytes and none in two places: as it lies, or copied.
fn readable<R: CubeRuntime>(x: CubeTensor<R>) -> CubeTensor<R> {
    let strides = x.meta.strides();
    let aligned = strides[..3].iter().all(|s| *s > 0 && (s * x.elem_size()).is_multiple_of(16));
    let start = x.handle.offset_start.unwrap_or(0).is_multiple_of(16);
    if strides[3] == 1 && aligned && start { x } else { contiguous(x) }
}

/// A new tensor of the shape `[B, H, T, hd]` of `like`, with the heads of a position side by side:
/// merging heads then needs no copy.
fn side_by_side<R: CubeRuntime>(like: &CubeTensor<R>) -> CubeTensor<R> {
    let [b, h, t, hd] = like.meta.shape().dims();
    let mut x = empty(like, [b, t, h, hd], like.dtype);
    x.meta.swap(1, 2);
    x
}

impl<R: CubeRuntime> Call<R> {
    /// `None` if these inputs are not for tensor cores, as a few queries at the end of many keys are
    /// not, or their tiles not for this card's shared memory; [`fallbacks`](crate::fallbacks) lists
    /// the latter.
    pub fn new(
        of: &Attention,
        inputs: [&CubeTensor<R>; 3],
        decay: Option<&CubeTensor<R>>,
    ) -> Option<Self> {
        let capability = capability(inputs[0]);
        let taken = match inputs[0].dtype {
            DType::BF16 | DType::F16 => true,
            DType::F32 => of.precision != Precision::F32 || FASTER_IN_THREE.contains(&capability),
            _ => false,
        };
        let same = taken && inputs.iter().all(|x| x.dtype == inputs[0].dtype);
        let [batch, heads, queries, width] = inputs[0].meta.shape().dims();
        let [_, groups, keys, _] = inputs[1].meta.shape().dims();
        let padded = *WIDTHS.iter().find(|w| **w >= width)?;
        let rows = !of.causal || queries == keys;
        if !same || !rows || !width.is_multiple_of(8) || capability < (8, 0) {
            return None;
        }
        let shared = inputs[0].client.properties().hardware.max_shared_memory_size;
        let tiles = Tiles::new(padded, inputs[0].dtype, of.precision, shared);
        if tiles.is_none() {
            let why = format!(
                "heads of `{width}` channels need more than `{shared}` bytes of shared memory"
            );
            note(Attention::NAME, "tensor cores", &why);
        }
        Some(Self {
            of: of.clone(),
            inputs: inputs.map(|x| readable(x.clone())),
            decay: decay.map(|x| ready(x.clone(), DType::F32)),
            batch,
            heads,
            groups,
            queries,
            keys,
            width,
            tiles: tiles?,
            warpgroups: Warpgroups::new(of, padded, inputs[0].dtype, capability),
        })
    }

    /// The tensor in place of the decays, which a kernel without them never reads.
    fn decay(&self) -> CubeTensor<R> {
        self.decay.clone().unwrap_or_else(|| self.inputs[0].clone())
    }

    /// The bytes of `Info`; missing tensors have strides of zero.
    fn numbers(&self, others: [Option<&CubeTensor<R>>; 5]) -> Vec<u64> {
        let sizes = [self.batch, self.heads, self.groups, self.queries, self.keys, self.width];
        let mut words: Vec<u32> = sizes.iter().copied().map(narrow).collect();
        words.extend([self.of.scale.to_bits(), 0]);
        for x in self.inputs.iter().map(Some).chain(others) {
            let strides =
                x.map_or([0; 3], |x| [0, 1, 2].map(|axis| narrow(x.meta.strides()[axis])));
            words.extend(strides);
        }
        words.chunks(2).map(|w| u64::from(w[0]) | u64::from(w[1]) << 32).collect()
    }

    /// Rows that a block of `entry` keeps.
    fn rows(&self, entry: &str) -> usize {
        self.warpgroups.map_or(TILE, |x| x.rows(entry, self.decay.is_some()))
    }

    /// Launches `entry`, whose blocks hold `held` rows in shared memory where they are no warpgroups:
    /// one for each tile of `length` positions, each of `heads` and the batch. It walks over `tiled`,
    /// and reads or writes `others`.
    fn launch(
        &self,
        (entry, held): (&'static str, usize),
        (length, heads): (usize, usize),
        tiled: &[&CubeTensor<R>],
        others: &[&CubeTensor<R>],
        numbers: Vec<u64>,
    ) {
        let flags = [self.of.causal, self.decay.is_some()];
        let grid = (length.div_ceil(self.rows(entry)), heads, self.batch);
        let owned = |tensors: &[&CubeTensor<R>]| tensors.iter().map(|x| (*x).clone()).collect();
        let (source, maps, buffers) = match &self.warpgroups {
            Some(x) => {
                let maps = tiled.iter().map(|tensor| x.map(tensor)).collect();
                (x.source(entry, flags), maps, owned(others))
            }
            None => {
                (self.tiles.source(entry, flags, held), vec![], owned(&[tiled, others].concat()))
            }
        };
        let client = &self.inputs[0].client;
        // SAFETY: the sizes and strides are those of the tensors.
        unsafe { launch(client, source, grid, Arguments { maps, buffers, numbers }) };
    }

    /// `y`, and the log-sum-exp `[B, H, T, 1]` in f32.
    pub fn forward(&self) -> [CubeTensor<R>; 2] {
        let [q, k, v] = &self.inputs;
        let y = side_by_side(q);
        let lse = empty(q, [self.batch, self.heads, self.queries, 1], DType::F32);
        let numbers = self.numbers([Some(&y), None, None, None, None]);
        let kernel = ("attention_forward", Tiles::OF_QUERIES);
        let others = [&self.decay(), &y, &lse];
        self.launch(kernel, (self.queries, self.heads), &[q, k, v], &others, numbers);
        [y, lse]
    }

    /// Gradients of `q`, `k`, `v`, and of the decays if there are any, from the outputs `y` and
    /// log-sum-exp and the gradient `g` of `y`.
    pub fn backward(&self, [y, lse, g]: [&CubeTensor<R>; 3]) -> Vec<CubeTensor<R>> {
        let [q, k, v] = &self.inputs;
        let [y, g] = [y, g].map(|x| readable(x.clone()));
        let lse = ready(lse.clone(), DType::F32);
        let [dq, dk, dv] = [q, k, v].map(side_by_side);
        let tiles = self.queries.div_ceil(self.rows("attention_dq"));
        let delta = empty(q, [self.batch, self.heads, self.queries], DType::F32);
        let falls = empty(q, [self.batch * tiles, self.heads], DType::F32);
        let numbers = self.numbers([Some(&y), Some(&g), Some(&dq), Some(&dk), Some(&dv)]);
        self.deltas(&y, &g, &delta, numbers.clone());
        let (tiled, decay) = ([q, k, v, &g], self.decay());
        let kernel = ("attention_dq", Tiles::OF_QUERIES);
        let others = [&decay, &lse, &delta, &dq, &falls];
        self.launch(kernel, (self.queries, self.heads), &tiled, &others, numbers.clone());
        let kernel = ("attention_dkdv", self.tiles.of_keys());
        let others = [&decay, &lse, &delta, &dk, &dv];
        self.launch(kernel, (self.keys, self.groups), &tiled, &others, numbers);
        let decays =
            self.decay.iter().map(|_| sum_first(falls.clone(), [self.heads].into(), DType::F32));
        [dq, dk, dv].into_iter().chain(decays).collect()
    }

    /// Sums of `g y` over a head, for each of its positions.
    fn deltas(&self, y: &CubeTensor<R>, g: &CubeTensor<R>, to: &CubeTensor<R>, numbers: Vec<u64>) {
        let source =
            self.tiles.source("attention_delta", [self.of.causal, self.decay.is_some()], 0);
        let lanes = (self.tiles.padded * y.elem_size() / 16).next_power_of_two();
        let grid = (self.queries.div_ceil(THREADS as usize / lanes), self.heads, self.batch);
        let buffers = [y, g, to].map(Clone::clone).into();
        // SAFETY: the sizes and strides are those of the tensors.
        unsafe { launch(&y.client, source, grid, Arguments { maps: vec![], buffers, numbers }) };
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;
    use crate::testing::nvrtc::{ARCHITECTURES, compiles};

    const ENTRIES: [&str; 4] =
        ["attention_forward", "attention_delta", "attention_dq", "attention_dkdv"];

    const KINDS: [(DType, Precision); 4] = [
        (DType::BF16, Precision::Bf16),
        (DType::F16, Precision::Bf16),
        (DType::F32, Precision::Tf32),
        (DType::F32, Precision::F32),
    ];

    /// On the oldest cards every one, on later ones those with all that a text can hold.
    #[test]
    fn all_texts_compile() {
        let (oldest, later) = ARCHITECTURES.split_at(1);
        let kinds = WIDTHS.into_iter().flat_map(|padded| KINDS.map(|kind| (padded, kind)));
        let mut all: Vec<Tiles> = kinds
            .flat_map(|(padded, (dtype, precision))| {
                [99 << 10, 227 << 10].map(|shared| Tiles::new(padded, dtype, precision, shared))
            })
            .flatten()
            .collect();
        // Most are the same on small cards and on large ones.
        all.dedup();
        for (tiles, entry) in all.iter().flat_map(|tiles| ENTRIES.map(|entry| (tiles, entry))) {
            for flags in [[false, false], [false, true], [true, false]] {
                compiles(&tiles.source(entry, flags, 0), oldest);
            }
            let whole = tiles.source(entry, [true; 2], 0);
            compiles(&whole, oldest);
            compiles(&whole, later);
        }
    }

    #[test]
    fn a_card_of_99_kib_takes_what_fits_and_with_fewer_queries_more() {
        let of = |dtype, kib: usize| {
            WIDTHS.map(|padded| {
                Tiles::new(padded, dtype, Precision::F32, kib << 10).map(|tiles| tiles.queries)
            })
        };
        let [many, few] = [Some(64), Some(32)];
        for (dtype, kib) in [(DType::BF16, 227), (DType::F32, 227), (DType::BF16, 99)] {
            assert_eq!(of(dtype, kib), [many, many, many, few, few]);
        }
        assert_eq!(of(DType::F32, 99), [many, many, few, None, None]);
    }
}
