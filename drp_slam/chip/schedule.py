# SPDX-License-Identifier: Apache-2.0
"""The chip as resources in time: modelled stage times -> throughput, latency, utilisation.

Every queue serves one step at a time, first come first served, and different frames are on
different units at once. Which unit waits in which queue is the device file's to say: on RZ/V2H,
DRP0 is started through DRP-AI3's driver and shares its queue. All times are modelled; none is
measured.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from drp_slam.atomic import write_text
from drp_slam.chip.constants import Unit
from drp_slam.errors import ProfilerError


@dataclass(frozen=True)
class Step:
    """One piece of a frame's work on one unit, `modelled_s` seconds long."""

    stage: str
    unit: Unit
    modelled_s: float


@dataclass(frozen=True)
class Slot:
    """When a step ran, in modelled seconds since the first frame arrived."""

    frame: int
    step: Step
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Schedule:
    """`arrived_s` and `done_s` are (frames,) float64: when a frame entered, and its last end.

    `units` are the chip's, in the order in which they are drawn.
    """

    units: tuple[Unit, ...]
    slots: tuple[Slot, ...]
    arrived_s: np.ndarray
    done_s: np.ndarray

    @property
    def latency_s(self) -> np.ndarray:
        """(frames,) float64, from entering to the end of the last step."""
        return self.done_s - self.arrived_s

    @property
    def throughput_hz(self) -> float:
        """Frames a second, from the first one entering to the last end."""
        total_s = float(self.done_s.max(initial=0.0))
        return len(self.done_s) / total_s if total_s > 0 else float("inf")

    def utilisation(self) -> dict[str, float]:
        """Share of the time, from the first start to the last end, that each unit was busy."""
        total_s = float(self.done_s.max(initial=0.0))
        busy = {unit.name: 0.0 for unit in self.units}
        for slot in self.slots:
            busy[slot.step.unit.name] += slot.end_s - slot.start_s
        return {unit: s / total_s if total_s > 0 else 0.0 for unit, s in busy.items()}


def simulate(
    jobs: Sequence[Sequence[Step]], units: Sequence[Unit], in_flight: int = 3, period_s: float = 0.0
) -> Schedule:
    """Runs frame after frame through the queues.

    `jobs` holds the steps of each frame, in order. A frame enters `period_s` after the one before
    it, but never while `in_flight` frames are under way. In each queue the step that was ready
    first is served first; of two, the older frame's.
    """
    arrived_s, done_s = np.zeros(len(jobs)), np.zeros(len(jobs))
    waiting: dict[str, list[tuple[float, int, int]]] = {}  # queue -> heap of (ready, frame, step)
    free_s: dict[str, float] = {}
    slots: list[Slot] = []
    entered = 0
    finished: list[float] = []  # ends of finished frames, for the credit

    def ready(frame: int, step: int, at_s: float) -> None:
        if step < len(jobs[frame]):
            queue = jobs[frame][step].unit.queue
            heapq.heappush(waiting.setdefault(queue, []), (at_s, frame, step))
        else:
            done_s[frame] = at_s
            heapq.heappush(finished, at_s)

    def enter(credit_s: float) -> None:
        nonlocal entered
        frame, entered = entered, entered + 1
        earliest = arrived_s[frame - 1] + period_s if frame else 0.0
        arrived_s[frame] = max(earliest, credit_s)
        ready(frame, 0, float(arrived_s[frame]))

    while entered < min(in_flight, len(jobs)):
        enter(0.0)
    while True:
        heads = [(max(h[0][0], free_s.get(q, 0.0)), h[0], q) for q, h in waiting.items() if h]
        start_s = min(heads)[0] if heads else float("inf")
        if finished and entered < len(jobs) and finished[0] <= start_s:
            enter(heapq.heappop(finished))  # a finished frame's credit lets the next one in
            continue
        if not heads:
            break
        # The earliest start of all queues is final: whatever becomes ready later is ready later.
        start_s, (_, frame, index), queue = min(heads)
        heapq.heappop(waiting[queue])
        step = jobs[frame][index]
        end_s = start_s + step.modelled_s
        slots.append(Slot(frame, step, start_s, end_s))
        free_s[queue] = end_s
        ready(frame, index + 1, end_s)
    return Schedule(tuple(units), tuple(slots), arrived_s, done_s)


def split(step: Step, shares: Sequence[tuple[Unit, float]]) -> list[Step]:
    """A step spread over units, in order, in proportion to `shares`; whole where there are none."""
    total = sum(share for _, share in shares)
    if not total > 0:
        return [step]
    return [Step(step.stage, unit, step.modelled_s * share / total) for unit, share in shares]


def chrome_trace(schedule: Schedule, process: str) -> dict[str, Any]:
    """The schedule for chrome://tracing or ui.perfetto.dev; times in microseconds, modelled."""
    rows: Mapping[str, int] = {unit: i for i, unit in enumerate(u.name for u in schedule.units)}
    events: list[dict[str, Any]] = [
        {"ph": "M", "pid": 0, "name": "process_name", "args": {"name": f"{process} (modelled time)"}}
    ]
    events += [
        {"ph": "M", "pid": 0, "tid": i, "name": "thread_name", "args": {"name": unit}} for unit, i in rows.items()
    ]
    events += [
        {
            "ph": "X",
            "pid": 0,
            "tid": rows[s.step.unit.name],
            "name": s.step.stage,
            "cat": "modelled",
            "ts": s.start_s * 1e6,
            "dur": (s.end_s - s.start_s) * 1e6,
            "args": {"frame": s.frame},
        }
        for s in schedule.slots
    ]
    return {"displayTimeUnit": "ms", "traceEvents": events}


def write_trace(path: Path, schedule: Schedule, process: str) -> None:
    """Writes `chrome_trace` as JSON, through a temporary name. Raises ProfilerError."""
    write_text(path, json.dumps(chrome_trace(schedule, process)), ProfilerError)
