# SPDX-License-Identifier: Apache-2.0
"""Summarises spans per stage and per frame; NaN (nothing modelled) becomes None."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from drp_slam.chip.cpu_alone import FrameMeans, ratio
from drp_slam.profiler.span import Span

BESIDE = frozenset({"detect"})
"""Stages that run in parallel, so the pose does not wait for them."""


def to_pose(spans: Iterable[Span]) -> list[Span]:
    """The spans of the stages from image to pose."""
    return [s for s in spans if s.stage not in BESIDE]


def spread_ms(values_s: Iterable[float]) -> dict[str, float] | None:
    """`p50`, `p95` and `mean` in milliseconds; None if any value is missing or there is none."""
    values = np.asarray(list(values_s), float) * 1e3
    if values.size == 0 or not np.all(np.isfinite(values)):
        return None
    p50, p95 = np.percentile(values, (50, 95))
    return {"p50": float(p50), "p95": float(p95), "mean": float(values.mean())}


def mean(values: Iterable[float], scale: float = 1.0) -> float | None:
    """Mean of `values * scale`; None if any value is missing or there is none."""
    total, count = 0.0, 0
    for value in values:
        total, count = total + value, count + 1
    return total / count * scale if count and math.isfinite(total) else None


def by_stage(spans: Sequence[Span]) -> dict[str, list[Span]]:
    """Spans of each stage, stages in the order in which they first appear."""
    stages: dict[str, list[Span]] = {}
    for span in spans:
        stages.setdefault(span.stage, []).append(span)
    return stages


def stages(spans: Sequence[Span]) -> dict[str, dict[str, Any]]:
    """One entry per stage: `unit`, `device`, `frames`; measured here: `wall_ms`; computed for the
    chip: `modelled_ms`, `energy_mj`, and on its own A55 cores `cpu_modelled_ms`, `cpu_energy_mj`.
    Energies are means per frame.
    """
    return {
        stage: {
            "unit": group[0].unit,
            "device": group[0].device,
            "frames": len(group),
            "wall_ms": spread_ms(s.wall_s for s in group),
            "modelled_ms": spread_ms(s.modelled_s for s in group),
            "energy_mj": mean((s.energy_j for s in group), 1e3),
            "cpu_modelled_ms": spread_ms(s.cpu_modelled_s for s in group),
            "cpu_energy_mj": mean((s.cpu_energy_j for s in group), 1e3),
        }
        for stage, group in by_stage(spans).items()
    }


def by_frame(spans: Sequence[Span], value: Callable[[Span], float]) -> np.ndarray:
    """(frames,) float64: the sum of `value` over the stages of each frame, in order of stamps."""
    totals: dict[int, float] = {}
    for span in spans:
        totals[span.stamp_ns] = totals.get(span.stamp_ns, 0.0) + value(span)
    return np.array([totals[stamp] for stamp in sorted(totals)], float)


def latency(spans: Sequence[Span], measured_s: Sequence[float] = ()) -> dict[str, Any]:
    """Latency of a frame: `wall_ms`, end to end if `measured_s` is given, else the sum of its
    stages; `modelled_ms` and `cpu_modelled_ms`, the sums of its stages for the chip and its A55.
    """
    measured, spans = [s for s in measured_s if math.isfinite(s)], to_pose(spans)
    return {
        "wall_ms": spread_ms(measured or by_frame(spans, lambda s: s.wall_s)),
        "wall_is": "end to end" if measured else "sum of the stages",
        "modelled_ms": spread_ms(by_frame(spans, lambda s: s.modelled_s)),
        "cpu_modelled_ms": spread_ms(by_frame(spans, lambda s: s.cpu_modelled_s)),
    }


def frame_means(spans: Sequence[Span]) -> FrameMeans | None:
    """A mean frame on the chip and on its CPU alone; None if nothing is modelled."""
    chip_ms = mean(by_frame(to_pose(spans), lambda s: s.modelled_s), 1e3)
    cpu_ms = mean(by_frame(to_pose(spans), lambda s: s.cpu_modelled_s), 1e3)
    if chip_ms is None or cpu_ms is None:
        return None
    cpu_busy_ms = mean(by_frame(spans, lambda s: s.cpu_modelled_s), 1e3)
    chip_mj, cpu_mj = (
        mean(by_frame(spans, energy), 1e3) for energy in (lambda s: s.energy_j, lambda s: s.cpu_energy_j)
    )
    return FrameMeans(chip_ms, cpu_ms, chip_mj, cpu_mj, cpu_busy_ms)


def beside_baseline(spans: Sequence[Span], baseline: Sequence[Span]) -> dict[str, Any] | None:
    """Measured on this host, the same frames: this run, and the run with backend `cpu`.

    None if the two have no frame in common.
    """
    common = {s.stamp_ns for s in spans} & {s.stamp_ns for s in baseline}
    if not common:
        return None
    ours = [s for s in spans if s.stamp_ns in common]
    theirs = [s for s in baseline if s.stamp_ns in common]
    frame = spread_ms(by_frame(ours, lambda s: s.wall_s))
    cpu = spread_ms(by_frame(theirs, lambda s: s.wall_s))
    return {
        "frames": len(common),
        "wall_ms": frame,
        "cpu_wall_ms": cpu,
        "ratio": None if cpu is None or frame is None else ratio(cpu["p50"], frame["p50"]),
        "stages": {name: {"wall_ms": s["wall_ms"]} for name, s in stages(ours).items()},
        "cpu_stages": {name: {"device": s["device"], "wall_ms": s["wall_ms"]} for name, s in stages(theirs).items()},
    }
