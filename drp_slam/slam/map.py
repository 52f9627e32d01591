# SPDX-License-Identifier: Apache-2.0
"""The map as data: keyframes, points, and which feature of which keyframe observes which point."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from drp_slam import geometry
from drp_slam.datatypes import XFEAT_DESCRIPTOR, DescriptorSpec
from drp_slam.slam import descriptors
from drp_slam.slam.compiled import NO_NUMBERS, native
from drp_slam.slam.covisibility import NEIGHBOURS, Covisibility
from drp_slam.slam.points import Points, grown, stored
from drp_slam.slam.view import View


class Map:
    """Arrays and numbers only: keyframes and points refer to each other by number.

    `views[k]` are the features of keyframe k, and `point[k]` (N,) intp the map point that each observes,
    -1 for none. `points` is the table of points, `covisibility` the graph of keyframes.
    `anchors` holds the culled keyframes: they observe nothing, and `T` (4, 4), camera to camera, gives
    their pose from that of another keyframe. `part[k]` is the part of the map that a keyframe belongs
    to: a camera that is lost in an unknown place begins a new part, with a world frame of its own.
    `joined` lists the parts that were merged, and into which part. `classes` are the names of detected
    objects, in the order in which they were first seen. Two maps are equal if all their arrays are.
    """

    def __init__(self, spec: DescriptorSpec = XFEAT_DESCRIPTOR) -> None:
        descriptors.check_spec(spec)
        self.spec = spec
        self.views: list[View] = []
        self.point: list[np.ndarray] = []
        self.points = Points(spec)
        self.covisibility = Covisibility()
        self.anchors: dict[int, tuple[int, np.ndarray]] = {}
        self.part: list[int] = []
        self.joined: dict[int, int] = {}
        self.classes: list[str] = []
        self._first: dict[int, int] = {}
        self._poses = np.zeros((16, 4, 4))
        self._covariance, self._unscaled = np.zeros((16, 6, 6)), np.zeros((16, 4))

    def __len__(self) -> int:
        """Number of keyframes."""
        return len(self.views)

    @property
    def T_camera_world(self) -> np.ndarray:
        """(K, 4, 4) float64 poses of the keyframes."""
        return self._poses[: len(self.views)]

    @property
    def covariance(self) -> np.ndarray:
        """(K, 6, 6) float64 of the keyframes' poses, as `Track.covariance`."""
        return self._covariance[: len(self.views)]

    @property
    def unscaled(self) -> np.ndarray:
        """(K, 4) float64: the variance of the scale since the last keyframe that saw measured points, and the position
        of that one along the camera's axes, in metres."""
        return self._unscaled[: len(self.views)]

    @property
    def live(self) -> np.ndarray:
        """Numbers of the keyframes that were not culled, ascending."""
        live = np.ones(len(self.views), dtype=bool)
        live[list(self.anchors)] = False
        return np.flatnonzero(live)

    def pose(self, number: int) -> np.ndarray:
        """(4, 4) `T_camera_world` of a keyframe, culled or not."""
        if number not in self.anchors:
            return self.T_camera_world[number]
        anchor, T = self.anchors[number]
        return T @ self.pose(anchor)

    @property
    def coloured(self) -> bool:
        """Whether some keyframe came with an image."""
        return any(view.rgb is not None for view in self.views)

    @property
    def origins(self) -> set[int]:
        """The first keyframe of each part: its pose, which never changes, fixes the part's world frame."""
        return set(self._first.values())

    def observed(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Features of a keyframe that observe a point, and those points."""
        point = self.point[number]
        if native is None:
            features = np.flatnonzero(point >= 0)
            return features, point[features]
        found = np.empty((2, len(point)), dtype=np.intp)
        count = native.observed(point, found[0], found[1])
        return found[0, :count], found[1, :count]

    def seen_by(self, keyframes: Iterable[int]) -> np.ndarray:
        """(P,) numbers, ascending, of the points that at least one of the keyframes observes."""
        if native is None:
            return np.unique(np.concatenate([NO_NUMBERS, *(self.observed(k)[1] for k in keyframes)]))
        points = [self.point[k] for k in keyframes]
        seen = np.empty(sum(map(len, points)), dtype=np.intp)
        return seen[: native.seen_by(points, self.points.marks, seen)]

    def count_marked(self, keyframes: Iterable[int], marks: np.ndarray) -> list[int]:
        """How many of the points that each of the keyframes observes are marked, by number of the point."""
        if native is None:
            return [int(np.count_nonzero(marks[self.observed(k)[1]])) for k in keyframes]
        return native.count_marked([self.point[k] for k in keyframes], marks)

    def observers(self, points: np.ndarray) -> list[int]:
        """Numbers of all keyframes that may observe some of the points, ascending."""
        return self.covisibility.observers(self.points.reference[points])

    def add_keyframe(self, view: View, T_camera_world: np.ndarray, part: int = 0) -> int:
        """Appends a keyframe that observes no point yet and returns its number. Its descriptors become half floats."""
        number = len(self.views)
        if number == len(self._poses):
            capacity = max(16, 2 * number)
            self._poses = grown(self._poses, capacity)
            self._covariance = grown(self._covariance, capacity)
            self._unscaled = grown(self._unscaled, capacity)
        self._poses[number] = T_camera_world
        self.views.append(replace(view, descriptor=view.descriptor.astype(stored(self.spec), copy=False)))
        self.covisibility.shared.append({})
        self.part.append(part)
        self._first.setdefault(part, number)
        self.point.append(np.full(len(view), -1, dtype=np.intp))
        return number

    def observe(self, number: int, features: np.ndarray, points: np.ndarray) -> None:
        """Records that a keyframe's features observe points."""
        if not len(features):
            return
        self.point[number][features] = points
        view = self.views[number]
        self.points.observe(points, view.descriptor, view.inverse_depth, features)

    def forget(self, number: int, features: np.ndarray) -> None:
        """Removes observations; points without any are culled."""
        points = self.point[number][features]
        self.point[number][features] = -1
        self.points.observations[points] -= 1
        self.points.cull(points[self.points.observations[points] <= 0])

    def cull(self, number: int, least_found: int) -> None:
        """Culls points that a keyframe alone observes, and fewer than `least_found` frames have found."""
        features, points = self.observed(number)
        poor = (self.points.observations[points] == 1) & (self.points.found[points] < least_found)
        self.forget(number, features[poor])

    def remove(self, points: np.ndarray) -> None:
        """Removes all observations of the points, which culls them."""
        with self.points.marked(points) as removed:
            if native is not None:
                native.unlink([self.point[k] for k in self.observers(points)], removed, self.points.observations)
                self.points.cull(points)
                return
            for number in self.observers(points):
                point = self.point[number]
                self.forget(number, np.flatnonzero((point >= 0) & removed[point]))

    def merge(self, duplicates: np.ndarray, points: np.ndarray) -> None:
        """Replaces `duplicates[i]` by `points[i]` in all keyframes and culls the duplicates.

        In a keyframe that observes both, the feature that observes the duplicate is left without a point.
        """
        order = np.argsort(duplicates)
        duplicates, points = duplicates[order], points[order]
        observers = self.observers(duplicates)
        with self.points.marked(duplicates) as merged:
            for number, count in zip(observers, self.count_marked(observers, merged)):
                if not count:
                    continue
                features, seen = self.observed(number)
                moved = merged[seen]
                new = points[np.searchsorted(duplicates, seen[moved])]
                taken = np.isin(new, seen[~moved])
                self.point[number][features[moved]] = np.where(taken, -1, new)
                np.add.at(self.points.observations, new[~taken], 1)
                self.covisibility.link_references(number, self.points.reference[new[~taken]])
        self.points.measured[points] |= self.points.measured[duplicates]
        self.points.observations[duplicates] = 0
        self.points.cull(duplicates)

    def feature_descriptors(self, number: int, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Those of a keyframe's features whose descriptor is known, and these descriptors.

        An old keyframe has few of its own (`culling.slim`): its features take those of their points.
        """
        own, point = self.views[number].descriptor, self.point[number][features]
        if len(own) == len(self.views[number]):
            return features, own[features].astype(self.spec.dtype, copy=False)
        features, point = features[point >= 0], point[point >= 0]
        return features, self.points.descriptor[point].astype(self.spec.dtype, copy=False)

    def link(self, number: int, parent: int = -1) -> None:
        """Links a keyframe with those that share points with it, and with its `parent`, from which it was tracked."""
        points = self.observed(number)[1]
        others = [k for k in self.observers(points) if k != number]
        with self.points.marked(points) as mine:
            shared = dict(zip(others, self.count_marked(others, mine)))
        # also with keyframes that created these points and no longer observe them
        creators = sorted(set(self.points.reference[points].tolist()))
        shared |= {k: max(1, shared.get(k, 0)) for k in creators if k != number}
        for k, count in shared.items():
            if count:
                self.covisibility.link(k, number, count)
        if parent >= 0:
            least = max(NEIGHBOURS, self.covisibility.shared[parent].get(number, 0))
            self.covisibility.link(parent, number, least)

    def join(self, part: int, other: int) -> None:
        """Merges `part` into the part `other`."""
        self.part = [other if p == part else p for p in self.part]
        self._first[other] = min(self._first[other], self._first.pop(part))
        self.joined[part] = other

    def move(self, T_camera_world: np.ndarray) -> None:
        """Moves the keyframes to new poses (K, 4, 4), and each point with the keyframe that created it."""
        S = geometry.inverse(T_camera_world) @ self.T_camera_world
        points = self.points
        x, y, z = points.xyz.T.copy()
        for i in range(3):  # by column: a map of thousands of keyframes must move within a frame
            a, b, c, d = (np.ascontiguousarray(S[:, i, j])[points.reference] for j in range(4))
            points.xyz[:, i] = a * x + b * y + c * z + d
        self.T_camera_world[:] = T_camera_world

    def copy(self) -> Map:
        """A map that shares nothing with this one."""
        return copy.deepcopy(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Map) or (self.spec, len(self)) != (other.spec, len(other)):
            return False
        if (self.classes, self.points.size) != (other.classes, other.points.size):
            return False
        return all(np.array_equal(a, b) for a, b in zip(self._content(), other._content()))

    __hash__ = None  # type: ignore[assignment]

    def _content(self) -> Iterator[np.ndarray]:
        """All arrays that must be equal in equal maps, in a fixed order."""
        yield from (np.array(self.part), self.T_camera_world, self.covariance, self.unscaled, self.covisibility.rows())
        yield from (*self.points.columns.values(), *self.point)
        for number, (anchor, T) in sorted(self.anchors.items()):
            yield from (np.array([number, anchor]), T)
        for view in self.views:
            yield from (np.array([view.index, view.stamp_ns]), view.xy, view.inverse_depth)
            yield view.descriptor
            yield from (np.zeros(0) if array is None else array for array in (view.rgb, view.nearest_m))
