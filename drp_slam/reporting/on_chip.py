# SPDX-License-Identifier: Apache-2.0
"""The part of a report about the chip: kernels, assumptions, schedule, comparison, temperature."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from drp_slam.chip import cpu_alone, thermal
from drp_slam.chip.schedule import Schedule, Step
from drp_slam.chip.sensitivity import listing
from drp_slam.chip.soc import Meter, Soc
from drp_slam.config import Config
from drp_slam.config.config_file import override
from drp_slam.errors import DrpSlamError, ProfilerError
from drp_slam.frontend.modelled import open_soc
from drp_slam.profiler import summary
from drp_slam.profiler.span import Span
from drp_slam.profiler.work_table import averaged, read_works
from drp_slam.reporting import breakdown
from drp_slam.reporting import folder as files
from drp_slam.reporting.frame_schedule import CHIP, price, simulate_jobs

log = logging.getLogger(__name__)

IN_FLIGHT = (1, 3)
"""Numbers of frames in flight for which the chip's schedule is computed."""
EMULATED = "emulated:"
CLOCKS = ("drp.mindiv", "drpai3.freq_index")
"""Parameters of a run that set the modelled clocks."""


def chip_of(run: Mapping[str, Any], spans: Sequence[Span], device: str | None) -> Soc | None:
    """The chip of a report: `device`, else that of the run; None if none is modelled.

    Raises ResourceError, DeviceError for a `device` that is not a device file. A missing file of the
    run's own device is only a warning.
    """
    emulated = next((s.device.removeprefix(EMULATED) for s in spans if s.device.startswith(EMULATED)), None)
    name = device or run.get("device") or emulated
    if name is None:
        return None
    config = override(Config(), {"device": str(name), **_clocks(run.get("config") or {})})
    try:
        return open_soc(config)
    except DrpSlamError as error:
        if device is not None:
            raise
        log.warning("no section about the chip: %s", error)
        return None


def _clocks(config: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for key in CLOCKS:
        section, _, name = key.partition(".")
        if name in config.get(section, {}):
            found[key] = config[section][name]
    return found


def priced(out: Path, spans: Sequence[Span], soc: Soc) -> list[Span]:
    """Prices the spans of a run for another chip from `kernels.csv`.

    Raises ProfilerError if the results have none.
    """
    if not (out / files.KERNELS).is_file():
        raise ProfilerError(
            f"{out}: no {files.KERNELS}, so it cannot be priced for another chip; make the results again with run or up"
        )
    again = list(breakdown.repriced(spans, read_works(out / files.KERNELS), soc))
    lacking = sorted({s.stage for s in again if s.device.startswith(EMULATED) and s.modelled_s != s.modelled_s})
    if lacking:
        log.warning("%s cannot model %s: its file has no unit that runs it", soc.name, ", ".join(lacking))
    return again


def figures(
    out: Path, spans: Sequence[Span], baseline: Sequence[Span], soc: Soc | None
) -> tuple[dict[str, Any], list[Schedule]]:
    """`kernels`, `assumptions`, `schedule`, `comparison`, `thermal` of a report, and the schedules.

    Missing parts are None.
    """
    emulated = any(s.device.startswith(EMULATED) for s in spans)
    frames = read_works(out / files.KERNELS) if soc and (out / files.KERNELS).is_file() else {}
    first, schedules = next(iter(frames.values()), {}), list[Schedule]()
    try:
        schedules = _schedules(frames, soc) if soc else []
    except DrpSlamError as error:
        log.warning("no kernels and no schedule: %s", error)
        first, frames = {}, {}
    kernels = breakdown.kernels(first, soc) if soc and emulated else []
    if not all(math.isfinite(k["modelled_s"]) for k in kernels):
        kernels = []
    means = summary.frame_means(spans) if emulated else None
    modelled = None
    if means and schedules:
        modelled = {"order": "first", **cpu_alone.compare(means, schedules[-1].throughput_hz)}
    return {
        "kernels": kernels or None,
        "assumptions": _assumptions(frames, soc, spans) if soc and emulated else None,
        "schedule": _plan(schedules),
        "comparison": {
            "host_cpu": summary.beside_baseline(spans, baseline),
            "modelled_a55": modelled,
            "without_custom": cpu_alone.without_custom(kernels, means) if means else None,
            "article": cpu_alone.ARTICLE,
        },
        "thermal": _heat(soc, modelled) if soc and modelled else None,
    }, schedules


def _assumptions(frames: Mapping[int, breakdown.FrameWorks], soc: Soc, spans: Sequence[Span]) -> dict[str, Any]:
    if frames:
        try:
            return breakdown.rests_on(averaged(frames.values()), soc, spans)
        except DrpSlamError as error:
            log.warning("no shares of assumptions: %s", error)
    return {"share": None, "stages": None, "constants": listing(soc.constants)}


def _schedules(frames: Mapping[int, breakdown.FrameWorks], soc: Soc) -> list[Schedule]:
    """A schedule for each of `IN_FLIGHT`; none if a stage is not modelled, or nothing takes time."""
    jobs = steps_of(frames, soc)
    return [simulate_jobs(jobs, soc, count) for count in IN_FLIGHT] if jobs else []


def steps_of(frames: Mapping[int, breakdown.FrameWorks], soc: Soc) -> list[Sequence[Step]]:
    """The steps of every frame in order of stamps; none if a stage is not modelled, or nothing takes time."""
    meter = Meter(soc)
    jobs: list[Sequence[Step]] = []
    for stamp_ns in sorted(frames):
        works = [w for works in frames[stamp_ns].values() for w in works if w.unit != "null"]
        if any(soc.unit_of(w.unit, w.place) is None for w in works):
            return []
        jobs.append(
            price({s: [w for w in ws if w.unit != "null"] for s, ws in frames[stamp_ns].items()}, CHIP, meter, {}).steps
        )
    total_s = sum(step.modelled_s for job in jobs for step in job)
    return jobs if 0.0 < total_s < float("inf") else []


def pacing(out: Path, run: Mapping[str, Any], report: Mapping[str, Any], soc: Soc | None) -> dict[str, Any] | None:
    """A graph in pacing `realtime` against the schedule of the same frames; None for other runs.

    `graph` was measured here, `schedule` is modelled: `fps` and `latency_ms` (p50). `late` has for each node how many
    outputs were held and how much later than modelled they were published, because this host is slower.
    """
    if soc is None or (run.get("config") or {}).get("graph", {}).get("pacing") != "realtime":
        return None
    graph = files.read_json(out / files.GRAPH) if (out / files.GRAPH).is_file() else {}
    frames = read_works(out / files.KERNELS) if (out / files.KERNELS).is_file() else {}
    jobs, stamps_ns = steps_of(frames, soc), sorted(frames)
    plan = None
    if jobs and run.get("rate") == "max":
        plan = simulate_jobs(jobs, soc, int(run.get("in_flight") or IN_FLIGHT[-1]))
    elif len(jobs) > 1:
        period_s = float(np.median(np.diff(stamps_ns))) * 1e-9 / float(run.get("rate") or 1.0)
        plan = simulate_jobs(jobs, soc, live_period_s=period_s)
    spread = summary.spread_ms(plan.latency_s) if plan else None
    latency = (report["latency"] or {}).get("wall_ms")
    return {
        "graph": {"fps": report["fps"], "latency_ms": latency and latency["p50"]},
        "schedule": {"fps": plan.throughput_hz if plan else None, "latency_ms": spread and spread["p50"]},
        "late": graph.get("pacing") or {},
    }


def _plan(schedules: Sequence[Schedule]) -> dict[str, Any] | None:
    plan = {
        str(count): {
            "throughput_hz": s.throughput_hz,
            "utilisation": s.utilisation(),
            "latency_ms": summary.spread_ms(s.latency_s),
        }
        for count, s in zip(IN_FLIGHT, schedules, strict=False)
    }
    return {"in_flight": plan} if plan else None


def _heat(soc: Soc, modelled: Mapping[str, Any]) -> dict[str, Any] | None:
    """Temperatures of the chip and of its CPU alone; None if the device file has no thermal constants."""
    if not any(key.startswith("thermal.") for key in soc.constants):
        return None
    fast, slow = modelled["throughput_hz"], modelled["cpu_throughput_hz"]
    return {
        name: thermal.estimate(soc.constants, modelled[energy], rate_hz)
        for name, energy, rate_hz in (
            ("the chip, as fast as it can", "chip_mj", fast),
            ("the chip, as fast as its A55 alone can", "chip_mj", slow),
            ("its A55 alone, as fast as they can", "cpu_mj", slow),
        )
    }
