//! CUDA kernels from source: the way to instructions of one chip that CubeCL does not write.
//!
//! A [`Source`] is compiled by NVRTC, cached and launched by CubeCL like its own kernels, on the
//! same stream. Its parameters are, in this order: the tensor maps (by value), the addresses of
//! their buffers, the addresses of the other buffers, and the numbers of the launch (by value).

use core::any::Any;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::cuda::{CudaCompiler, CudaDevice};
use cubecl::{CompilationError, Compiler, CubeTask};

use cubecl::prelude::*;
use cubecl::server::{KernelArguments, MetadataBindingInfo, TensorMapBinding};
use cubecl_cpp::shared::SharedMemory;

use super::cube::narrow;

/// A text in CUDA C++.
#[derive(Debug)]
pub(crate) struct Text {
    text: &'static str,
    fingerprint: u64,
}

impl Text {
    /// Takes the fingerprint once, when it is compiled: launches are too frequent for that.
    pub const fn new(text: &'static str) -> Self {
        Self { text, fingerprint: fingerprint(text.as_bytes()) }
    }
}

/// FNV-1a: the same in every process, which the cache on disk needs.
const fn fingerprint(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325;
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(0x0100_0000_01b3);
        i += 1;
    }
    hash
}

/// Macros with numbers for values.
pub(crate) type Defines = Vec<(&'static str, usize)>;

/// A kernel of a [`Text`].
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// Name of the `extern "C"` kernel; a text with several writes the one whose `ENTRY_name` is
    /// defined.
    pub entry: &'static str,
    /// The text that it is in.
    pub text: &'static Text,
    /// Macros to define before the text.
    pub defines: Defines,
    /// What else to write before the text, which follows from the macros.
    pub preamble: fn(&Defines) -> String,
    /// Threads of a block.
    pub block: CubeDim,
    /// Bytes of dynamic shared memory.
    pub shared: usize,
}

impl Source {
    /// All that NVRTC reads.
    pub fn written(&self) -> String {
        let entry = format!("#define ENTRY_{}\n", self.entry);
        let defines = self.defines.iter().map(|(name, value)| format!("#define {name} {value}\n"));
        let rest = [entry, (self.preamble)(&self.defines), self.text.text.into()];
        defines.chain(rest).collect()
    }
}

/// What tells one compiled kernel from another; the text is in, so that a changed one misses the
/// cache of compiled kernels.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Identity {
    entry: &'static str,
    text: u64,
    defines: Defines,
    shared: usize,
}

impl KernelMetadata for Source {
    fn name(&self) -> &'static str {
        self.entry
    }

    fn id(&self) -> KernelId {
        let identity = Identity {
            entry: self.entry,
            text: self.text.fingerprint,
            defines: self.defines.clone(),
            shared: self.shared,
        };
        KernelId::new::<Self>().info(identity).cube_dim(self.block)
    }

    fn address_type(&self) -> StorageType {
        AddressType::U32.unsigned_type()
    }
}

impl CubeTask<CudaCompiler> for Source {
    fn compile(
        &self,
        compiler: &mut CudaCompiler,
        options: &<CudaCompiler as Compiler>::CompilationOptions,
        mode: ExecutionMode,
        address: StorageType,
    ) -> Result<CompiledKernel<CudaCompiler>, CompilationError> {
        // CubeCL reads the size of the shared memory off its own form of the kernel: an empty one
        // that claims as much.
        let mut repr = compiler.compile(empty(self.entry, self.block), options, mode, address)?;
        let word = repr.body.address_type;
        let words = self.shared.div_ceil(word.size());
        repr.body.shared_memories = vec![SharedMemory::new_array(0, word, words, 16)];
        Ok(CompiledKernel {
            entrypoint_name: self.entry.into(),
            debug_name: Some(self.entry),
            source: self.written(),
            repr: Some(repr),
            cube_dim: self.block,
            debug_info: None,
        })
    }
}

/// CubeCL's form of a kernel that does nothing.
pub(super) fn empty(name: &str, cube_dim: CubeDim) -> KernelDefinition {
    KernelDefinition {
        buffers: vec![],
        tensor_maps: vec![],
        scalars: vec![],
        cube_dim,
        body: Scope::root(false),
        options: KernelOptions { kernel_name: name.into(), ..Default::default() },
    }
}

/// What a launch passes to a [`Source`].
pub(crate) struct Arguments<R: CubeRuntime> {
    pub maps: Vec<TensorMapBinding>,
    pub buffers: Vec<CubeTensor<R>>,
    /// The bytes of the last parameter.
    pub numbers: Vec<u64>,
}

/// Launches `source` on `grid` blocks, on the device of `client`.
///
/// # Panics
/// If the language of `R` is not CUDA's: [`capability`] tells.
///
/// # Safety
/// The kernel must stay within the tensors that it is given.
pub(crate) unsafe fn launch<R: CubeRuntime>(
    client: &ComputeClient<R>,
    source: Source,
    grid: (usize, usize, usize),
    arguments: Arguments<R>,
) {
    let Arguments { maps, buffers, numbers } = arguments;
    let words = numbers.len();
    let bindings = KernelArguments::new()
        .with_tensor_maps(maps)
        .with_buffers(buffers.into_iter().map(|x| x.handle.binding()).collect())
        .with_info(MetadataBindingInfo::new(numbers, words));
    let count = CubeCount::Static(narrow(grid.0), narrow(grid.1), narrow(grid.2));
    let task: Box<dyn CubeTask<CudaCompiler>> = Box::new(source);
    let task = (Box::new(task) as Box<dyn Any>).downcast().expect("a runtime for CUDA");
    // SAFETY: the caller's promise.
    unsafe { client.launch_unchecked(*task, count, bindings) };
}

/// Compute capability of the device that holds `x`, as (major, minor): (9, 0) is Hopper. (0, 0) if it
/// is none of CUDA's.
pub(crate) fn capability<R: CubeRuntime>(x: &CubeTensor<R>) -> (i32, i32) {
    let device = (&x.device as &dyn Any).downcast_ref::<CudaDevice>();
    device.map_or((0, 0), |device| capability_of(device.index))
}

/// Compute capability of a device of CUDA's.
pub(super) fn capability_of(index: usize) -> (i32, i32) {
    use cudarc::driver::{result::device, sys::CUdevice_attribute_enum as Attribute};
    static KNOWN: Mutex<Option<HashMap<usize, (i32, i32)>>> = Mutex::new(None);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    *known.get_or_insert_default().entry(index).or_insert_with(|| {
        let read = |attribute| {
            let device = device::get(index as i32).ok()?;
            // SAFETY: `device` was just given by the driver.
            unsafe { device::get_attribute(device, attribute) }.ok()
        };
        let major = read(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
        let minor = read(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
        major.zip(minor).unwrap_or((0, 0))
    })
}
