# SPDX-License-Identifier: Apache-2.0
"""Degrades recordings deterministically, for `bench --robustness`. Read `CASES` first."""

from __future__ import annotations

import dataclasses
import pickle
import tempfile
from collections.abc import Callable, Iterator

import cv2
import numpy as np

from drp_slam.data import textures
from drp_slam.data.composing import with_movers
from drp_slam.data.moving import figure, panel, still
from drp_slam.data.sequence import Sequence
from drp_slam.data.trajectory import interpolated
from drp_slam.datatypes import Frame, Trajectory
from drp_slam.errors import DataError

Change = Callable[[Sequence], Sequence]


def selected(sequence: Sequence, index: np.ndarray, stamps_ns: np.ndarray, name: str) -> Sequence:
    """The frames numbered `index` (K,), in that order, under new stamps (K,).

    If the order is not ascending, frames are kept in a temporary file.
    """
    truth = None
    if sequence.ground_truth is not None:
        poses = interpolated(sequence.ground_truth, sequence.stamps_ns)[index]
        known = np.isfinite(poses).all(axis=(1, 2))
        truth = Trajectory(stamps_ns[known], poses[known])
    wanted = {int(i): k for k, i in enumerate(index)}

    def source() -> Iterator[Frame]:
        frames = (frame for frame in sequence if frame.index in wanted)
        ordered = frames if (np.diff(index) > 0).all() else _in_order(frames, wanted)
        for k, frame in enumerate(ordered):
            yield dataclasses.replace(frame, index=k, stamp_ns=int(stamps_ns[k]))

    return Sequence(f"{sequence.name}, {name}", sequence.camera, stamps_ns, truth, source)


def _in_order(frames: Iterator[Frame], place: dict[int, int]) -> Iterator[Frame]:
    """The frames in the order of `place` by their index; only one of them is in memory."""
    with tempfile.TemporaryFile() as file:
        begins: dict[int, int] = {}
        for frame in frames:
            begins[place[frame.index]] = file.tell()
            pickle.dump(frame, file, protocol=5)
        for _, begin in sorted(begins.items()):
            file.seek(begin)
            yield pickle.load(file)


def every_third(sequence: Sequence) -> Sequence:
    """Drops two frames of three."""
    index = np.arange(0, len(sequence), 3)
    return selected(sequence, index, sequence.stamps_ns[index], "every third frame")


def backwards(sequence: Sequence) -> Sequence:
    """Plays from the end to the start."""
    index = np.arange(len(sequence))[::-1].copy()
    return selected(
        sequence, index, sequence.stamps_ns[-1] - sequence.stamps_ns[::-1] + sequence.stamps_ns[0], "reversed"
    )


def kidnapped(sequence: Sequence) -> Sequence:
    """Cuts a fifth of the recording out of the middle, so the camera jumps."""
    first, after = int(0.4 * len(sequence)), int(0.6 * len(sequence))
    index = np.r_[0:first, after : len(sequence)]
    stamps_ns = sequence.stamps_ns[index].copy()
    step_ns = int(np.median(np.diff(sequence.stamps_ns)))
    stamps_ns[first:] -= sequence.stamps_ns[after] - sequence.stamps_ns[first - 1] - step_ns
    return selected(sequence, index, stamps_ns, "kidnap")


def with_dropouts(sequence: Sequence) -> Sequence:
    """Drops four frames of ten at random."""
    kept = np.random.default_rng(0xD0).random(len(sequence)) >= 0.4
    kept[0] = True
    index = np.flatnonzero(kept)
    return selected(sequence, index, sequence.stamps_ns[index], "40 % of the frames dropped")


def changed(sequence: Sequence, name: str, change: Callable[[Frame, np.random.Generator], Frame]) -> Sequence:
    """Passes every frame through a function, with its own random generator."""

    def source() -> Iterator[Frame]:
        for frame in sequence:
            yield change(frame, np.random.default_rng([frame.index, 0xC4]))

    return dataclasses.replace(sequence, name=f"{sequence.name}, {name}", source=source)


def dark(sequence: Sequence) -> Sequence:
    """Reduces the light to an eighth, with sensor noise."""

    def change(frame: Frame, rng: np.random.Generator) -> Frame:
        if frame.image is None:
            return frame
        image = frame.image / 8.0 + rng.normal(0.0, 1.0, frame.image.shape)
        return dataclasses.replace(frame, image=np.clip(image, 0, 255).astype(np.uint8))

    return changed(sequence, "dark", change)


def blur_bursts(sequence: Sequence) -> Sequence:
    """Blurs five of every thirty frames over 24 pixels, each in its own direction."""

    def change(frame: Frame, rng: np.random.Generator) -> Frame:
        if frame.index % 30 < 25 or frame.image is None:
            return frame
        kernel, angle = np.zeros((25, 25), np.float32), rng.uniform(0, np.pi)
        ends = np.array([np.cos(angle), np.sin(angle)]) * 12.0
        cv2.line(
            kernel, tuple(np.rint(12 - ends).astype(int).tolist()), tuple(np.rint(12 + ends).astype(int).tolist()), 1.0
        )
        return dataclasses.replace(frame, image=cv2.filter2D(frame.image, -1, kernel / kernel.sum()))

    return changed(sequence, "blur bursts", change)


def depth_missing(sequence: Sequence) -> Sequence:
    """Removes depth from six of ten blocks of 32 pixels, different ones in every frame."""

    def change(frame: Frame, rng: np.random.Generator) -> Frame:
        if frame.depth is None:
            return frame
        height, width = frame.depth.shape
        kept = rng.random((-(-height // 32), -(-width // 32))) >= 0.6
        mask = np.repeat(np.repeat(kept, 32, 0), 32, 1)[:height, :width]
        return dataclasses.replace(frame, depth=np.where(mask, frame.depth, 0).astype(frame.depth.dtype))

    return changed(sequence, "60 % of the depth missing", change)


def _texture(seed: int, material: textures.Material) -> np.ndarray:
    return textures.drawable(material(np.random.default_rng(seed), 420, 640, 400.0))


def crossing(sequence: Sequence) -> Sequence:
    """A static camera; a board of 40 % of the width crosses, stops in the middle, and moves on."""
    scene = still(sequence, len(sequence) // 4, 120)
    way = [(0.0, -0.75, 0.0), (2.5, -0.05, 0.0), (4.5, -0.05, 0.0), (7.5, 0.75, 0.0)]
    board = panel(scene.camera, _texture(1, textures.poster), (0.4, 0.9), 0.55, way)
    return with_movers(scene, [board], f"{sequence.name}, still, a board crosses")


def leaving(sequence: Sequence) -> Sequence:
    """A static camera; two boards that are present from the first frame leave to both sides."""
    scene = still(sequence, len(sequence) // 2, 100)
    ways = ([(0.0, s * 0.22, 0.0), (2.0, s * 0.22, 0.0), (6.0, s * 0.7, 0.05)] for s in (-1, 1))
    boards = [
        panel(scene.camera, _texture(k, material), (0.2, 0.7), 0.6, way)
        for k, (material, way) in enumerate(zip((textures.carton, textures.rug), ways))
    ]
    return with_movers(scene, boards, f"{sequence.name}, still, two boards leave")


def people(sequence: Sequence) -> Sequence:
    """Person-like figures walk across the view of the moving camera every five seconds."""
    length_s = float(sequence.stamps_ns[-1] - sequence.stamps_ns[0]) / 1e9
    figures = []
    for k, start_s in enumerate(np.arange(1.5, max(length_s - 3.0, 2.0), 5.0).tolist()):
        side = 1.0 if k % 2 else -1.0
        way = [(start_s, -1.2 * side, 0.95), (start_s + 4.0, 1.2 * side, 0.95)]
        figures.append(figure(k, way, anchor_s=start_s + 1.5))
    return with_movers(sequence, figures, f"{sequence.name}, people walk across")


CASES: dict[str, Change] = {
    "as recorded": lambda sequence: sequence,
    "every third frame": every_third,
    "reversed": backwards,
    "kidnap": kidnapped,
    "40 % of frames dropped": with_dropouts,
    "dark": dark,
    "blur bursts": blur_bursts,
    "60 % of depth missing": depth_missing,
    "still, board crosses": crossing,
    "still, boards leave": leaving,
    "people walk across": people,
}
"""Every case, by its name in the table."""


SCENES = "moving scenes"
"""Not a change of the recording, but many short scenes made from it: `data/moving_scenes.py`."""


def cases(names: str) -> dict[str, Change]:
    """Cases whose names contain one of the words, separated by commas; all for "". Raises DataError for none.

    Without any where only `SCENES` is named.
    """
    words = _words(names)
    found = {name: change for name, change in CASES.items() if not words or any(word in name for word in words)}
    if not found and not scenes_named(names):
        raise DataError(f"no case is called {names!r}; there are: {', '.join((*CASES, SCENES))}")
    return found


def scenes_named(names: str) -> bool:
    """Whether one of the words names the moving scenes."""
    return any(word in SCENES for word in _words(names))


def _words(names: str) -> list[str]:
    return [word.strip() for word in names.split(",") if word.strip()]
