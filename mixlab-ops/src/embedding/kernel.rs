//! Kernels: a cube for each token and 256 columns. The first token of an id sums for all of them.

use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::prelude::*;

use crate::plumbing::cube::{contiguous, cubes, empty, spread};

const UNITS: usize = 256;

#[cube(launch_unchecked)]
fn clear<F: Float>(x: &mut Array<F>, #[define(F)] _dtype: StorageType) {
    if ABSOLUTE_POS < x.len() {
        x[ABSOLUTE_POS] = F::new(0.0);
    }
}

#[cube(launch_unchecked)]
fn sum<F: Float, G: Float, I: Int>(
    ids: &Array<I>,
    grad: &Array<G>,
    table: &mut Array<F>,
    width: u32,
    blocks: u32,
    #[define(F, G, I)] _dtypes: [StorageType; 3],
) {
    let unit = UNIT_POS as usize;
    let (width, blocks, count) = (width as usize, blocks as usize, ids.len());
    let token = CUBE_POS / blocks;
    let column = CUBE_POS % blocks * UNITS.comptime() + unit;
    // Which of the last `UNITS` tokens have the same id, and whether any has.
    let mut same = SharedMemory::<u32>::new(UNITS);
    let mut any = SharedMemory::<u32>::new(1usize);
    if token < count {
        let id = ids[token];
        if unit == 0 {
            any[0] = 0u32;
        }
        sync_cube();
        let mut at = unit;
        while at < token {
            if ids[at] == id {
                any[0] = 1u32;
            }
            at += UNITS.comptime();
        }
        sync_cube();
        let earlier = any[0] == 1u32;
        sync_cube();
        if !earlier {
            let mut total = 0.0f32;
            let mut start = token;
            while start < count {
                if unit == 0 {
                    any[0] = 0u32;
                }
                sync_cube();
                let mut equal = false;
                if start + unit < count {
                    equal = ids[start + unit] == id;
                }
                same[unit] = select(equal, 1u32, 0u32);
                if equal {
                    any[0] = 1u32;
                }
                sync_cube();
                if any[0] == 1u32 && column < width {
                    for i in 0..UNITS.comptime() {
                        if same[i] == 1u32 {
                            total += f32::cast_from(grad[(start + i) * width + column]);
                        }
                    }
                }
                sync_cube();
                start += UNITS.comptime();
            }
            if column < width {
                table[usize::cast_from(id) * width + column] = F::cast_from(total);
            }
        }
    }
}

pub(super) fn gradient<R: CubeRuntime>(
    table: CubeTensor<R>,
    grad: CubeTensor<R>,
    ints: Vec<CubeTensor<R>>,
) -> CubeTensor<R> {
    let out = empty(&table, table.meta.shape().clone(), table.dtype);
    let grad = contiguous(grad);
    let ids = contiguous(ints.into_iter().next().expect("embedding has ids"));
    let [count, width] = grad.meta.shape().dims();
    let blocks = width.div_ceil(UNITS);
    let client = out.client.clone();
    let (all, unit) = spread(out.meta.num_elements(), 256);
    let types = [out.dtype.into(), grad.dtype.into(), ids.dtype.into()];
    // SAFETY: ids number rows of the table, which the caller of `embedding` promises; units past the
    // end of tokens or columns write nothing.
    unsafe {
        clear::launch_unchecked::<R>(
            &client,
            all,
            unit,
            out.clone().into_array_arg(),
            out.dtype.into(),
        );
        sum::launch_unchecked::<R>(
            &client,
            cubes(count * blocks),
            CubeDim::new_1d(UNITS as u32),
            ids.into_array_arg(),
            grad.into_array_arg(),
            out.clone().into_array_arg(),
            width as u32,
            blocks as u32,
            types,
        );
    }
    out
}
