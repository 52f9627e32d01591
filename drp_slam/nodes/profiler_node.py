# SPDX-License-Identifier: Apache-2.0
"""The ledger: what every node says of every frame, and which nodes have gone silent."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus

from drp_slam.config import NODE_SECTIONS, ProfilerConfig
from drp_slam.device import Work
from drp_slam.nodes import convert, qos, status_codec
from drp_slam.nodes.base import StageNode, run
from drp_slam.pipeline import stages
from drp_slam.profiler import work_table
from drp_slam.profiler.span import Span, write_spans
from drp_slam.reporting import folder as files

RECENT = 100
"""Frames that the live figures are about."""


class Ledger:
    """All spans and frames. Without a player, a frame starts with its first span.

    `keep` False: nobody will ask for them, only for the figures; the last frames are held then.
    """

    def __init__(self, keep: bool = True, order: Sequence[str] = ()) -> None:
        """`order`: names of the stages of a frame; others come after them."""
        self._keep, self._order = keep, {stage: i for i, stage in enumerate(order)}
        self.works: dict[tuple[int, str], tuple[Work, ...]] = {}
        self.frames = self.lost = 0
        self.spans: list[Span] = []
        self.rows: dict[int, tuple[dict[str, str], str]] = {}
        self.recent: dict[str, deque[float]] = {}
        self.latencies_s: deque[float] = deque(maxlen=RECENT)
        self._begin_ns: dict[int, int] = {}
        self._end_ns: dict[int, int] = {}
        self._first_ns: int | None = None
        self._last_ns: int | None = None

    def add(self, entry: status_codec.Entry) -> None:
        """A span, or the player's note that a frame left."""
        begin_ns = entry.at_ns
        if entry.span is not None:
            if self._keep:
                self.spans.append(entry.span)
                self.works[entry.stamp_ns, entry.stage] = entry.works
            begin_ns -= int(entry.span.wall_s * 1e9)
            recent = self.recent.setdefault(entry.stage, deque(maxlen=RECENT))
            recent.append(entry.span.wall_s)
        if begin_ns > self._end_ns.get(entry.stamp_ns, begin_ns) and entry.stage != "detect":
            self._begin_ns.pop(entry.stamp_ns, None)  # the stamp again, in a later lap of a recording
        known = self._begin_ns.setdefault(entry.stamp_ns, begin_ns)
        self._begin_ns[entry.stamp_ns] = begin_ns = min(known, begin_ns)
        self._first_ns = begin_ns if self._first_ns is None else min(self._first_ns, begin_ns)
        self._forget(self._begin_ns)

    def close_frame(self, stamp_ns: int, state: str, values: dict[str, str]) -> None:
        """The frame's `status`."""
        self.frames += 1
        self.lost += state != "tracked"
        end_ns = int(values["at_ns"])
        self.rows[stamp_ns], self._end_ns[stamp_ns] = (values, state), end_ns
        self._last_ns = end_ns if self._last_ns is None else max(self._last_ns, end_ns)
        if stamp_ns in self._begin_ns:
            self.latencies_s.append(self.latency_s(stamp_ns))
        self._forget(self.rows)
        self._forget(self._end_ns)

    def _forget(self, frames: dict[int, Any]) -> None:
        """Drops the oldest where they are not kept."""
        while not self._keep and len(frames) > RECENT:
            del frames[next(iter(frames))]

    def latency_s(self, stamp_ns: int) -> float:
        """From the player's hand (or the first stage's start) to the pose, on this host."""
        begin_ns, end_ns = self._begin_ns.get(stamp_ns), self._end_ns.get(stamp_ns)
        return float("nan") if begin_ns is None or end_ns is None else (end_ns - begin_ns) * 1e-9

    @property
    def wall_total_s(self) -> float:
        """From the first frame's start to the last frame's end."""
        if self._first_ns is None or self._last_ns is None:
            return 0.0
        return (self._last_ns - self._first_ns) * 1e-9

    def write(self, out: Path) -> None:
        """`spans.csv`, `kernels.csv` and `frames.csv`, frames numbered by stamp."""
        stamps = sorted({s.stamp_ns for s in self.spans} | set(self.rows))
        number = {stamp_ns: i for i, stamp_ns in enumerate(stamps)}
        spans = [dataclasses.replace(s, frame=number[s.stamp_ns]) for s in self.spans]
        spans.sort(key=lambda s: (s.frame, self._order.get(s.stage, len(self._order))))
        write_spans(out / files.SPANS, spans)
        with work_table.writing(out / files.KERNELS) as kernels:
            for s in spans:
                work_table.add(kernels, s.stamp_ns, s.stage, self.works[s.stamp_ns, s.stage])
        files.write_frames(
            out / files.FRAMES,
            (
                files.FrameRow(
                    number[stamp_ns],
                    stamp_ns,
                    state,
                    int(values["matches"]),
                    int(values["inliers"]),
                    int(values["keyframe"]),
                    self.latency_s(stamp_ns),
                    status_codec.reason_of(values),
                )
                for stamp_ns, (values, state) in sorted(self.rows.items())
            ),
        )


class ProfilerNode(StageNode):
    """`spans`, `status`, `/diagnostics` -> `spans.csv`, `frames.csv`, and who is dead."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("profiler_node", ProfilerConfig, **kwargs)
        (self._config,) = self.configs
        self._ledger = Ledger(bool(self.graph.out), [s.name for s in stages(self.graph.features, self.graph.pair)])
        self._heard_s: dict[str, float] = {}
        self._problems_of: dict[str, str] = {}
        for topic, handle, profile in (
            ("spans", self._on_spans, qos.ledger()),
            ("status", self._on_status, qos.ledger()),
            ("/diagnostics", self._on_health, qos.health()),
        ):
            self.create_subscription(DiagnosticArray, topic, self.guarded(handle), profile)

    def _on_spans(self, message: DiagnosticArray) -> None:
        for entry in status_codec.entries(message):
            self._ledger.add(entry)

    def _on_status(self, message: DiagnosticArray) -> None:
        self.frames += 1
        for status in message.status:
            self._ledger.close_frame(
                convert.stamp_ns(message.header), status.message, status_codec.track_values(status)
            )

    def _on_health(self, message: DiagnosticArray) -> None:
        for status in message.status:
            node = status_codec.health_of(status, self.get_namespace())
            if node in NODE_SECTIONS and node != self.get_name():
                self._heard_s[node] = time.monotonic()
                values = status_codec.values_of(status)
                if values.get("problems", "0") != "0":
                    self._problems_of[node] = f"{values['problems']}: {values.get('last_problem')}"

    def ready(self) -> bool:
        """Whether it is known who says what becomes of a frame: an earlier end would lose it."""
        return self.count_publishers("status") > 0

    def report_health(self) -> None:
        super().report_health()
        now_s = time.monotonic()
        dead = [
            status_codec.entry(
                f"{self.get_fully_qualified_name().lstrip('/')}: {node}",
                DiagnosticStatus.ERROR,
                f"{node} is dead: silent for {now_s - heard_s:.1f} s",
                {},
            )
            for node, heard_s in self._heard_s.items()
            if now_s - heard_s > self._config.silence_s
        ]
        if dead:
            stamp_ns = self.get_clock().now().nanoseconds
            self._health.publish(status_codec.array_of(stamp_ns, dead))

    def health(self) -> dict[str, object]:
        """The live figures: p50 of the last frames, and the frame rate so far."""
        book = self._ledger
        figures: dict[str, object] = {
            f"{stage}.wall_ms": f"{1e3 * float(np.median(recent)):.2f}" for stage, recent in book.recent.items()
        }
        if book.latencies_s:
            figures["latency.wall_ms"] = f"{1e3 * float(np.median(book.latencies_s)):.2f}"
        if book.wall_total_s > 0:
            figures["fps"] = f"{book.frames / book.wall_total_s:.1f}"
        return {**figures, "lost": book.lost}

    def close(self) -> None:
        """Writes the ledger."""
        if not self.graph.out:
            return
        out = Path(self.graph.out)
        out.mkdir(parents=True, exist_ok=True)
        self._ledger.write(out)
        files.write_json(
            out / files.GRAPH,
            {
                "frames": len(self._ledger.rows),
                "wall_total_s": self._ledger.wall_total_s,
                "problems": self._problems_of,
            },
        )


def main(args: Sequence[str] | None = None) -> int:
    """Runs the node."""
    return run("profiler_node", ProfilerNode, args)


if __name__ == "__main__":
    sys.exit(main())
