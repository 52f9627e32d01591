# SPDX-License-Identifier: Apache-2.0
"""The exported graph: only what the chip maps, the same numbers, any multiple of 32."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch

from drp_slam.pruning import xfeat
from drp_slam.pruning.export import export, to_onnx


def test_only_mapped_operators() -> None:
    counts = Counter(node.op_type for node in to_onnx(xfeat.XFeatChip(), "t").graph.node)
    assert counts == {"Conv": 27, "Relu": 23, "Add": 3, "Resize": 2, "Concat": 1}


@pytest.mark.parametrize("shape", [(64, 96), (32, 32)])
def test_same_numbers_as_torch(tmp_path: Path, shape: tuple[int, int]) -> None:
    torch.manual_seed(3)
    net = xfeat.XFeatChip().eval()
    path = export(net, tmp_path / "net.onnx")
    x = np.random.default_rng(0).standard_normal((1, 1, *shape), np.float32)
    (heads,) = ort.InferenceSession(path).run(None, {"tensor": x})
    with torch.no_grad():
        expected = net(torch.from_numpy(x)).numpy()
    assert heads.shape == (1, 130, shape[0] // 8, shape[1] // 8)
    np.testing.assert_allclose(heads, expected, atol=2e-5)


def test_reading_back_gives_the_same_network(tmp_path: Path) -> None:
    net = xfeat.XFeatChip()
    again = xfeat.from_onnx(export(net, tmp_path / "net.onnx"))
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters()))


def test_same_network_same_bytes(tmp_path: Path) -> None:
    net = xfeat.XFeatChip()
    first, second = (export(net, tmp_path / name).read_bytes() for name in ("a.onnx", "b.onnx"))
    assert first == second
