/* SPDX-License-Identifier: Apache-2.0 */
/* Matching near expected places, `matching.match` with a prior; votes of place recognition, `places`. */
#include "arrays.h"

enum { MOST_CELLS = 256 };

typedef float Four __attribute__((vector_size(16)));

/* Sixteen sums side by side: four vectors' worth, in an order that no compiler changes. */
static float dot(const float *a, const float *b, Py_ssize_t n) {
    Four sum[4] = {{0}}, x, y;
    Py_ssize_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int k = 0; k < 4; k++) {
            memcpy(&x, a + i + 4 * k, 16), memcpy(&y, b + i + 4 * k, 16);
            sum[k] += x * y;
        }
    sum[0] = (sum[0] + sum[2]) + (sum[1] + sum[3]);
    float rest = 0.0f;
    for (; i < n; i++) rest += a[i] * b[i];
    return ((sum[0][0] + sum[0][2]) + (sum[0][1] + sum[0][3])) + rest;
}

static int bits_apart(const uint8_t *a, const uint8_t *b, Py_ssize_t n) {
    int apart = 0;
    Py_ssize_t i = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t x, y;
        memcpy(&x, a + i, 8), memcpy(&y, b + i, 8);
        apart += __builtin_popcountll(x ^ y);
    }
    for (; i < n; i++) apart += __builtin_popcount((unsigned)(a[i] ^ b[i]));
    return apart;
}

/* Features are taken row by row, from left to right: what one is compared with serves the next. */
typedef struct {
    double row, x;
    Py_ssize_t i;
} Turn;

static int earlier(const void *a, const void *b) {
    const Turn *one = a, *other = b;
    if (one->row != other->row) return one->row < other->row ? -1 : 1;
    if (one->x != other->x) return one->x < other->x ? -1 : 1;
    return (one->i > other->i) - (one->i < other->i);
}

/* Descriptors (N, length) float32 or uint8, their places (N, 2) in pixels, those of all points (M_all, length), of the same
 * type or float16,
 * numbers of the points (M), their places (M, 2), reach in pixels, penalty of a squared pixel, least cosine, gate in pixels
 * -> a (N), b (N), cosine (N) float64; (pairs, compared). */
PyObject *kernel_match(PyObject *module, PyObject *const *given, Py_ssize_t count) {
    Arg a[12];
    Py_buffer probe;
    if (count != 12 || PyObject_GetBuffer(given[0], &probe, PyBUF_FORMAT)) {
        if (!PyErr_Occurred()) PyErr_SetString(PyExc_TypeError, "match takes 12 arguments");
        return NULL;
    }
    int binary = probe.itemsize == 1, halves = 0;
    PyBuffer_Release(&probe);
    if (!binary && !PyObject_GetBuffer(given[2], &probe, PyBUF_FORMAT)) {
        halves = probe.itemsize == 2;
        PyBuffer_Release(&probe);
    }
    if (take("match", given, count, binary ? "udundxxxxNND" : halves ? "fdendxxxxNND" : "fdfndxxxxNND", a)) return NULL;
    Py_ssize_t n = a[0].rows, m = a[3].size, length = a[0].columns, pairs = 0, all = a[2].rows;
    int fits = a[1].size == 2 * n && a[4].size == 2 * m && a[9].size == n && a[10].size == n && a[11].size == n &&
               (!n || !all || a[2].columns == length) && a[5].x > 0;
    for (Py_ssize_t j = 0; fits && j < m; j++) fits = I64(a[3])[j] >= 0 && I64(a[3])[j] < all;
    double compared = 0.0;
    size_t cells = MOST_CELLS * MOST_CELLS;
    int64_t *work = NULL;
    if (fit("match", fits)) {
        size_t row = (size_t)length * (binary ? 1 : sizeof(float));
        work = PyMem_RawMalloc(sizeof(int64_t) * (size_t)(3 * m + 2 * n + 1) + sizeof(double) * (size_t)(3 * m + n) +
                               sizeof(int32_t) * (cells + 3 + (size_t)m) + sizeof(Turn) * (size_t)(n + 1) + row * (size_t)m);
        if (!work) PyErr_NoMemory();
    }
    if (!work) {
        release(a, 12);
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS;
    int64_t *cell_of = work, *order = cell_of + m, *best_a = order + m, *best_b = best_a + m;
    double *score_a = (double *)(best_b + n + 1), *cosine = score_a + m, *place = cosine + n;
    Turn *turns = (Turn *)(place + 2 * m);
    int32_t *start = (int32_t *)(turns + n + 1);
    int32_t *near = start + cells + 2;
    uint8_t *sorted = (uint8_t *)(near + m + 1);
    size_t wide = (size_t)length * (binary ? 1 : sizeof(float));
    const double *pa = F64(a[1]), *pb = F64(a[4]), reach = a[5].x, penalty = a[6].x;
    const int64_t *points = I64(a[3]);
    double low[2] = {INFINITY, INFINITY}, high[2] = {-INFINITY, -INFINITY}, side[2];
    Py_ssize_t columns, rows;
    for (Py_ssize_t j = 0; j < m; j++)
        for (int k = 0; k < 2; k++) {
            low[k] = pb[2 * j + k] < low[k] ? pb[2 * j + k] : low[k];
            high[k] = pb[2 * j + k] > high[k] ? pb[2 * j + k] : high[k];
        }
    for (int k = 0; k < 2; k++) {
        side[k] = (high[k] - low[k]) / (MOST_CELLS - 1);
        side[k] = side[k] > 0.5 * reach ? side[k] : 0.5 * reach;
    }
    columns = m ? (Py_ssize_t)((high[0] - low[0]) / side[0]) + 1 : 1;
    rows = m ? (Py_ssize_t)((high[1] - low[1]) / side[1]) + 1 : 1;
    memset(start, 0, sizeof(int32_t) * (size_t)(columns * rows + 1));
    for (Py_ssize_t j = 0; j < m; j++) {
        cell_of[j] = (Py_ssize_t)((pb[2 * j + 1] - low[1]) / side[1]) * columns + (Py_ssize_t)((pb[2 * j] - low[0]) / side[0]);
        start[cell_of[j] + 1]++;
        score_a[j] = -INFINITY, best_a[j] = -1;
    }
    for (Py_ssize_t c = 0; c < columns * rows; c++) start[c + 1] += start[c];
    for (Py_ssize_t j = m; j-- > 0;) order[--start[cell_of[j] + 1]] = j;
    /* start[c + 1] is now where cell c begins; what is compared with neighbours lies side by side in memory */
    for (Py_ssize_t k = 0; k < m; k++) {
        if (halves)
            for (Py_ssize_t i = 0; i < length; i++)
                ((float *)sorted)[k * length + i] = of_half(((const uint16_t *)a[2].buffer.buf)[points[order[k]] * length + i]);
        else memcpy(sorted + wide * (size_t)k, U8(a[2]) + wide * (size_t)points[order[k]], wide);
        place[2 * k] = pb[2 * order[k]], place[2 * k + 1] = pb[2 * order[k] + 1];
    }
    for (Py_ssize_t i = 0; i < n; i++)
        turns[i].i = i, turns[i].row = floor((pa[2 * i + 1] - low[1]) / side[1]), turns[i].x = pa[2 * i];
    qsort(turns, (size_t)n, sizeof(Turn), earlier);
    for (Py_ssize_t turn = 0; turn < n; turn++) {
        Py_ssize_t i = turns[turn].i;
        double x = pa[2 * i], y = pa[2 * i + 1], best = -INFINITY;
        double left = floor((x - reach - low[0]) / side[0]), right = floor((x + reach - low[0]) / side[0]);
        double top = floor((y - reach - low[1]) / side[1]), bottom = floor((y + reach - low[1]) / side[1]);
        best_b[i] = -1;
        if (!m || !(right >= 0 && bottom >= 0 && left < columns && top < rows)) continue;
        Py_ssize_t c0 = left > 0 ? (Py_ssize_t)left : 0, c1 = right < columns ? (Py_ssize_t)right : columns - 1;
        Py_ssize_t r0 = top > 0 ? (Py_ssize_t)top : 0, r1 = bottom < rows ? (Py_ssize_t)bottom : rows - 1;
        Py_ssize_t found = 0;
        for (Py_ssize_t r = r0; r <= r1; r++) {
            Py_ssize_t first = start[r * columns + c0 + 1];
            Py_ssize_t last = r * columns + c1 + 1 < columns * rows ? start[r * columns + c1 + 2] : m;
            for (Py_ssize_t k = first; k < last; k++) { /* no branch: half of them are near */
                double dx = x - place[2 * k], dy = y - place[2 * k + 1];
                near[found] = (int32_t)k;
                found += dx * dx + dy * dy <= reach * reach;
            }
        }
        compared += (double)found;
        for (Py_ssize_t c = 0; c < found; c++) {
            Py_ssize_t k = near[c];
            int64_t j = order[k];
            double dx = x - place[2 * k], dy = y - place[2 * k + 1], similar, score;
            if (binary)
                similar = 1.0 - 2.0 * bits_apart(U8(a[0]) + i * length, sorted + k * length, length) / (8.0 * (double)length);
            else
                similar = dot((const float *)a[0].buffer.buf + i * length, (const float *)sorted + k * length, length);
            score = similar - penalty * (dx * dx + dy * dy);
            if (score > best || (score == best && j < best_b[i])) best = score, best_b[i] = j, cosine[i] = similar;
            if (score > score_a[j] || (score == score_a[j] && i < best_a[j])) score_a[j] = score, best_a[j] = i;
        }
    }
    for (Py_ssize_t i = 0; i < n; i++)
        if (best_b[i] >= 0 && best_a[best_b[i]] == i && cosine[i] >= a[7].x) {
            double dx = pa[2 * i] - pb[2 * best_b[i]], dy = pa[2 * i + 1] - pb[2 * best_b[i] + 1];
            if (dx * dx + dy * dy > a[8].x * a[8].x) continue;
            I64W(a[9])[pairs] = i, I64W(a[10])[pairs] = best_b[i], F64W(a[11])[pairs++] = cosine[i];
        }
    Py_END_ALLOW_THREADS;
    PyMem_RawFree(work);
    release(a, 12);
    return Py_BuildValue("nd", pairs, compared);
}

/* Descriptors (n, width) int8, rows of those that ask (k), a bucket (m, width) int8, how much of it is in use, its
 * owners (m) int32, least product -> hits (n, keyframes) bool, besides those that are there. */
PyObject *kernel_vote(PyObject *module, PyObject *const *given, Py_ssize_t count) {
    Arg a[7];
    if (take("vote", given, count, "cnciwiB", a)) return NULL;
    Py_ssize_t n = a[0].rows, width = a[0].columns, size = a[3].i, keyframes = a[6].columns;
    int fits = a[2].columns == width && size <= a[2].rows && size <= a[4].size && a[6].rows == n;
    for (Py_ssize_t k = 0; fits && k < a[1].size; k++) fits = I64(a[1])[k] >= 0 && I64(a[1])[k] < n;
    const int32_t *owner = (const int32_t *)a[4].buffer.buf;
    for (Py_ssize_t j = 0; fits && j < size; j++) fits = owner[j] >= 0 && owner[j] < keyframes;
    fits = fit("vote", fits);
    Py_BEGIN_ALLOW_THREADS;
    for (Py_ssize_t j = 0; fits && j < size; j++) {
        const int8_t *row = (const int8_t *)a[2].buffer.buf + j * width;
        for (Py_ssize_t k = 0; k < a[1].size; k++) {
            const int8_t *asks = (const int8_t *)a[0].buffer.buf + I64(a[1])[k] * width;
            int product = 0;
            for (Py_ssize_t i = 0; i < width; i++) product += asks[i] * row[i];
            if (product >= a[5].i) U8W(a[6])[I64(a[1])[k] * keyframes + owner[j]] = 1;
        }
    }
    Py_END_ALLOW_THREADS;
    release(a, 7);
    if (!fits) return NULL;
    Py_RETURN_NONE;
}

/* Scores (N, M) -> columns (M), ascending, that are the best of a row whose best they are, and the first such row (M); how
 * many. */
PyObject *kernel_mutual(PyObject *module, PyObject *const *given, Py_ssize_t count) {
    Arg a[3];
    if (take("mutual", given, count, "fNN", a)) return NULL;
    Py_ssize_t n = a[0].rows, m = a[0].columns, pairs = 0;
    int fits = fit("mutual", a[1].size == m && a[2].size == m);
    float *highest = fits ? PyMem_RawMalloc(sizeof(float) * (size_t)(m + 1)) : NULL;
    if (fits && !highest) PyErr_NoMemory(), fits = 0;
    Py_BEGIN_ALLOW_THREADS;
    for (Py_ssize_t j = 0; fits && j < m; j++) highest[j] = -INFINITY, I64W(a[2])[j] = -1;
    for (Py_ssize_t i = 0; fits && i < n; i++) {
        const float *row = (const float *)a[0].buffer.buf + i * m;
        for (Py_ssize_t j = 0; j < m; j++) highest[j] = row[j] > highest[j] ? row[j] : highest[j];
    }
    for (Py_ssize_t i = 0; fits && m && i < n; i++) {
        const float *row = (const float *)a[0].buffer.buf + i * m;
        Py_ssize_t best = 0;
        for (Py_ssize_t j = 1; j < m; j++)
            if (row[j] > row[best]) best = j;
        if (row[best] >= highest[best] && I64(a[2])[best] < 0) I64W(a[2])[best] = i;
    }
    for (Py_ssize_t j = 0; fits && j < m; j++)
        if (I64(a[2])[j] >= 0) I64W(a[1])[pairs] = j, I64W(a[2])[pairs++] = I64(a[2])[j];
    Py_END_ALLOW_THREADS;
    PyMem_RawFree(highest);
    release(a, 3);
    return fits ? PyLong_FromSsize_t(pairs) : NULL;
}
