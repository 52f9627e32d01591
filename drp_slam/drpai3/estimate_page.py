# SPDX-License-Identifier: Apache-2.0
"""Writes an estimate as files: table (CSV), page (HTML), roofline and memory map (PNG), timeline (Chrome trace)."""

from __future__ import annotations

import base64
import csv
import html
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from drp_slam.atomic import replacing
from drp_slam.drpai3.memory_map import memory_map
from drp_slam.errors import DrpAi3Error

UNIT_COLOURS = {"ai-mac": "#2b6cb0", "drp": "#2f855a", "copy": "#805ad5", "cpu": "#c53030"}
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
STYLE = """body{font:14px system-ui,sans-serif;margin:2em auto;max-width:84em;padding:0 1em;
color:#1a202c}table{border-collapse:collapse;font-size:12.5px;font-variant-numeric:tabular-nums}
td,th{padding:.15em .5em;border-bottom:1px solid #e2e8f0;text-align:right;white-space:nowrap}
td:nth-child(-n+4),th:nth-child(-n+4){text-align:left}th{position:sticky;top:0;background:#fff}
tr.cpu{background:#fff5f5}img{max-width:100%}.big{font-size:1.3em}
td.name{max-width:20em;overflow:hidden;text-overflow:ellipsis;direction:rtl}
.bar{display:flex;height:1.6em;max-width:60em}.bar div{min-width:1px}
.key span{display:inline-block;width:.8em;height:.8em;margin:0 .3em 0 1em}"""
PARTS = {**UNIT_COLOURS, "crossing": "#d69e2e", "fixed start": "#a0aec0"}


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
        made.append(_replace(folder / "estimate.html", lambda p: p.write_text(_page(result, images), encoding="utf-8")))
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


def _page(result: dict[str, Any], images: Mapping[str, bytes]) -> str:
    text = html.escape
    reasons: dict[str, list[float]] = {}
    for row in result["fallbacks"]:
        entry = reasons.setdefault(f"{row['reason']} ({row['op']})", [0, 0.0, 0.0])
        entry[0], entry[1] = entry[0] + 1, entry[1] + row["ms"]
        entry[2] += row["crossing_ms"]
    fallbacks = "".join(
        f"<tr><td>{text(reason)}</td><td>{count:.0f}</td><td>{ms:.2f}</td><td>{over:.2f}</td></tr>"
        for reason, (count, ms, over) in sorted(reasons.items(), key=lambda r: -sum(r[1][1:]))
    )
    rows = "".join(_row(row) for row in result["layers"] if row["us"] or row["crossing_us"])
    kinds = result["constants"]
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{text(result['name'])}</title>"
        f"<style>{STYLE}</style><h1>{text(result['name'])}</h1>"
        f"<p class=big><b>{result['total_ms']:.3f} ms</b>, {result['energy_mj']:.2f} mJ, "
        f"{result['gmacs']:.3f} GMAC on {text(result['device'])}, AI-MAC {result['mac_mhz']:.0f} "
        "MHz. Every figure is modelled; nothing here was measured.</p>"
        + "".join(f"<p><b>Incomplete</b>, in no sum: {text(reason)}</p>" for reason in result["incomplete"])
        + "".join(f"<p>{text(note)}</p>" for note in result["notes"])
        + f"<p>{result['tops_per_w']:.2f} TOPS/W of the accelerator (published: 9 to 11 for pruned "
        f"ResNet-50 class networks, 23.9 for the ideal layer). Memory "
        f"{result['memory_mib']:.1f} MiB ("
        + ", ".join(f"{area} {size:.1f}" for area, size in result["memory_areas_mib"].items())
        + f"). Rests on {kinds['cited']} cited, "
        f"{kinds['fitted']} fitted and {kinds['assumed']} assumed constants.</p>"
        + _shares(result)
        + "<p>Beside this page: <a href=timeline.json>timeline.json</a>, a Chrome trace for "
        "chrome://tracing or ui.perfetto.dev.</p>"
        + "".join(
            f"<img alt='{name}' src='data:image/png;base64,{base64.b64encode(image).decode()}'>"
            for name, image in images.items()
        )
        + (
            f"<h2>On the Cortex-A55</h2><table><tr><th>reason<th>layers<th>ms<th>crossing ms</tr>{fallbacks}</table>"
            if fallbacks
            else "<p>Nothing falls back to the Cortex-A55.</p>"
        )
        + "<h2>Layers</h2><table><tr><th>layer<th>op<th>unit<th>shape<th>MMAC<th>zeros<th>N/M"
        "<th>kcycle<th>&micro;s<th>crossing &micro;s<th>kB<th>bound by<th>use<th>&micro;J</tr>"
        f"{rows}</table></html>"
    )


def _shares(result: dict[str, Any]) -> str:
    """The time by cause as one bar, and the result of packing."""
    ms = dict.fromkeys(PARTS, 0.0)
    for row in result["layers"]:
        if row["unit"] in ms:
            ms[row["unit"]] += row["us"] * 1e-3
    ms["crossing"], ms["fixed start"] = result["crossing_ms"], result["overhead_ms"]
    whole = sum(ms.values()) or 1.0
    bar = "".join(
        f"<div style='width:{value / whole:.2%};background:{PARTS[name]}'></div>" for name, value in ms.items() if value
    )
    key = "".join(
        f"<span style='background:{PARTS[name]}'></span>{name} {value:.2f} ms" for name, value in ms.items() if value
    )
    groups = ", ".join(f"{n}: {count}" for n, count in enumerate(result["groups_by_n"]) if count)
    loss = result["packing_loss"]
    return f"<div class=bar>{bar}</div><p class=key>{key}</p>" + (
        f"<p>Weight groups rebuilt as N rows: {groups}. Lost against 1 - sparsity: unequal columns "
        f"{loss['balance']:.1%}, padding {round(loss['padding'], 3) + 0.0:.1%} of the dense cycles."
        "</p>"
        if groups
        else ""
    )


def _row(row: dict[str, Any]) -> str:
    text = html.escape
    mean = "" if row["mean_n"] is None else f"{row['mean_n']:.1f}/{row['group_rows']}"
    shape = "&times;".join(map(str, row["shape"]))
    cells = (
        text(row["op"]),
        row["unit"],
        shape,
        f"{row['macs'] * 1e-6:.2f}",
        f"{row['sparsity']:.0%}",
        mean,
        f"{row['cycles'] * 1e-3:.1f}",
        f"{row['us']:.1f}",
        f"{row['crossing_us']:.0f}",
        f"{row['bytes'] * 1e-3:.0f}",
        row["bound_by"],
        f"{row['utilisation']:.0%}",
        f"{row['uj']:.1f}",
    )
    name = text(row["name"])
    return (
        f"<tr class={row['unit']}><td class=name title='{name}'>&lrm;{name}</td>"
        + "".join(f"<td>{cell}</td>" for cell in cells)
        + "</tr>"
    )
