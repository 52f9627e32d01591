/* SPDX-License-Identifier: Apache-2.0 */
/* Points and keyframes one by one: `descriptors.follow`, `triangulate.triangulated`, `mapping.near`. */
#include "arrays.h"

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
