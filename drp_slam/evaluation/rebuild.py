# SPDX-License-Identifier: Apache-2.0
"""Rebuilds a shipped network end to end.

Published weights -> chip form -> pruning (and distillation) -> INT8 -> ONNX and card.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from drp_slam.errors import PruningError

if TYPE_CHECKING:
    import onnx

    from drp_slam.pruning.xfeat.network import XFeatChip

log = logging.getLogger(__name__)

ROOMS = range(1, 9)
"""Seeds of the synthetic rooms to train on. The default room, seed 0, is reserved for
evaluation."""


@dataclass(frozen=True)
class Recipe:
    """Whether a network is INT8 (and distilled), and about how long it takes on one idle core
    of a 2024 server (AMD EPYC with bfloat16), all levels before it included."""

    int8: bool
    expected_s: float


RECIPES = {
    "xfeat-fp32": Recipe(int8=False, expected_s=5),
    "xfeat": Recipe(int8=True, expected_s=150),
    "xfeat-p50": Recipe(int8=True, expected_s=270),
    "xfeat-p70": Recipe(int8=True, expected_s=500),
    "xfeat-p80": Recipe(int8=True, expected_s=650),
    "xfeat-p90": Recipe(int8=True, expected_s=1100),
    "xfeat-p95": Recipe(int8=True, expected_s=2600),
    "xfeat-p97": Recipe(int8=True, expected_s=3200),
}


def recipe(name: str) -> Recipe:
    """Raises PruningError that lists the networks with a recipe."""
    if name not in RECIPES:
        raise PruningError(f"no recipe for {name!r}; known: {', '.join(RECIPES)}")
    return RECIPES[name]


def rebuild(name: str, data: Path | None, out: Path, torch_device: str = "cpu") -> dict[str, Any]:
    """Writes NAME.onnx and NAME.yaml to `out`, and those of the intermediate levels."""
    from drp_slam.pruning.xfeat import export, network

    log.warning("rebuilding %s: about %.0f s on one idle core", name, recipe(name).expected_s)
    if recipe(name).int8:
        return distilled(name, data, out, torch_device)
    net = network.pretrained()
    return ship(name, out, export.to_onnx(net, name), net, _command(name, None))


def ship(name: str, out: Path, model: onnx.ModelProto, net: XFeatChip, command: str) -> dict[str, Any]:
    """Writes network and card."""
    from drp_slam.pruning.xfeat.shipping import ORIGIN, save

    path = out / f"{name}.onnx"
    weights = {n: net.conv(n).weight.detach().cpu().numpy() for n in net.convs}
    facts = save(path, model, weights, ORIGIN, "Apache-2.0", command)
    return {
        "onnx": str(path),
        "card": str(path.with_suffix(".yaml")),
        "sha256": facts["sha256"],
        "sparsity": facts["sparsity"]["overall"],
        "bytes": path.stat().st_size,
    }


def distilled(name: str, data: Path | None, out: Path, torch_device: str = "cpu") -> dict[str, Any]:
    """Trains down to `name`, level by level, with a progress bar, and writes each; resumes from the
    checkpoints of an interrupted run in `out`/training. Returns the result of `ship` for the last."""
    from rich.console import Console
    from rich.progress import Progress

    from drp_slam.drpai3.quantize import quantize
    from drp_slam.pruning.xfeat import export, network, training

    if data is None:
        log.warning("no --data: only photographs of installed packages and synthetic rooms")
    folder = out / "training"
    folder.mkdir(parents=True, exist_ok=True)
    shipped: dict[str, Any] = {}

    def keep(level: training.Level, net: XFeatChip, quantiser: Any) -> None:
        blank = [np.zeros((1, 1, 64, 64), np.float32)]  # all scales are known
        model = quantize(export.to_onnx(net, level.name), blank, scales=quantiser.scales())
        shipped.update(ship(level.name, out, model, net, _command(level.name, data)))

    with Progress(console=Console(stderr=True)) as bar:
        tasks: dict[str, Any] = {}

        def progress(level: str, step: int, steps: int, loss: float) -> None:
            if level not in tasks:
                tasks[level] = bar.add_task(level, total=steps)
            bar.update(tasks[level], completed=step, description=f"{level}, loss {loss:.3f}")

        images = training.training_images(data) + renderings()
        net = network.pretrained(mapped=True)
        training.distil(network.pretrained(), net, images, name, keep, folder, progress, device=torch_device)
    return shipped


def _command(name: str, data: Path | None) -> str:
    return f"python -m drp_slam rebuild {name}{' --data DIR' if data else ''} --out models"


def renderings() -> list[np.ndarray]:
    """Every 18th frame of synthetic rooms as their camera sees them, grey."""
    import cv2

    from drp_slam.data import synthetic

    return [
        cv2.cvtColor(frame.image, cv2.COLOR_BGR2GRAY)
        for seed in ROOMS
        for frame in synthetic.render(synthetic.Parameters(seed))
        if frame.index % 18 == 0 and frame.image is not None
    ]
