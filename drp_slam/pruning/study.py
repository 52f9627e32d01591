# SPDX-License-Identifier: Apache-2.0
"""ResNet-20 on CIFAR-10 images, pruned without a gradient step: methods and patterns side by side.

The images are split in halves of each class by seed: one to calibrate and recover on, the other to
judge. Two recoveries in closed form, both open to every method: batch-norm means and variances of
the calibration half, or each layer solved again for the dense outputs under the mask
(`surgery.refit`). In a comparison of methods the layer rates are the same for all (those of one
threshold on magnitude, which favour magnitude), so that a saliency decides inside a layer; beside
it, what happens where a saliency spends one budget over all layers.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from drp_slam.errors import PruningError
from drp_slam.pruning import importance, patterns, reference, schedule, surgery
from drp_slam.pruning import layers as L
from drp_slam.pruning.kept import Kept
from drp_slam.pruning.layout import DEFAULT_CELL, density, kept_rows

RATES, EXACT_RATES = (0.5, 0.6, 0.7, 0.8, 0.9), (0.5, 0.75, 0.875)
"""`EXACT_RATES` are those that N of 16 meets exactly, 8, 4 and 2."""
BOTH_RATES = tuple(sorted({*RATES, *EXACT_RATES}))
FEW_RATES, PACKED_RATES = (0.5, 0.7, 0.9), (*EXACT_RATES, 0.9)
LEAST = 0.02
CURVATURE_IMAGES, PLACES, REFIT_PLACES = 64, 64, 32
BATCH_NORM, REFIT = "batch norm", "refit"
Say = Callable[[str, float], None]
Rates = float | dict[str, float]


@dataclass(frozen=True)
class Series:
    """One curve: what chooses, under which pattern, with which rates of layers, and recoveries."""

    method: str
    pattern: str = "unstructured"
    layer_rates: str = "magnitude"
    rates: tuple[float, ...] = RATES
    recoveries: tuple[str, ...] = (BATCH_NORM, REFIT)


SERIES = (
    Series("magnitude", recoveries=(BATCH_NORM,)),
    Series("obd", recoveries=(BATCH_NORM,)),
    Series("obs", rates=BOTH_RATES),
    Series("obs", "flexible-nm", rates=PACKED_RATES),
    Series("obs", "fixed-nm", "uniform", EXACT_RATES),
    Series("obs", "flexible-nm", "cycles", (0.5, 0.75, 0.9)),
    Series("obd", layer_rates="global", rates=FEW_RATES, recoveries=(BATCH_NORM,)),
    Series("obd-network", layer_rates="global", rates=FEW_RATES, recoveries=(BATCH_NORM,)),
    Series("magnitude", rates=FEW_RATES, recoveries=(REFIT,)),
    Series("obd", rates=FEW_RATES, recoveries=(REFIT,)),
    Series("obs", layer_rates="global", rates=PACKED_RATES),
    Series("obs", "flexible-nm", "global", PACKED_RATES),
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


def layer_rates(model: nn.Module, kind: str, rate: float) -> Rates:
    """One number under one budget (`global`, `cycles`), or by layer: `uniform`, `magnitude`."""
    weights = {n: m.weight.detach() for n, m in L.prunable(model).items()}  # type: ignore[operator, union-attr]
    if kind in ("global", "cycles"):
        return rate
    if kind == "uniform":
        return schedule.uniform(weights, rate)
    return schedule.by_magnitude(weights, rate, LEAST)


def pruned(dense: nn.Module, series: Series, statistics: Mapping[str, importance.Statistics],
           positions: Mapping[str, int],
           ) -> Iterator[tuple[nn.Module, dict[str, Tensor]]]:  # fmt: skip
    """A network and its masks for each rate in turn; OBS moves weights and starts from 30 %."""
    if series.method == "obs":
        model = copy.deepcopy(dense)
        ways = [layer_rates(dense, series.layer_rates, r) for r in (0.3, *series.rates)]
        steps = surgery.operate(
            L.prunable(model), statistics, ways, series.pattern, least=LEAST,
            positions=positions if series.layer_rates == "cycles" else None)  # fmt: skip
        next(steps)
        for masks in steps:
            yield model, masks
        return
    for rate in series.rates:
        model = copy.deepcopy(dense)
        layers = L.prunable(model)
        values = importance.saliencies(series.method, layers, statistics)
        way = layer_rates(dense, series.layer_rates, rate)
        masks = patterns.masks(values, way, series.pattern, least=LEAST)
        L.apply(layers, masks)
        yield model, masks


def cycles_share(masks: dict[str, Tensor], positions: dict[str, int]) -> float:
    """Packed cycles of the masks over those of the dense layers."""
    packed = sum(kept_rows(m).sum() * positions[n] for n, m in masks.items())
    dense = sum(kept_rows(torch.ones_like(m)).sum() * positions[n] for n, m in masks.items())
    return float(packed / dense)


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
            for recovery in series.recoveries:
                twin = recovered(model, dense, masks, images[use], recovery)
                points.append({
                    "seed": seed, "method": series.method, "pattern": series.pattern,
                    "layer_rates": series.layer_rates, "recovery": recovery, "rate": rate,
                    "density": density(masks), "cycles_share": cycles_share(masks, positions),
                    "accuracy": reference.accuracy(twin, images[judge], labels[judge], 50),
                })  # fmt: skip
    return reference.accuracy(dense, images[judge], labels[judge], 50), points


def recovered(model: nn.Module, dense: nn.Module, masks: Mapping[str, Tensor], images: Tensor,
              recovery: str) -> nn.Module:  # fmt: skip
    """A copy, its batch norms estimated again or its layers solved again under the masks."""
    twin = copy.deepcopy(model)
    if recovery == REFIT:
        surgery.refit(twin, dense, L.prunable(twin), masks, images, sample=REFIT_PLACES, batch=50,
                      damping=0.1)  # fmt: skip
    else:
        recalibrate(twin, images)
    return twin


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
