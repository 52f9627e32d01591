# SPDX-License-Identifier: Apache-2.0
"""Units of weights that each pattern keeps or removes together, with their gain and cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drp_slam.pruning.layout import Cell


@dataclass(frozen=True)
class Units:
    """Units that can be kept: `gain` and `cost` of each unit, both (cells, steps); -1 gain = absent.

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


def of_matrix(matrix: np.ndarray, pattern: str, cell: Cell, inputs: int) -> Units:
    rows, outputs = matrix.shape
    none = np.empty(0)
    if pattern == "unstructured":
        gain = matrix.reshape(-1, 1)
        return Units(gain, np.ones_like(gain), none, matrix.shape, "weight")
    if pattern == "filter":
        return Units(matrix.sum(0)[:, None], np.full((outputs, 1), rows), none, matrix.shape, "column")
    if pattern == "shape":
        return Units(matrix.sum(1)[:, None], np.full((rows, 1), outputs), none, matrix.shape, "row")
    if pattern == "channel":
        gain = matrix.sum(1).reshape(-1, inputs).sum(0)[:, None]
        return Units(gain, np.full((inputs, 1), rows // inputs * outputs), none, matrix.shape, "input")
    return _cells(matrix, cell)


def tile(matrix: np.ndarray, cell: Cell, fill: float) -> np.ndarray:
    """(K, Cout) -> (groups, blocks, rows, columns), padded with `fill`."""
    rows, outputs = matrix.shape
    groups, blocks = -(-rows // cell.rows), -(-outputs // cell.columns)
    padded = np.full((groups * cell.rows, blocks * cell.columns), fill, matrix.dtype)
    padded[:rows, :outputs] = matrix
    return padded.reshape(groups, cell.rows, blocks, cell.columns).transpose(0, 2, 1, 3)


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


def in_cycles(units: Units, positions: int) -> Units:
    """One more row of a cell costs one cycle at each output position, however wide the cell."""
    return Units(units.gain, np.full_like(units.cost, positions), units.ranks, units.shape, "cell")


def fixed_mask(matrix: np.ndarray, rate: float, cell: Cell) -> np.ndarray:
    """Every column of every group keeps floor((1 - rate) M), at least 1."""
    keep = max(1, int(np.floor((1.0 - rate) * cell.rows + 1e-9)))
    one = Cell(cell.rows, 1)
    tiles = tile(matrix, one, -1.0)
    groups, blocks = tiles.shape[:2]
    kept = (_ranks(tiles) < keep).transpose(0, 2, 1, 3).reshape(groups * one.rows, blocks)
    return kept[: matrix.shape[0]]
