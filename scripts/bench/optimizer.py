#!/usr/bin/env python3
"""torch's AdamW on 22.7 M and 102 M parameters, milliseconds a step: the peer of `go test ./ortrain -run XXX -bench Optimizer`.

    python scripts/bench/optimizer.py
Versions: see scripts/fixtures/requirements.txt.
"""
import time
import torch

torch.set_num_threads(2)


def milliseconds(f):
    for _ in range(3):
        f()
    begun = time.perf_counter()
    for _ in range(20):
        f()
    return (time.perf_counter() - begun) / 20 * 1e3


for n in (22_713_216, 102_267_648):
    p = torch.nn.Parameter(torch.ones(n))
    p.grad = torch.full_like(p, 1e-3)
    for name in ("fused", "foreach"):
        print(f"{n / 1e6:.0f} M, step, {name}: {milliseconds(torch.optim.AdamW([p], lr=1e-5, **{name: True}).step):.1f} ms")
    print(f"{n / 1e6:.0f} M, clip_grad_norm_: {milliseconds(lambda: torch.nn.utils.clip_grad_norm_([p], 1.0)):.1f} ms")
print("torch", torch.__version__)
