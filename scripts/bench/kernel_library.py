"""The kernels of ortrain/kernels, compiled with cc and called from Python: for benchmarks only."""
import ctypes
import pathlib
import subprocess
import tempfile

import numpy as np

KERNELS = pathlib.Path(__file__).resolve().parents[2] / "ortrain" / "kernels"
SOURCES = ["activation.c", "adamw.c", "cpu.c", "norm.c", "quantize.c", "softmax.c"]

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
