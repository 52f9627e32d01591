# SPDX-License-Identifier: Apache-2.0
"""Classes of map points, by vote: each detection votes for the points that were tracked in its box."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace

import numpy as np

from drp_slam.datatypes import Detections, MapCloud
from drp_slam.slam.map import Map

KEPT = 64
"""Frames whose points are kept for late results of a detector."""
MOST_VOTES = 30
"""Upper limit of a lead: as many other views change any label."""
INNER = 0.5
"""Share of a box's sides, about its centre, in which the surface of the object is measured."""


@dataclass(frozen=True)
class Seen:
    """What a frame was tracked with: pixels (N, 2), depths (N,) in m, points (N,) and the keyframes that made them."""

    uv: np.ndarray
    depth_m: np.ndarray
    points: np.ndarray
    reference: np.ndarray


class Labels:
    """Majority vote of every point's class (Boyer and Moore, 1981), with two numbers per map point.

    A searched frame votes for each point that it was tracked with: for the class of the smallest box
    that holds the point's feature and whose object reaches to the point's depth, or for no class. A point
    that is wrongly inside or outside a box in some views keeps the class of the majority. `focal_px` is the
    camera's. Labels do not influence the map's poses and points.
    """

    def __init__(self, slam_map: Map, focal_px: float) -> None:
        self._map, self._focal_px = slam_map, focal_px
        self._frames: OrderedDict[int, Seen] = OrderedDict()
        self._early: OrderedDict[int, Detections] = OrderedDict()
        self._searched = bool(slam_map.classes)

    @property
    def names(self) -> list[str]:
        """Classes in the order in which they were first seen."""
        return self._map.classes

    def seen(self, stamp_ns: int, uv: np.ndarray, points: np.ndarray, T_camera_world: np.ndarray) -> None:
        """A frame at `T_camera_world` (4, 4) was tracked by `points` (N,), whose features lie at `uv` (N, 2) pixels."""
        depth_m = self._map.points.depth_m(points, T_camera_world)
        self._frames[stamp_ns] = Seen(uv, depth_m, points, self._map.points.reference[points])
        if len(self._frames) > KEPT:
            self._frames.popitem(last=False)
        if stamp_ns in self._early:
            self.vote(stamp_ns, self._early.pop(stamp_ns))

    def vote(self, stamp_ns: int, found: Detections) -> int:
        """Votes with the detections in that frame; returns the number of points that voted.

        0 for a frame that is not tracked yet, whose votes are counted when it is, or that is no longer kept.
        """
        if stamp_ns not in self._frames:
            self._early[stamp_ns] = found
            if len(self._early) > KEPT:
                self._early.popitem(last=False)
            return 0
        frame = self._frames.pop(stamp_ns)
        self._searched = True
        # the number of a culled point may have been reused for a point of another keyframe
        same = self._map.points.alive[frame.points] & (self._map.points.reference[frame.points] == frame.reference)
        points, new = frame.points[same], self._labels(frame.uv[same], frame.depth_m[same], found)
        label, votes = self._map.points.label[points], self._map.points.label_votes[points].astype(int)
        votes += np.where(label == new, 1, -1)
        changed = votes < 0
        self._map.points.label[points] = np.where(changed, new, label)
        self._map.points.label_votes[points] = np.minimum(np.where(changed, 1, votes), MOST_VOTES)
        return len(points)

    def columns(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Of all points of the map, (M,) int16 each: index into `names`, -1 for none, and its lead in votes.

        None while no frame was searched.
        """
        return (self._map.points.label - 1, self._map.points.label_votes) if self._searched else None

    def labelled(self, cloud: MapCloud) -> MapCloud:
        """The cloud of all points of the map, with their classes if any frame was searched."""
        columns = self.columns()
        if columns is None:
            return cloud
        label, votes = (column[self._map.points.alive] for column in columns)
        return replace(cloud, label=label, votes=votes, names=tuple(self.names))

    def _labels(self, uv: np.ndarray, depth_m: np.ndarray, found: Detections) -> np.ndarray:
        """(N,) int16 label of each point: the class of the smallest box that it belongs to, 0 for none."""
        label = np.zeros(len(uv), np.int16)
        x0, y0, x1, y1 = found.boxes_px.reshape(-1, 4).T
        for k in np.argsort(-(x1 - x0) * (y1 - y0), kind="stable").tolist():
            if found.label[k] not in self.names:
                self.names.append(found.label[k])
            inside = self._on_object(uv, depth_m, found.boxes_px[k])
            label[inside] = self.names.index(found.label[k]) + 1
        return label

    def _on_object(self, uv: np.ndarray, depth_m: np.ndarray, box_px: np.ndarray) -> np.ndarray:
        """(N,) bool: inside the box, and not farther from the object's surface than the box is large.

        The surface is at the median depth of the points about the box's centre. Whatever shows beside the object,
        behind it or in front of it, is excluded.
        """
        low, high = box_px[:2], box_px[2:]
        inside = np.all((uv >= low) & (uv <= high), axis=1)
        middle, half = (low + high) / 2, INNER * (high - low) / 2
        inner = inside & np.all(np.abs(uv - middle) <= half, axis=1)
        core = depth_m[inner] if inner.any() else depth_m[inside]
        if not len(core):
            return inside
        surface_m = float(np.median(core))
        reach_m = float((high - low).max()) / self._focal_px * surface_m
        return inside & (np.abs(depth_m - surface_m) <= reach_m)
