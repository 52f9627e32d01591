# SPDX-License-Identifier: Apache-2.0
"""Weight decay by unit magnitude during training, the oldest pruning method."""

from __future__ import annotations

import torch
from torch import Tensor

from drp_slam.pruning import prunable as L


class UnitDecay:
    """Weight decay by unit magnitude during training (call `step` at each step).

    Hanson and Pratt, "Comparing Biases for Minimal Network Construction with Back-Propagation",
    NIPS 1988: with m = sum |w| of a unit's weights, the bias m / (1 + scale m) is added to the
    loss, so that each weight shrinks by strength * scale * sign(w) / (1 + scale m)^2: small units
    go to zero, large ones barely change. Prune by magnitude afterwards.
    """

    def __init__(self, layers: L.Layers, strength: float = 1e-4, scale: float = 1.0) -> None:
        self.layers, self.strength, self.scale = layers, strength, scale

    @torch.no_grad()
    def step(self) -> None:
        """Shrinks every weight once, without crossing zero."""
        for module in self.layers.values():
            weight: Tensor = module.weight.detach()
            m = weight.abs().flatten(1).sum(1)
            by = self.strength * self.scale / (1.0 + self.scale * m).square()
            by = by.reshape(-1, *[1] * (weight.ndim - 1))
            weight.copy_(weight.sign() * (weight.abs() - by).clamp_min(0.0))
