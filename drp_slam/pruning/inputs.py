# SPDX-License-Identifier: Apache-2.0
"""Inputs for `prune`: images of a folder in the input's shape, or arrays of `.npz` files."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import onnx

from drp_slam.decoding import read_image
from drp_slam.errors import PruningError
from drp_slam.pruning import images as photographs
from drp_slam.pruning.onnxgraph import Graph
from drp_slam.resources import read_npz

DYNAMIC_SIDES = (256, 320)
"""Default H and W for a file with an open shape."""
VIEWS = 64
"""Random views of each image to train on."""
Feed = dict[str, np.ndarray]


@dataclass(frozen=True)
class Feeds:
    """Inputs of a network, one item at a time from the disk: `{input: array}` of the file's shapes.

    A fixed batch of B is filled with B consecutive images. One channel: zero mean and unit variance per
    image; three: RGB in [0, 1], or BGR. `given` are inputs in memory instead of files. With `total`,
    their number is `total`: from the `plain`-th on, random views of the images, drawn by `seed`.
    """

    shapes: Mapping[str, tuple[int, ...]]
    files: tuple[Path, ...] = ()
    bgr: bool = False
    given: tuple[Feed, ...] = ()
    seed: int = 0
    total: int = 0
    plain: int = 0

    def __len__(self) -> int:
        return len(self.given) or self.total or len(self.files)

    @property
    def bytes(self) -> int:
        """What all of them take in memory, as float32."""
        return 4 * len(self) * sum(math.prod(shape) for shape in self.shapes.values())

    def _are_images(self) -> bool:
        return bool(self.files) and self.files[0].suffix != ".npz"

    def augmented(self, seed: int) -> Feeds:
        """Views of the images to train on; arrays are unchanged."""
        return replace(self, seed=seed, total=VIEWS * len(self.files)) if self._are_images() else self

    def filled(self, count: int, seed: int = 0) -> Feeds:
        """The first `count` inputs, filled up with random views if there are fewer images."""
        if len(self) >= count or not self._are_images():
            return self.first(count)
        return replace(self, seed=seed, total=count, plain=len(self.files))

    def first(self, count: int) -> Feeds:
        """The first `count` inputs."""
        return replace(self, files=self.files[:count], given=self.given[:count], total=min(self.total, count))

    def __getitem__(self, index: int) -> Feed:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        if self.given:
            return self.given[index]
        if self.files[index % len(self.files)].suffix == ".npz":
            return self._arrays(self.files[index])
        ((name, shape),) = self.shapes.items()
        return {name: np.stack([self._image(index + k, shape) for k in range(shape[0])])}

    def __iter__(self) -> Iterator[Feed]:
        return (self[index] for index in range(len(self)))

    def _image(self, index: int, shape: Sequence[int]) -> np.ndarray:
        _, channels, height, width = shape
        image = _decoded(self.files[index % len(self.files)], channels == 1)
        if self.total and index >= self.plain:
            image = _view(image, np.random.default_rng([self.seed, index]))
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        if channels == 1:
            return photographs.normalised(image)[0]
        image = image if self.bgr else image[:, :, ::-1]
        return np.ascontiguousarray(image.transpose(2, 0, 1), np.float32) / np.float32(255.0)

    def _arrays(self, file: Path) -> Feed:
        stored = read_npz(file, PruningError)
        if missing := sorted(set(self.shapes) - set(stored)):
            raise PruningError(f"{file}: no array {missing[0]!r}; the network's inputs are {', '.join(self.shapes)}")
        return {name: stored[name] for name in self.shapes}


def feeds(folder: Path | None, graph: Graph, shape: Sequence[int] | None, count: int, bgr: bool = False) -> Feeds:
    """At most `count` inputs, evenly spaced, from a folder; without a folder, photographs of installed packages.

    A folder with `.npz` files gives arrays by input name: for several inputs, or any preprocessing.
    Raises PruningError if there is none, or if images do not fit the network's input.
    """
    found: list[Path] = []
    if folder is not None:
        every = sorted(p for p in Path(folder).rglob("*") if p.is_file())
        found = [p for p in every if p.suffix == ".npz"] or [
            p for p in every if p.suffix.lower() in photographs.SUFFIXES
        ]
        if not found:
            raise PruningError(f"--calibration {folder}: no image and no .npz file below it; give 100 to 500 images")
    else:
        found = photographs.package_files()
        if not found:
            raise PruningError("no --calibration DIR, and no installed package has photographs; give one")
    if found[0].suffix == ".npz":
        return Feeds({value.name: () for value in graph.inputs}, _evenly(found, count))
    size = input_shape(graph, shape)
    if size[1] not in (1, 3):
        raise PruningError(
            f"images have 1 or 3 channels; the network takes {size[1]}: give .npz files with --calibration"
        )
    return Feeds({graph.inputs[0].name: size}, _evenly(found, count), bgr)


@functools.lru_cache(32)
def _decoded(file: Path, grey: bool) -> np.ndarray:
    return read_image(file, PruningError, grey)


def _view(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A window of 20 to 100 % of the area, of another aspect, randomly mirrored, brightened or darkened."""
    height, width = image.shape[:2]
    area, aspect = rng.uniform(0.2, 1.0), np.exp(rng.uniform(-0.3, 0.3))
    h, w = (max(1, int(side * min(1.0, np.sqrt(area) * by))) for side, by in ((height, aspect), (width, 1 / aspect)))
    top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
    image = image[top : top + h, left : left + w]
    if rng.uniform() < 0.5:
        image = image[:, ::-1]
    gain, offset = rng.uniform(0.7, 1.3), rng.uniform(-20, 20)
    return np.clip(image * np.float32(gain) + np.float32(offset), 0, 255).astype(np.uint8)


def _evenly(files: list[Path], count: int) -> tuple[Path, ...]:
    return tuple(files[:: max(1, len(files) // count)][:count])


def input_shape(graph: Graph, given: Sequence[int] | None) -> tuple[int, ...]:
    """(N, C, H, W) of the one image input: the file's, or as given. Raises PruningError if it is still open."""
    if len(graph.inputs) != 1:
        names = ", ".join(value.name for value in graph.inputs)
        raise PruningError(f"the network has {len(graph.inputs)} inputs ({names}): give .npz files with --calibration")
    stored = _dims(graph.inputs[0])
    dims = stored if given is None else list(given)
    if len(dims) != 4:
        raise PruningError(
            f"the input has {len(dims)} axes, expected 4 (N, C, H, W); give --shape, or .npz files with --calibration"
        )
    fixed = [d for d, wanted in zip(stored, dims) if d > 0 and wanted > 0 and d != wanted]
    if given is not None and len(stored) == 4 and fixed:
        raise PruningError(f"--shape {','.join(map(str, dims))}: the file fixes its input to {stored}")
    sides = [d if d > 0 else side for d, side in zip(dims[2:], DYNAMIC_SIDES)]
    shape = (max(dims[0], 1), dims[1], *sides)
    if min(shape) < 1:
        raise PruningError(f"the input's shape {dims} is open; give --shape 1,C,H,W")
    return shape


def _dims(value: onnx.ValueInfoProto) -> list[int]:
    return [d.dim_value for d in value.type.tensor_type.shape.dim]
