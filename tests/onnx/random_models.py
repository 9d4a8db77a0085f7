"""Has models of random configs exported, run and compared, and checks each file.

    python random_models.py EXPORTER [COUNT]

EXPORTER is the example `onnx-random-models`, which writes the files and compares what onnxruntime computes
with the models. Needs the package onnx. Each file must pass the checker of ONNX with full inference of shapes.
"""

import pathlib
import subprocess
import sys
import tempfile

import onnx


def main():
    count = sys.argv[2] if len(sys.argv) > 2 else "20"
    with tempfile.TemporaryDirectory() as folder:
        failed = subprocess.run([sys.argv[1], folder, count]).returncode
        for path in sorted(pathlib.Path(folder).glob("*.onnx")):
            try:
                onnx.checker.check_model(str(path), full_check=True)
            except Exception as problem:  # A report for each file, whatever goes wrong in one.
                failed = 1
                print(f"FAIL\t{path.stem}\t{problem}", flush=True)
    sys.exit(1 if failed else 0)


main()
