//! Which backend computes: the only place that matches on its name.

use std::fmt;
use std::sync::OnceLock;

use burn::backend::Autodiff;
use burn::tensor::backend::AutodiffBackend;
use clap::{Args, ValueEnum};
use mixlab_burn::ops::Backend;

use crate::error::Request;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
use crate::{drivers, failure::watched};

/// Where to compute.
#[derive(Args)]
pub struct Compute {
    /// Backend; auto takes the fastest that this build has and this machine runs
    #[arg(long, value_enum, default_value_t = BackendName::Auto)]
    pub backend: BackendName,
    /// Which device of the backend
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub device: usize,
    /// Threads of the CPU backend [default: all cores]
    #[arg(long, value_name = "N", value_parser = threads)]
    pub threads: Option<usize>,
}

/// More than any machine has cores for, and fewer than a system refuses.
const MOST_THREADS: usize = 1024;

fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n @ 1..=MOST_THREADS) => Ok(n),
        _ => Err(format!("expected a number from 1 to {MOST_THREADS}")),
    }
}

/// Value of `--backend`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BackendName {
    /// The fastest that this build has and this machine runs.
    Auto,
    /// burn-flex on the processor.
    Cpu,
    /// CUDA.
    Cuda,
    /// Metal, through wgpu.
    Metal,
    /// Vulkan, through wgpu.
    Vulkan,
    /// Whatever graphics interface wgpu finds.
    Wgpu,
    /// candle on the processor.
    Candle,
}

/// Value of `--precision`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PrecisionName {
    /// TensorFloat-32 on CUDA, 32-bit floats elsewhere.
    Auto,
    /// 32-bit floats.
    F32,
    /// TensorFloat-32 products where the hardware has them.
    Tf32,
    /// bfloat16 products, 32-bit weights.
    Bf16,
}

impl BackendName {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Metal => "metal",
            Self::Vulkan => "vulkan",
            Self::Wgpu => "wgpu",
            Self::Candle => "candle",
        }
    }

    /// The backend itself, where it says `auto`.
    ///
    /// # Errors
    /// If this build has none that runs on this machine.
    pub fn resolve(self) -> anyhow::Result<Self> {
        match self {
            Self::Auto => fastest(),
            name => Ok(name),
        }
    }

    /// Devices that jobs are spread over: those of CUDA are known; others are taken to be as many as
    /// there are jobs.
    ///
    /// # Errors
    /// As [`BackendName::resolve`].
    pub fn devices(self) -> anyhow::Result<usize> {
        match self.resolve()? {
            Self::Cuda => Ok(cuda_devices().map_err(|why| no_device("cuda", &why))?.max(1)),
            _ => Ok(usize::MAX),
        }
    }
}

impl PrecisionName {
    /// The override of a config that asks for it.
    pub fn setting(self) -> String {
        format!("training.compute_dtype={}", self.name())
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
        }
    }
}

/// Where a job runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The backend, as `--backend` calls it.
    pub kind: &'static str,
    /// What computes: a number, or a name.
    pub device: String,
    /// Whether it is a GPU, whose kernels are compiled when they are first needed.
    pub gpu: bool,
}

/// How messages call the place: `cuda:0`, or `vulkan (NVIDIA H100)`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            "cuda" => write!(f, "cuda:{}", self.device),
            kind => write!(f, "{kind} ({})", self.device),
        }
    }
}

impl Place {
    /// Bytes of memory that tensors may take here, if they are known.
    pub fn memory(&self) -> Option<u64> {
        match self.kind {
            "cuda" => self.device.parse().ok().and_then(cuda_memory),
            _ if !self.gpu => crate::memory::of_the_machine(),
            _ => None,
        }
    }
}

/// A computation that runs on any backend.
pub trait Job: Send {
    /// Runs on `device`, which is at `place`.
    ///
    /// # Errors
    /// Whatever the computation reports.
    fn run<A>(self, device: A::Device, place: &Place) -> anyhow::Result<()>
    where
        A: AutodiffBackend<InnerBackend: Backend> + Backend;
}

/// Keeps freed memory for the next step, which allocates the same again: clearing fresh pages would
/// take a fifth of a step on the processor.
fn keep_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // The largest that every version of glibc takes.
        const LARGE: libc::c_int = 32 << 20;
        // SAFETY: this changes when malloc asks the system for memory, and nothing else.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
            libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
        }
    }
}

/// Limits this process to `--threads`, or to the most that these may be. Only the first call counts: it comes before anything that
/// computes.
///
/// # Errors
/// If the system does not give so many.
pub fn use_threads(compute: &Compute) -> anyhow::Result<()> {
    static SET: OnceLock<()> = OnceLock::new();
    // rayon starts as many as this says.
    let said = std::env::var("RAYON_NUM_THREADS").ok().and_then(|n| n.parse::<usize>().ok());
    let too_many = said.filter(|n| *n > MOST_THREADS).map(|_| MOST_THREADS);
    let threads = compute.threads.or(too_many);
    let (Some(threads), Ok(())) = (threads, SET.set(())) else { return Ok(()) };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    pool.map_err(|error| {
        let hint = "leave `--threads` out, or give fewer";
        anyhow::anyhow!("`{threads}` threads cannot be had: {error}\n  hint: {hint}")
    })
}

/// Runs `job` on the backend that `compute` asks for.
///
/// # Errors
/// If this build lacks the backend, or this machine has no device for it, or `job` fails.
pub fn run(compute: &Compute, job: impl Job) -> anyhow::Result<()> {
    keep_memory();
    let device = compute.device;
    let name = match compute.backend {
        BackendName::Auto => fastest()?,
        name => name,
    };
    match name {
        BackendName::Auto | BackendName::Cpu => cpu(compute, job),
        BackendName::Cuda => cuda(device, job),
        BackendName::Metal => wgpu(Graphics::Metal, device, job),
        BackendName::Vulkan => wgpu(Graphics::Vulkan, device, job),
        BackendName::Wgpu => wgpu(Graphics::Any, device, job),
        BackendName::Candle => candle(device, job),
    }
}

/// The fastest backend that this build has and this machine runs on hardware of its own: a software
/// driver is slower than the processor backends.
fn fastest() -> anyhow::Result<BackendName> {
    let candidates: [(BackendName, fn() -> bool); 6] = [
        (BackendName::Cuda, || cuda_devices().is_ok_and(|n| n > 0)),
        (BackendName::Metal, || cfg!(feature = "metal") && has_gpu(Graphics::Metal)),
        (BackendName::Vulkan, || cfg!(feature = "vulkan") && has_gpu(Graphics::Vulkan)),
        (BackendName::Wgpu, || !cfg!(feature = "vulkan") && has_gpu(Graphics::Any)),
        (BackendName::Cpu, || cfg!(feature = "cpu")),
        (BackendName::Candle, || cfg!(feature = "candle")),
    ];
    let usable = candidates.into_iter().find(|(_, usable)| usable());
    usable.map(|(name, _)| name).ok_or_else(|| {
        let message = "`auto` finds no GPU for the backends of this build, and it has none for the processor";
        let hint = "build with `--features cpu`, or name a backend: `--backend vulkan` takes software drivers too";
        Request(format!("{message}\n  hint: {hint}")).into()
    })
}

#[allow(dead_code)]
fn missing(name: &str, feature: &str) -> anyhow::Error {
    let hint = format!("cargo run --release --features {feature} -- … --backend {name}");
    Request(format!("this build has no `{name}` backend\n  hint: {hint}")).into()
}

#[allow(dead_code)]
fn no_device(name: &str, looked_for: &str) -> anyhow::Error {
    anyhow::anyhow!("`{name}` finds no device: {looked_for}\n  hint: `--backend cpu` runs anywhere")
}

#[cfg(feature = "cpu")]
fn cpu(compute: &Compute, job: impl Job) -> anyhow::Result<()> {
    only_device("cpu", compute.device)?;
    use_threads(compute)?;
    let device = format!("flex, {} threads", rayon::current_num_threads());
    let place = Place { kind: "cpu", device, gpu: false };
    // A thread of the pool hands out work sooner than one outside of it, and takes its share.
    rayon::scope(|_| job.run::<Autodiff<burn_flex::Flex>>(burn_flex::FlexDevice, &place))
}

#[cfg(not(feature = "cpu"))]
fn cpu(_: &Compute, _: impl Job) -> anyhow::Result<()> {
    Err(missing("cpu", "cpu"))
}

#[cfg(any(feature = "cpu", feature = "candle"))]
fn only_device(name: &str, device: usize) -> anyhow::Result<()> {
    if device == 0 {
        return Ok(());
    }
    let message = format!(
        "`--device {device}`: the `{name}` backend has only device `0`\n  hint: leave `--device` out"
    );
    Err(Request(message).into())
}

#[cfg(feature = "candle")]
#[allow(deprecated)] // Burn 0.21 is the last release with it.
fn candle(device: usize, job: impl Job) -> anyhow::Result<()> {
    only_device("candle", device)?;
    let place = Place { kind: "candle", device: "cpu".into(), gpu: false };
    job.run::<Autodiff<burn_candle::Candle>>(burn_candle::CandleDevice::Cpu, &place)
}

#[cfg(not(feature = "candle"))]
fn candle(_: usize, _: impl Job) -> anyhow::Result<()> {
    Err(missing("candle", "candle"))
}

/// How many CUDA devices there are, or why that cannot be known.
#[cfg(feature = "cuda")]
fn cuda_devices() -> Result<usize, String> {
    use cudarc::driver::{result, sys};
    // SAFETY: only looks whether the driver library can be opened.
    if !unsafe { sys::is_culib_present() } {
        return Err("the NVIDIA driver library `libcuda.so` is not installed".into());
    }
    result::init().map_err(|e| format!("the NVIDIA driver does not start: {e}"))?;
    let count = result::device::get_count().map_err(|e| format!("no device is listed: {e}"))?;
    Ok(count as usize)
}

/// Bytes of memory of a CUDA device.
#[cfg(feature = "cuda")]
fn cuda_memory(device: usize) -> Option<u64> {
    use cudarc::driver::result;
    let device = result::device::get(device.try_into().ok()?).ok()?;
    // SAFETY: the device is one that the driver has just named.
    unsafe { result::device::total_mem(device) }.ok().map(|bytes| bytes as u64)
}

#[cfg(not(feature = "cuda"))]
fn cuda_memory(_: usize) -> Option<u64> {
    None
}

#[cfg(not(feature = "cuda"))]
fn cuda_devices() -> Result<usize, String> {
    Ok(0)
}

#[cfg(feature = "cuda")]
fn cuda(device: usize, job: impl Job) -> anyhow::Result<()> {
    let count = cuda_devices().map_err(|why| no_device("cuda", &why))?;
    if device >= count {
        return Err(no_device("cuda", &format!("`--device {device}` of `{count}` devices")));
    }
    drivers::configure();
    let place = Place { kind: "cuda", device: device.to_string(), gpu: true };
    let cuda = burn_cuda::CudaDevice::new(device);
    watched(&place, || job.run::<Autodiff<mixlab_burn::ops::Cuda>>(cuda, &place))
}

#[cfg(not(feature = "cuda"))]
fn cuda(_: usize, _: impl Job) -> anyhow::Result<()> {
    Err(missing("cuda", "cuda"))
}

#[derive(Clone, Copy, Debug)]
enum Graphics {
    Metal,
    Vulkan,
    Any,
}

/// Whether wgpu lists hardware for `graphics`. Opens no device, and asks no other interface. Where
/// Linux has no graphics device no driver is asked: that takes time, and Mesa complains on stderr
/// where there is no desktop.
#[cfg(feature = "wgpu")]
fn has_gpu(graphics: Graphics) -> bool {
    use burn_wgpu::graphics::{AutoGraphicsApi, GraphicsApi, Metal, Vulkan};
    use wgpu::{DeviceType, Instance, InstanceDescriptor};
    let nodes = ["/dev/dri", "/dev/nvidiactl", "/dev/dxg"];
    if cfg!(target_os = "linux") && !nodes.iter().any(|node| std::path::Path::new(node).exists()) {
        return false;
    }
    let backends = match graphics {
        Graphics::Metal => Metal::backend(),
        Graphics::Vulkan => Vulkan::backend(),
        Graphics::Any => AutoGraphicsApi::backend(),
    };
    let backends = backends.into();
    let request =
        InstanceDescriptor { backends, ..InstanceDescriptor::new_without_display_handle() };
    let adapters = Instance::new(request).enumerate_adapters(backends);
    let kinds = cubecl::future::block_on(adapters).into_iter().map(|a| a.get_info().device_type);
    kinds
        .into_iter()
        .any(|kind| matches!(kind, DeviceType::DiscreteGpu | DeviceType::IntegratedGpu))
}

#[cfg(not(feature = "wgpu"))]
fn has_gpu(_: Graphics) -> bool {
    false
}

#[cfg(feature = "wgpu")]
fn wgpu(graphics: Graphics, device: usize, job: impl Job) -> anyhow::Result<()> {
    use burn_wgpu::{Wgpu, WgpuDevice, graphics as api, init_setup};
    let device = match device {
        0 => WgpuDevice::DefaultDevice,
        n => WgpuDevice::DiscreteGpu(n),
    };
    let (kind, compiled) = match graphics {
        Graphics::Metal => ("metal", cfg!(feature = "metal")),
        Graphics::Vulkan => ("vulkan", cfg!(feature = "vulkan")),
        Graphics::Any => ("wgpu", true),
    };
    if !compiled {
        return Err(missing(kind, kind));
    }
    drivers::configure();
    drivers::make_folder();
    // wgpu reports a missing adapter by a panic; its text would only repeat what is said below.
    let setup = without_panic(|| match graphics {
        Graphics::Metal => init_setup::<api::Metal>(&device, Default::default()),
        Graphics::Vulkan => init_setup::<api::Vulkan>(&device, Default::default()),
        Graphics::Any => init_setup::<api::AutoGraphicsApi>(&device, Default::default()),
    });
    let Some(setup) = setup else {
        return Err(no_device(kind, &format!("no {graphics:?} adapter for {device:?}")));
    };
    let place = Place { kind, device: setup.adapter.get_info().name, gpu: true };
    watched(&place, || job.run::<Autodiff<Wgpu>>(device, &place))
}

/// What `f` returns, or nothing if it panics, and then without a word. Other threads are heard: the
/// loader already runs.
#[cfg(feature = "wgpu")]
fn without_panic<T>(f: impl FnOnce() -> T + std::panic::UnwindSafe) -> Option<T> {
    use std::{panic, sync::Arc, thread};
    let here = thread::current().id();
    let hook = Arc::new(panic::take_hook());
    let others = hook.clone();
    panic::set_hook(Box::new(move |info| {
        if thread::current().id() != here {
            others(info);
        }
    }));
    let result = panic::catch_unwind(f);
    panic::set_hook(Box::new(move |info| hook(info)));
    result.ok()
}

#[cfg(not(feature = "wgpu"))]
fn wgpu(graphics: Graphics, _: usize, _: impl Job) -> anyhow::Result<()> {
    let name = match graphics {
        Graphics::Metal => "metal",
        Graphics::Vulkan => "vulkan",
        Graphics::Any => "wgpu",
    };
    Err(missing(name, name))
}
