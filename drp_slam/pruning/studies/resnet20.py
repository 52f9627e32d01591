# SPDX-License-Identifier: Apache-2.0
"""ResNet-20 on CIFAR-10 images, pruned: methods and patterns, with and without training.

The images are split in halves of each class by seed: one for calibration and recovery, the other for
testing. Two recoveries in closed form, both for every method: batch-norm means and variances of
the calibration half, or each layer refitted to the dense outputs under the mask
(`surgery.refit`). A third continues from the second: distillation from the dense network, without
labels. In a comparison of methods the layer rates are the same for all (those of one threshold on
magnitude, which favour magnitude), so that a saliency decides within a layer; for comparison, a
saliency also distributes one budget over all layers.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from drp_slam.pruning import imitation, surgery
from drp_slam.pruning import prunable as L
from drp_slam.pruning.layout import DEFAULT_CELL, density
from drp_slam.pruning.studies.checkpoints import Checkpoints
from drp_slam.pruning.studies.series import BATCH_NORM, DISTILLED, REFIT, SERIES, Series, cycles_share, pruned
from drp_slam.pruning.studies.splits import Split

REFIT_PLACES, STEPS, LEARNING_RATE = 32, 150, 2e-3
Say = Callable[[str, float], None]


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


def resnet20(data: Path, seeds: int, say: Say, kept: Checkpoints) -> dict[str, Any]:
    """Accuracy of ResNet-20 against rate for each of `SERIES`, on the half not calibrated on.

    `data` holds `networks/resnet_cifar10/resnet20*.th` and `cifar10_test_1000/<class>/*.jpg`.
    Raises PruningError if they are missing.
    """
    split = lru_cache(1)(partial(Split.of, data))
    points, base, cpu_s = [], [], 0.0
    for seed in range(seeds):
        accuracy, seconds = kept(f"seed{seed}-dense", lambda s=seed: split(s).judge(split(s).dense))  # type: ignore[misc]
        base.append(accuracy)
        cpu_s += seconds
        for index, series in enumerate(SERIES):

            def part_of(text: str, part: float, done: int = seed * len(SERIES) + index) -> None:
                say(text, (done + part) / (seeds * len(SERIES)))

            mine = replace(kept, settings=f"{series} {kept.settings}")
            measure: Any = partial(lambda s, c, p: curve(split(s), c, p), seed, series, part_of)
            found, seconds = mine(f"seed{seed}-{series.name}", measure)
            points += found
            cpu_s += seconds
    return {
        "study": "resnet20",
        "dense_accuracy": sum(base) / seeds,
        "seeds": seeds,
        "cpu_s": cpu_s,
        "cell": [DEFAULT_CELL.rows, DEFAULT_CELL.columns],
        "points": points,
        "means": means(points),
    }


def curve(split: Split, series: Series, say: Say) -> list[dict[str, Any]]:
    """A point for each rate and recovery of one series on one split."""
    points = []
    steps = pruned(split.dense, series, split.statistics, split.positions)
    for done, (rate, (model, masks)) in enumerate(zip(series.rates, steps)):
        say(f"seed {split.seed}: {series.name}, {rate:.1%}", done / len(series.rates))
        ways = recovered(model, split.dense, masks, split.use, series.wanted(rate), split.seed)
        for recovery, twin in ways:
            points.append(
                {
                    "seed": split.seed,
                    "method": series.method,
                    "pattern": series.pattern,
                    "layer_rates": series.layer_rates,
                    "recovery": recovery,
                    "rate": rate,
                    "density": density(masks),
                    "cycles_share": cycles_share(masks, split.positions),
                    "accuracy": split.judge(twin),
                }
            )
    return points


def recovered(
    model: nn.Module, dense: nn.Module, masks: Mapping[str, Tensor], images: Tensor, wanted: Sequence[str], seed: int
) -> Iterator[tuple[str, nn.Module]]:
    """A recovered copy for each requested recovery, with its name, under the masks.

    `distilled` continues from the refit: the same steps, images and learning rate for every pattern.
    """
    if BATCH_NORM in wanted:
        twin = copy.deepcopy(model)
        recalibrate(twin, images)
        yield BATCH_NORM, twin
    if not {REFIT, DISTILLED} & set(wanted):
        return
    twin = copy.deepcopy(model)
    surgery.refit(twin, dense, L.prunable(twin), masks, images, sample=REFIT_PLACES, batch=50, damping=0.1)
    if REFIT in wanted:
        yield REFIT, twin
    if DISTILLED in wanted:
        twin = copy.deepcopy(twin)
        imitation.distilled(twin, dense, masks, images, seed=seed, steps=STEPS, rate=LEARNING_RATE)
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
