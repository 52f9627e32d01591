# SPDX-License-Identifier: Apache-2.0
"""Trains a pruned classifier to imitate the dense one on a few images, without labels.

Hinton et al., "Distilling the Knowledge in a Neural Network", 2015: cross-entropy between the two
predictions, or the squared difference of the logits, the limit of a high temperature. Batch norms
keep their means and variances.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from drp_slam.pruning import recovery
from drp_slam.pruning.xfeat import distill


def imitate(
    trainer: distill.MaskedTrainer,
    dense: nn.Module,
    images: Tensor,
    seed: int,
    steps: int,
    tie: Callable[[], None] | None = None,
) -> None:
    """Cross-entropy with the dense network's predictions; `tie` runs after each step.

    The network is in evaluation mode. Raises PruningError on a loss that is not finite.
    """

    def loss(batch: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = dense(batch).softmax(1)
        return nn.functional.cross_entropy(trainer.net(batch), wanted)

    batches = augmented(images, seed)
    distill.fit(trainer, batches, loss, steps, after=lambda *_: tie() if tie else None)


def augmented(images: Tensor, seed: int, shift: int = 0) -> Iterator[Tensor]:
    """Endless batches of the images (N, C, H, W), randomly flipped and shifted."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        batch = images[torch.randint(len(images), (32,), generator=generator)]
        flip = torch.rand(len(batch), 1, 1, 1, generator=generator) < 0.5
        yield shifted(torch.where(flip, batch.flip(3), batch), shift, generator)


def shifted(images: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Each image (N, C, H, W) moved by up to `most` pixels down or up and right or left.

    Padding is 0, the mean of normalised images; the memory format is preserved.
    """
    if most == 0:
        return images
    padded = nn.functional.pad(images, (most,) * 4)
    corners = torch.randint(0, 2 * most + 1, (len(images), 2), generator=generator).tolist()
    found = torch.empty_like(images)
    height, width = images.shape[2:]
    for index, (top, left) in enumerate(corners):
        found[index] = padded[index, :, top : top + height, left : left + width]
    return found


def distilled(
    net: nn.Module, dense: nn.Module, masks: Mapping[str, Tensor], images: Tensor, *, seed: int, steps: int, rate: float
) -> None:
    """Trains `net` in place under masks (layer -> tensor of the weight's shape, True = kept).

    The loss is the squared difference of the logits over their variance, as in `prune --retrain`.
    Flips and shifts are those of training CIFAR networks (He et al. 2015, section 4.2).
    Raises PruningError on a loss that is not finite.
    """
    trainer = distill.MaskedTrainer(net.eval(), rate=rate)
    trainer.mask({f"{name}.weight": mask for name, mask in masks.items()})
    loss = recovery.imitation(net, dense)
    distill.fit(trainer, augmented(images, seed, 4), loss, steps)
