# SPDX-License-Identifier: Apache-2.0
"""The flexible N:M form, stated by the packer's counts."""

from __future__ import annotations

from typing import Any

import numpy as np

from drp_slam.drpai3 import packing
from drp_slam.pruning.layout import DEFAULT_CELL, Cell, array


def exact_rows(mask: Any, cell: Cell = DEFAULT_CELL) -> bool:
    """Whether every column of a cell keeps the same number of weights."""
    counts = packing.column_counts(array(mask), cell.rows)
    first = np.repeat(counts[:, :: cell.columns], cell.columns, axis=1)[:, : counts.shape[1]]
    return bool((counts == first).all())
