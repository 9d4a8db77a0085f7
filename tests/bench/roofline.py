#!/usr/bin/env python3
"""Predicts training on GPUs that nobody here has, from a captured step and what was measured elsewhere.

    python3 tests/bench/roofline.py --cli target/release/mixlab-cli [--workloads shakespeare,d1024]

`mixlab-cli validate --json` tells operations and bytes of a training step by kind. A kind takes the
longer of operations over what it reaches of the device's arithmetic, and bytes over what it reaches of
its bandwidth; kinds run one after the other. Both shares are ranges (SHARES), so the prediction is one.
What it cannot know is in docs/performance.md, "Macs, by arithmetic".
"""
import argparse
import json
import subprocess
from pathlib import Path

from run import program

HERE = Path(__file__).parent

# Arithmetic in f32 (TFLOP/s) and memory (GB/s). Apple states the bandwidths, and for M1 and M1 Max the
# arithmetic; for M3 and M4 it is 10 cores x 128 lanes x 2 x 1.38 and 1.47 GHz, clocks as reported by
# users. H100 SXM is NVIDIA's data sheet, without matrix units: the device that SHARES were measured on.
DEVICES = {
    "M1": (2.6, 68),
    "M1 Max": (10.4, 400),
    "M3": (3.5, 100),
    "M4": (3.8, 120),
    "H100": (66.9, 3350),
}

# Share of the device's arithmetic, slowest and fastest shape. All of f32 on an H100 (66.9 TFLOP/s), from
# docs/performance.md:
#   Portable products, "f32, Vulkan": 13 to 29 TFLOP/s for `a b`, 12 to 29 for `a bT` and `aT b` over the
#   two shapes; batched products 25 to 34 (Newton-Schulz).
#   Attention: 5 % of a step of d1024 in f32 on CUDA (18,100 tok/s) for a forward of 275 GFLOP.
SHARES = {
    "mixlab.linear": (13 / 66.9, 29 / 66.9),
    "mixlab.linear_gradient": (12 / 66.9, 18 / 66.9),
    "mixlab.orthogonalize": (25 / 66.9, 34 / 66.9),
    "mixlab.attention": (0.18, 0.18),
    "mixlab.attention_gradient": (0.18, 0.18),
}
# Of any other product: as `mixlab.linear`.
PRODUCTS = SHARES["mixlab.linear"]
# Share of the bandwidth: 2,951 of 3,350 GB/s is what a copy reaches on that card, and kernels reach 0.87
# to 1.0 of a copy (Operations, CUDA; the same CubeCL texts run through wgpu).
STREAMS = (0.87 * 2951 / 3350, 2951 / 3350)
# Ids look up rows here and there.
LOOKUPS = {"mixlab.embedding": (0.58 * 2951 / 3350,) * 2, "mixlab.embedding_gradient": (0.32 * 2951 / 3350,) * 2}

# tok/s in f32: measured by us on an H100 through Vulkan, published by mixlab 0.10.1 for an M1 Max.
MEASURED = {"shakespeare": 290_000, "d1024": 17_000}
PUBLISHED = {"shakespeare": 37_888}
# The other published figure has no config beside D and T: seconds of 100 steps on an M1 Max.
HUNDRED_STEPS = 8.5


def captured(options, workload, overrides=()):
    """The report of `validate` on a workload."""
    command = [options.cli, "validate", "--config", HERE / f"{workload}.json", "--backend", "cpu", "--json"]
    command += [word for override in overrides for word in ("--set", override)]
    output = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    return json.loads(output.stdout)["configs"][0]


def seconds(work, device, which):
    """Seconds of all operations of one name; `which` is 0 for the low shares and 1 for the high ones."""
    arithmetic, memory = DEVICES[device]
    share = SHARES.get(work["name"], PRODUCTS)[which]
    streams = LOOKUPS.get(work["name"], STREAMS)[which]
    return max(work["flops"] / (share * arithmetic * 1e12), work["bytes"] / (streams * memory * 1e9))


def step(report, device):
    """Seconds of a step, fastest and slowest."""
    return [sum(seconds(work, device, which) for work in report["step"]) for which in (1, 0)]


def span(low, high, digits=0):
    return f"{low:,.{digits}f}–{high:,.{digits}f}"


def rates(report, device):
    fast, slow = step(report, device)
    return span(report["batch_tokens"] / slow, report["batch_tokens"] / fast)


def kinds(report, device):
    """What takes the time, slow case: the largest kinds and the rest."""
    times = sorted(((seconds(work, device, 0), work) for work in report["step"]), key=lambda x: -x[0])
    total = sum(time for time, _ in times)
    lines = [f"| {work['name']} | {work['count']} | {work['flops'] / 1e9:,.0f} | {work['bytes'] / 1e6:,.0f} | {time / total:.0%} |"
             for time, work in times[:8]]
    rest = total - sum(time for time, _ in times[:8])
    return lines + [f"| the rest | | | | {rest / total:.0%} |"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cli", required=True, type=program)
    parser.add_argument("--workloads", default="shakespeare,d1024")
    parser.add_argument("--set", action="append", default=[], help="override a field of each config")
    parser.add_argument("--kinds", metavar="DEVICE", choices=DEVICES, help="what takes the time on this device")
    options = parser.parse_args()
    workloads = options.workloads.split(",")
    reports = {workload: captured(options, workload, options.set) for workload in workloads}
    print("tok/s in f32, predicted:\n")
    print("| workload | " + " | ".join(DEVICES) + " | H100 through Vulkan, measured | mixlab 0.10.1, M1 Max, published |")
    print("|---|" + "---:|" * (len(DEVICES) + 2))
    for workload, report in reports.items():
        figures = [rates(report, device) for device in DEVICES]
        known = [f"{table[workload]:,}" if workload in table and not options.set else "" for table in (MEASURED, PUBLISHED)]
        print(f"| {workload} | " + " | ".join(figures + known) + " |")
    one_row = captured(options, "d1024", ["training.batch_tokens=1024"])
    fast, slow = step(one_row, "M1 Max")
    operations = sum(work["flops"] for work in one_row["step"]) / 1e12
    print(f"\n100 steps at D = 1024, T = 1024 on an M1 Max: mixlab 0.10.1 published {HUNDRED_STEPS} s and no more of the config.")
    print(f"d1024 with one row a step ({operations:.1f} TFLOP a step): {span(100 * fast, 100 * slow)} s predicted;")
    print(f"in {HUNDRED_STEPS} s the device can do {HUNDRED_STEPS * DEVICES['M1 Max'][0] / 100:.2f} TFLOP a step at most.")
    if options.kinds:
        for workload, report in reports.items():
            print(f"\n{workload} on {options.kinds}, slow shares:\n\n| operation | count | GFLOP | MB | time |\n|---|---:|---:|---:|---:|")
            print("\n".join(kinds(report, options.kinds)))


if __name__ == "__main__":
    main()
