# SPDX-License-Identifier: Apache-2.0
"""How DRP-AI3 sees a weight: a matrix (K, Cout), K ordered kh, kw, cin with cin fastest, in cells.

A cell is `rows` x `columns` of that matrix; the packer rebuilds it as N rows, where N is the most
weights that one of its columns keeps (US20220004363).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from drp_slam.errors import PruningError


@dataclass(frozen=True)
class Cell:
    """Rows (M) and columns (P) that the chip packs together."""

    rows: int = 16
    columns: int = 32

    @staticmethod
    def of(constants: Mapping[str, float]) -> Cell:
        """From a device file: `drpai3.group_rows`, `drpai3.parallel_columns`."""
        return Cell(int(constants["drpai3.group_rows"]), int(constants["drpai3.parallel_columns"]))


DEFAULT_CELL = Cell()


def to_matrix(weight: Any) -> np.ndarray:
    """(Cout, Cin, kh, kw) or (Cout, Cin), numpy or torch -> (K, Cout), same dtype."""
    array = np.asarray(weight.detach().cpu() if hasattr(weight, "detach") else weight)
    if array.ndim not in (2, 4):
        raise PruningError(
            f"a weight has shape {array.shape}; only convolutions (4-D) and linear layers (2-D) can be pruned"
        )
    if array.ndim == 4:
        array = array.transpose(0, 2, 3, 1)
    return array.reshape(array.shape[0], -1).T


def from_matrix(matrix: np.ndarray, like: Any) -> Any:
    """Inverse of `to_matrix`, with the shape and library of `like` (dtype of `matrix`)."""
    shape = tuple(like.shape)
    if len(shape) == 4:
        cout, cin, kh, kw = shape
        array = matrix.T.reshape(cout, kh, kw, cin).transpose(0, 3, 1, 2)
    else:
        array = matrix.T
    array = np.ascontiguousarray(array)
    if hasattr(like, "detach"):
        import torch

        return torch.from_numpy(array).to(like.device)
    return array


def density(found: Mapping[str, Any]) -> float:
    """Kept part of all weights of the masks."""
    total = sum(int(np.prod(tuple(m.shape))) for m in found.values())
    return sum(int(m.sum()) for m in found.values()) / max(total, 1)


def kept_rows(mask: Any, cell: Cell = DEFAULT_CELL) -> np.ndarray:
    """N of each cell, (groups, blocks) int: the most weights that one of its columns keeps.

    The packed cycles of one output position are the sum. `exact_rows` says whether every column
    of a cell keeps the same.
    """
    return _column_counts(to_matrix(mask), cell).max(2)


def exact_rows(mask: Any, cell: Cell = DEFAULT_CELL) -> bool:
    """Whether every column of a cell keeps the same number of weights (the flexible N:M form)."""
    matrix = to_matrix(mask)
    counts = _column_counts(matrix, cell)
    width = np.minimum(cell.columns, matrix.shape[1] - np.arange(counts.shape[1]) * cell.columns)
    real = np.arange(cell.columns) < width[:, None]  # (blocks, columns)
    return bool(np.all((counts == counts[:, :, :1]) | ~real))


def _column_counts(matrix: np.ndarray, cell: Cell) -> np.ndarray:
    """Kept weights of each column of each cell, (groups, blocks, columns)."""
    return tile(matrix.astype(np.int64), cell, 0).sum(2)


def tile(matrix: np.ndarray, cell: Cell, fill: float) -> np.ndarray:
    """(K, Cout) -> (groups, blocks, rows, columns), padded."""
    rows, outputs = matrix.shape
    groups, blocks = -(-rows // cell.rows), -(-outputs // cell.columns)
    padded = np.full((groups * cell.rows, blocks * cell.columns), fill, matrix.dtype)
    padded[:rows, :outputs] = matrix
    return padded.reshape(groups, cell.rows, blocks, cell.columns).transpose(0, 2, 1, 3)
