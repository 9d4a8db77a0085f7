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
from golden import session
from safetensors.numpy import load_file

TOLERANCE = 1e-5
# 16 bits are rounded where a runtime sees fit.
ROUNDED = {"halves": 4e-3}
EXPECTED = {"mlp", "conv_net", "encoder", "swished", "images", "cells", "translator"}
EXPECTED |= {"gpt", "turned", "residual", "unet", "patches", "convolutional", "states", "stepwise"}
EXPECTED |= {"windows", "deformed", "floats", "integers", "reductions", "moves", "places"}
EXPECTED |= {"activations", "puts", "counted", "narrow", "halves", "attentions", "wholes"}
EXPECTED |= {"resnet", "shaped_unet", "even_unet", "vision_transformer", "speech", "halves_of_rows"}
EXPECTED |= {"mobile_net", "conv_next", "shifted_windows", "detector", "super_resolution", "vgg"}
EXPECTED |= {"causal_convolutions", "mean_of_words", "biased_attention", "experts", "codebook", "graph"}
EXPECTED |= {"points", "resampler", "resized_positions", "tagger", "waves"}
# Those with an operation that opset 18 has not.
MODERN = {"deformed"}
# Of rows that are told apart by their number, or that are seen together.
TOGETHER = {"graph", "resnet", "places", "wholes", "narrow", "puts", "counted"}


def distance(found, expected):
    """As a share of the largest number for floats; of others all must be the same."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return numpy.inf
    if found.dtype != numpy.float32:
        return 0.0 if numpy.array_equal(found, expected) else numpy.inf
    # Infinities and NaNs that are the same have no difference.
    same = (found == expected) | (numpy.isnan(found) & numpy.isnan(expected))
    if same.all():
        return 0.0
    finite = numpy.abs(expected[numpy.isfinite(expected)])
    apart = numpy.abs(found - expected)[~same].max() / finite.max(initial=0.0)
    return apart if apart == apart else numpy.inf


def compare(model, given, expected):
    names = [port.name for port in model.get_outputs()]
    apart = [distance(found, expected[name]) for found, name in zip(model.run(names, given), names)]
    worst = int(numpy.argmax(apart))
    return apart[worst], names[worst]


def check(path):
    onnx.checker.check_model(str(path), full_check=True)
    model, worst = session(str(path)), (0.0, "")
    name = path.name.split(".")[0]
    for values in map(load_file, sorted(path.parent.glob(f"{name}.*.safetensors"))):
        given = {port.name: values[port.name] for port in model.get_inputs()}
        worst = max(worst, compare(model, given, values))
        rows = 0 if name in TOGETHER else len(next(iter(given.values())))
        for row in range(rows):
            one = {name: value[row : row + 1] for name, value in values.items()}
            given = {name: one[name] for name in given}
            worst = max(worst, compare(model, given, one))
    return worst


def main():
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.argv[1], folder], check=True)
        found = {path.stem: check(path) for path in sorted(pathlib.Path(folder).glob("*.onnx"))}
    passed = {name for name, (worst, _) in found.items() if worst <= ROUNDED.get(name.split(".")[0], TOLERANCE)}
    for name, (worst, output) in found.items():
        print(f"{'ok' if name in passed else 'FAIL'}\t{name}\t{worst:.1e} ({output})")
    expected = {f"{name}.modern" for name in EXPECTED} | {f"{name}.portable" for name in EXPECTED - MODERN}
    sys.exit(0 if set(found) == expected == passed else 1)


main()
