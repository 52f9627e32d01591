# SPDX-License-Identifier: Apache-2.0
"""Writes an estimate as files: table (CSV), page (HTML), roofline and memory map (PNG), timeline (Chrome trace)."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from drp_slam.atomic import replacing
from drp_slam.drpai3.memory_map import memory_map
from drp_slam.errors import DrpAi3Error
from drp_slam.reporting.estimate_page import UNIT_COLOURS, render

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
        made.append(_replace(folder / "roofline.png", lambda p: roofline(p, result, constants)))
        room = constants["drpai3.feature_buffer"] * constants["drpai3.feature_share"]
        made.append(_replace(folder / "memory.png", lambda p: memory_map(p, result, room)))
        made.append(_replace(folder / "timeline.json", lambda p: p.write_text(json.dumps(timeline(result)))))
        images = {path.stem: path.read_bytes() for path in made if path.suffix == ".png"}
        made.append(
            _replace(folder / "estimate.html", lambda p: p.write_text(render(result, images), encoding="utf-8"))
        )
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
    """Chrome trace events (microseconds): one track a unit, crossings on a track of their own."""
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


def roofline(path: Path, result: dict[str, Any], constants: Mapping[str, float]) -> None:
    """Rate of each matrix layer against operations per streamed byte, with the model's roofs."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = [r for r in result["layers"] if r["macs"] and r["us"] and r["bytes"]]
    figure, axes = plt.subplots(figsize=(9, 5), dpi=110)
    for unit, colour in UNIT_COLOURS.items():
        mine = [r for r in rows if r["unit"] == unit]
        if mine:
            longest = max(r["us"] for r in rows)
            axes.scatter(
                [2 * r["macs"] / r["bytes"] for r in mine],
                [2e-6 * r["macs"] / r["us"] for r in mine],
                s=[12 + 150 * r["us"] / longest for r in mine],
                alpha=0.55,
                color=colour,
                label=f"{unit} ({len(mine)})",
                edgecolors="none",
            )
    peak = constants["drpai3.dense_peak"] * 1e-12 * result["mac_mhz"] * 1e6 / constants["drpai3.mac_clock"]
    reachable = peak * constants["drpai3.array_efficiency"]
    slope = constants["drpai3.weight_bandwidth"] * 1e-12
    low = min([1.0, *(2 * r["macs"] / r["bytes"] for r in rows)])
    high = max([1e4, *(2 * r["macs"] / r["bytes"] for r in rows)])
    axes.plot(
        [low, peak / slope, high],
        [slope * low, peak, peak],
        color="#1a202c",
        lw=1.2,
        label=f"dense peak {peak:.2f} TOPS, weights {slope * 1e3:.1f} GB/s",
    )
    axes.axhline(reachable, color="#718096", lw=1, ls="--", label=f"fitted array efficiency: {reachable:.2f} TOPS")
    axes.axhline(
        peak * constants["drpai3.group_rows"],
        color="#a0aec0",
        lw=1,
        ls=":",
        label=f"sparse peak (N = 1): {peak * constants['drpai3.group_rows']:.0f} TOPS",
    )
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="operations per streamed byte",
        ylabel="dense-equivalent TOPS (modelled)",
        title=f"{result['name']} on {result['device']}",
    )
    axes.grid(True, which="both", alpha=0.2)
    axes.legend(fontsize=8, loc="lower left")
    figure.tight_layout()
    figure.savefig(path, format="png")
    plt.close(figure)
