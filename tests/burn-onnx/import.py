"""Imports exported files with burn-onnx 0.21, and compares what its modules compute with onnxruntime.

    python import.py EXAMPLES GOLDEN_CASES CONFIGS FOLDER [NAME ...]

EXAMPLES is the folder of `mixlab-cli-under-test` and `onnx-models`, CONFIGS that of the examples that users see,
of which those are taken that are no golden case. FOLDER is where files and code go. CARGO, and CARGO_TARGET_DIR,
say what builds the crate beside this script. Needs the packages onnxruntime, numpy and safetensors.

Prints for each model `ok` and how far its logits are from onnxruntime's, or how far it came: `no code` with what
burn-onnx says, `no Rust` with what the compiler says of its code, `no run` with the panic of the program, `FAIL`
for other logits. The exit code is 1 unless all work but those of REFUSED.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "onnx"))
from golden import difference, export, session  # noqa: E402

TOLERANCE = 1e-4
# burn-onnx 0.21 stacks what a Scan makes into a tensor whose rank it does not write down, which is no Rust where
# a method of it is called.
REFUSED = {"ex_gated_linear_attention", "ex_mamba_2L", "gated_deltanet", "gated_linear_attention", "mamba", "mamba3"}
REFUSED |= {"mamba3_T64_fft", "mamba_inner24", "rwkv", "rwkv_2L"}
# As `plain`, in 500 MB.
LARGE = {"gpt2_small"}
# Rows, and tokens of each.
SIZES = ((1, 1), (1, 7), (3, 8))


def cargo(*arguments, **more):
    command = [os.environ.get("CARGO", "cargo"), *arguments]
    return subprocess.run(command, cwd=HERE, capture_output=True, text=True, **more)


def built(done):
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


def exported(examples, cases, configs, folder, names):
    """Names of models; the file of each is in its own folder."""
    wanted = lambda name: not names or name in names
    for case in sorted(path for path in cases.iterdir() if wanted(path.name)):
        place = folder / case.name
        place.mkdir(parents=True, exist_ok=True)
        if refusal := export(examples / "mixlab-cli-under-test", case, str(place / "model.onnx"))[1]:
            print(f"{case.name}\tnone\t{refusal.splitlines()[0]}")
            continue
        yield case.name
    golden = {path.name.removeprefix("ex_") for path in cases.iterdir()}
    rest = [path for path in sorted(configs.glob("*.json")) if path.stem not in golden | LARGE and wanted(path.stem)]
    if not rest:
        return
    with tempfile.TemporaryDirectory() as made:
        built(subprocess.run([examples / "onnx-models", made, *rest], capture_output=True, text=True))
        for path in rest:
            (folder / path.stem).mkdir(parents=True, exist_ok=True)
            shutil.move(f"{made}/{path.stem}-portable.onnx", folder / path.stem / "model.onnx")
            yield path.stem


def expect(place):
    """Writes ids, and the logits that onnxruntime has for them."""
    model, draws = session(str(place / "model.onnx")), numpy.random.default_rng(1)
    for rows, tokens in SIZES:
        ids = draws.integers(0, 32, (rows, tokens), numpy.int64)
        ids.tofile(place / f"ids_{rows}_{tokens}")
        model.run(["logits"], {"input_ids": ids})[0].tofile(place / f"expected_{rows}_{tokens}")


def converted(folder, names):
    """Why burn-onnx made no code of a file, by name; empty where it did."""
    folders = [str(folder / name) for name in names]
    # burn-onnx logs to what convert prints to.
    quiet = {**os.environ, "RUST_LOG": "off"}
    convert = ["run", "--quiet", "--features", "convert", "--bin", "convert", "--"]
    output = built(cargo(*convert, *folders, env=quiet))
    reasons = dict(line.split("\t", 1) for line in output.splitlines() if "\t" in line)
    return {name: reasons[str(folder / name)] for name in names}


def table(folder, names):
    """The modules of all models that `compare` runs."""
    lines = ["/// Runs each model.", "pub fn all() {"]
    for name in names:
        model = f'{name}::Model::from_file("{folder / name}/model.bpk", &Default::default())'
        lines += [f'    crate::run("{folder / name}", || {{ let m = {model}; move |ids| m.forward(ids) }});']
    lines += ["}"]
    lines += [f'#[allow(warnings)]\nmod {name} {{ include!("{folder / name}/model.rs"); }}' for name in names]
    (folder / "models.rs").write_text("\n".join(lines))


def refused(folder, names):
    """What the compiler says of code that is no Rust, by name: those are left out until the rest compiles."""
    bad = {}
    while True:
        table(folder, [name for name in names if name not in bad])
        done = cargo("check", "--quiet", "--bin", "compare", "--message-format", "json")
        if not done.returncode:
            return bad
        before = len(bad)
        for line in done.stdout.splitlines():
            message = json.loads(line).get("message") or {}
            if message.get("level") != "error":
                continue
            for span in message.get("spans", []):
                name = pathlib.Path(span["file_name"]).parent.name
                if name in names:
                    bad.setdefault(name, message["message"])
        if len(bad) == before:
            sys.exit(done.stdout + done.stderr)


def main():
    examples, cases, configs, folder = (pathlib.Path(each).resolve() for each in sys.argv[1:5])
    names = list(exported(examples, cases, configs, folder, sys.argv[5:]))
    for name in names:
        expect(folder / name)
    os.environ["MODELS"] = str(folder)
    states = {name: f"no code\t{why}" for name, why in converted(folder, names).items() if why}
    rest = [name for name in names if name not in states]
    states |= {name: f"no Rust\t{why}" for name, why in refused(folder, rest).items()}
    output = built(cargo("run", "--quiet", "--bin", "compare"))
    for line in output.splitlines():
        place, panic = line.split("\t", 1)
        place = pathlib.Path(place)
        if panic:
            states[place.name] = f"no run\t{panic}"
            continue
        pairs = [(place / f"found_{b}_{t}", place / f"expected_{b}_{t}") for b, t in SIZES]
        worst = max(difference(*(numpy.fromfile(path, numpy.float32) for path in pair)) for pair in pairs)
        states[place.name] = f"{'ok' if worst <= TOLERANCE else 'FAIL'}\t{worst:.1e}"
    for name in names:
        print(f"{name}\t{states[name]}")
    wrong = [name for name in names if states[name].startswith("ok") == (name in REFUSED)]
    if wrong:
        sys.exit(f"not as REFUSED says: {', '.join(wrong)}")


main()
