# SPDX-License-Identifier: Apache-2.0
"""The sweep as one HTML page: Pareto front, curves over the rate, every point in a table."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import PurePath
from typing import Any

from drp_slam.evaluation.agreement import LOST_DEG, LOST_M
from drp_slam.profiler.page import MODELLED, number, page, section, table, tile, tiles, verdict_box
from drp_slam.sweep.sweep_figures import Points, curves, front, ratio, series

FRONT = (
    "Modelled latency of the network on DRP-AI3 against PnP inliers, and modelled energy against the relative "
    "pose error, both relative to the reference, with 95 % bootstrap intervals. "
    "Ringed: no other point is as fast and accurate. Far values are marked at the edge."
)
RATE = (
    "The share of the weights that is zero, against cost (modelled for the chip) and accuracy (measured on this "
    "recording, relative to the reference). 100 % is the reference."
)
POINTS = (
    "Means over the same frame pairs and trajectories; relative to the reference, with the 95 % bootstrap interval "
    "below. Held out: inliers in the last quarter of a whole recording. Median: of the pose errors. Lost: pairs "
    f"without a pose or with one wrong by more than {100 * LOST_M:.0f} cm or {LOST_DEG:g} degrees; a pair "
    "without a pose counts in no mean. Green: on the Pareto front."
)
FOOTER = (
    "Cycles, latency and energy are modelled for the chip from its device file. Inliers, overlap and errors are "
    "results of running each network."
)
COLUMNS = "network|zero|file [kB]|packed cycles [M]|latency [ms]|energy [mJ]|PnP inliers|held out|overlap|pose error"
COLUMNS += "|median|pairs lost|ATE|tracked"
STYLES = {"network": "text", "packed cycles [M]": MODELLED, "latency [ms]": MODELLED, "energy [mJ]": MODELLED}


def render(result: Mapping[str, Any]) -> str:
    """The whole page from `sweep.json`."""
    points: Points = result["points"]
    name = PurePath(result["sequence"] or "").name
    first = points[0]["point"] if points else {}
    pairs = points[0]["all"]["inliers"]["count"] if points else 0
    subtitle = (
        f"sequence <b>{escape(name)}</b> · reference <b>{escape(str(result['reference']))}</b> · "
        f"<b>{pairs}</b> frame pairs {first.get('gap_s')} s apart · "
        f"<b>{first.get('configurations')}</b> perturbed trajectories per point"
    )
    parts = (("Pareto front", FRONT, front), ("Over the rate", RATE, curves), ("Every point", POINTS, _table))
    body = (
        verdict_box(verdict(result))
        + _head(points)
        + "".join(section(title, text, draw(points)) for title, text, draw in parts)
    )
    return page(f"drp_slam sweep: {name}", subtitle, body, FOOTER)


ENOUGH = 0.95
"""Share of the reference's inliers that the verdict requires."""
ENOUGH_PERCENT = f"{100 * ENOUGH:.0f} %"


def verdict(result: Mapping[str, Any]) -> list[str]:
    """The fastest point that is accurate enough, its gain, and its loss."""
    points: Points = result["points"]
    costed = [p for p in points if p["latency_ms"] is not None]
    if not costed:
        return ["No point has a modelled cost: measure INT8 networks."]
    good = [p for p in costed if _inliers(p) >= ENOUGH]
    slow, fast = (pick(costed, key=lambda p: p["latency_ms"]) for pick in (max, min))
    lines = [f"No point keeps {ENOUGH_PERCENT} of the inliers of {result['reference']}: prune less, or retrain."]
    if good:
        best = min(good, key=lambda p: p["latency_ms"])
        lines = [
            f"{best['name']} is the fastest that keeps {ENOUGH_PERCENT} of the inliers of {result['reference']} "
            f"({100 * _inliers(best):.0f} %): {best['latency_ms']:.2f} ms and {best['energy_mj']:.2f} mJ (modelled), "
            f"against {slow['latency_ms']:.2f} ms and {slow['energy_mj']:.2f} mJ of {slow['name']}."
        ]
    gain, packed = (100 * (1 - fast[key] / slow[key]) for key in ("latency_ms", "cycles"))
    if packed > 10 and gain < 0.5 * packed:
        lines.append(
            f"Packing removes {packed:.0f} % of the array's cycles, but only {gain:.0f} % of the latency: the rest "
            "is outside the array (see estimate NETWORK --html)."
        )
    for name in dict.fromkeys(series(p) for p in points if not p["point"]["network"]):
        kept = [p["point"]["rate"] for p in points if series(p) == name and _inliers(p) >= ENOUGH]
        most = f"up to a rate of {100 * max(kept):.0f} %" if kept else "at none of its rates"
        lines.append(f"Without retraining, {name} keeps {ENOUGH_PERCENT} of the inliers {most}.")
    lost = [p["name"] for p in points if not _inliers(p)]
    return [*lines, *([f"No pose found by: {', '.join(lost)}."] if lost else [])]


def _inliers(point: Mapping[str, Any]) -> float:
    return (ratio(point, "inliers") or (0.0,))[0]


def _head(points: Points) -> str:
    costed = [p for p in points if p["latency_ms"] is not None]
    items = [tile("Points", number(len(points)), "", f"{len({series(p) for p in points})} series")]
    if costed:
        fast = min(costed, key=lambda p: (not _inliers(p), p["latency_ms"]))
        dense = max(costed, key=lambda p: p["cycles"])
        names = [p["name"] for p in points if p["pareto"]]
        good = [p for p in costed if _inliers(p) >= ENOUGH]
        items += [
            tile("Fastest", number(fast["latency_ms"]), "ms", fast["name"], MODELLED),
            tile("Most cycles", number(dense["cycles"] * 1e-6), "M", dense["name"], MODELLED),
            tile("On the front", number(len(names)), "", ", ".join(names[:3])),
        ]
        if good:
            best = min(good, key=lambda p: p["latency_ms"])
            title = f"Fastest with {ENOUGH_PERCENT} of the inliers"
            items[2] = tile(title, number(best["latency_ms"]), "ms", best["name"], MODELLED)
    return tiles(items)


def _table(points: Points) -> str:
    rows, best = [], []
    for i, p in enumerate(points):
        if p["pareto"]:
            best.append(i)
        kept_out, every = p["kept_out"] or {"inliers": {"ratio": None}}, p["all"]
        name = p["name"] if p["point"]["network"] else series(p)
        cycles = None if p["cycles"] is None else p["cycles"] * 1e-6
        size: list[Any] = [escape(name), f"{100 * p['sparsity']:.0f} %", p["file_bytes"] / 1e3]
        shares = [
            ratio(p, "inliers"),
            (kept_out["inliers"]["ratio"],),
            (every["overlap"]["mean"],),
            ratio(p, "error_m"),
            (every["error_m"]["median_ratio"],),
        ]
        tracked = None if "tracked" not in p else f"{p['tracked']:.0%}"
        worth = [*map(_percent, shares), every["lost_pairs"], _percent(ratio(p, "ate_m")), tracked]
        rows.append([*size, cycles, p["latency_ms"], p["energy_mj"], *worth])
    columns = [(column, STYLES.get(column, "")) for column in COLUMNS.split("|")]
    return table(columns, rows, best=best)


def _percent(value: tuple[float | None, ...] | None) -> str | None:
    if value is None or value[0] is None:
        return None
    if len(value) == 1:
        return f"{100 * value[0]:.0f} %"
    middle, low, high = (f"{100 * v:.0f}" for v in value if v is not None)
    around = "" if low == middle == high else f"<br><small>{low} to {high}</small>"
    return f"{middle} %{around}"
