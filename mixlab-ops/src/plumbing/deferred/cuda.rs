//! CUDA: kernels go to NVRTC on threads, and from there, as machine code for the card, into CubeCL's
//! cache of compiled kernels as if CubeCL had put them there. The server then has nothing to compile,
//! nor the driver, which CubeCL gives PTX.

use std::collections::HashMap;
use std::ffi::{CString, c_char};
use std::sync::{Arc, Mutex, PoisonError};

use cubecl::cuda::{CudaCompiler, CudaRuntime, install};
use cubecl::device::DeviceId;
use cubecl::hash::StableHash;
use cubecl::ir::DeviceProperties;
use cubecl::prelude::*;
use cubecl::server::{ComputeServer, KernelArguments};
use cubecl::stream_id::StreamId;
use cubecl::{CompilationError, Compiler, CubeTask};
use cubecl_runtime::validation::{validate_cube_dim, validate_units};
use cudarc::driver::sys::cuDriverGetVersion;
use cudarc::nvrtc::{result, sys};

use super::store::{Compiled, Store};
use super::workers::Workers;
use super::{Compile, Kernel, Kernels};
use crate::plumbing::cuda::{capability_of, empty};

type Server = <CudaRuntime as Runtime>::Server;
type Options = <CudaCompiler as Compiler>::CompilationOptions;

impl Compile for CudaRuntime {
    type Kernels = CudaKernels;
    const NAME: &'static str = "cuda";
}

/// What machine code is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Card {
    /// Compute capability, major and minor.
    capability: (i32, i32),
    /// The driver's version.
    driver: i32,
}

/// The kernels of a card.
#[derive(Debug)]
pub struct CudaKernels {
    card: Card,
    properties: Arc<DeviceProperties>,
    /// Those on disk.
    store: Option<Store>,
    /// Kernels that the server has, or finds in the cache, or gets when those under way are done: as
    /// they were asked for, and as they are called for this card.
    known: HashMap<KernelId, KernelId>,
    /// How CubeCL translates to CUDA C++ here.
    options: Option<Options>,
    under_way: Option<(Workers<Job, Stored>, StreamId)>,
}

/// A kernel for one card: its machine code is of no use to another.
#[derive(Clone)]
struct ForCard {
    kernel: Arc<dyn CubeTask<CudaCompiler>>,
    id: KernelId,
}

impl ForCard {
    /// `kernel`, which is known as `asked` elsewhere.
    fn new(kernel: Arc<dyn CubeTask<CudaCompiler>>, asked: &KernelId, card: Card) -> Self {
        let id = KernelId::new::<Self>().info((asked.stable_hash(), card));
        Self { kernel, id: id.cube_dim(asked.cube_dim) }
    }
}

impl KernelMetadata for ForCard {
    fn name(&self) -> &'static str {
        self.kernel.name()
    }

    fn id(&self) -> KernelId {
        self.id.clone()
    }

    fn address_type(&self) -> StorageType {
        self.kernel.address_type()
    }
}

impl CubeTask<CudaCompiler> for ForCard {
    fn compile(
        &self,
        compiler: &mut CudaCompiler,
        options: &Options,
        mode: ExecutionMode,
        address: StorageType,
    ) -> Result<CompiledKernel<CudaCompiler>, CompilationError> {
        self.kernel.compile(compiler, options, mode, address)
    }
}

impl Kernels<CudaRuntime> for CudaKernels {
    fn new(device: DeviceId, server: &Server) -> Self {
        let mut driver = 0;
        // SAFETY: the driver was opened for the server; this writes one number.
        unsafe { cuDriverGetVersion(&mut driver) };
        Self {
            card: Card { capability: capability_of(device.index_id.into()), driver },
            properties: Arc::new(ComputeServer::utilities(server).properties.clone()),
            store: Store::open(),
            known: HashMap::new(),
            options: None,
            under_way: None,
        }
    }

    fn admit(
        &mut self,
        server: &mut Server,
        kernel: Kernel<CudaRuntime>,
        mode: ExecutionMode,
        stream: StreamId,
    ) -> (Kernel<CudaRuntime>, bool) {
        let mut asked = kernel.id();
        let kernel = Arc::from(kernel);
        asked.mode(mode);
        if let Some(id) = self.known.get(&asked) {
            return (Box::new(ForCard { kernel, id: id.clone() }), true);
        }
        let kernel = ForCard::new(kernel, &asked, self.card);
        let mut id = kernel.id();
        id.mode(mode);
        self.known.insert(asked, id.clone());
        let stored = self.store.as_ref().map(|store| store.has(id.stable_hash()));
        match stored {
            Some(true) => log::trace!("`{}` is in the PTX cache", kernel.name()),
            _ => log::trace!("Compiling `{}`", kernel.name()),
        }
        let ready = stored.unwrap_or(true);
        if !ready {
            let options = self.options.get_or_insert_with(|| ask(server, stream)).clone();
            let job = Job {
                kernel: kernel.clone(),
                id,
                mode,
                options,
                capability: self.card.capability,
                properties: self.properties.clone(),
            };
            let workers = || (Workers::new(Job::run), stream);
            self.under_way.get_or_insert_with(workers).0.begin(job);
        }
        (Box::new(kernel), ready)
    }

    fn finish(&mut self, server: &mut Server) {
        let Some((workers, stream)) = self.under_way.take() else { return };
        let compiled = workers.finish();
        let Some(store) = &mut self.store else { return };
        store.add(compiled);
        // CubeCL looks for what others have stored when it stores a kernel of its own.
        ask(server, stream);
    }
}

/// A compiled kernel, and what CubeCL's cache calls it.
type Stored = (StableHash, Compiled);

/// A kernel to compile.
struct Job {
    kernel: ForCard,
    id: KernelId,
    mode: ExecutionMode,
    options: Options,
    capability: (i32, i32),
    properties: Arc<DeviceProperties>,
}

impl Job {
    /// `None` if there is no machine code or the card cannot run it: the server will say why.
    fn run(self) -> Option<Stored> {
        let Self { kernel, id, mode, options, capability, properties } = self;
        validate_cube_dim(&properties, &id).and_then(|()| validate_units(&properties, &id)).ok()?;
        let address = kernel.address_type();
        let compiled =
            kernel.compile(&mut CudaCompiler::default(), &options, mode, address).ok()?;
        let shared = compiled.repr?.shared_memory_size();
        let fits = shared <= properties.hardware.max_shared_memory_size;
        let ptx = fits.then(|| machine_code(&compiled.source, capability)).flatten()?;
        let entrypoint_name = compiled.entrypoint_name;
        Some((id.stable_hash(), Compiled { entrypoint_name, shared_mem_bytes: shared, ptx }))
    }
}

/// What NVRTC makes of `text` for a card of this compute capability, with CubeCL's options.
fn machine_code(text: &str, (major, minor): (i32, i32)) -> Option<Vec<c_char>> {
    let text = CString::new(text).ok()?;
    let kind = if major >= 9 { "a" } else { "" };
    let includes = [install::include_path(), install::cccl_include_path()];
    let includes = includes.iter().filter(|path| path.exists());
    let mut options = vec![format!("--gpu-architecture=sm_{major}{minor}{kind}")];
    options.extend(includes.map(|path| format!("--include-path={}", path.display())));
    let program = result::create_program(&text, None).ok()?;
    // SAFETY: a program of NVRTC's until it is destroyed, and a buffer of the size that it asks for.
    unsafe {
        let compiled = result::compile_program(program, &options).ok().and_then(|()| {
            let mut size = 0;
            sys::nvrtcGetCUBINSize(program, &mut size).result().ok()?;
            let mut code = vec![0; size];
            sys::nvrtcGetCUBIN(program, code.as_mut_ptr()).result().ok()?;
            Some(code)
        });
        result::destroy_program(program).ok();
        compiled
    }
}

/// A kernel that does nothing, and keeps the options that CubeCL compiles it with.
struct Question {
    /// No kernel before it has the same: CubeCL compiles and stores it.
    at: u128,
    answer: Arc<Mutex<Option<Options>>>,
}

/// The options that the server compiles with. It looks at the cache on disk on the way.
fn ask(server: &mut Server, stream: StreamId) -> Options {
    let answer = Arc::new(Mutex::new(None));
    let at = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |t| t.as_nanos());
    let question = Question { at, answer: answer.clone() };
    let (one, mode) = (CubeCount::Static(1, 1, 1), ExecutionMode::Unchecked);
    let arguments = KernelArguments::new();
    // SAFETY: the kernel does nothing.
    unsafe { server.launch(Box::new(question), one, arguments, mode, stream) };
    answer.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default()
}

impl KernelMetadata for Question {
    fn id(&self) -> KernelId {
        KernelId::new::<Self>().info(self.at)
    }

    fn address_type(&self) -> StorageType {
        AddressType::U32.unsigned_type()
    }
}

impl CubeTask<CudaCompiler> for Question {
    fn compile(
        &self,
        compiler: &mut CudaCompiler,
        options: &Options,
        mode: ExecutionMode,
        address: StorageType,
    ) -> Result<CompiledKernel<CudaCompiler>, CompilationError> {
        const NAME: &str = "mixlab_nothing";
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(options.clone());
        let cube_dim = CubeDim::new_single();
        let repr = compiler.compile(empty(NAME, cube_dim), options, mode, address)?;
        Ok(CompiledKernel {
            entrypoint_name: NAME.into(),
            debug_name: None,
            source: format!("extern \"C\" __global__ void {NAME}() {{}}\n"),
            repr: Some(repr),
            cube_dim,
            debug_info: None,
        })
    }
}

#[cfg(all(test, feature = "wgpu", feature = "cpu"))]
mod tests {
    use super::*;
    use crate::plumbing::cuda::{Source, Text};
    use crate::testing::kernels::TextRuntime;

    const HOPPER: Card = Card { capability: (9, 0), driver: 13_000 };

    fn kernel(shared: usize, card: Card) -> ForCard {
        static TEXT: Text =
            Text::new("extern \"C\" __global__ void twice(float* x) { x[threadIdx.x] *= 2.0f; }\n");
        let source = Source {
            entry: "twice",
            text: &TEXT,
            defines: vec![],
            preamble: |_| String::new(),
            block: CubeDim::new_1d(32),
            shared,
        };
        let asked = source.id();
        ForCard::new(Arc::new(source), &asked, card)
    }

    #[test]
    fn one_kernel_on_two_cards_is_two() {
        let id = |card| kernel(0, card).id().stable_hash();
        let [other, older] = [(8, 0), (9, 0)].map(|capability| Card { capability, driver: 12_000 });
        assert_eq!(id(HOPPER), id(HOPPER));
        assert!(id(HOPPER) != id(other) && id(HOPPER) != id(older));
    }

    /// With NVRTC where CubeCL finds it: in the folder that `CUDA_PATH` names, and loadable.
    #[test]
    fn a_kernel_becomes_machine_code_for_its_card_unless_it_is_too_large() {
        // SAFETY: only looks whether the library can be opened.
        if std::env::var_os("CUDA_PATH").is_none() || !unsafe { sys::is_culib_present() } {
            eprintln!("no NVRTC for CubeCL here: no machine code is made");
            return;
        }
        let properties = Arc::new(TextRuntime::client(&Default::default()).properties().clone());
        let most = properties.hardware.max_shared_memory_size;
        let code = |shared| {
            let kernel = kernel(shared, HOPPER);
            let id = kernel.id();
            let (options, properties) = (Options::default(), properties.clone());
            let (mode, capability) = (ExecutionMode::Unchecked, HOPPER.capability);
            Job { kernel, id, mode, options, capability, properties }.run()
        };
        let (_, compiled) = code(most).expect("machine code");
        let magic: Vec<u8> = compiled.ptx[..4].iter().map(|c| *c as u8).collect();
        assert_eq!(magic, b"\x7fELF");
        assert_eq!((&*compiled.entrypoint_name, compiled.shared_mem_bytes), ("twice", most));
        assert!(code(most + 4).is_none());
        assert!(machine_code("not a program", HOPPER.capability).is_none());
        assert!(machine_code("", (1, 0)).is_none(), "of a card that NVRTC does not know");
    }
}
