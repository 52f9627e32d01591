# SPDX-License-Identifier: Apache-2.0
"""Reads the files of the vendor's compiler and runtime.

| file | what |
|---|---|
| `mera.plan` | JSON: stages with subgraphs and their backend, and memory buffers |
| `addr_map.txt` | lines `name start size`, hexadecimal: areas of the DRP-AI memory |
| `*_summary.csv`, `*_summary.xlsx` | the translator's estimate, a row per operator |
| `*profile*.csv` | the runtime's `ProfileRun`: microseconds, share and device of a subgraph |

Formats as in public folders (rzv_drp-ai_tvm, kakip_ai_apps); errors name the file, the line and
the missing part.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drp_slam.errors import DataError, pip_install
from drp_slam.resources import read_text


@dataclass(frozen=True)
class Subgraph:
    """A part of the network that one backend runs. `backend` is as written, such as `DRP` or `CPU`."""

    name: str
    backend: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def on_cpu(self) -> bool:
        return "cpu" in self.backend.lower() or "arm" in self.backend.lower()


@dataclass(frozen=True)
class Plan:
    """`mera.plan`: subgraphs in execution order, and bytes of each buffer by name."""

    subgraphs: tuple[Subgraph, ...]
    buffers: dict[str, int]


def read_plan(path: Path) -> Plan:
    """Raises DataError for a file that is no JSON or has no stages."""
    try:
        tree = json.loads(read_text(path, DataError))
        stages = tree["execution"]["stages"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: no mera.plan: {error!r}; expected JSON with execution.stages") from error
    memory = tree.get("memory")
    named = memory.get("buffers", []) if isinstance(memory, dict) else []
    listed = named.values() if isinstance(named, dict) else named
    buffers = {str(b["name"]): int(b.get("bytes_size", 0)) for b in listed if isinstance(b, dict) and "name" in b}
    found = tuple(_subgraph(body) for body in _bodies(stages))
    if not found:
        raise DataError(f"{path}: execution.stages names no subgraph with a backend; is it a MERA 2 plan?")
    return Plan(found, buffers)


def _bodies(node: Any) -> Iterator[dict[str, Any]]:
    """Dicts with a backend, at any depth of nesting."""
    if isinstance(node, dict) and "backend" in node:
        yield node
    elif isinstance(node, (dict, list)):
        for child in node.values() if isinstance(node, dict) else node:
            yield from _bodies(child)


def _subgraph(body: dict[str, Any]) -> Subgraph:
    sides: list[Any] = [next((body[k] for k in body if side in k.lower()), []) for side in ("input", "output")]
    names = [
        tuple(str(b.get("name", b) if isinstance(b, dict) else b) for b in (side if isinstance(side, list) else [side]))
        for side in sides
    ]
    return Subgraph(str(body.get("name", "")), str(body["backend"]), *names)


def read_addresses(path: Path) -> dict[str, tuple[int, int]]:
    """Area -> (start, bytes) of an `addr_map.txt`. Raises DataError that names the line."""
    areas = {}
    lines = read_text(path, DataError).splitlines()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        words = line.split()
        try:
            areas[words[0]] = (int(words[1], 16), int(words[2], 16))
        except (IndexError, ValueError):
            raise DataError(f"{path}: line {number}: {line!r}, expected: name start size, hexadecimal") from None
    if not areas:
        raise DataError(f"{path}: holds no area; expected lines: name start size, hexadecimal")
    return areas


@dataclass(frozen=True)
class Estimated:
    """One operator of the translator's summary."""

    name: str
    operator: str
    out_hwc: tuple[int, ...]
    time_us: float


def read_summary(path: Path) -> list[Estimated]:
    """The translator's summary as CSV or xlsx (needs openpyxl). Raises DataError."""
    found, header = [], None
    for number, cells in enumerate(_cells(path), 1):
        words = [re.sub(r"[^a-z]+", "_", c.lower()).strip("_") for c in cells]
        if header is None:
            if "operator" in words and any(w.startswith("time") for w in words):
                header = words
            continue
        if not any(cells):
            continue
        row = dict(zip(header, cells))
        time = next(row[w] for w in header if w.startswith("time"))
        out = tuple(int(float(row[k])) for k in ("out_h", "out_w", "out_c") if row.get(k))
        try:
            found.append(Estimated(row.get("name", ""), row["operator"], out, float(time)))
        except ValueError:
            raise DataError(f"{path}: row {number}: time {time!r} is not a number") from None
    if not found:
        raise DataError(f"{path}: no rows with the columns operator and time (us)")
    return found


def _cells(path: Path) -> Iterator[list[str]]:
    if path.suffix == ".xlsx":
        try:
            from openpyxl import load_workbook
        except ImportError as error:
            raise DataError(
                f"{path}: reading xlsx needs openpyxl: {pip_install('drp_slam[board]')}, or save it as CSV"
            ) from error
        try:
            for sheet in load_workbook(path, read_only=True, data_only=True):
                yield from (["" if c is None else str(c) for c in row] for row in sheet.iter_rows(values_only=True))
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{path}: cannot read: {error}; save it as CSV") from error
        return
    try:
        yield from csv.reader(io.StringIO(read_text(path, DataError), newline=""))
    except csv.Error as error:
        raise DataError(f"{path}: cannot read: {error}") from error


@dataclass(frozen=True)
class Profiled:
    """One line of the runtime's profile: measured on the board."""

    name: str
    device: str
    wall_us: float


def read_profile(path: Path) -> list[Profiled]:
    """A `ProfileRun` CSV: any column named like a device, microseconds and a name. Raises DataError."""
    rows = [row for row in _cells(path) if any(cell.strip() for cell in row)]
    heads = [[c.strip().lower() for c in row] for row in rows]
    start = next((n for n, words in enumerate(heads) if any("us" in w or "time" in w for w in words)), None)
    if start is None:
        raise DataError(f"{path}: no header with a column of microseconds (us, or time)")
    column = _column(heads[start], ("us", "time"))
    name, device = _column(heads[start], ("name", "subgraph", "node", "op")), _column(heads[start], ("dev",))
    found = []
    for row in rows[start + 1 :]:
        try:
            microseconds = float(row[column].replace(",", ""))  # type: ignore[index]
        except (IndexError, ValueError):
            continue
        label, place = (row[k].strip() if k is not None and k < len(row) else "" for k in (name, device))
        if label.lower() not in ("total", "sum"):
            found.append(Profiled(label, place, microseconds))
    if not found:
        raise DataError(f"{path}: no line has a number in the column {heads[start][column or 0]!r}")
    return found


def _column(words: Sequence[str], parts: Sequence[str]) -> int | None:
    for part in parts:
        for n, word in enumerate(words):
            if part == word or (len(part) > 2 and part in word) or re.search(rf"\b{part}\b", word):
                return n
    return None
