//! Which backend computes: the only place that matches on its name.

mod cuda;
mod graphics;
mod place;
mod processor;

use burn::tensor::backend::AutodiffBackend;
use clap::{Args, ValueEnum};
use mixlab_burn::ops::Backend;

use crate::error::Request;
use graphics::{Graphics, has_gpu};

pub use place::Place;
pub use processor::use_threads;

/// Where to compute.
#[derive(Args)]
pub struct Compute {
    /// Backend; auto takes the fastest that this build has and this machine runs
    #[arg(long, value_enum, default_value_t = BackendName::Auto)]
    pub backend: BackendName,
    /// Which device of the backend
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = crate::cli::whole)]
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
            Self::Cuda => Ok(cuda::count()?.max(1)),
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

/// Runs `job` on the backend that `compute` asks for.
///
/// # Errors
/// If this build lacks the backend, or this machine has no device for it, or `job` fails.
pub fn run(compute: &Compute, job: impl Job) -> anyhow::Result<()> {
    processor::keep_memory();
    let device = compute.device;
    match compute.backend.resolve()? {
        BackendName::Auto | BackendName::Cpu => processor::flex(compute, job),
        BackendName::Cuda => cuda::run(device, job),
        BackendName::Metal => graphics::run(Graphics::Metal, device, job),
        BackendName::Vulkan => graphics::run(Graphics::Vulkan, device, job),
        BackendName::Wgpu => graphics::run(Graphics::Any, device, job),
        BackendName::Candle => processor::candle(device, job),
    }
}

/// The fastest backend that this build has and this machine runs on hardware of its own: a software
/// driver is slower than the processor backends.
fn fastest() -> anyhow::Result<BackendName> {
    let candidates: [(BackendName, fn() -> bool); 6] = [
        (BackendName::Cuda, || cuda::count().is_ok_and(|n| n > 0)),
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

/// What a job is refused with whose backend this build lacks.
#[allow(dead_code)]
fn missing(name: &str, feature: &str) -> anyhow::Error {
    let hint = format!("cargo run --release --features {feature} -- … --backend {name}");
    Request(format!("this build has no `{name}` backend\n  hint: {hint}")).into()
}

/// What a job is refused with whose device this machine lacks.
#[allow(dead_code)]
fn no_device(name: &str, looked_for: &str) -> anyhow::Error {
    anyhow::anyhow!("`{name}` finds no device: {looked_for}\n  hint: `--backend cpu` runs anywhere")
}
