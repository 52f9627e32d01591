# SPDX-License-Identifier: Apache-2.0
"""Collects the spans and status of every frame and reports silent nodes."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus

from drp_slam.chip.constants import load_constants
from drp_slam.config import NODE_SECTIONS, ProfilerConfig
from drp_slam.doctor.checks import Level
from drp_slam.doctor.findings import Finding
from drp_slam.doctor.flow import Flow
from drp_slam.errors import ProfilerError
from drp_slam.nodes import convert, qos, status_codec
from drp_slam.nodes.base import StageNode
from drp_slam.nodes.hearing import Hearing
from drp_slam.nodes.ledger import Ledger
from drp_slam.nodes.limits import INACTIVE
from drp_slam.nodes.running import run
from drp_slam.nodes.unit_load import UnitLoad
from drp_slam.pipeline import stages
from drp_slam.reporting import folder as files

IMAGES = (("received", "received_image"), ("early", "early"), ("dropped", "dropped"), ("refused", "refused"))
"""What became of a camera's images at `drp_node`, and the names in its health."""
MOST_FINDINGS = 200
"""Upper limit of kept findings: any node may publish on /diagnostics."""


class ProfilerNode(StageNode):
    """`spans`, `status`, `/diagnostics` -> `spans.csv`, `frames.csv`, and reports of dead nodes."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("profiler_node", ProfilerConfig, **kwargs)

    def configure(self) -> None:
        super().configure()
        (self._config,) = self.configs
        out = Path(self.graph.out) if self.graph.out else None
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
        order = [s.name for s in stages(self.graph.features, self.graph.pair)]
        self._ledger = Ledger(out, order, time.monotonic_ns())
        constants = load_constants(self.graph.device)
        self._units = {unit.name for unit in constants.units}
        self._load = UnitLoad(constants, time.monotonic())
        self._pacing: dict[str, dict[str, str]] = {}
        self._heard_s: dict[str, float] = {}
        self._problems_of: dict[str, str] = {}
        self._hearing = Hearing()
        self._flow: Flow | None = Flow()
        self._began_s = time.monotonic()
        self._images: dict[str, int] = {}
        self._findings: dict[tuple[str, str], dict[str, object]] = {}
        self._skipped: tuple[int | None, str] = None, ""
        for topic, handle, profile in (
            ("spans", self._on_spans, qos.ledger()),
            ("status", self._on_status, qos.ledger()),
            ("/diagnostics", self._on_health, qos.health()),
        ):
            self.subscribe(DiagnosticArray, topic, handle, profile)

    def _on_spans(self, message: DiagnosticArray) -> None:
        for entry in status_codec.entries(message):
            self._ledger.add(entry)
            if entry.span is not None:
                units = [part for part in entry.units if part[0] in self._units]
                self._load.add(time.monotonic(), entry.stamp_ns, units, entry.span.energy_j)

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
                if status.message == INACTIVE:  # it may be silent
                    del self._heard_s[node]
                values = status_codec.values_of(status)
                self._hearing.update({node: values})
                if node == "player_node":  # it counts what it sends, and waits if no frame may be lost
                    self._flow = None
                    count = values.get("skipped", "")
                    self._skipped = int(count) if count.isdecimal() else 0, values.get("first_skipped", "")
                elif self._flow is not None:
                    self._flow.note(node, values)
                if node == "drp_node":
                    self._images = {name: int(values[key]) for name, key in IMAGES if values.get(key, "").isdecimal()}
                if "late_ms" in values:
                    self._pacing[node] = {k: values[k] for k in ("held", "late_ms", "late_share") if k in values}
                if values.get("problems", "0") != "0":
                    self._problems_of[node] = f"{values['problems']}: {values.get('last_problem')}"
            elif reported := status_codec.finding_of(status, self.get_namespace()):
                self._note(*reported)

    def _note(self, node: str, finding: Finding | None) -> None:
        """Keeps the first finding of each kind and place, with the period in which it was seen."""
        now_s = round(time.monotonic() - self._began_s, 1)
        if finding is None or (finding.key not in self._findings and len(self._findings) >= MOST_FINDINGS):
            return
        known = self._findings.setdefault(finding.key, {"level": Level.NOTE.name, "first_s": now_s, "node": node})
        level = max(finding.level, Level[str(known["level"])])
        known.update({**finding.values(), "level": level.name, "last_s": now_s})

    def findings(self) -> list[Finding]:
        return [*super().findings(), *(self._flow.findings(time.monotonic()) if self._flow else [])]

    def ready(self) -> bool:
        """Whether `status` has a publisher: earlier frames would be lost."""
        return self.count_publishers("status") > 0

    def report_health(self) -> None:
        try:
            self._ledger.settle(time.monotonic_ns())
        except ProfilerError as refused:
            self.problem(refused)
        super().report_health()
        now_s = time.monotonic()
        wrong = {
            node: f"{node} is dead: silent for {now_s - heard_s:.1f} s"
            for node, heard_s in self._heard_s.items()
            if now_s - heard_s > self._config.silence_s
        }
        for node, what in self._hearing.deaf().items():
            wrong.setdefault(node, f"{node} receives nothing although {what}: restart it")
        if wrong:
            name = self.get_fully_qualified_name().lstrip("/")
            said = [status_codec.entry(f"{name}: {n}", DiagnosticStatus.ERROR, w, {}) for n, w in wrong.items()]
            self._health.publish(status_codec.array_of(self.get_clock().now().nanoseconds, said))

    def health(self) -> dict[str, object]:
        """Live figures: p50 of the last frames, and the frame rate so far."""
        book = self._ledger
        figures: dict[str, object] = {
            f"{stage}.wall_ms": f"{1e3 * float(np.median(recent)):.2f}" for stage, recent in book.recent.items()
        }
        if book.latencies_s:
            figures["latency.wall_ms"] = f"{1e3 * float(np.median(book.latencies_s)):.2f}"
        if book.wall_total_s > 0:
            figures["fps"] = f"{book.frames / book.wall_total_s:.1f}"
        figures |= {"lost": book.lost, "dropped": book.dropped(time.monotonic_ns())}
        return {**figures, "state": book.state, "reason": book.reason, **self._load.figures(time.monotonic())}

    def finish(self) -> None:
        """Writes the ledger."""
        if not self.graph.out:
            return
        self._ledger.close()
        content = {
            "frames": self._ledger.rows,
            "wall_total_s": self._ledger.wall_total_s,
            "problems": self._problems_of,
            "pacing": self._pacing,
            "findings": list(self._findings.values()),
            "images": self._images,
            "frames_skipped": self._skipped[0],
            "first_skipped": self._skipped[1],
        }
        files.write_json(Path(self.graph.out) / files.GRAPH, content)


def main(args: Sequence[str] | None = None) -> int:
    """Runs the node."""
    return run("profiler_node", ProfilerNode, args)


if __name__ == "__main__":
    sys.exit(main())
