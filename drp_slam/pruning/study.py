# SPDX-License-Identifier: Apache-2.0
"""Measurements that anyone can repeat: accuracy against rate for every method, on small networks.

`resnet20`: pruning without retraining on CIFAR-10 images, methods and patterns side by side.
"Without retraining" means no gradient step; every method may re-estimate the batch-norm means and
variances on the calibration half. The images are split in halves of each class, by seed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from drp_slam.errors import PruningError
from drp_slam.pruning import importance, patterns, reference, surgery
from drp_slam.pruning import layers as L
from drp_slam.pruning.layout import DEFAULT_CELL, density, kept_rows

RATES = (0.3, 0.5, 0.7, 0.8, 0.9)
JUDGED = (0.5, 0.7, 0.8, 0.9)
METHODS = (("magnitude", "unstructured"), ("obd", "unstructured"), ("obs", "unstructured"),
           ("obs", "flexible-nm"), ("obs", "fixed-nm"),
           ("obs", "flexible-nm by cycles"))  # fmt: skip
CURVATURE_IMAGES, REFIT_IMAGES = 64, 250
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
    model(images[:250])
    model.eval()


def curvature(model: nn.Module, images: Tensor) -> dict[str, importance.Statistics]:
    """Of all layers: gradients from a few images, inputs from all."""
    layers = L.prunable(model)
    found = importance.collect(model, layers, images[:CURVATURE_IMAGES], sample=64)
    wide = importance.collect(model, layers, images, loss=None, sample=64, batch=64)
    for name, statistics in found.items():
        statistics.inputs = wide[name].inputs
    return found


def pruned(model: nn.Module, images: Tensor, method: str, pattern: str, rates: tuple[float, ...],
           dense: dict[str, importance.Statistics],
           positions: dict[str, int]) -> Iterator[dict[str, Tensor]]:  # fmt: skip
    """Prunes the model in place to each rate in turn, yielding the masks.

    OBD takes its curvature again at every rate, as the weights removed change it; OBS works on
    that of the dense network and moves the weights.
    """
    layers = L.prunable(model)
    if method == "obs":
        name, _, by_cycles = pattern.partition(" by ")
        yield from surgery.operate(
            layers, dense, rates, name, positions=positions if by_cycles else None
        )
        return
    masks = {n: torch.ones_like(m.weight, dtype=torch.bool) for n, m in layers.items()}  # type: ignore[arg-type]
    for rate in rates:
        found = {}
        if method != "magnitude":
            found = importance.collect(model, layers, images[:CURVATURE_IMAGES], sample=1)
        values = importance.saliencies(method, layers, found)
        cut = patterns.masks({n: v * masks[n] for n, v in values.items()}, rate, pattern)
        masks = {n: masks[n] & cut[n] for n in masks}
        L.apply(layers, masks)
        recalibrate(model, images)
        yield masks


def cycles_share(masks: dict[str, Tensor], positions: dict[str, int]) -> float:
    """Packed cycles of the masks over those of the dense layers."""
    packed = sum(kept_rows(m).sum() * positions[n] for n, m in masks.items())
    dense = sum(kept_rows(torch.ones_like(m)).sum() * positions[n] for n, m in masks.items())
    return float(packed / dense)


def resnet20(data: Path, seeds: int, say: Say) -> dict[str, Any]:
    """Accuracy of ResNet-20 against rate for each of `METHODS`, on the half not calibrated on.

    `data` holds `networks/resnet_cifar10/resnet20*.th` and `cifar10_test_1000/<class>/*.jpg`.
    Raises PruningError where they are not there.
    """
    points, base = [], []
    for seed in range(seeds):

        def part_of(text: str, part: float, seed: int = seed) -> None:
            say(text, (seed + part) / seeds)

        accuracy, found = resnet20_seed(data, seed, METHODS, part_of)
        base.append(accuracy)
        points += found
    return {"study": "resnet20", "dense_accuracy": sum(base) / seeds, "seeds": seeds,
            "cell": [DEFAULT_CELL.rows, DEFAULT_CELL.columns], "points": points,
            "means": means(points)}  # fmt: skip


def resnet20_seed(data: Path, seed: int, methods: Sequence[tuple[str, str]],
                  say: Say) -> tuple[float, list[dict[str, Any]]]:  # fmt: skip
    """One split of the images: the dense accuracy, and a point for each method and judged rate."""
    weights = sorted((data / "networks" / "resnet_cifar10").glob("resnet20*.th"))
    if not weights:
        raise PruningError(f"{data}: no networks/resnet_cifar10/resnet20*.th; give --data the "
                           "folder that holds it and cifar10_test_1000")  # fmt: skip
    dense = reference.resnet20(weights[0])
    images, labels, _ = reference.cifar_folder(data / "cifar10_test_1000")
    positions = L.positions(dense, L.prunable(dense), images[:1])
    use, judge = halves(labels, seed)
    statistics = curvature(dense, images[use]) if any(m == "obs" for m, _ in methods) else {}
    points = []
    for index, (method, pattern) in enumerate(methods):
        say(f"seed {seed}: {method}, {pattern}", index / len(methods))
        model = copy.deepcopy(dense)
        steps = pruned(model, images[use], method, pattern, RATES, statistics, positions)
        for rate, masks in zip(RATES, steps):
            if rate in JUDGED:
                twin = copy.deepcopy(model)
                if method == "obs":
                    surgery.refit(twin, dense, L.prunable(twin), masks, images[use][:REFIT_IMAGES],
                              sample=64, batch=128)  # fmt: skip
                recalibrate(twin, images[use])
                points.append({
                    "seed": seed, "method": method, "pattern": pattern, "rate": rate,
                    "density": density(masks), "cycles_share": cycles_share(masks, positions),
                    "accuracy": reference.accuracy(twin, images[judge], labels[judge]),
                })  # fmt: skip
    return reference.accuracy(dense, images[judge], labels[judge]), points


def means(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Points of the same method, pattern and rate averaged over the seeds."""
    groups: dict[tuple, list[dict[str, Any]]] = {}
    for point in points:
        groups.setdefault((point["method"], point["pattern"], point["rate"]), []).append(point)
    keys = ("density", "cycles_share", "accuracy")
    return [
        {"method": m, "pattern": p, "rate": r}
        | {k: sum(x[k] for x in group) / len(group) for k in keys}
        for (m, p, r), group in groups.items()
    ]
