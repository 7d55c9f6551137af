#!/usr/bin/env python3
"""Matrix products of ortrain/kernels beside PyTorch's, whose products in bf16 are oneDNN's: GFLOP/s of medians, runs in alternation.

    python scripts/bench/gemm.py [UNIT] [THREADS] [PAIRS]

UNIT is amx, avx512 or portable (default), THREADS all cores, PAIRS 5. Inputs and outputs are float32 on both sides. "converting" is what
autocast does: the activations are rounded to bf16, multiplied with weights that were rounded once, and the product is made float32 again. The
kernel does the same in one call. "operands in bf16" leaves PyTorch's conversions out. Ratios are kernel / PyTorch.
Needs cc, torch and numpy (scripts/fixtures/requirements.txt).
"""
import os, pathlib, statistics, subprocess, sys, tempfile, time

import torch

KERNELS = pathlib.Path(__file__).resolve().parents[2] / "ortrain" / "kernels"
SOURCES = ["gemm.c", "gemm_amx.c", "gemm_avx512.c", "gemm_gradient.c", "gemm_parts.c", "gemm_portable.c", "cpu.c"]
SHAPES = [(1200, 384, 1152), (1200, 384, 1536), (1200, 1536, 384), (4096, 768, 3072), (4096, 3072, 768)]  # tokens, inputs, outputs: MiniLM, BERT base


def compiled():
    program = os.path.join(tempfile.mkdtemp(), "gemm_bench")
    sources = [str(KERNELS / s) for s in SOURCES]
    subprocess.run(["cc", "-O2", str(KERNELS / "testdata" / "gemm_bench.c"), *sources, "-o", program, "-lm", "-lpthread"], check=True)
    return program


def seconds(function, at_least=0.3):
    """Seconds of a call, after one that is not measured."""
    function()
    calls, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < at_least:
        function()
        calls += 1
    return (time.perf_counter() - begun) / calls


def main():
    unit = sys.argv[1] if len(sys.argv) > 1 else "portable"
    threads = int(sys.argv[2]) if len(sys.argv) > 2 else os.cpu_count()
    pairs = int(sys.argv[3]) if len(sys.argv) > 3 else 5
    torch.set_num_threads(threads)
    program = compiled()
    print(f"torch {torch.__version__}, {threads} threads, unit {unit}; torch computes with {torch.backends.cpu.get_cpu_capability()}")
    print("| tokens, inputs, outputs | kernel | torch fp32 | torch bf16, converting | operands in bf16 | kernel / fp32 | kernel / converting |\n" + "| --- " * 7 + "|")
    for m, k, n in SHAPES:
        x, w = torch.randn(m, k), torch.randn(k, n)
        x16, w16 = x.bfloat16(), w.bfloat16()
        ours = lambda times: float(subprocess.run([program, unit, "packed", *map(str, (m, k, n, 1, threads, times))], check=True, capture_output=True).stdout)
        times = max(1, int(0.3 / ours(1)))
        sides = {"kernel": lambda: ours(times), "fp32": lambda: seconds(lambda: x @ w), "converting": lambda: seconds(lambda: (x.bfloat16() @ w16).float()),
                 "bf16": lambda: seconds(lambda: x16 @ w16)}
        found = [{name: side() for name, side in sides.items()} for _ in range(pairs)]
        rate = lambda name: f"{2 * m * k * n / statistics.median(f[name] for f in found) / 1e9:,.0f}"
        ratio = lambda name: f"{statistics.median(f[name] / f['kernel'] for f in found):.2f}"
        print(f"| {m}, {k}, {n} | {rate('kernel')} | {rate('fp32')} | {rate('converting')} | {rate('bf16')} | {ratio('fp32')} | {ratio('converting')} |", flush=True)


if __name__ == "__main__":
    main()
