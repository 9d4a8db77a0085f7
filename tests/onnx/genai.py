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

from golden import export
from stateful import LONG, generated

CASES = ("plain", "mamba", "rwkv", "ex_token_blend_plain", "bigram_proj", "retnet")
COUNT = 64
# A special token of the tokenizer that is tried.
END = 40


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


def byte_pairs():
    """A tokenizer of a few letters, as GPT-2 cuts words."""
    vocab = {letter: place for place, letter in enumerate("abcdefghijklmnopqrstuvwxyzĠ")}
    vocab |= {"th": 27, "the": 28}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    end = {"id": END, "content": "<|endoftext|>", "special": True, "normalized": False}
    end |= {"single_word": False, "lstrip": False, "rstrip": False}
    model = {"type": "BPE", "vocab": vocab, "merges": ["t h", "th e"], "fuse_unk": False, "byte_fallback": False}
    return {"version": "1.0", "added_tokens": [end], "pre_tokenizer": level, "decoder": level, "model": model}


def check_tokenizer(cli, case, folder):
    """Text goes in and comes out by the tokenizer that was written beside the file, and its end is the end."""
    (folder / "words.json").write_text(json.dumps(byte_pairs()))
    files, refusal = export(cli, case, folder / "model.onnx", "--profile", "genai", "--tokenizer", folder / "words.json")
    if refusal:
        return refusal
    tokenizer = onnxruntime_genai.Tokenizer(onnxruntime_genai.Model(str(folder)))
    ids = [int(id) for id in tokenizer.encode("the cat")]
    end = json.loads((folder / "genai_config.json").read_text())["model"]["eos_token_id"]
    found = ids, tokenizer.decode(numpy.array(ids, numpy.int32)), end
    expected = [28, 26, 2, 0, 19], "the cat", END
    return None if found == expected else f"found {found}, not {expected}"


def main():
    cli, cases, names = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3:] or CASES
    failed = 0
    checks = [(name, check, name) for name in names] + [("tokenizer", check_tokenizer, "plain")]
    for name, check_one, case in checks:
        with tempfile.TemporaryDirectory() as folder:
            try:
                error = check_one(cli, cases / case, pathlib.Path(folder))
            except Exception as problem:  # A report for each case, whatever goes wrong in one.
                output = getattr(problem, "stderr", b"") or b""
                error = f"{type(problem).__name__}: {problem} {output.decode()}"
        failed += error is not None
        print(f"{'FAIL' if error else 'ok'}\tgenai {name}\t{error or 'the same tokens'}", flush=True)
    sys.exit(1 if failed else 0)


main()
