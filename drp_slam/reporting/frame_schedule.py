# SPDX-License-Identifier: Apache-2.0
"""Frames as steps on the chip's units: priced from their works, for simulation in time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from drp_slam.chip.cost import Cost
from drp_slam.chip.schedule import INF, Schedule, Step, simulate
from drp_slam.chip.soc import Meter, Soc
from drp_slam.device import Work
from drp_slam.frontend.recognise import DETECT
from drp_slam.pipeline import TRACK
from drp_slam.profiler.work_table import FrameWorks

IN_FLIGHT = 3
"""Maximum number of frames in flight."""
RARE = 1e-5
"""The worst published wake-up is taken as one in this many."""


@dataclass(frozen=True)
class System:
    """The units that run the work: the chip's as placed, the chip without its `custom` kernels, or its CPU alone.

    `python`: the CPU's part as this package runs it, else as a compiled port would.
    """

    name: str
    alone: bool = False
    custom: bool = True
    python: bool = False


CHIP = System("chip as placed")


@dataclass(frozen=True)
class PricedFrame:
    """One frame on one system: its steps in order, and its energy."""

    steps: tuple[Step, ...]
    energy_j: float


def price(frame: FrameWorks, system: System, meter: Meter, calls: Mapping[str, float], cores: int = 4) -> PricedFrame:
    """The job of a frame; `calls` into libraries are those of each stage in Python, `cores` those of the tracker."""
    soc = meter.soc
    steps: list[Step] = []
    energy_j = 0.0
    # the CPU alone finds the pose first, then runs the detector
    for stage in sorted(frame, key=lambda s: system.alone and s == DETECT.name):
        counted = any(work.counters.get("calls") for work in frame[stage])
        dispatch = [] if counted or not system.python else [Work("cpu", "dispatch", {"calls": calls.get(stage, 0.0)})]
        if system.alone:
            works = [*frame[stage], *dispatch]
            costs = [soc.cpu_cost(works, system.python)]
        else:
            works = [w if system.custom or w.place != "custom" else on_cpu(w) for w in frame[stage]]
            works += dispatch if stage == TRACK.name else []
            costs = [meter.cost(w) if w.unit != "cpu" else soc.cost(w, python=system.python) for w in works]
        energy_j += sum(c.energy_j for c in costs)
        steps += _steps(stage, costs, soc, cores)
    return PricedFrame(tuple(steps), energy_j)


def on_cpu(work: Work) -> Work:
    """The same work on the CPU."""
    return replace(work, unit="cpu", place="cpu")


def _steps(stage: str, costs: Sequence[Cost], soc: Soc, cores: int) -> list[Step]:
    """Consecutive costs as steps, merged if on one unit."""
    units = {unit.name: unit for unit in soc.units}
    steps: list[Step] = []
    for cost in costs:
        if steps and steps[-1].unit.name == cost.unit:
            last = steps.pop()
            seconds, moved = last.modelled_s + cost.modelled_s, last.bytes + cost.bytes
        else:
            seconds, moved = cost.modelled_s, cost.bytes
        steps.append(Step(stage, units[cost.unit], seconds, moved, beside=stage == DETECT.name))
    all_cores = int(soc.constants["cpu.cores"])
    if stage == TRACK.name and cores < all_cores:
        # from one to all cores a thread pool gains cpu.scaling; in between as a power of their number
        slower = soc.constants["cpu.scaling"] ** (1 - math.log(cores) / math.log(all_cores))
        steps = [replace(s, modelled_s=s.modelled_s * slower, cores=cores) for s in steps]
    return steps


def with_wake_ups(jobs: Sequence[Sequence[Step]], soc: Soc) -> list[list[Step]]:
    """The jobs with a wake-up before each step: log-normal, through the published mean and worst, always the same.

    Without delays if the device file states none.
    """
    if "cpu.wake_up" not in soc.constants:
        return [list(job) for job in jobs]
    mean, worst = soc.constants["cpu.wake_up"], soc.constants["cpu.wake_up_worst"]
    z = NormalDist().inv_cdf(1 - RARE)
    sigma = z - math.sqrt(max(z * z - 2 * math.log(worst / mean), 0.0))
    random = np.random.default_rng(0)
    return [
        [replace(s, wake_s=float(random.lognormal(math.log(mean) - sigma**2 / 2, sigma))) for s in job] for job in jobs
    ]


def simulate_jobs(
    jobs: Sequence[Sequence[Step]], soc: Soc, in_flight: int = IN_FLIGHT, live_period_s: float | None = None
) -> Schedule:
    """Simulates the jobs with wake-ups, shared memory and all cores, as far as the device file states them.

    As fast as possible; with `live_period_s` one arrives in every period and is dropped if it cannot enter.
    """
    limited = "memory.bandwidth" in soc.constants
    return simulate(
        with_wake_ups(jobs, soc),
        soc.units,
        in_flight,
        live_period_s or 0.0,
        drop=live_period_s is not None,
        bandwidth=soc.constants["memory.bandwidth"] if limited else INF,
        cores=int(soc.constants["cpu.cores"]),
    )


def queues(plan: Schedule) -> dict[str, float]:
    """Share of the time that each queue was busy."""
    busy: dict[str, float] = {}
    for unit, share in plan.utilisation().items():
        queue = next(u.queue for u in plan.units if u.name == unit)
        busy[queue] = busy.get(queue, 0.0) + share
    return busy


def percentiles_ms(seconds: np.ndarray) -> dict[str, float] | None:
    """p50, p95, p99; None without values."""
    if not len(seconds):
        return None
    p50, p95, p99 = (np.percentile(seconds, (50, 95, 99)) * 1e3).tolist()
    return {"p50": p50, "p95": p95, "p99": p99}


def jitter_ms(done_s: np.ndarray) -> float | None:
    """Standard deviation of the time between poses."""
    return float(np.diff(done_s).std() * 1e3) if len(done_s) > 2 else None
