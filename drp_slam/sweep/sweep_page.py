# SPDX-License-Identifier: Apache-2.0
"""The sweep as one HTML page: Pareto front, curves over the rate, every point in a table."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import PurePath
from typing import Any

from drp_slam.evaluation.agreement import LOST_DEG, LOST_M
from drp_slam.profiler.page import MODELLED, number, page, section, table, tile, tiles
from drp_slam.sweep.sweep_figures import Points, curves, front, ratio, series


def render(result: Mapping[str, Any]) -> str:
    """The whole page from `sweep.json`."""
    points: Points = result["points"]
    name = PurePath(result["sequence"] or "").name
    first = points[0]["point"] if points else {}
    reference = escape(str(result["reference"]))
    pairs = points[0]["all"]["inliers"]["count"] if points else 0
    subtitle = (
        f"sequence <b>{escape(name)}</b> · reference <b>{reference}</b> · "
        f"<b>{pairs}</b> frame pairs {first.get('gap_s')} s apart · "
        f"<b>{first.get('configurations')}</b> perturbed trajectories a point"
    )
    body = "".join(
        (
            _head(points),
            section(
                "Pareto front",
                "Modelled latency of the network on DRP-AI3 against PnP inliers, "
                "and modelled energy against the relative pose error, both relative to the "
                "reference, with 95 % bootstrap intervals. Ringed: no other point is faster and as "
                "good.",
                front(points),
            ),
            section(
                "Over the rate",
                "The part of the weights that is zero, against cost (modelled for "
                "the chip) and worth (measured on this recording, relative to the reference). "
                "100 % is the reference.",
                curves(points),
            ),
            section(
                "Every point",
                "Means over the same frame pairs and trajectories; relative to the "
                "reference, with the 95 % bootstrap interval below. Kept out: inliers in the last "
                "quarter of a whole recording. Median: of the pose errors. Lost: pairs without a "
                f"pose or with one wrong by more than {100 * LOST_M:.0f} cm or {LOST_DEG:g} "
                "degrees; those without count in no mean. Green: on the Pareto front.",
                _table(points),
            ),
        )
    )
    return page(
        f"drp_slam sweep: {name}",
        subtitle,
        body,
        "Cycles, latency and energy are modelled for the chip from its device file. "
        "Inliers, overlap and errors are results of running each network.",
    )


def _head(points: Points) -> str:
    costed = [p for p in points if p["latency_ms"] is not None]
    items = [tile("Points", number(len(points)), "", f"{len({series(p) for p in points})} series")]
    if costed:
        fast = min(costed, key=lambda p: p["latency_ms"])
        dense = max(costed, key=lambda p: p["cycles"])
        names = [p["name"] for p in points if p["pareto"]]
        good = [p for p in costed if (ratio(p, "inliers") or (0,))[0] >= 0.95]
        items += [
            tile("Fastest", number(fast["latency_ms"]), "ms", fast["name"], MODELLED),
            tile("Most cycles", number(dense["cycles"] * 1e-6), "M", dense["name"], MODELLED),
            tile("On the front", number(len(names)), "", ", ".join(names[:3])),
        ]
        if good:
            best = min(good, key=lambda p: p["latency_ms"])
            items[2] = tile(
                "Fastest with 95 % of the inliers", number(best["latency_ms"]), "ms", best["name"], MODELLED
            )
    return tiles(items)


def _table(points: Points) -> str:
    rows, best = [], []
    for i, p in enumerate(points):
        if p["pareto"]:
            best.append(i)
        kept_out = p["kept_out"] or {"inliers": {"ratio": None}}
        name = p["name"] if p["point"]["network"] else series(p)
        rows.append(
            [
                escape(name),
                f"{100 * p['sparsity']:.0f} %",
                p["file_bytes"] / 1e3,
                None if p["cycles"] is None else p["cycles"] * 1e-6,
                p["latency_ms"],
                p["energy_mj"],
                _percent(ratio(p, "inliers")),
                _percent((kept_out["inliers"]["ratio"],)),
                _percent((p["all"]["overlap"]["mean"],)),
                _percent(ratio(p, "error_m")),
                _percent((p["all"]["error_m"]["median_ratio"],)),
                p["all"]["lost_pairs"],
                _percent(ratio(p, "ate_m")),
                None if "tracked" not in p else f"{p['tracked']:.0%}",
            ]
        )
    columns = [
        ("network", "text"),
        ("zero", ""),
        ("file [kB]", ""),
        ("packed cycles [M]", MODELLED),
        ("latency [ms]", MODELLED),
        ("energy [mJ]", MODELLED),
        ("PnP inliers", ""),
        ("kept out", ""),
        ("overlap", ""),
        ("pose error", ""),
        ("median", ""),
        ("pairs lost", ""),
        ("ATE", ""),
        ("tracked", ""),
    ]
    return table(columns, rows, best=best)


def _percent(value: tuple[float | None, ...] | None) -> str | None:
    if value is None or value[0] is None:
        return None
    if len(value) == 1:
        return f"{100 * value[0]:.0f} %"
    middle, low, high = (f"{100 * v:.0f}" for v in value if v is not None)
    around = "" if low == middle == high else f"<br><small>{low} to {high}</small>"
    return f"{middle} %{around}"
