# SPDX-License-Identifier: Apache-2.0
"""How many frames are under way in the graph, by the status that comes back for each. No ROS is imported."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

ANSWERED_S = 2.0
"""A graph that has answered within this time is waited for; a frame without an answer for so long was left out."""


class Credit:
    """`free` to send while fewer than `limit` frames are under way.

    `skips`: the graph may leave frames out, so an answer is one for all frames before it, too.
    """

    def __init__(self, limit: Callable[[], int], skips: bool, now: Callable[[], float] = time.monotonic) -> None:
        self._limit, self._skips, self._now = limit, skips, now
        self._flight: OrderedDict[int, float] = OrderedDict()
        self._answered_s = float("-inf")

    def __len__(self) -> int:
        return len(self._flight)

    @property
    def free(self) -> bool:
        """Whether there is room for one more."""
        return len(self._flight) < self._limit()

    @property
    def unheard(self) -> bool:
        """Whether nobody has answered lately: then nothing is known of how much is under way."""
        return self._now() - self._answered_s > ANSWERED_S

    def sent(self, stamp_ns: int) -> None:
        """One more is under way."""
        self._flight[stamp_ns] = self._now()

    def answered(self, stamp_ns: int) -> None:
        """A frame has its status. Of one that is not under way, as of an earlier epoch, it says nothing."""
        if stamp_ns not in self._flight:
            return
        self._answered_s = self._now()
        while self._skips and next(iter(self._flight)) != stamp_ns:  # sent before: left out on the way
            self._flight.popitem(last=False)
        del self._flight[stamp_ns]

    def lapsed(self, patience_s: float = ANSWERED_S) -> list[int]:
        """Stamps of the frames that have waited longer, which no longer count."""
        late = [s for s, since_s in self._flight.items() if self._now() - since_s > patience_s]
        for stamp_ns in late:
            del self._flight[stamp_ns]
        return late

    def clear(self) -> None:
        """Nothing is known of what is under way."""
        self._flight.clear()
        self._answered_s = float("-inf")
