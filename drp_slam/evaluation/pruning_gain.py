# SPDX-License-Identifier: Apache-2.0
"""Gain of pruning in modelled time, and what bounds the rest: pruning shortens products only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drp_slam.drpai3.estimate import Estimate

CAUSES = {
    "macs": ("products on the array", ""),
    "cpu": ("the A55 and transfers to it", "replace {} by operators that the accelerator maps (docs/drpai3.md)"),
    "spill": ("features that do not fit on chip", "use a smaller input, or fewer channels in {}"),
    "weights": ("weights that are loaded", ""),
    "drp": ("operators of the DRP", "merge {} into the layers around them, or drop them"),
    "fixed": ("fixed overheads of layers and of the network", "use fewer, larger layers, or more work per layer"),
}
"""Cause of time -> description, and remedy if pruning does not help."""
LITTLE = 0.2
"""Share saved below which advice is given: for causes of at least this share of the dense time."""


def gain(dense: Estimate, pruned: Estimate) -> dict[str, Any]:
    """`dense_s`, `pruned_s`, `saved` (share), `causes` of the dense time by share, and `advice`.

    A cause's `operators` are those bound by it, most time first. All modelled.
    """
    seconds = dict.fromkeys(CAUSES, 0.0) | {"cpu": dense.crossing_s, "fixed": dense.overhead_s}
    operators: dict[str, dict[str, float]] = {cause: {} for cause in CAUSES}
    for row in dense.rows:
        cause = "cpu" if row.unit == "cpu" else row.bound_by if row.bound_by in CAUSES else "fixed"
        seconds[cause] += row.seconds
        operators[cause][row.op] = operators[cause].get(row.op, 0.0) + row.seconds
    total = max(sum(seconds.values()), 1e-30)
    causes: list[dict[str, Any]] = [
        {"cause": c, "share": s / total, "operators": sorted(operators[c], key=lambda op, c=c: -operators[c][op])}  # type: ignore[misc]
        for c, s in sorted(seconds.items(), key=lambda item: -item[1])
        if s > 0
    ]
    saved = 1.0 - pruned.total_s / dense.total_s
    advice = [_advice(c) for c in causes if c["share"] >= LITTLE] if saved < LITTLE else []
    return {
        "dense_s": dense.total_s,
        "dense_energy_j": dense.energy_j,
        "saved": saved,
        "causes": causes,
        "advice": [text for text in advice if text],
    }


def _advice(cause: Mapping[str, Any]) -> str:
    return CAUSES[cause["cause"]][1].format(", ".join(cause["operators"][:3]) or "them")


def sentence(found: Mapping[str, Any]) -> str:
    """The gain in one line."""
    parts = [f"{c['share']:.0%} {CAUSES[c['cause']][0]}" for c in found["causes"] if c["share"] >= 0.01]
    text = f"saves {found['saved']:.1%} of the dense time, which is {', '.join(parts)}"
    return text + "".join(f"; {advice}" for advice in found["advice"])
