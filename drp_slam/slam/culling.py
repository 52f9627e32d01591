# SPDX-License-Identifier: Apache-2.0
"""Culling of keyframes: those that others make redundant, and the data that old keyframes no longer need."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from drp_slam import geometry
from drp_slam.slam.compiled import native
from drp_slam.slam.covisibility import NEIGHBOURS
from drp_slam.slam.descriptors import rounded
from drp_slam.slam.map import Map
from drp_slam.slam.view import View

SEEN_BY, REDUNDANT = 3, 0.9
"""A keyframe is redundant when so many others see this share of its points (ORB-SLAM, Mur-Artal et al., T-RO 2015)."""
RECENT = 10
"""The newest keyframes are never redundant: later ones have not been matched with them yet."""
CANDIDATES = 30
"""Keyframes around a new one that are examined."""
AT_ONCE = 4
"""At most so many are culled at each new keyframe: on average the map shrinks faster than it grows."""
DESCRIBED = 128
"""Descriptors that an old keyframe keeps for place recognition; its points have their own."""


def drop_redundant(slam_map: Map, number: int, kept: Iterable[int] = ()) -> list[int]:
    """Culls redundant keyframes around `number` and returns them; never one of `kept`, nor the first of a part."""
    dropped: list[int] = []
    spared = slam_map.origins.union(kept)
    around = [k for k in slam_map.covisibility.best(number, CANDIDATES) if k <= number - RECENT and k not in spared]
    shares = dict(zip(around, shares_seen(slam_map, around)))
    for k in sorted(around, key=lambda k: -shares[k]):
        # each one culled makes the others less redundant
        if len(dropped) == AT_ONCE or shares_seen(slam_map, [k])[0] < REDUNDANT:
            break
        drop(slam_map, k)
        dropped.append(k)
    return dropped


def shares_seen(slam_map: Map, keyframes: list[int]) -> list[float]:
    """Share of the points of each keyframe that `SEEN_BY` others see."""
    observations = slam_map.points.observations
    if native is not None:
        return native.shares_above([slam_map.point[k] for k in keyframes], observations, SEEN_BY)
    seen = [observations[slam_map.observed(k)[1]] for k in keyframes]
    return [int(np.count_nonzero(count > SEEN_BY)) / max(len(count), 1) for count in seen]


def drop(slam_map: Map, number: int) -> None:
    """Culls a keyframe: its number stays, its pose follows the keyframe that it shares most points with."""
    graph, reference = slam_map.covisibility, slam_map.points.reference
    around = graph.best(number, len(slam_map))
    neighbours = [k for k in around if graph.shared[number][k] >= NEIGHBOURS]
    anchor, T = around[0], slam_map.T_camera_world
    slam_map.forget(number, slam_map.observed(number)[0])
    # one of its observers becomes the reference of each point it created; the others are linked with that one
    orphans = []
    for k in around:
        points = slam_map.observed(k)[1]
        orphans.append(points[reference[points] == number])
        reference[orphans[-1]] = k
    with slam_map.points.marked(np.concatenate(orphans)) as orphan:
        for k in around:
            points = slam_map.observed(k)[1]
            graph.link_references(k, reference[points[orphan[points]]])
    graph.remove(number)
    near = graph.reach(anchor, 2)
    for k in neighbours[1:]:  # what was connected through it stays connected
        if k not in near:
            graph.link(k, anchor, NEIGHBOURS)
    slam_map.anchors[number] = (anchor, T[number] @ geometry.inverse(T[anchor]))
    slam_map.views[number] = _part(slam_map.views[number], np.zeros(0, dtype=np.intp), 0)
    slam_map.point[number] = np.zeros(0, dtype=np.intp)


def slim(slam_map: Map, number: int) -> None:
    """Removes the data that an old keyframe no longer needs: three quarters of its memory.

    Features that observe no point go, except the first `DESCRIBED`; all descriptors go, except of these. The rest
    becomes `compact`. One that has fewer descriptors than features is slim already.
    """
    view, point = slam_map.views[number], slam_map.point[number]
    if len(view.descriptor) < len(view):
        return
    kept = np.flatnonzero((point >= 0) | (np.arange(len(point)) < DESCRIBED))
    slam_map.views[number] = compact(_part(view, kept, DESCRIBED))
    slam_map.point[number] = point[kept]


def compact(view: View) -> View:
    """The view of an old keyframe, which has fewer descriptors than features; others stay as they are.

    Rays and inverse depths become float32, whose error is a ten-thousandth of a feature's. Float descriptors, which
    only recognise the place, become bytes.
    """
    if len(view.descriptor) == len(view):
        return view
    known = view.descriptor
    return replace(
        view,
        xy=view.xy.astype(np.float32),
        inverse_depth=view.inverse_depth.astype(np.float32),
        descriptor=rounded(known) if known.dtype.kind == "f" else known,
    )


def _part(view: View, kept: np.ndarray, described: int) -> View:
    """Some features, without pixels of the original image, which only the newest keyframe needs."""
    return replace(
        view,
        uv=view.uv[:0].copy(),
        xy=view.xy[kept],
        inverse_depth=view.inverse_depth[kept],
        descriptor=view.descriptor[:described].copy(),
        rgb=None if view.rgb is None else view.rgb[kept],
        nearest_m=None if view.nearest_m is None or not described else view.nearest_m.astype(np.float16),
    )
