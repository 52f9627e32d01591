# SPDX-License-Identifier: Apache-2.0
"""What `prune` feeds a network: its input shape, and images of a folder in that shape."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from drp_slam.errors import PruningError
from drp_slam.pruning import images as photographs
from drp_slam.pruning import onnxnet

DYNAMIC_SIDES = (256, 320)
"""H and W used where the file leaves them open and no shape is given."""


def calibration(folder: Path | None, shape: Sequence[int], count: int) -> Tensor:
    """(n, C, H, W) float32. One channel: zero mean, unit variance an image; three: RGB in [0, 1].

    Raises PruningError where there is no image.
    """
    if folder is None:
        raise PruningError("no calibration image: give --calibration DIR with 100 to 500 images")
    _, channels, height, width = shape
    if channels not in (1, 3):
        raise PruningError(f"calibration makes images of 1 or 3 channels; the network takes {channels}")
    files = sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in photographs.SUFFIXES)
    found = []
    for file in files[:: max(1, len(files) // count)][:count]:
        image = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR)
        if image is None:
            raise PruningError(f"{file}: not an image that OpenCV reads; remove it or copy it again")
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        if channels == 1:
            found.append(photographs.normalised(image)[0])
        else:
            found.append(image[:, :, ::-1].transpose(2, 0, 1).astype(np.float32) / 255.0)
    if not found:
        raise PruningError(f"--calibration {folder}: no image below it; give 100 to 500 images")
    return torch.from_numpy(np.ascontiguousarray(np.stack(found)))


def input_shape(net: onnxnet.OnnxNet, given: Sequence[int] | None) -> tuple[int, ...]:
    """(1, C, H, W) of the file, or as given. Raises PruningError where it stays open."""
    value = next(i for i in net.model.graph.input if i.name == net.inputs[0])
    dims = [d.dim_value for d in value.type.tensor_type.shape.dim]
    if given is not None:
        dims = list(given)
    if len(dims) != 4:
        raise PruningError(f"the input has {len(dims)} axes, expected 4 (1, C, H, W); give --shape")
    shape = [1, dims[1], dims[2] or DYNAMIC_SIDES[0], dims[3] or DYNAMIC_SIDES[1]]
    if min(shape) < 1:
        raise PruningError(f"the input's shape {dims} is open; give --shape 1,C,H,W")
    return tuple(shape)
