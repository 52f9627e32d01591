# SPDX-License-Identifier: Apache-2.0
"""What a map no longer needs: keyframes that others make redundant, and what only young keyframes are asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from drp_slam import geometry
from drp_slam.slam.map import LINKED, Map
from drp_slam.slam.view import View

SEEN_BY, REDUNDANT = 3, 0.9
"""A keyframe is redundant when so many others see this share of its points (ORB-SLAM, Mur-Artal et al., T-RO 2015)."""
RECENT = 10
"""The newest keyframes are never redundant: what they see has not been looked for again yet."""
CANDIDATES = 30
"""Keyframes around a new one that are looked at."""
AT_ONCE = 4
"""At most so many are dropped at a new one, which is more than come."""
DESCRIBED = 128
"""Descriptors that an old keyframe keeps for place recognition; its points have their own."""


def drop_redundant(slam_map: Map, number: int) -> list[int]:
    """Drops keyframes around `number` that the map can do without, and returns them; never the first of a part."""
    dropped: list[int] = []
    holders = slam_map.holders
    around = [k for k in slam_map.covisible(number, CANDIDATES) if k <= number - RECENT and k not in holders]
    for k in sorted(around, key=lambda k: -share_seen(slam_map, k)):
        # each that goes makes the others less redundant
        if len(dropped) == AT_ONCE or share_seen(slam_map, k) < REDUNDANT:
            break
        drop(slam_map, k)
        dropped.append(k)
    return dropped


def share_seen(slam_map: Map, number: int) -> float:
    """Share of a keyframe's points that `SEEN_BY` others see."""
    points = slam_map.observed(number)[1]
    return np.count_nonzero(slam_map.observations[points] > SEEN_BY) / max(len(points), 1)


def drop(slam_map: Map, number: int) -> None:
    """Takes a keyframe out: its number stays, its pose follows the keyframe that it shares most points with."""
    around = slam_map.covisible(number, len(slam_map))
    strong = [k for k in around if slam_map.links[number][k] >= LINKED]
    anchor, T = around[0], slam_map.T_camera_world
    slam_map.forget(number, slam_map.observed(number)[0])
    # its points go to whoever sees them, and all who see a point are linked with its keyframe
    orphans = []
    for k in around:
        points = slam_map.observed(k)[1]
        orphans.append(points[slam_map.reference[points] == number])
        slam_map.reference[orphans[-1]] = k
    with slam_map.marked(np.concatenate(orphans)) as orphan:
        for k in around:
            points = slam_map.observed(k)[1]
            slam_map.meet(k, slam_map.reference[points[orphan[points]]])
    for k in around:
        del slam_map.links[k][number]
    near = slam_map.reach(anchor, 2)
    for k in strong[1:]:  # what hung together through it still does
        if k not in near:
            slam_map.links[k][anchor] = slam_map.links[anchor][k] = LINKED
    slam_map.links[number] = {}
    slam_map.anchors[number] = (anchor, T[number] @ geometry.inverse(T[anchor]))
    slam_map.views[number] = _part(slam_map.views[number], np.zeros(0, dtype=np.intp), 0)
    slam_map.point[number] = np.zeros(0, dtype=np.intp)


def slim(slam_map: Map, number: int) -> None:
    """Takes from a keyframe what is not needed once it is old: two thirds of its memory.

    The features that see no point, but for the first `DESCRIBED`, and all descriptors but of these.
    """
    view, point = slam_map.views[number], slam_map.point[number]
    kept = np.flatnonzero((point >= 0) | (np.arange(len(point)) < DESCRIBED))
    slam_map.views[number] = _part(view, kept, DESCRIBED)
    slam_map.point[number] = point[kept]


def _part(view: View, kept: np.ndarray, described: int) -> View:
    descriptor = view.descriptor[:described]
    if descriptor.dtype == np.float32:
        descriptor = descriptor.astype(np.float16)
    return replace(
        view,
        uv=view.uv[kept],
        xy=view.xy[kept],
        inverse_depth=view.inverse_depth[kept],
        descriptor=descriptor.copy(),
        rgb=None if view.rgb is None else view.rgb[kept],
        nearest_m=None if view.nearest_m is None or not described else view.nearest_m.astype(np.float16),
    )
