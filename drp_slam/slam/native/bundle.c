/* SPDX-License-Identifier: Apache-2.0 */
/* Bundle adjustment of a window: `bundle.adjust`. Levenberg-Marquardt; points are eliminated one by one. */
#include "pose.h"

static const double CHI2_PIXEL = 5.99, CHI2_DEPTH = 3.84, SMALL_FALL = 1e-3;

typedef struct {
    Py_ssize_t observations, points, poses, free;
    const int64_t *camera, *point;
    const double *xy, *depth, *noise;
    const int64_t *first, *of_point; /* observations by point: those of m are of_point[first[m]] to of_point[first[m + 1]] */
} Problem;

/* Point in the camera's frame, and the three residuals. */
static void residual(const Problem *q, const double *poses, const double *points, Py_ssize_t o, double *p, double *r) {
    const double *T = poses + 16 * q->camera[o], *X = points + 3 * q->point[o];
    for (int i = 0; i < 3; i++) p[i] = T[4 * i] * X[0] + T[4 * i + 1] * X[1] + T[4 * i + 2] * X[2] + T[4 * i + 3];
    double near = 1.0 / (p[2] > NEAR_M ? p[2] : NEAR_M);
    r[0] = q->noise[0] * (p[0] * near - q->xy[2 * o]), r[1] = q->noise[1] * (p[1] * near - q->xy[2 * o + 1]);
    r[2] = q->depth[o] > 0 ? q->noise[2] * (near - q->depth[o]) : 0.0;
}

static double huber(double square, double limit2, double *weight) {
    double size = sqrt(square), limit = sqrt(limit2);
    int outside = size > limit;
    *weight = outside ? limit / size : 1.0;
    return outside ? limit * (2.0 * size - limit) : square;
}

static double cost_of(const Problem *q, const double *poses, const double *points) {
    double cost = 0.0, p[3], r[3], w;
    for (Py_ssize_t o = 0; o < q->observations; o++) {
        residual(q, poses, points, o, p, r);
        cost += huber(r[0] * r[0] + r[1] * r[1], CHI2_PIXEL, &w);
        cost += huber(r[2] * r[2], CHI2_DEPTH, &w);
    }
    return cost;
}

/* One damped step from poses and points to new ones. `W` (observations, 6, 3), `S` (6 free, 6 free + 1). */
static void step(const Problem *q, const double *poses, const double *points, double damping, double *W, double *back,
                 double *S, double *new_poses, double *new_points) {
    Py_ssize_t size = 6 * q->free;
    double *right = S + size * size, *U = right + size; /* U: diagonal of the poses' own blocks */
    memset(S, 0, sizeof(double) * (size_t)(size * size + 2 * size));
    for (Py_ssize_t m = 0; m < q->points; m++) {
        double V[6] = {0}, gradient[3] = {0};
        for (int64_t k = q->first[m]; k < q->first[m + 1]; k++) {
            int64_t o = q->of_point[k], c = q->camera[o];
            const double *T = poses + 16 * c;
            double p[3], r[3], w[3], J[3][6], JP[3][3];
            residual(q, poses, points, o, p, r);
            huber(r[0] * r[0] + r[1] * r[1], CHI2_PIXEL, w);
            huber(r[2] * r[2], CHI2_DEPTH, w + 2);
            w[1] = w[0];
            double near = 1.0 / (p[2] > NEAR_M ? p[2] : NEAR_M), plane[3] = {p[0] * near, p[1] * near, near};
            double d = q->depth[o] > 0 ? -q->noise[2] * near * near : 0.0;
            for (int j = 0; j < 3; j++) {
                JP[0][j] = q->noise[0] * near * (T[j] - plane[0] * T[8 + j]);
                JP[1][j] = q->noise[1] * near * (T[4 + j] - plane[1] * T[8 + j]);
                JP[2][j] = d * T[8 + j];
            }
            for (int a = 0, n = 0; a < 3; a++) {
                for (int i = 0; i < 3; i++) gradient[a] += w[i] * JP[i][a] * r[i];
                for (int b = a; b < 3; b++, n++)
                    for (int i = 0; i < 3; i++) V[n] += w[i] * JP[i][a] * JP[i][b];
            }
            if (c >= q->free) continue;
            jacobian(plane, q->depth[o] > 0, q->noise, J);
            for (int i = 0; i < 3; i++)
                for (int a = 0; a < 6; a++) {
                    double left = w[i] * J[i][a];
                    right[6 * c + a] -= left * r[i];
                    for (int b = 0; b <= a; b++) S[(6 * c + a) * size + 6 * c + b] += left * J[i][b];
                }
            for (int a = 0; a < 6; a++)
                for (int b = 0; b < 3; b++)
                    W[18 * o + 3 * a + b] = w[0] * (J[0][a] * JP[0][b] + J[1][a] * JP[1][b]) + w[2] * J[2][a] * JP[2][b];
        }
        V[0] += damping * V[0] + 1e-9, V[3] += damping * V[3] + 1e-9, V[5] += damping * V[5] + 1e-9;
        double I[6] = {V[3] * V[5] - V[4] * V[4], V[2] * V[4] - V[1] * V[5], V[1] * V[4] - V[2] * V[3],
                       V[0] * V[5] - V[2] * V[2], V[1] * V[2] - V[0] * V[4], V[0] * V[3] - V[1] * V[1]};
        double determinant = V[0] * I[0] + V[1] * I[1] + V[2] * I[2];
        double *inverse = back + 12 * m;
        for (int a = 0, n = 0; a < 3; a++)
            for (int b = a; b < 3; b++, n++) inverse[3 * a + b] = inverse[3 * b + a] = I[n] / determinant;
        memcpy(inverse + 9, gradient, sizeof gradient);
    }
    for (Py_ssize_t k = 0; k < size; k++) U[k] = S[k * size + k];
    for (Py_ssize_t m = 0; m < q->points; m++) {
        const double *inverse = back + 12 * m;
        for (int64_t k = q->first[m]; k < q->first[m + 1]; k++) {
            int64_t o = q->of_point[k], c = q->camera[o];
            double Y[6][3];
            if (c >= q->free) continue;
            for (int a = 0; a < 6; a++) {
                for (int b = 0; b < 3; b++)
                    Y[a][b] = W[18 * o + 3 * a] * inverse[b] + W[18 * o + 3 * a + 1] * inverse[3 + b] + W[18 * o + 3 * a + 2] * inverse[6 + b];
                right[6 * c + a] += Y[a][0] * inverse[9] + Y[a][1] * inverse[10] + Y[a][2] * inverse[11];
            }
            for (int64_t l = q->first[m]; l <= k; l++) { /* a point's observations are in the order of the cameras */
                int64_t other = q->of_point[l], e = q->camera[other];
                const double *E = W + 18 * other;
                for (int a = 0; a < 6; a++)
                    for (int b = 0; b < 6; b++)
                        S[(6 * c + a) * size + 6 * e + b] -= Y[a][0] * E[3 * b] + Y[a][1] * E[3 * b + 1] + Y[a][2] * E[3 * b + 2];
            }
        }
    }
    for (Py_ssize_t k = 0; k < size; k++) S[k * size + k] += damping * U[k] + 1e-9;
    solve(S, right, (int)size);
    for (Py_ssize_t c = 0; c < q->free; c++) moved(right + 6 * c, poses + 16 * c, new_poses + 16 * c);
    for (Py_ssize_t m = 0; m < q->points; m++) {
        const double *inverse = back + 12 * m;
        double g[3] = {inverse[9], inverse[10], inverse[11]};
        for (int64_t k = q->first[m]; k < q->first[m + 1]; k++) {
            int64_t o = q->of_point[k], c = q->camera[o];
            if (c >= q->free) continue;
            for (int b = 0; b < 3; b++)
                for (int a = 0; a < 6; a++) g[b] += W[18 * o + 3 * a + b] * right[6 * c + a];
        }
        for (int a = 0; a < 3; a++)
            new_points[3 * m + a] = points[3 * m + a] - (inverse[3 * a] * g[0] + inverse[3 * a + 1] * g[1] + inverse[3 * a + 2] * g[2]);
    }
}

/* poses (K, 4, 4) and points (M, 3), both written; camera (n), point (n), rays (n, 2), inverse depths (n), noise (3),
 * free poses, iterations -> squared errors (n) of pixels and depth; (cost, iterations). */
PyObject *kernel_adjust(PyObject *module, PyObject *const *given, Py_ssize_t count) {
    Arg a[11];
    if (take("adjust", given, count, "DDnndddiiDD", a)) return NULL;
    Problem q = {a[2].size, a[1].rows, a[0].rows, a[7].i, I64(a[2]), I64(a[3]), F64(a[4]), F64(a[5]), F64(a[6]), NULL, NULL};
    Py_ssize_t n = q.observations, size = 6 * q.free, iterations = 0;
    int fits = a[0].size == 16 * q.poses && a[1].size == 3 * q.points && a[3].size == n && a[4].size == 2 * n && a[5].size == n &&
               a[6].size == 3 && q.free >= 0 && q.free <= q.poses && a[9].size == n && a[10].size == n;
    for (Py_ssize_t o = 0; fits && o < n; o++)
        fits = q.camera[o] >= 0 && q.camera[o] < q.poses && q.point[o] >= 0 && q.point[o] < q.points && (!o || q.camera[o] >= q.camera[o - 1]);
    double *work = NULL, cost = 0.0;
    int64_t *first = NULL;
    if (fit("adjust", fits)) {
        work = PyMem_RawMalloc(sizeof(double) * (size_t)(18 * n + 15 * q.points + 16 * q.poses + size * size + 2 * size + 1));
        first = PyMem_RawCalloc((size_t)(q.points + 2 + n), sizeof(int64_t));
        if (!work || !first) PyErr_NoMemory();
    }
    if (!work || !first) {
        PyMem_RawFree(work), PyMem_RawFree(first);
        release(a, 11);
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS;
    int64_t *of_point = first + q.points + 2;
    for (Py_ssize_t o = 0; o < n; o++) first[q.point[o] + 2]++;
    for (Py_ssize_t m = 0; m < q.points; m++) first[m + 2] += first[m + 1];
    for (Py_ssize_t o = 0; o < n; o++) of_point[first[q.point[o] + 1]++] = o;
    q.first = first, q.of_point = of_point;
    double *W = work, *back = W + 18 * n, *new_points = back + 12 * q.points, *new_poses = new_points + 3 * q.points;
    double *S = new_poses + 16 * q.poses, *poses = F64W(a[0]), *points = F64W(a[1]), damping = 1e-4;
    memcpy(new_poses, poses, sizeof(double) * (size_t)(16 * q.poses));
    for (Py_ssize_t c = 0; c < q.free; c++) rotation_of(new_poses + 16 * c, poses + 16 * c);
    cost = cost_of(&q, poses, points);
    while (iterations < a[8].i) {
        step(&q, poses, points, damping, W, back, S, new_poses, new_points);
        iterations++;
        double new_cost = cost_of(&q, new_poses, new_points);
        if (!(new_cost < cost)) { /* also when not finite */
            damping *= 10.0;
            continue;
        }
        int small = cost - new_cost < SMALL_FALL * cost;
        memcpy(poses, new_poses, sizeof(double) * (size_t)(16 * q.free));
        memcpy(points, new_points, sizeof(double) * (size_t)(3 * q.points));
        cost = new_cost;
        damping = damping * 0.1 > 1e-7 ? damping * 0.1 : 1e-7;
        if (small) break;
    }
    for (Py_ssize_t o = 0; o < n; o++) {
        double p[3], r[3];
        residual(&q, poses, points, o, p, r);
        F64W(a[9])[o] = p[2] > NEAR_M ? r[0] * r[0] + r[1] * r[1] : INFINITY;
        F64W(a[10])[o] = r[2] * r[2];
    }
    Py_END_ALLOW_THREADS;
    PyMem_RawFree(work), PyMem_RawFree(first);
    release(a, 11);
    return Py_BuildValue("dn", cost, iterations);
}
