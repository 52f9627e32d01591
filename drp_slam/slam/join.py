# SPDX-License-Identifier: Apache-2.0
"""Joins the two parts of the map that a loop connects: read `join` first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drp_slam import geometry
from drp_slam.config import SlamConfig
from drp_slam.slam.camera import Geometry
from drp_slam.slam.mapping import Mapping
from drp_slam.slam.matching import Prior, match
from drp_slam.slam.optimize import DEPTH_GATE2, Noise, pose_jacobian
from drp_slam.slam.posegraph import Graph, Optimised, optimise

EDGE_POINTS = 30
"""Keyframes that share as many points are an edge of the pose graph."""
STRAIN_M, STRAIN_RAD = 0.15, 0.15
"""A closure that pulls two linked keyframes further apart is none."""
JOINED = 8
"""Keyframes of each side whose points are fused."""
FUSE_PX = 6.0
"""Points this near to each other in a keyframe, and alike, are one."""
FIXED_KEYFRAMES = 16
"""Keyframes that hold the adjustment of the joined ones."""


@dataclass(frozen=True)
class Loop:
    """Keyframe `new` sees what keyframe `old` saw.

    `T_new_world` is its pose in the old part, `T_correction` takes poses `T_world_camera` of the
    new part there; `xyz` (N, 3) are the points that say so.
    """

    old: int
    new: int
    T_new_world: np.ndarray
    T_correction: np.ndarray
    xyz: np.ndarray


def join(mapping: Mapping, cam: Geometry, config: SlamConfig, loop: Loop) -> tuple[bool, float]:
    """Moves the map so that the loop fits, if it can: whether it did, and the work in flops."""
    chart = mapping.map
    # the two sides, while they are not linked yet
    new = [loop.new, *chart.covisible(loop.new, JOINED - 1)]
    old = [loop.old, *chart.covisible(loop.old, JOINED - 1)]
    # spread the drift over all keyframes
    graph = _graph(mapping, cam, loop)
    solution = optimise(graph)
    if _strained(graph, solution):
        return False, solution.flops
    _move(mapping, solution.poses)
    # what both sides saw becomes one, and the measurements have the last word
    flops = solution.flops + _fuse(mapping, cam, config, new, old)
    for k in new:
        chart.link(chart.keyframes[k], np.unique(np.r_[old, np.flatnonzero(chart.links[k])]))
    mapping.changed()
    before = mapping.flops
    window = [k for k in dict.fromkeys(new + old) if k > 0]
    mapping.adjust(window, FIXED_KEYFRAMES, 2 * config.adjust_iterations)
    mapping.flops, flops = before, flops + mapping.flops - before
    return True, flops


def _graph(mapping: Mapping, cam: Geometry, loop: Loop) -> Graph:
    """Edges between keyframes that share points, as they stand, and the loop's.

    A keyframe's information is shared among its edges to earlier ones: each feature of it counts
    once, as it does in the loop's.
    """
    chart = mapping.map
    poses = np.stack([k.T_camera_world for k in chart.keyframes])
    a, b, information = [loop.old], [loop.new], [_information(loop.T_new_world, loop.xyz, cam.noise)]
    for k in range(1, len(poses)):
        links = chart.links[k, :k]
        earlier = np.flatnonzero(links >= EDGE_POINTS)
        if not len(earlier):
            earlier = np.array([int(np.argmax(links)) if links.max() else k - 1])
        mine = np.zeros(chart.size, dtype=bool)
        mine[chart.keyframes[k].observed()[1]] = True
        for j in earlier.tolist():
            seen = chart.keyframes[j].observed()[1]
            shared = chart.xyz[seen[mine[seen]]]
            a.append(j)
            b.append(k)
            information.append(_information(poses[k], shared, cam.noise) / len(earlier))
    measured = poses[b] @ geometry.inverse(poses[a])
    measured[0] = loop.T_new_world @ geometry.inverse(poses[loop.old])
    return Graph(poses, np.array(a), np.array(b), measured, np.stack(information))


def _information(T_camera_world: np.ndarray, xyz: np.ndarray, noise: Noise) -> np.ndarray:
    """(6, 6) of a camera's pose that sees (N, 3) points with depth."""
    p = geometry.apply(T_camera_world, xyz).T
    J = pose_jacobian(p, np.ones(p.shape[1]), noise).reshape(6, -1)
    return J @ J.T + np.eye(6)


def _strained(graph: Graph, solution: Optimised) -> bool:
    pull = np.abs(solution.residual)
    return bool(
        (np.linalg.norm(pull[:, :3], axis=1) > STRAIN_M).any()
        or (np.linalg.norm(pull[:, 3:], axis=1) > STRAIN_RAD).any()
        or not np.isfinite(solution.poses).all()
    )


def _move(mapping: Mapping, poses: np.ndarray) -> None:
    """Keyframes to their new poses, and every point with the keyframe that made it."""
    chart = mapping.map
    old = np.stack([k.T_camera_world for k in chart.keyframes])
    S = (geometry.inverse(poses) @ old)[chart.reference]
    chart.xyz[:] = np.einsum("nij,nj->ni", S[:, :3, :3], chart.xyz) + S[:, :3, 3]
    for keyframe, pose in zip(chart.keyframes, poses):
        keyframe.T_camera_world = pose
    mapping.changed()


def _fuse(mapping: Mapping, cam: Geometry, config: SlamConfig, new: list[int], old: list[int]) -> float:
    """Points of the old side that keyframes of the new one see: one of each pair stays."""
    chart, flops = mapping.map, 0.0
    for k in new:
        keyframe = chart.keyframes[k]
        points, px = mapping.visible(keyframe.T_camera_world, np.array(old))
        mine = np.zeros(chart.size, dtype=bool)
        mine[keyframe.observed()[1]] = True
        points, px = points[~mine[points]], px[~mine[points]]
        view = keyframe.view
        pairs = match(
            view.descriptor,
            chart.descriptor[points],
            config.min_cosine - 0.1,
            Prior(view.xy * cam.focal_px, px, FUSE_PX),
        )
        flops += pairs.flops
        features, points = pairs.a, points[pairs.b]
        z = geometry.apply(keyframe.T_camera_world, chart.xyz[points])[:, 2]
        depth = view.inverse_depth[features]
        agrees = (depth <= 0) | ((cam.noise.fd * (1.0 / z - depth)) ** 2 < DEPTH_GATE2)
        features, points = features[agrees], points[agrees]
        double = keyframe.point[features]
        chart.observe(keyframe, features[double < 0], points[double < 0])
        chart.merge(double[double >= 0], points[double >= 0])
    return flops
