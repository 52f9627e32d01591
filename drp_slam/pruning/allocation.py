# SPDX-License-Identifier: Apache-2.0
"""Pruning rates over time (schedules) and over layers.

one-shot   the whole rate at once
iterative  prune, retrain, repeat: equal fractions of the remaining weights (Han et al., NeurIPS 2015)
agp        gradual: s_t = s_f (1 - (1 - t / T)^3) (Zhu and Gupta 2017, arXiv:1710.01878)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from drp_slam.errors import PruningError
from drp_slam.pruning import selection
from drp_slam.pruning.layout import DEFAULT_CELL, Cell, density
from drp_slam.pruning.methods import SCHEDULES
from drp_slam.pruning.selection import check_rate

PROBES = (0.3, 0.5, 0.7, 0.8, 0.9)


def rate_at(schedule: str, final: float, step: int, steps: int) -> float:
    """Rate in force after `step` of `steps` (1 .. steps). Raises PruningError.

    Monotone, and `final` at the last step.
    """
    check_rate(final)
    if schedule not in SCHEDULES:
        raise PruningError(f"schedule {schedule!r} is unknown; one of {', '.join(SCHEDULES)}")
    if not 0 <= step <= steps or steps < 1:
        raise PruningError(f"step {step} of {steps}; expected 0 <= step <= steps, steps >= 1")
    if schedule == "one-shot":
        return final
    if schedule == "iterative":
        return 1.0 - (1.0 - final) ** (step / steps)
    return final * (1.0 - (1.0 - step / steps) ** 3)


def rates(schedule: str, final: float, steps: int) -> list[float]:
    """The rate after each step; one entry for one-shot."""
    steps = 1 if schedule == "one-shot" else steps
    return [rate_at(schedule, final, step, steps) for step in range(1, steps + 1)]


def uniform(saliency: Mapping[str, Any], rate: float) -> dict[str, float]:
    """The same rate for every layer."""
    return dict.fromkeys(saliency, check_rate(rate))


def by_magnitude(weights: Mapping[str, Any], rate: float, least: float = 1e-9) -> dict[str, float]:
    """Layer rates from one threshold on |w| over all layers, for any saliency within the layers.

    No other saliency is as comparable between layers: a diagonal Hessian favours wide
    layers, since it ignores that the errors of many weights add up. `least` is the share that
    every layer keeps, at least one weight.
    """
    found = selection.masks({n: abs(w) for n, w in weights.items()}, rate, "unstructured", least=least)
    return {name: 1.0 - density({name: mask}) for name, mask in found.items()}


def sensitivity(
    saliency: Mapping[str, Any],
    harm: Callable[[Mapping[str, Any]], float],
    pattern: str = "flexible-nm",
    *,
    cell: Cell = DEFAULT_CELL,
) -> dict[str, list[float]]:
    """Layer -> harm at each probed rate when that layer alone is pruned (Han et al. 2015, fig. 6).

    `harm(masks)` measures the network with these masks (of the probed layer only), 0 = as
    dense, larger = worse.
    """
    found = {}
    for name, tensor in saliency.items():
        cuts = [selection.masks({name: tensor}, {name: p}, pattern, cell=cell) for p in PROBES]
        found[name] = [float(harm(cut)) for cut in cuts]
        if not np.isfinite(found[name]).all():
            raise PruningError(f"pruning {name} alone gives a harm of NaN; check the loss")
    return found


def by_sensitivity(curves: Mapping[str, list[float]], sizes: Mapping[str, int], rate: float) -> dict[str, float]:
    """Layer rates of equal harm that together remove `rate` of the weights.

    Curves are made monotone; the one level of harm is found by bisection, each layer's rate at
    that level by linear interpolation between the probes (and 0 at no pruning).
    """
    check_rate(rate)
    total = sum(sizes[name] for name in curves)
    grid = np.array([0.0, *PROBES])
    harms = {n: np.maximum.accumulate(np.maximum([0.0, *c], 0.0)) for n, c in curves.items()}
    tie = 1e-9 * np.arange(len(grid))  # makes flat stretches strictly increasing

    def at(level: float) -> dict[str, float]:
        return {n: float(np.interp(level, h + tie, grid)) for n, h in harms.items()}

    low, high = 0.0, max(float(h[-1]) for h in harms.values()) + 1e-6
    for _ in range(60):
        level = 0.5 * (low + high)
        removed = sum(r * sizes[n] for n, r in at(level).items()) / total
        low, high = (level, high) if removed < rate else (low, level)
    found = at(high)
    removed = sum(r * sizes[n] for n, r in found.items()) / total
    if removed < rate:  # beyond the last probe: the rest is spread evenly over the kept weights
        extra = (rate - removed) / (1.0 - removed)
        found = {n: r + (1.0 - r) * extra for n, r in found.items()}
    return found
