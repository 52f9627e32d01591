# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools

import numpy as np
import pytest
from exact import exact_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from drp_slam.drpai3 import packing
from drp_slam.errors import PruningError
from drp_slam.pruning import layout, selection
from drp_slam.pruning.layout import Cell

rates = st.floats(0.0, 0.99)
shapes = st.tuples(st.integers(1, 40), st.integers(1, 20), st.sampled_from([1, 3]))


def saliency(shape: tuple[int, int, int], seed: int) -> dict[str, np.ndarray]:
    cout, cin, k = shape
    rng = np.random.default_rng(seed)
    return {"a": rng.random((cout, cin, k, k)), "b": rng.random((cin, cout))}


@given(shapes, st.integers(0, 99), rates)
@settings(max_examples=40, deadline=None)
def test_flexible_keeps_exactly_n_in_every_column_of_a_cell(shape, seed, rate):
    found = selection.masks(saliency(shape, seed), rate, "flexible-nm")
    for mask in found.values():
        matrix, n = layout.matrix(mask), layout.kept_rows(mask)
        for (g, b), kept in np.ndenumerate(n):
            cell = matrix[16 * g : 16 * g + 16, 32 * b : 32 * b + 32]
            assert (cell.sum(0) == kept).all()
        assert exact_rows(mask)


@given(shapes, st.integers(0, 99), rates, st.sampled_from(selection.PATTERNS))
@settings(max_examples=60, deadline=None)
def test_never_keeps_more_than_the_budget(shape, seed, rate, pattern):
    if pattern == "fixed-nm":
        return
    tensors = saliency(shape, seed)
    found = selection.masks(tensors, rate, pattern)
    total = sum(t.size for t in tensors.values())
    assert sum(m.sum() for m in found.values()) <= (1 - rate) * total + 1e-6


def test_unstructured_keeps_the_largest_and_exactly_the_number():
    tensors = saliency((10, 8, 3), 0)
    found = selection.masks(tensors, 0.75, "unstructured")
    values = np.concatenate([t.ravel() for t in tensors.values()])
    kept = np.concatenate([m.ravel() for m in found.values()])
    assert kept.sum() == len(values) // 4
    assert values[kept].min() > values[~kept].max()


def test_flexible_allocation_is_the_best_of_all_allocations():
    rng = np.random.default_rng(3)
    weight, cell = rng.random((2, 9)), Cell(3, 1)  # 3 groups x 2 blocks, N in 0..3
    found = selection.masks({"a": weight}, 0.5, "flexible-nm", cell=cell)["a"]
    ordered = -np.sort(-weight.T.reshape(3, 3, 2), axis=1)
    gains = np.concatenate([np.zeros((3, 1, 2)), ordered.cumsum(1)], axis=1)
    best = max(
        sum(gains[g, n[2 * g + b], b] for g in range(3) for b in range(2))
        for n in itertools.product(range(4), repeat=6)
        if sum(n) <= 9
    )
    assert np.isclose(weight[found].sum(), best)


def test_cycle_budget_spends_rows_at_cheap_positions():
    same = np.ones((32, 16, 1, 1))
    found = selection.masks({"early": same, "late": same}, 0.5, "flexible-nm", positions={"early": 400, "late": 100})
    kept = {name: layout.kept_rows(mask).sum() for name, mask in found.items()}
    assert kept["late"] == 16
    assert 400 * kept["early"] + 100 * kept["late"] <= 0.5 * 16 * 500
    assert kept["early"] == 6


@pytest.mark.parametrize("rate,n", [(0.0, 16), (0.5, 8), (0.75, 4), (0.9, 1), (0.99, 1)])
def test_fixed_keeps_the_same_n_everywhere(rate, n):
    mask = selection.masks(saliency((5, 16, 3), 1), rate, "fixed-nm")["a"]
    counts = layout.matrix(mask).reshape(9, 16, 5).sum(1)
    assert (counts == n).all()


def test_two_of_four():
    mask = selection.masks({"a": np.arange(8.0)[None]}, 0.5, "fixed-nm", cell=Cell(4, 1))["a"]
    assert mask.tolist() == [[False, False, True, True] * 2]


def test_structured_patterns_remove_whole_slices():
    weight = {"a": np.random.default_rng(0).random((8, 6, 3, 3))}
    filters = selection.masks(weight, 0.5, "filter")["a"]
    assert (filters.reshape(8, -1).std(1) == 0).all() and filters.any((1, 2, 3)).sum() == 4
    channels = selection.masks(weight, 0.5, "channel")["a"]
    assert channels.any((0, 2, 3)).sum() == 3 and channels.mean() == 0.5
    best = np.argsort(-weight["a"].sum((0, 2, 3)))[:3]
    assert set(np.flatnonzero(channels.any((0, 2, 3)))) == set(best)
    shape = selection.masks(weight, 0.5, "shape")["a"]
    assert (shape == shape[:1]).all() and shape.mean() == 0.5


def test_rows_are_ordered_kh_kw_cin_and_come_back():
    weight = np.arange(2 * 3 * 2 * 2).reshape(2, 3, 2, 2)
    matrix = layout.matrix(weight)
    assert matrix[:4, 0].tolist() == [weight[0, 0, 0, 0], weight[0, 1, 0, 0], weight[0, 2, 0, 0], weight[0, 0, 0, 1]]
    assert (layout.unmatrix(matrix, weight.shape) == weight).all()


def test_torch_in_torch_out():
    torch = pytest.importorskip("torch")
    found = selection.masks({"a": torch.rand(8, 16, 3, 3)}, 0.5)["a"]
    assert found.dtype == torch.bool and found.shape == (8, 16, 3, 3)


def test_layerwise_rates_and_a_floor():
    tensors = {"weak": np.full((32, 32), 1e-6), "strong": np.ones((32, 32))}
    by_layer = selection.masks(tensors, {"weak": 0.25, "strong": 0.75}, "flexible-nm")
    assert by_layer["weak"].mean() == 0.75 and by_layer["strong"].mean() == 0.25
    floored = selection.masks(tensors, 0.5, "flexible-nm", least=0.25)
    assert floored["weak"].mean() == 0.25
    assert not selection.masks(tensors, 0.5, "flexible-nm")["weak"].any()


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5, float("nan")])
def test_rate_outside_is_refused(rate):
    with pytest.raises(PruningError, match=r"expected 0 <= rate < 1"):
        selection.masks({"a": np.ones((4, 4))}, rate)


def test_bad_input_is_named():
    with pytest.raises(PruningError, match="striped"):
        selection.masks({"a": np.ones((4, 4))}, 0.5, "striped")
    with pytest.raises(PruningError, match="saliency of a"):
        selection.masks({"a": np.full((4, 4), np.nan)}, 0.5)
    with pytest.raises(PruningError, match="no rate for layer 'a'"):
        selection.masks({"a": np.ones((4, 4))}, {"b": 0.5})
    with pytest.raises(PruningError, match="only convolutions"):
        selection.masks({"a": np.ones(4)}, 0.5)


@pytest.mark.parametrize("shape", [(7, 3), (7, 3, 5), (7, 3, 2, 3), (4, 6, 1, 1), (3, 2, 2, 2, 2)])
def test_the_matrix_of_a_weight_is_the_packers(shape):
    """For arrays and torch tensors; what a mask costs is what the packed weight takes."""
    weight = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    wanted = packing.weight_matrix(weight)
    assert (layout.matrix(weight) == wanted).all()
    assert (layout.unmatrix(layout.matrix(weight), shape) == weight).all()
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(weight)
    assert (layout.matrix(tensor).numpy() == wanted).all()
    assert torch.equal(layout.unmatrix(layout.matrix(tensor), tensor.shape), tensor)
    mask = weight > 0.5
    assert layout.kept_rows(tensor > 0.5).sum() == packing.pack(weight * mask).cycles
