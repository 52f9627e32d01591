# SPDX-License-Identifier: Apache-2.0
"""Short scenes in which things move, made at random from a recording: read `scenes` first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from drp_slam.data import textures
from drp_slam.data.composing import composed, known_poses
from drp_slam.data.moving import Mover, figure, panel, still
from drp_slam.data.sequence import Sequence
from drp_slam.datatypes import Camera, Frame
from drp_slam.errors import DataError

FRAMES = 70
"""Length of a scene."""
STARTS = 8
"""Number of places of the recording at which scenes begin: those that begin at one place share a clean run."""
SHARES = 0.1, 0.9
"""Smallest and largest share of the image that things are to cover, before what stands nearer hides them."""
NEAREST_M = 0.3
"""Things come no nearer."""
MATERIALS = (textures.poster, textures.carton, textures.rug, textures.books, textures.wallpaper, textures.brick)

Opened = Callable[[int, int | None], Sequence]
"""Opens the recording from a frame on, so many frames or all."""
Way = tuple[list[tuple[float, float, float]], list[float], list[float]]
"""Of a board: (time, x, y) with time as a share of the scene and x, y in images from the middle; its distances as
multiples of the nearest; its angles in rad."""
Kind = Callable[[np.random.Generator, float], Way]
"""A way of a board that is a share of the image wide."""


@dataclass(frozen=True)
class Scene:
    """`clean` is the recording that the movers are drawn into; `start` the number of its first frame."""

    number: int
    kind: str
    still: bool
    start: int
    clean: Sequence
    movers: list[Mover]

    def frames(self) -> Iterator[tuple[Frame, np.ndarray]]:
        """Every frame, and (H, W) bool of the pixels that show something that moves."""
        return composed(self.clean, self.movers)


def crosses(rng: np.random.Generator, width: float) -> Way:
    """Through the image, from one side to the other."""
    side, off, y = rng.choice((-1, 1)), 0.5 + 0.5 * width, rng.uniform(-0.1, 0.1)
    begin, end = rng.uniform(0.0, 0.15), rng.uniform(0.5, 1.0)
    return [(begin, -side * off, y), (end, side * off, -y)], [1.0, 1.0], [0.0, 0.0]


def stops(rng: np.random.Generator, width: float) -> Way:
    """Comes, stands, and goes on."""
    side, off, at = rng.choice((-1, 1)), 0.5 + 0.5 * width, rng.uniform(-0.15, 0.15)
    times = np.cumsum(rng.uniform(0.15, 0.3, 3)).tolist()
    ways = [(0.02, -side * off, 0.0), (times[0], at, 0.0), (times[1], at, 0.0), (times[2], side * off, 0.0)]
    return ways, [1.0] * 4, [0.0] * 4


def approaches(rng: np.random.Generator, width: float) -> Way:
    """From far away until it stands before the camera."""
    x, far = rng.uniform(-0.2, 0.2, 2), rng.uniform(1.6, 2.2)
    return [(0.0, x[0], 0.0), (rng.uniform(0.6, 0.9), x[1], 0.0), (1.0, x[1], 0.0)], [far, 1.0, 1.0], [0.0] * 3


def recedes(rng: np.random.Generator, width: float) -> Way:
    """Stands before the camera from the first frame on, and goes away from it."""
    x, rest = rng.uniform(-0.2, 0.2, 2), rng.uniform(0.1, 0.35)
    return [(0.0, x[0], 0.0), (rest, x[0], 0.0), (1.0, x[1], 0.0)], [1.0, 1.0, rng.uniform(1.6, 2.2)], [0.0] * 3


def turns(rng: np.random.Generator, width: float) -> Way:
    """Comes in and turns about its vertical axis to one side and the other."""
    side, off, x = rng.choice((-1, 1)), 0.5 + 0.5 * width, rng.uniform(-0.15, 0.15)
    a = rng.uniform(0.4, 1.0)
    ways = [(0.0, -side * off, 0.0), (0.3, x, 0.0), (0.5, x, 0.0), (0.8, x, 0.0), (1.0, side * off, 0.0)]
    return ways, [1.0] * 5, [0.0, 0.0, side * a, -side * a, 0.0]


def leaves(rng: np.random.Generator, width: float) -> Way:
    """Stands there from the first frame on, and leaves."""
    side, off, x = rng.choice((-1, 1)), 0.5 + 0.5 * width, rng.uniform(-0.2, 0.2)
    rest, gone = rng.uniform(0.05, 0.4), rng.uniform(0.6, 1.0)
    return [(0.0, x, 0.0), (rest, x, 0.0), (gone, side * off, 0.0)], [1.0] * 3, [0.0] * 3


def already_moving(rng: np.random.Generator, width: float) -> Way:
    """Is there in the first frame, and moving."""
    side, off, x = rng.choice((-1, 1)), 0.5 + 0.5 * width, rng.uniform(-0.3, 0.1)
    return [(0.0, side * x, 0.0), (rng.uniform(0.4, 1.0), side * off, 0.0)], [1.0, 1.0], [0.0, 0.0]


BOARDS: dict[str, Kind] = {
    "crosses": crosses,
    "stops and goes": stops,
    "approaches": approaches,
    "recedes": recedes,
    "turns": turns,
    "leaves": leaves,
    "moves from the start": already_moving,
}
KINDS = (*BOARDS, "two at once", "person")
"""What happens in a scene: scene k is of kind k modulo their number."""


def scenes(opened: Opened, count: int, seed: int, pictures: Sequence | None = None) -> Iterator[Scene]:
    """Scenes of all kinds in turn, with a moving and a still camera, from 10 to 80 % of the image.

    Boards show the surfaces of `textures.py` or, half of them, frames of the recording `pictures`. Equal arguments give
    equal scenes. Raises DataError for a recording without ground truth or depth, or shorter than a scene.
    """
    sequence = opened(0, None)
    known = np.isfinite(known_poses(sequence)).all(axis=(1, 2))
    if len(sequence) < FRAMES:
        raise DataError(f"{sequence.name} has {len(sequence)} frames, a moving scene needs {FRAMES}")
    places = np.linspace(0, len(sequence) - FRAMES, STARTS).astype(int)
    places = places[known[places]] if known[places].any() else places
    shown = _pictures(pictures) if pictures is not None else []
    for number in range(count):
        rng = np.random.default_rng([seed, number, 0x5C])
        kind, stands = KINDS[number % len(KINDS)], bool(number // len(KINDS) % 2)
        start = int(rng.choice(places))
        clean = still(opened(start, 1), 0, FRAMES) if stands else opened(start, FRAMES)
        first = next(iter(clean))
        if first.depth is None:
            raise DataError(f"{sequence.name} has no depth, which moving scenes need")
        depth_m = first.depth[(first.depth > 0) & np.isfinite(first.depth)] * first.depth_unit_m
        near_m = max(float(np.percentile(depth_m, 25)) if len(depth_m) else 1.0, NEAREST_M)
        share = SHARES[0] + (SHARES[1] - SHARES[0]) * ((number // len(KINDS) * 0.382 + 0.5 * rng.random()) % 1.0)
        yield Scene(number, kind, stands, start, clean, _movers(rng, kind, clean, near_m, share, shown))


def _movers(
    rng: np.random.Generator, kind: str, clean: Sequence, near_m: float, share: float, shown: list[np.ndarray]
) -> list[Mover]:
    """The things of a scene before a world whose nearer quarter begins at `near_m`."""
    length_s = float(clean.stamps_ns[-1] - clean.stamps_ns[0]) / 1e9
    if kind == "person":
        return _people(rng, clean.camera, length_s, share)
    if kind == "two at once":
        names = rng.choice(list(BOARDS), 2)
        return [_board(rng, BOARDS[str(n)], clean.camera, length_s, near_m, share / 2, shown) for n in names]
    return [_board(rng, BOARDS[kind], clean.camera, length_s, near_m, share, shown)]


def _board(
    rng: np.random.Generator,
    kind: Kind,
    camera: Camera,
    length_s: float,
    near_m: float,
    share: float,
    shown: list[np.ndarray],
) -> Mover:
    height = rng.uniform(max(0.6, share), 1.0)
    width = share / height
    way, away, yaw_rad = kind(rng, width)
    depth_m = max(rng.uniform(0.4, 0.8) * near_m, NEAREST_M)
    if shown and rng.random() < 0.5:
        picture = shown[rng.integers(len(shown))]
    else:
        material = MATERIALS[rng.integers(len(MATERIALS))]
        picture = textures.drawable(material(rng, 420, 640, rng.uniform(300.0, 600.0)))
    timed = [(t * length_s, x, y) for t, x, y in way]
    return panel(camera, picture, (width, height), depth_m, timed, _seen_at(timed, away), away, yaw_rad)


def _seen_at(way: list[tuple[float, float, float]], away: list[float]) -> list[float]:
    """When each point of a way is seen where it says: at its own time, or at that of the point before if it rests."""
    anchor_s: list[float] = []
    for k, (time_s, *at) in enumerate(way):
        rests = k > 0 and (*at, away[k]) == (*way[k - 1][1:], away[k - 1])
        anchor_s.append(anchor_s[-1] if rests else time_s)
    return anchor_s


def _people(rng: np.random.Generator, camera: Camera, length_s: float, share: float) -> list[Mover]:
    """One who walks across, near enough to cover the share; from a half on two, one after the other."""
    count = 1 if share < 0.5 else 2
    movers = []
    for k in range(count):
        z = max(0.6 * camera.fx / (camera.width * share / count), 0.6)
        side, off = rng.choice((-1, 1)), 0.5 * camera.width / camera.fx * z + 0.35
        begin, rest = (0.05 + 0.2 * k) * length_s, rng.uniform(0.0, 0.2) * length_s
        end = begin + rng.uniform(0.35, 0.7) * length_s
        middle, x = 0.5 * (begin + end - rest), rng.uniform(-0.2, 0.2)
        way = [(begin, -side * off, z), (middle, x, z), (middle + rest, x, z), (end, side * off, z)]
        movers.append(figure(int(rng.integers(1 << 30)), way, [begin, middle, middle, end]))
    return movers


def _pictures(sequence: Sequence) -> list[np.ndarray]:
    """Frames of another recording, (h, w, 3)."""
    wanted = set(np.linspace(0, len(sequence) - 1, 6).astype(int).tolist())
    images = [frame.image for frame in sequence if frame.index in wanted and frame.image is not None]
    return [image if image.ndim == 3 else cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) for image in images]
