# SPDX-License-Identifier: Apache-2.0
"""The map as data: keyframes, points, and which feature of which keyframe saw which point."""

from __future__ import annotations

import copy
import heapq
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np

from drp_slam import geometry
from drp_slam.datatypes import XFEAT_DESCRIPTOR, DescriptorSpec
from drp_slam.slam import descriptors
from drp_slam.slam.compiled import NO_NUMBERS
from drp_slam.slam.view import View

GROWTH = 4
"""Arrays of points grow by a quarter of their rows: room for points to come is memory too."""
LINKED = 15
"""Keyframes that share as many points are neighbours."""


class Map:
    """Arrays and numbers only: keyframes and points are known by their numbers.

    `views[k]` are the features of keyframe k, which never change, and `point[k]` (N,) intp holds
    the map point of each, -1 for none. Arrays with a row a keyframe or a point grow by doubling;
    their properties are writable views of the rows in use. The number of a dead point is given
    again. `links[k]` has the number of points that keyframe k shared with others when the later one
    was made, by their numbers. Whoever sees a point is linked with the keyframe that made it, so
    that nothing has to look at all keyframes. `anchors` has the keyframes that were dropped: they see
    nothing, and their pose is `T` (4, 4), camera to camera, from that of another. `part[k]` is the map
    that a keyframe belongs to: a new one begins where the camera is lost in a place that no other
    shows, with a world of its own. `joined` has those that were joined with others, and with which.
    `classes` are the names of what a detector found, in the order in which they were first seen.
    Two maps are equal where all their arrays are.
    """

    def __init__(self, spec: DescriptorSpec = XFEAT_DESCRIPTOR) -> None:
        descriptors.check_spec(spec)
        self.spec = spec
        self.views: list[View] = []
        self.point: list[np.ndarray] = []
        self.links: list[dict[int, int]] = []
        self.anchors: dict[int, tuple[int, np.ndarray]] = {}
        self.part: list[int] = []
        self.joined: dict[int, int] = {}
        self.classes: list[str] = []
        self.size = 0
        self._poses = np.zeros((16, 4, 4))
        self._covariance, self._unscaled = np.zeros((16, 6, 6)), np.zeros((16, 4))
        self._points = {
            "xyz": np.zeros((1024, 3)),
            "descriptor": np.zeros((1024, spec.length), dtype=stored(spec)),
            "rgb": np.zeros((1024, 3), dtype=np.uint8),
            "observations": np.zeros(1024, dtype=np.intp),
            "reference": np.zeros(1024, dtype=np.intp),
            "found": np.zeros(1024, dtype=np.intp),
            "trust": np.zeros(1024),
            "measured": np.zeros(1024, dtype=bool),
            "label": np.zeros(1024, dtype=np.int16),
            "label_votes": np.zeros(1024, dtype=np.int16),
            "alive": np.zeros(1024, dtype=bool),
        }
        if spec.metric == "hamming":
            self._points["votes"] = np.zeros((1024, descriptors.width(spec)), dtype=np.int8)
        # numbers of dead points, smallest first; None: not known
        self._dead: list[int] | None = None
        # all False but while a method marks points in it: nothing has to look at all points
        self._marks = np.zeros(1024, dtype=bool)

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
        """(K, 4) float64: the variance of the scale since the last keyframe that saw measured points, and where that is
        along the camera's axes, in metres."""
        return self._unscaled[: len(self.views)]

    @property
    def live(self) -> np.ndarray:
        """Numbers of the keyframes that were not dropped, ascending."""
        return np.array([k for k in range(len(self.views)) if k not in self.anchors], dtype=np.intp)

    def pose(self, number: int) -> np.ndarray:
        """(4, 4) `T_camera_world` of a keyframe, dropped or not."""
        if number not in self.anchors:
            return self.T_camera_world[number]
        anchor, T = self.anchors[number]
        return T @ self.pose(anchor)

    @property
    def coloured(self) -> bool:
        """Whether some keyframe came with an image."""
        return any(view.rgb is not None for view in self.views)

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """All that is known of the points, by name: arrays of M rows."""
        return {name: array[: self.size] for name, array in self._points.items()}

    @property
    def xyz(self) -> np.ndarray:
        """(M, 3) float64 metres in the world."""
        return self._points["xyz"][: self.size]

    @property
    def descriptor(self) -> np.ndarray:
        """(M, length) as `spec` says, floats with half their bits."""
        return self._points["descriptor"][: self.size]

    @property
    def rgb(self) -> np.ndarray:
        """(M, 3) uint8."""
        return self._points["rgb"][: self.size]

    @property
    def observations(self) -> np.ndarray:
        """(M,) number of keyframes that see the point."""
        return self._points["observations"][: self.size]

    @property
    def reference(self) -> np.ndarray:
        """(M,) number of the keyframe that made the point."""
        return self._points["reference"][: self.size]

    @property
    def found(self) -> np.ndarray:
        """(M,) number of frames that were tracked by the point."""
        return self._points["found"][: self.size]

    @property
    def trust(self) -> np.ndarray:
        """(M,) how far a point is trusted to stand still (`trust.py`)."""
        return self._points["trust"][: self.size]

    @property
    def measured(self) -> np.ndarray:
        """(M,) bool: some keyframe has measured the point's depth."""
        return self._points["measured"][: self.size]

    @property
    def label(self) -> np.ndarray:
        """(M,) int16: 0 for no class, k for `classes[k - 1]` (`labels.py`)."""
        return self._points["label"][: self.size]

    @property
    def label_votes(self) -> np.ndarray:
        """(M,) int16: by how many votes the label leads."""
        return self._points["label_votes"][: self.size]

    @property
    def alive(self) -> np.ndarray:
        """(M,) False for culled points."""
        return self._points["alive"][: self.size]

    def observed(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Features of a keyframe that have a point, and those points."""
        point = self.point[number]
        features = np.flatnonzero(point >= 0)
        return features, point[features]

    def seen_by(self, keyframes: Iterable[int]) -> np.ndarray:
        """(P,) numbers, ascending, of the points that at least one of the keyframes sees."""
        seen = [NO_NUMBERS, *(self.observed(k)[1] for k in keyframes)]
        return np.unique(np.concatenate(seen))

    @contextmanager
    def marked(self, points: np.ndarray) -> Iterator[np.ndarray]:
        """(any,) bool by number of a point: True for `points` while the block lasts. One block at a time."""
        if len(self._marks) < self.size:
            self._marks = np.zeros(len(self._points["alive"]), dtype=bool)
        self._marks[points] = True
        try:
            yield self._marks
        finally:
            self._marks[points] = False

    def recount(self) -> None:
        """The columns were written to from outside: which points are dead is looked for again."""
        self._dead = None

    @property
    def holders(self) -> set[int]:
        """The first keyframe of each part, which holds its world."""
        return {self.part.index(part) for part in set(self.part)}

    def join(self, part: int, other: int) -> None:
        """Keyframes of `part` belong to `other` from now on."""
        self.part = [other if p == part else p for p in self.part]
        self.joined[part] = other

    def add_keyframe(self, view: View, T_camera_world: np.ndarray, part: int = 0) -> int:
        """Appends a keyframe that sees no point yet and returns its number."""
        number = len(self.views)
        if number == len(self._poses):
            capacity = max(16, 2 * number)
            self._poses = _grown(self._poses, capacity)
            self._covariance = _grown(self._covariance, capacity)
            self._unscaled = _grown(self._unscaled, capacity)
        self._poses[number] = T_camera_world
        self.views.append(view)
        self.links.append({})
        self.part.append(part)
        self.point.append(np.full(len(view), -1, dtype=np.intp))
        return number

    def add_points(
        self, xyz: np.ndarray, descriptor: np.ndarray, rgb: np.ndarray | None, keyframe: int = 0
    ) -> np.ndarray:
        """Adds points that a keyframe made and returns their numbers."""
        if self._dead is None:
            self._dead = np.flatnonzero(~self.alive).tolist()
        free = [heapq.heappop(self._dead) for _ in range(min(len(xyz), len(self._dead)))]
        more = len(xyz) - len(free)
        numbers = np.concatenate([np.array(free, dtype=np.intp), np.arange(self.size, self.size + more)])
        capacity = len(self._points["xyz"])
        while capacity < self.size + more:
            capacity += capacity // GROWTH
        if capacity > len(self._points["xyz"]):
            for name in self._points:  # one after the other: the old one goes first
                self._points[name] = _grown(self._points[name], capacity)
        self.size += more
        self.xyz[numbers], self.descriptor[numbers] = xyz, descriptor
        self.alive[numbers], self.observations[numbers] = True, 0
        self.reference[numbers], self.found[numbers], self.trust[numbers] = keyframe, 0, 0.0
        self.label[numbers] = self.label_votes[numbers] = 0
        self.measured[numbers] = False
        if "votes" in self._points:
            self._points["votes"][numbers] = 0
        if rgb is not None:
            self.rgb[numbers] = rgb
        return numbers

    def observe(self, number: int, features: np.ndarray, points: np.ndarray) -> None:
        """Notes that a keyframe's features see points; the points' descriptors follow them."""
        self.point[number][features] = points
        new = self.views[number].descriptor[features]
        if "votes" in self._points:
            votes = self._points["votes"]
            votes[points], self.descriptor[points] = descriptors.vote(votes[points], new)
        else:
            before = self.descriptor[points].astype(np.float32)
            self.descriptor[points] = descriptors.follow(before, self.observations[points], new)
        self.observations[points] += 1
        self.measured[points] |= self.views[number].inverse_depth[features] > 0

    def forget(self, number: int, features: np.ndarray) -> None:
        """Takes observations back; points that nobody sees any more die."""
        points = self.point[number][features]
        self.point[number][features] = -1
        self.observations[points] -= 1
        self._kill(points[self.observations[points] <= 0])

    def _kill(self, points: np.ndarray) -> None:
        """These points are part of the map no longer; some may be dead already."""
        points = points[self.alive[points]]
        self.alive[points] = False
        if self._dead is not None:
            for point in points.tolist():
                heapq.heappush(self._dead, point)

    def cull(self, number: int, least_found: int) -> None:
        """Forgets points that no other keyframe and fewer than `least_found` frames have seen."""
        features, points = self.observed(number)
        poor = (self.observations[points] == 1) & (self.found[points] < least_found)
        self.forget(number, features[poor])

    def observers(self, points: np.ndarray) -> list[int]:
        """Numbers of all keyframes that may see some of the points, ascending."""
        makers = np.unique(self.reference[points]).tolist()
        return sorted(set(makers).union(*(self.links[k] for k in makers)))

    def remove(self, points: np.ndarray) -> None:
        """Takes back all observations of the points: they die."""
        with self.marked(points) as dead:
            for number in self.observers(points):
                point = self.point[number]
                self.forget(number, np.flatnonzero((point >= 0) & dead[point]))

    def merge(self, duplicates: np.ndarray, points: np.ndarray) -> None:
        """Whoever sees `duplicates[i]` sees `points[i]` from now on; the duplicates die.

        A keyframe that sees both keeps the feature that saw the point before.
        """
        alias = np.full(self.size, -1)
        alias[duplicates] = points
        for number in self.observers(duplicates):
            features, seen = self.observed(number)
            moved = alias[seen] >= 0
            if not moved.any():
                continue
            new = alias[seen[moved]]
            taken = np.isin(new, seen[~moved])
            self.point[number][features[moved]] = np.where(taken, -1, new)
            np.add.at(self.observations, new[~taken], 1)
            self.meet(number, self.reference[new[~taken]])
        self.measured[points] |= self.measured[duplicates]
        self.observations[duplicates] = 0
        self._kill(duplicates)

    def meet(self, number: int, makers: np.ndarray) -> None:
        """Links a keyframe with those that made points which it sees, where it is not yet."""
        for maker in np.unique(makers).tolist():
            if maker != number:
                self.links[number].setdefault(maker, 1)
                self.links[maker].setdefault(number, 1)

    def feature_descriptors(self, number: int, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Those of a keyframe's features whose descriptor is known, and these descriptors.

        An old keyframe has few of its own (`culling.slim`): those of its points stand for the others.
        """
        own, point = self.views[number].descriptor, self.point[number][features]
        if len(own) == len(self.views[number]):
            return features, own[features].astype(self.spec.dtype, copy=False)
        features, point = features[point >= 0], point[point >= 0]
        return features, self.descriptor[point].astype(self.spec.dtype, copy=False)

    def link(self, number: int, parent: int = -1) -> None:
        """Counts the points that a keyframe shares with each other one.

        The `parent` is the one it was tracked from: linked in any case.
        """
        points = self.observed(number)[1]
        with self.marked(points) as mine:
            shared = {
                k: int(np.count_nonzero(mine[self.observed(k)[1]])) for k in self.observers(points) if k != number
            }
        # makers that see their points no longer are linked too
        shared |= {k: max(1, shared.get(k, 0)) for k in np.unique(self.reference[points]).tolist() if k != number}
        for k, count in shared.items():
            if count:
                self.links[k][number] = self.links[number][k] = count
        if parent >= 0:
            least = max(LINKED, self.links[parent].get(number, 0))
            self.links[parent][number] = self.links[number][parent] = least

    def covisible(self, number: int, limit: int) -> list[int]:
        """Numbers of the keyframes that share most points with one, best first, itself excluded."""
        shared = self.links[number]
        return sorted(shared, key=lambda k: (-shared[k], k))[:limit]

    def reach(self, number: int, hops: int) -> set[int]:
        """Keyframes that a chain of at most `hops` links leads to, each of at least `LINKED` shared
        points; the keyframe itself belongs to them."""
        inside = edge = {number}
        for _ in range(hops):
            edge = {k for e in edge for k, shared in self.links[e].items() if shared >= LINKED} - inside
            inside = inside | edge
        return inside

    def move(self, T_camera_world: np.ndarray) -> None:
        """Keyframes to new poses (K, 4, 4), and every point with the keyframe that made it."""
        S = geometry.inverse(T_camera_world) @ self.T_camera_world
        x, y, z = self.xyz.T.copy()
        for i in range(3):  # a map of thousands of keyframes must move within a frame
            a, b, c, d = (np.ascontiguousarray(S[:, i, j])[self.reference] for j in range(4))
            self.xyz[:, i] = a * x + b * y + c * z + d
        self.T_camera_world[:] = T_camera_world

    def link_rows(self) -> np.ndarray:
        """(L, 3) two keyframes, the smaller number first, and the points they shared; in ascending order."""
        rows = [(k, j, shared) for k, links in enumerate(self.links) for j, shared in links.items() if k < j]
        return np.array(sorted(rows), dtype=np.int64).reshape(-1, 3)

    def copy(self) -> Map:
        """A map that shares nothing with this one."""
        return copy.deepcopy(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Map) or (self.spec, len(self), self.size) != (other.spec, len(other), other.size):
            return False
        if self.classes != other.classes:
            return False
        return all(np.array_equal(a, b) for a, b in zip(self._content(), other._content()))

    __hash__ = None  # type: ignore[assignment]

    def _content(self) -> Iterator[np.ndarray]:
        """Everything that two equal maps have in common, in a fixed order."""
        yield from (np.array(self.part), self.T_camera_world, self.covariance, self.unscaled, self.link_rows())
        yield from (*self.columns.values(), *self.point)
        for number, (anchor, T) in sorted(self.anchors.items()):
            yield from (np.array([number, anchor]), T)
        for view in self.views:
            yield from (np.array([view.index, view.stamp_ns]), view.uv, view.xy, view.inverse_depth)
            yield view.descriptor
            yield from (np.zeros(0) if array is None else array for array in (view.rgb, view.nearest_m))


def stored(spec: DescriptorSpec) -> str:
    """Type of the descriptors of points: rounded, cosines change by some millionths."""
    return "float16" if spec.dtype == "float32" else spec.dtype


def _grown(array: np.ndarray, capacity: int) -> np.ndarray:
    """The array with rows of zeros behind its own."""
    new = np.zeros((capacity, *array.shape[1:]), dtype=array.dtype)
    new[: len(array)] = array
    return new
