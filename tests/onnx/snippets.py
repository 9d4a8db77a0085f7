"""Runs the snippets of docs/onnx.md on an exported model: Python's, Rust's, and with Node that for browsers.

    python snippets.py EXAMPLES GOLDEN_CASES [NODE_MODULES]

EXAMPLES is the folder of mixlab-cli-under-test and of onnx-snippet, which is the snippet of Rust. NODE_MODULES is
a folder with the npm package onnxruntime-web; without it no browser's runs. All must print the token that
`generate` finds.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import onnxruntime

ROOT = pathlib.Path(__file__).resolve().parents[2]


def run(command, **more):
    return subprocess.run(command, capture_output=True, text=True, check=True, **more).stdout


def main():
    examples, case = os.path.abspath(sys.argv[1]), (pathlib.Path(sys.argv[2]) / "mamba").resolve()
    snippets = dict(re.findall(r"```(python|js)\n(.*?)```", (ROOT / "docs/onnx.md").read_text(), re.S)[::-1])
    cli = os.path.join(examples, "mixlab-cli-under-test")
    weights = case / json.loads((case / "trace.json").read_text())["files"]["final.safetensors"]
    model = ["--config", case / "config.json", "--safetensors-load", weights, "--backend", "cpu"]
    with tempfile.TemporaryDirectory() as folder:
        run([cli, "export", *model, "--onnx", os.path.join(folder, "model.onnx"), "--external-data"])
        asked = ["--prompt", "token_ids:1,2,3", "--max-tokens", "1", "--temperature", "0", "--json"]
        expected = json.loads(run([cli, "generate", *model, *asked]))["token_ids"]
        found = {"python": run([sys.executable, "-c", snippets["python"]], cwd=folder)}
        library = next((pathlib.Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.*"))
        loading = {**os.environ, "ORT_DYLIB_PATH": str(library)}
        found["rust"] = run([os.path.join(examples, "onnx-snippet")], cwd=folder, env=loading)
        if len(sys.argv) > 3:
            # Its weights are in the file: a browser has no folder to look in.
            run([cli, "export", *model, "--onnx", os.path.join(folder, "model.onnx")])
            modules = {**os.environ, "NODE_PATH": os.path.abspath(sys.argv[3])}
            found["js"] = run(["node", "-e", snippets["js"]], cwd=folder, env=modules)
    wrong = [name for name, printed in found.items() if [int(printed.split()[-1])] != expected]
    for name, printed in found.items():
        print(f"{'FAIL' if name in wrong else 'ok'}\t{name}\t{printed.strip()}, generate {expected}")
    sys.exit(1 if wrong else 0)


main()
