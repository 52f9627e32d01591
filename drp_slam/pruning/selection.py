# SPDX-License-Identifier: Apache-2.0
"""Selects the weights to keep: takes saliencies and a rate, returns boolean masks (True = kept).

A weight is a tensor (Cout, Cin, kh, kw) or (Cout, Cin); the chip sees it as a matrix (K, Cout)
with K ordered kh, kw, cin, cin fastest. DRP-AI3 processes the matrix in cells of `rows` x `columns`
and rebuilds each as N rows, where N varies from cell to cell (flexible N:M; US20220004363: every
column of a group keeps the same count). The patterns:

unstructured   any weight (Han et al., NeurIPS 2015)
flexible-nm    every column of a cell keeps exactly N, N chosen for each cell under one budget
fixed-nm       the same N for every group of `rows` (Mishra et al. 2021, arXiv:2104.08378)
filter         whole outputs          (Li et al., ICLR 2017)
channel        whole inputs           (He et al., ICCV 2017)
shape          one (kh, kw, cin) place of all outputs (Wen et al., NeurIPS 2016)

Each pattern is a list of `units` with a gain (the saliency it keeps) and a cost; one greedy choice
by gain per cost serves all. In flexible N:M the unit is "one more row in this cell": its gain
falls with N, so the greedy choice is optimal except for the last unit that fits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from drp_slam.errors import PruningError
from drp_slam.pruning.layout import DEFAULT_CELL, Cell, array, matrix, unmatrix
from drp_slam.pruning.methods import PATTERNS
from drp_slam.pruning.units import Units, fixed_mask, in_cycles, of_matrix


def check_rate(rate: float, what: str = "rate") -> float:
    """The rate, in [0, 1). Raises PruningError."""
    if not 0.0 <= float(rate) < 1.0:
        raise PruningError(f"{what} is {rate}, expected 0 <= rate < 1 (the fraction removed)")
    return float(rate)


def masks(
    saliency: Mapping[str, Any],
    rate: float | Mapping[str, float],
    pattern: str = "flexible-nm",
    *,
    cell: Cell = DEFAULT_CELL,
    positions: Mapping[str, int] | None = None,
    least: float = 0.0,
) -> dict[str, Any]:
    """Masks that keep `1 - rate` of the weights, or of the packed cycles, with most saliency.

    `saliency`: layer -> tensor of the weight's shape, >= 0 (numpy or torch; masks are of the same kind).
    `rate`: one number is a budget for the whole network; a mapping gives each layer its own.
    `positions`: layer -> output positions (H x W); if given, the budget of flexible N:M is in cycles
    (N x positions of each cell) instead of weights. `least`: share of its budget units that every
    layer always keeps, in [0, 1]. The weights kept never exceed the budget, except by
    `fixed-nm` and `least`, which keep at least one unit per group or layer.
    Raises PruningError: unknown pattern, rate outside [0, 1), layer without rate, bad saliency.
    """
    if pattern not in PATTERNS:
        raise PruningError(f"pattern {pattern!r} is unknown; one of {', '.join(PATTERNS)}")
    matrices = {name: _checked(name, tensor) for name, tensor in saliency.items()}
    inputs = {name: int(tensor.shape[1]) for name, tensor in saliency.items()}
    if isinstance(rate, Mapping):
        if missing := sorted(set(matrices) - set(rate)):
            raise PruningError(f"no rate for layer {missing[0]!r}; rates cover {sorted(rate)}")
        found: dict[str, np.ndarray] = {}
        for name, values in matrices.items():
            found |= _select(
                {name: values}, inputs, check_rate(rate[name], f"rate of {name}"), pattern, cell, positions, least
            )
    else:
        found = _select(matrices, inputs, check_rate(rate), pattern, cell, positions, least)
    return {name: _like(unmatrix(mask, tuple(saliency[name].shape)), saliency[name]) for name, mask in found.items()}


def _like(mask: np.ndarray, tensor: Any) -> Any:
    """The mask as an array, or as a torch tensor on the device of `tensor`."""
    if not hasattr(tensor, "detach"):
        return mask
    import torch

    return torch.from_numpy(mask).to(tensor.device)


def _checked(name: str, tensor: Any) -> np.ndarray:
    values = matrix(array(tensor)).astype(np.float64)
    if not np.isfinite(values).all() or (values < 0).any():
        raise PruningError(
            f"saliency of {name} has negative or non-finite values; check the calibration images and the loss"
        )
    return values


def _select(
    matrices: Mapping[str, np.ndarray],
    inputs: Mapping[str, int],
    rate: float,
    pattern: str,
    cell: Cell,
    positions: Mapping[str, int] | None,
    least: float,
) -> dict[str, np.ndarray]:
    if pattern == "fixed-nm":
        return {name: fixed_mask(values, rate, cell) for name, values in matrices.items()}
    units = {n: of_matrix(values, pattern, cell, inputs[n]) for n, values in matrices.items()}
    if pattern == "flexible-nm" and positions is not None:
        units = {name: in_cycles(u, positions[name]) for name, u in units.items()}
    chosen = _choose(list(units.values()), rate, least)
    return {name: u.mask(counts) for (name, u), counts in zip(units.items(), chosen)}


def _choose(units: list[Units], rate: float, least: float) -> list[np.ndarray]:
    """Number of steps of each cell of each layer: greedy by gain per cost, within the budget."""
    gain = np.concatenate([u.gain.ravel() for u in units])
    cost = np.concatenate([u.cost.ravel() for u in units]).astype(np.float64)
    real = gain >= 0
    budget = (1.0 - rate) * cost[real].sum() * (1.0 + 1e-12)
    value = np.where(real, gain / cost, -1.0)
    taken = np.zeros(len(gain), bool)
    if least > 0:
        taken |= _floor(units, value, cost, least)
    order = np.argsort(-value, kind="stable")
    order = order[(real & ~taken)[order]]
    spent = cost[taken].sum()
    fits = spent + np.cumsum(cost[order]) <= budget
    last = int(fits.argmin()) if not fits.all() else len(order)
    taken[order[:last]] = True
    _fill(taken, order[last:], cost, budget - cost[taken].sum())
    return _per_cell(units, taken)


def _fill(taken: np.ndarray, order: np.ndarray, cost: np.ndarray, left: float) -> None:
    """Adds smaller units that still fit. The steps of a cell have equal cost, so none is skipped."""
    start = 0
    while start < len(order):
        fits = np.flatnonzero(cost[order[start:]] <= left)
        if not len(fits):
            return
        start += int(fits[0])
        taken[order[start]] = True
        left -= cost[order[start]]
        start += 1


def _floor(units: list[Units], value: np.ndarray, cost: np.ndarray, least: float) -> np.ndarray:
    """The best units of each layer up to `least` of its cost, at least one."""
    taken, first = np.zeros(len(value), bool), 0
    for u in units:
        here = slice(first, first + u.gain.size)
        order = np.argsort(-value[here], kind="stable")
        order = order[value[here][order] >= 0]
        wanted = least * cost[here][order].sum()
        count = max(1, int(np.searchsorted(np.cumsum(cost[here][order]), wanted + 1e-9, "right")))
        taken[first + order[:count]] = True
        first += u.gain.size
    return taken


def _per_cell(units: list[Units], taken: np.ndarray) -> list[np.ndarray]:
    counts, first = [], 0
    for u in units:
        counts.append(taken[first : first + u.gain.size].reshape(u.gain.shape).sum(1))
        first += u.gain.size
    return counts
