# SPDX-License-Identifier: Apache-2.0
"""The map: keyframes, points and which keyframe saw which point."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from drp_slam.datatypes import FEATURE_DIM
from drp_slam.slam import se3
from drp_slam.slam.features import View


@dataclass
class Keyframe:
    """A view with its pose. `point` (N,) holds the map point of each feature, -1 for none."""

    view: View
    T_camera_world: np.ndarray
    point: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.intp))

    @property
    def T_world_camera(self) -> np.ndarray:
        return se3.inverse(self.T_camera_world)

    def observed(self) -> tuple[np.ndarray, np.ndarray]:
        """Features that have a point, and those points."""
        features = np.flatnonzero(self.point >= 0)
        return features, self.point[features]


class Map:
    """Points live in arrays that grow by doubling; a point's number never changes."""

    def __init__(self) -> None:
        self.keyframes: list[Keyframe] = []
        self.size = 0
        self._xyz = np.zeros((1024, 3))
        self._descriptor = np.zeros((1024, FEATURE_DIM), dtype=np.float32)
        self._rgb = np.zeros((1024, 3), dtype=np.uint8)
        self._observations = np.zeros(1024, dtype=np.intp)
        self._alive = np.zeros(1024, dtype=bool)
        self.coloured = False

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
    def alive(self) -> np.ndarray:
        """(M,) False for culled points."""
        return self._alive[: self.size]

    def add_points(
        self, xyz: np.ndarray, descriptor: np.ndarray, rgb: np.ndarray | None
    ) -> np.ndarray:
        """Appends points and returns their numbers."""
        numbers = np.arange(self.size, self.size + len(xyz))
        self._reserve(self.size + len(xyz))
        self.size += len(xyz)
        self.xyz[numbers], self.descriptor[numbers] = xyz, descriptor
        self.alive[numbers], self.observations[numbers] = True, 0
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

    def _reserve(self, size: int) -> None:
        capacity = len(self._xyz)
        while capacity < size:
            capacity *= 2
        if capacity > len(self._xyz):
            for name in ("_xyz", "_descriptor", "_rgb", "_observations", "_alive"):
                old = getattr(self, name)
                new = np.zeros((capacity,) + old.shape[1:], dtype=old.dtype)
                new[: len(old)] = old
                setattr(self, name, new)

    def covisible(self, keyframe: Keyframe, limit: int) -> list[int]:
        """Numbers of the keyframes that share most points with one, best first, itself excluded."""
        mark = np.zeros(self.size, dtype=bool)
        mark[keyframe.observed()[1]] = True
        shared = np.array([mark[k.observed()[1]].sum() if k is not keyframe else 0
                           for k in self.keyframes])  # fmt: skip
        order = np.argsort(-shared, kind="stable")[:limit]
        return [int(i) for i in order if shared[i] > 0]
