# SPDX-License-Identifier: Apache-2.0
"""Joins the two parts of the map that a loop connects: read `join` first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drp_slam import geometry
from drp_slam.slam.map import Map
from drp_slam.slam.mapping import Mapping
from drp_slam.slam.optimize import Noise, pose_jacobian
from drp_slam.slam.posegraph import Graph, Optimised, optimise

EDGE_POINTS = 30
"""Keyframes that share as many points are an edge of the pose graph."""
STRAIN_M, STRAIN_RAD = 0.15, 0.15
"""A closure that pulls two linked keyframes further apart is refused."""
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
    new part there; `xyz` (N, 3) are the points that support it.
    """

    old: int
    new: int
    T_new_world: np.ndarray
    T_correction: np.ndarray
    xyz: np.ndarray


def join(mapping: Mapping, loop: Loop) -> bool:
    """Correct the map by the loop. False, and no change, when that would tear the map."""
    slam_map = mapping.map
    # the two sides, while they are not linked yet
    new = [loop.new, *slam_map.covisible(loop.new, JOINED - 1)]
    old = [loop.old, *slam_map.covisible(loop.old, JOINED - 1)]
    # spread the drift over all keyframes
    graph = _graph(slam_map, mapping.geometry.noise, loop)
    solution = optimise(graph)
    mapping.work.add(solution.flops)
    if _strained(graph, solution):
        return False
    slam_map.move(solution.poses)
    mapping.changed()
    # what both sides saw becomes one, and the measurements have the last word
    for k in new:
        mapping.fuse(k, np.array(old), np.arange(len(slam_map.views[k])), FUSE_PX)
    for k in new:
        slam_map.link(k)
    mapping.changed()
    mapping.adjust(list(dict.fromkeys(new + old)), FIXED_KEYFRAMES, 2 * mapping.config.adjust_iterations)
    return True


def _graph(slam_map: Map, noise: Noise, loop: Loop) -> Graph:
    """Edges between keyframes that share points, as they stand, and the loop's.

    A keyframe's information is shared among its edges to earlier ones: each feature of it counts
    once, as it does in the loop's.
    """
    poses = slam_map.T_camera_world.copy()
    a, b, information = [loop.old], [loop.new], [_information(loop.T_new_world, loop.xyz, noise)]
    for k in range(1, len(poses)):
        links = {j: shared for j, shared in slam_map.links[k].items() if j < k}
        earlier = sorted(j for j, shared in links.items() if shared >= EDGE_POINTS)
        if not earlier:
            earlier = [min(links, key=lambda j: (-links[j], j)) if links else k - 1]
        mine = slam_map.seen_by([k])
        for j in earlier:
            seen = slam_map.observed(j)[1]
            shared = slam_map.xyz[seen[mine[seen]]]
            a.append(j)
            b.append(k)
            information.append(_information(poses[k], shared, noise) / len(earlier))
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
