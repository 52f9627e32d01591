# SPDX-License-Identifier: Apache-2.0
"""The part of a report about the chip: kernels, assumptions, schedule, comparison, temperature."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from drp_slam.chip import cpu_alone, thermal
from drp_slam.chip.schedule import Schedule, Step, simulate, split
from drp_slam.chip.sensitivity import listing
from drp_slam.chip.soc import Soc
from drp_slam.config import Config, override
from drp_slam.errors import DrpSlamError, ProfilerError
from drp_slam.frontend.modelled import open_soc
from drp_slam.profiler import summary
from drp_slam.profiler.span import Span
from drp_slam.profiler.work_table import averaged, read_works
from drp_slam.reporting import breakdown
from drp_slam.reporting import folder as files

log = logging.getLogger(__name__)

IN_FLIGHT = (1, 3)
"""Numbers of frames in flight for which the chip's schedule is computed."""
EMULATED = "emulated:"
CLOCKS = ("drp.mindiv", "drpai3.freq_index")
"""Parameters of a run that set the modelled clocks."""


def chip_of(run: Mapping[str, Any], spans: Sequence[Span], device: str | None) -> Soc | None:
    """The chip of a report: `device`, else that of the run; None where none is modelled.

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
        log.warning("nothing about the chip: %s", error)
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

    Raises ProfilerError where the results have none.
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

    What is missing is None.
    """
    emulated = any(s.device.startswith(EMULATED) for s in spans)
    frames = read_works(out / files.KERNELS) if soc and (out / files.KERNELS).is_file() else {}
    first, shares = next(iter(frames.values()), {}), {}
    try:
        shares = breakdown.shares(first, soc) if soc else {}
    except DrpSlamError as error:
        log.warning("no kernels, and stages are not split over units: %s", error)
        first, frames = {}, {}
    schedules = _schedules(spans, shares, soc) if soc else []
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


def _schedules(spans: Sequence[Span], shares: Mapping[str, Any], soc: Soc) -> list[Schedule]:
    """One for each of `IN_FLIGHT`; none where a stage is not modelled, or nothing takes time."""
    if not spans or not 0.0 < sum(s.modelled_s for s in spans) < float("inf"):
        return []
    jobs: dict[int, list[Step]] = {}
    for span in spans:
        unit = soc.unit_of(span.unit, "custom")
        if unit is None:
            return []
        step = Step(span.stage, unit, span.modelled_s, beside=span.stage in summary.BESIDE)
        jobs.setdefault(span.stamp_ns, []).extend(split(step, shares.get(span.stage, ())))
    return [simulate([jobs[stamp] for stamp in sorted(jobs)], soc.units, in_flight) for in_flight in IN_FLIGHT]


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
    """Of the chip and of its CPU alone; None where the device file has no thermal constants."""
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
