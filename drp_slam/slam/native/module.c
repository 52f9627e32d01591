/* SPDX-License-Identifier: Apache-2.0 */
/* Loops of the frame path, compiled: what takes hundreds of calls into numpy is one call here. The functions in
 * numpy beside their callers say what each computes, and are its tests. Nothing here depends on the machine: no
 * reordered sums, no fused multiplication. */
#include "arrays.h"

int take(const char *function, PyObject *const *given, Py_ssize_t count, const char *kinds, Arg *args) {
    static const char letters[] = "dfnbuhwce";
    static const int sizes[] = {8, 4, 8, 1, 1, 2, 4, 1, 2};
    static const char *formats[] = {"d", "f", "lq", "?", "B", "H", "il", "b", "e"};
    Py_ssize_t wanted = (Py_ssize_t)strlen(kinds), k;
    memset(args, 0, sizeof(Arg) * (size_t)wanted);
    if (count != wanted) {
        PyErr_Format(PyExc_TypeError, "%s takes %zd arguments, not %zd", function, wanted, count);
        return -1;
    }
    for (k = 0; k < wanted; k++) {
        char kind = kinds[k];
        Arg *a = args + k;
        if (kind == 'i') {
            a->i = PyNumber_AsSsize_t(given[k], PyExc_OverflowError);
        } else if (kind == 'x') {
            a->x = PyFloat_AsDouble(given[k]);
        } else {
            int write = kind >= 'A' && kind <= 'Z';
            const char *letter = strchr(letters, write ? kind + 32 : kind);
            int type = (int)(letter - letters);
            const char *format;
            if (PyObject_GetBuffer(given[k], &a->buffer, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS | (write ? PyBUF_WRITABLE : 0)))
                goto wrong;
            a->held = 1;
            format = a->buffer.format ? a->buffer.format : "B";
            if (*format == '<' || *format == '=' || *format == '@') format++;
            if (!*format || format[1] || !strchr(formats[type], *format) || a->buffer.itemsize != sizes[type]) {
                PyErr_Format(PyExc_TypeError, "%s: argument %zd has elements of type %s, not %s", function, k + 1,
                             a->buffer.format, formats[type]);
                goto wrong;
            }
            a->size = a->buffer.len / a->buffer.itemsize;
            a->rows = a->buffer.ndim ? a->buffer.shape[0] : 1;
            a->columns = a->rows ? a->size / a->rows : 0;
            continue;
        }
        if (PyErr_Occurred()) goto wrong;
    }
    return 0;
wrong:
    release(args, (size_t)wanted);
    return -1;
}

void release(Arg *args, size_t count) {
    for (size_t k = 0; k < count; k++)
        if (args[k].held) PyBuffer_Release(&args[k].buffer);
}

int fit(const char *function, int fits) {
    if (!fits) PyErr_Format(PyExc_ValueError, "%s was given arrays that do not fit each other", function);
    return fits;
}

double smallest(double *x, Py_ssize_t n, Py_ssize_t k) {
    Py_ssize_t low = 0, high = n - 1;
    while (low < high) {
        double pivot = x[low + (high - low) / 2];
        Py_ssize_t i = low, j = high;
        while (i <= j) {
            while (x[i] < pivot) i++;
            while (pivot < x[j]) j--;
            if (i <= j) {
                double swap = x[i];
                x[i++] = x[j];
                x[j--] = swap;
            }
        }
        if (k <= j) high = j;
        else if (k >= i) low = i;
        else break;
    }
    return x[k];
}

void solve(double *A, double *b, int n) {
    for (int j = 0; j < n; j++) { /* Cholesky */
        double *Aj = A + j * n;
        for (int i = j; i < n; i++) {
            double *Ai = A + i * n, sum = Ai[j];
            for (int k = 0; k < j; k++) sum -= Ai[k] * Aj[k];
            Ai[j] = i == j ? sqrt(sum) : sum / Aj[j];
        }
    }
    for (int i = 0; i < n; i++) {
        double sum = b[i];
        for (int k = 0; k < i; k++) sum -= A[i * n + k] * b[k];
        b[i] = sum / A[i * n + i];
    }
    for (int i = n - 1; i >= 0; i--) {
        double sum = b[i];
        for (int k = i + 1; k < n; k++) sum -= A[k * n + i] * b[k];
        b[i] = sum / A[i * n + i];
    }
}

#define ROW(name) {#name, (PyCFunction)(void (*)(void))kernel_##name, METH_FASTCALL, NULL},
static PyMethodDef methods[] = {KERNELS(ROW){NULL, NULL, 0, NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "drp_slam.slam._native", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__native(void) {
    PyObject *module = PyModule_Create(&definition);
    if (module && PyModule_AddStringConstant(module, "sources", SOURCES) < 0) Py_CLEAR(module);
    return module;
}
