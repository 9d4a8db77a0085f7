"""Exports each golden case with trained weights and compares onnxruntime with mixlab 0.10.1.

    python golden.py MIXLAB_CLI GOLDEN_CASES [--profile NAME] [CASE ...]

Needs the packages onnx, onnxruntime, numpy and safetensors. A file must pass the checker of ONNX with
full inference of shapes, give the logits of the golden data on its batch, and for other numbers of
rows and tokens what it gives for each row and each prefix on its own. Without tokens it must fail, and not end
the program as a Scan would.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy
import onnx
import onnxruntime
from safetensors.numpy import load_file

TOLERANCE = 1e-4
# What some cases are refused for, by right.
REFUSED = ("test-time training", "there is no state")
# Positions of these read later ones: a prefix has other logits.
WHOLE = ("perceiver", "bottleneck")


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def difference(found, expected):
    return float(numpy.abs(found - expected).max() / numpy.abs(expected).max())


def export(cli, case, path, *options):
    """Exports a case to `path`; returns its files, and why it was refused."""
    trace = json.loads((case / "trace.json").read_text())
    files = {name: case / path for name, path in trace["files"].items()}
    command = [cli, "export", "--config", case / "config.json", "--onnx", path, *options]
    command += ["--backend", "cpu", "--safetensors-load", files["final.safetensors"]]
    done = subprocess.run(command, capture_output=True, text=True)
    return files, done.stderr.strip() if done.returncode else None


def check(cli, case, folder, options):
    path = str(folder / "model.onnx")
    files, refusal = export(cli, case, path, *options)
    if refusal:
        return None, refusal
    onnx.checker.check_model(path, full_check=True)
    model, io = session(path), load_file(files["io.safetensors"])
    tokens, logits = io["eval_x"].astype(numpy.int64), io["final.logits"]
    run = lambda ids: model.run(None, {"input_ids": ids})[0]
    # A row at a time: the original hashes the first bigram of a row with the row before.
    first = run(tokens[:1])
    worst = difference(first[0], logits.reshape(*tokens.shape, -1)[0])
    whole = any(kind in json.dumps(json.loads((case / "config.json").read_text())) for kind in WHOLE)
    for length in (1, 2, 7, tokens.shape[1]):
        rows = numpy.concatenate([tokens, tokens, tokens])[:3, :length]
        each = numpy.concatenate([run(rows[i : i + 1]) for i in range(3)])
        worst = max(worst, difference(run(rows), each))
        if not whole:
            worst = max(worst, difference(each[0], first[0, :length]))
    for rows in (1, 2):
        try:
            run(tokens[:rows, :0])
            return None, "no tokens are no error"
        except onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument:
            pass
    return worst, None


def run(check):
    """Checks each case that the command line names with `check`, and ends the program."""
    parser = argparse.ArgumentParser()
    parser.add_argument("cli")
    parser.add_argument("cases", type=pathlib.Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--profile", default="portable")
    given = parser.parse_args()
    failed = 0
    for case in sorted(given.cases.iterdir()):
        if given.names and case.name not in given.names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                options = ["--profile", given.profile]
                worst, error = check(given.cli, case, pathlib.Path(folder), options)
            except Exception as problem:  # A report for each case, whatever goes wrong in one.
                worst, error = None, f"{type(problem).__name__}: {problem}"
        refused = error is not None and any(reason in error for reason in REFUSED)
        bad = not refused and (error is not None or not worst <= TOLERANCE)
        failed += bad
        state = "FAIL" if bad else "none" if refused else "ok"
        print(f"{state}\t{case.name}\t{error or f'{worst:.1e}'}", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    run(check)
