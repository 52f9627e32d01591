/* SPDX-License-Identifier: Apache-2.0 */
/* What keyframes observe: loops of `map`, `adjustment` and `mapping` over the arrays of many keyframes, each (N) with
 * the numbers of points, -1 for none. */
#include "arrays.h"

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

/* list of points, marks (M) -> how many of each keyframe's are marked (K). */
PyObject *kernel_count_marked(PyObject *module, PyObject *const *given, Py_ssize_t count) {
    Arg a[2];
    Py_ssize_t lists;
    if (count < 1 || take("count_marked", given + 1, count - 1, "bN", a)) return count < 1 ? PyErr_Format(PyExc_TypeError, "count_marked takes 3 arguments") : NULL;
    Arg *points = take_list("count_marked", given[0], 'n', &lists);
    int fits = points && fit("count_marked", a[1].size == lists);
    for (Py_ssize_t k = 0; fits && k < lists; k++) {
        int64_t sum = 0;
        fits = fit("count_marked", below(points + k, a[0].size));
        for (Py_ssize_t i = 0; fits && i < points[k].size; i++) sum += I64(points[k])[i] >= 0 && U8(a[0])[I64(points[k])[i]];
        if (fits) I64W(a[1])[k] = sum;
    }
    release_list(points, lists), release(a, 2);
    if (!fits) return NULL;
    Py_RETURN_NONE;
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

/* IEEE half float; to the nearest, ties to even. */
static uint16_t to_half(double x) {
    uint64_t bits, fraction, rest;
    memcpy(&bits, &x, sizeof bits);
    uint16_t sign = (uint16_t)(bits >> 48 & 0x8000), out;
    int exponent = (int)(bits >> 52 & 2047) - 1023;
    if (x != x) return sign | 0x7e00;
    if (fabs(x) >= 65520.0) return sign | 0x7c00;
    if (exponent < -14) return sign | (uint16_t)((fabs(x) * 0x1p24 + 0x1p52) - 0x1p52); /* the sum rounds to an integer */
    fraction = bits & 0xfffffffffffff, rest = fraction & 0x3ffffffffff;
    out = (uint16_t)((exponent + 15) << 10 | (int)(fraction >> 42));
    /* rounding up may carry into the exponent, which is what is wanted */
    return sign | (uint16_t)(out + (rest > 0x20000000000 || (rest == 0x20000000000 && (out & 1))));
}

/* descriptors (M, length) float16, written, observations (M), written, measured (M), written; numbers (n) of points, none
 * twice; descriptors (F, length) float16 and inverse depths (F) of a keyframe, its features (n); observations that a
 * descriptor averages. One more observation each, as `descriptors.follow` says. */
PyObject *kernel_follow(PyObject *module, PyObject *const *given, Py_ssize_t count) {
    Arg a[8];
    if (take("follow", given, count, "ENBnednx", a)) return NULL;
    Py_ssize_t all = a[0].rows, length = a[0].columns, n = a[3].size, features = a[4].rows, one = features < a[5].size ? features : a[5].size;
    int fits = a[1].size == all && a[2].size == all && a[6].size == n && (!features || !all || a[4].columns == length);
    for (Py_ssize_t i = 0; fits && i < n; i++)
        fits = I64(a[3])[i] >= 0 && I64(a[3])[i] < all && I64(a[6])[i] >= 0 && I64(a[6])[i] < one;
    double *mean = fit("follow", fits) ? PyMem_RawMalloc(sizeof(double) * (size_t)(length + 1)) : NULL;
    fits = mean != NULL;
    if (!fits && !PyErr_Occurred()) PyErr_NoMemory();
    for (Py_ssize_t i = 0; fits && i < n; i++) {
        int64_t point = I64(a[3])[i], feature = I64(a[6])[i];
        uint16_t *known = (uint16_t *)a[0].buffer.buf + point * length;
        const uint16_t *new = (const uint16_t *)a[4].buffer.buf + feature * length;
        double weight = (double)I64(a[1])[point], sum[8] = {0}, square, size;
        Py_ssize_t j = 0;
        weight = weight < a[7].x ? weight : a[7].x;
        for (; j < length; j++) mean[j] = (double)of_half(known[j]) * weight + (double)of_half(new[j]);
        for (j = 0; j + 8 <= length; j += 8) /* in numpy's order */
            for (int k = 0; k < 8; k++) sum[k] += mean[j + k] * mean[j + k];
        square = ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
        for (; j < length; j++) square += mean[j] * mean[j];
        size = sqrt(square);
        size = size > 1e-12 ? size : 1e-12;
        for (j = 0; j < length; j++) known[j] = to_half(mean[j] / size);
        I64W(a[1])[point]++;
        U8W(a[2])[point] |= F64(a[5])[feature] > 0;
    }
    PyMem_RawFree(mean);
    release(a, 8);
    if (!fits) return NULL;
    Py_RETURN_NONE;
}

static double dot3(const double *a, const double *b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }

static void cross(const double *a, const double *b, double *out) {
    out[0] = a[1] * b[2] - a[2] * b[1], out[1] = a[2] * b[0] - a[0] * b[2], out[2] = a[0] * b[1] - a[1] * b[0];
}

/* matches a (n), b (n) of rays (N, 2) and (M, 2), pose of b from a (4, 4), noise (3), least depth, gate on the squared
 * error and on the squared parallax -> those that `triangulate.triangulated` keeps: a (n), b (n), xyz (n, 3); how many. */
PyObject *kernel_triangulate(PyObject *module, PyObject *const *given, Py_ssize_t count) {
    Arg a[12];
    if (take("triangulate", given, count, "nnddddxxxNND", a)) return NULL;
    Py_ssize_t n = a[0].size, found = 0;
    int fits = a[1].size == n && a[4].size == 16 && a[5].size == 3 && a[9].size == n && a[10].size == n && a[11].size == 3 * n;
    const double *T = F64(a[4]), *noise = F64(a[5]), near = a[6].x;
    for (Py_ssize_t i = 0; fits && i < n; i++) {
        int64_t one = I64(a[0])[i], other = I64(a[1])[i];
        if (!(fits = one >= 0 && 2 * one < a[2].size && other >= 0 && 2 * other < a[3].size)) break;
        const double first[3] = {F64(a[2])[2 * one], F64(a[2])[2 * one + 1], 1.0}, t[3] = {T[3], T[7], T[11]};
        const double second[3] = {F64(a[3])[2 * other], F64(a[3])[2 * other + 1], 1.0};
        double turned[3], across[3], away[3], square, z, there[3], plane, offset2 = 0.0, parallax2 = 0.0;
        for (int j = 0; j < 3; j++) turned[j] = dot3(T + 4 * j, first);
        cross(turned, second, across), cross(t, second, away);
        square = dot3(across, across);
        z = -dot3(away, across) / (square > 1e-18 ? square : 1e-18);
        for (int j = 0; j < 3; j++) there[j] = z * turned[j] + t[j];
        if (!(z > near && there[2] > near)) continue;
        plane = turned[2] > near ? turned[2] : near;
        for (int j = 0; j < 2; j++) {
            double offset = (there[j] / there[2] - second[j]) * noise[j], parallax = (turned[j] / plane - second[j]) * noise[j];
            offset2 += offset * offset, parallax2 += parallax * parallax;
        }
        if (!(offset2 < a[7].x && parallax2 > a[8].x)) continue;
        I64W(a[9])[found] = one, I64W(a[10])[found] = other;
        for (int j = 0; j < 3; j++) F64W(a[11])[3 * found + j] = z * first[j];
        found++;
    }
    fits = fit("triangulate", fits);
    release(a, 12);
    return fits ? PyLong_FromSsize_t(found) : NULL;
}

typedef struct {
    double away;
    Py_ssize_t i;
} Away;

static int nearer(const void *a, const void *b) {
    const Away *one = a, *other = b;
    return one->away != other->away ? (one->away > other->away) - (one->away < other->away) : (one->i > other->i) - (one->i < other->i);
}

/* Where a camera is, and the point `ahead` metres in front of it. */
static void standing(const double *T, double ahead, double *at) {
    for (int j = 0; j < 3; j++) {
        at[j] = -(T[j] * T[3] + T[4 + j] * T[7] + T[8 + j] * T[11]);
        at[3 + j] = at[j] + ahead * T[8 + j];
    }
}

/* poses T_camera_world of keyframes (K, 4, 4), numbers of some (n), a pose (4, 4), metres ahead -> these numbers (n), those
 * nearest to the pose first, in position and in the point ahead. */
PyObject *kernel_nearest(PyObject *module, PyObject *const *given, Py_ssize_t count) {
    Arg a[5];
    if (take("nearest", given, count, "dndxN", a)) return NULL;
    Py_ssize_t n = a[1].size, all = a[0].rows;
    int fits = a[2].size == 16 && a[4].size == n && (!all || a[0].columns == 16);
    for (Py_ssize_t i = 0; fits && i < n; i++) fits = I64(a[1])[i] >= 0 && I64(a[1])[i] < all;
    Away *order = fit("nearest", fits) ? PyMem_RawMalloc(sizeof(Away) * (size_t)(n + 1)) : NULL;
    double here[6], there[6];
    if (order) standing(F64(a[2]), a[3].x, here);
    else if (!PyErr_Occurred()) PyErr_NoMemory();
    for (Py_ssize_t i = 0; order && i < n; i++) {
        standing(F64(a[0]) + 16 * I64(a[1])[i], a[3].x, there);
        for (int j = 0; j < 6; j++) there[j] -= here[j];
        order[i].away = sqrt(dot3(there, there)) + sqrt(dot3(there + 3, there + 3)), order[i].i = i;
    }
    if (order) qsort(order, (size_t)n, sizeof(Away), nearer);
    for (Py_ssize_t i = 0; order && i < n; i++) I64W(a[4])[i] = I64(a[1])[order[i].i];
    PyMem_RawFree(order);
    release(a, 5);
    if (!order) return NULL;
    Py_RETURN_NONE;
}
