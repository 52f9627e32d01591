# SPDX-License-Identifier: Apache-2.0
"""A span: one stage of one frame on one unit, measured on this host and modelled for the chip."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from drp_slam.atomic import write_table
from drp_slam.chip.cost import Cost
from drp_slam.chip.soc import Meter, Soc
from drp_slam.device import StageRun
from drp_slam.errors import ProfilerError
from drp_slam.resources import read_text


@dataclass(frozen=True, slots=True)
class Span:
    """`wall_s` was measured on this host. The other figures are computed for the chip:

    `modelled_s`, `energy_j` of the unit that the stage runs on, and `cpu_modelled_s`,
    `cpu_energy_j` of the same work on the chip's own Cortex-A55 cores (first order). NaN if
    nothing is modelled. `stamp_ns` is the colour image's own stamp, the key of the frame.
    """

    stamp_ns: int
    frame: int
    stage: str
    unit: str
    device: str
    wall_s: float
    modelled_s: float
    energy_j: float
    cpu_modelled_s: float
    cpu_energy_j: float


def make_span(frame: int, stamp_ns: int, run: StageRun, meter: Meter) -> Span:
    """The span of one stage, priced for the chip and for its CPU alone."""
    return span_of(frame, stamp_ns, run, [meter.cost(work) for work in run.works], meter.soc)


def span_of(frame: int, stamp_ns: int, run: StageRun, costs: Sequence[Cost], soc: Soc) -> Span:
    """The span of one stage whose works cost `costs` on `soc`."""
    alone = soc.cpu_cost(run.works)
    return Span(
        stamp_ns,
        frame,
        run.stage,
        run.unit,
        f"{run.device}:{soc.name}" if run.device == "emulated" else run.device,
        run.wall_s,
        sum(cost.modelled_s for cost in costs),
        sum(cost.energy_j for cost in costs),
        alone.modelled_s,
        alone.energy_j,
    )


def on_units(costs: Sequence[Cost]) -> list[tuple[str, float]]:
    """Units of silicon in order, each with its modelled seconds; consecutive works on one unit combined."""
    parts: list[tuple[str, float]] = []
    for cost in costs:
        before = parts.pop()[1] if parts and parts[-1][0] == cost.unit else 0.0
        parts.append((cost.unit, before + cost.modelled_s))
    return parts


LONGEST_S = 1e6
"""Longest accepted duration of a stage."""
_TYPES = {"int": int, "str": str, "float": float}


def write_spans(path: Path, spans: Iterable[Span]) -> None:
    """Writes spans as CSV, through a temporary name. Raises ProfilerError."""
    write_table(path, Span, spans, ProfilerError)


def read_spans(path: Path) -> list[Span]:
    """Reads what `write_spans` wrote. Raises ProfilerError that names the line."""
    types = [_TYPES[str(f.type)] for f in dataclasses.fields(Span)]
    names = [f.name for f in dataclasses.fields(Span)]
    rows = csv.reader(io.StringIO(read_text(path, ProfilerError), newline=""))
    try:
        if next(rows, None) != names:
            raise ProfilerError(f"{path}: not a span table; its first line must be {','.join(names)}")
        spans = [Span(*(t(v) for t, v in zip(types, row, strict=True))) for row in rows]
    except (ValueError, csv.Error) as error:
        raise ProfilerError(f"{path}: line {rows.line_num}: {error}") from error
    for line, span in enumerate(spans, 2):
        if not (0 <= span.wall_s < LONGEST_S and abs(span.stamp_ns) < 2**63 and 0 <= span.frame < 2**31):
            raise ProfilerError(f"{path}: line {line}: the wall time, stamp or frame is out of range; run again")
        if any(figure < 0 or figure == math.inf for figure in (span.modelled_s, span.energy_j)):
            raise ProfilerError(f"{path}: line {line}: a modelled figure is negative or infinite; run again")
    return spans
