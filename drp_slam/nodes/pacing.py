# SPDX-License-Identifier: Apache-2.0
"""Pacing `realtime`: a stage's output is held until the chip would have it, never published earlier.

Every queue of the chip has a time at which it becomes free, and every frame a time at which its last stage
ended. All nodes of a graph share them in one file of this host (`Timeline`). A step starts when the
step before it has ended and its queue is free, as in `chip.schedule`. Where this host computes a stage
more slowly than the chip would, the output is late, and the node says by how much.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import tempfile
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from drp_slam.chip.soc import Meter
from drp_slam.device import StageRun
from drp_slam.nodes.limits import IN_FLIGHT
from drp_slam.profiler.span import on_units

REALTIME = "realtime"
QUEUES, FRAMES = 16, 256
"""Rows of the shared table: of queues, and of frames by their stamp."""
CLAIM_NS = 2_000_000_000
"""A claim on a queue expires after this time: the claiming node has failed."""
POLL_S = 0.0005
STALE_NS = 10_000_000_000
"""Times further from now than this are of an earlier run."""
RECENT = 300
"""Number of last outputs in the figures of lateness."""


def timeline_path(namespace: str) -> Path:
    """The file that the nodes of one graph share: one for each user, ROS domain and namespace."""
    domain = os.environ.get("ROS_DOMAIN_ID", "0")
    name = f"drp_slam-pacing-{os.getuid()}-{domain}{namespace.rstrip('/').replace('/', '-')}"
    return Path(tempfile.gettempdir(), name)


class Timeline:
    """When each queue is free and when each frame's last stage ended, in ns of the monotonic clock."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        size = (QUEUES + FRAMES) * 24
        os.ftruncate(self._file, size)
        self._table = np.frombuffer(mmap.mmap(self._file, size), np.int64).reshape(-1, 3)
        self._lock = threading.Lock()  # flock does not exclude threads of one process

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._lock:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def _row(self, queue: str) -> int:
        """Row of a queue: its key, when it is free, and since when it is claimed (0: not)."""
        key = zlib.crc32(queue.encode()) + 1
        row = next(k for k in range(QUEUES) if self._table[k, 0] in (0, key))
        self._table[row, 0] = key
        return row

    def claim(self, queue: str, ready_ns: int) -> None:
        """Claims the queue from `ready_ns` on for work whose duration is not known yet."""
        with self._alone():
            row = self._row(queue)
            claim_ns = int(self._table[row, 2])
            if not 0 < claim_ns < ready_ns or ready_ns - claim_ns > CLAIM_NS:  # of two, the earlier one counts
                self._table[row, 2] = ready_ns

    def reserve(self, queue: str, ready_ns: int, duration_ns: int, claimed: bool = False) -> int:
        """Occupies the queue for `duration_ns` from `ready_ns` on, or from when it is free; returns the end.

        Waits while there is an earlier claim. `claimed`: ends the caller's own claim.
        """
        while True:
            with self._alone():
                row = self._row(queue)
                _, free_ns, claim_ns = self._table[row].tolist()
                now_ns = time.monotonic_ns()
                if claimed or not 0 < claim_ns <= ready_ns or abs(now_ns - claim_ns) > CLAIM_NS:
                    start_ns = max(ready_ns, free_ns if free_ns < now_ns + STALE_NS else 0)
                    self._table[row, 1:] = start_ns + duration_ns, 0 if claimed else claim_ns
                    return start_ns + duration_ns
            time.sleep(POLL_S)

    def ended(self, stamp_ns: int) -> int | None:
        """When the last stage of a frame ended, or it was sent; None if unknown."""
        with self._alone():
            stamp, end_ns, _ = self._table[_frame_row(stamp_ns)].tolist()
        recent = abs(end_ns - time.monotonic_ns()) < STALE_NS
        return end_ns if stamp == stamp_ns and recent else None

    def ends(self, stamp_ns: int, end_ns: int) -> None:
        """Records when a stage of a frame ends, or that it was sent."""
        with self._alone():
            self._table[_frame_row(stamp_ns)] = stamp_ns, end_ns, 0

    def close(self) -> None:
        os.close(self._file)


def _frame_row(stamp_ns: int) -> int:
    """Row of a frame; stamps at a fixed period are spread over all rows."""
    return QUEUES + ((stamp_ns * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF) >> 32) % FRAMES


class Pacer:
    """Holds the outputs of one node, priced by its `meter`.

    `shared` is the graph's `timeline_path`. `guard` wraps a function so that its errors are reported.
    """

    meter: Meter

    def __init__(self, shared: Path, guard: Callable[[Callable], Callable]) -> None:
        self._timeline, self._guard = Timeline(shared), guard
        self._pool = futures.ThreadPoolExecutor(IN_FLIGHT, "pacing")
        self._slots = threading.Semaphore(IN_FLIGHT)
        self._late_s: deque[float] = deque(maxlen=RECENT)
        self._last: dict[str, futures.Future[None]] = {}
        self._claimed = ""
        self.held = 0

    def begin(self, stamp_ns: int, unit: str = "") -> int:
        """The time now. A stage all of whose work is for `unit` claims its queue from now until `hold`."""
        now_ns = time.monotonic_ns()
        self._claimed = ""
        if unit and (served := self.meter.soc.unit_of(unit)) is not None:
            before_ns = self._timeline.ended(stamp_ns)
            self._claimed = served.queue
            self._timeline.claim(served.queue, now_ns if before_ns is None else before_ns)
        return now_ns

    def hold(
        self,
        stamp_ns: int,
        runs: Sequence[StageRun],
        begun_ns: int,
        publish: Callable[[], None],
        *,
        then: str = "",
        beside: bool = False,
        wait: bool = False,
    ) -> None:
        """Calls `publish` when the chip would have done `runs`, in another thread, or in this one if `wait`.

        They are ready when the frame's stage before them ended, or at `begun_ns` if that
        is unknown. `then` is the unit of all work of the next stage, which enters its queue as soon as this one
        has ended. Nothing waits for a stage that runs `beside` the others. Blocks while too many outputs are held, so
        that a live camera's frames are dropped in front of the node.
        """
        costs = on_units([self.meter.cost(work) for run in runs for work in run.works])
        queues = {unit.name: unit.queue for unit in self.meter.soc.units}
        steps = [(queues[unit], round(1e9 * s)) for unit, s in costs if unit in queues and s == s]
        before_ns = self._timeline.ended(stamp_ns)
        ready_ns = begun_ns if before_ns is None else before_ns
        # the first step enters its queue before those of later calls
        first_ns = ready_ns
        if steps:
            queue, duration_ns = steps[0]
            first_ns = self._timeline.reserve(queue, ready_ns, duration_ns, claimed=queue == self._claimed)
        self._claimed = ""
        follower = self.meter.soc.unit_of(then) if then else None

        def ends(end_ns: int) -> None:
            if not beside:
                self._timeline.ends(stamp_ns, end_ns)
            if follower is not None:
                self._timeline.claim(follower.queue, end_ns)

        if len(steps) < 2:
            ends(first_ns)

        before = None if wait or not runs else self._last.get(runs[0].stage)

        def finish() -> None:
            end_ns = first_ns
            for queue, duration_ns in steps[1:]:
                sleep_until(end_ns)
                end_ns = self._timeline.reserve(queue, end_ns, duration_ns)
            if len(steps) > 1:
                ends(end_ns)
            sleep_until(end_ns)
            if before is not None:
                futures.wait([before])  # a stage's outputs are published in order, however late they are
            self._late_s.append(max(time.monotonic_ns() - end_ns, 0) * 1e-9)
            self.held += 1
            publish()

        if wait:
            finish()
            return
        self._slots.acquire()
        guarded = self._guard(lambda _: finish())
        job = self._pool.submit(guarded, None)
        job.add_done_callback(lambda _: self._slots.release())
        if runs:
            self._last[runs[0].stage] = job

    def figures(self) -> dict[str, object]:
        """`held` outputs, and how late they were: median in `late_ms`, share of those later than 1 ms."""
        late_s = list(self._late_s)
        found: dict[str, object] = {"pacing": REALTIME, "held": self.held}
        if late_s:
            found["late_ms"] = f"{1e3 * float(np.median(late_s)):.2f}"
            found["late_share"] = f"{np.mean(np.array(late_s) > 1e-3):.3f}"
        return found

    def close(self) -> None:
        """Waits for the held outputs."""
        self._pool.shutdown(wait=True)
        self._timeline.close()


def sleep_until(at_ns: int) -> None:
    """Returns at `at_ns` of the monotonic clock, not before."""
    while (left_ns := at_ns - time.monotonic_ns()) > 0:
        time.sleep(left_ns * 1e-9)
