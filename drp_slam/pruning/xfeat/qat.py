# SPDX-License-Identifier: Apache-2.0
"""Quantisation-aware training of XFeat: simulates INT8 during training.

Every activation is rounded to its int8 grid and every weight to its channel's, straight through
for the gradient (Jacob et al., CVPR 2018). Ranges follow the data as a running mean until they are
frozen; the export then uses exactly these scales, so nothing is calibrated afterwards.
"""

from __future__ import annotations

from typing import Any

import torch

from drp_slam.drpai3.quantize import affine
from drp_slam.pruning.images import INPUT_RANGE

SAME_SCALE = {"resize_4": "block4_2", "resize_5": "block5_3"}
"""Interpolation keeps the grid of its input."""


class _Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, scale: float, low: int, high: int) -> torch.Tensor:
        return x.div(scale).round_().clamp_(low, high).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        return grads[0], None, None, None


class FakeQuantiser:
    """The hooks for `XFeatChip.heads`: `activation` and `weight`.

    `ranges` maps an activation to its (low, high). While `learning`, each call moves it by
    `momentum` towards the mean over the batch of each image's extremes, unless it is `fixed`.
    """

    def __init__(self) -> None:
        self.ranges: dict[str, tuple[float, float]] = {"input": INPUT_RANGE}
        self.learning, self.momentum = True, 0.05
        self.fixed = {"input"}

    def activation(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """`x` on the int8 grid of `name`."""
        name = SAME_SCALE.get(name, name)
        if name not in self.ranges or (self.learning and name not in self.fixed):
            self._learn(name, x.detach())
        scale, zero = affine(*self.ranges[name])
        return _Round.apply(x, scale, -128 - zero, 127 - zero)

    def _learn(self, name: str, x: torch.Tensor) -> None:
        flat = x.flatten(1)
        low, high = float(flat.amin(1).float().mean()), float(flat.amax(1).float().mean())
        if name in self.ranges:
            old, m = self.ranges[name], self.momentum
            low, high = old[0] + m * (low - old[0]), old[1] + m * (high - old[1])
        self.ranges[name] = (low, high)

    @staticmethod
    def weight(name: str, w: torch.Tensor) -> torch.Tensor:
        """Weights on the symmetric int8 grid of their output channel; zeros stay zero."""
        scale = w.detach().abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-12) / 127.0
        return w + ((w.detach() / scale).round() * scale - w.detach())

    def scales(self) -> dict[str, tuple[float, int]]:
        """Tensor of the exported ONNX -> scale and zero point."""
        found = {name: affine(*r) for name, r in self.ranges.items()}
        found["tensor"] = found.pop("input")
        return found | {name: found[source] for name, source in SAME_SCALE.items()}
