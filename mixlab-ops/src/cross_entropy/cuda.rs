//! CUDA's own kernel for training on rows that fit in shared memory: the launch of `rows.cu`.

use burn::tensor::DType;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::prelude::*;

use super::CrossEntropy;
use crate::plumbing::cube::empty;
use crate::plumbing::cuda::{Arguments, Source, Text, capability, launch};

static TEXT: Text = Text::new(include_str!("rows.cu"));

/// Bytes of a row that the caches keep until it is read again.
const SHORT: usize = 16 << 10;

/// Blocks that hold a row of `z` in shared memory, and the threads of each; `None` where rows are
/// short, do not fit, or are no multiples of 16 bytes, or the card lacks copies in the background.
fn blocks<R: CubeRuntime>(z: &CubeTensor<R>) -> Option<(usize, usize)> {
    let [rows, columns] = z.meta.shape().dims();
    let row = columns * z.elem_size();
    let hardware = &z.client.properties().hardware;
    // Sums over a block take some too.
    let at_once = (hardware.max_shared_memory_size - 1024) / row;
    let fits = row > SHORT && at_once > 0 && row.is_multiple_of(16);
    (fits && capability(z) >= (8, 0)).then(|| {
        // A multiprocessor runs 2048 threads.
        let threads = (2048 / at_once).next_power_of_two().clamp(256, 1024);
        let processors = hardware.num_streaming_multiprocessors.unwrap_or(1) as usize;
        (rows.min(processors * at_once.min(2048 / threads)), threads)
    })
}

/// The kernel for rows of `columns` logits and targets of `words` 32-bit words, if there is one for
/// this type.
fn source(dtype: DType, threads: usize, words: usize, columns: usize) -> Option<Source> {
    let kind = match dtype {
        DType::BF16 => 0,
        DType::F16 => 1,
        DType::F32 => 2,
        _ => return None,
    };
    Some(Source {
        entry: "cross_entropy_rows",
        text: &TEXT,
        defines: vec![("TYPE", kind), ("THREADS", threads), ("WORDS", words)],
        preamble: |_| String::new(),
        block: CubeDim::new_1d(threads as u32),
        shared: columns * dtype.size(),
    })
}

/// The losses, and the gradient of the logits in the place of `z` if nobody else holds it. `None` if
/// the call is not for this kernel. Neither tensor has gaps.
pub(super) fn losses<R: CubeRuntime>(
    op: &CrossEntropy,
    z: &CubeTensor<R>,
    targets: &CubeTensor<R>,
) -> Option<Vec<CubeTensor<R>>> {
    let (g, ours) = (op.ahead.filter(|_| op.softcap.is_none())?, z.can_mut());
    let (blocks, threads) = blocks(z)?;
    let [rows, columns] = z.meta.shape().dims();
    let source = source(z.dtype, threads, targets.elem_size() / 4, columns)?;
    let nll = empty(z, [rows], DType::F32);
    let dz = if ours { z.clone() } else { empty(z, [rows, columns], z.dtype) };
    let client = z.client.clone();
    let buffers = vec![z.clone(), targets.clone(), nll.clone(), dz.clone()];
    let numbers = vec![rows as u64 | (columns as u64) << 32, g.to_bits().into()];
    // SAFETY: rows and columns are those of the tensors, which have no gaps.
    unsafe {
        let arguments = Arguments { maps: vec![], buffers, numbers };
        launch(&client, source, (blocks, 1, 1), arguments);
    }
    Some(vec![nll, dz])
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;
    use crate::testing::nvrtc::{ARCHITECTURES, compiles};

    #[test]
    fn all_texts_compile() {
        for dtype in [DType::BF16, DType::F16, DType::F32] {
            for (threads, words) in [256, 512, 1024].into_iter().flat_map(|t| [(t, 1), (t, 2)]) {
                compiles(&source(dtype, threads, words, 32_768).unwrap(), &ARCHITECTURES);
            }
        }
    }
}
