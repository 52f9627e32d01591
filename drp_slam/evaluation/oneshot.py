# SPDX-License-Identifier: Apache-2.0
"""Prunes XFeat in one shot, without retraining, and quantises it: turns a point of a sweep into a network."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from drp_slam.errors import PruningError

log = logging.getLogger(__name__)

IMAGES, PRUNING_IMAGES, LONGEST_PX = 16, 12, 448
"""Calibration images for the quantiser, for saliencies that need them, and their longest side."""


def calibration_images(folder: Path | None) -> list[np.ndarray]:
    """Network inputs (1, 1, H, W): images of `folder` and photographs of installed packages.

    Raises PruningError if there is none.
    """
    from drp_slam.pruning import images

    def taken(some: list[np.ndarray], count: int) -> list[np.ndarray]:
        chosen = some[:: max(1, -(-len(some) // count))]
        return [images.normalised(images.fitted(image, LONGEST_PX)) for image in chosen]

    found = taken(images.package_images(), IMAGES // 2 if folder else IMAGES)
    if folder is not None:
        found += taken(images.folder_images(folder), IMAGES // 2)
    if not found:
        raise PruningError("no calibration image: no installed package has photographs; give --calibration DIR")
    return found


def prune(name: str, rate: float, pattern: str, saliency: str, calibration: Sequence[np.ndarray], out: Path) -> Path:
    """Writes `<name>.onnx` (INT8) and its card into `out`; returns the ONNX's path.

    Removes `rate` of the weights of the dense `xfeat-fp32` under one budget for the whole network.
    `obs` also adjusts the remaining weights. Same arguments give the same file. Raises PruningError.
    """
    from drp_slam.drpai3.quantize import quantize
    from drp_slam.pruning import cutting, inputs, onnxgraph
    from drp_slam.pruning.xfeat import export, network, shipping

    graph = onnxgraph.Graph(export.to_onnx(network.xfeat(mapped=True), name))
    if rate > 0:
        batch = _batch(calibration)
        feeds = inputs.Feeds({"tensor": batch.shape}, given=tuple({"tensor": image[None]} for image in batch))
        options = cutting.Options(rate, pattern, saliency)
        cutting.prune(graph, options, feeds, lambda text, part: log.info("%s: %s", name, text))
    path = out / f"{name}.onnx"
    weights = {layer: module.weight.detach().numpy() for layer, module in graph.layers.items()}
    made_by = f"one-shot, rate {rate}, {pattern}, {saliency}, no retraining (a point of a sweep)"
    model = quantize(graph.updated(), calibration, method="percentile")
    shipping.save(path, model, weights, shipping.ORIGIN, "Apache-2.0", made_by)
    return path


def _batch(calibration: Sequence[np.ndarray]) -> np.ndarray:
    """(N, 1, H, W) centre crops of one size, of the images that are large enough."""
    crops, side = [], (256, 320)
    for image in calibration:
        top, left = (image.shape[2] - side[0]) // 2, (image.shape[3] - side[1]) // 2
        if top >= 0 and left >= 0:
            crops.append(image[0, :, top : top + side[0], left : left + side[1]])
    if not crops:
        raise PruningError(
            f"no calibration image of at least {side[1]} x {side[0]} pixels; give larger ones with --calibration DIR"
        )
    step = max(1, len(crops) // PRUNING_IMAGES)
    return np.stack(crops[::step][:PRUNING_IMAGES]).astype(np.float32)
