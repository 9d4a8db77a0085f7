"""Exports golden cases with smaller weights and compares onnxruntime with the same weights in 32 bits.

    python weights.py MIXLAB_CLI GOLDEN_CASES [CASE ...]

Needs the packages onnx, onnxruntime, numpy and safetensors. What a file stores is decoded here, by the
specification of ONNX, and must be as near to the trained weights as its format allows. A file of 32-bit
floats that has the decoded weights must have the same logits; `--verify` must find the same, and so must
the same weights beside the file.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import numpy
import onnx
import onnxruntime
from onnx import numpy_helper
from safetensors.numpy import load_file

from golden import difference, export

CASES = ("plain", "gqa_4_2", "mamba", "mamba3", "rwkv", "custom_geglu", "tie_embeddings", "bigram_proj")
TOLERANCE = 1e-4
# Where a type needs operations that `portable` has not.
PROFILES = {"f16": ["portable"], "bf16": ["portable"], "int8": ["portable", "modern"], "int4": ["modern"]}
# What a value may be off: as a share of itself (and at least half of the least number), or of its scale.
FLOATS = {"f16": (2.0**-11, 2.0**-25), "bf16": (2.0**-8, 0.0)}


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    # Otherwise what 4-bit weights are multiplied with is rounded to 8 bits.
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def decoded(model):
    """The weights that a file restores, by their names; and the scale of each element, if there are some."""
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    found = {}
    for node in model.graph.node:
        if node.op_type not in ("Cast", "DequantizeLinear", "Gather") or node.input[0] not in stored:
            continue
        name, kind = node.input[0].rsplit(".", 1)
        if kind not in PROFILES:
            continue
        values, scale = stored[node.input[0]].astype(numpy.float32), stored.get(f"{name}.scale")
        if scale is not None:
            attributes = {a.name: a.i for a in node.attribute}
            # A row that is looked up is multiplied by its own scale.
            axis, block = attributes.get("axis", 0), attributes.get("block_size", 0)
            if block:
                scale = numpy.repeat(scale, block, axis).take(range(values.shape[axis]), axis)
            else:
                scale = numpy.broadcast_to(numpy.expand_dims(scale, 1 - axis), values.shape)
            values = values * scale
        if name in found and not numpy.array_equal(found[name][0], values):
            raise RuntimeError(f"{name} is restored in two ways")
        found[name] = values, scale
    return found


def check_values(kind, name, before, after, scale):
    """Refuses weights that are farther off than their format must be."""
    off = numpy.abs(after - before)
    if scale is None:
        share, least = FLOATS[kind]
        bound = numpy.maximum(numpy.abs(before) * share, least)
    else:
        # Half of a level; a whole one where four bits have no integer, on the shorter side.
        scale = numpy.abs(scale)
        clamped = (numpy.abs(before) > 7.5 * scale) & (numpy.abs(before) < 8.5 * scale)
        bound = scale * numpy.where((kind == "int4") & clamped, 1.0, 0.5)
    if not (off <= bound * (1 + 1e-5)).all():
        raise RuntimeError(f"{name} is off by {off.max()}")
    if not off.max() > 0:
        raise RuntimeError(f"{name} has lost nothing: it was not stored as {kind}")


def check(cli, case, folder, kind, profile):
    plain, small, beside = (folder / f"{name}.onnx" for name in ("plain", "small", "beside"))
    for path, options in ((plain, []), (small, ["--verify"]), (beside, ["--external-data"])):
        weights = [] if path == plain else ["--weights", kind]
        files, refusal = export(cli, case, path, "--profile", profile, *weights, *options)
        if refusal:
            raise RuntimeError(refusal)
    onnx.checker.check_model(str(small), full_check=True)
    onnx.checker.check_model(str(beside), full_check=True)
    exact, rounded = onnx.load(plain), decoded(onnx.load(small))
    if not rounded:
        raise RuntimeError(f"nothing is stored as {kind}")
    for tensor in exact.graph.initializer:
        if tensor.name in rounded:
            after, scale = rounded.pop(tensor.name)
            check_values(kind, tensor.name, numpy_helper.to_array(tensor), after, scale)
            tensor.CopyFrom(numpy_helper.from_array(after, tensor.name))
    if rounded:
        raise RuntimeError(f"no weights are called {sorted(rounded)}")
    ids = load_file(files["io.safetensors"])["eval_x"].astype(numpy.int64)
    logits = lambda path: session(path).run(["logits"], {"input_ids": ids})[0]
    trained = logits(plain)
    onnx.save(exact, plain)
    expected, found, mapped = logits(plain), logits(small), logits(beside)
    if numpy.array_equal(found, trained):
        raise RuntimeError("the logits are those of the trained weights: nothing was rounded")
    return max(difference(found, expected), difference(mapped, expected))


def main():
    cli, cases, names = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3:] or CASES
    failed = 0
    for name in names:
        for kind, profiles in PROFILES.items():
            for profile in profiles:
                with tempfile.TemporaryDirectory() as folder:
                    try:
                        worst, error = check(cli, cases / name, pathlib.Path(folder), kind, profile), None
                    except Exception as problem:  # A report for each, whatever goes wrong in one.
                        worst, error = None, f"{type(problem).__name__}: {problem}"
                bad = error is not None or not worst <= TOLERANCE
                failed += bad
                state = "FAIL" if bad else "ok"
                print(f"{state}\t{kind} {profile} {name}\t{error or f'{worst:.1e}'}", flush=True)
    sys.exit(1 if failed else 0)


main()
