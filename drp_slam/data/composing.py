# SPDX-License-Identifier: Apache-2.0
"""Draws moving things into recorded frames.

A mover is drawn as the camera would see it, through its lens. It occludes what is behind it and is occluded by what
is nearer; its depth is consistent. Deterministic.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import cv2
import numpy as np

from drp_slam import geometry
from drp_slam.data.moving import Mover
from drp_slam.data.registration import image_plane
from drp_slam.data.sequence import Sequence
from drp_slam.data.trajectory import interpolated
from drp_slam.datatypes import Frame
from drp_slam.errors import DataError

DEPTH_NOISE_PER_M = 1.425e-3
"""Standard deviation of a structured-light depth in 1/m: times z squared (Khoshelham and Elberink, 2012)."""
NEAREST_M = 0.25
"""A mover whose middle is nearer than this, or behind the camera, is not drawn."""


def with_movers(sequence: Sequence, movers: list[Mover], name: str) -> Sequence:
    """The sequence with movers in it. Raises DataError without ground truth, which is needed to place them."""
    known_poses(sequence)
    return dataclasses.replace(sequence, name=name, source=lambda: (frame for frame, _ in composed(sequence, movers)))


def known_poses(sequence: Sequence) -> np.ndarray:
    """(N, 4, 4) `T_world_camera` of every frame, NaN where unknown. Raises DataError without ground truth."""
    if sequence.ground_truth is None:
        raise DataError(f"{sequence.name} has no ground truth, which moving objects need")
    poses = interpolated(sequence.ground_truth, sequence.stamps_ns)
    if not np.isfinite(poses).all(axis=(1, 2)).any():
        raise DataError(f"{sequence.name} has no ground truth at its frames, which moving objects need")
    return poses


def composed(sequence: Sequence, movers: list[Mover]) -> Iterator[tuple[Frame, np.ndarray]]:
    """Every frame with the movers in it, and (H, W) bool of the pixels that show one."""
    poses, camera = known_poses(sequence), sequence.camera
    time_s = (sequence.stamps_ns - sequence.stamps_ns[0]) / 1e9
    known = np.flatnonzero(np.isfinite(poses).all(axis=(1, 2)))
    anchors = [poses[known[np.argmin(abs(time_s[known] - m.anchor_s[:, None]), axis=1)]] for m in movers]
    rays = image_plane(camera).reshape(camera.height, camera.width, 2).astype(np.float32)
    rays = np.concatenate([rays, np.ones_like(rays[..., :1])], axis=2)
    for frame in sequence:
        T_world_camera, shown = poses[frame.index], np.zeros((camera.height, camera.width), dtype=bool)
        if not np.isfinite(T_world_camera).all() or frame.depth is None or frame.image is None:
            yield frame, shown
            continue
        image, depth = frame.image.copy(), frame.depth.copy()
        for mover, T_world_anchor in zip(movers, anchors):
            now_s = float(time_s[frame.index])
            T_world_mover = mover.T_world_mover(T_world_anchor, now_s)
            if T_world_mover is not None:
                T = geometry.inverse(T_world_camera) @ T_world_mover
                rng = np.random.default_rng([frame.index, 0xDE])
                shown |= _draw(image, depth, frame.depth_unit_m, rays, mover, T, now_s, rng)
        yield dataclasses.replace(frame, image=image, depth=depth), shown


def _draw(
    image: np.ndarray,
    depth: np.ndarray,
    unit_m: float,
    rays: np.ndarray,
    mover: Mover,
    T_camera_mover: np.ndarray,
    now_s: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draws a mover at `now_s` where it is nearest; returns (H, W) bool of where that is. `rays` is (H, W, 3)."""
    nowhere = np.zeros(depth.shape, dtype=bool)
    if T_camera_mover[2, 3] < NEAREST_M:
        return nowhere
    picture, outline, relief = _in_step(mover, now_s)
    height, width = outline.shape
    texel_m = mover.width_m / width
    to_mover = np.array([[texel_m, 0, -texel_m * width / 2], [0, texel_m, -texel_m * height / 2], [0, 0, 1.0]])
    H = np.column_stack([T_camera_mover[:3, :2], T_camera_mover[:3, 3]]) @ to_mover
    if abs(np.linalg.det(H)) < 1e-9:  # seen edge-on
        return nowhere
    # H (column, row, 1) = z ray, so the inverse of a ray is (column, row, 1) / z
    column, row, inverse_m = cv2.split(cv2.transform(rays, np.linalg.inv(H)))
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (1.0 / inverse_m).astype(np.float32)
        at = np.where(inverse_m > 0, column * z, -1e4), np.where(inverse_m > 0, row * z, -1e4)
    at = at[0].astype(np.float32), at[1].astype(np.float32)
    here = cv2.remap(outline.view(np.uint8), *at, cv2.INTER_NEAREST) > 0
    z -= cv2.remap(relief, *at, cv2.INTER_LINEAR)
    z += (rng.normal(0.0, 1.0, z.shape) * DEPTH_NOISE_PER_M * z * z).astype(np.float32)
    there = depth * np.float64(unit_m)
    here &= (inverse_m > 0) & (~(there > 0) | (z < there))
    drawn = cv2.remap(picture, *at, cv2.INTER_LINEAR)
    image[here] = drawn[here] if image.ndim == 3 else cv2.cvtColor(drawn, cv2.COLOR_BGR2GRAY)[here]
    raw = z / unit_m
    depth[here] = (np.rint(raw) if depth.dtype == np.uint16 else raw)[here].astype(depth.dtype)
    return here


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
