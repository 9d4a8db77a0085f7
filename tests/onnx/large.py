"""Exports a model of 2.6 GB in all forms, and measures what that takes besides the mapped weights.

    python large.py MIXLAB_CLI [--types f32 int4 ...] [--forms onnx hf gguf]

Needs the packages onnx, onnxruntime and numpy, Linux, and 6 GB of disk. The memory of a process that is
no file's (RssAnon) may reach 1.3 times the largest tensor and 500 MB. onnxruntime must load the file with its
weights mapped, and run it.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy

WIDTH, VOCAB, BLOCKS, FFN = 2048, 50_000, 9, 4
CONFIG = {
    "name": "large",
    "model_dim": WIDTH,
    "vocab_size": VOCAB,
    "seq_len": 64,
    "mlp_mult": FFN,
    "blocks": [{"type": "plain", "heads": 16}] * BLOCKS,
    "training": {"steps": 1, "lr": 0.001, "batch_tokens": 64},
}
LARGEST = 4 * VOCAB * WIDTH
BOUND = 1.3 * LARGEST + 500e6
# Loads and runs a file with its weights mapped.
LOAD = """
import numpy, onnxruntime, sys
options = onnxruntime.SessionOptions()
options.add_session_config_entry("session.disable_prepacking", "1")
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
logits = session.run(["logits"], {"input_ids": numpy.array([[1, 2, 3]])})[0]
assert logits.shape == (1, 3, 50000) and numpy.isfinite(logits).all(), logits
"""


def measured(command):
    """Runs a command; returns its seconds and the most that it held of memory that is no file's."""
    begin, most = time.monotonic(), 0
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while process.poll() is None:
        try:
            status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            break
        held = [line.split()[1] for line in status.splitlines() if line.startswith("RssAnon")]
        most = max(most, *(int(kilobytes) * 1024 for kilobytes in held), 0)
        time.sleep(0.005)
    error = process.communicate()[1].decode()
    if process.returncode:
        raise RuntimeError(f"{command[:2]} ended with {process.returncode}: {error}")
    return time.monotonic() - begin, most


def weights(path, names):
    """Writes random weights of the shapes that `names` lists, one at a time."""
    header, at = {}, 0
    for name, shape in names:
        size = 4 * int(numpy.prod(shape))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    draws = numpy.random.default_rng(1)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, shape in names:
            scale = numpy.float32(0.02 if len(shape) > 1 else 1.0)
            file.write((draws.random(shape, numpy.float32) * scale).tobytes())
    return at


def layout():
    block = [("norm_scale", [WIDTH]), ("wq", [WIDTH, WIDTH]), ("wk", [WIDTH, WIDTH]), ("wv", [WIDTH, WIDTH])]
    block += [("wo", [WIDTH, WIDTH]), ("ff1", [WIDTH, FFN * WIDTH]), ("ff2", [FFN * WIDTH, WIDTH])]
    names = [("embed", [VOCAB, WIDTH]), ("head", [WIDTH, VOCAB]), ("final_norm", [WIDTH])] + block * BLOCKS
    return [(f"w{index}_{name}", shape) for index, (name, shape) in enumerate(names)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("cli")
    parser.add_argument("--types", nargs="*", default=["f32", "int4"])
    parser.add_argument("--forms", nargs="*", default=["onnx", "hf", "gguf"])
    given = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        config, path = folder / "config.json", folder / "large.st"
        config.write_text(json.dumps(CONFIG))
        size = weights(path, layout())
        print(f"{size / 1e9:.2f} GB, the largest tensor {LARGEST / 1e6:.0f} MB; at most {BOUND / 1e6:.0f} MB more")

        def export(what, *options):
            command = [given.cli, "export", "--config", config, "--safetensors-load", path, "--backend", "cpu"]
            seconds, most = measured(command + [*options])
            good = most <= BOUND
            print(f"{'ok' if good else 'FAIL'}\t{what}\t{most / 1e6:.0f} MB, {seconds:.0f} s", flush=True)
            return not good

        for kind in given.types if "onnx" in given.forms else []:
            file = folder / f"{kind}.onnx"
            failed += export(f"onnx {kind}", "--onnx", file, "--weights", kind, "--profile", "modern")
            seconds, most = measured([sys.executable, "-c", LOAD, file])
            print(f"ok\tonnxruntime loads and runs it\t{most / 1e6:.0f} MB, {seconds:.0f} s", flush=True)
            for part in folder.glob(f"{kind}.onnx*"):
                part.unlink()
        if "gguf" in given.forms:
            failed += export("gguf", "--gguf", folder / "m.gguf")
            (folder / "m.gguf").unlink()
        if "hf" in given.forms:
            # Its ONNX file is one of the kinds above.
            failed += export("hf", "--hf", folder / "hf", "--weights", "int4", "--profile", "modern")
    sys.exit(1 if failed else 0)


main()
