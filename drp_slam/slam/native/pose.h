/* SPDX-License-Identifier: Apache-2.0 */
/* What pose and bundle adjustment share. */
#ifndef DRP_SLAM_POSE_H
#define DRP_SLAM_POSE_H
#include "arrays.h"

/* Points nearer than this, or behind the camera, have no weight. */
static const double NEAR_M = 0.05;

/* S with the nearest rotation, which it has but for rounding: one Newton step. */
void rotation_of(const double S[16], double T[16]);
/* `geometry.exp(step) @ T`; out may be T. */
void moved(const double step[6], const double T[16], double out[16]);
/* `optimize.pose_jacobian` of a point at p = (x, y, 1 / z) of the plane. */
void jacobian(const double p[3], int depth, const double *noise, double J[3][6]);
/* Into p (4): x, y of the plane, 1 / z, 1.0 in front; into r (3): the residuals. */
void project(const double *T, const double *xyz, const double *xy, double depth, const double *noise, double *p, double *r);
/* Squared errors (n) of pixels and depth, as `optimize.errors2`. */
void squares(const double *T, const double *xyz, const double *xy, const double *depth, const double *noise, Py_ssize_t n,
             double *pixel2, double *depth2);

typedef struct {
    Py_ssize_t n, iterations, least; /* least: number of fully weighted matches from which their errors set the scale */
    const double *xyz, *xy, *depth, *noise, *weight; /* weight may be NULL */
    double *work; /* 11 n */
    double T[16], H[36];
} Fit;

/* `optimize.refine_pose` from a pose on: T and H; returns the number of iterations. */
Py_ssize_t gauss_newton(const double *start, Fit *fit);
/* Inverse of H (6, 6). */
void covariance_of(const double *H, double *C);
#endif
