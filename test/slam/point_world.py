# SPDX-License-Identifier: Apache-2.0
"""A world of points with descriptors, seen by a moving RGB-D camera: features without images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drp_slam import geometry
from drp_slam.datatypes import Camera, Features, Frame
from drp_slam.slam.camera import distort

CAMERA = Camera(
    640, 480, 517.3, 516.5, 318.6, 255.3, np.array([0.2624, -0.9531, -0.0054, 0.0026, 1.1633]), 5000.0, 15.0
)
UNIT_M = 0.0002


def frame(index: int, stamp_ns: int, depth: np.ndarray | None) -> Frame:
    """A frame of `CAMERA` without an image."""
    return Frame(index, stamp_ns, None, CAMERA, depth, UNIT_M)


@dataclass
class World:
    """Points on the walls of a box of 4 m around the origin."""

    xyz: np.ndarray
    descriptor: np.ndarray
    rng: np.random.Generator
    noise_px: float = 0.4

    def see(self, T_world_camera: np.ndarray, limit: int = 500) -> tuple[Features, np.ndarray]:
        """Features and a depth image that is right around every feature, zero elsewhere."""
        p = geometry.apply(geometry.inverse(T_world_camera), self.xyz)
        front = np.flatnonzero(p[:, 2] > 0.3)
        uv = distort(CAMERA, p[front, :2] / p[front, 2:])
        plane = np.abs(p[front, :2] / p[front, 2:])
        inside = ((uv > 3) & (uv < (636, 476))).all(axis=1) & (plane < (0.7, 0.6)).all(axis=1)
        seen, uv = front[inside], uv[inside]
        seen, uv = seen[self.rng.permutation(len(seen))[:limit]], uv
        uv = distort(CAMERA, p[seen, :2] / p[seen, 2:])
        depth = np.zeros((480, 640), dtype=np.uint16)
        raw = np.rint(p[seen, 2] / UNIT_M * (1.0 + self.rng.normal(scale=0.002, size=len(seen))))
        order = np.argsort(-raw, kind="stable")  # near points over far ones
        column, row = np.rint(uv).astype(int).T
        for dv in range(-2, 3):
            for du in range(-2, 3):
                depth[row[order] + dv, column[order] + du] = raw[order]
        uv = uv + self.rng.normal(scale=self.noise_px, size=uv.shape)
        d = self.descriptor[seen] + self.rng.normal(scale=0.03, size=(len(seen), 64))
        d /= np.linalg.norm(d, axis=1, keepdims=True)
        score = np.linspace(1.0, 0.1, len(seen))
        return Features(uv.astype(np.float32), score.astype(np.float32), d.astype(np.float32)), depth


def binary(features: Features) -> Features:
    """The signs of 256 fixed projections: what binary descriptors do, with the same points."""
    planes = np.random.default_rng(1).normal(size=(64, 256)).astype(np.float32)
    return Features(features.uv, features.score, np.packbits(features.descriptor @ planes > 0, axis=1))


def make_world(seed: int = 0, count: int = 6000) -> World:
    """Points on six walls, two metres from the middle, with relief."""
    rng = np.random.default_rng(seed)
    xyz = rng.uniform(-2.0, 2.0, (count, 3))
    axis, side = rng.integers(0, 3, count), rng.choice([-1.0, 1.0], count)
    xyz[np.arange(count), axis] = side * rng.uniform(1.6, 2.4, count)
    d = rng.normal(size=(count, 64))
    return World(xyz, d / np.linalg.norm(d, axis=1, keepdims=True), rng)


def walk(count: int, turn_deg: float = 2.0) -> list[np.ndarray]:
    """`T_world_camera` along a circle of 0.5 m, looking outwards, a turn of `turn_deg` a frame."""
    poses = []
    for k in range(count):
        angle = np.radians(turn_deg * k)
        T = geometry.exp(np.array([0.0, 0.0, 0.0, 0.0, angle, 0.0]))
        T[:3, 3] = 0.5 * np.sin(angle), 0.05 * np.sin(3 * angle), 0.5 * np.cos(angle)
        poses.append(T)
    return poses


def ring(seed: int = 0, count: int = 9000, radius_m: float = 5.0) -> World:
    """Points on a round wall of 2.4 m height with relief."""
    rng = np.random.default_rng(seed)
    angle, r = rng.uniform(0, 2 * np.pi, count), radius_m + rng.uniform(-0.5, 0.5, count)
    xyz = np.stack([r * np.sin(angle), rng.uniform(-1.4, 1.4, count), r * np.cos(angle)], axis=1)
    d = rng.normal(size=(count, 64))
    return World(xyz, d / np.linalg.norm(d, axis=1, keepdims=True), rng)


def round_trip(count: int = 135, turn_deg: float = 3.0, radius_m: float = 2.5) -> list[np.ndarray]:
    """`T_world_camera` along a circle, looking outwards: more than once around by default."""
    poses = []
    for k in range(count):
        angle = np.radians(turn_deg * k)
        T = geometry.exp(np.array([0.0, 0.0, 0.0, 0.0, angle, 0.0]))
        T[:3, 3] = radius_m * np.sin(angle), 0.0, radius_m * np.cos(angle)
        poses.append(T)
    return poses


def corridor(period_m: float, seed: int = 0, length_m: float = 16.0) -> World:
    """Walls, floor and ceiling of a straight corridor along z that repeat after `period_m`."""
    rng = np.random.default_rng(seed)
    count = int(600 * period_m)
    xyz = rng.uniform((-1.5, -1.2, 0.0), (1.5, 1.2, period_m), (count, 3))
    side, sign = rng.integers(0, 2, count), rng.choice([-1.0, 1.0], count)
    xyz[np.arange(count), side] = sign * np.array([1.5, 1.2])[side]
    d = rng.normal(size=(count, 64))
    d /= np.linalg.norm(d, axis=1, keepdims=True)
    shifts = np.arange(0.0, length_m, period_m)
    every = np.concatenate([xyz + (0.0, 0.0, z) for z in shifts])
    return World(every, np.tile(d, (len(shifts), 1)), rng)


def sideways(count: int, step_m: float = 0.12) -> list[np.ndarray]:
    """`T_world_camera` straight along z, looking at the wall to the right."""
    poses = []
    for k in range(count):
        T = geometry.exp(np.array([0.0, 0.0, 0.0, 0.0, 0.5 * np.pi, 0.0]))
        T[:3, 3] = 0.0, 0.0, step_m * k
        poses.append(T)
    return poses


def errors_m(poses: list[np.ndarray], index: np.ndarray, T_world_camera: np.ndarray) -> np.ndarray:
    """Distances to the truth, in the frame of the first camera: no alignment."""
    truth = geometry.inverse(poses[0]) @ np.stack(poses)[index]
    return np.linalg.norm(truth[:, :3, 3] - T_world_camera[:, :3, 3], axis=1)
