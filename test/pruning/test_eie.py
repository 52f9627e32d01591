# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from drp_slam.chip.constants import load_constants
from drp_slam.errors import PruningError
from drp_slam.pruning import eie

CONSTANTS = load_constants("eie")


def layer(density: float, active: float, shape=(1024, 200)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    weights = rng.standard_normal(shape) * (rng.random(shape) < density)
    return weights, rng.standard_normal(shape[1]) * (rng.random(shape[1]) < active)


def test_factors_are_the_published_ones_at_the_published_densities():
    found = eie.cost(*layer(0.1, 1 / 3), CONSTANTS).factors
    assert found["memory"] == pytest.approx(eie.PUBLISHED["memory"], rel=0.1)
    assert found["sparsity"] == pytest.approx(eie.PUBLISHED["sparsity"], rel=0.05)
    assert found["sharing"] == eie.PUBLISHED["sharing"]
    assert found["activations"] == pytest.approx(eie.PUBLISHED["activations"], rel=0.2)
    together = np.prod([found[name] for name in eie.PUBLISHED])
    assert together == pytest.approx(28_800, rel=0.25)
    assert found["index"] <= 0.5  # 4 bits of index beside 4 of weight, and padding zeros


def test_a_layer_of_alexnet_takes_the_published_time():
    """Alex-7, 4096 x 4096 at 9 % of weights and 35.3 % of inputs: 12.2 us.

    EIE, tables 3 and 4, recalled; the sum of its three layers agrees with 18 800 frames/s.
    """
    rng = np.random.default_rng(0)
    active = int(0.353 * 4096)  # columns of zero inputs are never read
    weights = rng.random((4096, active)) < 0.09
    cost = eie.cost(weights, np.ones(active), CONSTANTS)
    assert cost.modelled_s == pytest.approx(12.2e-6, rel=0.2)


def test_peak_throughput_is_the_published_one():
    """102 GOP/s: every element busy in every cycle, a multiplication and an addition each."""
    cost = eie.cost(np.ones((640, 200)), np.ones(200), CONSTANTS)
    assert 2 * cost.entries / cost.modelled_s == pytest.approx(102e9, rel=0.02)


def test_product_of_the_factors_is_the_ratio_of_fetch_energies():
    weights, x = layer(0.1, 0.4)
    cost = eie.cost(weights, x, CONSTANTS)
    dense = weights.size * CONSTANTS["eie.dram_read"]
    work = cost.entries / cost.factors["activations"]
    own = work * CONSTANTS["eie.sram_read"] * 8 / 32
    assert np.prod(list(cost.factors.values())) == pytest.approx(dense / own)


def test_every_weight_is_counted_once_without_long_gaps():
    weights = np.ones((128, 3))
    assert (eie.encode(weights, 64, 4) == 2).all()
    cost = eie.cost(weights, np.array([1.0, 0.0, 2.0]), CONSTANTS)
    assert cost.cycles == 5  # one to send the first input, then 2 x 2


def test_a_gap_beyond_the_index_takes_a_padding_zero():
    weights = np.zeros((40, 1))
    weights[39] = 1.0
    assert eie.encode(weights, 1, 4)[0, 0] == 3  # 16 + 16 + the weight itself
    assert eie.encode(weights, 1, 6)[0, 0] == 1


def test_imbalance_costs_cycles():
    weights = np.zeros((64, 10))
    weights[0] = 1.0  # all work on one element
    cost = eie.cost(weights, np.ones(10), CONSTANTS)
    assert cost.cycles == 11 and cost.balance == pytest.approx(10 / (64 * 11))


def test_queues_even_out_what_elements_have_to_do_and_a_short_one_stalls():
    counts = np.array([[6, 0] * 20, [0, 6] * 20])  # the same work, in turn
    assert eie.run(counts, 1) >= 6 * 40  # no queue: each input waits for the one before it
    assert 120 <= eie.run(counts, 8) <= 130


def test_wrong_shapes_are_named():
    with pytest.raises(PruningError, match="matrix"):
        eie.cost(np.ones((3, 4)), np.ones(3), CONSTANTS)
