"""Runs exported modules that are not of this project, and compares with what Burn computed.

    python foreign.py EXPORTER

EXPORTER is the example `onnx-foreign-modules`, which writes the files and the numbers. Needs the packages
onnx, onnxruntime, numpy and safetensors. A file must pass the checker of ONNX with full inference of shapes,
and compute for all rows at once, and for each on its own, what Burn did.
"""

import pathlib
import subprocess
import sys
import tempfile

import numpy
import onnx
from golden import difference, session
from safetensors.numpy import load_file

TOLERANCE = 1e-5


def check(path):
    onnx.checker.check_model(str(path), full_check=True)
    model, values = session(str(path)), load_file(path.with_suffix(".safetensors"))
    given = {port.name: values[port.name] for port in model.get_inputs()}
    names = [port.name for port in model.get_outputs()]
    worst = 0.0
    for found, name in zip(model.run(None, given), names):
        worst = max(worst, difference(found, values[name]))
    for row in range(len(next(iter(given.values())))):
        one = {name: value[row : row + 1] for name, value in given.items()}
        for found, name in zip(model.run(None, one), names):
            worst = max(worst, difference(found, values[name][row : row + 1]))
    return worst


def main():
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.argv[1], folder], check=True)
        found = {path.stem: check(path) for path in sorted(pathlib.Path(folder).glob("*.onnx"))}
    for name, worst in found.items():
        print(f"{'ok' if worst <= TOLERANCE else 'FAIL'}\t{name}\t{worst:.1e}")
    expected = {"mlp", "conv_net", "encoder", "swished"}
    sys.exit(0 if set(found) == expected and max(found.values()) <= TOLERANCE else 1)


main()
