# SPDX-License-Identifier: Apache-2.0
"""`kernels.csv`: every program that ran for every frame, so that a run can be priced for any chip.

One line per program, in order of execution: the frame's stamp, the stage, and the fields of
`device.Work`, one column per counter.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from drp_slam.atomic import table
from drp_slam.device import COUNTERS, Work
from drp_slam.errors import ProfilerError
from drp_slam.resources import read_text

NAMES = ("stamp_ns", "stage", "unit", "name", "place", "kind", "configuration", "shape", "reasons", *COUNTERS)
MOST = 1e18
"""Largest accepted count of operations or bytes of one program."""
FIXED = len(NAMES) - len(COUNTERS)
"""Columns before the counters."""
BETWEEN_REASONS = " | "

FrameWorks = Mapping[str, Sequence[Work]]
"""Stage -> its works in one frame."""


class Rows(Protocol):
    """A writer of rows, such as `csv.writer`."""

    def writerow(self, row: Iterable[object], /) -> object: ...


def writing(path: Path) -> AbstractContextManager[Rows]:
    """Opens a table for `add`; the file appears when complete.

    Raises ProfilerError.
    """
    return table(path, NAMES, ProfilerError)


def add(rows: Rows, stamp_ns: int, stage: str, works: Iterable[Work]) -> None:
    """Writes the programs of one stage of one frame."""
    for work in works:
        rows.writerow((stamp_ns, stage, *fields_of(work)))


def read_works(path: Path) -> dict[int, dict[str, tuple[Work, ...]]]:
    """Reads a table: stamp -> stage -> its works in order.

    Raises ProfilerError that names the line.
    """
    found: dict[int, dict[str, tuple[Work, ...]]] = {}
    rows = csv.reader(io.StringIO(read_text(path, ProfilerError), newline=""))
    try:
        names = tuple(next(rows, ()))
        if names[:FIXED] != NAMES[:FIXED] or names != NAMES[: len(names)]:
            raise ProfilerError(f"{path}: not a table of kernels; its first line must be {','.join(NAMES)}")
        later = ("",) * (len(NAMES) - len(names))  # older tables lack newer counters
        for stamp, stage, *rest in rows:
            if len(rest) + 2 != len(names):
                raise ValueError(f"{len(rest) + 2} values in {len(names)} columns")
            frame = found.setdefault(int(stamp), {})
            work = work_of((*rest, *later))
            if not all(0 <= count < MOST for count in work.counters.values()):
                raise ValueError(f"a counter is negative or not below {MOST:g}")
            frame[stage] = (*frame.get(stage, ()), work)
    except (ValueError, TypeError, csv.Error) as error:
        raise ProfilerError(f"{path}: line {rows.line_num}: {error}") from error
    return found


def averaged(frames: Iterable[FrameWorks]) -> dict[str, tuple[Work, ...]]:
    """The programs of each stage in the first frame, with counters averaged over all frames."""
    first: dict[str, tuple[Work, ...]] = {}
    sums: dict[tuple[str, int], tuple[int, dict[str, float]]] = {}
    for frame in frames:
        for stage, works in frame.items():
            first.setdefault(stage, tuple(works))
            for n, work in enumerate(works[: len(first[stage])]):
                count, total = sums.get((stage, n), (0, {}))
                added = {c: total.get(c, 0.0) + work.counters.get(c, 0.0) for c in COUNTERS}
                sums[stage, n] = count + 1, added
    return {
        stage: tuple(
            Work(w.unit, w.name, _means(*sums[stage, n]), w.place, w.kind, w.configuration, w.shape, w.reasons)
            for n, w in enumerate(works)
        )
        for stage, works in first.items()
    }


def _means(count: int, total: Mapping[str, float]) -> dict[str, float]:
    return {counter: value / count for counter, value in total.items()}


def fields_of(work: Work) -> tuple[str, ...]:
    """The columns of a work as text; `repr` preserves every bit."""
    shape, reasons = "x".join(map(str, work.shape)), BETWEEN_REASONS.join(work.reasons)
    counters = (repr(float(work.counters[c])) if c in work.counters else "" for c in COUNTERS)
    return (work.unit, work.name, work.place, work.kind, work.configuration, shape, reasons, *counters)


@lru_cache(maxsize=4096)
def work_of(fields: tuple[str, ...]) -> Work:
    """The inverse of `fields_of`; equal fields share one object. Raises ValueError."""
    unit, name, place, kind, configuration, shape, reasons, *counts = fields
    counters = {c: float(text) for c, text in zip(COUNTERS, counts, strict=True) if text}
    sides = tuple(int(side) for side in shape.split("x")) if shape else ()
    told = tuple(reasons.split(BETWEEN_REASONS)) if reasons else ()
    return Work(unit, name, counters, place, kind, configuration, sides, told)
