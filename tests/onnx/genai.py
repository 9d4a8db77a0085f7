"""Exports golden cases for onnxruntime-genai and compares its greedy tokens with `generate`.

    python genai.py MIXLAB_CLI GOLDEN_CASES [CASE ...]

Needs the package onnxruntime-genai besides those of stateful.py. A mixed stack is made of the cases.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import numpy
import onnxruntime_genai
from safetensors.numpy import load_file

from stateful import LONG, generated

CASES = ("plain", "mamba", "rwkv", "ex_token_blend_plain", "bigram_proj", "retnet")
COUNT = 64


def continued(folder, prompt):
    """The greedy tokens after `prompt`, one `Generator` for all of them."""
    model = onnxruntime_genai.Model(str(folder))
    params = onnxruntime_genai.GeneratorParams(model)
    params.set_search_options(max_length=prompt.shape[1] + COUNT, do_sample=False)
    generator = onnxruntime_genai.Generator(model, params)
    generator.append_tokens(prompt.astype(numpy.int32))
    while not generator.is_done():
        generator.generate_next_token()
    return [int(token) for token in generator.get_sequence(0)[prompt.shape[1] :]]


def check(cli, case, folder):
    trace = json.loads((case / "trace.json").read_text())
    files = {name: case / path for name, path in trace["files"].items()}
    config, weights = case / "config.json", files["final.safetensors"]
    prompt = load_file(files["io.safetensors"])["eval_x"][:1, :4].astype(numpy.int64)
    ours = generated(cli, config, weights, prompt, COUNT)
    command = [cli, "export", "--config", config, "--safetensors-load", weights, "--backend", "cpu"]
    # A token that does not come: a text that ends is shorter.
    vocab = json.loads(config.read_text())["vocab_size"]
    end = next(token for token in reversed(range(vocab)) if token not in ours)
    command += LONG + ["--profile", "genai", "--eos-token", str(end)]
    subprocess.run(command + ["--onnx", folder / "model.onnx"], check=True, capture_output=True)
    theirs = continued(folder, prompt)
    return None if theirs == ours else f"generate found {ours}, onnxruntime-genai {theirs}"


def main():
    cli, cases, names = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3:] or CASES
    failed = 0
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            try:
                error = check(cli, cases / name, pathlib.Path(folder))
            except Exception as problem:  # A report for each case, whatever goes wrong in one.
                output = getattr(problem, "stderr", b"") or b""
                error = f"{type(problem).__name__}: {problem} {output.decode()}"
        failed += error is not None
        print(f"{'FAIL' if error else 'ok'}\tgenai {name}\t{error or f'{COUNT} tokens'}", flush=True)
    sys.exit(1 if failed else 0)


main()
