# SPDX-License-Identifier: Apache-2.0
"""A frame as the tracker sees it: rays, inverse depths and descriptors of its features."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from drp_slam.config import SlamConfig
from drp_slam.datatypes import XFEAT_DESCRIPTOR, Camera, DescriptorSpec, Features, Frame
from drp_slam.errors import SlamError
from drp_slam.geometry import apply
from drp_slam.slam.camera import Geometry, same_camera, undistort
from drp_slam.slam.compiled import native, plain
from drp_slam.slam.freespace import nearest

BORDER_PX = 1.0
"""Features lie at most this far outside the middles of the image's outer pixels. One that does not
belong to the image would spoil the matching of all others (`matching.Prior` centres them)."""


@dataclass(frozen=True)
class View:
    """Features of one frame, ready for geometry. An old keyframe keeps less of them (`culling.compact`).

    `uv` (N, 2) float32 pixels of the original image, `xy` (N, 2) float64 on the normalised plane,
    `inverse_depth` (N,) float64 in 1/m (0: no depth), `descriptor` (N, length) as the front end
    gives them, `rgb` (N, 3) uint8 or None, `nearest_m` the depth image as
    `freespace.nearest` keeps it, or None.
    """

    index: int
    stamp_ns: int
    uv: np.ndarray
    xy: np.ndarray
    inverse_depth: np.ndarray
    descriptor: np.ndarray
    rgb: np.ndarray | None = None
    nearest_m: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.xy)

    def xyz(self) -> np.ndarray:
        """(N, 3) points in the camera's frame, metres; NaN without depth."""
        with np.errstate(divide="ignore"):
            z = np.where(self.inverse_depth > 0, 1.0 / self.inverse_depth, np.nan)[:, None]
        return np.concatenate([self.xy * z, z], axis=1)


def observe(
    geometry: Geometry, config: SlamConfig, frame: Frame, features: Features, spec: DescriptorSpec = XFEAT_DESCRIPTOR
) -> View:
    """Rays and depths of a frame's features. Raises SlamError for arrays that do not fit each other."""
    camera = geometry.camera
    _check(camera, spec, frame, features)
    xy = undistort(camera, features.uv, lens=geometry.lens)
    u, v = _pixels(features.uv, camera)
    inverse_depth, nearest_m = np.zeros(len(xy)), None
    if geometry.mono:
        pass
    elif features.depth_m is not None:
        known = (features.depth_m >= geometry.depth_m[0]) & (features.depth_m <= geometry.depth_m[1])
        np.divide(1.0, features.depth_m, out=inverse_depth, where=known)
    elif frame.depth is not None and len(xy):
        inverse_depth = inverse_depths(frame.depth, frame.depth_unit_m, u, v, geometry.depth_m, config.depth_edge)
        nearest_m = nearest(frame.depth, frame.depth_unit_m)
    rgb = None
    if frame.image is not None:
        rgb = frame.image[v, u]
        rgb = np.repeat(rgb[:, None], 3, 1) if rgb.ndim == 1 else rgb[:, 2::-1]
    return View(frame.index, frame.stamp_ns, features.uv, xy, inverse_depth, features.descriptor, rgb, nearest_m)


def _pixels(uv: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Columns (N,) and rows (N,) of the pixels nearest to the places uv (N, 2)."""
    if native is not None:
        at = np.empty((2, len(uv)), dtype=np.intp)
        native.pixels(plain(uv, np.float32), camera.width, camera.height, at)
        return at[0], at[1]
    at = np.rint(uv).astype(np.intp)
    return np.clip(at[:, 0], 0, camera.width - 1), np.clip(at[:, 1], 0, camera.height - 1)


def seen(
    points: np.ndarray, alive: np.ndarray, xyz: np.ndarray, T_camera_world: np.ndarray, geometry: Geometry
) -> tuple[np.ndarray, np.ndarray]:
    """Those of the `points`, numbers (N,), that are `alive` (M,) and in the image of a pose by their xyz (M, 3).

    Also their (K, 2) undistorted pixels about the principal point.
    """
    if native is None:
        points = points[alive[points]]
        p = apply(T_camera_world, xyz[points])
        xy = p[:, :2] / np.maximum(p[:, 2:], 1e-3)
        low, high = geometry.bounds
        inside = (p[:, 2] > 0.1) & (xy > low).all(axis=1) & (xy < high).all(axis=1)
        return points[inside], xy[inside] * geometry.focal_px
    numbers, px = np.empty(len(points), np.int64), np.empty((len(points), 2))
    count = native.visible(points, alive, xyz, T_camera_world, geometry.bounds, geometry.focal_px, numbers, px)
    return numbers[:count], px[:count]


def inverse_depths(
    depth: np.ndarray, unit_m: float, u: np.ndarray, v: np.ndarray, range_m: tuple[float, float], edge: float
) -> np.ndarray:
    """`inverse_medians` of the `depth_patches` of pixels (N,)."""
    if native is None:
        return inverse_medians(depth_patches(depth, unit_m, u, v), range_m, edge)
    out = np.empty(len(u))
    native.inverse_depths(plain(depth, depth.dtype), unit_m, u, v, *range_m, edge, out)
    return out


_OFFSETS = np.array([(dv, du) for dv in (-1, 0, 1) for du in (-1, 0, 1)])


def depth_patches(depth: np.ndarray, unit_m: float, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """(N, 9) float64 metres: the 3x3 neighbourhoods of pixels."""
    height, width = depth.shape
    rows = np.clip(v[:, None] + _OFFSETS[:, 0], 0, height - 1)
    columns = np.clip(u[:, None] + _OFFSETS[:, 1], 0, width - 1)
    # through float32 metres, so that raw depth and its ROS topic give the same numbers
    return (depth[rows, columns] * np.float64(unit_m)).astype(np.float32).astype(np.float64)


def inverse_medians(patch: np.ndarray, range_m: tuple[float, float], edge: float) -> np.ndarray:
    """(N,) inverse depths in 1/m: medians of the valid numbers of (N, 9) neighbourhoods.

    0 where fewer than five pixels returned, where they span an edge (more than the share `edge` of
    the depth), and outside the range.
    """
    valid = (patch > 0) & (patch < np.inf)  # False for NaN as well
    count = valid.sum(axis=1)
    patch = np.sort(np.where(valid, patch, np.inf), axis=1)
    each = np.arange(len(patch))
    median = patch[each, np.maximum(count - 1, 0) // 2]
    farthest = patch[each, np.maximum(count - 1, 0)]
    keep = (count >= 5) & (median >= range_m[0]) & (median <= range_m[1])
    keep &= farthest <= patch[:, 0] + edge * median
    return np.where(keep, 1.0 / median, 0.0)


def _extent(uv: np.ndarray, descriptor: np.ndarray) -> tuple[bool, float, float, float]:
    """Whether all numbers are finite; the least coordinate, the largest u and v, none of them beyond 0."""
    if native is not None:
        return native.extent(plain(uv, np.float32), plain(descriptor, descriptor.dtype))
    low, (right, bottom) = uv.min(initial=0.0), uv.max(axis=0, initial=0.0).tolist()
    return bool(np.isfinite(uv).all() and np.isfinite(descriptor).all()), float(low), right, bottom


def _check(camera: Camera, spec: DescriptorSpec, frame: Frame, features: Features) -> None:
    if not same_camera(frame.camera, camera):
        raise SlamError(f"frame {frame.index} is of another camera than the first; use one tracker for each camera")
    n, descriptor = len(features.uv), features.descriptor
    if features.uv.shape != (n, 2) or descriptor.shape != (n, spec.length) or descriptor.dtype != spec.dtype:
        raise SlamError(
            f"features have uv {features.uv.shape} and descriptor {descriptor.shape} {descriptor.dtype}; "
            f"expected (N, 2) and (N, {spec.length}) {spec.dtype}: does the map come from this front end?"
        )
    finite, low, right, bottom = _extent(features.uv, descriptor)
    if not finite:
        raise SlamError("features hold a number that is not finite; check the network's output")
    if low < -BORDER_PX or right > camera.width - 1 + BORDER_PX or bottom > camera.height - 1 + BORDER_PX:
        raise SlamError(
            f"features lie at {low:g} to {right:g}, {bottom:g} px, outside the "
            f"{camera.width}x{camera.height} image; give this camera's calibration"
        )
    depth, unit_m = frame.depth, frame.depth_unit_m
    for name, array in (("depth", depth), ("image", frame.image)):
        if array is not None and array.shape[:2] != (camera.height, camera.width):
            raise SlamError(
                f"{name} is {array.shape[1]}x{array.shape[0]}, the camera "
                f"{camera.width}x{camera.height}; give both in one size"
            )
    if depth is not None and (depth.ndim != 2 or depth.dtype not in (np.uint16, np.float32)):
        raise SlamError(f"depth has shape {depth.shape} and type {depth.dtype}; expected (H, W) uint16 or float32")
    if depth is not None and not 0.0 < unit_m < math.inf:
        raise SlamError(f"depth unit is {unit_m!r} m, expected a positive number such as 0.001")
