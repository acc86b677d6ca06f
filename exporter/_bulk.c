/* What `bulk` does, compiled: bytes of many records moved at once, and nothing known about what they mean.

   Every argument is checked before a byte is moved. Tuples hold what the loops read, so that these run without
   Python's lock: a tuple does not change, and neither do bytes. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000 /* one build serves every Python from 3.11 on */
#include <Python.h>
#include <string.h>

typedef struct {
    const char *at;
    const char *end;
} Span;

/* The memory of each bytes object of a tuple; NULL with an exception set if there is another object in it. */
static Span *spans_of(PyObject *tuple)
{
    Py_ssize_t count = PyTuple_Size(tuple);
    Span *spans = PyMem_Calloc((size_t)count + 1, sizeof *spans);
    if (spans == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        char *at;
        Py_ssize_t size;
        if (PyBytes_AsStringAndSize(PyTuple_GetItem(tuple, i), &at, &size) < 0) {
            PyMem_Free(spans);
            return NULL;
        }
        spans[i] = (Span){at, at + size};
    }
    return spans;
}

static Py_ssize_t size_of(Span span)
{
    return span.end - span.at;
}

static char *put(char *out, const char *at, Py_ssize_t size)
{
    memcpy(out, at, (size_t)size);
    return out + size;
}

/* --- Rows into columns ------------------------------------------------------------------------------- */

/* How long each value of the rows is, row by row, and each column with a line feed behind every value.
   Whether every row has `width` values and ends in its only line feed. */
static int measure(const Span *rows, Py_ssize_t count, Py_ssize_t width, Py_ssize_t *lengths, Py_ssize_t *sizes)
{
    for (Py_ssize_t row = 0; row < count; row++) {
        const char *at = rows[row].at, *last = rows[row].end - 1;
        if (size_of(rows[row]) < width || memchr(at, '\n', (size_t)size_of(rows[row])) != last)
            return 0;
        for (Py_ssize_t column = 0; column < width; column++) {
            const char *tab = memchr(at, '\t', (size_t)(last - at));
            if ((tab == NULL) != (column == width - 1))
                return 0;
            const char *end = tab == NULL ? last : tab;
            if (end - at >= PY_SSIZE_T_MAX - sizes[column])
                return 0;
            *lengths++ = end - at;
            sizes[column] += end - at + 1;
            at = end + 1;
        }
    }
    return 1;
}

/* Each value, and the line feed behind all but the last one of a column. */
static void move(const Span *rows, Py_ssize_t count, Py_ssize_t width, const Py_ssize_t *lengths, char **outs)
{
    for (Py_ssize_t row = 0; row < count; row++) {
        const char *at = rows[row].at;
        for (Py_ssize_t column = 0; column < width; column++) {
            Py_ssize_t length = *lengths++;
            outs[column] = put(outs[column], at, length);
            if (row + 1 < count)
                *outs[column]++ = '\n';
            at += length + 1;
        }
    }
}

/* A tuple of as many bytes objects to be filled; their memory in `outs`. */
static PyObject *columns_for(const Py_ssize_t *sizes, Py_ssize_t width, char **outs)
{
    PyObject *columns = PyTuple_New(width);
    for (Py_ssize_t column = 0; columns != NULL && column < width; column++) {
        PyObject *made = PyBytes_FromStringAndSize(NULL, sizes[column] - 1);
        if (made == NULL || PyTuple_SetItem(columns, column, made) < 0) {
            Py_DECREF(columns);
            return NULL;
        }
        outs[column] = PyBytes_AsString(made);
    }
    return columns;
}

static PyObject *columns_of(const Span *rows, Py_ssize_t count, Py_ssize_t width)
{
    PyObject *columns = NULL;
    int is_right;
    Py_ssize_t *lengths = NULL, *sizes = PyMem_Calloc((size_t)width, sizeof *sizes);
    char **outs = PyMem_Calloc((size_t)width, sizeof *outs);
    if (count <= PY_SSIZE_T_MAX / (Py_ssize_t)sizeof *lengths / width)
        lengths = PyMem_Malloc((size_t)(count * width) * sizeof *lengths);
    if (lengths == NULL || sizes == NULL || outs == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    Py_BEGIN_ALLOW_THREADS
    is_right = measure(rows, count, width, lengths, sizes);
    Py_END_ALLOW_THREADS
    if (!is_right) {
        PyErr_Format(PyExc_ValueError, "not every row has %zd columns", width);
        goto done;
    }
    columns = columns_for(sizes, width, outs);
    if (columns != NULL) {
        Py_BEGIN_ALLOW_THREADS
        move(rows, count, width, lengths, outs);
        Py_END_ALLOW_THREADS
    }
done:
    PyMem_Free(lengths);
    PyMem_Free(sizes);
    PyMem_Free(outs);
    return columns;
}

PyDoc_STRVAR(split_doc,
             "split(rows, width) -> a tuple of columns, each with its values joined by line feeds.\n\n"
             "A row is bytes: width values, tabs between them, and a line feed. At least one row and column.\n"
             "Raises ValueError for a row that is another.");

static PyObject *split(PyObject *Py_UNUSED(module), PyObject *arguments)
{
    PyObject *rows, *columns = NULL;
    Py_ssize_t width;
    if (!PyArg_ParseTuple(arguments, "O!n:split", &PyTuple_Type, &rows, &width))
        return NULL;
    if (width < 1 || PyTuple_Size(rows) < 1)
        return PyErr_Format(PyExc_ValueError, "there is nothing to split");
    Span *spans = spans_of(rows);
    if (spans != NULL)
        columns = columns_of(spans, PyTuple_Size(rows), width);
    PyMem_Free(spans);
    return columns;
}

/* --- Columns into lines ------------------------------------------------------------------------------ */

/* How long all lines are together; -1 for more than there can be. */
static Py_ssize_t size_of_lines(const Span *texts, const Span *columns, Py_ssize_t width, Py_ssize_t count)
{
    Py_ssize_t size = 0;
    for (Py_ssize_t place = 0; place <= width; place++) {
        Py_ssize_t text = size_of(texts[place]);
        Py_ssize_t column = place < width ? size_of(columns[place]) : 0;
        if (text > (PY_SSIZE_T_MAX / 2 - size) / count || column > PY_SSIZE_T_MAX / 2 - size - text * count)
            return -1;
        size += text * count + column;
        if (place < width) {
            if (column < count - 1) /* not even the line feeds between so many */
                return 0;
            size -= count - 1;
        }
    }
    return size;
}

/* The values of every record between the texts; whether each column has exactly `count` values. */
static int write_lines(char *out, const char *limit, const Span *texts, Span *columns, Py_ssize_t width,
                       Py_ssize_t count)
{
    for (Py_ssize_t row = 0; row < count; row++) {
        for (Py_ssize_t place = 0; place < width; place++) {
            Span *column = &columns[place];
            const char *feed = memchr(column->at, '\n', (size_t)size_of(*column));
            if ((feed == NULL) != (row == count - 1))
                return 0;
            Span value = {column->at, feed == NULL ? column->end : feed};
            if (limit - out < size_of(texts[place]) + size_of(value))
                return 0;
            out = put(out, texts[place].at, size_of(texts[place]));
            out = put(out, value.at, size_of(value));
            column->at = feed == NULL ? column->end : feed + 1;
        }
        if (limit - out < size_of(texts[width]))
            return 0;
        out = put(out, texts[width].at, size_of(texts[width]));
    }
    return out == limit;
}

static PyObject *lines_of(const Span *texts, Span *columns, Py_ssize_t width, Py_ssize_t count)
{
    int is_right;
    Py_ssize_t size = size_of_lines(texts, columns, width, count);
    if (size < 0)
        return PyErr_NoMemory();
    PyObject *lines = PyBytes_FromStringAndSize(NULL, size);
    if (lines == NULL)
        return NULL;
    char *out = PyBytes_AsString(lines);
    Py_BEGIN_ALLOW_THREADS
    is_right = write_lines(out, out + size, texts, columns, width, count);
    Py_END_ALLOW_THREADS
    if (!is_right) {
        Py_DECREF(lines);
        return PyErr_Format(PyExc_ValueError, "not every column has %zd values", count);
    }
    return lines;
}

PyDoc_STRVAR(weave_doc,
             "weave(texts, columns, count) -> the lines of count records, one after another.\n\n"
             "A column is bytes: count values joined by line feeds. A text more than there are columns stands\n"
             "before, between and behind the values of each record. Raises ValueError for another column.");

static PyObject *weave(PyObject *Py_UNUSED(module), PyObject *arguments)
{
    PyObject *texts, *columns, *lines = NULL;
    Py_ssize_t count;
    if (!PyArg_ParseTuple(arguments, "O!O!n:weave", &PyTuple_Type, &texts, &PyTuple_Type, &columns, &count))
        return NULL;
    if (count < 1 || PyTuple_Size(columns) < 1 || PyTuple_Size(texts) != PyTuple_Size(columns) + 1)
        return PyErr_Format(PyExc_ValueError, "there is nothing to weave, or not one text more than columns");
    Span *before = spans_of(texts), *values = before == NULL ? NULL : spans_of(columns);
    if (values != NULL)
        lines = lines_of(before, values, PyTuple_Size(columns), count);
    PyMem_Free(before);
    PyMem_Free(values);
    return lines;
}

/* --- The module -------------------------------------------------------------------------------------- */

static PyMethodDef functions[] = {
    {"split", split, METH_VARARGS, split_doc},
    {"weave", weave, METH_VARARGS, weave_doc},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "exporter._bulk",
    .m_doc = "Rows split into columns, columns woven into lines: what bulk does, compiled.",
    .m_size = 0,
    .m_methods = functions,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__bulk(void)
{
    return PyModuleDef_Init(&definition);
}
