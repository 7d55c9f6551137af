#!/usr/bin/env python3
"""Kernels of ortrain/kernels beside the stock operators that they replace, in ONNX Runtime: wall and processor time, milliseconds.

    [UNIT=amx|avx512|portable] python scripts/bench/row_kernels.py [THREADS [FILTER]]

Each line is a median of paired runs, one after the other, and their ratio (stock / kernel). The stock operators are those that
ortrain/grad and ortrain/onnx make. With UNIT, attention's kernel multiplies in bfloat16. Compiles the kernels with cc. Needs onnx, onnxruntime and numpy (scripts/fixtures/requirements.txt).
"""
import os
import statistics
import sys
import time

import numpy as np
import onnxruntime as ort
from onnx import helper, numpy_helper

import kernel_library

class Graph:
    """A graph of stock operators. Inputs and outputs are bound once, so that a run copies nothing."""

    def __init__(self, threads):
        self.nodes, self.inputs, self.constants, self.threads = [], {}, [], threads

    def input(self, array):
        name = f"in{len(self.inputs)}"
        self.inputs[name] = array
        return name

    def scalar(self, x):
        return self.constant(np.array(x, np.float32))

    def constant(self, array):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def op(self, op, *inputs, outputs=1, **attributes):
        names = [f"v{len(self.nodes)}_{i}" for i in range(outputs)]
        domain = "com.microsoft" if op == "Gelu" else ""
        self.nodes.append(helper.make_node(op, inputs, names, domain=domain, **attributes))
        return names[0] if outputs == 1 else names

    def session(self, outputs):
        """outputs are names with an array of the shape each."""
        tensor = lambda n, a: helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        g = helper.make_graph(self.nodes, "g", [tensor(*x) for x in self.inputs.items()], [tensor(*x) for x in outputs.items()], self.constants)
        model = helper.make_model(g, opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)], ir_version=9)
        o = ort.SessionOptions()
        o.intra_op_num_threads = self.threads
        o.add_session_config_entry("session.intra_op.allow_spinning", "0")
        s = ort.InferenceSession(model.SerializeToString(), o, providers=["CPUExecutionProvider"])
        binding = s.io_binding()
        for n, a in self.inputs.items():
            binding.bind_cpu_input(n, a)
        for n, a in outputs.items():
            binding.bind_output(n, "cpu", 0, a.dtype, a.shape, a.ctypes.data)
        return lambda: s.run_with_iobinding(binding)


def random(*shape):
    return np.random.default_rng(1).standard_normal(shape, np.float32)


# Cases: each returns the stock run, the kernel's run, and pairs of outputs to compare.


def gelu(g, call, rows, width):
    x, a, b = random(rows, width), np.empty((rows, width), np.float32), np.empty((rows, width), np.float32)
    y = g.op("Gelu", g.input(x))
    return g.session({y: a}), lambda: call("rr_activation", 0, x, None, None, b, rows, width), [(a, b)]


def bias_gelu(g, call, rows, width):
    x, bias = random(rows, width), random(width)
    a, b, c, d = (np.empty((rows, width), np.float32) for _ in range(4))
    pre = g.op("Add", g.input(x), g.input(bias))
    y = g.op("Gelu", pre)
    return g.session({pre: a, y: c}), lambda: call("rr_activation", 0, x, bias, b, d, rows, width), [(a, b), (c, d)]


def gelu_gradient(g, call, rows, width):
    x, dy, a, b = random(rows, width), random(rows, width)[::-1].copy(), np.empty((rows, width), np.float32), np.empty((rows, width), np.float32)
    i, j = g.input(x), g.input(dy)
    t = g.op("Mul", i, g.scalar(0.5**0.5))
    cdf = g.op("HardSigmoid", g.op("Erf", t), alpha=0.5, beta=0.5)
    pdf = g.op("Div", g.op("Mul", t, g.scalar(np.pi**-0.5)), g.op("Exp", g.op("Mul", t, t)))
    dx = g.op("Mul", j, g.op("Add", cdf, pdf))
    return g.session({dx: a}), lambda: call("rr_activation_gradient", 0, dy, x, b, rows * width), [(a, b)]


def swiglu_gradient(g, call, rows, width):
    x, dy = random(rows, 2 * width), random(rows, width)
    a, b = np.empty((rows, 2 * width), np.float32), np.empty((rows, 2 * width), np.float32)
    j = g.input(dy)
    gate, other = g.op("Split", g.input(x), g.constant(np.array([width, width])), outputs=2, axis=1)
    s = g.op("Sigmoid", gate)
    dact, dother = g.op("Mul", j, other), g.op("Mul", j, g.op("Mul", gate, s))
    ds = g.op("Mul", g.op("Mul", dact, gate), g.op("Mul", s, g.op("Sub", g.scalar(1), s)))
    dx = g.op("Concat", g.op("Add", g.op("Mul", dact, s), ds), dother, axis=1)
    return g.session({dx: a}), lambda: call("rr_gated_gradient", 2, 0, dy, x, b, rows, width), [(a, b)]


def swiglu(g, call, rows, width):
    x, a, b = random(rows, 2 * width), np.empty((rows, width), np.float32), np.empty((rows, width), np.float32)
    gate, other = g.op("Split", g.input(x), g.constant(np.array([width, width])), outputs=2, axis=1)
    y = g.op("Mul", g.op("Mul", gate, g.op("Sigmoid", gate)), other)
    return g.session({y: a}), lambda: call("rr_gated", 2, 0, x, b, rows, width), [(a, b)]


def rmsnorm(g, call, rows, width):
    x, scale, a, b = random(rows, width), random(width), np.empty((rows, width), np.float32), np.empty((rows, width), np.float32)
    i = g.input(x)
    mean = g.op("Mul", g.op("ReduceSum", g.op("Mul", i, i), g.constant(np.array([1])), keepdims=1), g.scalar(1 / width))
    r = g.op("Reciprocal", g.op("Sqrt", g.op("Add", mean, g.scalar(1e-5))))
    y = g.op("Mul", g.op("Mul", i, r), g.input(scale))
    return g.session({y: a}), lambda: call("rr_rmsnorm", x, scale, 1e-5, b, None, rows, width), [(a, b)]


def layernorm_gradient(g, call, rows, width):
    x, dy, scale = random(rows, width), random(rows, width)[::-1].copy(), random(width)
    mean, r = x.mean(1), 1 / np.sqrt(x.var(1) + 1e-12)
    a, b = np.empty((rows, width), np.float32), np.empty((rows, width), np.float32)
    a2, a3, b2, b3 = (np.empty(width, np.float32) for _ in range(4))
    i, j, k, inverse = g.input(x), g.input(dy), g.input(scale), g.input(r.reshape(rows, 1))
    h = g.op("LayerNormalization", i, g.constant(np.ones(width, np.float32)), g.constant(np.zeros(width, np.float32)), epsilon=1e-12)
    dyh = g.op("Mul", j, h)
    ones = g.constant(np.ones((1, rows), np.float32))
    shape = g.constant(np.array([width]))
    dscale, dbias = (g.op("Reshape", g.op("MatMul", ones, v), shape) for v in (dyh, j))
    column = g.op("Unsqueeze", g.op("Mul", k, g.scalar(1 / width)), g.constant(np.array([1])))
    mean_eh, mean_e = g.op("MatMul", dyh, column), g.op("MatMul", j, column)
    dx = g.op("Mul", g.op("Sub", g.op("Mul", j, k), g.op("Add", g.op("Mul", h, mean_eh), mean_e)), inverse)
    kernel = lambda: call("rr_layernorm_gradient", dy, x, scale, mean, r, b, b2, b3, rows, width)
    return g.session({dx: a, dscale: a2, dbias: a3}), kernel, [(a, b), (a2, b2), (a3, b3)]


def softmax_gradient(g, call, rows, width):
    y = np.exp(random(rows, width))
    y /= y.sum(1, keepdims=True)
    dy, a, b = random(rows, width), np.empty((rows, width), np.float32), np.empty((rows, width), np.float32)
    i, j = g.input(y), g.input(dy)
    t = g.op("Mul", j, i)
    dx = g.op("Sub", t, g.op("Mul", i, g.op("ReduceSum", t, g.constant(np.array([1])), keepdims=1)))
    return g.session({dx: a}), lambda: call("rr_softmax_gradient", y, dy, 1.0, b, rows, width), [(a, b)]


def quantize(g, call, rows, width):
    x, a, b = random(rows, width), np.empty((rows, width), np.uint8), np.empty((rows, width), np.uint8)
    c, d = np.empty((rows, 1), np.float32), np.empty((rows, 1), np.float32)
    i, one = g.input(x), g.constant(np.array([1]))
    top = g.op("Max", g.op("ReduceMax", i, one, keepdims=1), g.op("Neg", g.op("ReduceMin", i, one, keepdims=1)), g.scalar(1e-30))
    r = g.op("Mul", top, g.scalar(1 / 127))
    q = g.op("QuantizeLinear", g.op("Div", i, r), g.scalar(1), g.constant(np.array(128, np.uint8)))
    return g.session({q: a, r: c}), lambda: call("rr_quantize_rows", x, b, d, rows, width), [(a, b), (c, d)]


def attention_inputs(g, rows, heads, length, size):
    q, k, v = (np.roll(random(rows, heads, length, size), i) for i in range(3))
    bias, factors = np.zeros((rows, 1, 1, length), np.float32), (random(rows, heads, length, length) > -1.3).astype(np.float32) / np.float32(0.9)
    return (q, k, v, bias, factors), kernel_library.Attention(q, k, v, bias, size**-0.5, factors, UNIT)


def product(g, a, b, **attributes):
    y = g.op("FusedMatMul", a, b, **attributes)
    g.nodes[-1].domain = "com.microsoft"
    return y


def probabilities(g, q, k, bias, size):
    return g.op("Softmax", g.op("Add", product(g, q, k, transB=1, alpha=size**-0.5), bias), axis=-1)


def attention(g, call, rows, heads, length, size):
    arrays, kernel = attention_inputs(g, rows, heads, length, size)
    q, k, v, bias, factors = map(g.input, arrays)
    a, b = np.empty_like(arrays[0]), np.empty_like(arrays[0])
    y = product(g, g.op("Mul", probabilities(g, q, k, bias, size), factors), v)
    return g.session({y: a}), lambda: kernel.run(call, b), [(a, b)]


def attention_gradient(g, call, rows, heads, length, size):
    """The stock operators of the backward pass, where the probabilities are computed again."""
    arrays, kernel = attention_inputs(g, rows, heads, length, size)
    dout = random(rows, heads, length, size)[::-1].copy()
    q, k, v, bias, factors = map(g.input, arrays)
    d = g.input(dout)
    p = probabilities(g, q, k, bias, size)
    dv = product(g, g.op("Mul", p, factors), d, transA=1)
    t = g.op("Mul", g.op("Mul", product(g, d, v, transB=1), factors), p)
    ds = g.op("Sub", t, g.op("Mul", p, g.op("ReduceSum", t, g.constant(np.array([3])), keepdims=1)))
    dq, dk = product(g, ds, k, alpha=size**-0.5), product(g, ds, q, transA=1, alpha=size**-0.5)
    a, b = ([np.empty_like(x) for x in arrays[:3]] for _ in range(2))
    return g.session(dict(zip((dq, dk, dv), a))), lambda: kernel.gradient(call, dout, *b), list(zip(a, b))


UNIT = os.environ.get("UNIT") or None  # of attention's products in bfloat16

CASES = [(f, shape) for f in (gelu, bias_gelu, gelu_gradient) for shape in ((1200, 1536), (1200, 3072))]
CASES += [(f, (1200, 1152)) for f in (swiglu, swiglu_gradient)]
CASES += [(f, shape) for f in (layernorm_gradient, rmsnorm) for shape in ((1200, 384), (1200, 768))]
CASES += [(softmax_gradient, shape) for shape in ((64 * 12 * 128, 128), (64 * 12 * 24, 24), (64 * 12 * 47, 47))]
CASES += [(f, shape) for f in (attention, attention_gradient) for shape in ((17, 12, 128, 32), (64, 12, 24, 32), (4, 12, 512, 32), (8, 12, 128, 64), (2, 12, 512, 64))]
CASES += [(quantize, shape) for shape in ((1200, 384), (1200, 1536), (1200, 3072))]


def measured(f):
    begun, cpu = time.perf_counter(), time.process_time()
    f()
    return (time.perf_counter() - begun) * 1e3, (time.process_time() - cpu) * 1e3


def main():
    threads = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    call = kernel_library.Call(threads)
    print(f"onnxruntime {ort.__version__}, {threads} threads; medians of {REPEATS} pairs, ms; ratios are stock / kernel")
    print(f"{'kernel':20} {'shape':>17} {'stock':>8} {'kernel':>8} {'ratio':>6}   cpu: {'stock':>8} {'kernel':>8} {'ratio':>6}  largest difference")
    for case, shape in CASES:
        if len(sys.argv) > 2 and sys.argv[2] not in case.__name__:
            continue
        stock, kernel, outputs = case(Graph(threads), call, *shape)
        pairs = [(measured(stock), measured(kernel)) for _ in range(REPEATS + 3)][3:]
        median = lambda f: statistics.median(map(f, pairs))
        difference = max(float(np.abs(a.astype(np.float64) - b.reshape(a.shape)).max() / max(1, np.abs(a).max())) for a, b in outputs)
        print(f"{case.__name__:20} {str(shape):>17} {median(lambda p: p[0][0]):8.2f} {median(lambda p: p[1][0]):8.2f} {median(lambda p: p[0][0] / p[1][0]):6.2f}   "
              f"     {median(lambda p: p[0][1]):8.2f} {median(lambda p: p[1][1]):8.2f} {median(lambda p: p[0][1] / p[1][1]):6.2f}  {difference:.1e}", flush=True)


REPEATS = int(os.environ.get("REPEATS", "15"))

if __name__ == "__main__":
    main()
