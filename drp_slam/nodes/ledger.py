# SPDX-License-Identifier: Apache-2.0
"""Joins the spans and status of each frame by stamp and writes them to files; memory stays constant."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from drp_slam.errors import ProfilerError
from drp_slam.nodes.frame_tables import COLUMNS, FrameTables, Progress
from drp_slam.nodes.status_codec import Entry, reason_of
from drp_slam.profiler import work_table
from drp_slam.reporting import folder as files

RECENT = 100
"""Number of last frames for the live figures."""
KEPT = 300
"""Number of frames held in memory: messages about a frame arrive from several nodes in any order."""

LATE_NS = 5_000_000_000
"""A busy node may send a span this long after the frame's end; later ones belong to the recording's next loop."""
DROPPED_NS = 2_000_000_000
"""A frame without a status for this long counts as dropped until one comes."""
GIVEN_UP_NS = 30_000_000_000
"""A frame without a status for this long is written as it is."""


@dataclass
class HeldFrame:
    """One frame held. `entries` are its spans; `end_ns` is None until its status arrives."""

    begin_ns: int
    end_ns: int | None = None
    state: str = ""
    counts: tuple[int, int, int] = (0, 0, 0)
    reason: str = ""
    entries: list[Entry] = field(default_factory=list)

    @property
    def latency_s(self) -> float:
        """Time from the player's publishing (or the first stage's start) to the pose, on this host."""
        return float("nan") if self.end_ns is None or self.begin_ns == NEVER else (self.end_ns - self.begin_ns) * 1e-9


NEVER = 2**63
"""Start of a frame of which only the end is known."""


class Ledger:
    """All spans and frames. Without a player, a frame starts with its first span.

    `out` is the folder for `spans.csv`, `kernels.csv` and `frames.csv`, or None to write none.
    `order` has the names of the stages of a frame; others follow. If a killed process left tables in
    `out`, they are continued; repeated messages about their frames, sent before `born_ns`, are ignored.
    """

    def __init__(self, out: Path | None = None, order: Sequence[str] = (), born_ns: int = 0) -> None:
        self._order = {stage: i for i, stage in enumerate(order)}
        self._tables = FrameTables(out) if out is not None else None
        self._written = self._tables.progress if self._tables else Progress()
        self._known, self._born_ns = self._tables.known if self._tables else set(), born_ns
        self.frames, self.lost = self._written.rows, self._written.lost
        self.state = self.reason = ""
        self.recent: dict[str, deque[float]] = {}
        self.latencies_s: deque[float] = deque(maxlen=RECENT)
        self._kept: dict[int, HeldFrame] = {}

    def add(self, entry: Entry) -> None:
        """Adds a span, or the player's entry that it sent a frame."""
        begin_ns = entry.at_ns
        if self._heard_again(entry.stamp_ns, entry.at_ns):
            return
        if entry.span is not None:
            begin_ns -= int(entry.span.wall_s * 1e9)
            self.recent.setdefault(entry.stage, deque(maxlen=RECENT)).append(entry.span.wall_s)
        known = self._kept.get(entry.stamp_ns)
        if known is not None and known.end_ns is not None and begin_ns > known.end_ns + LATE_NS:
            self._write([(entry.stamp_ns, self._kept.pop(entry.stamp_ns))])  # the same stamp in a later loop
        frame = self._frame(entry.stamp_ns)
        frame.begin_ns = min(frame.begin_ns, begin_ns)
        if entry.span is not None:
            frame.entries.append(entry)
        first_ns = self._written.first_ns
        self._written.first_ns = begin_ns if first_ns is None else min(first_ns, begin_ns)

    def close_frame(self, stamp_ns: int, state: str, values: dict[str, str]) -> None:
        """Ends a frame with its `status`."""
        if self._heard_again(stamp_ns, int(values["at_ns"])):
            return
        self.frames += 1
        self.lost += state == "lost"
        frame = self._frame(stamp_ns)
        frame.state, frame.end_ns = state, int(values["at_ns"])
        frame.counts = (int(values["matches"]), int(values["inliers"]), int(values["keyframe"]))
        frame.reason = reason_of(values)
        self.state, self.reason = state, frame.reason
        self._written.last_ns = max(self._written.last_ns or 0, frame.end_ns)
        if frame.begin_ns != NEVER:
            self.latencies_s.append(frame.latency_s)

    def dropped(self, now_ns: int) -> int:
        """Frames that began and got no status within `DROPPED_NS`."""
        late = (f for f in self._kept.values() if f.end_ns is None and f.begin_ns < now_ns - DROPPED_NS)
        return self._written.unended + sum(1 for _ in late)

    @property
    def wall_total_s(self) -> float:
        """From the first frame's start to the last frame's end."""
        return self._written.wall_total_s

    @property
    def rows(self) -> int:
        """Rows of frames in the tables."""
        return self._written.rows

    def settle(self, now_ns: int) -> None:
        """Writes the frames about which no more messages will arrive. Raises ProfilerError."""
        done = [
            stamp_ns
            for stamp_ns, frame in self._kept.items()
            if (frame.end_ns is not None and frame.end_ns < now_ns - LATE_NS) or frame.begin_ns < now_ns - GIVEN_UP_NS
        ]
        if done:
            self._write([(stamp_ns, self._kept.pop(stamp_ns)) for stamp_ns in sorted(done)])

    def close(self) -> None:
        """Writes the frames still held and renames the journals to the tables. Raises ProfilerError."""
        self._write(sorted(self._kept.items()))
        self._kept.clear()
        if self._tables is not None:
            with self._guarded():
                self._tables.close()

    def _heard_again(self, stamp_ns: int, at_ns: int) -> bool:
        """Whether the previous process has written it: publishers resend their last messages to new subscribers."""
        return at_ns < self._born_ns and stamp_ns in self._known

    def _frame(self, stamp_ns: int) -> HeldFrame:
        """The frame of this stamp; writes the oldest third if too many are held."""
        if stamp_ns not in self._kept:
            if len(self._kept) >= KEPT:
                oldest = sorted(list(self._kept)[: KEPT // 3])
                self._write([(stamp, self._kept.pop(stamp)) for stamp in oldest])
            self._kept[stamp_ns] = HeldFrame(NEVER)
        return self._kept[stamp_ns]

    def _write(self, frames: list[tuple[int, HeldFrame]]) -> None:
        """Writes frames as rows of the tables, numbered in order. Raises ProfilerError for a write error."""
        done = self._written
        done.unended += sum(frame.end_ns is None for _, frame in frames)
        if self._tables is None:
            return
        with self._guarded():
            spans, kernels, rows = map(self._tables.rows, COLUMNS)
            for stamp_ns, frame in frames:
                order = sorted(frame.entries, key=lambda e: self._order.get(e.stage, len(self._order)))
                for entry in order:
                    assert entry.span is not None
                    spans.writerow(dataclasses.astuple(dataclasses.replace(entry.span, frame=done.number)))
                    work_table.add(kernels, stamp_ns, entry.stage, entry.works)
                if frame.end_ns is not None:
                    row = files.FrameRow(
                        done.number, stamp_ns, frame.state, *frame.counts, frame.latency_s, frame.reason
                    )
                    rows.writerow(dataclasses.astuple(row))
                    done.rows += 1
                    done.lost += frame.state == "lost"
                done.number += 1
            self._tables.commit()

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """A write error is reported once; later frames are counted, not written."""
        try:
            yield
        except (OSError, ProfilerError) as refused:
            assert self._tables is not None
            self._tables.abandon()
            self._tables = None
            why = f"cannot write: {refused.strerror}; free the disk" if isinstance(refused, OSError) else refused
            raise ProfilerError(f"spans and frames are no longer written: {why}") from refused
