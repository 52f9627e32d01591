# SPDX-License-Identifier: Apache-2.0
"""Pairs features with the depth image of nearest stamp."""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Generic, TypeVar

T = TypeVar("T")

TOLERANCE_NS = 20_000_000
"""Largest difference of stamps between a colour image and its depth."""
LATER_NS = 5_000_000_000
"""Values further ahead than this do not show that earlier ones have arrived: their stamps are wrong."""


class Verdict(Enum):
    """Whether a partner was found."""

    FOUND = "found"
    WAIT = "wait"
    NONE = "none"


class Stamped(Generic[T]):
    """The latest values of a topic, by stamp."""

    def __init__(self, length: int) -> None:
        self._values: deque[tuple[int, T]] = deque(maxlen=length)

    def add(self, stamp_ns: int, value: T) -> None:
        """Adds a value and drops the oldest one if full."""
        self._values.append((stamp_ns, value))

    def clear(self) -> None:
        """Drops everything."""
        self._values.clear()

    def forget_later(self, stamp_ns: int) -> None:
        """Drops values with later stamps, which are from before the clock was set back."""
        kept = [entry for entry in self._values if entry[0] <= stamp_ns]
        self._values.clear()
        self._values.extend(kept)

    def drop(self, value: T) -> None:
        """Removes a value that cannot be used."""
        kept = [entry for entry in self._values if entry[1] is not value]
        self._values.clear()
        self._values.extend(kept)

    def forget_before(self, value: T) -> None:
        """Drops what was added before this value: frames come in order, so nobody asks for it again."""
        while self._values and self._values[0][1] is not value:
            self._values.popleft()

    def exact(self, stamp_ns: int) -> T | None:
        """The value of exactly this stamp."""
        return next((value for stamp, value in self._values if stamp == stamp_ns), None)

    @property
    def latest_ns(self) -> int | None:
        """The stamp of the value added last, or None."""
        return self._values[-1][0] if self._values else None

    def within(self, stamp_ns: int, tolerance_ns: int) -> T | None:
        """The value nearest in time, if it is within the tolerance."""
        if not self._values:
            return None
        stamp, value = min(self._values, key=lambda entry: abs(entry[0] - stamp_ns))
        return value if abs(stamp - stamp_ns) <= tolerance_ns else None

    def nearest_stamp(self, stamp_ns: int) -> int | None:
        """The stamp nearest in time, or None."""
        return min((stamp for stamp, _ in self._values), key=lambda s: abs(s - stamp_ns), default=None)

    def shift(self, by_ns: int) -> None:
        """Moves all stamps."""
        moved = [(stamp + by_ns, value) for stamp, value in self._values]
        self._values.clear()
        self._values.extend(moved)

    def nearest(self, stamp_ns: int, final: bool = False, tolerance_ns: int = TOLERANCE_NS) -> tuple[Verdict, T | None]:
        """The value within the tolerance that is nearest in time.

        WAIT while a nearer one may still arrive: no value as late as the stamp has arrived, not
        counting values far ahead. `final` ends the waiting.
        """
        if not self._values:
            return (Verdict.NONE if final else Verdict.WAIT), None
        stamp, value = min(self._values, key=lambda entry: abs(entry[0] - stamp_ns))
        if stamp != stamp_ns and not final and not any(0 <= s - stamp_ns <= LATER_NS for s, _ in self._values):
            return Verdict.WAIT, None
        if abs(stamp - stamp_ns) <= tolerance_ns:
            return Verdict.FOUND, value
        return Verdict.NONE, None
