/* SPDX-License-Identifier: Apache-2.0 */
/* What keyframes observe: loops of `map`, `adjustment` and `edges` over the arrays of many keyframes, each (N) with
 * the numbers of points, -1 for none. */
#include "pose.h"

/* The arrays of a list, all of one kind, released by `release`; NULL with an error set for others. */
static Arg *take_list(const char *function, PyObject *list, char kind, Py_ssize_t *count) {
    PyObject *items = PySequence_Fast(list, "expected a list of arrays");
    Arg *args = NULL;
    char *kinds = NULL;
    if (!items) return NULL;
    *count = PySequence_Fast_GET_SIZE(items);
    args = PyMem_RawCalloc((size_t)*count + 1, sizeof(Arg)), kinds = PyMem_RawCalloc((size_t)*count + 1, 1);
    if (!args || !kinds) PyErr_NoMemory();
    else memset(kinds, kind, (size_t)*count);
    if (PyErr_Occurred() || take(function, PySequence_Fast_ITEMS(items), *count, kinds, args)) {
        PyMem_RawFree(args);
        args = NULL;
    }
    PyMem_RawFree(kinds);
    Py_DECREF(items);
    return args;
}

static void release_list(Arg *args, Py_ssize_t count) {
    if (args) release(args, (size_t)count);
    PyMem_RawFree(args);
}

static int below(const Arg *numbers, int64_t end) {
    for (Py_ssize_t i = 0; i < numbers->size; i++)
        if (I64(*numbers)[i] >= end) return 0;
    return 1;
}

static int ascending(const void *a, const void *b) {
    int64_t one = *(const int64_t *)a, other = *(const int64_t *)b;
    return (one > other) - (one < other);
}

/* points of a keyframe's features (N) -> features that observe one (N), their points (N); how many. */
PyObject *kernel_observed(PyObject *module, PyObject *const *given, Py_ssize_t count) {
    Arg a[3];
    if (take("observed", given, count, "nNN", a)) return NULL;
    Py_ssize_t found = 0;
    int fits = fit("observed", a[1].size == a[0].size && a[2].size == a[0].size);
    for (Py_ssize_t i = 0; fits && i < a[0].size; i++)
        if (I64(a[0])[i] >= 0) I64W(a[1])[found] = i, I64W(a[2])[found++] = I64(a[0])[i];
    release(a, 3);
    return fits ? PyLong_FromSsize_t(found) : NULL;
}

/* list of points, marks (M) that are all False and stay so -> each point once, ascending (sum of N); how many. */
PyObject *kernel_seen_by(PyObject *module, PyObject *const *given, Py_ssize_t count) {
    Arg a[2];
    Py_ssize_t lists, found = 0;
    if (count < 1 || take("seen_by", given + 1, count - 1, "BN", a)) return count < 1 ? PyErr_Format(PyExc_TypeError, "seen_by takes 3 arguments") : NULL;
    Arg *points = take_list("seen_by", given[0], 'n', &lists);
    int fits = points != NULL;
    for (Py_ssize_t k = 0; fits && k < lists; k++) fits = fit("seen_by", below(points + k, a[0].size));
    for (Py_ssize_t k = 0; fits && k < lists; k++)
        for (Py_ssize_t i = 0; i < points[k].size; i++) {
            int64_t point = I64(points[k])[i];
            if (point < 0 || U8(a[0])[point]) continue;
            if (found == a[1].size) {
                fits = fit("seen_by", 0);
                break;
            }
            U8W(a[0])[point] = 1, I64W(a[1])[found++] = point;
        }
    for (Py_ssize_t i = 0; i < found; i++) U8W(a[0])[I64(a[1])[i]] = 0;
    qsort(a[1].buffer.buf, (size_t)found, sizeof(int64_t), ascending);
    release_list(points, lists), release(a, 2);
    return fits ? PyLong_FromSsize_t(found) : NULL;
}

/* list of points, marks (M) -> list of how many of each keyframe's are marked. */
PyObject *kernel_count_marked(PyObject *module, PyObject *const *given, Py_ssize_t count) {
    Arg a[1];
    Py_ssize_t lists;
    if (count < 1 || take("count_marked", given + 1, count - 1, "b", a)) return count < 1 ? PyErr_Format(PyExc_TypeError, "count_marked takes 2 arguments") : NULL;
    Arg *points = take_list("count_marked", given[0], 'n', &lists);
    PyObject *counts = points ? PyList_New(lists) : NULL;
    for (Py_ssize_t k = 0; counts && k < lists; k++) {
        Py_ssize_t sum = 0;
        PyObject *number = NULL;
        if (fit("count_marked", below(points + k, a[0].size))) {
            for (Py_ssize_t i = 0; i < points[k].size; i++) sum += I64(points[k])[i] >= 0 && U8(a[0])[I64(points[k])[i]];
            number = PyLong_FromSsize_t(sum);
        }
        if (number) PyList_SET_ITEM(counts, k, number);
        else Py_CLEAR(counts);
    }
    release_list(points, lists), release(a, 1);
    return counts;
}

/* lists of points, rays (N, 2) and inverse depths (N), numbers of the points wanted (P), ascending
 * -> by observation (sum of N): keyframe in the list, feature, place among those observed, ray, inverse depth;
 * those observed (P). How many of both. */
PyObject *kernel_window(PyObject *module, PyObject *const *given, Py_ssize_t count) {
    Arg a[7], *lists[3] = {NULL, NULL, NULL};
    Py_ssize_t sizes[3] = {0, 0, 0}, total = 0, observed = 0;
    if (count < 3 || take("window", given + 3, count - 3, "nNNNDDN", a)) return count < 3 ? PyErr_Format(PyExc_TypeError, "window takes 10 arguments") : NULL;
    int fits = 1;
    for (int l = 0; fits && l < 3; l++) fits = (lists[l] = take_list("window", given[l], l ? 'd' : 'n', sizes + l)) != NULL;
    fits = fits && fit("window", sizes[1] == sizes[0] && sizes[2] == sizes[0] && a[6].size == a[0].size &&
                                     a[2].size == a[1].size && a[3].size == a[1].size && a[4].size == 2 * a[1].size && a[5].size == a[1].size);
    int64_t *place = fits ? PyMem_RawCalloc((size_t)a[0].size + 1, sizeof(int64_t)) : NULL;
    if (fits && !place) PyErr_NoMemory(), fits = 0;
    const int64_t *wanted = I64(a[0]);
    for (Py_ssize_t k = 0; fits && k < sizes[0]; k++) {
        fits = fit("window", lists[1][k].size == 2 * lists[0][k].size && lists[2][k].size == lists[0][k].size);
        for (Py_ssize_t i = 0; fits && i < lists[0][k].size; i++) {
            int64_t point = I64(lists[0][k])[i];
            Py_ssize_t low = 0, high = a[0].size;
            while (low < high) {
                Py_ssize_t middle = low + (high - low) / 2;
                if (wanted[middle] < point) low = middle + 1;
                else high = middle;
            }
            if (low == a[0].size || wanted[low] != point) continue;
            if (!(fits = fit("window", total < a[1].size))) break;
            place[low] = 1;
            I64W(a[1])[total] = k, I64W(a[2])[total] = i, I64W(a[3])[total] = low;
            memcpy(F64W(a[4]) + 2 * total, F64(lists[1][k]) + 2 * i, 2 * sizeof(double));
            F64W(a[5])[total++] = F64(lists[2][k])[i];
        }
    }
    for (Py_ssize_t p = 0; fits && p < a[0].size; p++)
        if (place[p]) I64W(a[6])[observed] = wanted[p], place[p] = observed++;
    for (Py_ssize_t o = 0; fits && o < total; o++) I64W(a[3])[o] = place[I64(a[3])[o]];
    PyMem_RawFree(place);
    for (int l = 0; l < 3; l++) release_list(lists[l], sizes[l]);
    release(a, 7);
    return fits ? Py_BuildValue("nn", total, observed) : NULL;
}

/* list of points, all written, marks (M), observations (M), written: no keyframe observes a marked point any more. */
PyObject *kernel_unlink(PyObject *module, PyObject *const *given, Py_ssize_t count) {
    Arg a[2];
    Py_ssize_t lists;
    if (count < 1 || take("unlink", given + 1, count - 1, "bN", a)) return count < 1 ? PyErr_Format(PyExc_TypeError, "unlink takes 3 arguments") : NULL;
    Arg *points = take_list("unlink", given[0], 'N', &lists);
    int fits = points && fit("unlink", a[1].size <= a[0].size);
    for (Py_ssize_t k = 0; fits && k < lists; k++) {
        fits = fit("unlink", below(points + k, a[1].size));
        for (Py_ssize_t i = 0; fits && i < points[k].size; i++) {
            int64_t point = I64(points[k])[i];
            if (point < 0 || !U8(a[0])[point]) continue;
            I64W(points[k])[i] = -1, I64W(a[1])[point]--;
        }
    }
    release_list(points, lists), release(a, 2);
    if (!fits) return NULL;
    Py_RETURN_NONE;
}

/* list of points, observations (M), xyz (M, 3), written, poses T_camera_world of the keyframes before and after (K, 4, 4):
 * points that only one of them observes move with it. */
PyObject *kernel_carry(PyObject *module, PyObject *const *given, Py_ssize_t count) {
    Arg a[4];
    Py_ssize_t lists;
    if (count < 1 || take("carry", given + 1, count - 1, "nDdd", a)) return count < 1 ? PyErr_Format(PyExc_TypeError, "carry takes 5 arguments") : NULL;
    Arg *points = take_list("carry", given[0], 'n', &lists);
    int fits = points && fit("carry", a[1].size == 3 * a[0].size && a[2].size == 16 * lists && a[3].size == 16 * lists);
    for (Py_ssize_t k = 0; fits && k < lists; k++) {
        const double *before = F64(a[2]) + 16 * k, *after = F64(a[3]) + 16 * k;
        double T[12]; /* inverse(after) @ before */
        for (int i = 0; i < 3; i++)
            for (int j = 0; j < 4; j++) {
                T[4 * i + j] = 0.0;
                for (int m = 0; m < 3; m++) T[4 * i + j] += after[4 * m + i] * (before[4 * m + j] - (j == 3 ? after[4 * m + 3] : 0.0));
            }
        fits = fit("carry", below(points + k, a[0].size));
        for (Py_ssize_t o = 0; fits && o < points[k].size; o++) {
            int64_t point = I64(points[k])[o];
            if (point < 0 || I64(a[0])[point] != 1) continue;
            double *xyz = F64W(a[1]) + 3 * point, x = xyz[0], y = xyz[1], z = xyz[2];
            for (int i = 0; i < 3; i++) xyz[i] = T[4 * i] * x + T[4 * i + 1] * y + T[4 * i + 2] * z + T[4 * i + 3];
        }
    }
    release_list(points, lists), release(a, 4);
    if (!fits) return NULL;
    Py_RETURN_NONE;
}

/* list of points, marks (M), xyz (M, 3), pose (4, 4), noise (3) -> information of the pose from the marked points that each
 * keyframe observes (K, 6, 6), as `edges.information` says. */
PyObject *kernel_information(PyObject *module, PyObject *const *given, Py_ssize_t count) {
    Arg a[5];
    Py_ssize_t lists;
    if (count < 1 || take("information", given + 1, count - 1, "bdddD", a)) return count < 1 ? PyErr_Format(PyExc_TypeError, "information takes 6 arguments") : NULL;
    Arg *points = take_list("information", given[0], 'n', &lists);
    Py_ssize_t all = a[1].size / 3 < a[0].size ? a[1].size / 3 : a[0].size;
    int fits = points && fit("information", a[2].size == 16 && a[3].size == 3 && a[4].size == 36 * lists);
    const double *T = F64(a[2]);
    for (Py_ssize_t k = 0; fits && k < lists; k++) {
        double *H = F64W(a[4]) + 36 * k;
        memset(H, 0, 36 * sizeof(double));
        fits = fit("information", below(points + k, all));
        for (Py_ssize_t o = 0; fits && o < points[k].size; o++) {
            int64_t point = I64(points[k])[o];
            if (point < 0 || !U8(a[0])[point]) continue;
            const double *xyz = F64(a[1]) + 3 * point;
            double p[3], J[3][6];
            for (int i = 0; i < 3; i++) p[i] = T[4 * i] * xyz[0] + T[4 * i + 1] * xyz[1] + T[4 * i + 2] * xyz[2] + T[4 * i + 3];
            p[2] = 1.0 / (p[2] > NEAR_M ? p[2] : NEAR_M), p[0] *= p[2], p[1] *= p[2];
            jacobian(p, 1, F64(a[3]), J);
            for (int i = 0; i < 6; i++)
                for (int j = 0; j < 6; j++) H[6 * i + j] += J[0][i] * J[0][j] + J[1][i] * J[1][j] + J[2][i] * J[2][j];
        }
        for (int i = 0; i < 6; i++) H[7 * i] += 1.0;
    }
    release_list(points, lists), release(a, 5);
    if (!fits) return NULL;
    Py_RETURN_NONE;
}

/* list of points, numbers by point (M), a number -> list of the shares of each keyframe's points whose number is larger. */
PyObject *kernel_shares_above(PyObject *module, PyObject *const *given, Py_ssize_t count) {
    Arg a[2];
    Py_ssize_t lists;
    if (count < 1 || take("shares_above", given + 1, count - 1, "ni", a)) return count < 1 ? PyErr_Format(PyExc_TypeError, "shares_above takes 3 arguments") : NULL;
    Arg *points = take_list("shares_above", given[0], 'n', &lists);
    PyObject *shares = points ? PyList_New(lists) : NULL;
    for (Py_ssize_t k = 0; shares && k < lists; k++) {
        Py_ssize_t all = 0, above = 0;
        PyObject *share = NULL;
        if (fit("shares_above", below(points + k, a[0].size))) {
            for (Py_ssize_t i = 0; i < points[k].size; i++)
                if (I64(points[k])[i] >= 0) all++, above += I64(a[0])[I64(points[k])[i]] > a[1].i;
            share = PyFloat_FromDouble((double)above / (double)(all ? all : 1));
        }
        if (share) PyList_SET_ITEM(shares, k, share);
        else Py_CLEAR(shares);
    }
    release_list(points, lists), release(a, 2);
    return shares;
}
