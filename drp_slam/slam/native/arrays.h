/* SPDX-License-Identifier: Apache-2.0 */
/* Arguments of the kernels: numpy arrays through the buffer protocol, checked, and plain numbers. */
#ifndef DRP_SLAM_ARRAYS_H
#define DRP_SLAM_ARRAYS_H
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    Py_buffer buffer;
    int held;
    Py_ssize_t rows, columns, size; /* size: number of elements */
    Py_ssize_t i;
    double x;
} Arg;

#define F64(a) ((const double *)(a).buffer.buf)
#define F64W(a) ((double *)(a).buffer.buf)
#define I64(a) ((const int64_t *)(a).buffer.buf)
#define I64W(a) ((int64_t *)(a).buffer.buf)
#define U8(a) ((const uint8_t *)(a).buffer.buf)
#define U8W(a) ((uint8_t *)(a).buffer.buf)

/* Reads arguments as `kinds` says, one character each: i an integer, x a number, else a C-ordered array of
 * d float64, f float32, e float16, n int64, b bool, u uint8, h uint16, w int32, c int8, a capital letter where it is written to.
 * Sets TypeError and returns -1 for others. */
int take(const char *function, PyObject *const *given, Py_ssize_t count, const char *kinds, Arg *args);
void release(Arg *args, size_t count);
/* Sets ValueError unless all is so; says which kernel was given arrays that do not fit each other. */
int fit(const char *function, int fits);

/* The k-th smallest of n numbers, which it reorders. */
double smallest(double *x, Py_ssize_t n, Py_ssize_t k);
/* Solves A x = b, A (n, n) symmetric and positive, of which the lower half is read and overwritten; b becomes x. */
void solve(double *A, double *b, int n);

/* IEEE half float; exact. */
static inline float of_half(uint16_t half) {
    uint32_t bits = (uint32_t)(half & 0x7fff) << 13;
    float x;
    memcpy(&x, &bits, sizeof x);
    x *= 0x1p112f; /* moves the exponent's zero, also of those below the normal ones */
    memcpy(&bits, &x, sizeof bits);
    bits |= (half & 0x7c00) == 0x7c00 ? 0x7f800000u : 0u;
    bits |= (uint32_t)(half & 0x8000) << 16;
    memcpy(&x, &bits, sizeof x);
    return x;
}

#define KERNELS(M) \
    M(match) M(vote) M(refine) M(errors2) M(apart) M(gather) M(share) M(offset) M(judge) M(drift) M(adjust) \
    M(observed) M(seen_by) M(count_marked) M(window) M(unlink) M(mutual) M(triangulate) M(follow) \
    M(nearest) M(pixels) M(carry) M(information) M(group) M(together) M(within) M(twist) M(median) M(shares_above) \
    M(extent) M(undistort) M(distort) M(inverse_depths) M(visible) M(seen_through)
#define DECLARE(name) PyObject *kernel_##name(PyObject *module, PyObject *const *given, Py_ssize_t count);
KERNELS(DECLARE)
#endif
