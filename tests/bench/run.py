#!/usr/bin/env python3
"""Times the workloads beside this file, and optionally a PyTorch program on the same ones.

    python3 tests/bench/run.py --cli target/release/mixlab-cli --backend cuda \
        --precision bf16,tf32 [--peer torch_peer.py] [--workloads gpt2,mamba] [--out FOLDER]

Random tokens; 101 steps each. The rate is that of steps 21 to 80: the first ones fill caches, and
validation ends the run. A peer, which is a program of yours, is called as `PEER WORKLOAD eager,compile muon`
and prints one JSON line a mode with `work`, `mode`, `tok_s`, `peak_gib`, and `reserved_gib` if it knows.
Prints a table and the machine, and writes both with all raw lines to --out.

On a Mac: `--backend metal --precision f32,bf16 --out metal` with a build with `--features metal`; what to
send back is `metal/bench.md`.
"""
import argparse
import array
import json
import os
import pathlib
import platform
import random
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
STEPS = 101
WORKLOADS = ["plain3", "shakespeare", "d1024", "gpt2", "mamba", "retnet"]


def shard(path, vocab, tokens=2_000_000):
    """A shard of uniformly random tokens, in the format of `mixlab-cli prepare`."""
    generator = random.Random(7)
    body = array.array("H", (generator.randrange(vocab) for _ in range(tokens)))
    header = array.array("i", [20240520, 1, tokens] + [0] * 253)
    path.write_bytes(header.tobytes() + body.tobytes())


def ours(options, workload, precision, data, caches, steps=STEPS):
    """Rate, seconds to the first loss and peak memory of one run; no rate if it is short."""
    metrics = data / f"{workload}-{precision}.jsonl"
    metrics.unlink(missing_ok=True)
    command = [options.cli, "arch", "--config", HERE / f"{workload}.json", "--train", data / f"{workload}.bin",
               "--backend", options.backend, "--precision", precision, "--log-every", "20",
               "--val-every", "1000000", "--set", f"training.steps={steps}", "--metrics", metrics, "--timing"]
    environment = dict(os.environ, XDG_CACHE_HOME=str(caches))
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               text=True, env=environment)
    start, first, output = time.time(), None, []
    for line in process.stdout:
        output.append(line)
        if first is None and " step 0/" in line:
            first = time.time() - start
    result = dict(work=workload, mode=precision, first_s=first and round(first, 2))
    if process.wait() != 0:
        return dict(result, error="".join(output)[-600:])
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    logged = [line for line in lines if line["event"] == "step"]
    if steps < STEPS:
        return result
    start, end = (next(line for line in logged if line["step"] == at) for at in (20, 80))
    tokens, seconds = (end[key] - start[key] for key in ("tokens", "seconds"))
    memory = lines[-1].get("device_peak_bytes")
    return dict(result, tok_s=round(tokens / seconds), peak_gib=memory and round(memory / 2**30, 2),
                first=round(logged[0]["loss"], 4), last=round(logged[-1]["loss"], 4))


def program(path):
    """A program that can be run, for argparse."""
    if not os.access(path, os.X_OK) or not os.path.isfile(path):
        raise argparse.ArgumentTypeError(f"`{path}` is no program; `cargo build --release` makes target/release/mixlab-cli")
    return path


def workloads(names):
    """Names of workloads, for argparse."""
    if unknown := [name for name in names.split(",") if name not in WORKLOADS]:
        raise argparse.ArgumentTypeError(f"no workload `{unknown[0]}`: there are {', '.join(WORKLOADS)}")
    return names.split(",")


def model_name():
    """What Linux calls the processor."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def machine(options):
    """What the figures were measured on, in one line."""
    chip = platform.processor() or model_name()
    for command in (["sysctl", "-n", "machdep.cpu.brand_string"], ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]):
        try:
            chip = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            continue
    version = subprocess.run([options.cli, "--version"], capture_output=True, text=True).stdout.split("\n")[0]
    return f"{chip}, {platform.platform()}, {version}, backend {options.backend}, {time.strftime('%Y-%m-%d')}"


def peer(options, workload):
    """The lines that the peer prints for one workload."""
    command = [sys.executable, options.peer, workload, options.peer_modes, "muon"]
    output = subprocess.run(command, capture_output=True, text=True)
    return [json.loads(line) for line in output.stdout.splitlines() if line.startswith("{")]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cli", required=True, type=program)
    parser.add_argument("--backend", default="cuda")
    parser.add_argument("--precision", default="bf16,tf32")
    parser.add_argument("--peer")
    parser.add_argument("--peer-modes", default="eager,compile")
    parser.add_argument("--workloads", default=WORKLOADS, type=workloads)
    parser.add_argument("--out", type=pathlib.Path)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        data = pathlib.Path(folder)
        for workload in options.workloads:
            config = json.loads((HERE / f"{workload}.json").read_text())
            shard(data / f"{workload}.bin", config["vocab_size"])
            for precision in options.precision.split(","):
                caches = data / f"cache-{workload}-{precision}"
                cold = ours(options, workload, precision, data, caches, steps=2)
                warm = ours(options, workload, precision, data, caches)
                rows.append(dict(warm, first_s=[cold.get("first_s"), warm.get("first_s")]))
                print(json.dumps(rows[-1]), flush=True)
            for row in peer(options, workload) if options.peer else []:
                rows.append(row)
                print(json.dumps(row), flush=True)
    table = ["| workload | mode | tok/s | peak GiB | reserved GiB | first loss, cold / warm |",
             "|---|---|---:|---:|---:|---|"]
    for row in rows:
        first = " / ".join(f"{x} s" for x in row.get("first_s", []) if x is not None)
        cells = [row["work"], row["mode"], row.get("tok_s", "failed"), row.get("peak_gib", ""),
                 row.get("reserved_gib", ""), first]
        table.append("| " + " | ".join(("" if cell is None else str(cell) for cell in cells)) + " |")
    table += ["", machine(options)]
    print("\n".join(table))
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "bench.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (options.out / "bench.md").write_text("\n".join(table) + "\n")


if __name__ == "__main__":
    main()
