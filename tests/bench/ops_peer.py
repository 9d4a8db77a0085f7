#!/usr/bin/env python3
"""What PyTorch reaches on this card, beside the table of `cargo bench -p mixlab-ops --bench ops`.

    python3 tests/bench/ops_peer.py

Prints a copy, a product, flash attention and cross-entropy, forward and backward, at the sizes of
that table: median of seven stretches.
"""
import statistics
import time

import torch
import torch.nn.functional as F


def milliseconds(run):
    for _ in range(3):
        run()
    torch.cuda.synchronize()
    times = []
    for _ in range(7):
        start = time.perf_counter()
        for _ in range(20):
            run()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - start) / 20)
    return statistics.median(times) * 1e3


def noise(*shape, dtype=torch.bfloat16):
    return torch.randn(*shape, device="cuda").to(dtype).requires_grad_()


def both(name, forward, inputs):
    """Times `forward(*inputs)`, and its gradient by itself."""
    y = forward(*inputs)
    grad = torch.randn_like(y)
    ahead = milliseconds(lambda: forward(*inputs))
    back = milliseconds(lambda: torch.autograd.grad(y, inputs, grad, retain_graph=True))
    print(f"{name}: forward {ahead:.3f} ms, backward {back:.3f} ms", flush=True)


def main():
    print(torch.cuda.get_device_name(), "PyTorch", torch.__version__)
    x, out = torch.randn(1 << 29, device="cuda"), torch.empty(1 << 29, device="cuda")
    print(f"copy: {8 * x.numel() / milliseconds(lambda: out.copy_(x)) / 1e6:.0f} GB/s")
    del x, out
    a, b = torch.randn(8192, 8192, device="cuda").bfloat16(), torch.randn(8192, 8192, device="cuda").bfloat16()
    print(f"product 8192^3 bf16: {2 * 8192**3 / milliseconds(lambda: a @ b) / 1e9:.1f} TFLOP/s")
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION):
        for batch in (1, 8):
            qkv = [noise(batch, 16, 2048, 64) for _ in range(3)]
            both(f"flash attention [{batch}, 16, 2048, 64] bf16", lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), qkv)
    targets = torch.randint(0, 50304, (16384,), device="cuda")
    for dtype in (torch.float32, torch.bfloat16):
        logits = noise(16384, 50304, dtype=dtype)
        both(f"cross-entropy [16384, 50304] {dtype}", lambda z: F.cross_entropy(z, targets, reduction="none"), [logits])


main()
