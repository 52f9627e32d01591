# SPDX-License-Identifier: Apache-2.0
"""Recovery after pruning: trains a network to imitate the dense one, without labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from drp_slam.pruning import decay
from drp_slam.pruning import prunable as L
from drp_slam.pruning.xfeat import distill

BATCH = 8


class Images(Protocol):
    """Inputs (N, C, H, W) of the network, each with the network's batch size; one tensor of them is accepted, too."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Tensor: ...


def output_error(wanted: Any, found: Any) -> float:
    """Squared difference of the outputs over their squared deviation from the mean, 0 = equal."""
    pairs = zip(_tensors(wanted), _tensors(found))
    parts = [float((b - a).square().sum() / (a - a.mean()).square().sum().clamp_min(1e-12)) for a, b in pairs]
    return sum(parts) / len(parts)


def _tensors(value: Any) -> Sequence[Tensor]:
    return value if isinstance(value, (tuple, list)) else [value]


@torch.no_grad()
def joins(net: nn.Module, images: Images) -> bool:
    """Whether inputs may be concatenated along the batch: tests that two together give the same as each alone.

    Not if a graph fixes its batch, for example in a Reshape.
    """
    pair = images[0], images[len(images) - 1]
    if len(images) == 1 or pair[0].shape[0] > 1:
        return False
    try:
        both = _tensors(net(torch.cat(pair)))
    except (RuntimeError, ValueError, IndexError):
        return False
    alone = [torch.cat(parts) for parts in zip(*(_tensors(net(x)) for x in pair))]
    return all(a.shape == b.shape and torch.allclose(a, b, atol=1e-4, rtol=1e-3) for a, b in zip(alone, both))


def _batches(images: Images, seed: int, joined: bool) -> Iterator[list[Tensor]]:
    """Endless random batches: one tensor if inputs may be concatenated, else one per input."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        index = torch.randint(len(images), (min(BATCH, len(images)),), generator=generator).tolist()
        batch = [images[i] for i in index]
        yield [torch.cat(batch)] if joined else batch


def imitation(net: nn.Module, dense: nn.Module) -> Callable[[Tensor], Tensor]:
    """The loss of a batch: relative difference of the outputs from the dense network's."""

    def loss(batch: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = dense(batch)
        parts = [
            (b - a).square().mean() / a.var().clamp_min(1e-12) for a, b in zip(_tensors(wanted), _tensors(net(batch)))
        ]
        return torch.stack(parts).mean()

    return loss


def _learn(
    trainer: distill.MaskedTrainer,
    dense: nn.Module,
    images: Images,
    steps: int,
    seed: int,
    checkpoint: Path | None,
    after: Callable[[int, float], None],
) -> None:
    one = imitation(trainer.net, dense)
    batches = _batches(images, seed, joins(dense, images))
    distill.fit(
        trainer, batches, lambda batch: torch.stack([one(x) for x in batch]).mean(), steps, checkpoint, 50, after
    )


def retrain(
    net: nn.Module,
    dense: nn.Module,
    layers: L.Layers,
    masks: Mapping[str, Tensor],
    images: Images,
    steps: int,
    seed: int,
    checkpoint: Path | None,
    after: Callable[[int, float], None],
    rate: float = 1e-4,
) -> None:
    """Distillation from the dense network, without labels, under exact masks.

    Raises PruningError on a loss that is not finite; `checkpoint` keeps the last good state.
    """
    trainer = distill.MaskedTrainer(net, rate=rate)
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    trainer.mask({names[id(layers[name].weight)]: mask for name, mask in masks.items()})
    if checkpoint is not None:  # replaces that of an earlier stage or run
        distill.save_checkpoint(trainer.state(), checkpoint)
    _learn(trainer, dense, images, steps, seed, checkpoint, after)


def unit_decay(
    net: nn.Module, dense: nn.Module, layers: L.Layers, images: Images, seed: int, say: Callable[[str, float], None]
) -> None:
    """Trains on the dense network's own outputs while units decay by their magnitude."""
    shrinking, steps = decay.UnitDecay(layers), 100

    def after(step: int, loss: float) -> None:
        shrinking.step()
        say(f"weight decay, loss {loss:.4g}", step / steps)

    _learn(distill.MaskedTrainer(net, rate=1e-4), dense, images, steps, seed, None, after)
