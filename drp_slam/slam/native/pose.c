/* SPDX-License-Identifier: Apache-2.0 */
/* Pose of one frame: `optimize.refine_pose`, `optimize.errors2`. */
#include "pose.h"

static const double CHI2_PIXEL = 5.99, CHI2_DEPTH = 3.84, SMALL_STEP = 2e-5;

void moved(const double step[6], const double T[16], double out[16]) {
    double x = step[3], y = step[4], z = step[5], square = x * x + y * y + z * z, angle = sqrt(square), a, b, c;
    if (angle < 1e-4) {
        a = 1.0 - square / 6.0, b = 0.5 - square / 24.0, c = 1.0 / 6.0 - square / 120.0;
    } else {
        double half = sin(0.5 * angle);
        a = sin(angle) / angle, b = 2.0 * half * half / square, c = (1.0 - a) / square;
    }
    double ux = y * step[2] - z * step[1], uy = z * step[0] - x * step[2], uz = x * step[1] - y * step[0];
    double E[12] = {1.0 - b * (y * y + z * z), b * x * y - a * z, b * x * z + a * y,
                    step[0] + b * ux + c * (y * uz - z * uy),
                    b * x * y + a * z, 1.0 - b * (x * x + z * z), b * y * z - a * x,
                    step[1] + b * uy + c * (z * ux - x * uz),
                    b * x * z - a * y, b * y * z + a * x, 1.0 - b * (x * x + y * y),
                    step[2] + b * uz + c * (x * uy - y * ux)};
    double moved_T[16] = {0};
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 4; j++)
            moved_T[4 * i + j] = E[4 * i] * T[j] + E[4 * i + 1] * T[4 + j] + E[4 * i + 2] * T[8 + j] + (j == 3 ? E[4 * i + 3] : 0.0);
    moved_T[15] = 1.0;
    memcpy(out, moved_T, sizeof moved_T);
}

void project(const double *T, const double *xyz, const double *xy, double depth, const double *noise, double *p,
                    double *r) {
    double X = xyz[0], Y = xyz[1], Z = xyz[2], z = T[8] * X + T[9] * Y + T[10] * Z + T[11];
    double q = 1.0 / (z > NEAR_M ? z : NEAR_M);
    p[0] = (T[0] * X + T[1] * Y + T[2] * Z + T[3]) * q;
    p[1] = (T[4] * X + T[5] * Y + T[6] * Z + T[7]) * q;
    p[2] = q, p[3] = z > NEAR_M;
    r[0] = noise[0] * (p[0] - xy[0]), r[1] = noise[1] * (p[1] - xy[1]);
    r[2] = depth > 0 ? noise[2] * (q - depth) : 0.0;
}

void squares(const double *T, const double *xyz, const double *xy, const double *depth, const double *noise,
                    Py_ssize_t n, double *pixel2, double *depth2) {
    for (Py_ssize_t i = 0; i < n; i++) {
        double p[4], r[3];
        project(T, xyz + 3 * i, xy + 2 * i, depth[i], noise, p, r);
        pixel2[i] = p[3] ? r[0] * r[0] + r[1] * r[1] : INFINITY;
        depth2[i] = r[2] * r[2];
    }
}

void jacobian(const double p[3], int depth, const double *noise, double J[3][6]) {
    double x = p[0], y = p[1], q = p[2], fx = noise[0], fy = noise[1], d = depth ? -noise[2] * q : 0.0;
    J[0][0] = fx * q, J[0][1] = 0, J[0][2] = -x * fx * q, J[0][3] = -fx * x * y, J[0][4] = fx * (1 + x * x), J[0][5] = -fx * y;
    J[1][0] = 0, J[1][1] = fy * q, J[1][2] = -y * fy * q, J[1][3] = -fy * (1 + y * y), J[1][4] = fy * x * y, J[1][5] = fy * x;
    J[2][0] = 0, J[2][1] = 0, J[2][2] = d * q, J[2][3] = d * y, J[2][4] = -d * x, J[2][5] = 0;
}

/* Normal equations H (6, 6), g (6) of the rows marked in `part`, of all where it is NULL. */
static void normal(const double *p, const double *r, const double *depth, const double *noise, const double *w,
                   const uint8_t *part, Py_ssize_t n, double *H, double *g) {
    memset(H, 0, 36 * sizeof(double)), memset(g, 0, 6 * sizeof(double));
    for (Py_ssize_t i = 0; i < n; i++) {
        double J[3][6], JW[3][6];
        if (part && !part[i]) continue;
        jacobian(p + 4 * i, depth[i] > 0, noise, J);
        for (int j = 0; j < 6; j++) JW[0][j] = w[2 * i] * J[0][j], JW[1][j] = w[2 * i] * J[1][j], JW[2][j] = w[2 * i + 1] * J[2][j];
        for (int j = 0; j < 6; j++) {
            g[j] += JW[0][j] * r[3 * i] + JW[1][j] * r[3 * i + 1] + JW[2][j] * r[3 * i + 2];
            for (int k = 0; k <= j; k++) H[6 * j + k] += JW[0][j] * J[0][k] + JW[1][j] * J[1][k] + JW[2][j] * J[2][k];
        }
    }
    for (int j = 0; j < 6; j++) {
        H[7 * j] += 1e-6;
        for (int k = 0; k < j; k++) H[6 * k + j] = H[6 * j + k];
    }
}

static void step_of(const double *H, const double *g, double step[6]) {
    double A[36];
    memcpy(A, H, sizeof A);
    for (int j = 0; j < 6; j++) step[j] = -g[j];
    solve(A, step, 6);
}

void rotation_of(const double S[16], double T[16]) {
    memcpy(T, S, 16 * sizeof(double));
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) {
            double value = 1.5 * S[4 * i + j];
            for (int k = 0; k < 3; k++) value -= 0.5 * S[4 * i + k] * (S[k] * S[j] + S[4 + k] * S[4 + j] + S[8 + k] * S[8 + j]);
            T[4 * i + j] = value;
        }
}

Py_ssize_t gauss_newton(const double *S, Fit *f) {
    double *p = f->work, *r = p + 4 * f->n, *w = r + 3 * f->n, *pixel2 = w + 2 * f->n, *among = pixel2 + f->n, *T = f->T;
    double g[6], step[6];
    Py_ssize_t full = 0, done = 0;
    memset(f->H, 0, sizeof f->H);
    for (int j = 0; j < 6; j++) f->H[7 * j] = 1.0;
    rotation_of(S, T);
    for (Py_ssize_t i = 0; f->weight && i < f->n; i++) full += f->weight[i] >= 1.0;
    int some = f->weight && full >= f->least;
    while (done < f->iterations) {
        Py_ssize_t k = 0;
        for (Py_ssize_t i = 0; i < f->n; i++) {
            project(T, f->xyz + 3 * i, f->xy + 2 * i, f->depth[i], f->noise, p + 4 * i, r + 3 * i);
            pixel2[i] = r[3 * i] * r[3 * i] + r[3 * i + 1] * r[3 * i + 1];
            if (!some || f->weight[i] >= 1.0) among[k++] = pixel2[i];
        }
        /* Cauchy weights; their scale is the median error, but not below the noise */
        double scale2 = k ? smallest(among, k, k / 2) : 1.0;
        if (!(scale2 > 1.0)) scale2 = 1.0;
        for (Py_ssize_t i = 0; i < f->n; i++) {
            double d = r[3 * i + 2];
            w[2 * i] = p[4 * i + 3] / (1.0 + pixel2[i] / (CHI2_PIXEL * scale2)) * (f->weight ? f->weight[i] : 1.0);
            w[2 * i + 1] = w[2 * i] / (1.0 + d * d / (CHI2_DEPTH * scale2));
        }
        normal(p, r, f->depth, f->noise, w, NULL, f->n, f->H, g);
        step_of(f->H, g, step);
        moved(step, T, T);
        done++;
        double largest = 0.0;
        for (int j = 0; j < 6; j++) largest = fabs(step[j]) < largest ? largest : fabs(step[j]);
        if (largest < SMALL_STEP) break;
    }
    return done;
}

void covariance_of(const double *H, double *C) {
    for (int j = 0; j < 6; j++) {
        double A[36], unit[6] = {0};
        unit[j] = 1.0;
        memcpy(A, H, sizeof A);
        solve(A, unit, 6);
        for (int k = 0; k < 6; k++) C[6 * j + k] = unit[k];
    }
}

/* T (4, 4), xyz (N, 3), xy (N, 2), depth (N), noise (3), weight (N) or (0), part (N) or (0), iterations, least of
 * full weight -> pose (4, 4), covariance (6, 6), squared errors (N) twice, pull (6); (iterations, squared pull). */
PyObject *kernel_refine(PyObject *module, PyObject *const *given, Py_ssize_t count) {
    Arg a[14];
    if (take("refine", given, count, "ddddddbiiDDDDD", a)) return NULL;
    Py_ssize_t n = a[1].rows, m = a[5].size, done = 0;
    int fits = a[0].size == 16 && a[1].size == 3 * n && a[2].size == 2 * n && a[3].size == n && a[4].size == 3 &&
               (m == n || !m) && (a[6].size == n || !a[6].size) && a[9].size == 16 && a[10].size == 36 &&
               a[11].size == n && a[12].size == n && a[13].size == 6;
    double *work = fit("refine", fits) ? PyMem_RawMalloc(sizeof(double) * (size_t)(11 * n + 1)) : NULL, pull2 = 0.0;
    if (!work) {
        release(a, 14);
        return PyErr_Occurred() ? NULL : PyErr_NoMemory();
    }
    Py_BEGIN_ALLOW_THREADS;
    Fit f = {n, a[7].i, a[8].i, F64(a[1]), F64(a[2]), F64(a[3]), F64(a[4]), m ? F64(a[5]) : NULL, work, {0}, {0}};
    double *pull = F64W(a[13]), *p = work, *r = p + 4 * n, *w = r + 3 * n, A[36], g[6];
    done = gauss_newton(F64(a[0]), &f);
    memcpy(F64W(a[9]), f.T, sizeof f.T);
    memset(pull, 0, sizeof g);
    if (a[6].size && done) {
        normal(p, r, f.depth, f.noise, w, U8(a[6]), n, A, g);
        step_of(A, g, pull);
        for (int j = 0; j < 6; j++) pull2 -= pull[j] * g[j];
    }
    covariance_of(f.H, F64W(a[10]));
    squares(f.T, f.xyz, f.xy, f.depth, f.noise, n, F64W(a[11]), F64W(a[12]));
    Py_END_ALLOW_THREADS;
    PyMem_RawFree(work);
    release(a, 14);
    return Py_BuildValue("nd", done, pull2);
}

/* T (4, 4), xyz (N, 3), xy (N, 2), depth (N), noise (3) -> squared errors (N) of pixels and depth. */
PyObject *kernel_errors2(PyObject *module, PyObject *const *given, Py_ssize_t count) {
    Arg a[7];
    if (take("errors2", given, count, "dddddDD", a)) return NULL;
    Py_ssize_t n = a[1].rows;
    int fits = fit("errors2", a[0].size == 16 && a[1].size == 3 * n && a[2].size == 2 * n && a[3].size == n &&
                                  a[4].size == 3 && a[5].size == n && a[6].size == n);
    if (fits) squares(F64(a[0]), F64(a[1]), F64(a[2]), F64(a[3]), F64(a[4]), n, F64W(a[5]), F64W(a[6]));
    release(a, 7);
    if (!fits) return NULL;
    Py_RETURN_NONE;
}
