/* SPDX-License-Identifier: Apache-2.0 */
/* What matches count: `trust.standing`, `trust.weights`, `trust.updated`, `votes.votes`, `consensus._fits`. */
#include "arrays.h"

typedef struct {
    double z;
    Py_ssize_t i;
} Depth;

static int nearer(const void *a, const void *b) {
    const Depth *one = a, *other = b;
    return one->z != other->z ? (one->z > other->z) - (one->z < other->z) : (one->i > other->i) - (one->i < other->i);
}

/* points (N), features (N), xyz (M, 3), trust (M), rays (F, 2), inverse depths (F), pose (4, 4), bounds (2, 2),
 * constants (7: doubted, half, ignored, untried, farther, near, cells)
 * -> xyz (N, 3), xy (N, 2), inverse depth (N), weight (N), vote (N), far (N). */
PyObject *kernel_gather(PyObject *module, PyObject *const *given, Py_ssize_t count) {
    Arg a[15];
    if (take("gather", given, count, "nndddddddDDDDDB", a)) return NULL;
    Py_ssize_t n = a[0].size, all = a[3].size, features = a[5].size, wide = (Py_ssize_t)(a[8].size == 7 ? F64(a[8])[6] : 0);
    int fits = a[1].size == n && a[2].size == 3 * all && a[4].size == 2 * features && a[6].size == 16 && a[7].size == 4 &&
               a[8].size == 7 && a[9].size == 3 * n && a[10].size == 2 * n && a[11].size == n && a[12].size == n &&
               a[13].size == n && a[14].size == n;
    for (Py_ssize_t i = 0; fits && i < n; i++)
        fits = I64(a[0])[i] >= 0 && I64(a[0])[i] < all && I64(a[1])[i] >= 0 && I64(a[1])[i] < features;
    Py_ssize_t side = 4 * wide + 4; /* rows: an image may be up to so much taller than wide */
    Depth *order = NULL;
    int32_t *crowd = NULL, *cell = NULL;
    if (fit("gather", fits)) {
        order = PyMem_RawMalloc(sizeof(Depth) * (size_t)(n + 1) + sizeof(int32_t) * (size_t)n + sizeof(int32_t) * (size_t)(side * side));
        if (!order) PyErr_NoMemory();
    }
    if (!order) {
        release(a, 15);
        return NULL;
    }
    cell = (int32_t *)(order + n + 1), crowd = cell + n;
    memset(crowd, 0, sizeof(int32_t) * (size_t)(side * side));
    const double *T = F64(a[6]), *bounds = F64(a[7]), *c = F64(a[8]);
    double step = (bounds[2] - bounds[0]) / c[6], middle = 0.0, covered = 0.0, half = 0.0;
    for (Py_ssize_t i = 0; i < n; i++) {
        int64_t point = I64(a[0])[i], feature = I64(a[1])[i];
        const double *xyz = F64(a[2]) + 3 * point, *xy = F64(a[4]) + 2 * feature;
        double trust = F64(a[3])[point], weight = trust < 0 ? 1.0 - trust / c[2] : trust + c[3];
        memcpy(F64W(a[9]) + 3 * i, xyz, 3 * sizeof(double)), memcpy(F64W(a[10]) + 2 * i, xy, 2 * sizeof(double));
        F64W(a[11])[i] = F64(a[5])[feature];
        F64W(a[12])[i] = weight < c[3] ? c[3] : weight > 1.0 ? 1.0 : weight;
        double earned = trust > 0 ? trust : 0.0;
        F64W(a[13])[i] = (trust < 0 ? c[0] : 1.0) * (earned + 0.5) / (earned + c[1]);
        double u = (xy[0] - bounds[0]) / step, v = (xy[1] - bounds[1]) / step;
        Py_ssize_t column = u > 0 ? (Py_ssize_t)u : 0, row = v > 0 ? (Py_ssize_t)v : 0;
        cell[i] = (int32_t)((row < side ? row : side - 1) * side + (column < side ? column : side - 1));
        crowd[cell[i]]++;
        order[i].z = xyz[0] * T[8] + xyz[1] * T[9] + xyz[2] * T[10] + T[11], order[i].i = i;
    }
    qsort(order, (size_t)n, sizeof(Depth), nearer);
    if (n) middle = 0.5 * (order[(n - 1) / 2].z + order[n / 2].z);
    if (!(middle > c[5])) middle = c[5];
    for (Py_ssize_t k = 0; k < n; k++) half += 1.0 / crowd[cell[order[k].i]];
    half *= 0.5;
    for (Py_ssize_t k = 0; k < n; k++) {
        Py_ssize_t i = order[k].i;
        double far = order[k].z / middle;
        far = far < 1.0 / c[4] ? 1.0 / c[4] : far > c[4] ? c[4] : far;
        covered += 1.0 / crowd[cell[i]];
        F64W(a[13])[i] = F64W(a[13])[i] * far / crowd[cell[i]];
        U8W(a[14])[i] = covered >= half;
    }
    PyMem_RawFree(order);
    release(a, 15);
    Py_RETURN_NONE;
}

/* Squared errors of pixels and depth (N), votes (N), gates of both -> share of the votes. */
PyObject *kernel_share(PyObject *module, PyObject *const *given, Py_ssize_t count) {
    Arg a[5];
    if (take("share", given, count, "dddxx", a)) return NULL;
    Py_ssize_t n = a[0].size;
    double sum = 0.0, cast = 0.0;
    int fits = fit("share", a[1].size == n && a[2].size == n);
    for (Py_ssize_t i = 0; fits && i < n; i++) {
        double e = F64(a[0])[i];
        sum += F64(a[2])[i];
        if (e < a[3].x && F64(a[1])[i] < a[4].x) cast += F64(a[2])[i] * (1.0 - e / a[3].x);
    }
    release(a, 5);
    return fits ? PyFloat_FromDouble(cast / (sum > 1e-9 ? sum : 1e-9)) : NULL;
}

/* Squared errors of pixels and depth (N), gates of both, places (F, 2), features (N), places (P, 2), points (N)
 * -> numbers within both gates (N); (how many, median distance of those within the gate of pixels). */
PyObject *kernel_offset(PyObject *module, PyObject *const *given, Py_ssize_t count) {
    Arg a[9];
    if (take("offset", given, count, "ddxxdndnN", a)) return NULL;
    Py_ssize_t n = a[0].size, good = 0, near = 0;
    int fits = a[1].size == n && a[5].size == n && a[7].size == n && a[8].size == n;
    double *away = PyMem_RawMalloc(sizeof(double) * (size_t)(n + 1)), median = NAN;
    for (Py_ssize_t i = 0; fits && away && i < n; i++) {
        int64_t one = I64(a[5])[i], other = I64(a[7])[i];
        if (!(fits = one >= 0 && 2 * one < a[4].size && other >= 0 && 2 * other < a[6].size)) break;
        if (!(F64(a[0])[i] < a[2].x)) continue;
        double dx = F64(a[4])[2 * one] - F64(a[6])[2 * other], dy = F64(a[4])[2 * one + 1] - F64(a[6])[2 * other + 1];
        away[near++] = sqrt(dx * dx + dy * dy);
        if (F64(a[1])[i] < a[3].x) I64W(a[8])[good++] = i;
    }
    if (away && near) {
        median = smallest(away, near, (near - 1) / 2);
        if (near % 2 == 0) median = 0.5 * (median + smallest(away, near, near / 2));
    }
    fits = away ? fit("offset", fits) : (PyErr_NoMemory(), 0);
    PyMem_RawFree(away);
    release(a, 9);
    return fits ? Py_BuildValue("nd", good, median) : NULL;
}

static double lowered(double trust, const double *c) {
    double less = c[3] * trust < trust ? c[3] * trust : trust, least = 2.0 * c[5];
    return less - c[4] > least ? less - c[4] : least;
}

/* trust (M), written; points (N) and their squared errors (N) of pixels and depth; points (V) and whether they are
 * looked through (V) or (0); constants (8: gate of pixels, of depth, disagrees, kept, lost, refuted, full, unused)
 * -> list of those that are refuted, some twice. */
PyObject *kernel_judge(PyObject *module, PyObject *const *given, Py_ssize_t count) {
    Arg a[7];
    if (take("judge", given, count, "Dnddnbd", a)) return NULL;
    Py_ssize_t n = a[1].size, all = a[0].size;
    int fits = a[2].size == n && a[3].size == n && (a[5].size == a[4].size || !a[5].size) && a[6].size == 8;
    const double *c = F64(a[6]);
    for (Py_ssize_t i = 0; fits && i < n; i++) {
        int64_t k = I64(a[1])[i];
        double pixel2 = F64(a[2])[i], depth2 = F64(a[3])[i];
        if (!(fits = k >= 0 && k < all)) break;
        double *trust = F64W(a[0]) + k, more = depth2 < c[1] && pixel2 < c[0] ? 1.0 - pixel2 / c[0] : 0.0;
        if (pixel2 > c[2] * c[0] || depth2 > c[2] * c[1]) *trust = lowered(*trust, c);
        else *trust = *trust + more < c[6] ? *trust + more : c[6];
    }
    for (Py_ssize_t i = 0; fits && i < a[5].size; i++) {
        int64_t k = I64(a[4])[i];
        if (!(fits = k >= 0 && k < all)) break;
        if (U8(a[5])[i]) F64W(a[0])[k] = lowered(F64(a[0])[k], c);
    }
    for (Py_ssize_t i = 0; fits && i < a[4].size; i++) fits = I64(a[4])[i] >= 0 && I64(a[4])[i] < all;
    PyObject *refuted = fit("judge", fits) ? PyList_New(0) : NULL;
    for (int of = 1; refuted && of < 5; of += 3)
        for (Py_ssize_t i = 0; refuted && i < a[of].size; i++) {
            if (!(F64(a[0])[I64(a[of])[i]] < c[5])) continue;
            PyObject *number = PyLong_FromLongLong(I64(a[of])[i]);
            if (!number || PyList_Append(refuted, number)) Py_CLEAR(refuted);
            Py_XDECREF(number);
        }
    release(a, 7);
    return refuted;
}

/* numbers (N) -> their median, NaN of none. */
PyObject *kernel_median(PyObject *module, PyObject *const *given, Py_ssize_t count) {
    Arg a[1];
    if (take("median", given, count, "d", a)) return NULL;
    Py_ssize_t n = a[0].size;
    double *x = PyMem_RawMalloc(sizeof(double) * (size_t)(n + 1)), median = NAN;
    if (x && n) {
        memcpy(x, F64(a[0]), sizeof(double) * (size_t)n);
        median = smallest(x, n, (n - 1) / 2);
        if (n % 2 == 0) median = 0.5 * (median + smallest(x, n, n / 2));
    }
    release(a, 1);
    PyMem_RawFree(x);
    return x ? PyFloat_FromDouble(median) : PyErr_NoMemory();
}
