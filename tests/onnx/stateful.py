"""Exports golden cases with state and compares onnxruntime with itself and with `generate`.

    python stateful.py MIXLAB_CLI GOLDEN_CASES [--profile NAME] [CASE ...]

Needs the packages onnx, onnxruntime, numpy and safetensors. A row that is read in pieces, beginning
with empty states, must have the logits of the row read at once; and 64 tokens, each the likeliest after
those before it, must be those that `mixlab-cli generate` finds. Models that have no state must say why.
"""

import json
import subprocess

import numpy
import onnx
from safetensors.numpy import load_file

from golden import difference, export, run, session

# Room for 64 tokens; weights are the same for any length.
LONG = ["--set", "seq_len=128", "--set", "training.batch_tokens=256"]
TYPES = {"tensor(float)": numpy.float32, "tensor(int64)": numpy.int64}


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


def check(cli, case, folder, options):
    path, whole = str(folder / "model.onnx"), str(folder / "whole.onnx")
    files, refusal = export(cli, case, path, "--stateful", *LONG, *options)
    if refusal:
        return None, refusal.replace("\n", " ")
    export(cli, case, whole, *options)
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
    weights = files["final.safetensors"]
    ours = generated(cli, case / "config.json", weights, prompt, 64)
    theirs = greedy(model, prompt, 64)
    if ours != theirs:
        return None, f"generate found {ours}, onnxruntime {theirs}"
    return worst, None


if __name__ == "__main__":
    run(check)
