"""The kernels of ortrain/kernels, compiled with cc and called from Python: for benchmarks only."""
import ctypes
import pathlib
import subprocess
import tempfile

import numpy as np

KERNELS = pathlib.Path(__file__).resolve().parents[2] / "ortrain" / "kernels"
SOURCES = ["activation.c", "adamw.c", "attention.c", "cpu.c", "gemm.c", "gemm_amx.c", "gemm_avx512.c", "gemm_gradient.c", "gemm_parts.c", "gemm_portable.c",
           "gather.c", "norm.c", "quantize.c", "softmax.c"]
UNITS = {"portable": 0, "avx512": 1, "amx": 2}

POOL = """
#include "pool.h"
#include <pthread.h>
typedef struct { void (*task)(void *, size_t); size_t n, next; void *data; } queue;
static void *take(void *p) {
  queue *q = p;
  for (size_t i; (i = __atomic_fetch_add(&q->next, 1, __ATOMIC_RELAXED)) < q->n;) q->task(q->data, i);
  return NULL;
}
static int threads;
static int spread(void *context, void (*task)(void *, size_t), size_t n, void *data) {
  queue q = {task, n, 0, data};
  pthread_t t[64];
  for (int i = 1; i < threads; i++) if (pthread_create(&t[i], NULL, take, &q)) return 1;
  take(&q);
  for (int i = 1; i < threads; i++) pthread_join(t[i], NULL);
  return 0;
}
rr_pool *bench_pool(int n) { static rr_pool pool = {NULL, spread}; threads = n; return &pool; }
"""


def compiled():
    folder = tempfile.mkdtemp()
    (pathlib.Path(folder) / "pool.c").write_text(POOL)
    library = folder + "/kernels.so"
    sources = [str(KERNELS / s) for s in SOURCES]
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", f"-I{KERNELS}", folder + "/pool.c", *sources, "-o", library, "-lm", "-lpthread"], check=True)
    return ctypes.CDLL(library)


class Call:
    """Calls a kernel on some threads with numpy arrays, numbers, pointers and None."""

    def __init__(self, threads):
        self.library = compiled()
        self.library.bench_pool.restype = ctypes.c_void_p
        self.pool = ctypes.c_void_p(self.library.bench_pool(threads))

    def __call__(self, name, *args):
        def convert(x):
            if isinstance(x, np.ndarray):
                return ctypes.c_void_p(x.ctypes.data)
            if isinstance(x, float):
                return ctypes.c_float(x)
            return ctypes.c_size_t(x) if isinstance(x, int) else x

        code = getattr(self.library, name)(self.pool, *[convert(x) for x in args])
        assert code == 0, (name, code)


class Attention(ctypes.Structure):
    """rr_attention of attention.h."""

    _fields_ = [(n, ctypes.c_long) for n in ("rows", "heads", "queries", "keys", "size")] + [(n, ctypes.c_void_p) for n in "qkv"] + [
        ("bias", ctypes.c_void_p), ("bias_rows", ctypes.c_long), ("bias_queries", ctypes.c_long), ("scale", ctypes.c_float),
        ("factors", ctypes.POINTER(ctypes.c_void_p)), ("pieces", ctypes.c_long), ("bf16", ctypes.c_int), ("unit", ctypes.c_int)]

    def __init__(self, q, k, v, bias, scale, factors, unit=None):
        rows, heads, queries, size = q.shape
        address = lambda x: x.ctypes.data
        super().__init__(rows, heads, queries, k.shape[2], size, address(q), address(k), address(v), address(bias), bias.shape[0], bias.shape[2], scale,
                         pieces=1, bf16=int(unit is not None), unit=UNITS[unit or "portable"])
        self.factors = (ctypes.c_void_p * 1)(address(factors))

    def run(self, call, out):
        assert call.library.rr_attention_run(ctypes.byref(self), ctypes.c_void_p(out.ctypes.data), call.pool) == 0

    def gradient(self, call, dout, dq, dk, dv):
        assert call.library.rr_attention_gradient(ctypes.byref(self), *[ctypes.c_void_p(x.ctypes.data) for x in (dout, dq, dk, dv)], call.pool) == 0
