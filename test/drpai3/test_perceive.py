# SPDX-License-Identifier: Apache-2.0
"""The network stage by name of its backend."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from drp_slam.card import load_card
from drp_slam.chip.constants import load_constants
from drp_slam.chip.soc import Soc
from drp_slam.config import PerceptionConfig
from drp_slam.drpai3.estimate import estimate
from drp_slam.drpai3.graph import load
from drp_slam.drpai3.network_cost import NetworkCost
from drp_slam.drpai3.perceive import Perceive, open_accelerator


@pytest.mark.parametrize("network, warned", [("xfeat-fp32", True), ("xfeat", False)])
def test_a_float_network_on_the_emulated_accelerator_says_so(caplog, network, warned):
    config = PerceptionConfig()
    card = load_card(network)
    with caplog.at_level(logging.WARNING):
        perceive = Perceive(open_accelerator(config), card, config)
    assert any("assume a quantised network" in r.getMessage() for r in caplog.records) == warned
    heads, run = perceive(np.zeros((64, 96), card.dtype))
    assert heads.shape == (8, 12, card.channels) and heads.dtype == card.dtype
    assert run.wall_s > 0 and run.device == "emulated"
    cost = Soc.open("rzv2h", models={"drpai3": NetworkCost()}).cost(run.work)
    assert cost.unit == "DRP-AI3" and sum(cost.parts.values()) == pytest.approx(cost.modelled_s)
    found = estimate(load(card.onnx, {"": (1, 1, 64, 96)}, in_place=True), load_constants(), results_stay=True)
    assert (cost.modelled_s, cost.energy_j) == (found.total_s, found.energy_j)
