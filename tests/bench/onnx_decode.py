#!/usr/bin/env python3
"""Times a token of `generate` beside one of onnxruntime with the exported file, on the CPU.

    python3 tests/bench/onnx_decode.py --cli target/release/mixlab-cli [--rounds 5]

Models of D = 512 and 8 blocks, of `plain` and of `mamba`, with weights after one step; a prompt of 16 tokens,
then 256 drawn greedily by one thread. The figure is the processor's time for the last 240 of them, so that other
programs hardly count: the median of the rounds, in which both take turns. Needs the packages onnxruntime and
numpy.
"""
import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import numpy
import onnxruntime

from run import program, shard

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "onnx"))
from stateful import Decoder  # noqa: E402

PROMPT, FIRST, NEW = 16, 16, 256
MODELS = {"plain": {"type": "plain", "heads": 8}, "mamba": {"type": "mamba"}}


def run(command, **more):
    return subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True, **more)


def prepared(cli, name, folder):
    """A config and weights."""
    config, data, weights = folder / f"{name}.json", folder / "random.bin", folder / f"{name}.st"
    config.write_text(json.dumps({
        "name": name, "model_dim": 512, "vocab_size": 8192, "seq_len": 512, "blocks": [MODELS[name]] * 8,
        "training": {"steps": 1, "batch_tokens": 512},
    }))
    shard(data, 8192, 100_000)
    run([cli, "arch", "--config", config, "--train", data, "--backend", "cpu", "--safetensors", weights, "--quiet"])
    return ["--config", config, "--safetensors-load", weights, "--backend", "cpu"]


def generated(cli, model, prompt, count):
    """Seconds of the processor for a run of `generate`, from its start to its end."""
    ids = "token_ids:" + ",".join(map(str, prompt))
    command = [cli, "generate", *model, "--prompt", ids, "--temperature", "0", "--max-tokens", count]
    used = lambda: sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    before = used()
    run(command, env={**os.environ, "RAYON_NUM_THREADS": "1"})
    return used() - before


def ours(cli, model, prompt):
    """Milliseconds a token of `generate`: what a longer run takes more than a short one."""
    long, short = (generated(cli, model, prompt, count) for count in (NEW, FIRST))
    return 1e3 * (long - short) / (NEW - FIRST)


def theirs(path, prompt):
    """Milliseconds a token of onnxruntime; what a loop around it costs is in it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    decoder, ids = Decoder(session, 1), numpy.array([prompt], numpy.int64)
    for index in range(NEW):
        if index == FIRST:
            start = time.process_time()
        ids = decoder.read(ids)[:, -1:].argmax(-1)
    return 1e3 * (time.process_time() - start) / (NEW - FIRST)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cli", required=True, type=program)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    prompt = [7 * i for i in range(PROMPT)]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for name in MODELS:
            model = prepared(given.cli, name, folder)
            found = {"generate": []}
            for profile in ("portable", "modern"):
                found[profile] = []
                path = folder / f"{profile}.onnx"
                run([given.cli, "export", *model, "--onnx", path, "--stateful", "--profile", profile])
            for _ in range(given.rounds):
                found["generate"].append(ours(given.cli, model, prompt))
                for profile in ("portable", "modern"):
                    found[profile].append(theirs(folder / f"{profile}.onnx", prompt))
            for who, times in found.items():
                each = ", ".join(f"{t:.2f}" for t in times)
                print(f"{name}\t{who}\t{statistics.median(times):.2f} ms a token\t({each})", flush=True)


main()
