# SPDX-License-Identifier: Apache-2.0
"""Packing is exact, never worse than dense, and monotone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drp_slam.drpai3 import packing
from drp_slam.errors import DrpAi3Error

SHAPES = st.one_of(
    st.tuples(st.integers(1, 70), st.integers(1, 40), st.integers(1, 5), st.integers(1, 5)),
    st.tuples(st.integers(1, 70), st.integers(1, 200)),
)


def sparse(shape: tuple[int, ...], density: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    w = rng.integers(-128, 128, shape).astype(np.int8)
    w[rng.random(shape) >= density] = 0
    return w


def dense_matrix(w: np.ndarray) -> np.ndarray:
    """Oracle for `weight_matrix`: the patch order kh, kw, cin written out."""
    if w.ndim == 2:
        return w.T
    out, cin, kh, kw = w.shape
    rows = [w[:, c, y, x] for y in range(kh) for x in range(kw) for c in range(cin)]
    return np.stack(rows) if rows else np.zeros((0, out), w.dtype)


@settings(max_examples=60, deadline=None)
@given(SHAPES, st.floats(0, 1), st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**31))
def test_packed_accumulators_are_the_dense_ones(shape, density, rows, columns, seed):
    w = sparse(shape, density, seed)
    packed = packing.pack(w, rows, columns)
    matrix = dense_matrix(w)
    np.testing.assert_array_equal(packing.weight_matrix(w), matrix)
    np.testing.assert_array_equal(packed.unpack(), matrix)
    x = np.random.default_rng(seed + 1).integers(-128, 128, (3, matrix.shape[0])).astype(np.int8)
    np.testing.assert_array_equal(packed.accumulate(x), x.astype(np.int32) @ matrix.astype(np.int32))
    assert packed.cycles == packing.group_counts(w, rows, columns).sum()
    assert packed.cycles <= packing.dense_cycles(w.shape, rows, columns)
    assert packed.index.max(initial=0) < rows


@settings(max_examples=30, deadline=None)
@given(SHAPES, st.integers(1, 20), st.integers(1, 40), st.integers(0, 2**31))
def test_group_counts_against_a_loop(shape, rows, columns, seed):
    w = sparse(shape, 0.3, seed)
    matrix, n = dense_matrix(w), packing.group_counts(w, rows, columns)
    for (g, b), value in np.ndenumerate(n):
        part = matrix[g * rows : (g + 1) * rows, b * columns : (b + 1) * columns]
        assert value == max((part[:, c] != 0).sum() for c in range(part.shape[1]))


@settings(max_examples=40, deadline=None)
@given(SHAPES, st.floats(0, 1), st.floats(0, 1), st.integers(0, 2**31))
def test_more_sparsity_never_costs_cycles(shape, density, keep, seed):
    w = sparse(shape, density, seed)
    less = w * (np.random.default_rng(seed).random(shape) < keep)
    assert packing.group_counts(less).sum() <= packing.group_counts(w).sum()


@settings(max_examples=40, deadline=None)
@given(SHAPES, st.floats(0, 1), st.integers(1, 16), st.integers(1, 32), st.integers(0, 2**31))
def test_a_wider_group_never_packs_worse_than_its_parts(shape, density, rows, columns, seed):
    w = sparse(shape, density, seed)
    parts, whole = (packing.group_counts(w, r, columns) for r in (rows, 2 * rows))
    if len(parts) % 2:
        parts = np.pad(parts, ((0, 1), (0, 0)))
    assert (whole <= parts[0::2] + parts[1::2]).all()


@settings(max_examples=40, deadline=None)
@given(SHAPES, st.floats(0, 1), st.integers(1, 16), st.integers(1, 32), st.integers(0, 2**31))
def test_a_wider_block_costs_no_more_than_its_halves_and_no_less_than_either(shape, density, rows, columns, seed):
    w = sparse(shape, density, seed)
    halves, whole = (packing.group_counts(w, rows, c) for c in (columns, 2 * columns))
    if halves.shape[1] % 2:
        halves = np.pad(halves, ((0, 0), (0, 1)))
    left, right = halves[:, 0::2], halves[:, 1::2]
    assert (whole == np.maximum(left, right)).all() and (whole <= left + right).all()


@settings(max_examples=30, deadline=None)
@given(SHAPES, st.floats(0, 1), st.integers(0, 2**31))
def test_report_adds_up(shape, density, seed):
    w = sparse(shape, density, seed)
    report = packing.packing_report(w)
    assert report.cycles / report.dense_cycles == pytest.approx(
        report.ideal + report.loss_balance + report.loss_padding
    )
    assert report.histogram @ np.arange(len(report.histogram)) == report.cycles
    assert report.loss_balance >= -1e-9
    assert report.sparsity == pytest.approx(np.mean(w == 0))


def test_ideal_patterns():
    w = np.ones((64, 64, 3, 3), np.int8)
    assert packing.group_counts(w).sum() == packing.dense_cycles(w.shape) == 9 * 64 * 2
    matrix = np.zeros((576, 64), np.int8)
    matrix[np.arange(36)[:, None] * 16 + np.arange(64) % 16, np.arange(64)] = 1  # one of 16 a column
    w = matrix.T.reshape(64, 3, 3, 64).transpose(0, 3, 1, 2)
    assert packing.group_counts(w).sum() * 16 == packing.dense_cycles(w.shape)
    assert packing.group_counts(np.zeros_like(w)).sum() == 0


@pytest.mark.parametrize("rows, columns", [(0, 32), (16, 0), (300, 32)])
def test_impossible_groups_are_refused(rows, columns):
    with pytest.raises(DrpAi3Error, match="row"):
        packing.pack(np.ones((4, 4), np.int8), rows, columns)


def test_a_vector_is_no_weight():
    with pytest.raises(DrpAi3Error, match="matrix"):
        packing.weight_matrix(np.ones(4))
