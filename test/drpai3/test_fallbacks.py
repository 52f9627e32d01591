# SPDX-License-Identifier: Apache-2.0
"""Layers that fall back to the CPU, with reasons, and tensors that are moved there and back."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_networks import Builder

from drp_slam.chip.constants import load_constants
from drp_slam.drpai3.estimate import estimate
from drp_slam.drpai3.graph import load

DEVICE = load_constants("rzv2h")


def fallback(name: str, b: Builder) -> str:
    """A network with one operator that falls back."""
    y = b.conv("x", 16, 32)
    if name == "grouped":
        return b.conv(y, 32, 32, group=4)
    if name == "asymmetric":
        return b.conv(y, 32, 32, (1, 7))
    if name == "gate":
        gate = b.op("Sigmoid", b.conv(b.op("GlobalAveragePool", y), 32, 32, 1))
        return b.op("Mul", y, gate)
    if name == "softmax":
        return b.op("Softmax", y, axis=1)
    if name == "bilinear":
        scale = b.constant(np.array([1, 1, 2, 2], np.float32))
        return b.op("Resize", y, "", scale, mode="linear")
    if name == "mirror":
        return b.op("Pad", y, b.constant(np.array([0, 0, 1, 1, 0, 0, 1, 1])), mode="reflect")
    assert name == "pre-activation"
    return b.op("Add", b.conv(b.op("Relu", y), 32, 32), y)


@pytest.mark.parametrize(
    "name, says",
    [
        ("grouped", "grouped convolution"),
        ("asymmetric", "unequal sides"),
        ("gate", "gate"),
        ("softmax", "softmax"),
        ("bilinear", "bilinear"),
        ("mirror", "reflection"),
        ("pre-activation", "activation that no layer can absorb"),
    ],
)
def test_fallbacks_have_reasons_and_crossings(tmp_path, name, says):
    b = Builder()
    out = b.op("Relu", b.conv(fallback(name, b), 32, 8, stride=2))
    found = estimate(load(b.save(tmp_path / "a.onnx", out)), DEVICE, release=2.4)
    assert found.fallbacks and any(says in row.reason for row in found.fallbacks)
    assert found.crossings >= 2 and sum(row.wait_s for row in found.fallbacks) > 0


def test_results_read_in_place_save_their_way_to_the_cpu(tmp_path):
    b = Builder()
    graph = load(b.save(tmp_path / "a.onnx", b.conv("x", 16, 16)))
    taken, stay = (estimate(graph, DEVICE, results_stay=stays) for stays in (False, True))
    assert (taken.crossings, stay.crossings) == (1, 0)
    assert stay.total_s == pytest.approx(taken.total_s - taken.crossing_s)
    assert stay.energy_j < taken.energy_j and stay.cycles == taken.cycles


def test_a_result_made_by_the_cpu_goes_to_the_drp_that_reads_it(tmp_path):
    b = Builder()
    graph = load(b.save(tmp_path / "a.onnx", b.op("Softmax", b.conv("x", 16, 16), axis=1)))
    assert estimate(graph, DEVICE, results_stay=True).crossings == 2
    assert estimate(graph, DEVICE).crossings == 1


@pytest.mark.parametrize("swap", [False, True])
def test_an_addition_stays_with_its_convolution_whatever_the_order(tmp_path, swap):
    b = Builder()
    y = b.conv("x", 16, 16)
    other = b.op("Softmax", y, axis=1)
    inputs = (b.conv(y, 16, 16), other)
    total = b.op("Add", *(inputs[::-1] if swap else inputs))
    found = estimate(load(b.save(tmp_path / "a.onnx", b.conv(total, 16, 8))), DEVICE)
    assert [row.op for row in found.fallbacks] == ["Softmax"] and found.crossings == 3
