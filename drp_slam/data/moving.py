# SPDX-License-Identifier: Apache-2.0
"""Things that move through a scene: textured boards and walking figures. `composing.py` draws them into frames."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from drp_slam.data import textures
from drp_slam.data.sequence import Sequence
from drp_slam.datatypes import Camera, Frame, Trajectory
from drp_slam.errors import DataError

IMAGE_NOISE = 3.0
"""Standard deviation of the noise between two frames of a static camera, in grey levels."""


@dataclass(frozen=True)
class Mover:
    """A picture (h, w, 3) uint8 BGR with its outline (h, w) bool, `width_m` wide.

    `relief_m` (h, w) float32 is the height of each texel towards the camera. The centre moves in
    straight lines through `centre_m` (K, 3) at `time_s` (K,), counted from the first frame; outside
    these times nothing is drawn. Each point of the way is in the camera's frame at its `anchor_s` (K,).
    `yaw_rad` (K,) turns it about its vertical axis, 0 for facing against the camera's; None: always 0.
    `step_hz` swings the lower half in two parts, like legs; 0 for none.
    """

    picture: np.ndarray
    outline: np.ndarray
    relief_m: np.ndarray
    width_m: float
    time_s: np.ndarray
    centre_m: np.ndarray
    anchor_s: np.ndarray
    step_hz: float = 0.0
    yaw_rad: np.ndarray | None = None

    def T_world_mover(self, T_world_anchor: np.ndarray, now_s: float) -> np.ndarray | None:
        """(4, 4) pose of its middle at a time, x to the right and y down on the picture; None while it is not there.

        `T_world_anchor` (K, 4, 4) are the camera's poses at `anchor_s`. It is upright in the one from which it is seen
        nearest to the image's middle.
        """
        if not self.time_s[0] <= now_s <= self.time_s[-1]:
            return None
        yaw = 0.0 if self.yaw_rad is None else float(np.interp(now_s, self.time_s, self.yaw_rad))
        facing = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
        way = (T_world_anchor[:, :3, :3] @ self.centre_m[:, :, None])[:, :, 0] + T_world_anchor[:, :3, 3]
        T = T_world_anchor[np.argmin(abs(self.centre_m[:, 0]))].copy()
        T[:3, :3] = T[:3, :3] @ facing
        T[:3, 3] = [np.interp(now_s, self.time_s, way[:, i]) for i in range(3)]
        return T


def panel(
    camera: Camera,
    picture: np.ndarray,
    size: tuple[float, float],
    depth_m: float,
    way: list[tuple[float, float, float]],
    anchor_s: float | list[float] = 0.0,
    away: list[float] | None = None,
    yaw_rad: list[float] | None = None,
) -> Mover:
    """A flat mover that covers the shares `size` (width, height) of the image at `depth_m`.

    `way` holds (time_s, x, y): the centre in widths and heights of the image from its middle, at the
    mover's depth, which is `depth_m` times `away` at each of these times; `yaw_rad` likewise is how far it has turned.
    They are seen from where the camera is at `anchor_s`, one time or one for each.
    """
    time_s, x, y = np.array(way, np.float64).T
    z = depth_m * (np.ones_like(x) if away is None else np.array(away))
    height, width = picture.shape[:2]
    wide = round(height * size[0] * camera.width / (size[1] * camera.height))
    picture = np.tile(picture, (1, -(-wide // width), 1))[:, : max(wide, 2)]
    centre_m = np.stack([x * camera.width * z / camera.fx, y * camera.height * z / camera.fy, z], axis=1)
    outline = np.ones(picture.shape[:2], bool)
    width_m = size[0] * camera.width * depth_m / camera.fx
    turned = None if yaw_rad is None else np.array(yaw_rad)
    relief = np.zeros(outline.shape, np.float32)
    return Mover(picture, outline, relief, width_m, time_s, centre_m, np.full(len(time_s), anchor_s), yaw_rad=turned)


def figure(
    seed: int, way: list[tuple[float, float, float]], anchor_s: float | list[float] = 0.0, height_m: float = 1.75
) -> Mover:
    """A walking person-like figure; `way` holds (time_s, x_m, z_m) of its middle, seen at `anchor_s`."""
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
    anchors_s, width_m = np.full(len(time_s), anchor_s), height_m * width / height
    return Mover(textures.drawable(picture), outline > 0, relief, width_m, time_s, centre_m, anchors_s, 0.9)


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
