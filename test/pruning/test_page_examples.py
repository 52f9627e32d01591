# SPDX-License-Identifier: Apache-2.0
"""The Python examples of docs/pruning.md run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

PAGE = Path(__file__).parents[2] / "docs" / "pruning.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_an_example_runs(number):
    if "structured" in BLOCKS[number]:
        pytest.importorskip("torch_pruning")
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 4),
    )
    images, before = torch.rand(4, 3, 16, 16), sum(p.numel() for p in model.parameters())
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((64, 128)) * (rng.random((64, 128)) < 0.1)
    names = {"model": model, "images": images, "loader": [(images, torch.zeros(4))], "weights": weights}
    names["activations"] = rng.standard_normal(128) * (rng.random(128) < 0.3)
    exec(BLOCKS[number], names)
    if "ranks" in names or "found" in names:
        assert sum(p.numel() for p in model.parameters()) < before and model(images).shape[0] == 4
    elif "pruner" in names:
        assert names["pruner"].rate == pytest.approx(0.7, abs=0.05)
    else:
        assert names["result"].cycles > 0


def test_every_feature_beyond_pruning_has_an_example():
    assert all(any(name in block for block in BLOCKS) for name in ("lowrank", "structured", "eie", "extension_pack"))
