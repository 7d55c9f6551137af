#include "attention.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "gemm_parts.h"

// What attention needs besides products in bfloat16, for one set of vector instructions.
typedef struct {
  long panel;                                                                              // columns of a packed panel
  void (*pack)(const float *from, long ld, int trans, long n, long k, float *to);          // as rr_gemm_pack_b, in float32
  void (*multiply)(const rr_gemm *);                                                       // with packed_b
  void (*scale)(float *x, float factor, size_t n);
  float (*probabilities)(float *scores, const float *bias, const float *factors, size_t n);
  void (*probability_gradient)(float *scores, float *gradient, const float *bias, const float *factors, size_t n);
} code;

typedef float four __attribute__((vector_size(16)));

#define RR_TEMPLATE "attention_template.h"
#include "each_target.h"

// A task computes a chunk of the queries of one head of one row: all of them, unless there are few heads and many queries. It takes a workspace
// from a list and gives it back, so that there are as many as threads at work.
typedef struct workspace {
  struct workspace *next;
} workspace;

enum { TEXT_K, TEXT_V, TEXT_K_BACK, BLOCK, PACKED }; // packed factors

typedef struct {
  const rr_attention *a;
  const code *code;
  const float *dout;
  float *out, *dq, *dk, *dv;
  long chunks, chunk; // of a head's queries; queries of a chunk
  long block, width; // queries of a block; floats from one row of scores to the next
  float *rest_dk, *rest_dv; // gradients of chunks 1 to chunks-1, [chunks - 1, rows, heads, keys, size], to be added to dk and dv
  size_t packed[PACKED], scores, gemm, bytes; // of a workspace, all but the last in the order of memory
  pthread_mutex_t lock;
  workspace *free;
  int error;
} job;

static size_t whole_lines(size_t bytes) { return (bytes + 63) / 64 * 64; }

// packed_bytes is the size of a packed factor [k, n].
static size_t packed_bytes(const job *j, long n, long k) {
  if (j->a->bf16) return whole_lines(rr_gemm_packed_size(j->a->unit, n, k));
  return whole_lines((size_t)(rr_cut(n, j->code->panel) * j->code->panel * k) * sizeof(float));
}

// gemm_bytes is the most scratch memory that a product of a block needs.
static size_t gemm_bytes(const job *j) {
  const rr_attention *a = j->a;
  const long sizes[][2] = {{j->block, a->size}, {j->block, a->keys}, {a->keys, j->block}}; // m and k of the products
  size_t most = 0;
  for (size_t i = 0; a->bf16 && i < sizeof sizes / sizeof *sizes; i++) {
    const rr_gemm g = {.m = sizes[i][0], .n = 1, .k = sizes[i][1], .batch = 1, .packed_b = a};
    const size_t bytes = rr_gemm_scratch(a->unit, &g);
    if (bytes > most) most = bytes;
  }
  return whole_lines(most);
}

// cut_queries cuts the queries of each head into chunks where heads are fewer than the cores of a large machine. The chunks of a gradient are
// fewer: each has gradients of all keys in memory. A chunk is so long that packing keys and values again is little beside its work.
static void cut_queries(job *j, int gradient) {
  enum { TASKS = 64, GRADIENT_TASKS = 32, SHORTEST = 512 };
  const rr_attention *a = j->a;
  const long wanted = rr_cut(gradient ? GRADIENT_TASKS : TASKS, a->rows * a->heads), chunks = rr_at_most(wanted, a->queries / SHORTEST);
  j->chunk = rr_cut(rr_cut(a->queries, chunks > 1 ? chunks : 1), j->block) * j->block;
  j->chunks = rr_cut(a->queries, j->chunk);
}

static void layout(job *j, int gradient) {
  const rr_attention *a = j->a;
  const long few = a->keys > 512 ? 32 : 64; // two blocks of scores stay in a core's second cache up to about 4,000 keys
  j->block = rr_at_most(a->queries, few);
  cut_queries(j, gradient);
  j->width = rr_cut(a->keys, 16) * 16;
  if (j->width % 128 == 0) j->width += 16; // rows that lie powers of two apart would share a few lines of the cache
  j->packed[TEXT_K] = packed_bytes(j, a->keys, a->size);
  j->packed[TEXT_V] = gradient ? packed_bytes(j, a->keys, a->size) : packed_bytes(j, a->size, a->keys);
  if (gradient) {
    j->packed[TEXT_K_BACK] = packed_bytes(j, a->size, a->keys);
    j->packed[BLOCK] = packed_bytes(j, a->size, j->block);
  }
  j->scores = whole_lines((size_t)(j->block * j->width) * sizeof(float));
  j->gemm = gemm_bytes(j);
  j->bytes = 64 + (gradient ? 2 : 1) * j->scores + j->gemm + whole_lines((size_t)a->keys * sizeof(float));
  for (int i = 0; i < PACKED; i++) j->bytes += j->packed[i];
}

static workspace *take(job *j) {
  pthread_mutex_lock(&j->lock);
  workspace *w = j->free;
  if (w) j->free = w->next;
  pthread_mutex_unlock(&j->lock);
  void *p;
  if (!w && !posix_memalign(&p, 64, j->bytes)) w = p;
  return w;
}

static void give(job *j, workspace *w) {
  pthread_mutex_lock(&j->lock);
  w->next = j->free;
  j->free = w;
  pthread_mutex_unlock(&j->lock);
}

static void fail(job *j, int error) { __atomic_store_n(&j->error, error, __ATOMIC_RELAXED); }

// The parts of a workspace.
typedef struct {
  job *j;
  void *packed[PACKED];
  float *scores, *gradients, *factors;
  void *gemm;
  float *dk, *dv; // of a chunk: where its gradients go; NULL if they are not asked for
} buffers;

static buffers buffers_of(job *j, workspace *w) {
  buffers d = {.j = j};
  char *at = (char *)w + 64;
  for (int i = 0; i < PACKED; i++) d.packed[i] = at, at += j->packed[i];
  d.scores = (float *)at, at += j->scores;
  if (j->dout) d.gradients = (float *)at, at += j->scores;
  d.gemm = at, at += j->gemm;
  d.factors = (float *)at;
  return d;
}

static void pack(const buffers *d, int which, const float *from, long ld, int trans, long n, long k) {
  const rr_attention *a = d->j->a;
  if (!a->bf16) {
    d->j->code->pack(from, ld, trans, n, k, d->packed[which]);
    return;
  }
  int error = rr_gemm_pack_b(a->unit, from, ld, trans, n, k, d->packed[which], NULL);
  if (error) fail(d->j, error);
}

static void multiply(const buffers *d, int which, rr_gemm g) {
  const rr_attention *a = d->j->a;
  g.packed_b = d->packed[which];
  g.batch = 1;
  if (!a->bf16) {
    d->j->code->multiply(&g);
    return;
  }
  int error = rr_gemm_run(a->unit, &g, d->gemm, NULL);
  if (error) fail(d->j, error);
}

// factors returns the factors of the keys of one query, or NULL. A row that lies in two pieces is copied.
static const float *factors(const buffers *d, long query) {
  const rr_attention *a = d->j->a;
  if (a->pieces < 2) return a->pieces ? a->factors[0] + query * a->keys : NULL;
  const long all = a->rows * a->heads * a->queries * a->keys, part = all / a->pieces;
  long from = query * a->keys, left = a->keys;
  for (float *to = d->factors; left > 0;) {
    const long last = a->pieces - 1, piece = part ? rr_at_most(from / part, last) : last;
    const long end = piece == last ? all : (piece + 1) * part, n = rr_at_most(left, end - from);
    const float *x = a->factors[piece] + (from - piece * part);
    if (n == a->keys) return x;
    memcpy(to, x, (size_t)n * sizeof *to);
    to += n, from += n, left -= n;
  }
  return d->factors;
}

static const float *bias(const rr_attention *a, long row, long query) {
  return a->bias + ((a->bias_rows > 1 ? row : 0) * a->bias_queries + (a->bias_queries > 1 ? query : 0)) * a->keys;
}

// forward_block computes `m` queries from `first` on, of head number `head` of all rows' heads.
static void forward_block(const buffers *d, long head, long first, long m) {
  const job *j = d->j;
  const rr_attention *a = j->a;
  const long query = head * a->queries + first;
  multiply(d, TEXT_K, (rr_gemm){.a = a->q + query * a->size, .lda = a->size, .m = m, .n = a->keys, .k = a->size, .alpha = a->scale, .c = d->scores, .ldc = j->width});
  float inverse[64];
  for (long i = 0; i < m; i++)
    inverse[i] = j->code->probabilities(d->scores + i * j->width, bias(a, head / a->heads, first + i), factors(d, query + i), (size_t)a->keys);
  float *out = j->out + query * a->size;
  multiply(d, TEXT_V, (rr_gemm){.a = d->scores, .lda = j->width, .m = m, .n = a->size, .k = a->keys, .alpha = 1, .c = out, .ldc = a->size});
  for (long i = 0; i < m; i++) j->code->scale(out + i * a->size, inverse[i], (size_t)a->size);
}

static void forward_chunk(const buffers *d, long head, long begin, long end) {
  const rr_attention *a = d->j->a;
  const long text = head * a->keys * a->size;
  pack(d, TEXT_K, a->k + text, a->size, 1, a->keys, a->size);
  pack(d, TEXT_V, a->v + text, a->size, 0, a->size, a->keys);
  for (long first = begin; first < end; first += d->j->block) forward_block(d, head, first, rr_at_most(end - first, d->j->block));
}

// gradient_block adds what `m` queries give to the gradients of keys and values, or begins these. With P the probabilities, F the factors and S the scores:
//
//	dV = (P∘F)ᵀ·dO,  dP = (dO·Vᵀ)∘F,  dS = P∘(dP - Σ P∘dP),  dQ = scale·dS·K,  dK = scale·dSᵀ·Q
static void gradient_block(const buffers *d, long head, long first, long m, int add) {
  const job *j = d->j;
  const rr_attention *a = j->a;
  const long query = head * a->queries + first, width = j->width, size = a->size, keys = a->keys;
  const float *q = a->q + query * size, *dout = j->dout + query * size;
  multiply(d, TEXT_K, (rr_gemm){.a = q, .lda = size, .m = m, .n = keys, .k = size, .alpha = a->scale, .c = d->scores, .ldc = width});
  multiply(d, TEXT_V, (rr_gemm){.a = dout, .lda = size, .m = m, .n = keys, .k = size, .alpha = 1, .c = d->gradients, .ldc = width});
  for (long i = 0; i < m; i++)
    j->code->probability_gradient(d->scores + i * width, d->gradients + i * width, bias(a, head / a->heads, first + i), factors(d, query + i), (size_t)keys);
  rr_gemm of_keys = {.lda = width, .trans_a = 1, .m = keys, .n = size, .k = m, .ldc = size, .accumulate = add};
  if (d->dv) {
    pack(d, BLOCK, dout, size, 0, size, m);
    of_keys.a = d->scores, of_keys.alpha = 1, of_keys.c = d->dv;
    multiply(d, BLOCK, of_keys);
  }
  if (d->dk) {
    pack(d, BLOCK, q, size, 0, size, m);
    of_keys.a = d->gradients, of_keys.alpha = a->scale, of_keys.c = d->dk;
    multiply(d, BLOCK, of_keys);
  }
  if (j->dq) multiply(d, TEXT_K_BACK, (rr_gemm){.a = d->gradients, .lda = width, .m = m, .n = size, .k = keys, .alpha = a->scale, .c = j->dq + query * size, .ldc = size});
}

static void gradient_chunk(const buffers *d, long head, long begin, long end) {
  const rr_attention *a = d->j->a;
  const long text = head * a->keys * a->size;
  pack(d, TEXT_K, a->k + text, a->size, 1, a->keys, a->size);
  pack(d, TEXT_V, a->v + text, a->size, 1, a->keys, a->size);
  if (d->j->dq) pack(d, TEXT_K_BACK, a->k + text, a->size, 0, a->size, a->keys);
  for (long first = begin; first < end; first += d->j->block) gradient_block(d, head, first, rr_at_most(end - first, d->j->block), first > begin);
}

static long text_of(const job *j) { return j->a->keys * j->a->size; } // floats of a head's keys

// gradient_of is where a chunk of a head has its gradient: in all, or in rest. It is NULL if all is.
static float *gradient_of(const job *j, float *all, float *rest, long head, long chunk) {
  if (!all) return NULL;
  return chunk ? rest + ((chunk - 1) * j->a->rows * j->a->heads + head) * text_of(j) : all + head * text_of(j);
}
static float *dk_of(const job *j, long head, long chunk) { return gradient_of(j, j->dk, j->rest_dk, head, chunk); }
static float *dv_of(const job *j, long head, long chunk) { return gradient_of(j, j->dv, j->rest_dv, head, chunk); }

// add_task adds the gradients of a head's chunks, in their order.
static void add_task(void *data, size_t i) {
  const job *j = data;
  float *dk = dk_of(j, (long)i, 0), *dv = dv_of(j, (long)i, 0);
  for (long chunk = 1; chunk < j->chunks; chunk++) {
    const float *k = dk_of(j, (long)i, chunk), *v = dv_of(j, (long)i, chunk);
    for (long x = 0; dk && x < text_of(j); x++) dk[x] += k[x];
    for (long x = 0; dv && x < text_of(j); x++) dv[x] += v[x];
  }
}

static void chunk_task(void *data, size_t i) {
  job *j = data;
  const long head = (long)i / j->chunks, chunk = (long)i % j->chunks, begin = chunk * j->chunk;
  workspace *w = take(j);
  if (!w) {
    fail(j, RR_NO_MEMORY);
    return;
  }
  buffers d = buffers_of(j, w);
  d.dk = dk_of(j, head, chunk), d.dv = dv_of(j, head, chunk);
  (j->dout ? gradient_chunk : forward_chunk)(&d, head, begin, rr_at_most(begin + j->chunk, j->a->queries));
  give(j, w);
}

static int wrong(const rr_attention *a) {
  if (a->rows < 0 || a->heads < 0 || a->queries < 0 || a->keys < 0 || a->size < 0 || a->pieces < 0) return 1;
  return (a->bias_rows != 1 && a->bias_rows != a->rows) || (a->bias_queries != 1 && a->bias_queries != a->queries);
}

static int run(job *j, const rr_pool *pool) {
  const rr_attention *a = j->a;
  if (wrong(a)) return RR_GEMM_BAD_SHAPE;
  const long heads = a->rows * a->heads;
  if (!heads || !a->size || !a->queries || !a->keys) {
    const size_t queries = (size_t)(heads * a->queries * a->size) * sizeof(float), keys = (size_t)(heads * a->keys * a->size) * sizeof(float);
    if (j->out) memset(j->out, 0, queries);
    if (j->dq) memset(j->dq, 0, queries);
    if (j->dk) memset(j->dk, 0, keys);
    if (j->dv) memset(j->dv, 0, keys);
    return 0;
  }
  j->code = RR_CHOOSE(parts);
  layout(j, j->dout != NULL);
  const long rest = (j->chunks - 1) * heads * text_of(j), gradients = (j->dk != NULL) + (j->dv != NULL);
  float *memory = NULL;
  if (rest && gradients) {
    if (!(memory = malloc((size_t)(gradients * rest) * sizeof *memory))) return RR_NO_MEMORY;
    j->rest_dk = memory, j->rest_dv = j->dk ? memory + rest : memory;
  }
  pthread_mutex_init(&j->lock, NULL);
  int error = pool->run(pool->context, chunk_task, (size_t)(heads * j->chunks), j);
  if (!error && !j->error && memory) error = pool->run(pool->context, add_task, (size_t)heads, j);
  pthread_mutex_destroy(&j->lock);
  free(memory);
  for (workspace *w = j->free, *next; w; w = next) next = w->next, free(w);
  return error ? error : j->error;
}

int rr_attention_run(const rr_attention *a, float *out, const rr_pool *pool) { return run(&(job){.a = a, .out = out}, pool); }

int rr_attention_gradient(const rr_attention *a, const float *dout, float *dq, float *dk, float *dv, const rr_pool *pool) {
  return run(&(job){.a = a, .dout = dout, .dq = dq, .dk = dk, .dv = dv}, pool);
}
