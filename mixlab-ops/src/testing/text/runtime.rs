//! The runtime: memory without contents, and kernels that are translated instead of launched.

use std::collections::HashSet;
use std::sync::Arc;

use burn_backend::DeviceOps;
use cubecl::CubeTask;
use cubecl::bytes::Bytes;
use cubecl::device::{Device, DeviceId, DeviceService};
use cubecl::future::DynFut;
use cubecl::ir::features::{Features, MmaConfig, Plane, TypeUsage};
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
use cubecl::zspace::{Shape, Strides};
use cubecl_runtime::allocator::ContiguousMemoryLayoutPolicy;
use cubecl_runtime::logging::ServerLogger;
use cubecl_runtime::memory_management::{
    ManagedMemoryHandle, MemoryAllocationMode, MemoryConfiguration, MemoryManagement,
    MemoryManagementOptions, MemoryUsage,
};
use cubecl_runtime::storage::{BytesResource, BytesStorage, ManagedResource};
use cubecl_runtime::timestamp_profiler::TimestampProfiler;

use super::emulator::Emulator;
use super::{Language, SHARED, UNITS, failed, translate, translate_to};

/// What Apple's GPUs have, as far as their languages can say it, and bfloat16 for CUDA; matrix units
/// as CUDA has them where kernels run.
fn properties(runs: bool) -> DeviceProperties {
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
        ElemType::Float(FloatKind::BF16),
        ElemType::Float(FloatKind::F16),
        ElemType::Float(FloatKind::F32),
        ElemType::Bool,
    ] {
        properties.register_type_usage(element, TypeUsage::all());
    }
    properties.features.plane.insert(Plane::Ops);
    for half in [FloatKind::F16, FloatKind::BF16].into_iter().filter(|_| runs) {
        let [a_type, cd_type] = [half, FloatKind::F32].map(|kind| ElemType::Float(kind).into());
        let unit = MmaConfig { a_type, b_type: a_type, cd_type, m: 16, n: 16, k: 16 };
        properties.features.matmul.cmma.insert(unit);
    }
    properties
}

const MEMORY: MemoryDeviceProperties =
    MemoryDeviceProperties { max_page_size: 1 << 30, alignment: 256 };

/// A device without contents, or one that has them and runs its kernels on the processor.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum TextDevice {
    #[default]
    Translates,
    Runs,
}

impl Device for TextDevice {
    fn from_id(id: DeviceId) -> Self {
        if id.index_id == 0 { Self::Translates } else { Self::Runs }
    }

    fn to_id(&self) -> DeviceId {
        DeviceId { type_id: 0, index_id: u16::from(*self == Self::Runs) }
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
    /// What runs kernels, if something does.
    emulator: Option<Emulator>,
}

impl DeviceService for TextServer {
    fn init(id: DeviceId) -> Self {
        let runs = TextDevice::from_id(id) == TextDevice::Runs;
        let logger = Arc::new(ServerLogger::default());
        let memory = MemoryManagement::from_configuration(
            BytesStorage::default(),
            &MEMORY,
            MemoryConfiguration::default(),
            logger.clone(),
            MemoryManagementOptions::new("text"),
        );
        let policy = ContiguousMemoryLayoutPolicy::new(4);
        let utilities = Arc::new(ServerUtilities::new(properties(runs), logger, (), policy));
        let (timestamps, seen) = (TimestampProfiler::default(), HashSet::new());
        let emulator = runs.then(Emulator::default);
        Self { memory, timestamps, utilities, seen, emulator }
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
        let bytes = |d: CopyDescriptor| {
            let size = d.handle.size_in_used() as usize;
            Bytes::from_bytes_vec(match &self.emulator {
                Some(_) => self.resource(d.handle).read()[..size].to_vec(),
                None => vec![0; size],
            })
        };
        let all = descriptors.into_iter().map(bytes).collect();
        Box::pin(async move { Ok(all) })
    }

    fn write(&mut self, descriptors: Vec<(CopyDescriptor, Bytes)>, _: StreamId) {
        if self.emulator.is_some() {
            for (descriptor, data) in descriptors {
                self.resource(descriptor.handle).write()[..data.len()].copy_from_slice(&data);
            }
        }
    }

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
        count: CubeCount,
        arguments: KernelArguments,
        mode: ExecutionMode,
        _: StreamId,
    ) {
        if self.emulator.is_some() {
            if let Err(why) = self.run(&*kernel, count, arguments, mode) {
                failed(format!("`{}` on the processor: {why}", kernel.name()));
            }
            return;
        }
        if !self.seen.insert(kernel.id()) {
            return;
        }
        translate(&*kernel, mode);
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

impl TextServer {
    fn resource(&mut self, handle: Binding) -> BytesResource {
        let Binding { memory, offset_start, offset_end, .. } = handle;
        self.memory.get_resource(memory, offset_start, offset_end).expect("it was allocated")
    }

    /// Runs `kernel` and waits for it.
    fn run(
        &mut self,
        kernel: &dyn CubeTask<Language>,
        count: CubeCount,
        arguments: KernelArguments,
        mode: ExecutionMode,
    ) -> Result<(), String> {
        let CubeCount::Static(x, y, z) = count else { return Err("a count on the device".into()) };
        let text = translate_to(kernel, Language::Cuda, mode)?;
        let CubeDim { x: units_x, y: units_y, z: units_z } = text.cube_dim;
        let resources: Vec<_> = arguments.buffers.into_iter().map(|b| self.resource(b)).collect();
        let buffers = resources.iter().map(|r| r.get_write_ptr_and_length().0.cast());
        let info = arguments.info.data.as_ptr().cast_mut().cast();
        let all: Vec<_> = buffers.chain([info]).collect();
        let emulator = self.emulator.as_mut().expect("the device runs kernels");
        let sizes = [x, y, z, units_x, units_y, units_z];
        // SAFETY: these are the arguments of the launch, which its caller vouched for.
        unsafe { emulator.run(&text.entrypoint_name, &text.source, sizes, &all) }
    }
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
        vec![TextDevice::Translates.to_id(), TextDevice::Runs.to_id()]
    }
}
