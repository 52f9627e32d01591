/* SPDX-License-Identifier: Apache-2.0 */
/* Groups of matches: `consensus._gathered`, `_leaves_together`, `_apart`. */
#include "pose.h"

/* Ta, Tb (4, 4), xyz (N, 3), noise (3), gates of squared pixels and depth -> share beyond. */
PyObject *kernel_apart(PyObject *module, PyObject *const *given, Py_ssize_t count) {
    Arg a[6];
    if (take("apart", given, count, "ddddxx", a)) return NULL;
    Py_ssize_t n = a[2].rows, beyond = 0;
    int fits = fit("apart", a[0].size == 16 && a[1].size == 16 && a[2].size == 3 * n && a[3].size == 3);
    for (Py_ssize_t i = 0; fits && i < n; i++) {
        double p[4], there[4], r[3];
        const double none[2] = {0.0, 0.0}, *xyz = F64(a[2]) + 3 * i;
        project(F64(a[1]), xyz, none, 0.0, F64(a[3]), p, r);
        project(F64(a[0]), xyz, p, p[2], F64(a[3]), there, r);
        beyond += !there[3] || r[0] * r[0] + r[1] * r[1] > a[4].x || r[2] * r[2] > a[5].x;
    }
    release(a, 6);
    return fits ? PyFloat_FromDouble((double)beyond / (double)(n ? n : 1)) : NULL;
}

/* T (4, 4), xyz (N, 3), xy (N, 2), depth (N), vote (N), marks (N) of those to begin with or (0), noise (3), gates of squared
 * pixels and depth, least number of matches, least share of the votes, iterations (rounds)
 * -> pose (4, 4), covariance (6, 6), squared errors (N) twice; observations times iterations, -1.0 without such a group. */
PyObject *kernel_group(PyObject *module, PyObject *const *given, Py_ssize_t count) {
    Arg a[16];
    if (take("group", given, count, "dddddbdxxixnDDDD", a)) return NULL;
    Py_ssize_t n = a[1].rows;
    int fits = a[0].size == 16 && a[1].size == 3 * n && a[2].size == 2 * n && a[3].size == n && a[4].size == n &&
               (a[5].size == n || !a[5].size) && a[6].size == 3 && a[12].size == 16 && a[13].size == 36 && a[14].size == n && a[15].size == n;
    double *work = fit("group", fits) ? PyMem_RawMalloc(sizeof(double) * (size_t)(17 * n + 1)) : NULL, made = 0.0;
    if (!work) {
        release(a, 16);
        return PyErr_Occurred() ? NULL : PyErr_NoMemory();
    }
    Py_BEGIN_ALLOW_THREADS;
    double *xyz = work + 11 * n, *xy = xyz + 3 * n, *depth = xy + 2 * n, *pixel2 = F64W(a[14]), *depth2 = F64W(a[15]), all = 0.0;
    const double *noise = F64(a[6]), *start = F64(a[0]);
    Fit f = {0, 0, 0, xyz, xy, depth, noise, NULL, work, {0}, {0}};
    for (Py_ssize_t i = 0; i < n; i++) all += F64(a[4])[i];
    for (Py_ssize_t round = 0; round < a[11].size; round++) {
        double vote = 0.0;
        f.n = 0, f.iterations = I64(a[11])[round];
        squares(start, F64(a[1]), F64(a[2]), F64(a[3]), noise, n, pixel2, depth2);
        for (Py_ssize_t i = 0; i < n; i++) {
            if (!(pixel2[i] < a[7].x && depth2[i] < a[8].x) || (!round && a[5].size && !U8(a[5])[i])) continue;
            memcpy(xyz + 3 * f.n, F64(a[1]) + 3 * i, 3 * sizeof(double)), memcpy(xy + 2 * f.n, F64(a[2]) + 2 * i, 2 * sizeof(double));
            depth[f.n++] = F64(a[3])[i], vote += F64(a[4])[i];
        }
        if (f.n < a[9].i || vote < a[10].x * all) {
            made = -1.0;
            break;
        }
        made += (double)f.n * (double)gauss_newton(start, &f);
        memcpy(F64W(a[12]), f.T, sizeof f.T);
        start = F64(a[12]);
    }
    covariance_of(f.H, F64W(a[13]));
    squares(start, F64(a[1]), F64(a[2]), F64(a[3]), noise, n, pixel2, depth2);
    Py_END_ALLOW_THREADS;
    PyMem_RawFree(work);
    release(a, 16);
    return PyFloat_FromDouble(made);
}

/* T (4, 4), xyz (N, 3), xy (N, 2), weight (N), vote (N), squared errors of pixels (N), noise (3), gate and limit of these,
 * least number, least share of the votes -> length of the mean error of the trusted matches between gate and limit, as a
 * ratio of the mean length; 0 where there are too few. */
PyObject *kernel_together(PyObject *module, PyObject *const *given, Py_ssize_t count) {
    Arg a[11];
    if (take("together", given, count, "dddddddxxix", a)) return NULL;
    Py_ssize_t n = a[3].size, off = 0;
    int fits = fit("together", a[0].size == 16 && a[1].size == 3 * n && a[2].size == 2 * n && a[4].size == n && a[5].size == n && a[6].size == 3);
    double all = 0.0, vote = 0.0, sum[2] = {0.0, 0.0}, length = 0.0;
    for (Py_ssize_t i = 0; fits && i < n; i++) {
        double error2 = F64(a[5])[i], cast = F64(a[4])[i], p[4], r[3];
        all += cast;
        if (!(F64(a[3])[i] >= 1.0 && !(error2 < a[7].x) && error2 < a[8].x)) continue;
        project(F64(a[0]), F64(a[1]) + 3 * i, F64(a[2]) + 2 * i, 0.0, F64(a[6]), p, r);
        off++, vote += cast, sum[0] += cast * r[0], sum[1] += cast * r[1], length += cast * sqrt(r[0] * r[0] + r[1] * r[1]);
    }
    release(a, 11);
    if (!fits) return NULL;
    if (off < a[9].i || vote < a[10].x * all || !(length > 0)) return PyFloat_FromDouble(0.0);
    return PyFloat_FromDouble(sqrt(sum[0] * sum[0] + sum[1] * sum[1]) / length);
}
