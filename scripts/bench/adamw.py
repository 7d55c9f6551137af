#!/usr/bin/env python3
"""The optimizer's kernels beside torch: the norm of the gradients, clipping and AdamW, milliseconds a step with 2 threads.

    python scripts/bench/adamw.py [PAIRS]

torch: clip_grad_norm_ and AdamW(fused=True). Kernels: rr_sum_of_squares, and rr_adamw with the factor of clipping. Both start from the
same values, and the largest difference of the parameters after all steps is printed. Versions: scripts/fixtures/requirements.txt.
"""
import ctypes
import math
import statistics
import sys
import time

import numpy as np
import torch

import kernel_library

THREADS, LR, DECAY, BETA1, BETA2, EPSILON = 2, 1e-4, 0.01, 0.9, 0.999, 1e-8


class Scalars(ctypes.Structure):
    _fields_ = [(n, ctypes.c_float) for n in ("beta1", "beta2", "square_scale", "gradient_scale", "decay_factor", "step_size", "epsilon")]


class Kernels:
    def __init__(self, p, g):
        self.call, self.t = kernel_library.Call(THREADS), 0
        self.p, self.g, self.m, self.v = p, g, np.zeros_like(p), np.zeros_like(p)

    def step(self):
        self.t += 1
        square = ctypes.c_double()
        self.call("rr_sum_of_squares", self.g, self.g.size, ctypes.byref(square))
        clip = min(1.0, 1.0 / (math.sqrt(square.value) + 1e-6))
        correction = math.sqrt(1 - BETA2**self.t)
        s = Scalars(BETA1, BETA2, (1 - BETA2) / (1 - BETA1) ** 2, (1 - BETA1) * clip, 1 - LR * DECAY, LR * correction / (1 - BETA1**self.t), EPSILON * correction)
        self.call("rr_adamw", self.p, self.m, self.v, self.g, self.g.size, ctypes.byref(s))


def measured(f):
    begun, cpu = time.perf_counter(), time.process_time()
    f()
    return (time.perf_counter() - begun) * 1e3, (time.process_time() - cpu) * 1e3


def compare(n, pairs):
    random = np.random.default_rng(1)
    start, g = random.standard_normal(n, np.float32) * np.float32(0.05), random.standard_normal(n, np.float32) * np.float32(0.01)
    kernels = Kernels(start.copy(), g)
    p = torch.nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = torch.optim.AdamW([p], lr=LR, weight_decay=DECAY, betas=(BETA1, BETA2), eps=EPSILON, fused=True)
    given = torch.from_numpy(g)

    def torch_step():
        torch.nn.utils.clip_grad_norm_([p], 1.0)
        optimizer.step()

    times = []
    for _ in range(pairs + 2):
        p.grad = given.clone()  # clip_grad_norm_ scales it in place
        times.append((measured(torch_step), measured(kernels.step)))
    times = times[2:]
    median = lambda f: statistics.median(map(f, times))
    difference = np.abs(kernels.p - p.detach().numpy()).max()
    print(f"{n / 1e6:6.1f} M: torch {median(lambda t: t[0][0]):6.1f} ms, kernels {median(lambda t: t[1][0]):6.1f} ms, median of ratios (kernels / torch) "
          f"{median(lambda t: t[1][0] / t[0][0]):.2f}; processor time {median(lambda t: t[0][1]):6.1f} and {median(lambda t: t[1][1]):6.1f} ms; "
          f"largest difference {difference:.1e} after {pairs + 2} steps", flush=True)


torch.set_num_threads(THREADS)
for n in (22_713_216, 102_267_648):
    compare(n, int(sys.argv[1]) if len(sys.argv) > 1 else 11)
print("torch", torch.__version__)
