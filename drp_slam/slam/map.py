# SPDX-License-Identifier: Apache-2.0
"""The map: keyframes, points and which keyframe saw which point."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from drp_slam import geometry
from drp_slam.datatypes import FEATURE_DIM
from drp_slam.slam.view import View

LINKED = 15
"""Keyframes that share as many points are neighbours."""

GROWING = ("_xyz", "_descriptor", "_rgb", "_observations", "_alive", "_reference", "_found")
"""Arrays of a map with a row a point."""


@dataclass
class Keyframe:
    """A view with its pose. `point` (N,) holds the map point of each feature, -1 for none;
    `number` is its place in `Map.keyframes`."""

    view: View
    T_camera_world: np.ndarray
    point: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.intp))
    number: int = -1

    @property
    def T_world_camera(self) -> np.ndarray:
        return geometry.inverse(self.T_camera_world)

    def observed(self) -> tuple[np.ndarray, np.ndarray]:
        """Features that have a point, and those points."""
        features = np.flatnonzero(self.point >= 0)
        return features, self.point[features]


class Map:
    """Points live in arrays that grow by doubling; the number of a dead one is given again."""

    def __init__(self) -> None:
        self.keyframes: list[Keyframe] = []
        self.size = 0
        self._xyz = np.zeros((1024, 3))
        self._descriptor = np.zeros((1024, FEATURE_DIM), dtype=np.float32)
        self._rgb = np.zeros((1024, 3), dtype=np.uint8)
        self._observations = np.zeros(1024, dtype=np.intp)
        self._reference = np.zeros(1024, dtype=np.intp)
        self._found = np.zeros(1024, dtype=np.intp)
        self._alive = np.zeros(1024, dtype=bool)
        self.coloured = False
        self._links = np.zeros((16, 16), dtype=np.intp)

    @property
    def xyz(self) -> np.ndarray:
        """(M, 3) float64 metres in the world; a writable view."""
        return self._xyz[: self.size]

    @property
    def descriptor(self) -> np.ndarray:
        """(M, 64) float32 unit descriptors."""
        return self._descriptor[: self.size]

    @property
    def rgb(self) -> np.ndarray:
        """(M, 3) uint8."""
        return self._rgb[: self.size]

    @property
    def observations(self) -> np.ndarray:
        """(M,) number of keyframes that see the point."""
        return self._observations[: self.size]

    @property
    def reference(self) -> np.ndarray:
        """(M,) number of the keyframe that made the point."""
        return self._reference[: self.size]

    @property
    def found(self) -> np.ndarray:
        """(M,) number of frames that were tracked by the point."""
        return self._found[: self.size]

    @property
    def links(self) -> np.ndarray:
        """(K, K) points that two keyframes shared when the later one was made; 0 on the diagonal.

        Points that were forgotten since are counted still.
        """
        count = len(self.keyframes)
        return self._links[:count, :count]

    @property
    def alive(self) -> np.ndarray:
        """(M,) False for culled points."""
        return self._alive[: self.size]

    def add_points(
        self, xyz: np.ndarray, descriptor: np.ndarray, rgb: np.ndarray | None, keyframe: int = 0
    ) -> np.ndarray:
        """Adds points that a keyframe made and returns their numbers."""
        free = np.flatnonzero(~self.alive)[: len(xyz)]
        more = len(xyz) - len(free)
        numbers = np.concatenate([free, np.arange(self.size, self.size + more)])
        self._reserve(self.size + more)
        self.size += more
        self.xyz[numbers], self.descriptor[numbers] = xyz, descriptor
        self.alive[numbers], self.observations[numbers] = True, 0
        self.reference[numbers], self.found[numbers] = keyframe, 0
        if rgb is not None:
            self.rgb[numbers], self.coloured = rgb, True
        return numbers

    def observe(self, keyframe: Keyframe, features: np.ndarray, points: np.ndarray) -> None:
        """Notes that a keyframe's features see points; the points' descriptors follow them."""
        keyframe.point[features] = points
        seen = self.observations[points][:, None]
        mean = self.descriptor[points] * np.minimum(seen, 8) + keyframe.view.descriptor[features]
        mean /= np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)
        self.descriptor[points] = mean
        self.observations[points] += 1

    def forget(self, keyframe: Keyframe, features: np.ndarray) -> None:
        """Takes observations back; points that nobody sees any more die."""
        points = keyframe.point[features]
        keyframe.point[features] = -1
        self.observations[points] -= 1
        self.alive[points[self.observations[points] <= 0]] = False

    def cull(self, keyframe: Keyframe, least_found: int) -> None:
        """Forgets points that no other keyframe and fewer than `least_found` frames have seen."""
        features, points = keyframe.observed()
        poor = (self.observations[points] == 1) & (self.found[points] < least_found)
        self.forget(keyframe, features[poor])

    def _reserve(self, size: int) -> None:
        capacity = len(self._xyz)
        while capacity < size:
            capacity *= 2
        if capacity > len(self._xyz):
            for name in GROWING:
                old = getattr(self, name)
                new = np.zeros((capacity,) + old.shape[1:], dtype=old.dtype)
                new[: len(old)] = old
                setattr(self, name, new)

    def add_keyframe(self, keyframe: Keyframe) -> None:
        """Appends a keyframe; `link` says with which others it shares points."""
        keyframe.number = len(self.keyframes)
        self.keyframes.append(keyframe)
        if len(self.keyframes) > len(self._links):
            old = self._links
            self._links = np.zeros((2 * len(old), 2 * len(old)), dtype=np.intp)
            self._links[: len(old), : len(old)] = old

    def link(self, keyframe: Keyframe, others: np.ndarray, parent: int = -1) -> None:
        """Counts the points that a keyframe shares with each of `others`.

        The `parent` is the one it was tracked from: linked in any case.
        """
        mark = np.zeros(self.size, dtype=bool)
        mark[keyframe.observed()[1]] = True
        for k in others.tolist():
            if k != keyframe.number:
                shared = int(mark[self.keyframes[k].observed()[1]].sum())
                self.links[k, keyframe.number] = self.links[keyframe.number, k] = shared
        if parent >= 0:
            shared = max(LINKED, int(self.links[parent, keyframe.number]))
            self.links[parent, keyframe.number] = self.links[keyframe.number, parent] = shared

    def covisible(self, number: int, limit: int) -> list[int]:
        """Numbers of the keyframes that share most points with one, best first, itself excluded."""
        shared = self.links[number]
        order = np.argsort(-shared, kind="stable")[:limit]
        return [int(i) for i in order if shared[i] > 0]

    def reach(self, number: int, hops: int) -> np.ndarray:
        """(K,) bool: keyframes that a chain of at most `hops` links leads to, each of at least
        `LINKED` shared points; the keyframe itself belongs to them."""
        inside = np.zeros(len(self.keyframes), dtype=bool)
        inside[number] = True
        for _ in range(hops):  # only rows that are needed: this is asked for in every frame
            inside |= (self.links[inside] >= LINKED).any(axis=0)
        return inside

    def merge(self, duplicates: np.ndarray, points: np.ndarray) -> None:
        """Whoever sees `duplicates[i]` sees `points[i]` from now on; the duplicates die.

        A keyframe that sees both keeps the feature that saw the point before.
        """
        alias = np.arange(self.size)
        alias[duplicates] = points
        double = np.zeros(self.size, dtype=bool)
        double[duplicates] = True
        for keyframe in self.keyframes:
            features, seen = keyframe.observed()
            moved = double[seen]
            if not moved.any():
                continue
            taken = np.zeros(self.size, dtype=bool)
            taken[seen[~moved]] = True
            new = alias[seen[moved]]
            keyframe.point[features[moved]] = np.where(taken[new], -1, new)
            np.add.at(self.observations, new[~taken[new]], 1)
        self.observations[duplicates] = 0
        self.alive[duplicates] = False
