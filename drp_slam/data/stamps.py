# SPDX-License-Identifier: Apache-2.0
"""Decides which stamps of a stream are usable, and detects when their clock was reset."""

from __future__ import annotations

import itertools
import logging
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import Generic, TypeVar

import numpy as np

from drp_slam.datatypes import Frame

log = logging.getLogger(__name__)
T = TypeVar("T")

FAR_S = 5.0
"""A stamp further ahead of its predecessor than this and than `FAR_INTERVALS` is held back."""
FAR_INTERVALS = 20
"""Slow cameras have longer gaps: up to this many usual intervals between frames are accepted."""
CONFIRMING = 3
"""This many consecutive frames that agree with each other, but not with those before, begin a new epoch."""
UNEVEN = 3.0
"""Largest ratio of the longest to the shortest interval of consistent frames."""
USUAL_OF = 15
"""Number of last intervals whose median is the usual one."""


@dataclass(frozen=True)
class Admission(Generic[T]):
    """What to do about one frame: `items` (none, one, or those held back) are to be used now, in order.

    `problem` says why the frame is not among them, or that a new epoch begins with them; empty
    if there is none.
    """

    items: tuple[T, ...] = ()
    problem: str = ""
    new_epoch: bool = False


@dataclass
class StampGate(Generic[T]):
    """Admits a stream's frames by their stamps, in nanoseconds.

    Within an epoch stamps increase without a jump. A frame that does not fit (a duplicate, one from
    the past, one far ahead) is held back. If the next frame fits the epoch, the held frame is dropped;
    if `CONFIRMING` consecutive frames fit each other, they are released and begin a new epoch: the
    recording loops, the clock was set, or the camera paused. So one wrong stamp costs one frame, and no
    wrong stamp blocks the gate permanently.
    """

    topic: str
    epoch: int = 0
    _dropped: int = 0
    _last_ns: int | None = None
    _held: list[tuple[int, T]] = field(default_factory=list)
    _intervals_ns: deque[int] = field(default_factory=lambda: deque(maxlen=USUAL_OF))

    @property
    def refused(self) -> int:
        """Number of frames dropped so far."""
        return self._dropped + len(self._held)

    def stream(self: StampGate[Frame], frames: Iterable[Frame]) -> Iterator[tuple[Frame, bool]]:
        """The admitted frames of a recording, each with whether it begins a new epoch; logs the others."""
        for frame in frames:
            admission = self.admit(frame.stamp_ns, frame)
            if admission.problem:
                log.warning(admission.problem)
            for k, admitted in enumerate(admission.items):
                yield admitted, admission.new_epoch and k == 0

    def admit(self, stamp_ns: int, item: T) -> Admission[T]:
        """Checks the next frame of the stream."""
        if stamp_ns < 0:
            self._dropped += 1
            return Admission(problem=f"{self.topic}: stamp {stamp_ns} ns is negative; check the camera's clock")
        if self._last_ns is None or self._follows(self._last_ns, stamp_ns):
            self._drop(len(self._held))
            return self._accept([(stamp_ns, item)])
        if self._held and stamp_ns <= self._held[-1][0]:
            self._drop(len(self._held))
        self._held.append((stamp_ns, item))
        if len(self._held) < CONFIRMING:
            return Admission(problem=self._doubt(stamp_ns))
        if not _even([stamp for stamp, _ in self._held]):
            self._drop(1)
            return Admission(problem=self._doubt(stamp_ns))
        held, before_ns = self._held, self._last_ns
        self._held = []
        self._intervals_ns.clear()
        self._last_ns = None
        self.epoch += 1
        leap_s = (held[0][0] - before_ns) * 1e-9
        words = f"{self.topic}: stamps jumped by {leap_s:+.3f} s; epoch {self.epoch} begins"
        return Admission(self._accept(held).items, words, new_epoch=True)

    def _follows(self, before_ns: int, stamp_ns: int) -> bool:
        usual_ns = median(self._intervals_ns) if self._intervals_ns else 0
        return 0 < stamp_ns - before_ns <= max(FAR_S * 1e9, FAR_INTERVALS * usual_ns)

    def _drop(self, oldest: int) -> None:
        self._dropped += oldest
        del self._held[:oldest]

    def _accept(self, frames: list[tuple[int, T]]) -> Admission[T]:
        for stamp_ns, _ in frames:
            if self._last_ns is not None:
                self._intervals_ns.append(stamp_ns - self._last_ns)
            self._last_ns = stamp_ns
        return Admission(tuple(item for _, item in frames))

    def _doubt(self, stamp_ns: int) -> str:
        assert self._last_ns is not None
        difference_s = (stamp_ns - self._last_ns) * 1e-9
        if difference_s > 0:
            words = f"{difference_s:.3f} s after the last frame: far ahead"
        elif difference_s < 0:
            words = f"{-difference_s:.3f} s before the last frame"
        else:
            words = "the last frame's again"
        return f"{self.topic}: stamp {stamp_ns} ns is {words}; it is dropped unless the next ones are consistent"


def admitted(stamps_ns: np.ndarray, topic: str) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Indices of the valid stamps of a recording, their epochs, and notes on the others."""
    gate: StampGate[int] = StampGate(topic)
    used: list[int] = []
    epochs: list[int] = []
    problems: list[str] = []
    for k, stamp_ns in enumerate(stamps_ns.tolist()):
        admission = gate.admit(stamp_ns, k)
        used += admission.items
        epochs += [gate.epoch] * len(admission.items)
        if admission.problem:
            problems.append(admission.problem)
    notes = tuple(problem for problem in problems if "epoch" in problem)
    if gate.refused:
        odd = next(problem for problem in problems if "epoch" not in problem)
        notes += (f"{topic}: {gate.refused} of {len(stamps_ns)} skipped for their stamps, the first: {odd}",)
    return np.array(used, np.int64), np.array(epochs, np.int64), notes


def _even(stamps_ns: list[int]) -> bool:
    """Whether increasing stamps can be those of one camera: close together or evenly spaced."""
    intervals = [b - a for a, b in itertools.pairwise(stamps_ns)]
    return max(intervals) <= max(FAR_S * 1e9, UNEVEN * min(intervals))
