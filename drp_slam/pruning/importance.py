# SPDX-License-Identifier: Apache-2.0
"""Statistics of each layer over calibration images: moments of its inputs, gradients of its outputs and weights.

The curvature is Gauss-Newton's, which is never negative: the mean over samples of the squared
gradient of a loss whose expectation is the squared change of the outputs (`output_loss`: any network,
no labels). `saliencies` scores the weights with it, as defined in `methods.SALIENCIES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from drp_slam.errors import PruningError
from drp_slam.pruning import prunable as L
from drp_slam.pruning.layout import matrix, unmatrix
from drp_slam.pruning.methods import Scored, saliency

Loss = Callable[[Any, torch.Generator], Tensor]


@dataclass
class Statistics:
    """Means over the calibration samples for one layer; K input rows, Cout outputs.

    `inputs` (K+1, K+1): E[x x^T] over samples and positions, the last entry of x is 1 (the bias).
    `outputs` (Cout,): squared gradient of each output channel, summed over positions.
    `diagonal` (K, Cout): squared gradient of each weight. `first` (K, Cout): |gradient| per batch.
    """

    inputs: Tensor
    outputs: Tensor
    diagonal: Tensor
    first: Tensor
    samples: int = 0
    batches: int = 0

    @staticmethod
    def empty(module: Any) -> Statistics:
        """Zeros."""
        k, cout = matrix(module.weight).shape
        sizes = ((k + 1, k + 1), (cout,), (k, cout), (k, cout))
        a, b, c, d = (torch.zeros(size, dtype=torch.float64) for size in sizes)
        return Statistics(a, b, c, d)

    @property
    def mean_input(self) -> Tensor:
        """(K + 1,): the mean input row, its last entry 1."""
        return self.inputs[-1] / self.inputs[-1, -1].clamp_min(1e-30)

    def centred(self) -> Statistics:
        """The same with the covariance of the inputs in place of E[x x^T], independent of their mean.

        For a layer without a bias, followed by a batch norm that removes the mean of its outputs.
        """
        own, mean = self.inputs, self.mean_input
        own = own - own[-1, -1] * torch.outer(mean, mean)
        own[-1, -1] = self.inputs[-1, -1]
        return replace(self, inputs=own)

    def see(self, x: Tensor) -> None:
        """Adds the rows x (N, L, K) of a batch."""
        flat = x.reshape(-1, x.shape[-1])
        flat = torch.cat([flat, torch.ones(len(flat), 1)], 1)
        self.inputs += (flat.T @ flat).double() * (x.shape[0] / len(flat))
        self.samples += x.shape[0]

    def learn(self, x: Tensor, gradient: Tensor) -> None:
        """Adds the gradients (N, L, Cout) of the outputs for the rows x."""
        self.outputs += gradient.square().sum((0, 1)).double()
        each = torch.einsum("nlk,nlc->nkc", x, gradient)
        self.diagonal += each.square().sum(0).double()
        self.first += (each.sum(0) / len(each)).abs().double()
        self.batches += 1

    def mean(self) -> Statistics:
        """Converts sums to means. Raises PruningError if a value is not finite."""
        n, b = max(self.samples, 1), max(self.batches, 1)
        found = Statistics(
            self.inputs / n, self.outputs / n, self.diagonal / n, self.first / b, self.samples, self.batches
        )
        for part in (found.inputs, found.outputs, found.diagonal):
            if not torch.isfinite(part).all():
                raise PruningError(
                    "the loss or its gradient is NaN or infinite on the calibration "
                    "images; check their scale and the model"
                )
        return found


def output_loss(outputs: Any, generator: torch.Generator) -> Tensor:
    """A random projection of all outputs: its squared gradient is that of their squared change."""
    total = torch.zeros(())
    for part in outputs if isinstance(outputs, (tuple, list)) else [outputs]:
        signs = torch.randint(0, 2, part.shape, generator=generator).mul(2).sub(1)
        total = total + (part * signs).sum() / part[0].numel() ** 0.5
    return total


def collect(
    model: nn.Module,
    layers: L.Layers,
    images: Tensor,
    *,
    loss: Loss | None = output_loss,
    batch: int = 16,
    sample: int = 512,
    seed: int = 0,
) -> dict[str, Statistics]:
    """Statistics of each layer over the images (N, C, H, W).

    `loss(outputs, generator)` is summed over the batch; None skips the gradients (then `outputs`
    is 1 and `obs` weighs layers by their own outputs). `sample` bounds the positions of an image
    that enter `inputs`. Raises PruningError: no image, a model that cannot be run, NaN.
    """
    found = {name: Statistics.empty(module) for name, module in layers.items()}
    generator = torch.Generator().manual_seed(seed)
    trainable = {p: p.requires_grad for p in model.parameters()}

    def see(name: str, module: Any, inputs: Tensor, output: Tensor) -> None:
        x = L.rows(module, inputs.detach(), sample if loss is None else None)
        found[name].see(L.sampled(x, sample))
        if loss is not None:
            output.register_hook(lambda g: found[name].learn(x, L.output_rows(module, g)))

    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        with L.watching(layers, see), torch.set_grad_enabled(loss is not None):
            for images_ in L.chunks(images, batch):
                outputs = L.forward(model, images_.clone().requires_grad_(loss is not None))
                if loss is not None:
                    loss(outputs, generator).backward()
    finally:
        for parameter, wanted in trainable.items():
            parameter.requires_grad_(wanted)
    means = {name: statistics.mean() for name, statistics in found.items()}
    if loss is None:
        for statistics in means.values():
            statistics.outputs.fill_(1.0)
    return means


def saliencies(
    kind: str,
    layers: L.Layers,
    statistics: Mapping[str, Statistics] | None = None,
    *,
    damping: float = 0.01,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Layer -> saliency of the weight's shape, for the current weights.

    `statistics` (see `collect`) is required if the saliency needs it. Raises PruningError.
    """
    entry = saliency(kind)
    if entry.needs and statistics is None:
        raise PruningError(f"saliency {kind!r} needs calibration images; give --calibration DIR")
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, module in layers.items():
        weight: Tensor = module.weight.detach()
        own = statistics[name] if entry.needs and statistics is not None else None
        layer = Scored(matrix(weight).double(), own, module.bias is not None, damping, generator)
        found[name] = unmatrix(entry.score(layer), weight.shape)
    return found


def standing(value: Tensor, mask: Tensor) -> Tensor:
    """Raises the saliency of kept weights above that of removed ones, also where both are zero.

    So ties restore no removed weight, and a column of a cell keeps its N.
    """
    return torch.where(mask, value.clamp_min(torch.finfo(torch.float32).tiny), 0.0)


@torch.no_grad()
def absorb(layers: L.Layers, masks: Mapping[str, Tensor], statistics: Mapping[str, Statistics]) -> None:
    """Adds the mean contribution of the masked weights to the biases, so that no output's mean changes.

    Call it before the weights are removed; a layer without a bias is unchanged.
    """
    for name, mask in masks.items():
        weight, bias = layers[name].weight, layers[name].bias
        if bias is not None:
            gone = matrix(weight * ~mask).double()
            mean = statistics[name].mean_input[:-1]
            bias += (mean @ gone).float()
