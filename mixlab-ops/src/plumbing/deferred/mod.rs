//! Kernels compiled side by side, on all cores. CubeCL compiles one at a time, each when it is first
//! launched, and the first step of a model needs up to a hundred.
//!
//! A launch whose kernel is still to be compiled is held back, and what comes after it too, in order:
//! the program goes on and meets the next kernels while threads compile those that it has met. When it
//! asks for a result, all is there, and what was held is done.
//!
//! A task that fails, above all for want of memory, is the last one: CubeCL would go on without it, and
//! what is computed from memory that was never allocated would be read as if nothing had been.

mod cuda;
mod store;
#[cfg(all(test, feature = "wgpu"))]
mod tests;
mod workers;

use core::fmt::Debug;
use core::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use cubecl::backtrace::BackTrace;
use cubecl::bytes::Bytes;
use cubecl::device::{DeviceId, DeviceService};
use cubecl::future::DynFut;
use cubecl::ir::TargetProperties;
use cubecl::prelude::*;
use cubecl::profile::ProfileDuration;
use cubecl::server::{
    Binding, ComputeServer, CopyDescriptor, Handle, KernelArguments, MemoryLayout,
    MemoryLayoutDescriptor, MemoryLayoutPolicy, ProfileError, ProfilingToken, ServerCommunication,
    ServerError, ServerUtilities,
};
use cubecl::stream_id::StreamId;
use cubecl::zspace::{Shape, Strides};
use cubecl::{CubeTask, MemoryAllocationMode, MemoryUsage};
use cubecl_runtime::logging::ServerLogger;
use cubecl_runtime::memory_management::ManagedMemoryHandle;
use cubecl_runtime::storage::{ComputeStorage, ManagedResource};

use crate::plumbing::said;

/// Burn's backend for CUDA, with kernels compiled side by side: the first step of a program comes in
/// a fraction of the time. They are kept in CubeCL's cache of compiled kernels: where its
/// configuration names none, they are compiled one at a time as with Burn's own.
pub type Cuda<F = f32, I = i32> =
    burn_fusion::Fusion<burn_cubecl::CubeBackend<Deferred<cubecl::cuda::CudaRuntime>, F, I, u8>>;

/// The runtime `R`, with kernels compiled side by side.
#[derive(Clone, Debug)]
pub struct Deferred<R>(PhantomData<R>);

/// A runtime whose kernels can be compiled beside it.
pub trait Compile: Runtime {
    /// What compiles them.
    type Kernels: Kernels<Self>;
    /// The name of the runtime.
    const NAME: &'static str;
}

/// A kernel on its way to a server.
type Kernel<R> = Box<dyn CubeTask<<R as Runtime>::Compiler>>;

/// Compiles the kernels of one device.
pub trait Kernels<R: Runtime>: Debug + Send + 'static {
    /// For the device that `server` runs.
    fn new(device: DeviceId, server: &R::Server) -> Self;

    /// The kernel as it goes to the server, and whether it may: if not, its compilation has begun.
    fn admit(
        &mut self,
        server: &mut R::Server,
        kernel: Kernel<R>,
        mode: ExecutionMode,
        stream: StreamId,
    ) -> (Kernel<R>, bool);

    /// Waits for what has begun, and hands it to the server.
    fn finish(&mut self, server: &mut R::Server);
}

/// What is held back at most: the tasks of several steps, and as many bytes, which stay in host
/// memory, as a quarter of a billion weights have.
const TASKS: usize = 1 << 14;
const BYTES: usize = 1 << 30;

/// The server of `R`, and what it was not given yet.
#[derive(Debug)]
pub struct Server<R: Compile> {
    inner: R::Server,
    kernels: R::Kernels,
    held: Vec<(Task<R>, StreamId)>,
    /// Data in `held`.
    bytes: usize,
    /// Why a task failed.
    failed: Option<String>,
    utilities: Arc<ServerUtilities<Self>>,
}

/// What a server does in order, and returns nothing for.
enum Task<R: Runtime> {
    Reserve(ManagedMemoryHandle, u64),
    Write(Vec<(CopyDescriptor, Bytes)>),
    Launch(Kernel<R>, CubeCount, KernelArguments, ExecutionMode),
    Mode(MemoryAllocationMode),
    CleanUp,
}

impl<R: Runtime> Debug for Task<R> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Reserve(..) => "Reserve",
            Self::Write(..) => "Write",
            Self::Launch(kernel, ..) => kernel.name(),
            Self::Mode(..) => "Mode",
            Self::CleanUp => "CleanUp",
        })
    }
}

impl<R: Runtime> Task<R> {
    fn run(self, server: &mut R::Server, stream: StreamId) {
        match self {
            Self::Reserve(memory, size) => server.initialize_memory(memory, size, stream),
            Self::Write(data) => server.write(data, stream),
            // SAFETY: what was promised when it was held back.
            Self::Launch(kernel, count, arguments, mode) => unsafe {
                server.launch(kernel, count, arguments, mode, stream);
            },
            Self::Mode(mode) => server.allocation_mode(mode, stream),
            Self::CleanUp => server.memory_cleanup(stream),
        }
    }
}

impl<R: Compile> Server<R> {
    /// Does `task` now, or in its turn.
    fn take(&mut self, task: Task<R>, stream: StreamId) {
        if self.held.is_empty() { self.run(task, stream) } else { self.hold(task, stream) }
    }

    /// Does `task`, unless one before it failed.
    fn run(&mut self, task: Task<R>, stream: StreamId) {
        if self.failed.is_none() {
            let run = AssertUnwindSafe(|| task.run(&mut self.inner, stream));
            // The panic was told by its hook.
            self.failed =
                catch_unwind(run).err().map(|panic| said(&*panic).unwrap_or("a panic").into());
        }
    }

    fn hold(&mut self, task: Task<R>, stream: StreamId) {
        if let Task::Write(data) = &task {
            self.bytes += data.iter().map(|(_, data)| data.len()).sum::<usize>();
        }
        self.held.push((task, stream));
        if self.held.len() >= TASKS || self.bytes >= BYTES {
            self.release();
        }
    }

    /// Does what is held back.
    fn release(&mut self) {
        if !self.held.is_empty() {
            self.kernels.finish(&mut self.inner);
            self.bytes = 0;
            for (task, stream) in core::mem::take(&mut self.held) {
                self.run(task, stream);
            }
        }
    }

    /// The server, with all done that was asked of it.
    ///
    /// # Errors
    /// If some of it failed: what is in memory means nothing then.
    fn sound(&mut self) -> Result<&mut R::Server, ServerError> {
        self.release();
        match &self.failed {
            None => Ok(&mut self.inner),
            Some(reason) => Err(ServerError::Generic {
                reason: format!("an earlier task of the device failed: {reason}"),
                backtrace: BackTrace::capture(),
            }),
        }
    }
}

impl<R: Compile> DeviceService for Server<R> {
    fn init(device: DeviceId) -> Self {
        let inner = R::Server::init(device);
        let kernels = R::Kernels::new(device, &inner);
        let known = ComputeServer::utilities(&inner);
        let (properties, logger) = (known.properties.clone(), known.logger.clone());
        let utilities = ServerUtilities::new(properties, logger, known.clone(), Policy(known));
        Self {
            inner,
            kernels,
            held: Vec::new(),
            bytes: 0,
            failed: None,
            utilities: Arc::new(utilities),
        }
    }

    fn utilities(&self) -> Arc<dyn core::any::Any + Send + Sync> {
        self.utilities.clone()
    }
}

/// Devices do not speak to each other past the host.
impl<R: Compile> ServerCommunication for Server<R> {
    const SERVER_COMM_ENABLED: bool = false;
}

/// How `R` lays out memory.
pub struct Policy<R: Runtime>(Arc<ServerUtilities<R::Server>>);

impl<R: Runtime> MemoryLayoutPolicy for Policy<R> {
    fn apply(
        &self,
        stream: StreamId,
        descriptors: &[MemoryLayoutDescriptor],
    ) -> (Handle, Vec<MemoryLayout>) {
        self.0.layout_policy.apply(stream, descriptors)
    }
}

impl<R: Compile> ComputeServer for Server<R> {
    type Kernel = Kernel<R>;
    type Info = Arc<ServerUtilities<R::Server>>;
    type MemoryLayoutPolicy = Policy<R>;
    type Storage = <R::Server as ComputeServer>::Storage;

    fn logger(&self) -> Arc<ServerLogger> {
        self.inner.logger()
    }

    fn utilities(&self) -> Arc<ServerUtilities<Self>> {
        self.utilities.clone()
    }

    fn initialize_memory(&mut self, memory: ManagedMemoryHandle, size: u64, stream: StreamId) {
        self.take(Task::Reserve(memory, size), stream);
    }

    fn staging(&mut self, sizes: &[usize], stream: StreamId) -> Result<Vec<Bytes>, ServerError> {
        self.inner.staging(sizes, stream)
    }

    fn read(
        &mut self,
        descriptors: Vec<CopyDescriptor>,
        stream: StreamId,
    ) -> DynFut<Result<Vec<Bytes>, ServerError>> {
        match self.sound() {
            Ok(server) => server.read(descriptors, stream),
            Err(error) => Box::pin(async { Err(error) }),
        }
    }

    fn write(&mut self, descriptors: Vec<(CopyDescriptor, Bytes)>, stream: StreamId) {
        self.take(Task::Write(descriptors), stream);
    }

    fn sync(&mut self, stream: StreamId) -> DynFut<Result<(), ServerError>> {
        match self.sound() {
            Ok(server) => server.sync(stream),
            Err(error) => Box::pin(async { Err(error) }),
        }
    }

    fn get_resource(
        &mut self,
        binding: Binding,
        stream: StreamId,
    ) -> Result<ManagedResource<<Self::Storage as ComputeStorage>::Resource>, ServerError> {
        self.sound()?.get_resource(binding, stream)
    }

    unsafe fn launch(
        &mut self,
        kernel: Self::Kernel,
        count: CubeCount,
        arguments: KernelArguments,
        mode: ExecutionMode,
        stream: StreamId,
    ) {
        let (kernel, ready) = self.kernels.admit(&mut self.inner, kernel, mode, stream);
        let task = Task::Launch(kernel, count, arguments, mode);
        if ready { self.take(task, stream) } else { self.hold(task, stream) }
    }

    /// What is held back will be asked for by a result.
    fn flush(&mut self, stream: StreamId) -> Result<(), ServerError> {
        if self.held.is_empty() { self.inner.flush(stream) } else { Ok(()) }
    }

    fn memory_usage(&mut self, stream: StreamId) -> Result<MemoryUsage, ServerError> {
        self.sound()?.memory_usage(stream)
    }

    fn memory_cleanup(&mut self, stream: StreamId) {
        self.take(Task::CleanUp, stream);
    }

    fn start_profile(&mut self, stream: StreamId) -> Result<ProfilingToken, ServerError> {
        self.sound()?.start_profile(stream)
    }

    fn end_profile(
        &mut self,
        stream: StreamId,
        token: ProfilingToken,
    ) -> Result<ProfileDuration, ProfileError> {
        self.release();
        self.inner.end_profile(stream, token)
    }

    fn allocation_mode(&mut self, mode: MemoryAllocationMode, stream: StreamId) {
        self.take(Task::Mode(mode), stream);
    }
}

impl<R: Compile> Runtime for Deferred<R> {
    type Compiler = R::Compiler;
    type Server = Server<R>;
    type Device = R::Device;

    fn client(device: &Self::Device) -> ComputeClient<Self> {
        ComputeClient::load(device)
    }

    fn name(_: &ComputeClient<Self>) -> &'static str {
        R::NAME
    }

    fn require_array_lengths() -> bool {
        R::require_array_lengths()
    }

    fn max_cube_count() -> (u32, u32, u32) {
        R::max_cube_count()
    }

    fn can_read_tensor(shape: &Shape, strides: &Strides) -> bool {
        R::can_read_tensor(shape, strides)
    }

    fn target_properties() -> TargetProperties {
        R::target_properties()
    }

    fn enumerate_devices(
        kind: u16,
        known: &<Self::Server as ComputeServer>::Info,
    ) -> Vec<DeviceId> {
        R::enumerate_devices(kind, &known.info)
    }

    fn enumerate_all_devices(known: &<Self::Server as ComputeServer>::Info) -> Vec<DeviceId> {
        R::enumerate_all_devices(&known.info)
    }
}
