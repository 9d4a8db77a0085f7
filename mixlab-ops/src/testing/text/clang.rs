//! Clang, which reads Metal's texts as C++ for OpenCL: the same language but for names, which
//! `metal.h` declares with the signatures that Metal gives them. What is unknown, of a wrong type or
//! in a wrong address space is an error in both.

use std::io::Write;
use std::process::{Command, Stdio};

const HEADER: &str = include_str!("metal.h");

/// Metal has no 64-bit floats, and CubeCL writes the name of a type that it does not know.
const FOREIGN: [&str; 4] = ["double", "__nv_", "__half", "bfloat"];

/// Why `source` is no program in Metal's language.
pub fn check(source: &str) -> Result<(), String> {
    if let Some(word) = FOREIGN.into_iter().find(|word| source.contains(word)) {
        return Err(format!("`{word}` is not of this language"));
    }
    if !source.contains("[[kernel]]") {
        return Err("no kernel in it".into());
    }
    let source = source.replace("#include <metal_stdlib>", "").replace("[[kernel]]", "__kernel");
    parse(&format!("{HEADER}\n#line 1 \"kernel.metal\"\n{source}"))
}

fn parse(text: &str) -> Result<(), String> {
    // Named by who demands the check, so that it is not left out in silence.
    let named = std::env::var_os("MIXLAB_CLANG");
    let program = named.clone().unwrap_or_else(|| "clang".into());
    let started = Command::new(program)
        .args(["-fsyntax-only", "-x", "cl", "-cl-std=clc++", "-cl-no-stdinc"])
        .args(["--target=spir64-unknown-unknown", "-Wno-unknown-attributes"])
        // In Metal `1.0` is a float.
        .args(["-cl-single-precision-constant", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut clang = match started {
        Ok(clang) => clang,
        Err(_) if named.is_none() => {
            eprintln!("no `clang` here: Metal's texts are not checked (`tests/run` installs it)");
            return Ok(());
        }
        Err(why) => return Err(format!("`MIXLAB_CLANG`, `{}`: {why}", named.unwrap().display())),
    };
    let mut input = clang.stdin.take().expect("it is a pipe");
    input.write_all(text.as_bytes()).map_err(|why| why.to_string())?;
    drop(input);
    let done = clang.wait_with_output().map_err(|why| why.to_string())?;
    if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).into()) }
}

#[cfg(test)]
mod tests {
    use super::check;

    /// A kernel with `line` in it; `x` and `y` are in device memory, `tile` in the threadgroup's.
    fn kernel(line: &str) -> String {
        format!(
            "#include <metal_stdlib>
using namespace metal;
struct alignas(8) half_2 {{ half i_0; half i_1; }};
[[kernel]]
void twice(
    const device float *x [[buffer(0)]],
    device float *y [[buffer(1)]],
    uint3 at [[thread_position_in_grid]]
) {{
threadgroup uchar dynamic_shared_mem[512];
threadgroup float* tile = reinterpret_cast<threadgroup float*>(&dynamic_shared_mem[0]);
const half_2 pair = half_2{{half(x[0]), half(2.0)}};
{line}
}}"
        )
    }

    /// What is wrong with [`kernel`], if clang is here.
    fn refused(line: &str) -> Option<String> {
        let clang = std::process::Command::new("clang").arg("--version").output().is_ok();
        (clang || std::env::var_os("MIXLAB_CLANG").is_some())
            .then(|| check(&kernel(line)).expect_err("it is wrong"))
    }

    fn says(line: &str, what: &str) {
        if let Some(why) = refused(line) {
            assert!(why.contains("kernel.metal:13") && why.contains(what), "{why}");
        }
    }

    #[test]
    fn a_kernel_passes() {
        let line = "tile[at.x] = x[at.x]; threadgroup_barrier(mem_flags::mem_threadgroup); \
                    y[at.x] = max(tile[0], 2.0f) + simd_sum(float(pair.i_1));";
        check(&kernel(line)).unwrap();
    }

    #[test]
    fn an_unknown_function_is_an_error() {
        says("y[0] = maximum(x[0], x[1]);", "undeclared identifier 'maximum'");
        says("y[0] = exp(x[0], x[1]);", "no matching function for call to 'exp'");
    }

    #[test]
    fn a_wrong_type_is_an_error() {
        says("y[0] = pair;", "incompatible type");
        says("y[0] = simd_sum(pair);", "no matching function for call to 'simd_sum'");
        says("y[0] = max(x[0], pair.i_0);", "ambiguous");
    }

    #[test]
    fn a_wrong_address_space_is_an_error() {
        says("device float* p = tile;", "of type '__local float");
        says("y = reinterpret_cast<device float*>(tile);", "is not allowed");
        says("device float* p = x; p[0] = 1.0f;", "const");
    }
}
