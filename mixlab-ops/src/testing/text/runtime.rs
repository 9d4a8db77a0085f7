//! The runtime: memory without contents, and kernels that are translated instead of launched.

use std::collections::HashSet;
use std::sync::Arc;

use burn_backend::DeviceOps;
use cubecl::CubeTask;
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
use cubecl::zspace::{Shape, Strides};
use cubecl_runtime::allocator::ContiguousMemoryLayoutPolicy;
use cubecl_runtime::logging::ServerLogger;
use cubecl_runtime::memory_management::{
    ManagedMemoryHandle, MemoryAllocationMode, MemoryConfiguration, MemoryManagement,
    MemoryManagementOptions, MemoryUsage,
};
use cubecl_runtime::storage::{BytesResource, BytesStorage, ManagedResource};
use cubecl_runtime::timestamp_profiler::TimestampProfiler;

use super::{Language, SHARED, UNITS, translate};

/// What Apple's GPUs have, as far as their languages can say it, and bfloat16 for CUDA.
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
        ElemType::Float(FloatKind::BF16),
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
