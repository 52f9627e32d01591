# SPDX-License-Identifier: Apache-2.0
"""What `prune` feeds a network: images of a folder in its input's shape, or arrays of `.npz` files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import onnx

from drp_slam.errors import PruningError
from drp_slam.pruning import images as photographs
from drp_slam.pruning.onnxgraph import Graph

DYNAMIC_SIDES = (256, 320)
"""H and W used where the file leaves them open and no shape is given."""
Feed = dict[str, np.ndarray]


@dataclass(frozen=True)
class Feeds:
    """Inputs of a network, one item at a time from the disk: `{input: array}` of the file's shapes.

    A fixed batch of B is filled with B images in a row. One channel: zero mean and unit variance an
    image; three: RGB in [0, 1], or BGR. `given` are inputs in memory instead of files.
    """

    shapes: Mapping[str, tuple[int, ...]]
    files: tuple[Path, ...] = ()
    bgr: bool = False
    given: tuple[Feed, ...] = ()

    def __len__(self) -> int:
        return len(self.given) or len(self.files)

    def first(self, count: int) -> Feeds:
        """The first `count` inputs."""
        return replace(self, files=self.files[:count], given=self.given[:count])

    def __getitem__(self, index: int) -> Feed:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        if self.given:
            return self.given[index]
        if self.files[index].suffix == ".npz":
            return self._arrays(self.files[index])
        ((name, shape),) = self.shapes.items()
        batch = [self._image(self.files[(index + k) % len(self.files)], shape) for k in range(shape[0])]
        return {name: np.stack(batch)}

    def __iter__(self) -> Iterator[Feed]:
        return (self[index] for index in range(len(self)))

    def _image(self, file: Path, shape: Sequence[int]) -> np.ndarray:
        _, channels, height, width = shape
        image = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR)
        if image is None:
            raise PruningError(f"{file}: not an image that OpenCV reads; remove it or copy it again")
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        if channels == 1:
            return photographs.normalised(image)[0]
        image = image if self.bgr else image[:, :, ::-1]
        return np.ascontiguousarray(image.transpose(2, 0, 1), np.float32) / np.float32(255.0)

    def _arrays(self, file: Path) -> Feed:
        with np.load(file) as stored:
            if missing := sorted(set(self.shapes) - set(stored)):
                raise PruningError(
                    f"{file}: no array {missing[0]!r}; the network's inputs are {', '.join(self.shapes)}"
                )
            return {name: stored[name] for name in self.shapes}


def feeds(folder: Path | None, graph: Graph, shape: Sequence[int] | None, count: int, bgr: bool = False) -> Feeds:
    """At most `count` inputs, evenly taken from a folder; without a folder, photographs of installed packages.

    A folder with `.npz` files gives arrays by input name: for several inputs, or any preprocessing.
    Raises PruningError where there is none, or where images do not fit the network's input.
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
            raise PruningError("no --calibration DIR, and no installed package carries photographs; give one")
    if found[0].suffix == ".npz":
        return Feeds({value.name: () for value in graph.inputs}, _evenly(found, count))
    size = input_shape(graph, shape)
    if size[1] not in (1, 3):
        raise PruningError(
            f"images have 1 or 3 channels; the network takes {size[1]}: give .npz files with --calibration"
        )
    return Feeds({graph.inputs[0].name: size}, _evenly(found, count), bgr)


def _evenly(files: list[Path], count: int) -> tuple[Path, ...]:
    return tuple(files[:: max(1, len(files) // count)][:count])


def input_shape(graph: Graph, given: Sequence[int] | None) -> tuple[int, ...]:
    """(N, C, H, W) of the one image input: the file's, or as given. Raises PruningError where it stays open."""
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
