//! Kernels for devices that this machine lacks: a CubeCL runtime that runs nothing, but translates
//! every kernel that is launched on it as the real backends would, and checks the texts.
//!
//! Metal's own compiler exists on macOS alone. Two ways lead there, and both are taken: CubeCL's
//! Metal text (what `--backend metal` compiles on a Mac) must come out within the limits of Apple's
//! GPUs and pass clang's types and address spaces ([`clang`]), and its WGSL text (what `--backend
//! wgpu` compiles) must pass naga's validator and be written as Metal by it. Its CUDA text is compiled
//! by [`nvrtc`](super::nvrtc).

mod clang;
mod emulator;
mod runtime;

use core::fmt::{self, Display, Formatter};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cubecl::ir::ElemType;
use cubecl::prelude::*;
use cubecl::wgpu::WgslCompiler;
use cubecl::{CompilationError, Compiler, CubeTask};
use cubecl_cpp::MslCompiler;
use cubecl_cpp::cuda::CudaDialect;
use cubecl_cpp::cuda::mma::CudaWmmaCompiler;
use cubecl_cpp::shared::CppCompiler;

use super::nvrtc;
pub use emulator::available as runs_kernels;
pub use runtime::{TextDevice, TextRuntime};

type CudaCompiler = CppCompiler<CudaDialect<CudaWmmaCompiler>>;

/// Bytes of shared memory and units that a cube may have on every Apple GPU.
const SHARED: usize = 32 * 1024;
const UNITS: u32 = 1024;

/// The oldest architecture with bfloat16: what is right there is right on later ones. As far as PTX:
/// CubeCL's texts have no assembly of their own.
const ARCHITECTURE: &str = "compute_80";

/// What was translated so far.
#[derive(Default)]
struct Translated {
    count: usize,
    /// Kernels and their texts, not checked yet.
    texts: Vec<(String, Language, String)>,
    failures: Vec<String>,
}

static TRANSLATED: Mutex<Translated> =
    Mutex::new(Translated { count: 0, texts: Vec::new(), failures: Vec::new() });

fn so_far() -> MutexGuard<'static, Translated> {
    TRANSLATED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many kernels were translated; checks the texts that nobody has checked yet.
///
/// # Panics
/// If one was wrong.
pub fn translated() -> usize {
    // Not under the lock: tests check side by side.
    let texts = core::mem::take(&mut so_far().texts);
    for (kernel, language, text) in texts {
        if let Err(why) = language.check(&text) {
            let failure = format!("`{kernel}` as {}: {why}\n{text}", language.extension());
            so_far().failures.push(failure);
        }
    }
    let Translated { count, failures, .. } = &mut *so_far();
    // Said once, or one kernel would fail the tests of all others.
    let (count, failures) = (*count, core::mem::take(failures));
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    count
}

/// Notes what [`translated`] panics with.
fn failed(why: String) {
    so_far().failures.push(why);
}

/// Translates `kernel` to every language that has its types.
fn translate(kernel: &dyn CubeTask<Language>, mode: ExecutionMode) {
    for language in [Language::Cuda, Language::Metal, Language::Wgsl] {
        let result = translate_to(kernel, language, mode).map(|compiled| compiled.source);
        let Translated { count, texts, failures } = &mut *so_far();
        match result {
            Ok(text) => {
                // What the other two lack.
                let last = text.contains("bfloat16");
                texts.push((kernel.name().into(), language, text));
                *count += 1;
                if last {
                    return;
                }
            }
            Err(why) => {
                failures.push(format!("`{}` as {}: {why}", kernel.name(), language.extension()));
            }
        }
    }
}

fn translate_to(
    kernel: &dyn CubeTask<Language>,
    mut language: Language,
    mode: ExecutionMode,
) -> Result<CompiledKernel<Language>, String> {
    let compile = || kernel.compile(&mut language, &(), mode, kernel.address_type());
    let compiled = catch_unwind(AssertUnwindSafe(compile));
    let compiled = compiled.map_err(|_| "the compiler panicked".to_string())?;
    let compiled = compiled.map_err(|e| format!("{e:?}"))?;
    within_limits(&compiled).map_err(|why| format!("{why}\n{}", compiled.source))?;
    Ok(compiled)
}

/// Why `kernel` is too much for the devices.
fn within_limits(kernel: &CompiledKernel<Language>) -> Result<(), String> {
    let units = kernel.cube_dim.num_elems();
    if units > UNITS {
        return Err(format!("{units} units to a cube"));
    }
    match &kernel.repr {
        Some(Text::Metal(repr)) if repr.shared_memory_size() > SHARED => {
            Err(format!("{} bytes of shared memory", repr.shared_memory_size()))
        }
        _ => Ok(()),
    }
}

/// A language that kernels are translated to.
#[derive(Clone, Copy, Debug, Default)]
pub enum Language {
    /// CUDA C++, by CubeCL.
    Cuda,
    /// Metal's, by CubeCL.
    #[default]
    Metal,
    /// WGSL by CubeCL, then Metal's by naga.
    Wgsl,
}

/// A kernel in its language.
pub enum Text {
    Cuda(<CudaCompiler as Compiler>::Representation),
    Metal(<MslCompiler as Compiler>::Representation),
    Wgsl(<WgslCompiler as Compiler>::Representation),
}

impl Display for Text {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cuda(kernel) => kernel.fmt(f),
            Self::Metal(kernel) => kernel.fmt(f),
            Self::Wgsl(kernel) => kernel.fmt(f),
        }
    }
}

impl Language {
    /// Why `text` is no program of this language.
    fn check(self, text: &str) -> Result<(), String> {
        match self {
            Self::Cuda => nvrtc::check(text, ARCHITECTURE),
            Self::Metal => clang::check(text),
            Self::Wgsl => check_wgsl(text),
        }
    }
}

impl Compiler for Language {
    type Representation = Text;
    type CompilationOptions = ();

    fn compile(
        &mut self,
        kernel: KernelDefinition,
        (): &(),
        mode: ExecutionMode,
        address: StorageType,
    ) -> Result<Text, CompilationError> {
        let options = Default::default();
        match self {
            Self::Cuda => {
                let mut compiler = CudaCompiler::default();
                compiler.compile(kernel, &options, mode, address).map(Text::Cuda)
            }
            Self::Metal => {
                let mut compiler = MslCompiler::default();
                compiler.compile(kernel, &options, mode, address).map(Text::Metal)
            }
            Self::Wgsl => {
                let (mut compiler, options) = (WgslCompiler::default(), Default::default());
                compiler.compile(kernel, &options, mode, address).map(Text::Wgsl)
            }
        }
    }

    fn elem_size(&self, elem: ElemType) -> usize {
        elem.size()
    }

    fn extension(&self) -> &'static str {
        match self {
            Self::Cuda => "cu",
            Self::Metal => "metal",
            Self::Wgsl => "wgsl",
        }
    }
}

fn check_wgsl(source: &str) -> Result<(), String> {
    use naga::valid::{Capabilities, ValidationFlags, Validator};
    use naga::{back::msl, front::wgsl};
    let module = wgsl::parse_str(source).map_err(|e| e.emit_to_string(source))?;
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::all());
    let info = validator.validate(&module).map_err(|e| e.emit_to_string(source))?;
    let options =
        msl::Options { lang_version: (3, 0), fake_missing_bindings: true, ..Default::default() };
    let written = msl::write_string(&module, &info, &options, &msl::PipelineOptions::default());
    written.map(|_| ()).map_err(|e| format!("not to be written as Metal: {e}"))
}
