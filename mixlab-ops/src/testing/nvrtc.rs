//! NVRTC, CUDA's compiler, which needs neither a card nor a driver: `tests/nvrtc` fetches it.
//!
//! It is looked for in the folder that `MIXLAB_NVRTC` names (with NVIDIA's `lib` and `include` in it),
//! and then it must be there; else in the cache folder, and texts are not checked if it is not.

use core::ffi::{CStr, c_char, c_int, c_void};
use std::collections::hash_map::DefaultHasher;
use std::ffi::CString;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libloading::Library;

/// An Ampere, Hopper, and the two Blackwells.
#[cfg(feature = "cuda")]
pub const ARCHITECTURES: [&str; 4] = ["sm_80", "sm_90a", "sm_100a", "sm_120"];

type Program = *mut c_void;

/// The compiler.
struct Nvrtc {
    library: Library,
    /// What the compiler opens by name.
    _builtins: Library,
    options: Vec<CString>,
    /// Where it leaves a file for each text that passed: most do not change from run to run.
    passed: PathBuf,
}

/// Why `text` is no program for `architecture`.
pub fn check(text: &str, architecture: &str) -> Result<(), String> {
    static FOUND: OnceLock<Result<Option<Nvrtc>, String>> = OnceLock::new();
    match FOUND.get_or_init(Nvrtc::find) {
        Ok(Some(nvrtc)) => nvrtc.check(text, architecture),
        Ok(None) => Ok(()),
        Err(why) => Err(why.clone()),
    }
}

/// Checks a text for several architectures.
///
/// # Panics
/// If one of them has no use for it.
#[cfg(feature = "cuda")]
pub fn compiles(source: &crate::plumbing::cuda::Source, architectures: &[&str]) {
    for architecture in architectures {
        if let Err(why) = check(&source.written(), architecture) {
            panic!("{source:?} for {architecture}: {why}");
        }
    }
}

/// The file in `folder` whose name starts with `name`.
fn file(folder: &Path, name: &str) -> Result<PathBuf, String> {
    let missing = || format!("no `{name}` in `{}`: run `tests/nvrtc`", folder.display());
    let files = folder.read_dir().map_err(|_| missing())?.flatten();
    let mut found = files.filter(|f| f.file_name().to_string_lossy().starts_with(name));
    found.next().map(|f| f.path()).ok_or_else(missing)
}

fn cached() -> Option<PathBuf> {
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home)?;
    Some(cache.join("mixlab-burn/nvrtc"))
}

impl Nvrtc {
    fn find() -> Result<Option<Self>, String> {
        match std::env::var_os("MIXLAB_NVRTC").map(PathBuf::from) {
            Some(folder) => Self::open(&folder).map(Some),
            None => {
                let found = cached().and_then(|folder| Self::open(&folder).ok());
                if found.is_none() {
                    eprintln!("no NVRTC here: CUDA's texts are not checked (`tests/nvrtc` has it)");
                }
                Ok(found)
            }
        }
    }

    fn open(folder: &Path) -> Result<Self, String> {
        let libraries = folder.join("lib");
        // SAFETY: NVIDIA's libraries, which do nothing when they are loaded.
        let open = |name| unsafe {
            let path = file(&libraries, name)?;
            Library::new(&path).map_err(|why| format!("`{}`: {why}", path.display()))
        };
        let builtins = open("libnvrtc-builtins.so")?;
        let include = folder.join("include");
        let includes = [include.clone(), include.join("cccl")];
        let option = |path: PathBuf| CString::new(format!("--include-path={}", path.display()));
        let passed = folder.join("passed");
        // Without it every text is compiled in every run, that is all.
        std::fs::create_dir_all(&passed).ok();
        Ok(Self {
            library: open("libnvrtc.so")?,
            _builtins: builtins,
            options: includes.map(|path| option(path).expect("no zeros in paths")).into(),
            passed,
        })
    }

    fn check(&self, text: &str, architecture: &str) -> Result<(), String> {
        let mut hasher = DefaultHasher::new();
        (text, architecture).hash(&mut hasher);
        let passed = self.passed.join(format!("{:016x}", hasher.finish()));
        if !passed.exists() {
            self.compile(text, architecture)?;
            std::fs::write(passed, "").ok();
        }
        Ok(())
    }

    fn compile(&self, text: &str, architecture: &str) -> Result<(), String> {
        let text = CString::new(text).map_err(|why| why.to_string())?;
        let architecture = CString::new(format!("--gpu-architecture={architecture}"))
            .map_err(|why| why.to_string())?;
        let options: Vec<_> =
            self.options.iter().chain([&architecture]).map(|option| option.as_ptr()).collect();
        let mut program: Program = core::ptr::null_mut();
        let none: *const *const c_char = core::ptr::null();
        // SAFETY: signatures of `nvrtc.h`; all strings outlive the calls, and the log has the length
        // that the library gives, its final zero in.
        unsafe {
            type Create = unsafe extern "C" fn(
                *mut Program,
                *const c_char,
                *const c_char,
                c_int,
                *const *const c_char,
                *const *const c_char,
            ) -> c_int;
            type Compile = unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int;
            let (create, compile) = (
                self.get::<Create>(c"nvrtcCreateProgram"),
                self.get::<Compile>(c"nvrtcCompileProgram"),
            );
            let (name, count) = (core::ptr::null(), options.len() as c_int);
            assert_eq!(create(&mut program, text.as_ptr(), name, 0, none, none), 0, "no memory");
            let failed = compile(program, count, options.as_ptr()) != 0;
            let log = self.log(program);
            self.get::<unsafe extern "C" fn(*mut Program) -> c_int>(c"nvrtcDestroyProgram")(
                &mut program,
            );
            if failed { Err(log) } else { Ok(()) }
        }
    }

    /// What the compiler said about `program`.
    ///
    /// # Safety
    /// `program` is one of this library's.
    unsafe fn log(&self, program: Program) -> String {
        type Size = unsafe extern "C" fn(Program, *mut usize) -> c_int;
        type Log = unsafe extern "C" fn(Program, *mut c_char) -> c_int;
        let mut size = 0;
        // SAFETY: the signatures of `nvrtc.h`, and a buffer of the size that it asks for.
        unsafe {
            self.get::<Size>(c"nvrtcGetProgramLogSize")(program, &mut size);
            let mut log = vec![0u8; size.max(1)];
            self.get::<Log>(c"nvrtcGetProgramLog")(program, log.as_mut_ptr().cast());
            CStr::from_bytes_until_nul(&log).unwrap_or_default().to_string_lossy().into()
        }
    }

    /// # Safety
    /// `T` is the type of the function `name`.
    unsafe fn get<T: Copy>(&self, name: &CStr) -> T {
        // SAFETY: the caller's promise.
        *unsafe { self.library.get(name.to_bytes_with_nul()) }.expect("a function of NVRTC")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_for_another_architecture_or_with_a_mistake_does_not_pass() {
        let kernel = |line: &str| {
            format!("#include <cuda_bf16.h>\nextern \"C\" __global__ void k(float* x) {{ {line} }}")
        };
        check(&kernel("x[0] = __bfloat162float(__float2bfloat16_rn(x[1]));"), "sm_80").unwrap();
        if cached().is_none_or(|folder| !folder.exists())
            && std::env::var_os("MIXLAB_NVRTC").is_none()
        {
            return;
        }
        let why = check(&kernel("x[0] = unknown(x[1]);"), "sm_80").unwrap_err();
        assert!(why.contains("unknown"), "{why}");
        let hopper = kernel("asm volatile(\"wgmma.fence.sync.aligned;\");");
        check(&hopper, "sm_90a").unwrap();
        let why = check(&hopper, "sm_80").unwrap_err();
        assert!(why.contains("wgmma"), "{why}");
    }
}
