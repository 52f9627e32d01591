/* SPDX-License-Identifier: Apache-2.0 */
/* What a fit leaves open, and the velocity: `uncertainty`. */
#include "arrays.h"

/* Squared errors of pixels and depth (N), gates of both -> how many are within both, and the sum of their errors. */
PyObject *kernel_within(PyObject *module, PyObject *const *given, Py_ssize_t count) {
    Arg a[4];
    if (take("within", given, count, "ddxx", a)) return NULL;
    Py_ssize_t inside = 0;
    double sum = 0.0;
    int fits = fit("within", a[0].size == a[1].size);
    for (Py_ssize_t i = 0; fits && i < a[0].size; i++) {
        double pixel2 = F64(a[0])[i], depth2 = F64(a[1])[i];
        if (pixel2 < a[2].x && depth2 < a[3].x) inside++, sum += pixel2 + depth2;
    }
    release(a, 4);
    return fits ? Py_BuildValue("nd", inside, sum) : NULL;
}

/* `geometry.adjoint(geometry.inverse(T))` (6, 6) of T (3, 4). */
static void adjoint_of_inverse(const double *T, double *A) {
    double R[9], t[3];
    memset(A, 0, 36 * sizeof(double));
    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < 3; j++) R[3 * i + j] = T[4 * j + i];
        t[i] = -(T[i] * T[3] + T[4 + i] * T[7] + T[8 + i] * T[11]);
    }
    for (int j = 0; j < 3; j++) {
        for (int i = 0; i < 3; i++) A[6 * i + j] = A[6 * (i + 3) + j + 3] = R[3 * i + j];
        A[j + 3] = t[1] * R[6 + j] - t[2] * R[3 + j];
        A[6 + j + 3] = t[2] * R[j] - t[0] * R[6 + j];
        A[12 + j + 3] = t[0] * R[3 + j] - t[1] * R[j];
    }
}

/* D += A C A^T, all (6, 6). */
static void add_carried(const double *A, const double *C, double *D) {
    double AC[36];
    for (int i = 0; i < 6; i++)
        for (int j = 0; j < 6; j++) {
            AC[6 * i + j] = 0.0;
            for (int m = 0; m < 6; m++) AC[6 * i + j] += A[6 * i + m] * C[6 * m + j];
        }
    for (int i = 0; i < 6; i++)
        for (int j = 0; j < 6; j++)
            for (int m = 0; m < 6; m++) D[6 * i + j] += AC[6 * i + m] * A[6 * j + m];
}

/* pose T_world_camera (4, 4); of keyframes: poses T_camera_world (K, 4, 4), covariances (K, 6, 6); of points: the keyframe
 * that created them (M), whether their depth is measured (M); those that the frame was tracked by (N), its own covariance
 * (6, 6), number of matches from which it has the drift of a keyframe -> the sum for the keyframe that leaves the position
 * least open (6, 6), as `uncertainty.Uncertainty._drift` says; False where the scale is not measured. */
PyObject *kernel_drift(PyObject *module, PyObject *const *given, Py_ssize_t count) {
    Arg a[9];
    if (take("drift", given, count, "dddnbndiD", a)) return NULL;
    Py_ssize_t n = a[5].size, keyframes = a[1].rows, all = a[3].size, measured = 0, most = 0;
    int fits = a[0].size == 16 && a[2].size == 36 * keyframes && a[4].size == all && a[6].size == 36 && a[8].size == 36 && n;
    int64_t *made = PyMem_RawCalloc((size_t)keyframes + 1, sizeof(int64_t));
    for (Py_ssize_t i = 0; made && fits && i < n; i++) {
        int64_t point = I64(a[5])[i], k = point >= 0 && point < all ? I64(a[3])[point] : -1;
        if (!(fits = k >= 0 && k < keyframes)) break;
        made[k]++, measured += U8(a[4])[point];
        most = made[k] > most ? made[k] : most;
    }
    Py_ssize_t least_made = a[7].i < most ? a[7].i : most;
    int scaled = measured >= (a[7].i < n ? a[7].i : n), first = 1;
    double least = INFINITY;
    for (Py_ssize_t k = 0; made && fits && scaled && k < keyframes; k++) {
        if (!made[k] || made[k] < least_made) continue;
        double T[12], A[36], D[36], trace = 0.0;
        const double *W = F64(a[0]), *P = F64(a[1]) + 16 * k, *C = F64(a[2]) + 36 * k, *own = F64(a[6]);
        double spread = (double)n / (double)made[k] - 1.0;
        for (int i = 0; i < 3; i++) /* of the keyframe from the camera, then its inverse */
            for (int j = 0; j < 4; j++)
                T[4 * i + j] = P[4 * i] * W[j] + P[4 * i + 1] * W[4 + j] + P[4 * i + 2] * W[8 + j] + (j == 3 ? P[4 * i + 3] : 0.0);
        adjoint_of_inverse(T, A);
        for (int i = 0; i < 36; i++) D[i] = own[i] * spread;
        add_carried(A, C, D);
        for (int i = 0; i < 3; i++) trace += D[7 * i];
        if (trace < least || first) {
            least = trace, first = 0;
            memcpy(F64W(a[8]), D, sizeof D);
        }
    }
    fits = made ? fit("drift", fits) : (PyErr_NoMemory(), 0);
    PyMem_RawFree(made);
    release(a, 9);
    return fits ? PyBool_FromLong(scaled) : NULL;
}

/* `geometry.log` of T (3, 4). */
static void log_of(const double *T, double *xi) {
    double x = T[9] - T[6], y = T[2] - T[8], z = T[4] - T[1], xx = T[0], yy = T[5], zz = T[10];
    double squares[4] = {1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz, 1 + xx + yy + zz};
    double rows[4][4] = {{squares[0], T[4] + T[1], T[2] + T[8], x}, {T[4] + T[1], squares[1], T[9] + T[6], y},
                         {T[2] + T[8], T[9] + T[6], squares[2], z}, {x, y, z, squares[3]}};
    int largest = 0;
    for (int i = 1; i < 4; i++) largest = squares[i] > squares[largest] ? i : largest;
    double *q = rows[largest], length = copysign(sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3]), q[3]), k;
    for (int i = 0; i < 4; i++) q[i] /= length;
    double sine = sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2]), scale = sine < 1e-9 ? 2.0 : 2.0 * atan2(sine, q[3]) / sine;
    double w[3] = {scale * q[0], scale * q[1], scale * q[2]}, t[3] = {T[3], T[7], T[11]};
    double square = w[0] * w[0] + w[1] * w[1] + w[2] * w[2], angle = sqrt(square), half = sin(0.5 * angle);
    if (angle < 1e-4) k = 1.0 / 12.0 + square / 720.0;
    else k = (1.0 - sin(angle) / angle * square / (4.0 * half * half)) / square;
    double u[3] = {w[1] * t[2] - w[2] * t[1], w[2] * t[0] - w[0] * t[2], w[0] * t[1] - w[1] * t[0]};
    double v[3] = {w[1] * u[2] - w[2] * u[1], w[2] * u[0] - w[0] * u[2], w[0] * u[1] - w[1] * u[0]};
    for (int i = 0; i < 3; i++) xi[i] = t[i] - 0.5 * u[i] + k * v[i], xi[3 + i] = w[i];
}

/* poses T_world_camera (4, 4) and covariances (6, 6) of a first and a last frame, seconds between them
 * -> velocity along the last one's axes and its covariance (7, 6). */
PyObject *kernel_twist(PyObject *module, PyObject *const *given, Py_ssize_t count) {
    Arg a[6];
    if (take("twist", given, count, "ddddxD", a)) return NULL;
    int fits = fit("twist", a[0].size == 16 && a[1].size == 16 && a[2].size == 36 && a[3].size == 36 && a[5].size == 42);
    if (fits) {
        const double *F = F64(a[0]), *L = F64(a[1]);
        double T[12], A[36], *out = F64W(a[5]), span = a[4].x;
        for (int i = 0; i < 3; i++) /* inverse(first) @ last */
            for (int j = 0; j < 4; j++) {
                T[4 * i + j] = 0.0;
                for (int m = 0; m < 3; m++) T[4 * i + j] += F[4 * m + i] * (L[4 * m + j] - (j == 3 ? F[4 * m + 3] : 0.0));
            }
        log_of(T, out);
        adjoint_of_inverse(T, A);
        memcpy(out + 6, F64(a[3]), 36 * sizeof(double));
        add_carried(A, F64(a[2]), out + 6);
        for (int i = 0; i < 42; i++) out[i] /= i < 6 ? span : span * span;
    }
    release(a, 6);
    if (!fits) return NULL;
    Py_RETURN_NONE;
}
