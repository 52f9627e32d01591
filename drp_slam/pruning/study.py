# SPDX-License-Identifier: Apache-2.0
"""ResNet-20 on CIFAR-10 images, pruned: methods and patterns, with and without training.

The images are split in halves of each class by seed: one to calibrate and recover on, the other to
judge. Two recoveries in closed form, both open to every method: batch-norm means and variances of
the calibration half, or each layer solved again for the dense outputs under the mask
(`surgery.refit`). A third goes on from the second: distillation from the dense network, without
labels. In a comparison of methods the layer rates are the same for all (those of one threshold on
magnitude, which favour magnitude), so that a saliency decides inside a layer; beside it, what
happens where a saliency spends one budget over all layers.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from drp_slam.errors import PruningError
from drp_slam.pruning import imitation, importance, reference, surgery
from drp_slam.pruning import layers as L
from drp_slam.pruning.kept import Kept
from drp_slam.pruning.layout import DEFAULT_CELL, density
from drp_slam.pruning.series import (
    BATCH_NORM,
    DISTILLED,
    REFIT,
    SERIES,
    Series,
    cycles_share,
    pruned,
)

CURVATURE_IMAGES, PLACES, REFIT_PLACES = 64, 64, 32
STEPS, LEARNING_RATE = 150, 2e-3
Say = Callable[[str, float], None]


def halves(labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of two halves with the same number of each class."""
    generator = torch.Generator().manual_seed(seed)
    first, second = [], []
    for label in labels.unique():
        members = (labels == label).nonzero()[:, 0]
        members = members[torch.randperm(len(members), generator=generator)]
        first.append(members[: len(members) // 2])
        second.append(members[len(members) // 2 :])
    return tuple(part[torch.randperm(len(part), generator=generator)]
                 for part in (torch.cat(first), torch.cat(second)))  # type: ignore[return-value]  # fmt: skip


@torch.no_grad()
def recalibrate(model: nn.Module, images: Tensor) -> None:
    """Batch-norm means and variances of these images (one pass, no labels)."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = 1.0
    model.train()
    model(images)
    model.eval()


def curvature(model: nn.Module, images: Tensor) -> dict[str, importance.Statistics]:
    """Of all layers: gradients from a few images, inputs from all.

    A layer without a bias has a batch norm after it, so that the mean of its inputs is left out.
    """
    layers = L.prunable(model)
    found = importance.collect(model, layers, images[:CURVATURE_IMAGES], sample=1)
    wide = importance.collect(model, layers, images, loss=None, sample=PLACES, batch=50)
    for name, statistics in found.items():
        statistics.inputs = wide[name].inputs
        if layers[name].bias is None:
            found[name] = statistics.centred()
    return found


def resnet20(data: Path, seeds: int, say: Say, kept: Kept) -> dict[str, Any]:
    """Accuracy of ResNet-20 against rate for each of `SERIES`, on the half not calibrated on.

    `data` holds `networks/resnet_cifar10/resnet20*.th` and `cifar10_test_1000/<class>/*.jpg`.
    Raises PruningError where they are not there.
    """
    points, base, cpu_s = [], [], 0.0
    for seed in range(seeds):

        def part_of(text: str, part: float, seed: int = seed) -> None:
            say(f"seed {seed}: {text}", (seed + part) / seeds)

        (accuracy, found), seconds = kept(
            f"seed{seed}",
            lambda s=seed, p=part_of: resnet20_seed(data, s, p),  # type: ignore[misc]
        )
        base.append(accuracy)
        points += found
        cpu_s += seconds
    return {"study": "resnet20", "dense_accuracy": sum(base) / seeds, "seeds": seeds,
            "cpu_s": cpu_s, "cell": [DEFAULT_CELL.rows, DEFAULT_CELL.columns], "points": points,
            "means": means(points)}  # fmt: skip


def load(data: Path) -> tuple[nn.Module, Tensor, Tensor]:
    """The given network, images and labels. Raises PruningError where they are not there."""
    weights = sorted((data / "networks" / "resnet_cifar10").glob("resnet20*.th"))
    if not weights:
        raise PruningError(f"{data}: no networks/resnet_cifar10/resnet20*.th; give --data the "
                           "folder that holds it and cifar10_test_1000")  # fmt: skip
    images, labels, _ = reference.cifar_folder(data / "cifar10_test_1000")
    last = torch.channels_last  # twice as fast here
    return (reference.resnet20(weights[0]).to(memory_format=last),  # type: ignore[call-overload]
            images.contiguous(memory_format=last), labels)  # fmt: skip


def resnet20_seed(data: Path, seed: int, say: Say,
                  chosen: Sequence[Series] = SERIES,
                  ) -> tuple[float, list[dict[str, Any]]]:  # fmt: skip
    """One split of the images: the dense accuracy, and a point for each series, rate, recovery."""
    dense, images, labels = load(data)
    positions = L.positions(dense, L.prunable(dense), images[:1])
    use, judge = halves(labels, seed)
    say("calibrating", 0.0)
    statistics = curvature(dense, images[use])
    points = []
    for index, series in enumerate(chosen):
        say(f"{series.method}, {series.pattern}, {series.layer_rates}", index / len(chosen))
        steps = pruned(dense, series, statistics, positions)
        for rate, (model, masks) in zip(series.rates, steps):
            for recovery, twin in recovered(
                model, dense, masks, images[use], series.wanted(rate), seed
            ):
                points.append({
                    "seed": seed, "method": series.method, "pattern": series.pattern,
                    "layer_rates": series.layer_rates, "recovery": recovery, "rate": rate,
                    "density": density(masks), "cycles_share": cycles_share(masks, positions),
                    "accuracy": reference.accuracy(twin, images[judge], labels[judge], 50),
                })  # fmt: skip
    return reference.accuracy(dense, images[judge], labels[judge], 50), points


def recovered(model: nn.Module, dense: nn.Module, masks: Mapping[str, Tensor], images: Tensor,
              wanted: Sequence[str], seed: int) -> Iterator[tuple[str, nn.Module]]:  # fmt: skip
    """A recovered copy for each of the recoveries wanted, with its name; the masks hold.

    `distilled` goes on from the refit: the same steps, images and learning rate for every pattern.
    """
    if BATCH_NORM in wanted:
        twin = copy.deepcopy(model)
        recalibrate(twin, images)
        yield BATCH_NORM, twin
    if not {REFIT, DISTILLED} & set(wanted):
        return
    twin = copy.deepcopy(model)
    surgery.refit(twin, dense, L.prunable(twin), masks, images, sample=REFIT_PLACES, batch=50,
                  damping=0.1)  # fmt: skip
    if REFIT in wanted:
        yield REFIT, twin
    if DISTILLED in wanted:
        twin = copy.deepcopy(twin)
        imitation.distilled(twin, dense, masks, images, seed=seed, steps=STEPS,
                            rate=LEARNING_RATE)  # fmt: skip
        yield DISTILLED, twin


NAMED = ("method", "pattern", "layer_rates", "recovery", "rate")


def means(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Points that differ in their seed only, averaged; `spread` is the deviation of accuracy."""
    groups: dict[tuple, list[dict[str, Any]]] = {}
    for point in points:
        groups.setdefault(tuple(point[k] for k in NAMED), []).append(point)
    found = []
    for names, group in groups.items():
        row: dict[str, Any] = dict(zip(NAMED, names))
        for key in ("density", "cycles_share", "accuracy"):
            row[key] = sum(p[key] for p in group) / len(group)
        accuracy = torch.tensor([p["accuracy"] for p in group])
        row["spread"] = float(accuracy.std()) if len(group) > 1 else None
        found.append(row)
    return found
