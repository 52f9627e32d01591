# SPDX-License-Identifier: Apache-2.0
"""A building of many rooms as points with descriptors, and a long tour through it: features without images.

Rooms lie on a grid; with a door between every two neighbours. A camera sees the points of its own
room, and those of the next ones through the doors. Rendering ten thousand images would take hours without
testing the map any further.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drp_slam.datatypes import Camera, Features

CAMERA = Camera(640, 480, 517.0, 517.0, 319.5, 239.5, fps=15.0)
ROOM_M = np.array([5.0, 4.0])
HEIGHT_M = 2.7
DOOR_M = (1.4, 2.2)
"""Width and height; in the middle of each inner wall."""
PER_M2 = 90.0
"""Points on the walls, floor and ceiling."""
EYE_M, SPEED_M_S = 1.4, 0.9
KEPT = 1000
"""Features of a frame."""
NOISE_PX, NOISE_DESCRIPTOR = 0.4, 0.04
NOISE_DEPTH_1_M = 1.425e-3
"""Standard deviation of the inverse depth of a Kinect (Khoshelham and Elberink, Sensors 2012)."""
REPEATED = 0.35
"""Noise of the ranking of a frame's features, of which the best are kept, so that the points vary."""


@dataclass(frozen=True)
class Building:
    """Points xyz (N, 3) float64 in metres, z up, room by room: those of room r are `first[r]` to `first[r + 1]`.

    `descriptor` (N, 64) float32 of unit length; `strength` (N,) how likely a point is detected.
    """

    rows: int
    columns: int
    xyz: np.ndarray
    descriptor: np.ndarray
    strength: np.ndarray
    first: np.ndarray

    def see(self, T_world_camera: np.ndarray, rng: np.random.Generator, depth_error: float = 1.0) -> Features:
        """Features that `CAMERA` detects from a pose in the building; all depths are multiplied by `depth_error`."""
        R, position = T_world_camera[:3, :3], T_world_camera[:3, 3]
        row, column = np.floor(position[1::-1] / ROOM_M[::-1]).astype(int).tolist()
        found, away = [], []
        for beside in ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)):
            r, c = row + beside[0], column + beside[1]
            if not (0 <= r < self.rows and 0 <= c < self.columns):
                continue
            number = r * self.columns + c
            seen = np.arange(self.first[number], self.first[number + 1])
            p = (self.xyz[seen] - position) @ R
            xy = p[:, :2] / np.maximum(p[:, 2:], 1e-3)
            inside = (p[:, 2] > 0.3) & (np.abs(xy[:, 0]) < 0.61) & (np.abs(xy[:, 1]) < 0.45)
            if any(beside):
                inside[inside] = _through_door(position, self.xyz[seen[inside]], (row, column), beside)
            found.append(seen[inside])
            away.append(p[inside])
        seen, p = np.concatenate(found), np.concatenate(away)
        rank = self.strength[seen] + rng.normal(scale=REPEATED, size=len(seen))
        best = np.argsort(-rank, kind="stable")[:KEPT]
        seen, p = seen[best], p[best]
        uv = p[:, :2] / p[:, 2:] * CAMERA.fx + (CAMERA.cx, CAMERA.cy) + rng.normal(scale=NOISE_PX, size=(len(p), 2))
        d = self.descriptor[seen] + rng.normal(scale=NOISE_DESCRIPTOR, size=(len(seen), 64)).astype(np.float32)
        d /= np.linalg.norm(d, axis=1, keepdims=True)
        depth_m = 1.0 / np.maximum(1.0 / p[:, 2] + rng.normal(scale=NOISE_DEPTH_1_M, size=len(p)), 1e-3)
        score = np.linspace(1.0, 0.1, len(seen)).astype(np.float32)
        return Features(uv.astype(np.float32), score, d, depth_m=(depth_error * depth_m).astype(np.float32))


def _through_door(position: np.ndarray, xyz: np.ndarray, room: tuple[int, int], beside: tuple[int, int]) -> np.ndarray:
    """(N,) bool: the line of sight to points of the room `beside` passes through the door."""
    axis = 0 if beside[1] else 1
    cell = np.array(room[::-1])
    wall = (cell[axis] + (max(beside) > 0)) * ROOM_M[axis]
    middle = (cell[1 - axis] + 0.5) * ROOM_M[1 - axis]
    way = xyz - position
    share = (wall - position[axis]) / np.where(np.abs(way[:, axis]) < 1e-9, 1e-9, way[:, axis])
    across = position[1 - axis] + share * way[:, 1 - axis]
    height = position[2] + share * way[:, 2]
    return (share >= 0) & (share <= 1) & (np.abs(across - middle) < DOOR_M[0] / 2) & (height < DOOR_M[1])


def make_building(rows: int, columns: int, seed: int = 0) -> Building:
    """Rooms of 5 x 4 m with points on their walls, floor and ceiling, and up to 0.3 m before them."""
    rng = np.random.default_rng([seed, 0xB1])
    lx, ly, lz = *ROOM_M, HEIGHT_M
    areas = np.array([ly * lz, ly * lz, lx * lz, lx * lz, lx * ly, lx * ly])
    xyz, first = [], [0]
    for number in range(rows * columns):
        count = int(PER_M2 * areas.sum())
        side = rng.choice(6, count, p=areas / areas.sum())
        p = rng.uniform(size=(count, 3)) * (lx, ly, lz)
        axis, far = side // 2, side % 2
        depth = rng.exponential(0.05, count).clip(max=0.3) * (axis < 2)
        p[np.arange(count), axis] = np.where(far, np.array([lx, ly, lz])[axis] - depth, depth)
        in_door = np.abs(p[np.arange(count), 1 - np.minimum(axis, 1)] - ROOM_M[1 - np.minimum(axis, 1)] / 2)
        p = p[(axis == 2) | (in_door > DOOR_M[0] / 2) | (p[:, 2] > DOOR_M[1])]
        xyz.append(p + (number % columns * lx, number // columns * ly, 0.0))
        first.append(first[-1] + len(p))
    d = rng.standard_normal((first[-1], 64), dtype=np.float32)
    d /= np.sqrt(np.einsum("ij,ij->i", d, d))[:, None]
    return Building(rows, columns, np.concatenate(xyz), d, rng.uniform(size=first[-1]), np.array(first))


def tour(building: Building, frames: int, seed: int = 0) -> np.ndarray:
    """(frames, 4, 4) T_world_camera through the rooms, least visited ones first, looking ahead and around."""
    rng = np.random.default_rng([seed, 0x70])
    step_m = SPEED_M_S / CAMERA.fps
    points = _way(building, frames * step_m + 12.0, rng)
    path = _smooth(points)
    length_m = np.r_[0.0, np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))]
    at_m = step_m * np.arange(frames)
    here, ahead = (np.stack([np.interp(at_m + d, length_m, path[:, i]) for i in range(2)], axis=1) for d in (0.0, 1.0))
    way = ahead - here
    yaw = np.unwrap(np.arctan2(way[:, 1], way[:, 0])) + 0.5 * np.sin(2 * np.pi * at_m / 7.3)
    pitch = 0.1 + 0.08 * np.sin(2 * np.pi * at_m / 3.1)
    height_m = EYE_M + 0.03 * np.sin(2 * np.pi * at_m / 0.9)
    forward = np.stack([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), -np.sin(pitch)], axis=1)
    right = np.stack([np.sin(yaw), -np.cos(yaw), np.zeros(frames)], axis=1)
    T = np.tile(np.eye(4), (frames, 1, 1))
    T[:, :3, 0], T[:, :3, 1], T[:, :3, 2] = right, np.cross(forward, right), forward
    T[:, :2, 3], T[:, 2, 3] = here, height_m
    return T


def _way(building: Building, length_m: float, rng: np.random.Generator) -> np.ndarray:
    """(N, 2) middles of doors, and a place near the middle of each room between them."""
    visits = np.zeros((building.rows, building.columns))
    room, before = (0, 0), (-1, -1)
    points: list[np.ndarray] = []
    total_m = 0.0
    while total_m < length_m:
        visits[room] += 1
        middle = (np.array(room[::-1]) + 0.5) * ROOM_M
        points.append(middle + rng.uniform(-0.5, 0.5, 2))
        beside = [(room[0] + dr, room[1] + dc) for dr, dc in ((0, 1), (1, 0), (0, -1), (-1, 0))]
        beside = [b for b in beside if 0 <= b[0] < building.rows and 0 <= b[1] < building.columns and b != before]
        after = min(beside, key=lambda b: (visits[b] + rng.uniform(0.0, 0.9), b))
        door = (middle + (np.array(after[::-1]) + 0.5) * ROOM_M) / 2
        points.append(door + rng.uniform(-0.15, 0.15, 2))
        room, before = after, room
        total_m = float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())
    return np.array(points)


def _smooth(points: np.ndarray) -> np.ndarray:
    """Catmull-Rom spline through (N, 2) points."""
    p = np.concatenate([points[:1], points, points[-1:]])
    t = np.linspace(0.0, 1.0, 20, endpoint=False)[:, None]
    pieces = [
        0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
        for a, b, c, d in zip(p, p[1:], p[2:], p[3:])
    ]
    return np.concatenate(pieces)
