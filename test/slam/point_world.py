# SPDX-License-Identifier: Apache-2.0
"""A world of points with descriptors, seen by a moving RGB-D camera: features without images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drp_slam.datatypes import Camera, Features
from drp_slam.slam import se3
from drp_slam.slam.camera import distort

CAMERA = Camera(640, 480, 517.3, 516.5, 318.6, 255.3,
                np.array([0.2624, -0.9531, -0.0054, 0.0026, 1.1633]), 5000.0, 15.0)  # fmt: skip
UNIT_M = 0.0002


@dataclass
class World:
    """Points on the walls of a box of 4 m around the origin."""

    xyz: np.ndarray
    descriptor: np.ndarray
    rng: np.random.Generator
    noise_px: float = 0.4

    def see(self, T_world_camera: np.ndarray, limit: int = 500) -> tuple[Features, np.ndarray]:
        """Features and a depth image that is right around every feature, zero elsewhere."""
        p = se3.apply(se3.inverse(T_world_camera), self.xyz)
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
        return Features(
            uv.astype(np.float32), score.astype(np.float32), d.astype(np.float32)
        ), depth


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
        T = se3.exp(np.array([0.0, 0.0, 0.0, 0.0, angle, 0.0]))
        T[:3, 3] = 0.5 * np.sin(angle), 0.05 * np.sin(3 * angle), 0.5 * np.cos(angle)
        poses.append(T)
    return poses
