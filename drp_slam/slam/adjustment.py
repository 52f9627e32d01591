# SPDX-License-Identifier: Apache-2.0
"""Bundle adjustment of some keyframes of the map and the points that they share. Read `adjust` first."""

from __future__ import annotations

import numpy as np

from drp_slam import geometry
from drp_slam.slam import bundle
from drp_slam.slam.compiled import native, plain
from drp_slam.slam.map import Map
from drp_slam.slam.optimize import CHI2_PIXEL, DEPTH_GATE2, Noise

CANDIDATES = 20
"""At most so many of the keyframes that share points with the adjusted ones are held fixed."""
LEAST_OBSERVATIONS = 10
"""With fewer observations the adjustment is skipped."""


def adjust(slam_map: Map, noise: Noise, window: list[int], fixed_limit: int, iterations: int) -> float:
    """Adjusts the keyframes `window`; up to `fixed_limit` others that share points are held fixed.

    Removes observations that do not fit the result. Returns the work in flops.
    """
    common = slam_map.seen_by(window)
    common = common[slam_map.points.observations[common] >= 2]
    linked = set().union(*(slam_map.covisibility.best(k, CANDIDATES) for k in window)) - set(window)
    with slam_map.points.marked(common) as inside:
        shared = dict(zip(linked, slam_map.count_marked(linked, inside)))
        fixed = sorted((k for k in shared if shared[k]), key=lambda k: (-shared[k], k))[:fixed_limit]
        order = window + fixed
        problem, features, points = _problem(slam_map, order, common, inside, len(window))
    if len(problem.point) < LEAST_OBSERVATIONS or not fixed:
        return 0.0
    solution = bundle.adjust(problem, noise, iterations)
    _move(slam_map, window, solution.poses[: len(window)])
    slam_map.points.xyz[points] = solution.points
    bad = (solution.error2_px > 2.0 * CHI2_PIXEL) | (solution.error2_depth > DEPTH_GATE2)
    for row in sorted(set(problem.camera[bad].tolist())):
        slam_map.forget(order[row], features[bad & (problem.camera == row)])
    return solution.flops


def _move(slam_map: Map, keyframes: list[int], T_camera_world: np.ndarray) -> None:
    """Moves keyframes to new poses (K, 4, 4), and with each the points that only it has seen: they are not adjusted."""
    points, before = slam_map.points, slam_map.T_camera_world[keyframes]
    slam_map.T_camera_world[keyframes] = T_camera_world
    if native is not None:
        seen = [slam_map.point[k] for k in keyframes]
        native.carry(seen, points.observations, points.xyz, before, T_camera_world)
        return
    moved = geometry.inverse(T_camera_world) @ before
    for k, T in zip(keyframes, moved):
        lone = slam_map.observed(k)[1]
        lone = lone[points.observations[lone] == 1]
        points.xyz[lone] = geometry.apply(T, points.xyz[lone])


def _problem(
    slam_map: Map, order: list[int], common: np.ndarray, inside: np.ndarray, free: int
) -> tuple[bundle.Problem, np.ndarray, np.ndarray]:
    """The adjustment, the feature of each observation, and the number of each point.

    `common` are the numbers of all points that may take part, ascending, and `inside` marks them.
    """
    if native is not None:
        return _window(slam_map, order, common, free)
    camera, feature, number, xy, depth = [], [], [], [], []
    for row, k in enumerate(order):
        features, points = slam_map.observed(k)
        keep = inside[points]
        features = features[keep]
        camera.append(np.full(len(features), row))
        feature.append(features)
        number.append(points[keep])
        xy.append(slam_map.views[k].xy[features])
        depth.append(slam_map.views[k].inverse_depth[features])
    points, point = np.unique(np.concatenate(number), return_inverse=True)
    poses, xyz = slam_map.T_camera_world[order], slam_map.points.xyz[points]
    rows, rays, depths = (np.concatenate(parts) for parts in (camera, xy, depth))
    problem = bundle.Problem(poses, xyz, rows, point, rays, depths, free)
    return problem, np.concatenate(feature), points


def _window(
    slam_map: Map, order: list[int], common: np.ndarray, free: int
) -> tuple[bundle.Problem, np.ndarray, np.ndarray]:
    """`_problem` compiled."""
    assert native is not None
    views, seen = [slam_map.views[k] for k in order], [slam_map.point[k] for k in order]
    most = sum(map(len, seen))
    row, ray = np.empty((3, most), dtype=np.intp), np.empty((most, 2))
    depth, points = np.empty(most), np.empty(len(common), dtype=np.intp)
    into = row[0], row[1], row[2], ray, depth, points
    rays, depths = [plain(v.xy) for v in views], [plain(v.inverse_depth) for v in views]
    count, used = native.window(seen, rays, depths, common, *into)
    (camera, feature, point), points = row[:, :count], points[:used]
    poses, xyz = slam_map.T_camera_world[order], slam_map.points.xyz[points]
    return bundle.Problem(poses, xyz, camera, point, ray[:count], depth[:count], free), feature, points
