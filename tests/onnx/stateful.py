"""Exports golden cases with state and compares onnxruntime with itself and with `generate`.

    python stateful.py MIXLAB_CLI GOLDEN_CASES [NAME ...]

Needs the packages onnx, onnxruntime, numpy and safetensors. A row that is read in pieces, beginning
with empty states, must have the logits of the row read at once; and 64 tokens, each the likeliest after
those before it, must be those that `mixlab-cli generate` finds. Models that have no state must say why.
"""

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
# Room for 64 tokens; weights are the same for any length.
LONG = ["--set", "seq_len=128", "--set", "training.batch_tokens=256"]
TYPES = {"tensor(float)": numpy.float32, "tensor(int64)": numpy.int64}


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


class Decoder:
    """Rows that a stateful file reads in pieces."""

    def __init__(self, model, rows):
        self.model, self.past = model, 0
        self.state = {}
        for port in model.get_inputs():
            if port.name.startswith("past_"):
                sizes = {"batch": rows, "past": 0}
                lengths = [n if isinstance(n, int) else eval(n, {}, sizes) for n in port.shape]
                self.state[port.name] = numpy.zeros(lengths, TYPES[port.type])

    def read(self, ids):
        feeds = dict(self.state, input_ids=ids)
        self.past += ids.shape[1]
        if any(port.name == "attention_mask" for port in self.model.get_inputs()):
            feeds["attention_mask"] = numpy.ones((len(ids), self.past), numpy.int64)
        names = [port.name for port in self.model.get_outputs()]
        found = dict(zip(names, self.model.run(names, feeds)))
        present = lambda name: name.replace("past_key_values", "present").replace("past_", "present_")
        self.state = {name: found[present(name)] for name in self.state}
        return found["logits"]


def difference(found, expected):
    return float(numpy.abs(found - expected).max() / numpy.abs(expected).max())


def pieces(tokens, lengths):
    at = 0
    for length in lengths:
        yield tokens[:, at : at + length]
        at += length
    if at < tokens.shape[1]:
        yield tokens[:, at:]


def greedy(model, prompt, count):
    decoder, ids, found = Decoder(model, 1), prompt, []
    for _ in range(count):
        token = int(decoder.read(ids)[0, -1].argmax())
        found.append(token)
        ids = numpy.array([[token]], numpy.int64)
    return found


def generated(cli, config, weights, prompt, count):
    command = [cli, "generate", "--config", config, "--safetensors-load", weights, "--backend", "cpu"]
    ids = "token_ids:" + ",".join(map(str, prompt[0]))
    command += LONG + ["--prompt", ids, "--max-tokens", str(count), "--temperature", "0", "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    return json.loads(done.stdout)["token_ids"]


def check(cli, case, folder):
    trace = json.loads((case / "trace.json").read_text())
    files = {name: case / path for name, path in trace["files"].items()}
    config, weights = case / "config.json", files["final.safetensors"]
    export = [cli, "export", "--config", config, "--safetensors-load", weights, "--backend", "cpu"]
    path, whole = str(folder / "model.onnx"), str(folder / "whole.onnx")
    done = subprocess.run(export + LONG + ["--onnx", path, "--stateful"], capture_output=True, text=True)
    if done.returncode:
        return None, done.stderr.strip().splitlines()[-2]
    subprocess.run(export + ["--onnx", whole], capture_output=True, check=True)
    onnx.checker.check_model(path, full_check=True)
    model, whole = session(path), session(whole)
    tokens = load_file(files["io.safetensors"])["eval_x"].astype(numpy.int64)
    tokens = numpy.concatenate([tokens, tokens, tokens])[:3]
    length, worst = tokens.shape[1], 0.0
    expected = whole.run(None, {"input_ids": tokens})[0]
    for lengths in ([length], [1] * length, [length - 1], [2, 1, 3]):
        decoder = Decoder(model, 3)
        found = [decoder.read(piece) for piece in pieces(tokens, lengths)]
        worst = max(worst, difference(numpy.concatenate(found, axis=1), expected))
    prompt = tokens[:1, : max(1, length // 4)]
    ours, theirs = generated(cli, config, weights, prompt, 64), greedy(model, prompt, 64)
    if ours != theirs:
        return None, f"generate found {ours}, onnxruntime {theirs}"
    return worst, None


def main():
    cli, cases, names = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3:]
    failed = 0
    for case in sorted(cases.iterdir()):
        if names and case.name not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                worst, error = check(cli, case, pathlib.Path(folder))
            except Exception as problem:  # A report for each case, whatever goes wrong in one.
                worst, error = None, f"{type(problem).__name__}: {problem}"
        refused = error is not None and "there is no state" in error
        bad = not refused and (error is not None or not worst <= TOLERANCE)
        failed += bad
        state = "FAIL" if bad else "none" if refused else "ok"
        print(f"{state}\t{case.name}\t{error or f'{worst:.1e}'}", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
