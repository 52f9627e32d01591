# SPDX-License-Identifier: Apache-2.0
"""Writes an estimate as files: table (CSV), page (HTML), roofline and memory map (PNG), timeline (Chrome trace)."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from drp_slam.atomic import replacing
from drp_slam.errors import DrpAi3Error
from drp_slam.profiler.figures import svg
from drp_slam.reporting.estimate_page import render
from drp_slam.reporting.estimate_pictures import memory_map, roofline

COLUMNS = (
    "name",
    "op",
    "unit",
    "shape",
    "macs",
    "sparsity",
    "mean_n",
    "cycles",
    "us",
    "crossing_us",
    "bytes",
    "bound_by",
    "utilisation",
    "uj",
    "reason",
)


def write(folder: Path, result: dict[str, Any], constants: Mapping[str, float], page: bool, table: bool) -> list[Path]:
    """Writes the requested files through temporary names; returns their paths."""
    made = []
    if table:
        made.append(_replace(folder / "layers.csv", lambda p: _table(p, result)))
    if page:
        room = constants["drpai3.feature_buffer"] * constants["drpai3.feature_share"]
        pictures = {"roofline": roofline(result, constants), "memory": memory_map(result, room)}
        for name, figure in pictures.items():
            made.append(_replace(folder / f"{name}.png", partial(figure.savefig, format="png", dpi=110)))
        made.append(_replace(folder / "timeline.json", lambda p: p.write_text(json.dumps(timeline(result)))))
        text = render(result, [svg(figure, name) for name, figure in pictures.items()])
        made.append(_replace(folder / "estimate.html", lambda p: p.write_text(text, encoding="utf-8")))
    return made


def _replace(path: Path, make: Callable[[Path], Any]) -> Path:
    with replacing(path, DrpAi3Error) as temporary:
        make(temporary)
    return path


def _table(path: Path, result: dict[str, Any]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for row in result["layers"]:
            writer.writerow("x".join(map(str, row[c])) if c == "shape" else row[c] for c in COLUMNS)


def timeline(result: dict[str, Any]) -> dict[str, Any]:
    """Chrome trace events (microseconds): one track per unit, transfers on a track of their own."""
    tracks = {"ai-mac": 1, "drp": 2, "cpu": 3, "crossing": 4, "copy": 5}
    events: list[dict[str, Any]] = [
        {"ph": "M", "pid": 1, "tid": tid, "name": "thread_name", "args": {"name": f"{name} (modelled)"}}
        for name, tid in tracks.items()
    ]
    clock = result["overhead_ms"] * 1e3
    events.append({"ph": "X", "pid": 1, "tid": 1, "name": "start of inference", "ts": 0.0, "dur": clock})
    for row in result["layers"]:
        for track, us in (("crossing", row["crossing_us"]), (row["unit"], row["us"])):
            if us and track in tracks:
                events.append(
                    {
                        "ph": "X",
                        "pid": 1,
                        "tid": tracks[track],
                        "name": row["name"],
                        "ts": clock,
                        "dur": us,
                        "args": {"op": row["op"], "bound_by": row["bound_by"]},
                    }
                )
                clock += us
    return {"traceEvents": events, "displayTimeUnit": "ms"}
