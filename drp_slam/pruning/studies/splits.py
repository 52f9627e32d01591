# SPDX-License-Identifier: Apache-2.0
"""The given ResNet-20 and CIFAR-10 images, split by seed and calibrated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from drp_slam.errors import PruningError
from drp_slam.pruning import importance
from drp_slam.pruning import prunable as L
from drp_slam.pruning.studies import reference

CURVATURE_IMAGES, PLACES = 64, 64


def load(data: Path) -> tuple[nn.Module, Tensor, Tensor]:
    """The given network, images and labels. Raises PruningError if they are missing."""
    weights = sorted((data / "networks" / "resnet_cifar10").glob("resnet20*.th"))
    if not weights:
        raise PruningError(
            f"{data}: no networks/resnet_cifar10/resnet20*.th; give --data the folder with it and cifar10_test_1000"
        )
    images, labels, _ = reference.cifar_folder(data / "cifar10_test_1000")
    last = torch.channels_last  # twice as fast here
    return (
        reference.resnet20(weights[0]).to(memory_format=last),  # type: ignore[call-overload]
        images.contiguous(memory_format=last),
        labels,
    )


def halves(labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of two halves with the same number of each class."""
    generator = torch.Generator().manual_seed(seed)
    first, second = [], []
    for label in labels.unique():
        members = (labels == label).nonzero()[:, 0]
        members = members[torch.randperm(len(members), generator=generator)]
        first.append(members[: len(members) // 2])
        second.append(members[len(members) // 2 :])
    return tuple(part[torch.randperm(len(part), generator=generator)] for part in (torch.cat(first), torch.cat(second)))  # type: ignore[return-value]


def curvature(model: nn.Module, images: Tensor) -> dict[str, importance.Statistics]:
    """Statistics of all layers: gradients from a few images, inputs from all.

    A layer without a bias has a batch norm after it, so the mean of its inputs is ignored.
    """
    layers = L.prunable(model)
    found = importance.collect(model, layers, images[:CURVATURE_IMAGES], sample=1)
    wide = importance.collect(model, layers, images, loss=None, sample=PLACES, batch=50)
    for name, statistics in found.items():
        statistics.inputs = wide[name].inputs
        if layers[name].bias is None:
            found[name] = statistics.centred()
    return found


@dataclass(frozen=True)
class Split:
    """The images of one seed: `use` for calibration and recovery, `images` and `labels` for testing."""

    seed: int
    dense: nn.Module
    use: Tensor
    images: Tensor
    labels: Tensor
    positions: dict[str, int]
    statistics: dict[str, importance.Statistics]

    @staticmethod
    def of(data: Path, seed: int) -> Split:
        """Loads, splits and calibrates. Raises PruningError if the data are missing."""
        dense, images, labels = load(data)
        use, judge = halves(labels, seed)
        positions = L.positions(dense, L.prunable(dense), images[:1])
        return Split(seed, dense, images[use], images[judge], labels[judge], positions, curvature(dense, images[use]))

    def judge(self, model: nn.Module) -> float:
        """Accuracy on the test half, in [0, 1]."""
        return reference.accuracy(model, self.images, self.labels, 50)
