# SPDX-License-Identifier: Apache-2.0
"""Making up for what pruning lost: a network imitates its dense self, without labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from drp_slam.pruning import decay
from drp_slam.pruning import prunable as L
from drp_slam.pruning.xfeat import distill


def output_error(wanted: Any, found: Any) -> float:
    """Squared difference of the outputs over their squared deviation from the mean, 0 = equal."""
    pairs = zip(_tensors(wanted), _tensors(found))
    parts = [float((b - a).square().sum() / (a - a.mean()).square().sum().clamp_min(1e-12)) for a, b in pairs]
    return sum(parts) / len(parts)


def _tensors(value: Any) -> Sequence[Tensor]:
    return value if isinstance(value, (tuple, list)) else [value]


def _batches(images: Tensor, seed: int, size: int = 8) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield images[torch.randint(len(images), (min(size, len(images)),), generator=generator)]


def imitation(net: nn.Module, dense: nn.Module) -> Callable[[Tensor], Tensor]:
    """The loss of a batch: how far the outputs are from the dense network's, relative."""

    def loss(batch: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = dense(batch)
        parts = [
            (b - a).square().mean() / a.var().clamp_min(1e-12) for a, b in zip(_tensors(wanted), _tensors(net(batch)))
        ]
        return torch.stack(parts).mean()

    return loss


def retrain(
    net: nn.Module,
    dense: nn.Module,
    layers: L.Layers,
    masks: Mapping[str, Tensor],
    images: Tensor,
    steps: int,
    seed: int,
    checkpoint: Path | None,
    after: Callable[[int, float], None],
) -> None:
    """Distillation from the dense network, without labels, under masks that hold exactly.

    Raises PruningError on a loss that is not finite; `checkpoint` keeps the last good state.
    """
    trainer = distill.MaskedTrainer(net, rate=5e-4)
    trainer.mask({f"{name}.weight": mask for name, mask in masks.items()})
    if checkpoint is not None:  # takes the place of an earlier stage's or run's
        distill.save_checkpoint(trainer.state(), checkpoint)
    distill.fit(trainer, _batches(images, seed), imitation(net, dense), steps, checkpoint, 50, after)


def unit_decay(
    net: nn.Module,
    dense: nn.Module,
    layers: L.Layers,
    images: Tensor,
    seed: int,
    say: Callable[[str, float], None],
    steps: int = 100,
) -> None:
    """Trains on the dense network's own outputs while units decay by their magnitude."""
    shrinking = decay.UnitDecay(layers)

    def after(step: int, loss: float) -> None:
        shrinking.step()
        say(f"weight decay, loss {loss:.4g}", step / steps)

    trainer = distill.MaskedTrainer(net, rate=1e-4)
    distill.fit(trainer, _batches(images, seed), imitation(net, dense), steps, None, 50, after)
