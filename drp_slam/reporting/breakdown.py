# SPDX-License-Identifier: Apache-2.0
"""One frame kernel by kernel: place, cost, and the constants that its modelled time depends on."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from drp_slam.chip.constants import Constants
from drp_slam.chip.cost import Cost
from drp_slam.chip.sensitivity import elasticities, summary
from drp_slam.chip.soc import Meter, Soc
from drp_slam.device import StageRun, Work
from drp_slam.profiler.span import Span, make_span
from drp_slam.profiler.summary import by_stage
from drp_slam.profiler.work_table import FrameWorks

SECTIONS = {"drp": ("drp.", "cpu."), "drpai3": ("drpai3.", "fallback.", "cpu."), "cpu": ("cpu.",)}
"""Unit of work -> sections of the device file that its cost may depend on."""


def kernels(frame: FrameWorks, soc: Soc) -> list[dict[str, Any]]:
    """One entry per image kernel of a frame in the middle of a run.

    `stage`, `kernel`, `place`, `reasons` (why the CPU runs it instead of the DRP), `modelled_s`,
    `energy_j`, and on the A55 `cpu_modelled_s`, `cpu_energy_j`.
    """
    rows = []
    for stage, work, cost in steady(frame, soc):
        if not work.place or not work.kind:
            continue
        alone = soc.cpu_cost([work])
        rows.append(
            {
                "stage": stage,
                "kernel": work.name,
                "place": work.place,
                "reasons": list(work.reasons),
                "modelled_s": cost.modelled_s,
                "energy_j": cost.energy_j,
                "cpu_modelled_s": alone.modelled_s,
                "cpu_energy_j": alone.energy_j,
            }
        )
    return rows


def steady(frame: FrameWorks, soc: Soc, stages: Collection[str] = ()) -> Iterator[tuple[str, Work, Cost]]:
    """Stage, work and cost of a frame in steady state, after an equal one; only `stages`, if given.

    Configurations that are still loaded from the previous frame depend on the capacity of the DRP.
    """
    meter = Meter(soc)
    for works in frame.values():
        for work in works:
            if work.unit == "drp":
                meter.cost(work)
    for stage, works in frame.items():
        for work in works:
            if not stages or stage in stages:
                yield stage, work, meter.cost(work)
            elif work.unit == "drp":
                meter.cost(work)


def repriced(spans: Iterable[Span], frames: Mapping[int, FrameWorks], soc: Soc) -> Iterator[Span]:
    """The same spans priced for `soc`; wall times stay as measured.

    Spans without works in `frames` are left out.
    """
    meter = Meter(soc)
    for span in sorted(spans, key=lambda s: s.stamp_ns):
        works = frames.get(span.stamp_ns, {}).get(span.stage)
        if works:
            device = span.device.partition(":")[0]
            yield make_span(
                span.frame, span.stamp_ns, StageRun(span.stage, span.unit, device, span.wall_s, tuple(works)), meter
            )


def rests_on(works: FrameWorks, soc: Soc, spans: Sequence[Span]) -> dict[str, Any]:
    """Sensitivity of each stage's modelled time to the constants (`assumptions` of a report).

    `works` are a mean frame's. Stages are weighted by the mean of their modelled time.
    """
    found = {}
    for stage, group in by_stage(spans).items():
        mine = works.get(stage, ())
        if not mine or any(w.unit not in SECTIONS for w in mine):
            continue
        mean_s = sum(s.modelled_s for s in group) / len(group)
        if not math.isfinite(mean_s):
            continue
        prefixes = tuple({prefix for work in mine for prefix in SECTIONS[work.unit]})
        keys = [key for key in soc.constants if key.startswith(prefixes)]
        found[stage] = mean_s, elasticities(_seconds(soc, works, stage), soc.constants, keys)
    return summary(found, soc.constants)


def _seconds(soc: Soc, works: FrameWorks, stage: str) -> Callable[[Constants], float]:
    """Modelled time of a stage as a function of the constants."""

    def seconds(constants: Constants) -> float:
        return sum(cost.modelled_s for _, _, cost in steady(works, soc.with_constants(constants), (stage,)))

    return seconds
