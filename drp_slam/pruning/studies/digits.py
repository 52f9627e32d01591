# SPDX-License-Identifier: Apache-2.0
"""Scikit-learn's digits, a data set on which training takes seconds and pruning can improve accuracy."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from drp_slam.errors import PruningError, pip_install
from drp_slam.pruning import allocation, importance, selection
from drp_slam.pruning import prunable as L
from drp_slam.pruning.studies import reference
from drp_slam.pruning.studies.checkpoints import Checkpoints

Say = Callable[[str, float], None]
FEW, GAIN_RATES, WRONG = 200, (0.0, 0.5, 0.7, 0.8, 0.9, 0.95), (0.0, 0.2)
"""Number of training digits, rates, and shares of wrong labels."""


def everything() -> tuple[Tensor, Tensor]:
    """Images (1797, 1, 8, 8) in [0, 1] and labels, in the file's order: writer after writer.

    Raises PruningError where scikit-learn is not installed.
    """
    try:
        from sklearn import datasets
    except ImportError as error:
        raise PruningError(f"the digits study needs scikit-learn; {pip_install('drp_slam[prune]')}") from error
    data = datasets.load_digits()
    x = torch.from_numpy((data.images / 16.0).astype(np.float32))[:, None]
    return x, torch.from_numpy(data.target.astype(np.int64))


def load_digits(train: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images and labels: `train` of the first 1000 for training, the last 797 for testing.

    Most writers of the test images differ from those of the training images. Raises PruningError.
    """
    x, y = everything()
    chosen = torch.randperm(1000, generator=torch.Generator().manual_seed(seed))[:train]
    return x[chosen], y[chosen], x[1000:], y[1000:]


def lenet(width: int, seed: int) -> nn.Sequential:
    """Two convolutions and two fully connected layers, like LeNet-5, for 8x8 images."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * width, 8 * width),
        nn.ReLU(),
        nn.Linear(8 * width, 10),
    )


def train(
    net: nn.Module,
    x: Tensor,
    y: Tensor,
    steps: int,
    seed: int,
    rate: float = 2e-3,
    after: Callable[[], None] = lambda: None,
) -> None:
    """Adam on cross-entropy, batches of 64; `after` runs after each step (masks, decay, tying).

    Raises PruningError where the loss is not finite.
    """
    optimiser = torch.optim.Adam(net.parameters(), rate)
    generator = torch.Generator().manual_seed(seed)
    net.train()
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = rate * 0.5 * (1 + np.cos(np.pi * step / steps))
        index = torch.randint(len(x), (64,), generator=generator)
        optimiser.zero_grad()
        loss = F.cross_entropy(net(x[index]), y[index])
        if not torch.isfinite(loss):
            raise PruningError(f"the loss is {loss.item()} at step {step}; lower the learning rate")
        loss.backward()
        optimiser.step()
        after()
    net.eval()


def prune_and_train(
    net: nn.Module, x: Tensor, y: Tensor, rate: float, steps: int, seed: int, stages: int = 3
) -> dict[str, Tensor]:
    """Iterative magnitude pruning with retraining (Han et al. 2015); masks are kept at each step."""
    layers = L.prunable(net)
    masks: dict[str, Tensor] = {}
    for now in allocation.rates("iterative", rate, stages):
        masks = selection.masks(importance.saliencies("magnitude", layers), now, "unstructured", least=0.01)
        L.apply(layers, masks)
        train(net, x, y, steps // stages, seed, 1e-3, lambda m=masks: L.apply(layers, m))  # type: ignore[misc]
    return masks


def regulariser(seeds: int, say: Say, kept: Checkpoints) -> dict[str, Any]:
    """An over-parametrised network on few digits: accuracy against rate, pruned during training.

    With correct labels, and with some wrong ones, which a dense network memorises.
    Every point trains for the same number of steps; the mean over the seeds shows where pruning
    improves on dense.
    """
    points, cpu_s = [], 0.0
    for seed in range(seeds):
        for index, wrong in enumerate(WRONG):

            def part_of(text: str, part: float, done: int = len(WRONG) * seed + index) -> None:
                say(text, (done + part) / (seeds * len(WRONG)))

            found, seconds = kept(f"seed{seed}-wrong{wrong:.0%}", partial(_gains, seed, wrong, part_of))
            points += found
            cpu_s += seconds
    means = [_mean(points, wrong, rate) for wrong in WRONG for rate in GAIN_RATES]
    return {
        "study": "regulariser",
        "train_images": FEW,
        "seeds": seeds,
        "cpu_s": cpu_s,
        "points": points,
        "means": means,
    }


def _mean(points: list[dict[str, Any]], wrong: float, rate: float) -> dict[str, Any]:
    here = [p for p in points if (p["wrong_labels"], p["rate"]) == (wrong, rate)]
    gain = [p["gain"] for p in here]
    spread = float(np.std(gain, ddof=1) / np.sqrt(len(gain))) if len(gain) > 1 else None
    accuracy, learned = (float(np.mean([p[k] for p in here])) for k in ("accuracy", "learned"))
    return {
        "wrong_labels": wrong,
        "rate": rate,
        "accuracy": accuracy,
        "gain": float(np.mean(gain)),
        "gain_standard_error": spread,
        "seeds_that_gain": sum(g > 0 for g in gain),
        "learned": learned,
    }


def _gains(seed: int, wrong: float, say: Say) -> list[dict[str, Any]]:
    """One seed: its own training images, initial weights and wrong labels."""
    x, y, judge, truth = load_digits(FEW, seed)
    y = _spoilt(y, wrong, seed)
    start = lenet(32, seed)
    train(start, x, y, 200, seed)
    points: list[dict[str, Any]] = []
    for index, rate in enumerate(GAIN_RATES):
        say(f"seed {seed}, {wrong:.0%} wrong: {rate:.0%} pruned", index / len(GAIN_RATES))
        net = copy.deepcopy(start)
        prune_and_train(net, x, y, rate, 240, seed)
        accuracy = reference.accuracy(net, judge, truth)
        dense = points[0]["accuracy"] if points else accuracy
        points.append(
            {
                "wrong_labels": wrong,
                "seed": seed,
                "rate": rate,
                "accuracy": accuracy,
                "gain": accuracy - dense,
                "learned": reference.accuracy(net, x, y),
            }
        )
    return points


def _spoilt(labels: Tensor, part: float, seed: int) -> Tensor:
    """Changes a `part` of the labels to another class, drawn by seed."""
    generator, count = torch.Generator().manual_seed(seed), int(part * len(labels))
    which = torch.randperm(len(labels), generator=generator)[:count]
    spoilt = labels.clone()
    spoilt[which] = (spoilt[which] + torch.randint(1, 10, (count,), generator=generator)) % 10
    return spoilt
