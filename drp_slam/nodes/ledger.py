# SPDX-License-Identifier: Apache-2.0
"""Joins the spans and status of each frame by stamp and writes them to files; memory stays constant."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from drp_slam.errors import ProfilerError
from drp_slam.nodes.status_codec import Entry, reason_of
from drp_slam.profiler import span as span_table
from drp_slam.profiler import work_table
from drp_slam.reporting import folder as files

RECENT = 100
"""Number of last frames for the live figures."""
KEPT = 300
"""Number of frames held in memory: messages about a frame come from several nodes in any order."""

LATE_NS = 5_000_000_000
"""A busy node may send a span this long after the frame's end; a later one belongs to the recording's next lap."""
DROPPED_NS = 2_000_000_000
"""A frame without a status for this long counts as dropped until one comes."""


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
    `order` has the names of the stages of a frame; others come after them.
    """

    def __init__(self, out: Path | None = None, order: Sequence[str] = ()) -> None:
        self._out, self._order = out, {stage: i for i, stage in enumerate(order)}
        self.frames = self.lost = self.rows = 0
        self.state = self.reason = ""
        self._unended = 0  # frames written without a status
        self.recent: dict[str, deque[float]] = {}
        self.latencies_s: deque[float] = deque(maxlen=RECENT)
        self._kept: dict[int, HeldFrame] = {}
        self._number = 0
        self._first_ns: int | None = None
        self._last_ns: int | None = None
        self._tables = ExitStack()
        self._rows: tuple[work_table.Rows, ...] = ()

    def add(self, entry: Entry) -> None:
        """Adds a span, or the player's entry that it sent a frame."""
        begin_ns = entry.at_ns
        if entry.span is not None:
            begin_ns -= int(entry.span.wall_s * 1e9)
            self.recent.setdefault(entry.stage, deque(maxlen=RECENT)).append(entry.span.wall_s)
        known = self._kept.get(entry.stamp_ns)
        if known is not None and known.end_ns is not None and begin_ns > known.end_ns + LATE_NS:
            self._write([(entry.stamp_ns, self._kept.pop(entry.stamp_ns))])  # the same stamp in a later lap
        frame = self._frame(entry.stamp_ns)
        frame.begin_ns = min(frame.begin_ns, begin_ns)
        if entry.span is not None:
            frame.entries.append(entry)
        self._first_ns = begin_ns if self._first_ns is None else min(self._first_ns, begin_ns)

    def close_frame(self, stamp_ns: int, state: str, values: dict[str, str]) -> None:
        """Ends a frame with its `status`."""
        self.frames += 1
        self.lost += state == "lost"
        frame = self._frame(stamp_ns)
        frame.state, frame.end_ns = state, int(values["at_ns"])
        frame.counts = (int(values["matches"]), int(values["inliers"]), int(values["keyframe"]))
        frame.reason = reason_of(values)
        self.state, self.reason = state, frame.reason
        self._last_ns = frame.end_ns if self._last_ns is None else max(self._last_ns, frame.end_ns)
        if frame.begin_ns != NEVER:
            self.latencies_s.append(frame.latency_s)

    def dropped(self, now_ns: int) -> int:
        """Frames that began and got no status within `DROPPED_NS`."""
        late = (f for f in self._kept.values() if f.end_ns is None and f.begin_ns < now_ns - DROPPED_NS)
        return self._unended + sum(1 for _ in late)

    @property
    def wall_total_s(self) -> float:
        """From the first frame's start to the last frame's end."""
        if self._first_ns is None or self._last_ns is None:
            return 0.0
        return (self._last_ns - self._first_ns) * 1e-9

    def close(self) -> None:
        """Writes the frames still held and gives the tables their names. Raises ProfilerError."""
        self._write(sorted(self._kept.items()))
        self._kept.clear()
        self._tables.close()

    def _frame(self, stamp_ns: int) -> HeldFrame:
        """The frame of this stamp; writes the oldest third where too many are held."""
        if stamp_ns not in self._kept:
            if len(self._kept) >= KEPT:
                oldest = sorted(list(self._kept)[: KEPT // 3])
                self._write([(stamp, self._kept.pop(stamp)) for stamp in oldest])
            self._kept[stamp_ns] = HeldFrame(NEVER)
        return self._kept[stamp_ns]

    def _write(self, frames: list[tuple[int, HeldFrame]]) -> None:
        """Writes frames as rows of the tables, numbered in order. Raises ProfilerError for a write error."""
        self._unended += sum(frame.end_ns is None for _, frame in frames)
        if self._out is None:
            return
        try:
            if not self._rows:
                self._rows = (
                    self._tables.enter_context(span_table.writing(self._out / files.SPANS)),
                    self._tables.enter_context(work_table.writing(self._out / files.KERNELS)),
                    self._tables.enter_context(files.writing_frames(self._out / files.FRAMES)),
                )
            spans, kernels, rows = self._rows
            for stamp_ns, frame in frames:
                order = sorted(frame.entries, key=lambda e: self._order.get(e.stage, len(self._order)))
                for entry in order:
                    assert entry.span is not None
                    spans.writerow(dataclasses.astuple(dataclasses.replace(entry.span, frame=self._number)))
                    work_table.add(kernels, stamp_ns, entry.stage, entry.works)
                if frame.end_ns is not None:
                    row = files.FrameRow(
                        self._number, stamp_ns, frame.state, *frame.counts, frame.latency_s, frame.reason
                    )
                    rows.writerow(dataclasses.astuple(row))
                    self.rows += 1
                self._number += 1
        except (OSError, ProfilerError) as refused:
            self._out = None  # reported once; later frames are counted, not written
            raise ProfilerError(f"spans and frames are no longer written: {refused}") from refused
