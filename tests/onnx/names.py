"""Reads weight files from Python by name, as docs/onnx.md says, and compares them with exported files.

    python names.py MIXLAB_CLI GOLDEN_CASES [CASE ...]

Needs the packages onnx, numpy and safetensors. Each initializer of a file that is a parameter must be a tensor
of the weight file, under the last part of its name.
"""

import os
import pathlib
import re
import shutil
import sys
import tempfile

import numpy
import onnx
from onnx import numpy_helper

from golden import export

ROOT = pathlib.Path(__file__).resolve().parents[2]
CASES = ("plain", "mamba", "rwkv", "tie_embeddings", "unet", "custom_geglu")


def snippet():
    text = (ROOT / "docs/onnx.md").read_text().split("## Safetensors from Python")[1]
    return re.search(r"```python\n(.*?)```", text, re.S)[1]


def check(cli, case, folder):
    files, refusal = export(cli, case, folder / "model.onnx")
    if refusal:
        raise RuntimeError(refusal)
    shutil.copy(files["final.safetensors"], folder / "model.st")
    os.chdir(folder)
    found = {}
    exec(snippet(), found)
    weights = {}
    for name, values in found["weights"].items():
        weights.setdefault(name.split("_", 1)[1], []).append(values)
    compared = 0
    for tensor in onnx.load("model.onnx").graph.initializer:
        parts = tensor.name.split(".")
        # A weight in a list is called by the list and its position.
        name = "_".join(parts[-2:]) if parts[-1].isdigit() else parts[-1]
        if name not in weights:
            if not tensor.name.startswith("constant"):
                raise RuntimeError(f"no tensor is called {name}: {sorted(weights)}")
            continue
        values = numpy_helper.to_array(tensor)
        if not any(numpy.array_equal(values, other) for other in weights[name]):
            raise RuntimeError(f"{tensor.name} has other values in the weight file")
        compared += 1
    if not compared:
        raise RuntimeError("nothing was compared")
    return compared


def main():
    cli, cases, names = os.path.abspath(sys.argv[1]), pathlib.Path(sys.argv[2]).resolve(), sys.argv[3:] or CASES
    failed = 0
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            try:
                count, error = check(cli, cases / name, pathlib.Path(folder)), None
            except Exception as problem:  # A report for each case, whatever goes wrong in one.
                count, error = 0, f"{type(problem).__name__}: {problem}"
            os.chdir(ROOT)
        failed += error is not None
        print(f"{'FAIL' if error else 'ok'}\tnames {name}\t{error or f'{count} tensors'}", flush=True)
    sys.exit(1 if failed else 0)


main()
