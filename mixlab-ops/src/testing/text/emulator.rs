//! Kernels on the processor, by their CUDA texts: compiled as C++ over `cuda.h`, which has barriers and
//! matrix units. It shows what a kernel computes that no device at hand can run, matrix by matrix and
//! barrier by barrier; not how fast.

use core::ffi::c_void;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use libloading::Library;

const HEADER: &str = include_str!("cuda.h");

/// Cubes along each axis and units along each axis, and the kernel's arguments; whether all units met
/// at each barrier.
type Run = unsafe extern "C" fn(*const [u32; 6], *const *mut c_void) -> bool;

/// Compiled kernels, by their texts.
#[derive(Debug, Default)]
pub struct Emulator(HashMap<String, Library>);

/// Whether there is a compiler.
pub fn available() -> bool {
    let found = Command::new(compiler()).arg("--version").output().is_ok();
    if !found {
        eprintln!(
            "no `clang++` here: kernels for matrix units are not run (`tests/run` installs it)"
        );
    }
    found || std::env::var_os("MIXLAB_CLANG").is_some()
}

fn compiler() -> PathBuf {
    let named = std::env::var_os("MIXLAB_CLANG").map(PathBuf::from);
    named.map_or_else(|| "clang++".into(), |clang| clang.with_file_name("clang++"))
}

impl Emulator {
    /// Runs kernel `name` of `source`.
    ///
    /// # Safety
    /// `arguments` must be what the kernel takes, and large enough for what `sizes` make it touch.
    pub unsafe fn run(
        &mut self,
        name: &str,
        source: &str,
        sizes: [u32; 6],
        arguments: &[*mut c_void],
    ) -> Result<(), String> {
        if !self.0.contains_key(source) {
            self.0.insert(source.into(), compiled(name, source)?);
        }
        // SAFETY: `compiled` defines the function, and the caller vouches for its arguments.
        let met = unsafe {
            let run = self.0[source].get::<Run>(b"run_kernel").map_err(|why| why.to_string())?;
            run(&sizes, arguments.as_ptr())
        };
        if met { Ok(()) } else { Err("some units missed a barrier".into()) }
    }
}

fn compiled(name: &str, source: &str) -> Result<Library, String> {
    let ours = |line: &&str| !line.starts_with("#include");
    let source: String = source.lines().filter(ours).map(|line| format!("{line}\n")).collect();
    let entry = format!(
        "extern \"C\" bool run_kernel(const unsigned *sizes, void **a) {{
    return run({name}, sizes, a, [](void **a) {{ call({name}, a); }});
}}"
    );
    let text = format!("{HEADER}\n#line 1 \"kernel.cu\"\n{source}\n{entry}\n");
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    let folder = std::env::temp_dir();
    let built = folder.join(format!("mixlab-kernel-{:016x}.so", hasher.finish()));
    if !built.exists() {
        let aside =
            folder.join(format!("mixlab-kernel-{}-{:016x}", std::process::id(), hasher.finish()));
        compile(&text, &aside)?;
        std::fs::rename(&aside, &built).map_err(|why| why.to_string())?;
    }
    // SAFETY: it was compiled from the text above, and does nothing when it is loaded.
    unsafe { Library::new(&built) }.map_err(|why| why.to_string())
}

fn compile(text: &str, to: &Path) -> Result<(), String> {
    let mut clang = Command::new(compiler())
        .args(["-std=c++17", "-O2", "-fno-strict-aliasing", "-ffp-contract=off", "-march=native"])
        .args(["-shared", "-fPIC", "-w", "-x", "c++", "-", "-o"])
        .arg(to)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|why| why.to_string())?;
    let mut input = clang.stdin.take().expect("it is a pipe");
    input.write_all(text.as_bytes()).map_err(|why| why.to_string())?;
    drop(input);
    let done = clang.wait_with_output().map_err(|why| why.to_string())?;
    if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).into()) }
}
