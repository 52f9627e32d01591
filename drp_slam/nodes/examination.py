# SPDX-License-Identifier: Apache-2.0
"""Checks a frame from time to time while the graph runs, in a thread of its own: tracking does not wait for it."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping

from drp_slam.datatypes import Frame
from drp_slam.doctor.examine import GAP_S, Examiner
from drp_slam.doctor.findings import Finding

log = logging.getLogger(__name__)

PERIOD_S = 2.0
"""Period of checks, on the clock and by the stamps (a recording that is played slowly shows one view for long): one
takes 50 ms of one core."""
FIRST, FIRST_PERIOD_S = 12, 0.5
"""The first checks are more frequent, so that faults are reported early."""
LEAST = 5
"""Minimum number of checks for a finding."""
KEPT = 20
MOTION_EVERY = 15
"""Checks between two checks of the calibration by motion, which take some 100 ms."""


class Examination:
    """`offer` every frame; `findings` cover the last half minute; `close` ends the thread."""

    def __init__(
        self, topics: Mapping[str, str], period_s: float = PERIOD_S, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._period_s, self._now = period_s, now
        self._examiner = Examiner(topics, KEPT)
        self._frames: queue.Queue[Frame | None] = queue.Queue(1)
        self._thread: threading.Thread | None = None
        self.looks = 0
        self._due_s, self._near_ns = 0.0, range(0)
        self._held_ns: int | None = None
        self._lasting: list[Finding] = []
        self.findings: list[Finding] = []

    def offer(self, frame: Frame) -> None:
        """Accepts a frame if one is due and the last check is done; returns immediately."""
        now_s, period_s = self._now(), FIRST_PERIOD_S if self.looks < FIRST else self._period_s
        due = now_s >= self._due_s and frame.stamp_ns not in self._near_ns
        follows = self._held_ns is not None and frame.stamp_ns - self._held_ns >= GAP_S * 1e9
        if frame.image is None or not (follows or due):
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="examination", daemon=True)
            self._thread.start()
        try:
            self._frames.put_nowait(frame)
        except queue.Full:
            return
        if follows:
            self._held_ns = None
        else:
            self._held_ns = frame.stamp_ns
            self._due_s, reach_ns = now_s + period_s, int(0.9e9 * period_s)
            self._near_ns = range(frame.stamp_ns - reach_ns, frame.stamp_ns + reach_ns)

    @property
    def idle(self) -> bool:
        """Whether no frame waits to be checked."""
        return self._frames.empty()

    def close(self) -> None:
        """Ends the thread."""
        if self._thread is not None:
            self._frames.put(None)
            self._thread.join()
            self._thread = None

    def _work(self) -> None:
        held_ns: int | None = None
        while (frame := self._frames.get()) is not None:
            try:
                if held_ns is not None and frame.stamp_ns - held_ns >= GAP_S * 1e9:
                    self._examiner.follow(frame)
                    held_ns = None
                else:
                    held_ns = frame.stamp_ns
                    self._look(frame)
            except Exception:  # a check that fails must not end tracking
                log.exception("the examination of a frame failed")

    def _look(self, frame: Frame) -> None:
        self._examiner.sample(frame)
        self.looks += 1
        if self.looks < LEAST:
            return
        if self.looks % MOTION_EVERY == 0:
            found = self._examiner.findings()
            self._lasting = [f for f in found if f.check.name == "wrong_calibration"]
        else:
            found = self._examiner.findings(motion=False) + self._lasting
        self.findings = found
