/* SPDX-License-Identifier: Apache-2.0 */
/* What pose and bundle adjustment share. */
#ifndef DRP_SLAM_POSE_H
#define DRP_SLAM_POSE_H
#include "arrays.h"

/* Points nearer than this, or behind the camera, have no weight. */
static const double NEAR_M = 0.05;

/* `geometry.exp(step) @ T`; out may be T. */
void moved(const double step[6], const double T[16], double out[16]);
/* `optimize.pose_jacobian` of a point at p = (x, y, 1 / z) of the plane. */
void jacobian(const double p[3], int depth, const double *noise, double J[3][6]);
#endif
