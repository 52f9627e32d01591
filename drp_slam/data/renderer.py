# SPDX-License-Identifier: Apache-2.0
"""Renders textured rectangles for a pinhole camera.

Two passes: the nearest rectangle of each pixel by its plane's inverse depth, which is linear in
the pixel; then one texture look-up per pixel, at the level of detail of its footprint.
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from drp_slam.data.room import Rectangle

LEVELS = 4
FINEST = 2.6
"""Texels under a pixel, squared, from which level 1 is used; each further level at 4 times more."""
NEAR_M = 0.05
ATLAS_WIDTH = 4096
LAMPS_M = np.array([[1.2, 0.6, 2.6], [-1.4, -0.8, 2.6]])


class Renderer:
    """Renders the room for a pinhole camera without distortion."""

    def __init__(self, room: list[Rectangle], rng: np.random.Generator, size: tuple[int, int], K: np.ndarray) -> None:
        # finer textures are invisible in a small image and take a second to draw
        detail = min(max(size[0] / 640, 0.25), 1.0)
        room = [dataclasses.replace(r, texels_per_m=r.texels_per_m * detail) for r in room]
        self.room, (self.width, self.height), self.K = room, size, K
        self.atlas, self.corner = _atlas(room, rng)
        self.u = ((np.arange(self.width) - K[0, 2]) / K[0, 0]).astype(np.float32)
        self.v = ((np.arange(self.height) - K[1, 2]) / K[1, 1]).astype(np.float32)
        self.ray = np.sqrt(1 + self.u[None, :] ** 2 + self.v[:, None] ** 2)
        self.corners = np.array([r.corners for r in room])
        self.axes = np.array([[r.right, r.down] for r in room])
        self.normal = np.cross(self.axes[:, 1], self.axes[:, 0])
        self.ppm = np.array([r.texels_per_m for r in room])
        self.solid = np.array([r.solid for r in room])

    def render(self, T_world_camera: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(H, W, 3) uint8 BGR, depth (H, W) float32 m, cosine of incidence, solid (H, W) bool."""
        R, c = T_world_camera[:3, :3], T_world_camera[:3, 3]
        inverse = np.zeros((self.height, self.width), np.float32)
        face = np.zeros((self.height, self.width), np.intp)
        # all rectangles into the camera's frame at once
        corners, normal = (self.corners - c) @ R, self.normal @ R
        origin, axes = corners[:, 0], self.axes @ R * self.ppm[:, None, None]
        distance = (normal * origin).sum(1)
        distance[np.abs(distance) < 1e-4] = 1e-4  # seen edge-on: not drawn
        slope = normal / distance[:, None]
        start = self.corner - (axes @ origin[:, :, None])[..., 0]
        plane = np.zeros((len(self.room), 10), np.float32)
        plane[:, :8] = np.concatenate([axes, start[..., None]], axis=2).reshape(-1, 8)
        plane[:, 8], plane[:, 9] = -distance, (self.ppm / self.K[0, 0]) ** 2 / -distance
        for k in np.flatnonzero(distance < -1e-4).tolist():
            outline = self._outline(corners[k])
            if outline is not None:
                self._nearest(k, outline, slope[k].astype(np.float32), inverse, face)
        return self._shade(inverse, face, plane)

    def _outline(self, corners: np.ndarray) -> np.ndarray | None:
        """(M, 2) convex outline in pixels, clipped to the view; None if nothing is visible."""
        fx, fy, cx, cy = self.K[0, 0], self.K[1, 1], self.K[0, 2], self.K[1, 2]
        for normal, limit in (
            ((0, 0, 1), NEAR_M),
            ((fx, 0, cx + 1), 0.0),
            ((-fx, 0, self.width - cx), 0.0),
            ((0, fy, cy + 1), 0.0),
            ((0, -fy, self.height - cy), 0.0),
        ):
            side = corners @ np.array(normal) - limit
            if side.max() <= 0:
                return None
            if side.min() < 0:
                corners = _cut(corners, side)
        return corners[:, :2] / corners[:, 2:] * (fx, fy) + (cx, cy)

    def _nearest(self, k: int, outline: np.ndarray, slope: np.ndarray, inverse: np.ndarray, face: np.ndarray) -> None:
        """Draws rectangle k where it is nearer than the previous ones."""
        left, top = np.maximum(np.floor(outline.min(0)).astype(int), 0)
        right, low = np.ceil(outline.max(0)).astype(int) + 1
        window = (slice(top, low), slice(left, right))
        nearest, faces = inverse[window], face[window]
        inside = np.zeros(nearest.shape, np.uint8)
        points = np.round((outline - (left, top)) * 16).astype(np.int32)
        cv2.fillConvexPoly(inside, points, 1, shift=4)
        here = (slope[1] * self.v[top:low] + slope[2])[:, None] + slope[0] * self.u[left:right]
        closer = (here > nearest) & inside.view(bool)
        np.copyto(nearest, here, where=closer)
        np.copyto(faces, k, where=closer)

    def _shade(
        self, inverse: np.ndarray, face: np.ndarray, plane: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Texture, depth, cosine and solidity for the rectangle of each pixel."""
        z = 1 / np.maximum(inverse, 1e-3)
        u, v = self.u[None, :] * z, self.v[:, None] * z
        table = np.ascontiguousarray(plane.T)

        def of(row: int) -> np.ndarray:
            return np.take(table[row], face, mode="clip")

        # place in the atlas: linear in the point, hence z times linear in the pixel
        x, y = (of(r) * u + of(r + 1) * v + of(r + 2) * z + of(r + 3) for r in (0, 4))
        # texels under a pixel, squared, averaged over both directions of a slanted surface
        footprint = of(9) * z * z * z * self.ray
        limits = [0.0, *(FINEST * 4.0**i for i in range(LEVELS - 1)), np.inf]
        image = np.zeros((*z.shape, 3), np.uint8)
        for i, atlas in enumerate(self.atlas):
            chosen = (footprint >= limits[i]) & (footprint < limits[i + 1])
            rows = np.flatnonzero(chosen.any(1))
            if len(rows):
                part = slice(rows[0], rows[-1] + 1)
                # centres of texels: x of level 0 is (x + 0.5) / 2**i - 0.5 of level i
                scale, shift = np.float32(0.5**i), np.float32(0.5 ** (i + 1) - 0.5)
                found = cv2.remap(atlas, x[part] * scale + shift, y[part] * scale + shift, cv2.INTER_LINEAR)
                cv2.copyTo(found, chosen[part].view(np.uint8), image[part])
        return image, z, of(8) * inverse / self.ray, np.take(self.solid, face, mode="clip")


def _cut(corners: np.ndarray, side: np.ndarray) -> np.ndarray:
    """The part of a convex outline where `side` is above 0 (Sutherland and Hodgman 1974)."""
    kept = []
    for i in range(len(corners)):
        a, b, p, q = side[i - 1], side[i], corners[i - 1], corners[i]
        if (a < 0) != (b < 0):
            kept.append(p + (q - p) * (a / (a - b)))
        if b >= 0:
            kept.append(q)
    return np.array(kept)


def _atlas(room: list[Rectangle], rng: np.random.Generator) -> tuple[list[np.ndarray], np.ndarray]:
    """All textures, lit, in one image and its halvings; and (N, 2) with each one's corner."""
    pad = 1 << LEVELS
    sizes = [(round(r.height_m * r.texels_per_m), round(r.width_m * r.texels_per_m)) for r in room]
    corner = np.zeros((len(room), 2), np.float32)
    x = y = shelf = 0
    for k in sorted(range(len(room)), key=lambda k: -sizes[k][0]):
        height, width = (s + 2 * pad for s in sizes[k])
        if x + width > ATLAS_WIDTH:
            x, y, shelf = 0, y + shelf, 0
        corner[k] = x + pad, y + pad
        x, shelf = x + -(-width // pad) * pad, max(shelf, -(-height // pad) * pad)
    atlas = np.zeros((y + shelf, ATLAS_WIDTH, 3), np.uint8)
    for k, (rectangle, (height, width)) in enumerate(zip(room, sizes)):
        image = rectangle.material(rng, height, width, rectangle.texels_per_m)
        lit = np.clip(image * _light(rectangle, height, width)[..., None], 0, 255).astype(np.uint8)
        left, top = corner[k].astype(int) - pad
        atlas[top : top + height + 2 * pad, left : left + width + 2 * pad] = cv2.copyMakeBorder(
            lit, pad, pad, pad, pad, cv2.BORDER_REPLICATE
        )
    levels: list[np.ndarray] = [atlas]
    for _ in range(LEVELS - 1):
        levels.append(cv2.resize(levels[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    return levels, corner


def _light(rectangle: Rectangle, height: int, width: int) -> np.ndarray:
    """(H, W) float32: two ceiling lamps and ambient light; dark towards the floor."""
    rows, columns = np.linspace(0, 1, 24), np.linspace(0, 1, 24)
    point = (
        rectangle.origin
        + rectangle.down * (rectangle.height_m * rows)[:, None, None]
        + rectangle.right * (rectangle.width_m * columns)[None, :, None]
    )
    level = 0.42 + 0.12 * np.clip(point[..., 2] / 1.2, 0, 1)
    for lamp in LAMPS_M:
        to = lamp - point
        square = (to**2).sum(-1)
        level += 0.9 * np.clip(to @ rectangle.normal, 0, None) / np.sqrt(square) / (1 + 0.45 * square)
        level += 0.12 / (1 + square)
    return cv2.resize(level.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
