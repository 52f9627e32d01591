# SPDX-License-Identifier: Apache-2.0
"""Simulates the chip as resources in time: modelled stage times -> throughput, latency, utilisation.

Each queue serves one step at a time in order of arrival; different frames run on different units
at once. The device file says which units share a queue: on RZ/V2H, DRP0 is started through
DRP-AI3's driver and shares its queue. All units share one memory: when the running steps need more
than its bandwidth, it is divided fairly and they take longer. All times are modelled; none is
measured.
"""

from __future__ import annotations

import heapq
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from drp_slam.atomic import write_text
from drp_slam.chip.constants import Unit
from drp_slam.errors import ProfilerError

INF = float("inf")


@dataclass(frozen=True, slots=True)
class Step:
    """One piece of a frame's work on one unit, `modelled_s` seconds long without competition for memory.

    It moves `bytes`. `wake_s` is the delay between the end of the step before it and its
    entry into the queue (the operating system wakes a thread). A step that is `beside` starts when
    the step before it ends, and neither later steps nor the frame wait for it. It occupies `cores`
    cores of its queue, 0 for all.
    """

    stage: str
    unit: Unit
    modelled_s: float
    bytes: float = 0.0
    wake_s: float = 0.0
    beside: bool = False
    cores: int = 0


@dataclass(frozen=True, slots=True)
class Slot:
    """Start and end of a step, in modelled seconds since the first frame arrived."""

    frame: int
    step: Step
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Schedule:
    """`arrived_s` and `done_s` are (frames,) float64: when a frame entered, and when its last step ended that
    is not `beside`; NaN for a dropped frame.

    `units` are the chip's, in the order in which they are drawn.
    """

    units: tuple[Unit, ...]
    slots: tuple[Slot, ...]
    arrived_s: np.ndarray
    done_s: np.ndarray

    @property
    def dropped(self) -> int:
        """Frames that arrived while too many were in flight."""
        return int(np.isnan(self.done_s).sum())

    @property
    def latency_s(self) -> np.ndarray:
        """(frames - dropped,) float64, from entering to the end of the last step."""
        latency = self.done_s - self.arrived_s
        return latency[np.isfinite(latency)]

    @property
    def throughput_hz(self) -> float:
        """Frames per second, from the first arrival to the last end."""
        done_s = self.done_s[np.isfinite(self.done_s)]
        total_s = float(done_s.max(initial=0.0))
        return len(done_s) / total_s if total_s > 0 else INF

    def utilisation(self) -> dict[str, float]:
        """Share of the time, from the first start to the last end, that each unit was busy."""
        total_s = max((slot.end_s for slot in self.slots), default=0.0)
        busy = {unit.name: 0.0 for unit in self.units}
        for slot in self.slots:
            busy[slot.step.unit.name] += slot.end_s - slot.start_s
        return {unit: s / total_s if total_s > 0 else 0.0 for unit, s in busy.items()}


@dataclass
class _Running:
    """A running step: `left_s` of its work remained at `since_s`; with `speed` it ends at `end_s`."""

    frame: int
    index: int
    step: Step
    cores: int
    start_s: float
    left_s: float
    since_s: float
    end_s: float
    speed: float = 1.0


class _Simulation:
    """One run of `simulate`; its rules are in `run`."""

    def __init__(
        self, jobs: Sequence[Sequence[Step]], in_flight: int, period_s: float, drop: bool, bandwidth: float, cores: int
    ) -> None:
        self.jobs, self.in_flight, self.period_s, self.drop = jobs, in_flight, period_s, drop
        self.bandwidth, self.cores = bandwidth, cores
        self.arrived_s, self.done_s = np.zeros(len(jobs)), np.full(len(jobs), math.nan)
        self.slots: list[Slot] = []
        self.running: list[_Running] = []
        self.waiting: dict[str, list[tuple[float, int, int]]] = {}  # queue -> (ready, frame, step), in order
        self.waking: list[tuple[float, int, int]] = []  # heap of the same
        self.entered, self.under_way = 0, 0

    def run(self) -> None:
        while (now := self._next_s()) < INF:
            # order at one instant: steps end, frames enter, queues are served
            for ended in [r for r in self.running if r.end_s <= now]:
                self.running.remove(ended)
                self.slots.append(Slot(ended.frame, ended.step, ended.start_s, now))
                if not ended.step.beside:
                    self._release(ended.frame, ended.index, now)
            while self.waking and self.waking[0][0] <= now:
                self._wait(*heapq.heappop(self.waking))
            while self.entered < len(self.jobs) and self._entry_s() <= now:
                self._enter(now)
            self._serve(now)
            if self.bandwidth < INF:
                self._share_memory(now)

    def _next_s(self) -> float:
        times = [r.end_s for r in self.running] + [w[0] for w in self.waking[:1]]
        return min([*times, self._entry_s()])

    def _entry_s(self) -> float:
        """When the next frame enters, if that is known."""
        if self.entered == len(self.jobs) or (not self.drop and self.under_way >= self.in_flight):
            return INF
        if self.drop:
            return self.entered * self.period_s
        return self.arrived_s[self.entered - 1] + self.period_s if self.entered else 0.0

    def _enter(self, now: float) -> None:
        frame, self.entered = self.entered, self.entered + 1
        self.arrived_s[frame] = now
        if self.under_way < self.in_flight:
            self.under_way += 1
            self._release(frame, -1, now)

    def _release(self, frame: int, index: int, now: float) -> None:
        """Makes the steps after step `index` ready; the frame is done after its last step."""
        job = self.jobs[frame]
        for k in range(index + 1, len(job)):
            ready_s = now + job[k].wake_s
            if job[k].wake_s > 0:
                heapq.heappush(self.waking, (ready_s, frame, k))
            else:
                self._wait(ready_s, frame, k)
            if not job[k].beside:
                return
        self.done_s[frame] = now
        self.under_way -= 1

    def _wait(self, ready_s: float, frame: int, index: int) -> None:
        heapq.heappush(self.waiting.setdefault(self.jobs[frame][index].unit.queue, []), (ready_s, frame, index))

    def _serve(self, now: float) -> None:
        """Serves each queue in order of arrival, the older frame first; a stage works on one frame at a time."""
        for queue, line in self.waiting.items():
            capacity = self.cores if queue == CPU_QUEUE else 1
            free = capacity - sum(r.cores for r in self.running if r.step.unit.queue == queue)
            later = []
            while line and free > 0:
                ready_s, frame, index = heapq.heappop(line)
                step = self.jobs[frame][index]
                need = min(step.cores or capacity, capacity)
                busy = any(r.step.stage == step.stage and r.step.unit == step.unit for r in self.running)
                if need > free or (busy and capacity > 1):
                    later.append((ready_s, frame, index))
                    if need > free:
                        break  # no step overtakes one that waits for cores
                    continue
                free -= need
                self.running.append(
                    _Running(frame, index, step, need, now, step.modelled_s, now, now + step.modelled_s)
                )
            for item in later:
                heapq.heappush(line, item)

    def _share_memory(self, now: float) -> None:
        """Max-min fair: a step that needs less than an equal share gets what it needs, the others divide the rest."""
        demands = [r.step.bytes / r.step.modelled_s if r.step.modelled_s > 0 else 0.0 for r in self.running]
        given, rest, order = [0.0] * len(demands), self.bandwidth, sorted(range(len(demands)), key=demands.__getitem__)
        for served, k in enumerate(order):
            given[k] = min(demands[k], rest / (len(order) - served))
            rest -= given[k]
        for r, demand, got in zip(self.running, demands, given):
            speed = got / demand if got < demand else 1.0
            if speed != r.speed:
                r.left_s -= (now - r.since_s) * r.speed
                r.since_s, r.speed = now, speed
                r.end_s = now + max(r.left_s, 0.0) / speed


CPU_QUEUE = "CPU"
"""The queue in which a step may take only some of the cores."""


def simulate(
    jobs: Sequence[Sequence[Step]],
    units: Sequence[Unit],
    in_flight: int = 3,
    period_s: float = 0.0,
    *,
    drop: bool = False,
    bandwidth: float = INF,
    cores: int = 1,
) -> Schedule:
    """Simulates the frames through the queues.

    `jobs` holds the steps of each frame, in order. A frame enters `period_s` after the previous one,
    but waits while `in_flight` frames are being processed; with `drop` such a frame is dropped, as
    from a live camera. Each queue serves the step that was ready first, the older frame at a tie.
    The units share a memory of `bandwidth` bytes per second. The queue `CPU` has `cores` cores.
    """
    simulation = _Simulation(jobs, in_flight, period_s, drop, bandwidth, cores)
    simulation.run()
    slots = tuple(sorted(simulation.slots, key=lambda s: s.start_s))
    return Schedule(tuple(units), slots, simulation.arrived_s, simulation.done_s)


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
