use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use burn::tensor::{Int, Tensor, TensorData};
use burn_cubecl::CubeBackend;
use burn_fusion::Fusion;
use cubecl::device::DeviceId;
use cubecl::prelude::*;
use cubecl::stream_id::StreamId;
use cubecl::wgpu::{WgpuDevice, WgpuRuntime};

use super::{Compile, Deferred, Kernel, Kernels};

/// Kernels of wgpu, each of which is held back when it is first met.
#[derive(Debug)]
pub struct Held(HashSet<KernelId>);

/// Kernels met, and how often what was held back was let go.
static MET: AtomicUsize = AtomicUsize::new(0);
static FINISHED: AtomicUsize = AtomicUsize::new(0);

/// Held by the test whose kernels are counted, or not to be.
static COUNTED: Mutex<()> = Mutex::new(());

impl Compile for WgpuRuntime {
    type Kernels = Held;
    const NAME: &'static str = "wgpu";
}

impl Kernels<WgpuRuntime> for Held {
    fn new(_: DeviceId, _: &<WgpuRuntime as Runtime>::Server) -> Self {
        Self(HashSet::new())
    }

    fn admit(
        &mut self,
        _: &mut <WgpuRuntime as Runtime>::Server,
        kernel: Kernel<WgpuRuntime>,
        _: ExecutionMode,
        _: StreamId,
    ) -> (Kernel<WgpuRuntime>, bool) {
        let new = self.0.insert(kernel.id());
        MET.fetch_add(new.into(), Ordering::Relaxed);
        (kernel, !new)
    }

    fn finish(&mut self, _: &mut <WgpuRuntime as Runtime>::Server) {
        FINISHED.fetch_add(1, Ordering::Relaxed);
    }
}

type Plain = CubeBackend<Deferred<WgpuRuntime>, f32, i32, u32>;

/// Writes, fills and products in turn, with memory that is freed and used again: `Σᵢ (i + 1)·x x` for
/// `x` of the numbers from 0 to 15, and then twice that.
fn sums<B: burn::tensor::backend::Backend>() -> [Vec<f32>; 2] {
    let device = Default::default();
    let mut sum = Tensor::<B, 2>::zeros([4, 4], &device);
    for i in 0..8 {
        let x = Tensor::<B, 1, Int>::arange(0..16, &device).float().reshape([4, 4]);
        let factor = TensorData::new(vec![i as f32 + 1.0], [1, 1]);
        sum = sum + x.clone().matmul(x) * Tensor::from_data(factor, &device);
    }
    let first = sum.clone().into_data().to_vec().unwrap();
    [first, (sum.clone() + sum).into_data().to_vec().unwrap()]
}

#[test]
fn what_was_held_back_is_done_in_order_before_a_result_is_seen() {
    let x = |r: usize, c: usize| (r * 4 + c) as f32;
    let product = |i: usize| (0..4).map(|k| x(i / 4, k) * x(k, i % 4)).sum::<f32>() * 36.0;
    let expected: Vec<f32> = (0..16).map(product).collect();
    let twice: Vec<f32> = expected.iter().map(|v| v * 2.0).collect();
    let _counted = COUNTED.lock().unwrap_or_else(PoisonError::into_inner);
    let before = [&MET, &FINISHED].map(|count| count.load(Ordering::Relaxed));
    assert_eq!(sums::<Plain>(), [expected.clone(), twice.clone()]);
    // Kernels met, and few moments at which all waited: a result that is read is one at the most.
    let (met, finished) =
        (MET.load(Ordering::Relaxed) - before[0], FINISHED.load(Ordering::Relaxed) - before[1]);
    assert!(met > 2 && (1..=2).contains(&finished), "{met} kernels, {finished} times");
    assert_eq!(sums::<Fusion<Plain>>(), [expected, twice]);
}

/// On a device that no other test works on: it is of no use afterwards.
#[test]
fn nothing_is_read_after_a_task_that_failed() {
    type Vector = Tensor<Plain, 1>;
    let _counted = COUNTED.lock().unwrap_or_else(PoisonError::into_inner);
    let device = WgpuDevice::Cpu;
    let one = || Vector::ones([1], &device);
    let read =
        |x: Vector| catch_unwind(AssertUnwindSafe(|| x.into_data().to_vec::<f32>().unwrap()));
    if read(one()).is_err() {
        eprintln!("no Vulkan driver for the CPU here: nothing fails");
        return;
    }
    let early = one();
    let large = Tensor::<Plain, 2>::ones([1 << 20, 1 << 20], &device).sum();
    assert!(read(large).is_err(), "four terabytes");
    assert!(read(early).is_err() && read(one()).is_err(), "read as if nothing had been");
}
