# SPDX-License-Identifier: Apache-2.0
"""The exported graph: the same numbers as torch, any multiple of 32; its mapped form."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from onnx import numpy_helper

from drp_slam.drpai3.quantize import quantize
from drp_slam.pruning.xfeat import network, upsampling
from drp_slam.pruning.xfeat.export import export, to_onnx


def operators(mapped: bool) -> Counter[str]:
    return Counter(node.op_type for node in to_onnx(network.XFeatChip(mapped), "t").graph.node)


def test_operators() -> None:
    exact = {"Conv": 27, "Relu": 23, "Add": 3, "Resize": 2, "Concat": 1}
    assert operators(mapped=False) == exact
    assert operators(mapped=True) == exact | {"Conv": 29}


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("shape", [(64, 96), (32, 32)])
def test_same_numbers_as_torch(tmp_path: Path, shape: tuple[int, int], mapped: bool) -> None:
    torch.manual_seed(3)
    net = network.XFeatChip(mapped).eval()
    path = export(net, tmp_path / "net.onnx")
    x = np.random.default_rng(0).standard_normal((1, 1, *shape), np.float32)
    (heads,) = ort.InferenceSession(path).run(None, {"tensor": x})
    with torch.no_grad():
        expected = net(torch.from_numpy(x)).numpy()
    assert heads.shape == (1, 130, shape[0] // 8, shape[1] // 8)
    np.testing.assert_allclose(heads, expected, atol=2e-5)


@pytest.mark.parametrize("factor", [2, 4])
def test_nearest_and_a_filter_are_bilinear_inside(factor: int) -> None:
    x = torch.rand(1, 1, 5, 7)
    nearest = torch.nn.functional.interpolate(x, scale_factor=factor, mode="nearest")
    kernel = torch.from_numpy(upsampling.smoothing(factor))[None, None]
    found = torch.nn.functional.conv2d(nearest, kernel, padding=factor // 2)
    exact = torch.nn.functional.interpolate(x, scale_factor=factor, mode="bilinear")
    edge = factor // 2
    assert torch.allclose(found, upsampling.upsampled(x, factor, zero_border=True), atol=1e-6)
    inside = (slice(None), slice(None), slice(edge, -edge), slice(edge, -edge))
    assert torch.allclose(found[inside], exact[inside], atol=1e-6)
    share = (found / exact)[0, 0, : edge + 1, edge + 1]
    assert share.tolist() == pytest.approx({2: [0.75, 1.0], 4: [0.625, 0.875, 1.0]}[factor])


def test_the_filter_is_exact_in_int8() -> None:
    model = quantize(to_onnx(network.xfeat(mapped=True), "t"), [np.zeros((1, 1, 32, 32), np.float32)])
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for name, factor in (("resize_4", 2), ("resize_5", 4)):
        weight = stored[f"{name}.weight_quantized"].astype(np.float64)
        scale = stored[f"{name}.weight_scale"].astype(np.float64)
        exact = upsampling.smoothing(factor).astype(np.float64)
        np.testing.assert_array_equal(weight[:, 0] * scale[:, None, None], np.tile(exact, (64, 1, 1)))
        makers = {out: node for node in model.graph.node for out in node.output}
        nearest = next(n for n in model.graph.node if n.output[0] == f"{name}_nearest")
        assert list(makers[nearest.input[0]].input[1:]) == [
            *next(n for n in model.graph.node if n.input[0] == nearest.output[0]).input[1:]
        ], "one scale before and behind the repetition of pixels"


def test_reading_back_gives_the_same_network(tmp_path: Path) -> None:
    net = network.XFeatChip()
    again = network.from_onnx(export(net, tmp_path / "net.onnx"))
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters()))


def test_same_network_same_bytes(tmp_path: Path) -> None:
    net = network.XFeatChip()
    first, second = (export(net, tmp_path / name).read_bytes() for name in ("a.onnx", "b.onnx"))
    assert first == second
