//! Kernels that run on every GPU: products by matrix units for halves where the device has them, else
//! in f32 in registers and shared memory; and no tensor of scores.

mod backward;
mod forward;
mod planes;
mod share;
#[cfg(all(test, feature = "cpu", feature = "wgpu"))]
mod tests;
mod tile;
mod tiles;

use burn::tensor::DType;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::prelude::*;

use super::Attention;
#[cfg(feature = "cuda")]
use super::flash;
use crate::plumbing::cube::{cubes, empty, narrow, ready};
use crate::plumbing::heads::{channels_at_once, empty_like, heads};
use crate::plumbing::reduce::sum_first;
use planes::Planes;
use share::Share;
use tile::{Tile, Use};
use tiles::SizesLaunch;

/// Channels of the widest heads that registers hold.
const WIDEST: usize = 128;

/// Bytes of shared memory of a cube on the device of `x`.
fn shared<R: CubeRuntime>(x: &CubeTensor<R>) -> usize {
    x.client.properties().hardware.max_shared_memory_size
}

/// Why the kernels cannot take these queries.
pub(crate) fn refusal<R: CubeRuntime>(q: &CubeTensor<R>) -> Option<String> {
    let (hd, shared) = (q.meta.shape()[3], shared(q));
    if hd > WIDEST {
        return Some(format!("heads have `{hd}` channels; it takes up to {WIDEST}"));
    }
    // Of as few rows as it goes.
    let fits = |of| Tile::choose(of, hd, 1, shared).is_some();
    (!fits(Use::Forward) || !fits(Use::Backward)).then(|| {
        format!("heads of `{hd}` channels need more than `{shared}` bytes of shared memory")
    })
}

/// Softmax attention whose scores may fade with distance.
pub(crate) struct Kernels<R: CubeRuntime> {
    q: CubeTensor<R>,
    k: CubeTensor<R>,
    v: CubeTensor<R>,
    /// How much a step of distance lowers a score, by query head.
    decay: Option<CubeTensor<R>>,
    of: Attention,
}

impl<R: CubeRuntime> Kernels<R> {
    pub fn new(inputs: [CubeTensor<R>; 3], decay: Option<CubeTensor<R>>, of: Attention) -> Self {
        let dtype = inputs[0].dtype;
        let [q, k, v] = inputs.map(|x| heads(x, dtype));
        Self { q, k, v, decay: decay.map(|x| ready(x, DType::F32)), of }
    }

    /// The call for CUDA's tensor cores, if they can take it.
    #[cfg(feature = "cuda")]
    fn tensor_cores(&self) -> Option<flash::Call<R>> {
        flash::Call::new(&self.of, [&self.q, &self.k, &self.v], self.decay.as_ref())
    }

    /// How a cube has its part of `rows` rows of a head.
    fn share(&self, of: Use, rows: usize) -> Share {
        let (width, shared) = (self.q.meta.shape()[3], shared(&self.q));
        // Fewer rows than a plane has would leave most of it idle.
        if rows >= planes::SIDE
            && planes::available(&self.q)
            && let Some(planes) = Planes::choose(of, width, shared)
        {
            return Share::Planes(planes);
        }
        Share::Units(Tile::choose(of, width, rows, shared).expect("else the op was refused"))
    }

    /// Sizes of a launch with `rows` rows in each of `sequences` sequences, and its cubes.
    fn sizes(&self, rows: usize, sequences: usize, share: Share) -> (SizesLaunch<R>, CubeCount) {
        let [_, heads, queries, width] = self.q.meta.shape().dims();
        let [_, groups, keys, _] = self.k.meta.shape().dims();
        let tiles = rows.div_ceil(share.rows());
        let count = tiles * sequences;
        let [heads, groups, queries, keys, width, tiles, number] =
            [heads, groups, queries, keys, width, tiles, count].map(narrow);
        let sizes = SizesLaunch::new(heads, groups, queries, keys, width, tiles, number);
        (sizes, cubes(count))
    }

    /// The decays, or whatever: they are not read then.
    fn decays(&self, like: &CubeTensor<R>) -> CubeTensor<R> {
        self.decay.clone().unwrap_or_else(|| empty(like, [1], DType::F32))
    }

    /// `[y, log_sum_exp]`.
    pub fn forward(self) -> Vec<CubeTensor<R>> {
        #[cfg(feature = "cuda")]
        if let Some(call) = self.tensor_cores() {
            return call.forward().into();
        }
        let share = self.share(Use::Forward, self.q.meta.shape()[2]);
        self.forward_in(share)
    }

    fn forward_in(&self, share: Share) -> Vec<CubeTensor<R>> {
        let Self { q, k, v, .. } = self;
        let [b, h, t, _] = q.meta.shape().dims();
        let (client, dtype) = (q.client.clone(), q.dtype);
        let y = empty_like(q, dtype);
        let log_sum_exp = empty(q, [b, h, t, 1], DType::F32);
        let (sizes, count) = self.sizes(t, b * h, share);
        let size = channels_at_once(&[q, k, v, &y]);
        // SAFETY: `sizes` are those of all tensors; rows outside of them are not touched.
        unsafe {
            share::forward::launch_unchecked::<R>(
                &client,
                count,
                share.cube(),
                size,
                q.clone().into_tensor_arg(),
                k.clone().into_tensor_arg(),
                v.clone().into_tensor_arg(),
                self.decays(q).into_array_arg(),
                y.clone().into_tensor_arg(),
                log_sum_exp.clone().into_array_arg(),
                sizes,
                self.of.scale,
                self.of.causal,
                self.decay.is_some(),
                share,
                dtype.into(),
            );
        }
        vec![y, log_sum_exp]
    }

    /// `[dq, dk, dv]`, and `ddecay` in f32 if there are decays, given `[y, log_sum_exp, g]`.
    pub fn gradient(self, [y, log_sum_exp, g]: [CubeTensor<R>; 3]) -> Vec<CubeTensor<R>> {
        #[cfg(feature = "cuda")]
        if let Some(call) = self.tensor_cores() {
            return call.backward([&y, &log_sum_exp, &g]);
        }
        let lengths = [&self.q, &self.k].map(|x| x.meta.shape()[2]);
        let shares = lengths.map(|rows| self.share(Use::Backward, rows));
        self.gradient_in(shares, [y, log_sum_exp, g])
    }

    /// With a share of the queries and one of the keys.
    fn gradient_in(
        &self,
        [of_queries, of_keys]: [Share; 2],
        [y, log_sum_exp, g]: [CubeTensor<R>; 3],
    ) -> Vec<CubeTensor<R>> {
        let dtype = self.q.dtype;
        let [y, g] = [y, g].map(|x| heads(x, dtype));
        let log_sum_exp = ready(log_sum_exp, DType::F32);
        let [dq, delta, ddecay] = self.of_queries([&y, &g, &log_sum_exp], of_queries);
        let [dk, dv] = self.of_keys([g, log_sum_exp, delta], of_keys);
        let ddecay = self.decay.is_some().then(|| {
            let heads = self.q.meta.shape()[1];
            sum_first(ddecay, [heads].into(), DType::F32)
        });
        [dq, dk, dv].into_iter().chain(ddecay).collect()
    }

    /// `[dq, delta, ddecay]`, the last one `[B · tiles, H]`.
    fn of_queries(
        &self,
        [y, g, log_sum_exp]: [&CubeTensor<R>; 3],
        share: Share,
    ) -> [CubeTensor<R>; 3] {
        let Self { q, k, v, .. } = self;
        let [b, h, t, _] = q.meta.shape().dims();
        let (client, dtype) = (q.client.clone(), q.dtype);
        let dq = empty_like(q, dtype);
        let delta = empty(q, [b, h, t], DType::F32);
        let parts = if self.decay.is_some() { [b * t.div_ceil(share.rows()), h] } else { [1, 1] };
        let ddecay = empty(q, parts, DType::F32);
        let (sizes, count) = self.sizes(t, b * h, share);
        let size = channels_at_once(&[q, k, v, y, g, &dq]);
        // SAFETY: as in `forward`.
        unsafe {
            share::of_queries::launch_unchecked::<R>(
                &client,
                count,
                share.cube(),
                size,
                q.clone().into_tensor_arg(),
                k.clone().into_tensor_arg(),
                v.clone().into_tensor_arg(),
                self.decays(q).into_array_arg(),
                y.clone().into_tensor_arg(),
                g.clone().into_tensor_arg(),
                log_sum_exp.clone().into_array_arg(),
                dq.clone().into_tensor_arg(),
                delta.clone().into_array_arg(),
                ddecay.clone().into_array_arg(),
                sizes,
                self.of.scale,
                self.of.causal,
                self.decay.is_some(),
                share,
                dtype.into(),
            );
        }
        [dq, delta, ddecay]
    }

    /// `[dk, dv]`.
    fn of_keys(
        &self,
        [g, log_sum_exp, delta]: [CubeTensor<R>; 3],
        share: Share,
    ) -> [CubeTensor<R>; 2] {
        let Self { q, k, v, .. } = self;
        let [b, groups, t, _] = k.meta.shape().dims();
        let (client, dtype) = (q.client.clone(), q.dtype);
        let (dk, dv) = (empty_like(k, dtype), empty_like(v, dtype));
        let (sizes, count) = self.sizes(t, b * groups, share);
        let size = channels_at_once(&[q, k, v, &g, &dk, &dv]);
        // SAFETY: as in `forward`.
        unsafe {
            share::of_keys::launch_unchecked::<R>(
                &client,
                count,
                share.cube(),
                size,
                q.clone().into_tensor_arg(),
                k.clone().into_tensor_arg(),
                v.clone().into_tensor_arg(),
                self.decays(q).into_array_arg(),
                g.into_tensor_arg(),
                log_sum_exp.into_array_arg(),
                delta.into_array_arg(),
                dk.clone().into_tensor_arg(),
                dv.clone().into_tensor_arg(),
                sizes,
                self.of.scale,
                self.of.causal,
                self.decay.is_some(),
                share,
                dtype.into(),
            );
        }
        [dk, dv]
    }
}
