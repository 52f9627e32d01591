# SPDX-License-Identifier: Apache-2.0
"""Weights and masks in the layout of `drpai3.packing`: matrices (K, Cout) in cells of M rows and P columns.

K is ordered kh, kw, cin with cin fastest. A cell is rebuilt as N rows, where N is the most weights
that one of its columns keeps (US20220004363). The cost of a mask is counted by the packer itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from drp_slam.drpai3 import packing
from drp_slam.errors import PruningError


@dataclass(frozen=True)
class Cell:
    """Rows (M) and columns (P) that the chip packs together."""

    rows: int = packing.GROUP_ROWS
    columns: int = packing.PARALLEL_COLUMNS

    @staticmethod
    def of(constants: Mapping[str, float]) -> Cell:
        """From a device file: `drpai3.group_rows`, `drpai3.parallel_columns`."""
        return Cell(int(constants["drpai3.group_rows"]), int(constants["drpai3.parallel_columns"]))


DEFAULT_CELL = Cell()


def matrix(weight: Any) -> Any:
    """`packing.weight_matrix` for arrays and torch tensors alike: (Cout, Cin, ...) -> (K, Cout), same dtype.

    Raises PruningError for fewer than two axes.
    """
    if weight.ndim < 2:
        raise PruningError(
            f"a weight has shape {tuple(weight.shape)}; only convolutions and linear layers can be pruned"
        )
    moved = np.moveaxis(weight, 1, -1) if isinstance(weight, np.ndarray) else weight.movedim(1, -1)
    return moved.reshape(weight.shape[0], -1).T


def unmatrix(values: Any, shape: tuple[int, ...]) -> Any:
    """Inverse of `matrix`: (K, Cout) -> contiguous values of the weight's shape (Cout, Cin, ...)."""
    whole = values.T.reshape(shape[0], *shape[2:], shape[1])
    if isinstance(values, np.ndarray):
        return np.ascontiguousarray(np.moveaxis(whole, -1, 1))
    return whole.movedim(-1, 1).contiguous()


def array(tensor: Any) -> np.ndarray:
    """A torch tensor or an array as numpy."""
    return np.asarray(tensor.detach().cpu() if hasattr(tensor, "detach") else tensor)


def density(found: Mapping[str, Any]) -> float:
    """Share of all weights that the masks keep."""
    total = sum(int(np.prod(tuple(m.shape))) for m in found.values())
    return sum(int(m.sum()) for m in found.values()) / max(total, 1)


def kept_rows(mask: Any, cell: Cell = DEFAULT_CELL) -> np.ndarray:
    """N of each cell, (groups, blocks) int; their sum is the packed cycles of one output position."""
    return packing.group_counts(array(mask), cell.rows, cell.columns)
