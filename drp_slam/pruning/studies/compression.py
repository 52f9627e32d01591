# SPDX-License-Identifier: Apache-2.0
"""Deep Compression from end to end: the smallest network without loss of accuracy.

A LeNet-like network trained on scikit-learn's digits, and the given ResNet-20 on CIFAR-10 images.
Every rate is pruned, shared, trained and written; the reported file is chosen on images that are
used neither for training nor for testing: the largest rate up to which the mean over the seeds loses no more
than 0.5 points.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from drp_slam.pruning import allocation, imitation, sharing, surgery
from drp_slam.pruning import deepcompression as dc
from drp_slam.pruning import prunable as L
from drp_slam.pruning.methods import LEAST
from drp_slam.pruning.studies import digits, reference, splits
from drp_slam.pruning.studies.checkpoints import Checkpoints
from drp_slam.pruning.xfeat import distill

PAPER = {"AlexNet": 35.0, "VGG-16": 49.0}
LOST = 0.005
DIGIT_RATES, RESNET_RATES = (0.8, 0.85, 0.9, 0.93, 0.95, 0.97), (0.5, 0.6, 0.7)
DIGIT_BITS, RESNET_BITS = (5, 4), (5, 5)
SETTINGS = DIGIT_RATES, RESNET_RATES, DIGIT_BITS, RESNET_BITS
Split = tuple[Tensor, Tensor]


def compression(seeds: int, data: Path | None, say: digits.Say, kept: Checkpoints) -> dict[str, Any]:
    """Digits for each seed, and ResNet-20 (one split) if `data` has it."""
    runs: dict[str, Callable[[digits.Say], list[dict[str, Any]]]] = {
        f"digits-seed{seed}": partial(_digits, seed) for seed in range(seeds)
    }
    if data is not None:
        runs["resnet20-seed0"] = partial(_resnet20, data, 0)
    points, cpu_s = [], 0.0
    for index, (name, make) in enumerate(runs.items()):

        def part_of(text: str, part: float, index: int = index) -> None:
            say(text, (index + part) / len(runs))

        found, seconds = kept(name, partial(make, part_of))
        points += found
        cpu_s += seconds
    networks = dict.fromkeys(p["network"] for p in points)
    chosen = [p for n in networks for p in best([p for p in points if p["network"] == n])]
    return {"study": "compression", "points": points, "paper": PAPER, "cpu_s": cpu_s, "best": chosen}


def best(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For one network, the point of each seed at the largest rate without loss.

    The loss is the mean over the seeds, on the images for selection.
    """
    found: list[dict[str, Any]] = []
    for rate in sorted({p["rate"] for p in points}):
        here = [p for p in points if p["rate"] == rate]
        lost = [p["dense_choosing_accuracy"] - p["choosing_accuracy"] for p in here]
        if sum(lost) / len(lost) > LOST:
            break
        found = here
    return found


def _digits(seed: int, say: digits.Say) -> list[dict[str, Any]]:
    """750 digits for training, 250 for selection, 797 for testing.

    The selection images are a contiguous part of the file, by seed, so their writers differ, too.
    """
    x, y = digits.everything()
    judge, truth = x[1000:], y[1000:]
    held = torch.zeros(1000, dtype=torch.bool)
    held[250 * (seed % 4) :][:250] = True
    choose, fit = (x[:1000][held], y[:1000][held]), (x[:1000][~held], y[:1000][~held])
    dense = digits.lenet(32, seed)
    digits.train(dense, *fit, 600, seed)
    points = []
    for index, rate in enumerate(DIGIT_RATES):
        say(f"digits, seed {seed}: {rate:.0%} pruned", index / len(DIGIT_RATES))
        small = copy.deepcopy(dense)
        digits.prune_and_train(small, *fit, rate, 450, seed)
        pruned = reference.accuracy(small, judge, truth)

        def train(tie: Any, small: nn.Module = small) -> None:
            digits.train(small, *fit, 100, seed, 3e-4, tie)

        state, shared = sharing.share_and_train(small, DIGIT_BITS, train)
        points.append(
            {"network": "digits", "seed": seed, "rate": rate, "pruned_accuracy": pruned}
            | _file(dense, state, shared, choose, (judge, truth))
        )
    return points


def _resnet20(data: Path, seed: int, say: digits.Say, steps: int = 60) -> list[dict[str, Any]]:
    """OBS, then distillation from the dense network: 350 images for training, 150 for selection."""
    given, images, labels = splits.load(data)
    use, judge = splits.halves(labels, seed)
    fit, choose = images[use[:350]], (images[use[350:]], labels[use[350:]])
    dense = simplified(given)
    statistics = splits.curvature(dense, fit)
    work = copy.deepcopy(dense)
    weights = {n: m.weight.detach() for n, m in L.prunable(dense).items()}
    ways = [allocation.by_magnitude(weights, rate, LEAST) for rate in RESNET_RATES]
    points = []
    operations = surgery.operate(L.prunable(work), statistics, ways, "unstructured")
    for index, (rate, masks) in enumerate(zip(RESNET_RATES, operations)):
        say(f"ResNet-20: {rate:.0%} pruned", index / len(RESNET_RATES))
        small = copy.deepcopy(work)
        surgery.refit(small, dense, L.prunable(small), masks, fit, sample=splits.PLACES, batch=100, damping=0.1)
        trainer = distill.MaskedTrainer(small, rate=5e-4)
        trainer.mask({f"{name}.weight": mask for name, mask in masks.items()})
        imitation.imitate(trainer, dense, fit, seed, steps)
        pruned = reference.accuracy(small, images[judge], labels[judge])

        def train(tie: Any, small: nn.Module = small) -> None:
            trainer = distill.MaskedTrainer(small, rate=2e-4)
            imitation.imitate(trainer, dense, fit, seed, steps // 2, tie)

        state, shared = sharing.share_and_train(small, RESNET_BITS, train)
        found = _file(dense, state, shared, choose, (images[judge], labels[judge]))
        points.append({"network": "ResNet-20", "seed": seed, "rate": rate, "pruned_accuracy": pruned} | found)
    return points


def simplified(model: nn.Module) -> nn.Module:
    """The same function with batch norms of mean 0 and variance 1: only scale and shift remain."""
    model = copy.deepcopy(model).eval()
    with torch.no_grad():
        for m in model.modules():
            if isinstance(m, nn.BatchNorm2d):
                assert m.running_mean is not None and m.running_var is not None
                scale = m.weight / torch.sqrt(m.running_var + m.eps)
                m.bias.sub_(m.running_mean * scale)
                m.weight.copy_(scale)
                m.running_mean.zero_()
                m.running_var.fill_(1.0)
                m.eps = 0.0
    return model


def _file(
    dense: nn.Module, state: dict[str, Any], shared: dict[str, sharing.Shared], choose: Split, judge: Split
) -> dict[str, Any]:
    """Encodes, decodes and tests the result; constants of simplified norms are omitted."""
    kept = {n: v for n, v in state.items() if not n.endswith(("_mean", "_var", "_tracked"))}
    blob, sizes = dc.encode(kept, shared)
    decoded = dc.decode(blob)
    same = all(decoded[n].tobytes() == v.tobytes() for n, v in kept.items())
    back = copy.deepcopy(dense)
    back.load_state_dict({k: torch.from_numpy(v) for k, v in decoded.items()}, strict=False)
    return {
        "accuracy": reference.accuracy(back, *judge),
        "dense_accuracy": reference.accuracy(dense, *judge),
        "choosing_accuracy": reference.accuracy(back, *choose),
        "dense_choosing_accuracy": reference.accuracy(dense, *choose),
        "dense_bytes": sizes.dense_bytes,
        "file_bytes": sizes.file_bytes,
        "ratio": sizes.ratio,
        "weight_bits": sizes.weight_bits,
        "index_bits": sizes.index_bits,
        "bit_for_bit": same,
    }
