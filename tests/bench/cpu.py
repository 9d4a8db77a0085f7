#!/usr/bin/env python3
"""Trains `plain3.json` with AdamW on the CPU, by turns with the same model in PyTorch.

    python3 tests/bench/cpu.py --cli target/release/mixlab-cli [--rounds 4] [--other OLD_CLI]

Random tokens; ours at the rate of steps 10 to 60, PyTorch at that of as many after ten. Prints a line a round.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

from run import HERE, shard

STEPS, WARM = 50, 10
CONFIG = json.loads((HERE / "plain3.json").read_text())


def ours(cli, folder):
    """Tokens a second of one run."""
    metrics = folder / "metrics.jsonl"
    metrics.unlink(missing_ok=True)
    command = [cli, "arch", "--config", HERE / "plain3.json", "--train", folder / "tokens.bin", "--backend", "cpu",
               "--val-every", "1000000", "--log-every", "10", "--metrics", metrics,
               "--set", f"training.steps={WARM + STEPS + 2}", "--set", "training.optimizer=adamw"]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    start, end = (next(line for line in lines if line.get("step") == at) for at in (WARM, WARM + STEPS))
    return (end["tokens"] - start["tokens"]) / (end["seconds"] - start["seconds"])


def peer():
    """Tokens a second of PyTorch."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    width, vocab, time_steps = CONFIG["model_dim"], CONFIG["vocab_size"], CONFIG["seq_len"]
    rows, hidden = CONFIG["training"]["batch_tokens"] // time_steps, round(width * CONFIG["mlp_mult"])
    angles = torch.arange(time_steps)[:, None] * 1e4 ** (-torch.arange(0, 32, 2) / 32)

    def linear(inputs, outputs):
        return nn.Linear(inputs, outputs, bias=False)

    def rotated(x):
        even, odd, cos, sin = x[..., 0::2], x[..., 1::2], angles.cos(), angles.sin()
        return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)

    class Plain(nn.Module):
        def __init__(self, heads):
            super().__init__()
            self.heads, self.norm = heads, nn.RMSNorm(width, 1e-5)
            self.q, self.k, self.v, self.o = (linear(width, width) for _ in range(4))
            self.up, self.down = linear(width, hidden), linear(hidden, width)

        def forward(self, x):
            n = self.norm(x)
            split = [f(n).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (self.q, self.k, self.v)]
            q, k, v = rotated(split[0]), rotated(split[1]), split[2]
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.o(y.transpose(1, 2).flatten(2))
            return x + self.down(F.silu(self.up(x)))

    class Swiglu(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.gate, self.up = nn.RMSNorm(width, 1e-5), linear(width, hidden), linear(width, hidden)
            self.down = linear(hidden, width)

        def forward(self, x):
            n = self.norm(x)
            return x + self.down(torch.sigmoid(self.gate(n)) * self.up(n))

    blocks = [Plain(block["heads"]) if block["type"] == "plain" else Swiglu() for block in CONFIG["blocks"]]
    model = nn.Sequential(nn.Embedding(vocab, width), *blocks, nn.RMSNorm(width, 1e-5), linear(width, vocab))
    bound = CONFIG["training"]["grad_clip"]
    optimizer = torch.optim.AdamW(model.parameters(), lr=CONFIG["training"]["lr"], betas=(0.9, 0.95))
    for step in range(WARM + STEPS):
        if step == WARM:
            start = time.time()
        tokens = torch.randint(vocab, (rows, time_steps + 1))
        F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), bound)
        optimizer.step()
        optimizer.zero_grad()
    return STEPS * rows * time_steps / (time.time() - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cli")
    parser.add_argument("--other", help="a second program to take turns with")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--peer", action="store_true", help="print PyTorch's rate and nothing else")
    options = parser.parse_args()
    if options.peer:
        print(peer())
        return
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        shard(folder / "tokens.bin", CONFIG["vocab_size"])
        for _ in range(options.rounds):
            output = subprocess.run([sys.executable, __file__, "--peer"], check=True, capture_output=True, text=True)
            torch, mine = float(output.stdout), ours(options.cli, folder)
            other = f", other {ours(options.other, folder):,.0f}" if options.other else ""
            print(f"PyTorch {torch:,.0f} tok/s, ours {mine:,.0f}: {mine / torch:.2f}{other}", flush=True)


if __name__ == "__main__":
    main()
