# SPDX-License-Identifier: Apache-2.0
"""The points of a map: one array per attribute, one row per point. The rows of culled points are used again."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from drp_slam.datatypes import DescriptorSpec
from drp_slam.slam import descriptors
from drp_slam.slam.compiled import native

GROWTH = 4
"""Full arrays grow by one row in so many: spare rows cost memory too."""
LARGEST_STEP = 1 << 14
"""And by this many rows at most: the zeros of the new rows are written within one frame."""


class Column:
    """One attribute of all points."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, points: Points, owner: type | None = None) -> np.ndarray:
        return points._rows[self._name][: points.size]


class Points:
    """A table of points, known by their row numbers; the columns are writable views of the rows in use."""

    xyz = Column()
    """(M, 3) float64 metres in the world."""
    descriptor = Column()
    """(M, length) of the type `stored(spec)`."""
    rgb = Column()
    """(M, 3) uint8."""
    observations = Column()
    """(M,) number of keyframes that see the point."""
    reference = Column()
    """(M,) number of the keyframe that created the point."""
    found = Column()
    """(M,) number of frames that were tracked by the point."""
    trust = Column()
    """(M,) how far the point is trusted to be static (`trust.py`)."""
    measured = Column()
    """(M,) bool: some keyframe has measured the point's depth."""
    label = Column()
    """(M,) int16: 0 for no class, k for `Map.classes[k - 1]` (`labels.py`)."""
    label_votes = Column()
    """(M,) int16: by how many votes the label leads."""
    alive = Column()
    """(M,) False for culled points."""

    def __init__(self, spec: DescriptorSpec) -> None:
        self.size = 0
        """Number of rows in use, culled points included."""
        self._rows = {
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
            self._rows["votes"] = np.zeros((1024, descriptors.width(spec)), dtype=np.int8)
        # heap of the free rows; None: to be searched for
        self._free: list[int] | None = None
        # all False except inside `marked`: a lookup by number that need not be cleared as a whole
        self._marks = np.zeros(1024, dtype=bool)

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """All attributes by name: arrays of M rows."""
        return {name: array[: self.size] for name, array in self._rows.items()}

    def depth_m(self, numbers: np.ndarray, T_camera_world: np.ndarray) -> np.ndarray:
        """(N,) depths of points in a camera."""
        return self.xyz[numbers] @ T_camera_world[2, :3] + T_camera_world[2, 3]

    def add(self, xyz: np.ndarray, descriptor: np.ndarray, rgb: np.ndarray | None, keyframe: int = 0) -> np.ndarray:
        """Adds points that a keyframe creates, not yet observed by any, and returns their numbers."""
        if self._free is None:
            self._free = np.flatnonzero(~self.alive).tolist()
        free = [heapq.heappop(self._free) for _ in range(min(len(xyz), len(self._free)))]
        more = len(xyz) - len(free)
        numbers = np.array([*free, *range(self.size, self.size + more)], dtype=np.intp)
        capacity = len(self._rows["xyz"])
        while capacity < self.size + more:
            capacity += min(capacity // GROWTH, LARGEST_STEP)
        if capacity > len(self._rows["xyz"]):
            grow(self._rows, capacity)
        self.size += more
        for name, array in self._rows.items():
            if name != "rgb":
                array[numbers] = 0
        self.xyz[numbers], self.descriptor[numbers] = xyz, descriptor
        self.alive[numbers], self.reference[numbers] = True, keyframe
        if rgb is not None:
            self.rgb[numbers] = rgb
        return numbers

    def observe(
        self, numbers: np.ndarray, descriptor: np.ndarray, inverse_depth: np.ndarray, features: np.ndarray
    ) -> None:
        """Counts one observation of each point, none twice: its descriptor moves towards the one observed.

        `features` (N,) are rows of a keyframe's descriptors (F, length) and inverse depths (F,).
        """
        if "votes" not in self._rows and native is not None:
            known = self.descriptor, self.observations, self.measured, numbers
            native.follow(*known, descriptor, inverse_depth, features, descriptors.MEMORY)
            return
        descriptor, measured = descriptor[features], inverse_depth[features] > 0
        if "votes" in self._rows:
            votes = self._rows["votes"]
            votes[numbers], self.descriptor[numbers] = descriptors.vote(votes[numbers], descriptor)
        else:
            before = self.descriptor[numbers].astype(np.float32)
            self.descriptor[numbers] = descriptors.follow(before, self.observations[numbers], descriptor)
        self.observations[numbers] += 1
        self.measured[numbers] |= measured

    def cull(self, numbers: np.ndarray) -> None:
        """Frees the rows of these points; those that are culled already stay so."""
        numbers = numbers[self.alive[numbers]]
        self.alive[numbers] = False
        if self._free is not None:
            for number in numbers.tolist():
                heapq.heappush(self._free, number)

    def refresh(self) -> None:
        """Call this after writing to `alive` from outside: free rows are searched for again."""
        self._free = None

    @property
    def marks(self) -> np.ndarray:
        """(any,) bool by point number, all False: whoever sets some clears them again."""
        if len(self._marks) < self.size:
            self._marks = np.zeros(len(self._rows["alive"]), dtype=bool)
        return self._marks

    @contextmanager
    def marked(self, numbers: np.ndarray) -> Iterator[np.ndarray]:
        """(any,) bool by point number: True for `numbers` inside the `with` block. Blocks must not be nested."""
        marks = self.marks
        marks[numbers] = True
        try:
            yield marks
        finally:
            marks[numbers] = False


def stored(spec: DescriptorSpec) -> str:
    """Type of the points' descriptors: half floats, which change cosines by some millionths."""
    return "float16" if spec.dtype == "float32" else spec.dtype


def grow(rows: dict[str, np.ndarray], capacity: int) -> None:
    """Extends arrays by rows of zeros, in place where no view of one is in use.

    The system moves the pages of a large array instead of copying them: no frame waits for a map that grows.
    """
    for name in list(rows):
        rows[name] = _resized(rows.pop(name), capacity)


def _resized(array: np.ndarray, capacity: int) -> np.ndarray:
    """Call this with the only reference to the array: else it is copied."""
    shape = (capacity, *array.shape[1:])
    try:
        array.resize(shape)
        return array
    except ValueError:
        return grown(array, capacity)


def grown(array: np.ndarray, capacity: int) -> np.ndarray:
    """A copy of the array, extended by rows of zeros."""
    new = np.zeros((capacity, *array.shape[1:]), dtype=array.dtype)
    new[: len(array)] = array
    return new
