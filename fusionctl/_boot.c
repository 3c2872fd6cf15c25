/* Sums over rows sorted by score under many weightings of their patients: the inner loop of the bootstrap.

   sums(blocks, patients, columns, positive, start, end, cuts, out) -> None, as ranking.py does it with numpy.

   LANES weightings lie beside each other, so each row is one look at LANES bytes, and every step is done for all of
   them at once by whatever vector unit the processor has. The tallies are whole numbers and the first sum is one of
   whole numbers below 2^53: they are exact. The order of the second sum is that of the rows on every machine.
   The lock of the interpreter is released meanwhile. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#define LANES 64

/* A second copy of the loop for wider vectors, chosen when the module is loaded. No fused multiply-add in either. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define WIDE __attribute__((target_clones("avx2", "default")))
#define INLINE static inline __attribute__((always_inline))
#else
#define WIDE
#define INLINE static inline
#endif

typedef struct {
    const Py_ssize_t *columns, *start, *end, *cuts;
    const uint8_t *positive;
    Py_ssize_t rows, runs, n_cuts, patients;
} Ranked;

/* Patients come in random order: the weights of the one this many rows ahead are fetched early. */
#define AHEAD 12
#if defined(__GNUC__)
#define FETCH(address) __builtin_prefetch(address)
#else
#define FETCH(address) ((void)(address))
#endif

INLINE void add(int32_t *restrict to, const uint8_t *restrict weights, const Ranked *restrict ranked, Py_ssize_t row) {
    const uint8_t *own = weights + ranked->columns[row] * LANES;
    if (row + AHEAD < ranked->rows) {
        const uint8_t *later = weights + ranked->columns[row + AHEAD] * LANES;
        FETCH(later);
        FETCH(later + LANES - 1);
    }
    for (int i = 0; i < LANES; i++) to[i] += own[i];
}

/* A run of equal scores ends: `gained` positives, with `before` negatives above it and `below` above its end. */
INLINE void close_run(int32_t *restrict true_, const int32_t *restrict gained, const int32_t *restrict before,
                      const int32_t *restrict false_, double *restrict area, double *restrict precision) {
    for (int i = 0; i < LANES; i++) {
        true_[i] += gained[i];
        int32_t called = true_[i] + false_[i];
        double weight = (double)gained[i];
        area[i] += weight * (double)(before[i] + false_[i]);
        precision[i] += weight * ((double)true_[i] / (double)(called + (called == 0)));
    }
}

WIDE static void one_block(const uint8_t *weights, const Ranked *ranked, double *out) {
    int32_t true_[LANES] = {0}, false_[LANES] = {0}, before[LANES], gained[LANES];
    double area[LANES] = {0}, precision[LANES] = {0};
    Py_ssize_t row = 0, run = 0;
    for (Py_ssize_t cut = 0; cut < ranked->n_cuts; cut++) {
        Py_ssize_t stop = ranked->cuts[cut];
        for (; run < ranked->runs && ranked->end[run] <= stop; run++) {
            for (; row < ranked->start[run]; row++) add(false_, weights, ranked, row);
            memcpy(before, false_, sizeof before);
            memset(gained, 0, sizeof gained);
            for (; row < ranked->end[run]; row++) add(ranked->positive[row] ? gained : false_, weights, ranked, row);
            close_run(true_, gained, before, false_, area, precision);
        }
        for (; row < stop; row++) add(false_, weights, ranked, row);
        double *tally = out + (2 + 2 * cut) * LANES;
        for (int i = 0; i < LANES; i++) {
            tally[i] = (double)true_[i];
            tally[LANES + i] = (double)(true_[i] + false_[i]);
        }
    }
    memcpy(out, area, sizeof area);
    memcpy(out + LANES, precision, sizeof precision);
}

/* What the loop relies on: whole numbers within their bounds, in rising order. */
static int sound(const Ranked *ranked) {
    Py_ssize_t at = 0;
    for (Py_ssize_t row = 0; row < ranked->rows; row++)
        if (ranked->columns[row] < 0 || ranked->columns[row] >= ranked->patients) return 0;
    for (Py_ssize_t run = 0; run < ranked->runs; at = ranked->end[run++])
        if (ranked->start[run] < at || ranked->end[run] <= ranked->start[run]) return 0;
    if (at > ranked->rows) return 0;
    at = 0;
    for (Py_ssize_t cut = 0; cut < ranked->n_cuts; at = ranked->cuts[cut++])
        if (ranked->cuts[cut] < at) return 0;
    return at <= ranked->rows;
}

static PyObject *sums(PyObject *module, PyObject *args) {
    const Py_ssize_t word = (Py_ssize_t)sizeof(Py_ssize_t);
    Py_buffer blocks, columns, positive, start, end, cuts, out;
    Py_ssize_t patients, n_blocks, block_size, out_size;
    int right;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*ny*y*y*y*y*w*", &blocks, &patients, &columns, &positive, &start, &end, &cuts, &out))
        return NULL;
    Ranked ranked = {columns.buf, start.buf, end.buf, cuts.buf, positive.buf,
                     positive.len, start.len / word, cuts.len / word, patients};
    /* Of more patients than there are bytes for, the product might not fit its type; -1 fits no blocks. */
    block_size = patients >= 0 && patients <= blocks.len / LANES ? patients * LANES : -1;
    out_size = (2 + 2 * ranked.n_cuts) * LANES;
    n_blocks = out.len / (out_size * (Py_ssize_t)sizeof(double));
    right = blocks.len == n_blocks * block_size && out.len == n_blocks * out_size * (Py_ssize_t)sizeof(double) &&
            columns.len == ranked.rows * word && end.len == start.len && sound(&ranked);
    if (right) {
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t i = 0; i < n_blocks; i++)
            one_block((const uint8_t *)blocks.buf + i * block_size, &ranked, (double *)out.buf + i * out_size);
        Py_END_ALLOW_THREADS
    } else {
        PyErr_SetString(PyExc_ValueError, "sizes or positions do not fit each other");
    }
    PyBuffer_Release(&blocks);
    PyBuffer_Release(&columns);
    PyBuffer_Release(&positive);
    PyBuffer_Release(&start);
    PyBuffer_Release(&end);
    PyBuffer_Release(&cuts);
    PyBuffer_Release(&out);
    return right ? Py_NewRef(Py_None) : NULL;
}

static PyMethodDef methods[] = {
    {"sums", sums, METH_VARARGS, "Sums over sorted rows under many weightings, written to the last argument."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_boot",
    .m_doc = "The inner loop of the bootstrap.",
    .m_size = 0,
    .m_methods = methods,
};

PyMODINIT_FUNC PyInit__boot(void) { return PyModuleDef_Init(&module); }
