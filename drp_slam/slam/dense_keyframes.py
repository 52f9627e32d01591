# SPDX-License-Identifier: Apache-2.0
"""Keyframes with image and depth, packed, so that a dense map can be fused again when a loop moves them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from drp_slam.datatypes import Camera, Frame
from drp_slam.geometry import inverse, rotation_vector

JPEG_QUALITY = 90
WIDEST_PX = 400
"""Wider images are halved: at 2 m a voxel of 2 cm is still wider than two of their pixels (focal length 262)."""


@dataclass(frozen=True)
class Packed:
    """A keyframe: image as JPEG, depth as PNG in `depth_unit_m`, and the camera of both."""

    stamp_ns: int
    camera: Camera
    image: bytes
    depth: bytes
    depth_unit_m: float

    def frame(self) -> Frame:
        """The frame; its image is as JPEG leaves it."""
        image = cv2.imdecode(np.frombuffer(self.image, np.uint8), cv2.IMREAD_ANYCOLOR)
        depth = cv2.imdecode(np.frombuffer(self.depth, np.uint8), cv2.IMREAD_UNCHANGED)
        return Frame(0, self.stamp_ns, image, self.camera, depth, self.depth_unit_m)


def packed(frame: Frame) -> Packed:
    """Packs a frame with image and depth, halved until it is at most `WIDEST_PX` wide.

    Depth keeps one of four values: an average over an edge would be a surface that is not there. Float metres become
    steps of 1 mm.
    """
    image, depth, camera, unit_m = frame.image, frame.depth, frame.camera, frame.depth_unit_m
    assert image is not None and depth is not None
    if depth.dtype != np.uint16:
        steps = np.nan_to_num(depth * np.float32(unit_m / 0.001), nan=0.0, posinf=0.0, neginf=0.0)
        depth, unit_m = np.where(steps < 65535.5, np.rint(np.maximum(steps, 0)), 0).astype(np.uint16), 0.001
    while camera.width > WIDEST_PX:
        width, height = camera.width // 2, camera.height // 2
        image = cv2.resize(image[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
        depth = depth[0 : 2 * height : 2, 0 : 2 * width : 2]
        # a new pixel's centre lies between the centres of the old ones; depth is off by a quarter of a new pixel
        camera = dataclasses.replace(
            camera,
            width=width,
            height=height,
            fx=camera.fx / 2,
            fy=camera.fy / 2,
            cx=(camera.cx - 0.5) / 2,
            cy=(camera.cy - 0.5) / 2,
            right=None,
            baseline_m=None,
        )
    small = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
    exact = cv2.imencode(".png", depth, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
    return Packed(frame.stamp_ns, camera, small, exact, unit_m)


class DenseKeyframes:
    """The newest `most` keyframes by stamp, with the poses `T_map_camera` that the map has for them now."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._packed: dict[int, Packed] = {}
        self._T_map_camera: Mapping[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self._packed)

    @property
    def camera(self) -> Camera | None:
        """The camera of the packed frames, None before the first."""
        return next(iter(self._packed.values())).camera if self._packed else None

    def add(self, frame: Frame) -> None:
        """Packs a keyframe with image and depth; drops the oldest one beyond the limit."""
        self._packed[frame.stamp_ns] = packed(frame)
        if len(self._packed) > self._most:
            del self._packed[next(iter(self._packed))]

    def place(self, T_map_camera: Mapping[int, np.ndarray]) -> None:
        """Sets the poses by stamp; a keyframe that is not among them has left the map."""
        self._T_map_camera, newest = T_map_camera, max(T_map_camera, default=0)
        self._packed = {stamp: p for stamp, p in self._packed.items() if stamp in T_map_camera or stamp > newest}

    def placed(self) -> list[int]:
        """Stamps of the keyframes that have a pose, in order."""
        return sorted(stamp for stamp in self._packed if stamp in self._T_map_camera)

    def posed(self, stamps: list[int] | None = None) -> Iterator[tuple[Frame, np.ndarray]]:
        """Frames of these stamps, by default of all placed keyframes, with their `T_map_camera`."""
        for stamp_ns in self.placed() if stamps is None else stamps:
            yield self._packed[stamp_ns].frame(), self._T_map_camera[stamp_ns]


def moved(T_before: np.ndarray, T_after: np.ndarray, by_m: float, at_m: float) -> bool:
    """Whether something `at_m` in front of the camera has moved by more than `by_m`."""
    motion = inverse(T_before) @ T_after
    turn = float(np.linalg.norm(rotation_vector(motion[:3, :3])))
    return float(np.linalg.norm(motion[:3, 3])) + turn * at_m > by_m
