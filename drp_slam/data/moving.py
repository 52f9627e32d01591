# SPDX-License-Identifier: Apache-2.0
"""Draws moving objects, textured boards and walking figures, into recorded frames.

A mover is an upright picture that moves through the world. It occludes what is behind it and is
occluded by what is nearer; its depth is consistent. Deterministic.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from drp_slam import geometry
from drp_slam.data import textures
from drp_slam.data.sequence import Sequence
from drp_slam.data.trajectory import interpolated
from drp_slam.datatypes import Camera, Frame, Trajectory
from drp_slam.errors import DataError

DEPTH_NOISE_PER_M = 1.425e-3
"""Standard deviation of a structured-light depth in 1/m: times z squared (Khoshelham and Elberink, 2012)."""
IMAGE_NOISE = 3.0
"""Standard deviation of the noise between two frames of a static camera, in grey levels."""


@dataclass(frozen=True)
class Mover:
    """A picture (h, w, 3) uint8 BGR with its outline (h, w) bool, `width_m` wide.

    `relief_m` (h, w) float32 is the height of each texel towards the camera. The centre moves in
    straight lines through `centre_m` (K, 3) at `time_s` (K,), counted from the first frame; outside
    these times nothing is drawn. `centre_m` is in the camera's frame at the time `anchor_s`.
    `step_hz` swings the lower half in two parts, like legs; 0 for none.
    """

    picture: np.ndarray
    outline: np.ndarray
    relief_m: np.ndarray
    width_m: float
    time_s: np.ndarray
    centre_m: np.ndarray
    anchor_s: float = 0.0
    step_hz: float = 0.0


def panel(
    camera: Camera,
    picture: np.ndarray,
    size: tuple[float, float],
    depth_m: float,
    way: list[tuple[float, float, float]],
    anchor_s: float = 0.0,
    depth_end_m: float | None = None,
) -> Mover:
    """A flat mover that covers the shares `size` (width, height) of the image at `depth_m`.

    `way` holds (time_s, x, y): the centre in widths and heights of the image from its middle, at the
    mover's depth, which changes from `depth_m` to `depth_end_m` along the path.
    """
    time_s, x, y = np.array(way, np.float64).T
    z = np.interp(time_s, time_s[[0, -1]], (depth_m, depth_m if depth_end_m is None else depth_end_m))
    height, width = picture.shape[:2]
    wide = round(height * size[0] * camera.width / (size[1] * camera.height))
    picture = np.tile(picture, (1, -(-wide // width), 1))[:, : max(wide, 2)]
    centre_m = np.stack([x * camera.width * z / camera.fx, y * camera.height * z / camera.fy, z], axis=1)
    outline = np.ones(picture.shape[:2], bool)
    width_m = size[0] * camera.width * depth_m / camera.fx
    return Mover(picture, outline, np.zeros(outline.shape, np.float32), width_m, time_s, centre_m, anchor_s)


def figure(seed: int, way: list[tuple[float, float, float]], anchor_s: float = 0.0, height_m: float = 1.75) -> Mover:
    """A walking person-like figure; `way` holds (time_s, x_m, z_m) of its middle in the anchor's frame."""
    rng = np.random.default_rng([seed, 0xF1])
    height, width = 520, 180
    outline = np.zeros((height, width), np.uint8)
    cv2.ellipse(outline, (90, 42), (30, 40), 0, 0, 360, 255, -1)
    cv2.ellipse(outline, (90, 120), (72, 46), 0, 180, 360, 255, -1)
    cv2.rectangle(outline, (18, 118), (162, 290), 255, -1)
    cv2.rectangle(outline, (38, 288), (84, 519), 255, -1)
    cv2.rectangle(outline, (96, 288), (142, 519), 255, -1)
    picture = np.zeros((height, width, 3), np.float32)
    picture[:85] = 20 * textures.fractal(rng, 85, width, 30)[..., None] + (120, 150, 200)
    for rows in (slice(85, 290), slice(290, height)):
        tall = picture[rows].shape[0]
        level = 1 + 0.35 * textures.fractal(rng, tall, width, 40)
        picture[rows] = textures.tinted(level, textures.hue(rng, 120, 140))
    shirt = textures.poster(rng, 150, 110, 250.0)
    picture[125:275, 35:145] = 0.5 * picture[125:275, 35:145] + 0.5 * shirt
    across = (np.arange(width) - width / 2) / (width / 2)
    relief = np.broadcast_to(0.12 * np.sqrt(np.clip(1 - across**2, 0, 1)), outline.shape).astype(np.float32)
    time_s, x, z = np.array(way, np.float64).T
    centre_m = np.stack([x, np.full_like(x, 0.25 * height_m), z], axis=1)  # the camera is at chest height
    return Mover(
        textures.drawable(picture), outline > 0, relief, height_m * width / height, time_s, centre_m, anchor_s, 0.9
    )


def still(sequence: Sequence, index: int, frames: int) -> Sequence:
    """A camera that does not move: repeats frame `index` of a sequence with noise."""
    first = next(frame for frame in sequence if frame.index == index)
    if first.image is None:
        raise DataError(f"{sequence.name}: frame {index} has no image")
    picture, camera = first.image, dataclasses.replace(sequence.camera, fps=15.0)
    stamps_ns = first.stamp_ns + np.round(np.arange(frames) * (1e9 / 15.0)).astype(np.int64)
    truth = Trajectory(stamps_ns, np.tile(np.eye(4), (frames, 1, 1)))

    def source() -> Iterator[Frame]:
        rng = np.random.default_rng(0x57)
        for k, stamp_ns in enumerate(stamps_ns.tolist()):
            noise = rng.normal(0.0, IMAGE_NOISE, picture.shape).astype(np.float32)
            image = np.clip(picture + noise, 0, 255).astype(np.uint8)
            yield Frame(k, stamp_ns, image, camera, first.depth, first.depth_unit_m)

    return Sequence(f"{sequence.name}, still", camera, stamps_ns, truth, source)


def with_movers(sequence: Sequence, movers: list[Mover], name: str) -> Sequence:
    """The sequence with movers in it. Raises DataError without ground truth, which is needed to place them."""
    if sequence.ground_truth is None:
        raise DataError(f"{sequence.name} has no ground truth, which moving objects need")
    poses = interpolated(sequence.ground_truth, sequence.stamps_ns)
    time_s = (sequence.stamps_ns - sequence.stamps_ns[0]) / 1e9
    known = np.flatnonzero(np.isfinite(poses).all(axis=(1, 2)))
    anchors = [poses[known[np.argmin(abs(time_s[known] - m.anchor_s))]] for m in movers]

    def source() -> Iterator[Frame]:
        for frame in sequence:
            T_world_camera = poses[frame.index]
            if not np.isfinite(T_world_camera).all() or frame.depth is None or frame.image is None:
                yield frame
                continue
            image, depth = frame.image.copy(), frame.depth.copy()
            for mover, T_world_anchor in zip(movers, anchors):
                T = geometry.inverse(T_world_camera) @ T_world_anchor
                rng = np.random.default_rng([frame.index, 0xDE])
                _draw(image, depth, frame.depth_unit_m, sequence.camera, mover, T, float(time_s[frame.index]), rng)
            yield dataclasses.replace(frame, image=image, depth=depth)

    return dataclasses.replace(sequence, name=name, source=source)


def _draw(
    image: np.ndarray,
    depth: np.ndarray,
    unit_m: float,
    camera: Camera,
    mover: Mover,
    T_camera_anchor: np.ndarray,
    now_s: float,
    rng: np.random.Generator,
) -> None:
    """Draws a mover at `now_s` where it is nearest."""
    if not mover.time_s[0] <= now_s <= mover.time_s[-1]:
        return
    centre = np.array([np.interp(now_s, mover.time_s, mover.centre_m[:, i]) for i in range(3)])
    centre = geometry.apply(T_camera_anchor, centre[None])[0]
    if centre[2] < 0.25:
        return
    picture, outline, relief = _in_step(mover, now_s)
    height, width = outline.shape
    scale = camera.fx * mover.width_m / (centre[2] * width)
    middle = centre[:2] / centre[2] * (camera.fx, camera.fy) + (camera.cx, camera.cy)
    M = np.array([[scale, 0, middle[0] - scale * width / 2], [0, scale, middle[1] - scale * height / 2]])
    size = (camera.width, camera.height)
    here = cv2.warpAffine(outline.view(np.uint8), M, size, flags=cv2.INTER_NEAREST) > 0
    z = centre[2] - cv2.warpAffine(relief, M, size)
    z += rng.normal(0.0, 1.0, z.shape) * DEPTH_NOISE_PER_M * z * z
    there = depth * np.float64(unit_m)
    here &= ~(there > 0) | (z < there)
    drawn = cv2.warpAffine(picture, M, size)
    image[here] = drawn[here] if image.ndim == 3 else cv2.cvtColor(drawn, cv2.COLOR_BGR2GRAY)[here]
    raw = z / unit_m
    depth[here] = (np.rint(raw) if depth.dtype == np.uint16 else raw)[here].astype(depth.dtype)


def _in_step(mover: Mover, now_s: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Picture, outline and relief with the legs in their position at this time."""
    if mover.step_hz <= 0:
        return mover.picture, mover.outline, mover.relief_m
    height, width = mover.outline.shape
    hip = int(0.55 * height)
    swing = np.float32(0.35 * np.sin(2 * np.pi * mover.step_hz * now_s))
    row, column = np.mgrid[:height, :width].astype(np.float32)
    below = np.maximum(row - hip, 0) * swing
    layers = []
    for side, part in ((1, column < width / 2), (-1, column >= width / 2)):
        own = (mover.outline & (part | (row < hip))).astype(np.uint8)
        moved = [
            cv2.remap(a, column - side * below, row, cv2.INTER_LINEAR) for a in (mover.picture, own, mover.relief_m)
        ]
        layers.append(moved)
    near, far = layers
    front = near[1] > 0
    picture = np.where(front[..., None], near[0], far[0])
    return picture, front | (far[1] > 0), np.where(front, near[2], far[2])
