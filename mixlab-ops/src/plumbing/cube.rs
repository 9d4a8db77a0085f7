//! GPU backends: an op's kernels, or its reference; and what the launches have in common.

use burn::tensor::{DType, Shape};
use burn_backend::tensor::{FloatTensor, IntTensor};
use burn_cubecl::ops::numeric::{empty_device_contiguous_dtype, full_device_dtype};
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement};
use cubecl::prelude::{CubeCount, CubeDim, InputScalar};
use cubecl::zspace::metadata::Metadata;

use super::fallbacks::note;
use crate::{Backend, Op, Precision, Spec};

impl<R, F, I, BT> Backend for CubeBackend<R, F, I, BT>
where
    R: CubeRuntime,
    F: FloatElement,
    I: IntElement,
    BT: BoolElement,
{
    unsafe fn execute_unchecked<O: Op<N>, const N: usize>(
        op: &O,
        inputs: [FloatTensor<Self>; N],
        ints: Vec<IntTensor<Self>>,
        outputs: &[Spec],
    ) -> Vec<FloatTensor<Self>> {
        if !O::KERNEL {
            return op.reference::<Self>(inputs, &ints);
        }
        let spans = inputs.iter().chain(&ints).map(|x| span(x.meta.shape(), x.meta.strides()));
        let counts = outputs.iter().map(|x| x.shape.iter().product());
        let refusal = too_large(spans.chain(counts)).or_else(|| op.refusal(&inputs));
        if let Some(reason) = refusal {
            note(O::NAME, "its kernel", &reason);
            return op.reference::<Self>(inputs, &ints);
        }
        // SAFETY: the caller's promise, and no tensor is too large.
        unsafe { op.cube(inputs, ints) }
    }

    /// On CUDA TF32, as MLX has it there: a product in 32-bit floats takes several times as long.
    fn precision(device: &Self::Device) -> Precision {
        if R::name(&R::client(device)) == "cuda" { Precision::Tf32 } else { Precision::F32 }
    }

    fn half(device: &Self::Device) -> Option<DType> {
        <Self as burn::tensor::backend::Backend>::supports_dtype(device, DType::BF16)
            .then_some(DType::BF16)
    }

    fn memory(device: &Self::Device) -> Option<u64> {
        R::client(device).memory_usage().ok().map(|usage| usage.bytes_reserved)
    }
}

/// Elements from the first to the last of a tensor in memory, gaps included; or more, if one of its
/// steps is that long.
fn span(shape: &[usize], strides: &[usize]) -> usize {
    let reach = shape.iter().zip(strides).map(|(length, stride)| (length.max(&1) - 1) * stride);
    let longest = strides.iter().max().copied().unwrap_or_default();
    longest.max(reach.sum::<usize>() + 1)
}

/// Elements that a kernel can count with 32 bits, and units of its launch, which is rounded up.
const MOST: usize = u32::MAX as usize - (1 << 20);

/// Why kernels cannot take tensors that span so many elements, if they cannot.
fn too_large(mut spans: impl Iterator<Item = usize>) -> Option<String> {
    let large = spans.find(|span| *span > MOST)?;
    Some(format!("a tensor spans `{large}` elements; it takes up to {MOST}"))
}

/// Why kernels that hold all numbers as f32, and launch once for a list of tensors, cannot take these,
/// if they cannot.
pub(crate) fn not_together<R: CubeRuntime>(tensors: &[CubeTensor<R>]) -> Option<String> {
    if let Some(x) = tensors.iter().find(|x| x.dtype != DType::F32) {
        return Some(format!("numbers are {}; it takes f32", x.dtype.name()));
    }
    too_large([tensors.iter().map(|x| x.meta.num_elements()).sum()].into_iter())
}

/// A size or count as kernels take it.
///
/// # Panics
/// If it needs more than 32 bits: of the tensors of an op none does, but what a launch adds may.
pub(crate) fn narrow(size: usize) -> u32 {
    u32::try_from(size).unwrap_or_else(|_| panic!("kernels count up to 2³², and this is `{size}`"))
}

/// `x` with its elements in row-major order without gaps. (CUDA pads rows by default.)
pub(crate) fn contiguous<R: CubeRuntime>(x: CubeTensor<R>) -> CubeTensor<R> {
    burn_cubecl::kernel::into_contiguous(x)
}

/// `x` in row-major order and as `dtype`.
pub(crate) fn ready<R: CubeRuntime>(x: CubeTensor<R>, dtype: DType) -> CubeTensor<R> {
    let x = if x.dtype == dtype { x } else { burn_cubecl::kernel::cast(x, dtype) };
    contiguous(x)
}

/// Elements from one row of `x` to the next if its rows alone have gaps between them, and those
/// gaps are in its memory: what a product on Hopper returns where rows are not multiples of 16 bytes.
fn row_step<R: CubeRuntime>(x: &CubeTensor<R>) -> Option<usize> {
    let (shape, strides) = (x.meta.shape(), x.meta.strides());
    let last = shape.num_dims().checked_sub(1).filter(|last| *last > 0)?;
    let step = strides[last - 1];
    let mut next = step;
    for axis in (0..last).rev() {
        if strides[axis] != next {
            return None;
        }
        next *= shape[axis];
    }
    let held = x.handle.size_in_used() as usize;
    (strides[last] == 1 && step > shape[last] && next * x.elem_size() <= held).then_some(step)
}

/// Tensors of one shape for a kernel that takes their elements one by one, in any order: without
/// copies if their rows have the same gaps, whose contents then pass through the kernel too.
pub(crate) fn elementwise<R: CubeRuntime, const N: usize>(
    mut tensors: [CubeTensor<R>; N],
) -> ([CubeTensor<R>; N], Gaps) {
    let steps = tensors.each_ref().map(row_step);
    let Some(step) = steps[0].filter(|step| steps.iter().all(|s| *s == Some(*step))) else {
        return (tensors.map(contiguous), Gaps(None));
    };
    let gaps = tensors[0].meta.clone();
    for x in &mut tensors {
        let mut shape = x.meta.shape().to_vec();
        *shape.last_mut().expect("rows have an axis") = step;
        x.meta.shape = Shape::from(shape);
    }
    (tensors, Gaps(Some(gaps)))
}

/// The gaps that [`elementwise`] took for elements.
pub(crate) struct Gaps(Option<Box<Metadata>>);

impl Gaps {
    /// Gives a result the gaps of the inputs.
    pub fn restore<R: CubeRuntime>(&self, mut y: CubeTensor<R>) -> CubeTensor<R> {
        if let Some(meta) = &self.0 {
            y.meta = meta.clone();
        }
        y
    }
}

/// A new tensor without gaps on the device of `like`, with undefined contents: in tests, NaN or the
/// largest integer.
pub(crate) fn empty<R: CubeRuntime>(
    like: &CubeTensor<R>,
    shape: impl Into<Shape>,
    dtype: DType,
) -> CubeTensor<R> {
    let (client, device, shape) = (like.client.clone(), like.device.clone(), shape.into());
    if cfg!(test) {
        let poison = if dtype.is_float() {
            InputScalar::new(f32::NAN, dtype)
        } else {
            InputScalar::new(i32::MAX, dtype)
        };
        contiguous(full_device_dtype(client, shape, device, poison, dtype))
    } else {
        empty_device_contiguous_dtype(client, device, shape, dtype)
    }
}

/// How many elements of a row of `x`, a tensor without gaps, a unit can load at once: up to 16
/// bytes that divide the last axis.
pub(crate) fn vector_size<R: CubeRuntime>(x: &CubeTensor<R>) -> usize {
    vector_of(x, x.meta.shape().last().copied().unwrap_or(1))
}

/// As [`vector_size`], for a kernel to which rows mean nothing.
pub(crate) fn flat_vector_size<R: CubeRuntime>(x: &CubeTensor<R>) -> usize {
    vector_of(x, x.meta.num_elements())
}

/// As [`vector_size`], for runs of `length` elements.
pub(crate) fn vector_of<R: CubeRuntime>(x: &CubeTensor<R>, length: usize) -> usize {
    let sizes = x.client.io_optimized_vector_sizes(x.dtype.size());
    sizes.filter(|n| n * x.dtype.size() <= 16 && length.is_multiple_of(*n)).max().unwrap_or(1)
}

/// How many tensors a kernel can take that binds `each` buffers for one of them and `others`
/// besides, on the device of `x`: at least one.
pub(crate) fn per_launch<R: CubeRuntime>(x: &CubeTensor<R>, each: usize, others: usize) -> usize {
    // One more holds the numbers of the launch.
    let free = x.client.properties().hardware.max_bindings as usize - others - 1;
    (free / each).max(1)
}

/// A one-dimensional launch of at least `units` units, `width` to a cube.
///
/// The count is spread over two axes when one is not enough: kernels take `ABSOLUTE_POS` and check
/// it against their own bound.
pub(crate) fn spread(units: usize, width: u32) -> (CubeCount, CubeDim) {
    assert!(units <= MOST, "kernels count up to {MOST} units, and these are `{units}`");
    (cubes(units.div_ceil(width as usize)), CubeDim::new_1d(width))
}

/// `count` cubes or a few more, over two axes when one is not enough (`CUBE_POS` numbers them).
pub(crate) fn cubes(count: usize) -> CubeCount {
    const AXIS: usize = 65_535;
    let y = count.div_ceil(AXIS).max(1);
    CubeCount::Static(narrow(count.div_ceil(y)), narrow(y), 1)
}

/// `x` without gaps, and held by nobody else: a kernel may write over it.
pub(crate) fn owned<R: CubeRuntime>(x: CubeTensor<R>) -> CubeTensor<R> {
    if !x.is_contiguous() {
        return contiguous(x);
    }
    if x.can_mut() { x } else { contiguous(x.copy()) }
}

#[cfg(test)]
mod tests {
    use super::{span, too_large};

    #[test]
    fn a_tensor_spans_what_lies_between_its_first_and_last_element() {
        assert_eq!(span(&[2, 3], &[3, 1]), 6);
        assert_eq!(span(&[2, 3], &[8, 1]), 11);
        assert_eq!(span(&[4, 3], &[0, 1]), 3);
        assert_eq!(span(&[], &[]), 1);
        assert_eq!(span(&[1, 3], &[5_000_000_000, 1]), 5_000_000_000);
    }

    #[test]
    fn kernels_are_not_given_more_elements_than_they_can_count() {
        let logits = |rows| span(&[rows, 50_257], &[50_257, 1]);
        assert_eq!(too_large([logits(85_400)].into_iter()), None);
        let found = too_large([7, logits(85_461)].into_iter());
        let expected = "a tensor spans `4295013477` elements; it takes up to 4293918719";
        assert_eq!(found.as_deref(), Some(expected));
    }
}
