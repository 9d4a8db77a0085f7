"""Imports exported golden cases with burn-onnx 0.21, and compares what its modules compute with onnxruntime.

    python burn_onnx.py MIXLAB_CLI GOLDEN_CASES FOLDER [CASE ...]

Needs cargo, and the packages onnxruntime, numpy and safetensors. FOLDER is where the crate is made and built,
which takes minutes; CARGO_TARGET_DIR may be elsewhere. For each case it says how far it came: whether code was
made, whether the code is Rust, and how far the logits are from onnxruntime's. A case of WORKS that fails ends
the program with 1.
"""

import os
import pathlib
import re
import subprocess
import sys

import numpy
from safetensors.numpy import load_file

from golden import difference, export, session

CASES = ("plain", "gqa_4_2", "mlp_relu", "plain_swiglu", "token_blend", "mamba", "rwkv", "retnet", "perceiver", "bigram_proj")
WORKS = ()
TOLERANCE = 1e-4

MANIFEST = """
[package]
name = "import"
version = "0.0.0"
edition = "2024"

[workspace]

[dependencies]
burn = { version = "=0.21.0", default-features = false, features = ["std", "flex"] }
burn-onnx = { version = "=0.21.0", optional = true }
burn-store = { version = "=0.21.0", default-features = false, features = ["std", "burnpack"] }

[[bin]]
name = "convert"
required-features = ["burn-onnx"]
"""

CONVERT = """
use std::panic::catch_unwind;

fn main() {
    std::panic::set_hook(Box::new(|_| {}));
    for input in std::env::args().skip(1) {
        let folder = std::path::Path::new(&input).parent().unwrap().to_owned();
        let converted = catch_unwind(|| {
            let mut model = burn_onnx::ModelGen::new();
            model.input(&input).out_dir(folder.to_str().unwrap()).partition(false).run_from_cli();
        });
        let reason = converted.err().map(|error| {
            let text = error.downcast_ref::<String>().cloned();
            text.or_else(|| error.downcast_ref::<&str>().map(|text| text.to_string()))
        });
        println!("{input}\\t{}", reason.flatten().unwrap_or_default().replace('\\n', " "));
    }
}
"""

RUN = """
#![allow(warnings)]
include!("../../models/NAME/model.rs");

fn main() {
    let device = Default::default();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/models/NAME/");
    let bytes = std::fs::read(format!("{folder}ids")).unwrap();
    let ids: Vec<i64> = bytes.chunks(8).map(|b| i64::from_le_bytes(b.try_into().unwrap())).collect();
    let data = burn::tensor::TensorData::new(ids, SHAPE);
    let ids = Tensor::<burn::backend::Flex, 2, Int>::from_data(data, (&device, burn::tensor::DType::I64));
    let model = Model::<burn::backend::Flex>::from_file(&format!("{folder}model.bpk"), &device);
    let logits: Vec<f32> = model.forward(ids).into_data().convert::<f32>().into_vec().unwrap();
    let bytes: Vec<u8> = logits.iter().flat_map(|x| x.to_le_bytes()).collect();
    std::fs::write(format!("{folder}logits"), bytes).unwrap();
}
"""


def cargo(folder, *arguments):
    return subprocess.run(["cargo", *arguments], cwd=folder, capture_output=True, text=True)


def convert(folder, names):
    """Makes modules of the files; returns why it could not, by case."""
    files = [str(folder / "models" / name / "model.onnx") for name in names]
    done = cargo(folder, "run", "--quiet", "--features", "burn-onnx", "--bin", "convert", "--", *files)
    if done.returncode:
        raise RuntimeError(done.stderr)
    reasons = dict(line.split("\t") for line in done.stdout.splitlines() if "\t" in line)
    return {name: reasons[file] for name, file in zip(names, files)}


def build(folder, name):
    """Builds the program of a case; returns the first error."""
    done = cargo(folder, "build", "--quiet", "--message-format", "short", "--bin", f"run_{name}")
    errors = [line for line in done.stderr.splitlines() if "error" in line]
    return re.sub(r"^.*?error", "error", errors[0]) if done.returncode else None


def main():
    cli, cases, folder = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]).resolve()
    names = sys.argv[4:] or CASES
    (folder / "src/bin").mkdir(parents=True, exist_ok=True)
    (folder / "Cargo.toml").write_text(MANIFEST)
    (folder / "src/bin/convert.rs").write_text(CONVERT)
    expected, failed = {}, 0
    for name in names:
        place = folder / "models" / name
        place.mkdir(parents=True, exist_ok=True)
        files, refusal = export(cli, cases / name, place / "model.onnx")
        if refusal:
            raise RuntimeError(refusal)
        ids = load_file(files["io.safetensors"])["eval_x"].astype(numpy.int64)
        (place / "ids").write_bytes(ids.tobytes())
        expected[name] = session(str(place / "model.onnx")).run(["logits"], {"input_ids": ids})[0]
        program = RUN.replace("NAME", name).replace("SHAPE", f"[{ids.shape[0]}, {ids.shape[1]}]")
        (folder / f"src/bin/run_{name}.rs").write_text(program)
    for name, reason in convert(folder, names).items():
        state = f"no code: {reason}" if reason else None
        if state is None:
            error = build(folder, name)
            state = f"no Rust: {error}" if error else None
        if state is None:
            done = cargo(folder, "run", "--quiet", "--bin", f"run_{name}")
            if done.returncode:
                state = f"does not run: {done.stderr.strip().splitlines()[1:2]}"
            else:
                logits = numpy.fromfile(folder / "models" / name / "logits", numpy.float32)
                apart = difference(logits.reshape(expected[name].shape), expected[name])
                state = f"{apart:.1e}" if apart <= TOLERANCE else f"other logits: {apart:.1e}"
        bad = name in WORKS and not state[0].isdigit()
        failed += bad
        print(f"{'FAIL' if bad else 'ok' if state[0].isdigit() else 'none'}\tburn-onnx {name}\t{state}", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
