# SPDX-License-Identifier: Apache-2.0
"""Reads inputs of any network: images preprocessed as in training, or arrays from .npz files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from drp_slam.decoding import read_image
from drp_slam.errors import DrpAi3Error
from drp_slam.resources import read_npz

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm")
MOST_SAMPLES = 100
"""Largest number of images or arrays for calibration."""

Sample = dict[str, np.ndarray]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Preprocessing:
    """pixel -> (pixel * `scale` - `mean`) / `std`, channels in the network's order.

    `mean` and `std` have one value, or one per channel; `bgr` means blue first; `layout` is `nchw`,
    `nhwc`, or None to infer it from the shape (channels are the axis of size 1 or 3).
    """

    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    bgr: bool = False
    layout: str | None = None


def read_samples(
    path: Path, shapes: Mapping[str, Shape], types: Mapping[str, np.dtype], how: Preprocessing
) -> list[Sample]:
    """At most 100 samples of a folder of images, a folder of .npz files or one .npz file.

    An .npz file names its arrays as the inputs (any name if there is one input); an array has the
    input's shape, or an additional first axis of samples. Raises DrpAi3Error.
    """
    if path.suffix == ".npz" or (path.is_dir() and any(path.glob("*.npz"))):
        files = sorted(path.glob("*.npz")) if path.is_dir() else [path]
        if not files:
            raise DrpAi3Error(f"{path}: a folder without .npz files")
        return [s for file in files for s in _arrays(file, shapes, types)][:MOST_SAMPLES]
    if len(shapes) != 1:
        raise DrpAi3Error(
            f"{path}: the network has {len(shapes)} inputs ({', '.join(shapes)}); "
            "give --run an .npz file with an array for each"
        )
    ((name, shape),) = shapes.items()
    return [{name: image.astype(types[name])} for image in _images(path, shape, how)]


def _arrays(path: Path, shapes: Mapping[str, Shape], types: Mapping[str, np.dtype]) -> Iterator[Sample]:
    arrays = read_npz(path, DrpAi3Error)
    if len(arrays) == len(shapes) == 1:
        arrays = {next(iter(shapes)): next(iter(arrays.values()))}
    counts = set()
    for name, shape in shapes.items():
        if name not in arrays:
            raise DrpAi3Error(f"{path}: has no array {name!r}; it has {', '.join(arrays) or 'none'}")
        given = arrays[name].shape
        if given not in (shape, (*given[:1], *shape)):
            raise DrpAi3Error(f"{path}: {name!r} is {list(given)}, expected {list(shape)} or one axis more in front")
        counts.add(given[0] if given != shape else 1)
    if len(counts) != 1:
        raise DrpAi3Error(
            f"{path}: its arrays hold {', '.join(map(str, sorted(counts)))} samples; expected as many of each"
        )
    for n in range(counts.pop()):
        yield {
            name: np.ascontiguousarray(arrays[name].reshape(-1, *shape)[n], types[name])
            for name, shape in shapes.items()
        }


def _images(folder: Path, shape: Shape, how: Preprocessing) -> list[np.ndarray]:
    """Images as arrays of `shape`; a batch holds consecutive images."""
    import cv2

    batch, channels, height, width, last = _layout(folder, shape, how)
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())[:MOST_SAMPLES]
    if not paths:
        raise DrpAi3Error(f"{folder}: no calibration image; give a folder with {', '.join(SUFFIXES)}, or .npz files")
    mean, std = (np.asarray(v, np.float32) for v in (how.mean, how.std))
    if any(v.size not in (1, channels) for v in (mean, std)) or not std.all():
        raise DrpAi3Error(
            f"--mean {list(how.mean)} and --std {list(how.std)}: expected one value or {channels}, and no std of 0"
        )
    images = []
    for path in paths:
        image = read_image(path, DrpAi3Error, grey=channels != 3)
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA).reshape(height, width, channels)
        image = image if how.bgr else image[:, :, ::-1]
        images.append((image.astype(np.float32) * np.float32(how.scale) - mean) / std)
    samples = []
    for start in range(0, len(images), batch):
        stack = np.stack([images[(start + n) % len(images)] for n in range(batch)])
        samples.append(np.ascontiguousarray(stack if last else stack.transpose(0, 3, 1, 2)).reshape(shape))
    return samples


def _layout(folder: Path, shape: Shape, how: Preprocessing) -> tuple[int, int, int, int, bool]:
    """Batch, channels, height, width, and whether channels come last. Raises DrpAi3Error."""
    if len(shape) == 2:
        return 1, 1, *shape, True
    if len(shape) in (3, 4):
        batch = shape[0] if len(shape) == 4 else 1
        first, second, third = shape[-3:]
        layout = how.layout or ("nchw" if first in (1, 3) else "nhwc" if third in (1, 3) else "")
        if layout == "nchw" and first in (1, 3):
            return batch, first, second, third, False
        if layout == "nhwc" and third in (1, 3):
            return batch, third, first, second, True
    raise DrpAi3Error(
        f"{folder}: the network takes {list(shape)}, no image of 1 or 3 channels; "
        "give --run an .npz file with its input"
    )
