# SPDX-License-Identifier: Apache-2.0
"""Flow control: counts the frames in flight by the status that returns for each. No ROS is imported."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

ANSWERED_S = 2.0
"""The sender waits for a graph that has answered within this time; later, an unanswered frame counts as dropped."""


class Credit:
    """`free` to send while fewer than `limit` frames are in flight.

    `skips`: the graph may drop frames, so an answer also counts for all frames before it.
    """

    def __init__(self, limit: Callable[[], int], skips: bool, now: Callable[[], float] = time.monotonic) -> None:
        self._limit, self._skips, self._now = limit, skips, now
        self._flight: OrderedDict[int, float] = OrderedDict()
        self._answered_s = float("-inf")

    def __len__(self) -> int:
        return len(self._flight)

    @property
    def free(self) -> bool:
        """Whether another frame may be sent."""
        return len(self._flight) < self._limit()

    @property
    def unheard(self) -> bool:
        """Whether no answer arrived recently: then the number of frames in flight is unknown."""
        return self._now() - self._answered_s > ANSWERED_S

    def sent(self, stamp_ns: int) -> None:
        """A frame was sent."""
        self._flight[stamp_ns] = self._now()

    def answered(self, stamp_ns: int) -> None:
        """A status arrived. Those of frames that are not in flight, such as of an earlier epoch, are ignored."""
        if stamp_ns not in self._flight:
            return
        self._answered_s = self._now()
        while self._skips and next(iter(self._flight)) != stamp_ns:  # sent earlier and dropped by the graph
            self._flight.popitem(last=False)
        del self._flight[stamp_ns]

    def lapsed(self, patience_s: float = ANSWERED_S) -> list[int]:
        """Removes frames that have waited longer; returns their stamps."""
        late = [s for s, since_s in self._flight.items() if self._now() - since_s > patience_s]
        for stamp_ns in late:
            del self._flight[stamp_ns]
        return late

    def clear(self) -> None:
        """Forgets all frames in flight."""
        self._flight.clear()
        self._answered_s = float("-inf")
