//! Kernels for devices that this machine lacks: a CubeCL runtime that runs nothing, but translates
//! every kernel that is launched on it as the real backend would, and checks the text.
//!
//! Metal's own compiler exists on macOS alone. Two ways lead there, and both are taken: CubeCL's
//! Metal text (what `--backend metal` compiles on a Mac) must come out within the limits of Apple's
//! GPUs, and its WGSL text (what `--backend wgpu` compiles) must pass naga's validator and be written
//! as Metal by it.

use core::fmt::{self, Display, Formatter};
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use burn_backend::DeviceOps;
use cubecl::bytes::Bytes;
use cubecl::device::{Device, DeviceId, DeviceService};
use cubecl::future::DynFut;
use cubecl::ir::features::{Features, Plane, TypeUsage};
use cubecl::ir::{
    AddressType, DeviceProperties, ElemType, FloatKind, HardwareProperties, IntKind,
    MemoryDeviceProperties, TargetProperties, UIntKind,
};
use cubecl::prelude::*;
use cubecl::profile::{ProfileDuration, TimingMethod};
use cubecl::server::{
    Binding, ComputeServer, CopyDescriptor, KernelArguments, ProfileError, ProfilingToken,
    ServerCommunication, ServerError, ServerUtilities,
};
use cubecl::stream_id::StreamId;
use cubecl::wgpu::WgslCompiler;
use cubecl::zspace::{Shape, Strides};
use cubecl::{CompilationError, Compiler, CubeTask};
use cubecl_cpp::MslCompiler;
use cubecl_runtime::allocator::ContiguousMemoryLayoutPolicy;
use cubecl_runtime::logging::ServerLogger;
use cubecl_runtime::memory_management::{
    ManagedMemoryHandle, MemoryAllocationMode, MemoryConfiguration, MemoryManagement,
    MemoryManagementOptions, MemoryUsage,
};
use cubecl_runtime::storage::{BytesResource, BytesStorage, ManagedResource};
use cubecl_runtime::timestamp_profiler::TimestampProfiler;

/// Bytes of shared memory and units that a cube may have on every Apple GPU.
const SHARED: usize = 32 * 1024;
const UNITS: u32 = 1024;

/// What was translated so far, and what was wrong with it.
static TRANSLATED: Mutex<(usize, Vec<String>)> = Mutex::new((0, Vec::new()));

/// How many kernels were translated and passed.
///
/// # Panics
/// If one did not.
pub fn translated() -> usize {
    let (count, failures) = &*TRANSLATED.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    *count
}

/// A language that kernels are translated to.
#[derive(Clone, Copy, Debug, Default)]
pub enum Language {
    /// Metal's, by CubeCL.
    #[default]
    Metal,
    /// WGSL by CubeCL, then Metal's by naga.
    Wgsl,
}

/// A kernel in its language.
pub enum Text {
    Metal(<MslCompiler as Compiler>::Representation),
    Wgsl(<WgslCompiler as Compiler>::Representation),
}

impl Display for Text {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Metal(kernel) => kernel.fmt(f),
            Self::Wgsl(kernel) => kernel.fmt(f),
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
            Self::Metal => "metal",
            Self::Wgsl => "wgsl",
        }
    }
}

/// Why `kernel` is not a program of its language, or too much for the devices.
fn check(kernel: &CompiledKernel<Language>) -> Result<(), String> {
    let units = kernel.cube_dim.num_elems();
    if units > UNITS {
        return Err(format!("{units} units to a cube"));
    }
    match &kernel.repr {
        Some(Text::Metal(repr)) if repr.shared_memory_size() > SHARED => {
            Err(format!("{} bytes of shared memory", repr.shared_memory_size()))
        }
        Some(Text::Metal(_)) => check_metal(&kernel.source),
        _ => check_wgsl(&kernel.source),
    }
}

/// Metal has no 64-bit floats, and CubeCL writes the name of a type that it does not know.
fn check_metal(source: &str) -> Result<(), String> {
    let foreign = ["double", "__nv_", "__half", "bfloat"].into_iter().find(|w| source.contains(w));
    match foreign {
        Some(word) => Err(format!("`{word}` is not of this language")),
        None if !source.contains("[[kernel]]") => Err("no kernel in it".into()),
        None => Ok(()),
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

/// What Apple's GPUs have, as far as both languages can say it.
fn properties() -> DeviceProperties {
    let hardware = HardwareProperties {
        load_width: 128,
        plane_size_min: 32,
        plane_size_max: 32,
        max_bindings: 30,
        max_shared_memory_size: SHARED,
        max_cube_count: (65535, 65535, 65535),
        max_units_per_cube: UNITS,
        max_cube_dim: (UNITS, UNITS, 64),
        num_streaming_multiprocessors: None,
        num_tensor_cores: None,
        min_tensor_cores_dim: None,
        num_cpu_cores: None,
        max_vector_size: 4,
    };
    let mut properties =
        DeviceProperties::new(Features::default(), MEMORY, hardware, TimingMethod::System);
    properties.register_address_type(AddressType::U32);
    for element in [
        ElemType::UInt(UIntKind::U32),
        ElemType::Int(IntKind::I32),
        ElemType::Float(FloatKind::F16),
        ElemType::Float(FloatKind::F32),
        ElemType::Bool,
    ] {
        properties.register_type_usage(element, TypeUsage::all());
    }
    properties.features.plane.insert(Plane::Ops);
    properties
}

const MEMORY: MemoryDeviceProperties =
    MemoryDeviceProperties { max_page_size: 1 << 30, alignment: 256 };

/// The one device.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TextDevice;

impl Device for TextDevice {
    fn from_id(_: DeviceId) -> Self {
        Self
    }

    fn to_id(&self) -> DeviceId {
        DeviceId { type_id: 0, index_id: 0 }
    }
}

impl DeviceOps for TextDevice {}

/// Memory, and which kernels were seen.
#[derive(Debug)]
pub struct TextServer {
    memory: MemoryManagement<BytesStorage>,
    timestamps: TimestampProfiler,
    utilities: Arc<ServerUtilities<Self>>,
    seen: HashSet<KernelId>,
}

fn translate(
    kernel: &dyn CubeTask<Language>,
    mut language: Language,
    mode: ExecutionMode,
) -> Result<(), String> {
    let compile = || kernel.compile(&mut language, &(), mode, kernel.address_type());
    let compiled = catch_unwind(AssertUnwindSafe(compile));
    let compiled = compiled.map_err(|_| "the compiler panicked".to_string())?;
    let compiled = compiled.map_err(|e| format!("{e:?}"))?;
    check(&compiled).map_err(|why| format!("{why}\n{}", compiled.source))
}

impl DeviceService for TextServer {
    fn init(_: DeviceId) -> Self {
        let logger = Arc::new(ServerLogger::default());
        let memory = MemoryManagement::from_configuration(
            BytesStorage::default(),
            &MEMORY,
            MemoryConfiguration::default(),
            logger.clone(),
            MemoryManagementOptions::new("text"),
        );
        let policy = ContiguousMemoryLayoutPolicy::new(4);
        let utilities = Arc::new(ServerUtilities::new(properties(), logger, (), policy));
        let (timestamps, seen) = (TimestampProfiler::default(), HashSet::new());
        Self { memory, timestamps, utilities, seen }
    }

    fn utilities(&self) -> Arc<dyn std::any::Any + Send + Sync> {
        self.utilities.clone()
    }
}

impl ServerCommunication for TextServer {
    const SERVER_COMM_ENABLED: bool = false;
}

impl ComputeServer for TextServer {
    type Kernel = Box<dyn CubeTask<Language>>;
    type Storage = BytesStorage;
    type MemoryLayoutPolicy = ContiguousMemoryLayoutPolicy;
    type Info = ();

    fn logger(&self) -> Arc<ServerLogger> {
        self.utilities.logger.clone()
    }

    fn utilities(&self) -> Arc<ServerUtilities<Self>> {
        self.utilities.clone()
    }

    fn initialize_memory(&mut self, memory: ManagedMemoryHandle, size: u64, _: StreamId) {
        let reserved = self.memory.reserve(size).unwrap();
        self.memory.bind(reserved, memory, 0).unwrap();
    }

    fn read(
        &mut self,
        descriptors: Vec<CopyDescriptor>,
        _: StreamId,
    ) -> DynFut<Result<Vec<Bytes>, ServerError>> {
        let zeros =
            |d: CopyDescriptor| Bytes::from_bytes_vec(vec![0; d.handle.size_in_used() as usize]);
        let all = descriptors.into_iter().map(zeros).collect();
        Box::pin(async move { Ok(all) })
    }

    fn write(&mut self, _: Vec<(CopyDescriptor, Bytes)>, _: StreamId) {}

    fn sync(&mut self, _: StreamId) -> DynFut<Result<(), ServerError>> {
        Box::pin(async move { Ok(()) })
    }

    fn get_resource(
        &mut self,
        binding: Binding,
        _: StreamId,
    ) -> Result<ManagedResource<BytesResource>, ServerError> {
        let (start, end) = (binding.offset_start, binding.offset_end);
        let resource = self.memory.get_resource(binding.memory.clone(), start, end)?;
        Ok(ManagedResource::new(binding.memory, resource))
    }

    unsafe fn launch(
        &mut self,
        kernel: Self::Kernel,
        _: CubeCount,
        _: KernelArguments,
        mode: ExecutionMode,
        _: StreamId,
    ) {
        if !self.seen.insert(kernel.id()) {
            return;
        }
        for language in [Language::Metal, Language::Wgsl] {
            let result = translate(&*kernel, language, mode);
            let (count, failures) = &mut *TRANSLATED.lock().unwrap_or_else(PoisonError::into_inner);
            match result {
                Ok(()) => *count += 1,
                Err(why) => {
                    failures.push(format!(
                        "`{}` as {}: {why}",
                        kernel.name(),
                        language.extension()
                    ));
                }
            }
        }
    }

    fn flush(&mut self, _: StreamId) -> Result<(), ServerError> {
        Ok(())
    }

    fn memory_usage(&mut self, _: StreamId) -> Result<MemoryUsage, ServerError> {
        Ok(self.memory.memory_usage())
    }

    fn memory_cleanup(&mut self, _: StreamId) {}

    fn start_profile(&mut self, _: StreamId) -> Result<ProfilingToken, ServerError> {
        Ok(self.timestamps.start())
    }

    fn end_profile(
        &mut self,
        _: StreamId,
        token: ProfilingToken,
    ) -> Result<ProfileDuration, ProfileError> {
        self.timestamps.stop(token)
    }

    fn allocation_mode(&mut self, _: MemoryAllocationMode, _: StreamId) {}
}

/// The runtime.
#[derive(Clone, Debug)]
pub struct TextRuntime;

impl Runtime for TextRuntime {
    type Compiler = Language;
    type Server = TextServer;
    type Device = TextDevice;

    fn client(device: &Self::Device) -> ComputeClient<Self> {
        ComputeClient::load(device)
    }

    fn name(_: &ComputeClient<Self>) -> &'static str {
        "text"
    }

    fn max_cube_count() -> (u32, u32, u32) {
        (65535, 65535, 65535)
    }

    fn can_read_tensor(_: &Shape, _: &Strides) -> bool {
        true
    }

    fn target_properties() -> TargetProperties {
        TargetProperties { mma: Default::default() }
    }

    fn enumerate_devices(_: u16, (): &()) -> Vec<DeviceId> {
        vec![DeviceId { type_id: 0, index_id: 0 }]
    }
}
