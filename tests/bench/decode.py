#!/usr/bin/env python3
"""Times decoding with the shapes of `gpt2.json`, and optionally a PyTorch program beside it.

    python3 tests/bench/decode.py --cli target/release/mixlab-cli --backend cuda \
        --precision bf16,f32 --rows 1,32 [--peer tests/bench/decode_peer.py] [--out FILE]

Weights after one step; a prompt of 16 tokens, then 512 drawn greedily, each given to the host before
the next. The figure is the median time between two of them, in which every row gets one. The first
run of each kind fills the caches of kernels and is not shown.
"""
import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile

from run import HERE, program, shard

PROMPT, NEW = 16, 512


def weights(options, folder):
    """A file of weights of the workload."""
    data, path = folder / "random.bin", folder / "weights.st"
    shard(data, 50304, 100_000)
    command = [options.cli, "arch", "--config", HERE / "gpt2.json", "--train", data, "--backend", options.backend,
               "--set", "training.steps=1", "--set", "training.batch_tokens=1024", "--safetensors", path, "--quiet"]
    subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
    return path


def ours(options, path, precision, rows):
    """Milliseconds a token of one run."""
    prompt = "token_ids:" + ",".join(str(7 * i) for i in range(PROMPT))
    command = [options.cli, "generate", "--config", HERE / "gpt2.json", "--safetensors-load", path,
               "--backend", options.backend, "--precision", precision, "--prompt", prompt, "--temperature", "0",
               "--max-tokens", NEW, "--num-samples", rows, "--timing"]
    output = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    found = re.search(r"([0-9.]+) ms a token", output.stderr)
    if output.returncode or not found:
        return dict(error=output.stderr[-600:])
    return dict(ms=float(found[1]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cli", required=True, type=program)
    parser.add_argument("--backend", default="cuda")
    parser.add_argument("--precision", default="bf16,f32")
    parser.add_argument("--rows", default="1,32")
    parser.add_argument("--peer")
    parser.add_argument("--out", type=pathlib.Path)
    options = parser.parse_args()
    results = []

    def show(**result):
        if ms := result.get("ms"):
            result["tok_s"] = round(1e3 * result["rows"] / ms)
        results.append(result)
        print(json.dumps(result), flush=True)

    with tempfile.TemporaryDirectory() as folder:
        path = weights(options, pathlib.Path(folder))
        for precision in options.precision.split(","):
            for rows in map(int, options.rows.split(",")):
                ours(options, path, precision, rows)
                for _ in range(2):
                    show(who="ours", precision=precision, rows=rows, **ours(options, path, precision, rows))
    if options.peer:
        command = [sys.executable, options.peer, "--precision", options.precision, "--rows", options.rows]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as peer:
            for line in peer.stdout:
                if line.startswith("{"):
                    show(**json.loads(line))
    if options.out:
        options.out.write_text("".join(json.dumps(result) + "\n" for result in results))


if __name__ == "__main__":
    main()
