"""Exports golden cases for `transformers` and llama.cpp, and compares what they compute.

    python golden.py MIXLAB_CLI GOLDEN_CASES [NAME ...]

Needs the packages torch, transformers, gguf, numpy and safetensors. `transformers` must load the folder,
without code of its own where it says that it is a `llama`; its logits must be those of mixlab 0.10.1,
read at once and token by token; and what it generates what `mixlab-cli generate` does. A GGUF file,
read by llama.cpp's own package and put into a Llama of `transformers`, must have the same logits.
"""

import collections
import json
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"

import gguf
import numpy
import torch
import transformers
from safetensors.numpy import load_file

TOLERANCE = 1e-4
# Room for more tokens than a golden row has; weights are the same for any length.
LONG = ["--set", "seq_len=64", "--set", "training.batch_tokens=128"]
GENERATED = 24
# As llama.cpp names them, and as transformers does.
NAMES = {
    "token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head",
    "blk": "model.layers", "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}  # fmt: skip


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    return done.stdout


def difference(found, expected):
    found, expected = (numpy.asarray(x, numpy.float32) for x in (found, expected))
    return float(numpy.abs(found - expected).max() / numpy.abs(expected).max())


def load(folder):
    """The model, without code of its own where it is a llama."""
    kind = json.loads((folder / "config.json").read_text())["model_type"]
    trust = {} if kind == "llama" else {"trust_remote_code": True}
    load = transformers.AutoModelForCausalLM.from_pretrained
    model, report = load(folder, dtype=torch.float32, output_loading_info=True, **trust)
    wrong = {key: value for key, value in report.items() if value}
    if wrong:
        raise RuntimeError(f"weights do not fit: {wrong}")
    return model.eval(), kind


def stepwise(model, tokens):
    """Logits of each token, read one after the other."""
    memory, logits = None, []
    for at in range(tokens.shape[1]):
        out = model(tokens[:, at : at + 1], memory=memory, use_cache=True)
        memory = out.memory
        logits.append(out.logits)
    return torch.cat(logits, 1)


def from_gguf(path, config):
    """The tensors of a GGUF file in a Llama: its pairs of channels are neighbours there."""
    reader = gguf.GGUFReader(path)
    state = {}
    for tensor in reader.tensors:
        parts = tensor.name.split(".")
        name = ".".join(NAMES.get(part, part) for part in parts)
        value = torch.from_numpy(numpy.array(tensor.data, numpy.float32))
        if ".q_proj." in name or ".k_proj." in name:
            width = config.head_dim
            value = value.view(-1, width // 2, 2, *value.shape[1:]).transpose(1, 2).reshape(value.shape)
        state[name] = value
    model = transformers.LlamaForCausalLM(config)
    missing = model.load_state_dict(state, strict=False)
    tied = ["lm_head.weight"] if config.tie_word_embeddings else []
    if missing.unexpected_keys or missing.missing_keys != tied:
        raise RuntimeError(f"{path}: {missing}")
    model.tie_weights()
    field = lambda key: reader.fields[f"llama.{key}"].contents()
    assert field("attention.head_count") == config.num_attention_heads
    assert field("embedding_length") == config.hidden_size and field("block_count") == config.num_hidden_layers
    assert abs(field("attention.layer_norm_rms_epsilon") - config.rms_norm_eps) < 1e-12
    return model.eval()


def check(cli, case, folder):
    trace = json.loads((case / "trace.json").read_text())
    files = {name: case / path for name, path in trace["files"].items()}
    weights = ["--config", case / "config.json", "--safetensors-load", files["final.safetensors"], "--backend", "cpu"]
    weights += LONG
    run([cli, "export", *weights, "--hf", folder])
    model, kind = load(folder)
    io = load_file(files["io.safetensors"])
    tokens = torch.from_numpy(io["eval_x"].astype(numpy.int64))
    expected = io["final.logits"].reshape(*tokens.shape, -1)
    plan = json.loads((folder / "config.json").read_text()).get("plan", {"streaming": True})
    with torch.no_grad():
        # A row at a time: the original hashes the first bigram of a row with the row before.
        worst = difference(model(tokens[:1]).logits, expected[:1])
        both = torch.cat([tokens, tokens.flip(0)])[:3]
        rows = torch.cat([model(row[None]).logits for row in both])
        worst = max(worst, difference(model(both).logits, rows))
        if kind == "mixlab" and plan["streaming"]:
            worst = max(worst, difference(stepwise(model, both), rows))
    prompt = tokens[:1, :5]
    ids = "token_ids:" + ",".join(map(str, prompt[0].tolist()))
    drawn = ["--prompt", ids, "--max-tokens", str(GENERATED), "--temperature", "0", "--json"]
    ours = json.loads(run([cli, "generate", *weights, *drawn]))["token_ids"]
    mask = torch.ones_like(prompt)
    theirs = model.generate(prompt, attention_mask=mask, do_sample=False, max_new_tokens=GENERATED, max_length=None)
    if theirs[0, prompt.shape[1] :].tolist() != ours:
        raise RuntimeError(f"generate found {ours}, transformers {theirs[0].tolist()}")
    # What another run of this program loads is the same file.
    if kind == "mixlab":
        again = ["--config", case / "config.json", "--safetensors-load", folder / "model.safetensors", *LONG]
        assert json.loads(run([cli, "generate", *again, "--backend", "cpu", *drawn]))["token_ids"] == ours
    done = subprocess.run([cli, "export", *weights, "--gguf", folder / "m.gguf"], capture_output=True, text=True)
    if kind == "llama":
        assert done.returncode == 0, done.stderr
        with torch.no_grad():
            worst = max(worst, difference(from_gguf(folder / "m.gguf", model.config)(tokens).logits, expected))
    elif done.returncode == 0 or "this model is no `llama`" not in done.stderr:
        raise RuntimeError(f"--gguf wrote what is no llama: {done.stderr}")
    return kind, worst


def main():
    cli, cases, names = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3:]
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    kinds, failed = collections.Counter(), 0
    for case in sorted(cases.iterdir()):
        if names and case.name not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                kind, worst = check(cli, case, pathlib.Path(folder) / "model")
                error = None
            except Exception as problem:  # A report for each case, whatever goes wrong in one.
                kind, worst, error = "", None, f"{type(problem).__name__}: {problem}"
        bad = error is not None or not worst <= TOLERANCE
        failed += bad
        kinds[kind] += 1
        print(f"{'FAIL' if bad else 'ok'}\t{case.name}\t{kind}\t{error or f'{worst:.1e}'}", flush=True)
    print(f"{dict(kinds)}, {failed} failed")
    sys.exit(1 if failed or not kinds else 0)


if __name__ == "__main__":
    main()
