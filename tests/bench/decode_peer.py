#!/usr/bin/env python3
"""Decoding in PyTorch with the shapes of `gpt2.json`: a static cache of keys and values, written in
place; eager, and compiled into a CUDA graph.

    python3 tests/bench/decode_peer.py [--precision bf16,f32] [--rows 1,32] [--modes eager,compile]

Prints one JSON line a case: the median time between two tokens, each read by the host before the next.
Weights and cache are of the precision; f32 products are true ones (no TF32).
"""
import argparse
import json
import pathlib
import statistics
import time

import torch
import torch.nn.functional as F

CONFIG = json.loads((pathlib.Path(__file__).parent / "gpt2.json").read_text())
DIM, VOCAB, LENGTH = CONFIG["model_dim"], CONFIG["vocab_size"], CONFIG["seq_len"]
LAYERS, HEADS, FFN = len(CONFIG["blocks"]), CONFIG["blocks"][0]["heads"], int(DIM * CONFIG["mlp_mult"])
PROMPT, NEW = 16, 512


class Layer(torch.nn.Module):
    def __init__(self, rows):
        super().__init__()
        self.norm = torch.nn.RMSNorm(DIM, eps=1e-5)
        self.qkv, self.out = torch.nn.Linear(DIM, 3 * DIM, bias=False), torch.nn.Linear(DIM, DIM, bias=False)
        self.up, self.down = torch.nn.Linear(DIM, FFN, bias=False), torch.nn.Linear(FFN, DIM, bias=False)
        for name in ("keys", "values"):
            self.register_buffer(name, torch.zeros(rows, HEADS, LENGTH, DIM // HEADS))

    def forward(self, x, places, mask, turn):
        rows, tokens, _ = x.shape
        q, k, v = (part.view(rows, tokens, HEADS, -1).transpose(1, 2) for part in self.qkv(self.norm(x)).chunk(3, -1))
        self.keys.index_copy_(2, places, rotated(k, turn))
        self.values.index_copy_(2, places, v)
        y = F.scaled_dot_product_attention(rotated(q, turn), self.keys, self.values, attn_mask=mask)
        x = x + self.out(y.transpose(1, 2).reshape(rows, tokens, DIM))
        return x + self.down(F.silu(self.up(x)))


def rotated(x, turn):
    """Neighbouring channels turned by the angle of their position."""
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = turn
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


class Model(torch.nn.Module):
    def __init__(self, rows):
        super().__init__()
        self.embed = torch.nn.Embedding(VOCAB, DIM)
        self.layers = torch.nn.ModuleList(Layer(rows) for _ in range(LAYERS))
        self.norm, self.head = torch.nn.RMSNorm(DIM, eps=1e-5), torch.nn.Linear(DIM, VOCAB, bias=False)
        width = DIM // HEADS
        angles = torch.arange(LENGTH)[:, None] * 10000.0 ** (-torch.arange(0, width, 2) / width)
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())
        self.register_buffer("causal", torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril())

    def forward(self, tokens, places):
        x, turn = self.embed(tokens), (self.cos[places], self.sin[places])
        for layer in self.layers:
            x = layer(x, places, self.causal[places], turn)
        return self.head(self.norm(x[:, -1])).argmax(-1, keepdim=True)


@torch.inference_mode()
def milliseconds(precision, rows, mode):
    torch.manual_seed(0)
    dtype = dict(bf16=torch.bfloat16, f32=torch.float32)[precision]
    model = Model(rows).cuda()
    model = model.to(dtype)  # Masks stay what they are: only floats are cast.
    step = model if mode == "eager" else torch.compile(model, mode="reduce-overhead", fullgraph=True)
    tokens = 7 * torch.arange(PROMPT, device="cuda").repeat(rows, 1)
    tokens = model(tokens, torch.arange(PROMPT, device="cuda"))
    times = []
    for place in range(PROMPT, PROMPT + NEW):
        start = time.perf_counter()
        # A copy: the next replay of a graph writes where the last one's result lies.
        tokens = step(tokens, torch.tensor([place], device="cuda")).clone()
        tokens.tolist()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--precision", default="bf16,f32")
    parser.add_argument("--rows", default="1,32")
    parser.add_argument("--modes", default="eager,compile")
    options = parser.parse_args()
    torch.set_float32_matmul_precision("highest")
    for precision in options.precision.split(","):
        for rows in map(int, options.rows.split(",")):
            for mode in options.modes.split(","):
                torch.compiler.reset()
                ms = milliseconds(precision, rows, mode)
                print(json.dumps(dict(who=f"PyTorch {torch.__version__} {mode}", precision=precision, rows=rows,
                                      ms=round(ms, 3))), flush=True)


if __name__ == "__main__":
    main()
