/* Picking records of wanted items from CSV text: the inner loop of extraction, one look at every byte.

   pick(text, n_fields, column, wanted) -> (picked text, line offsets, number of records), or None.

   None means that something is not as it should be (another number of fields, a quote that does not open or close
   where a field does, no whole number in the column); records.py then looks again, slowly, and names the fault. So nothing here needs to explain itself.
   The lock of the interpreter is released while the text is scanned. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define MOST_DIGITS 8

typedef struct {
    Py_ssize_t start, end, line;
} Span;

typedef struct {
    Span *items;
    Py_ssize_t n, room, bytes;
} Spans;

static int keep(Spans *spans, Py_ssize_t start, Py_ssize_t end, Py_ssize_t line) {
    if (spans->n == spans->room) {
        Py_ssize_t room = spans->room ? 2 * spans->room : 1024;
        Span *items = realloc(spans->items, (size_t)room * sizeof(Span));
        if (items == NULL) return 0;
        spans->items = items;
        spans->room = room;
    }
    spans->items[spans->n++] = (Span){start, end, line};
    spans->bytes += end - start;
    return 1;
}

/* The whole number in text[start:end], quotes around it allowed, 0 if empty; -1 if it is none. */
static long number(const char *text, Py_ssize_t start, Py_ssize_t end) {
    long value = 0;
    if (end - start >= 2 && text[start] == '"' && text[end - 1] == '"') {
        start++;
        end--;
    }
    if (end - start > MOST_DIGITS) return -1;
    for (; start < end; start++) {
        unsigned digit = (unsigned)((unsigned char)text[start]) - '0';
        if (digit > 9) return -1;
        value = value * 10 + (long)digit;
    }
    return value;
}

/* Which of the 16 bytes from `at` on are a comma, a newline or a quote. Bit i is byte i. */
static unsigned candidates(const char *text, Py_ssize_t at, Py_ssize_t size) {
    unsigned mask = 0;
#ifdef __SSE2__
    if (at + 16 <= size) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(text + at));
        __m128i commas = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(','));
        __m128i lines = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\n'));
        __m128i quotes = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('"'));
        return (unsigned)_mm_movemask_epi8(_mm_or_si128(_mm_or_si128(commas, lines), quotes));
    }
#endif
    for (int i = 0; i < 16 && at + i < size; i++) {
        char c = text[at + i];
        mask |= (unsigned)(c == ',' || c == '\n' || c == '"') << i;
    }
    return mask;
}

static int lowest(unsigned mask) {
#ifdef __GNUC__
    return __builtin_ctz(mask);
#else
    int bit = 0;
    while (!(mask >> bit & 1)) bit++;
    return bit;
#endif
}

/* Whether a quote opens at the start of a field, or after the first half of a doubled quote. */
static int opens(const char *text, Py_ssize_t at) {
    char before = at ? text[at - 1] : '\n';
    return before == ',' || before == '\n' || before == '"';
}

/* Whether a quote closes at the end of a field, or is the first half of a doubled quote. */
static int closes(const char *text, Py_ssize_t at, Py_ssize_t size) {
    Py_ssize_t next = at + 1;
    if (next + 1 < size && text[next] == '\r') next++;
    return next >= size || text[next] == '\n' || (next == at + 1 && (text[next] == ',' || text[next] == '"'));
}

/* Number of records; -1 for a fault, -2 where memory ran out. */
static Py_ssize_t scan(const char *text, Py_ssize_t size, Py_ssize_t n_fields, Py_ssize_t column, const char *wanted,
                       Py_ssize_t n_wanted, Spans *spans) {
    Py_ssize_t start = 0, line = 0, first_line = 0, field = 0, records = 0, item = 0, item_end = 0;
    int quoted = 0;
    for (Py_ssize_t base = 0; base < size; base += 16) {
        for (unsigned mask = candidates(text, base, size); mask; mask &= mask - 1) {
            Py_ssize_t at = base + lowest(mask);
            char c = text[at];
            if (c == '"') {
                if (quoted ? !closes(text, at, size) : !opens(text, at)) return -1;
                quoted = !quoted;
                continue;
            }
            if (c == '\n') line++;
            if (quoted || (c != ',' && c != '\n')) continue;
            if (field == column) item_end = at;
            field++;
            if (field == column) item = at + 1;
            if (c == ',') continue;
            if (field != n_fields) return -1;
            long found = number(text, item, item_end);
            if (found < 0) return -1;
            if (found > 0 && found < n_wanted && wanted[found] && !keep(spans, start, at + 1, first_line)) return -2;
            records++;
            start = item = at + 1;
            first_line = line;
            field = 0;
        }
    }
    return start == size ? records : -1;
}

static PyObject *result(const char *text, const Spans *spans, Py_ssize_t records) {
    PyObject *picked = PyBytes_FromStringAndSize(NULL, spans->bytes);
    PyObject *lines = PyBytes_FromStringAndSize(NULL, spans->n * (Py_ssize_t)sizeof(int64_t));
    if (picked == NULL || lines == NULL) {
        Py_XDECREF(picked);
        Py_XDECREF(lines);
        return NULL;
    }
    char *to = PyBytes_AS_STRING(picked);
    char *line_to = PyBytes_AS_STRING(lines);
    for (Py_ssize_t i = 0; i < spans->n; i++) {
        Span span = spans->items[i];
        int64_t line = (int64_t)span.line;
        memcpy(to, text + span.start, (size_t)(span.end - span.start));
        memcpy(line_to, &line, sizeof line);
        to += span.end - span.start;
        line_to += sizeof line;
    }
    return Py_BuildValue("(NNn)", picked, lines, records);
}

static PyObject *pick(PyObject *module, PyObject *args) {
    Py_buffer text, wanted;
    Py_ssize_t n_fields, column, records;
    Spans spans = {NULL, 0, 0, 0};
    PyObject *found = NULL;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*nny*", &text, &n_fields, &column, &wanted)) return NULL;
    if (column < 0 || column >= n_fields) {
        PyErr_SetString(PyExc_ValueError, "column must be from 0 to n_fields - 1");
    } else {
        Py_BEGIN_ALLOW_THREADS
        records = scan(text.buf, text.len, n_fields, column, wanted.buf, wanted.len, &spans);
        Py_END_ALLOW_THREADS
        if (records == -2) {
            PyErr_NoMemory();
        } else if (records == -1) {
            found = Py_NewRef(Py_None);
        } else {
            found = result(text.buf, &spans, records);
        }
    }
    free(spans.items);
    PyBuffer_Release(&text);
    PyBuffer_Release(&wanted);
    return found;
}

static PyMethodDef methods[] = {
    {"pick", pick, METH_VARARGS, "Records whose whole number in a column is wanted; None where something is wrong."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_scan",
    .m_doc = "The inner loop of extraction.",
    .m_size = 0,
    .m_methods = methods,
};

PyMODINIT_FUNC PyInit__scan(void) { return PyModuleDef_Init(&module); }
