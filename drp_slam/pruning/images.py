# SPDX-License-Identifier: Apache-2.0
"""Images for calibration and distillation: from installed packages, and from a folder of the user.

Packages are located, not imported; missing ones are skipped. Of a sequence
with `associations.txt` or `rgb.txt` the last quarter is never used: it is for evaluation.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from drp_slam.card import INPUT_MULTIPLE
from drp_slam.decoding import read_image
from drp_slam.errors import PruningError

PACKAGE_IMAGES = {
    "skimage": (
        "data/astronaut.png",
        "data/brick.png",
        "data/camera.png",
        "data/chelsea.png",
        "data/coffee.png",
        "data/coins.png",
        "data/grass.png",
        "data/gravel.png",
        "data/hubble_deep_field.jpg",
        "data/motorcycle_left.png",
        "data/motorcycle_right.png",
        "data/page.png",
        "data/rocket.jpg",
        "data/text.png",
    ),
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
    "matplotlib": ("mpl-data/sample_data/grace_hopper.jpg",),
    "gtsam": tuple(f"Data/Balbianello/BalbianelloMedium-{i}.jpg" for i in range(1, 6)),
}
"""Photographs inside the wheels of the test extra."""

INPUT_RANGE = (-2.5, 3.5)
"""Range of normalised grey in int8: one step is 1.4 grey levels at a standard deviation of 60."""

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp"}


def package_files() -> list[Path]:
    """Photographs inside installed packages, in a fixed order."""
    found: list[Path] = []
    for package, names in PACKAGE_IMAGES.items():
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin:
            folder = Path(spec.origin).parent
            found += [folder / name for name in names if (folder / name).is_file()]
    return found


def package_images() -> list[np.ndarray]:
    """Grey photographs of installed packages, (H, W) uint8, in a fixed order."""
    return [grey(file) for file in package_files()]


def folder_images(folder: str | Path) -> list[np.ndarray]:
    """Grey images below a folder, (H, W) uint8, sorted by path.

    Every sequence found (`associations.txt` or `rgb.txt` beside `rgb/`) gives its first three
    quarters only; images outside sequences are all used. Raises PruningError if there is none.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise PruningError(f"--data {folder}: no such folder")
    roots = sorted({p.parent for p in folder.rglob("rgb") if p.is_dir()})
    paths: list[Path] = []
    for root in roots:
        frames = sorted(p for p in (root / "rgb").iterdir() if p.suffix.lower() in SUFFIXES)
        paths += frames[: len(frames) * 3 // 4]
    if not roots:
        paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    images = [image for image in map(grey, paths) if min(image.shape) >= 96]
    if not images:
        raise PruningError(f"--data {folder}: no image of at least 96 x 96 pixels below it")
    return images


def grey(path: Path) -> np.ndarray:
    """(H, W) uint8. Raises PruningError for a file that is no image."""
    return read_image(path, PruningError, grey=True)


def fitted(image: np.ndarray, longest_px: int = 640) -> np.ndarray:
    """Scaled down to `longest_px` and cropped to multiples of 32."""
    factor = min(1.0, longest_px / max(image.shape))
    if factor < 1.0:
        image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    height, width = (n // INPUT_MULTIPLE * INPUT_MULTIPLE for n in image.shape)
    return image[:height, :width]


def normalised(image: np.ndarray) -> np.ndarray:
    """(1, 1, H, W) float32 of zero mean and unit variance: the network's input."""
    x = image.astype(np.float32) / 255.0
    return ((x - x.mean()) / np.sqrt(x.var() + 1e-5))[None, None]


def calibration(images: Iterable[np.ndarray], count: int = 100) -> list[np.ndarray]:
    """About `count` network inputs, evenly spaced."""
    images = list(images)
    step = max(1, -(-len(images) // count))
    return [normalised(fitted(image)) for image in images[::step]]
