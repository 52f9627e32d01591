/* SPDX-License-Identifier: Apache-2.0 */
/* Features and depth of a frame, and which points a pose sees: `camera`, `view.inverse_medians`, `mapping.visible`,
 * `freespace.seen_through`. */
#include "arrays.h"

/* lens: fx fy cx cy k1 k2 p1 p2 k3 */
static void distorted(const double *lens, double x, double y, double *uv) {
    double k1 = lens[4], k2 = lens[5], p1 = lens[6], p2 = lens[7], k3 = lens[8], r2 = x * x + y * y;
    double radial = 1.0 + r2 * (k1 + r2 * (k2 + r2 * k3));
    uv[0] = lens[0] * (x * radial + 2.0 * p1 * x * y + p2 * (r2 + 2.0 * x * x)) + lens[2];
    uv[1] = lens[1] * (y * radial + p1 * (r2 + 2.0 * y * y) + 2.0 * p2 * x * y) + lens[3];
}

/* pixels (N, 2) float32, descriptors (N, length) float32 or uint8 -> (all finite, least coordinate, largest u and v,
 * each of them at most or at least 0). */
PyObject *kernel_extent(PyObject *module, PyObject *const *given, Py_ssize_t count) {
    Arg a[2];
    Py_buffer probe;
    if (count != 2 || PyObject_GetBuffer(given[1], &probe, PyBUF_FORMAT)) {
        if (!PyErr_Occurred()) PyErr_SetString(PyExc_TypeError, "extent takes 2 arguments");
        return NULL;
    }
    int floats = probe.itemsize == 4, finite = 1;
    PyBuffer_Release(&probe);
    if (take("extent", given, count, floats ? "ff" : "fu", a)) return NULL;
    const float *uv = a[0].buffer.buf, *d = a[1].buffer.buf;
    float low = 0.0f, high[2] = {0.0f, 0.0f};
    for (Py_ssize_t i = 0; i < a[0].size; i++) {
        finite &= isfinite(uv[i]) != 0;
        low = uv[i] < low ? uv[i] : low;
        high[i % 2] = uv[i] > high[i % 2] ? uv[i] : high[i % 2];
    }
    for (Py_ssize_t i = 0; floats && i < a[1].size; i++) finite &= isfinite(d[i]) != 0;
    release(a, 2);
    return Py_BuildValue("Nddd", PyBool_FromLong(finite), (double)low, (double)high[0], (double)high[1]);
}

/* lens (9), pixels (N, 2) float64, iterations -> plane (N, 2). */
PyObject *kernel_undistort(PyObject *module, PyObject *const *given, Py_ssize_t count) {
    Arg a[4];
    if (take("undistort", given, count, "ddiD", a)) return NULL;
    const double *lens = F64(a[0]);
    int fits = fit("undistort", a[0].size == 9 && a[3].size == a[1].size);
    for (Py_ssize_t i = 0; fits && i < a[1].size / 2; i++) {
        double tx = (F64(a[1])[2 * i] - lens[2]) / lens[0], ty = (F64(a[1])[2 * i + 1] - lens[3]) / lens[1], x = tx, y = ty;
        double k1 = lens[4], k2 = lens[5], p1 = lens[6], p2 = lens[7], k3 = lens[8];
        for (Py_ssize_t k = 0; k < a[2].i; k++) {
            double xx = x * x, yy = y * y, xy = x * y, r2 = xx + yy;
            double radial = 1.0 + r2 * (k1 + r2 * (k2 + r2 * k3)), slope = 2.0 * (k1 + r2 * (2.0 * k2 + 3.0 * k3 * r2));
            double ex = x * radial + 2.0 * p1 * xy + p2 * (r2 + 2.0 * xx) - tx;
            double ey = y * radial + p1 * (r2 + 2.0 * yy) + 2.0 * p2 * xy - ty;
            double A = radial + slope * xx + 2.0 * p1 * y + 6.0 * p2 * x, B = slope * xy + 2.0 * p1 * x + 2.0 * p2 * y;
            double D = radial + slope * yy + 6.0 * p1 * y + 2.0 * p2 * x, determinant = A * D - B * B;
            x -= (D * ex - B * ey) / determinant, y -= (A * ey - B * ex) / determinant;
        }
        F64W(a[3])[2 * i] = x, F64W(a[3])[2 * i + 1] = y;
    }
    release(a, 4);
    if (!fits) return NULL;
    Py_RETURN_NONE;
}

/* lens (9), plane (N, 2) -> pixels (N, 2). */
PyObject *kernel_distort(PyObject *module, PyObject *const *given, Py_ssize_t count) {
    Arg a[3];
    if (take("distort", given, count, "ddD", a)) return NULL;
    int fits = fit("distort", a[0].size == 9 && a[2].size == a[1].size);
    for (Py_ssize_t i = 0; fits && i < a[1].size / 2; i++)
        distorted(F64(a[0]), F64(a[1])[2 * i], F64(a[1])[2 * i + 1], F64W(a[2]) + 2 * i);
    release(a, 3);
    if (!fits) return NULL;
    Py_RETURN_NONE;
}

/* places (N, 2) float32, width, height -> columns and rows of the nearest pixels (2, N). */
PyObject *kernel_pixels(PyObject *module, PyObject *const *given, Py_ssize_t count) {
    Arg a[4];
    if (take("pixels", given, count, "fiiN", a)) return NULL;
    Py_ssize_t n = a[0].rows;
    int fits = fit("pixels", a[0].size == 2 * n && a[3].size == 2 * n);
    for (Py_ssize_t i = 0; fits && i < 2 * n; i++) {
        double at = nearbyint((double)((const float *)a[0].buffer.buf)[i]), most = (double)(a[1 + i % 2].i - 1);
        I64W(a[3])[i % 2 * n + i / 2] = (int64_t)(at > 0 ? at < most ? at : most : 0);
    }
    release(a, 4);
    if (!fits) return NULL;
    Py_RETURN_NONE;
}

static Py_ssize_t inside(Py_ssize_t at, Py_ssize_t size) { return at < 0 ? 0 : at < size ? at : size - 1; }

/* depth (H, W) uint16 or float32, unit in metres, columns and rows (N) of pixels, range in metres, edge
 * -> inverse depths (N). */
PyObject *kernel_inverse_depths(PyObject *module, PyObject *const *given, Py_ssize_t count) {
    Arg a[8];
    Py_buffer probe;
    if (count != 8 || PyObject_GetBuffer(given[0], &probe, PyBUF_FORMAT)) {
        if (!PyErr_Occurred()) PyErr_SetString(PyExc_TypeError, "inverse_depths takes 8 arguments");
        return NULL;
    }
    int raw = probe.itemsize == 2;
    PyBuffer_Release(&probe);
    if (take("inverse_depths", given, count, raw ? "hxnnxxxD" : "fxnnxxxD", a)) return NULL;
    Py_ssize_t n = a[2].size, height = a[0].rows, width = a[0].columns;
    int fits = fit("inverse_depths", a[3].size == n && a[7].size == n && (!n || a[0].size));
    for (Py_ssize_t i = 0; fits && i < n; i++) {
        double z[9], out = 0.0;
        int valid = 0;
        for (int dv = -1; dv <= 1; dv++)
            for (int du = -1; du <= 1; du++) {
                Py_ssize_t at = inside(I64(a[3])[i] + dv, height) * width + inside(I64(a[2])[i] + du, width);
                double stored = raw ? ((const uint16_t *)a[0].buffer.buf)[at] : ((const float *)a[0].buffer.buf)[at];
                double m = (double)(float)(stored * a[1].x);
                if (!(m > 0.0 && m < INFINITY)) continue;
                int k = valid++; /* sorted as they come */
                for (; k > 0 && z[k - 1] > m; k--) z[k] = z[k - 1];
                z[k] = m;
            }
        if (valid >= 5) {
            double median = z[(valid - 1) / 2];
            if (median >= a[4].x && median <= a[5].x && z[valid - 1] <= z[0] + a[6].x * median) out = 1.0 / median;
        }
        F64W(a[7])[i] = out;
    }
    release(a, 8);
    if (!fits) return NULL;
    Py_RETURN_NONE;
}

/* What a pose sees of a point, on the plane; 0 where it is not in the image. */
static int sees(const double *T, const double *bounds, const double *xyz, double *xy) {
    double z = T[8] * xyz[0] + T[9] * xyz[1] + T[10] * xyz[2] + T[11], q = 1.0 / (z > 1e-3 ? z : 1e-3);
    xy[0] = (T[0] * xyz[0] + T[1] * xyz[1] + T[2] * xyz[2] + T[3]) * q;
    xy[1] = (T[4] * xyz[0] + T[5] * xyz[1] + T[6] * xyz[2] + T[7]) * q;
    xy[2] = z;
    return z > 0.1 && xy[0] > bounds[0] && xy[1] > bounds[1] && xy[0] < bounds[2] && xy[1] < bounds[3];
}

/* numbers of points (L), alive (M), xyz (M, 3), pose (4, 4), bounds (2, 2), focal lengths (2)
 * -> numbers (L), pixels (L, 2); how many. */
PyObject *kernel_visible(PyObject *module, PyObject *const *given, Py_ssize_t count) {
    Arg a[8];
    if (take("visible", given, count, "nbddddND", a)) return NULL;
    Py_ssize_t n = a[0].size, seen = 0, all = a[1].size;
    int fits = a[2].size == 3 * all && a[3].size == 16 && a[4].size == 4 && a[5].size == 2 && a[6].size == n && a[7].size == 2 * n;
    for (Py_ssize_t i = 0; fits && i < n; i++) {
        int64_t k = I64(a[0])[i];
        double xy[3];
        if (k < 0 || k >= all) {
            fits = 0;
            break;
        }
        if (!U8(a[1])[k] || !sees(F64(a[3]), F64(a[4]), F64(a[2]) + 3 * k, xy)) continue;
        I64W(a[6])[seen] = k;
        F64W(a[7])[2 * seen] = xy[0] * F64(a[5])[0], F64W(a[7])[2 * seen++ + 1] = xy[1] * F64(a[5])[1];
    }
    fits = fit("visible", fits);
    release(a, 8);
    return fits ? PyLong_FromSsize_t(seen) : NULL;
}

/* grid (H, W) float32 of nearest depths, pixels a cell, pose (4, 4), xyz (M, 3), numbers of points (N), bounds (2, 2),
 * lens (9), margin in 1/m, margin as a share -> bool (N): the pose looks through. */
PyObject *kernel_seen_through(PyObject *module, PyObject *const *given, Py_ssize_t count) {
    Arg a[10];
    if (take("seen_through", given, count, "fxddnddxxB", a)) return NULL;
    Py_ssize_t n = a[4].size, all = a[3].rows, height = a[0].rows, width = a[0].columns;
    int fits = a[2].size == 16 && a[3].size == 3 * all && a[5].size == 4 && a[6].size == 9 && a[9].size == n && (!n || a[0].size);
    for (Py_ssize_t i = 0; fits && i < n; i++) {
        int64_t k = I64(a[4])[i];
        double xy[3], uv[2];
        if (k < 0 || k >= all) {
            fits = 0;
            break;
        }
        U8W(a[9])[i] = 0;
        if (!sees(F64(a[2]), F64(a[5]), F64(a[3]) + 3 * k, xy)) continue;
        distorted(F64(a[6]), xy[0], xy[1], uv);
        Py_ssize_t row = inside((Py_ssize_t)(uv[1] / a[1].x), height), column = inside((Py_ssize_t)(uv[0] / a[1].x), width);
        double behind = ((const float *)a[0].buffer.buf)[row * width + column];
        U8W(a[9])[i] = behind > 0 && 1.0 / xy[2] - 1.0 / behind > a[7].x + a[8].x / xy[2];
    }
    fits = fit("seen_through", fits);
    release(a, 10);
    if (!fits) return NULL;
    Py_RETURN_NONE;
}
