# SPDX-License-Identifier: Apache-2.0
"""Which weights may go together: saliency and a rate in, boolean masks out (True = kept).

A weight is a tensor (Cout, Cin, kh, kw) or (Cout, Cin); the chip sees it as a matrix (K, Cout)
with K ordered kh, kw, cin, cin fastest. DRP-AI3 takes the matrix in cells of `rows` x `columns`
and rebuilds each as N rows, where N varies from cell to cell (flexible N:M; US20220004363: every
column of a group keeps the same count). The patterns:

unstructured   any weight (Han et al., NeurIPS 2015)
flexible-nm    every column of a cell keeps exactly N, N chosen for each cell under one budget
fixed-nm       the same N for every group of `rows` (Mishra et al. 2021, arXiv:2104.08378)
filter         whole outputs          (Li et al., ICLR 2017)
channel        whole inputs           (He et al., ICCV 2017)
shape          one (kh, kw, cin) place of all outputs (Wen et al., NeurIPS 2016)

Each pattern is a list of units with a gain (the saliency it keeps) and a cost; one greedy choice
by gain per cost serves all. In flexible N:M the unit is "one more row in this cell": its gain
falls with N, so the greedy choice is the best one but for the last unit that still fits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from drp_slam.errors import PruningError
from drp_slam.pruning.layout import DEFAULT_CELL, Cell, from_matrix, tile, to_matrix

PATTERNS = ("unstructured", "flexible-nm", "fixed-nm", "filter", "channel", "shape")


@dataclass(frozen=True)
class Units:
    """What can be kept: `gain` and `cost` of each unit, both (cells, steps); -1 gain = absent.

    A cell's steps are taken from the left. `mask(counts)` turns steps taken per cell into the
    boolean (K, Cout) matrix.
    """

    gain: np.ndarray
    cost: np.ndarray
    ranks: np.ndarray
    shape: tuple[int, int]
    kind: str

    def mask(self, counts: np.ndarray) -> np.ndarray:
        """(K, Cout) bool."""
        rows, outputs = self.shape
        if self.kind == "weight":
            return counts.reshape(rows, outputs) > 0
        if self.kind == "row":
            return np.repeat((counts > 0)[:, None], outputs, 1)
        if self.kind == "column":
            return np.repeat((counts > 0)[None], rows, 0)
        if self.kind == "input":
            return np.repeat(np.tile(counts > 0, rows // len(counts))[:, None], outputs, 1)
        groups, blocks, height, width = self.ranks.shape
        kept = self.ranks < counts.reshape(groups, blocks, 1, 1)
        return kept.transpose(0, 2, 1, 3).reshape(groups * height, blocks * width)[:rows, :outputs]


def check_rate(rate: float, what: str = "rate") -> float:
    """The rate, in [0, 1). Raises PruningError."""
    if not 0.0 <= float(rate) < 1.0:
        raise PruningError(f"{what} is {rate}, expected 0 <= rate < 1 (the part that is removed)")
    return float(rate)


def masks(saliency: Mapping[str, Any], rate: float | Mapping[str, float],
          pattern: str = "flexible-nm", *, cell: Cell = DEFAULT_CELL,
          positions: Mapping[str, int] | None = None,
          least: float = 0.0) -> dict[str, Any]:  # fmt: skip
    """Masks that keep `1 - rate` of the weights, or of the packed cycles, with most saliency.

    `saliency`: layer -> tensor of the weight's shape, >= 0 (numpy or torch; masks come back alike).
    `rate`: one number is a budget for the whole network; a mapping gives each layer its own.
    `positions`: layer -> output positions (H x W); where given, flexible N:M spends cycles
    (N x positions of each cell) instead of weights. `least`: part of its budget units that every
    layer keeps in any case, in [0, 1]. The weights kept never exceed the budget, except by
    `fixed-nm` and `least`, which keep at least one unit a group or layer.
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
        for name, matrix in matrices.items():
            found |= _select({name: matrix}, inputs, check_rate(rate[name], f"rate of {name}"),
                             pattern, cell, positions, least)  # fmt: skip
    else:
        found = _select(matrices, inputs, check_rate(rate), pattern, cell, positions, least)
    return {name: from_matrix(mask, saliency[name]) for name, mask in found.items()}


def _checked(name: str, tensor: Any) -> np.ndarray:
    matrix = to_matrix(tensor).astype(np.float64)
    if not np.isfinite(matrix).all() or (matrix < 0).any():
        raise PruningError(f"saliency of {name} has negative or non-finite values; "
                           "check the calibration images and the loss")  # fmt: skip
    return matrix


def _select(matrices: Mapping[str, np.ndarray], inputs: Mapping[str, int], rate: float,
            pattern: str, cell: Cell, positions: Mapping[str, int] | None,
            least: float) -> dict[str, np.ndarray]:  # fmt: skip
    if pattern == "fixed-nm":
        return {name: _fixed(matrix, rate, cell) for name, matrix in matrices.items()}
    units = {n: _units(matrix, pattern, cell, inputs[n]) for n, matrix in matrices.items()}
    if pattern == "flexible-nm" and positions is not None:
        units = {name: _in_cycles(u, positions[name]) for name, u in units.items()}
    chosen = _choose(list(units.values()), rate, least)
    return {name: u.mask(counts) for (name, u), counts in zip(units.items(), chosen)}


def _units(matrix: np.ndarray, pattern: str, cell: Cell, inputs: int) -> Units:
    rows, outputs = matrix.shape
    none = np.empty(0)
    if pattern == "unstructured":
        gain = matrix.reshape(-1, 1)
        return Units(gain, np.ones_like(gain), none, matrix.shape, "weight")
    if pattern == "filter":
        return Units(
            matrix.sum(0)[:, None], np.full((outputs, 1), rows), none, matrix.shape, "column"
        )
    if pattern == "shape":
        return Units(matrix.sum(1)[:, None], np.full((rows, 1), outputs), none, matrix.shape, "row")
    if pattern == "channel":
        gain = matrix.sum(1).reshape(-1, inputs).sum(0)[:, None]
        return Units(
            gain, np.full((inputs, 1), rows // inputs * outputs), none, matrix.shape, "input"
        )
    return _cells(matrix, cell)


def _ranks(tiles: np.ndarray) -> np.ndarray:
    """Rank of each weight in its column of its cell, 0 = most salient; ties to the upper row."""
    order = np.argsort(-tiles, axis=2, kind="stable")
    return np.argsort(order, axis=2, kind="stable")


def _cells(matrix: np.ndarray, cell: Cell) -> Units:
    rows, outputs = matrix.shape
    tiles = tile(matrix, cell, -1.0)
    groups, blocks = tiles.shape[:2]
    ordered = -np.sort(-tiles, axis=2)
    height = np.minimum(cell.rows, rows - np.arange(groups) * cell.rows)
    width = np.minimum(cell.columns, outputs - np.arange(blocks) * cell.columns)
    gain = np.where(ordered < 0, 0.0, ordered).sum(3)  # (groups, blocks, rows)
    real = np.arange(cell.rows)[None, None] < height[:, None, None]
    gain = np.where(real, gain, -1.0).reshape(-1, cell.rows)
    cost = np.broadcast_to(width[None, :, None], (groups, blocks, cell.rows)).reshape(gain.shape)
    return Units(gain, cost.astype(np.float64), _ranks(tiles), matrix.shape, "cell")


def _in_cycles(units: Units, positions: int) -> Units:
    """One more row of a cell costs one cycle at each output position, however wide the cell."""
    return Units(units.gain, np.full_like(units.cost, positions), units.ranks, units.shape, "cell")


def _fixed(matrix: np.ndarray, rate: float, cell: Cell) -> np.ndarray:
    """Every column of every group keeps floor((1 - rate) M), at least 1."""
    keep = max(1, int(np.floor((1.0 - rate) * cell.rows + 1e-9)))
    one = Cell(cell.rows, 1)
    tiles = tile(matrix, one, -1.0)
    groups, blocks = tiles.shape[:2]
    kept = (_ranks(tiles) < keep).transpose(0, 2, 1, 3).reshape(groups * one.rows, blocks)
    return kept[: matrix.shape[0]]


def _choose(units: list[Units], rate: float, least: float) -> list[np.ndarray]:
    """Steps taken of each cell of each layer: greedy by gain per cost, within the budget."""
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
    """Smaller units that still fit. A cell's steps cost the same, so none is skipped over."""
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
