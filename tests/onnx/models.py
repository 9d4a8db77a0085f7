"""Has models exported, run and compared, and checks each file.

    python models.py EXPORTER COUNT [FIRST]    so many models of random configs, from the seed FIRST on
    python models.py EXPORTER CONFIG.json ...  the models of these

EXPORTER is the example `onnx-models`, which writes the files and compares what onnxruntime computes with the
models. Needs the package onnx. Each file must pass the checker of ONNX with full inference of shapes.
"""

import pathlib
import subprocess
import sys
import tempfile

import onnx


def main():
    with tempfile.TemporaryDirectory() as folder:
        failed = subprocess.run([sys.argv[1], folder, *sys.argv[2:]]).returncode
        files = sorted(pathlib.Path(folder).glob("*.onnx"))
        for path in files:
            try:
                onnx.checker.check_model(str(path), full_check=True)
            except Exception as problem:  # A report for each file, whatever goes wrong in one.
                failed = 1
                print(f"FAIL\t{path.stem}\t{problem}", flush=True)
        print(f"{len(files)} files checked")
    sys.exit(1 if failed or not files else 0)


main()
