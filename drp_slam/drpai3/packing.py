# SPDX-License-Identifier: Apache-2.0
"""The software half of flexible N:M pruning: packs any zero pattern into groups whose zeros the MAC array skips.

A weight matrix (K inputs, C output channels) is cut into groups of M consecutive rows and blocks of
P output channels that share the array. In each group every column drops its zeros and moves the
rest up, keeping for each weight the index of its input, which a selector then fetches. The group
takes N cycles, N = the maximum over the columns of the block (US12293162B2): N varies locally and
cycles are proportional to it. M and P are `drpai3.group_rows` and
`drpai3.parallel_columns` of the device file.

Everything here is exact: packed weights give the dense INT8 accumulators bit for bit.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from drp_slam.errors import DrpAi3Error

GROUP_ROWS = 16
"""Default M, rows of a group (130 sparse / 8 dense TOPS = 16, ISSCC 2024 20.3)."""
PARALLEL_COLUMNS = 32
"""Default P, output channels that share one selection of N (assumed: not published)."""


def weight_matrix(w: np.ndarray) -> np.ndarray:
    """The (K, Cout) matrix of a weight, as the array streams it.

    `w` is (Cout, Cin/groups, kh, kw) of a convolution (1-D and 3-D kernels alike) or (Cout, Cin) of
    a fully connected layer. K is ordered kh, kw, cin with cin fastest. A copy for kernels larger
    than 1 x 1, else a view. Raises DrpAi3Error for anything with fewer than two axes.
    """
    if w.ndim < 2:
        raise DrpAi3Error(f"a weight of shape {w.shape} is no matrix; expected (Cout, Cin, ...)")
    return np.moveaxis(w, 1, -1).reshape(w.shape[0], -1).T


def _blocks(w: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """(G, rows, B, columns) view or copy of the matrix, zero-padded at both ends."""
    if rows < 1 or columns < 1:
        raise DrpAi3Error(f"group of {rows} rows x {columns} columns; both must be at least 1")
    matrix = weight_matrix(w)
    k, c = matrix.shape
    groups, blocks = -(-k // rows), -(-c // columns)
    if (k, c) != (groups * rows, blocks * columns):
        matrix = np.pad(matrix, ((0, groups * rows - k), (0, blocks * columns - c)))
    return matrix.reshape(groups, rows, blocks, columns)


def column_counts(w: np.ndarray, rows: int = GROUP_ROWS) -> np.ndarray:
    """(G, Cout) non-zeros of each column in each group."""
    return np.count_nonzero(_blocks(w, rows, 1), axis=1)[..., 0]


def group_counts(w: np.ndarray, rows: int = GROUP_ROWS, columns: int = PARALLEL_COLUMNS) -> np.ndarray:
    """N of every (group, block): (G, B) int64, the maximum of non-zeros over a block's columns; their sum is cycles."""
    return np.count_nonzero(_blocks(w, rows, columns), axis=1).max(axis=-1)


def dense_cycles(shape: tuple[int, ...], rows: int = GROUP_ROWS, columns: int = PARALLEL_COLUMNS) -> int:
    """Cycles for one output position of a weight without zeros: K rows for every block."""
    k = int(np.prod(shape[1:]))
    return k * -(-shape[0] // columns)


@dataclass(frozen=True)
class Packed:
    """Packed weights of one layer.

    `values` (T, P) and `index` (T, P) uint8: slot t holds, for each column of its block, a weight
    and the row of its group it came from; unused entries hold weight 0. `group` and `block` (T,)
    say where the slot belongs. T is the sum of N: one slot is one cycle of one output position.
    `shape` is the weight's own shape.
    """

    values: np.ndarray
    index: np.ndarray
    group: np.ndarray
    block: np.ndarray
    rows: int
    shape: tuple[int, ...]

    @property
    def cycles(self) -> int:
        """Cycles for one output position."""
        return len(self.values)

    @property
    def index_bytes(self) -> int:
        """Bytes of the selection indices, ceil(log2 M) bits each, and one N for each group."""
        bits = max(1, (self.rows - 1).bit_length())
        return -(-self.index.size * bits // 8) + len(np.unique(self.group * 65536 + self.block))

    def rows_of(self) -> np.ndarray:
        """(T, P) row of the weight matrix, hence input, that each slot's weight multiplies."""
        return self.group[:, None] * self.rows + self.index

    def unpack(self) -> np.ndarray:
        """The (K, Cout) weight matrix, exactly."""
        k, c = int(np.prod(self.shape[1:])), self.shape[0]
        columns = self.values.shape[1]
        t, p = np.nonzero(self.values)
        matrix = np.zeros((k, c), self.values.dtype)
        matrix[self.rows_of()[t, p], self.block[t] * columns + p] = self.values[t, p]
        return matrix

    def accumulate(self, inputs: np.ndarray) -> np.ndarray:
        """INT32 accumulators (positions, Cout) of `inputs` (positions, K) int8, slot by slot."""
        k, c = int(np.prod(self.shape[1:])), self.shape[0]
        columns = self.values.shape[1]
        blocks = -(-c // columns)
        padded = np.zeros((inputs.shape[0], -(-k // self.rows) * self.rows), np.int32)
        padded[:, :k] = inputs
        rows, values = self.rows_of(), self.values.astype(np.int32)
        out = np.zeros((inputs.shape[0], blocks, columns), np.int32)
        starts = np.searchsorted(self.block, np.arange(blocks + 1))
        for b, (first, last) in enumerate(itertools.pairwise(starts)):
            if first < last:
                for position, x in enumerate(padded):
                    fetched = x[rows[first:last]]
                    out[position, b] = (fetched * values[first:last]).sum(axis=0, dtype=np.int32)
        return out.reshape(inputs.shape[0], -1)[:, :c]


def pack(w: np.ndarray, rows: int = GROUP_ROWS, columns: int = PARALLEL_COLUMNS) -> Packed:
    """Packs a weight of any zero pattern; slots are ordered by block, then group, then n.

    `rows` is at most 256 (indices are one byte here). Raises DrpAi3Error beyond.
    """
    if rows > 256:
        raise DrpAi3Error(f"group of {rows} rows; the selection index holds at most 256")
    cut = _blocks(w, rows, columns)
    kept = cut != 0
    counts = np.count_nonzero(kept, axis=1)  # (G, B, P)
    n = counts.max(axis=-1)  # (G, B)
    # first slot of each (group, block) in block-major order
    offset = np.zeros(n.size + 1, np.int64)
    np.cumsum(n.T.ravel(), out=offset[1:])
    first = offset[:-1].reshape(n.shape[1], n.shape[0]).T
    rank = np.cumsum(kept, axis=1, dtype=np.int16) - 1
    g, m, b, p = np.nonzero(kept)
    slot = first[g, b] + rank[g, m, b, p]
    total = int(offset[-1])
    values = np.zeros((total, columns), w.dtype)
    index = np.zeros((total, columns), np.uint8)
    values[slot, p], index[slot, p] = cut[g, m, b, p], m
    repeats = n.T.ravel()
    block, group = np.divmod(np.arange(n.size), n.shape[0])
    return Packed(values, index, np.repeat(group, repeats), np.repeat(block, repeats), rows, tuple(w.shape))


@dataclass(frozen=True)
class PackingReport:
    """The gain from packing one weight (or a whole network, summed), and the losses by cause.

    Shares are of the dense cycles, which count the padding of the last block. `ideal` = density;
    `loss_balance` = columns of one block keep different counts (N is their maximum);
    `loss_padding` = the last group and block are not full. `ideal + losses = cycles / dense`.
    `histogram[n]` counts the groups rebuilt as n rows.
    """

    cycles: float
    dense_cycles: float
    sparsity: float
    histogram: np.ndarray
    index_bytes: int
    ideal: float
    loss_balance: float
    loss_padding: float

    @property
    def mean_n(self) -> float:
        """Average N over the groups."""
        total = self.histogram.sum()
        return float(self.histogram @ np.arange(len(self.histogram)) / total) if total else 0.0


def packing_report(w: np.ndarray, rows: int = GROUP_ROWS, columns: int = PARALLEL_COLUMNS) -> PackingReport:
    """Cycles, histogram of N, index overhead, and the loss against `1 - sparsity` by cause."""
    n = group_counts(w, rows, columns)
    cycles, dense = int(n.sum()), dense_cycles(w.shape, rows, columns)
    density = np.count_nonzero(w) / w.size
    # without imbalance, the existing columns would share the non-zeros of their block evenly
    per_column = column_counts(w, rows)
    edges = np.arange(0, w.shape[0], columns)
    width = np.diff(np.append(edges, w.shape[0]))
    even = np.add.reduceat(per_column, edges, axis=1) / width
    bits = max(1, (rows - 1).bit_length())
    index_bytes = -(-cycles * columns * bits // 8) + n.size
    share = even.sum() / dense
    return PackingReport(
        cycles,
        dense,
        1.0 - density,
        np.bincount(n.ravel(), minlength=rows + 1),
        index_bytes,
        density,
        cycles / dense - share,
        share - density,
    )
