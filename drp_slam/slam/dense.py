# SPDX-License-Identifier: Apache-2.0
"""The dense map: depth images fused into a voxel-hashed TSDF, as a mesh and a coloured cloud.

Curless and Levoy, SIGGRAPH 1996; hashed voxel blocks by Open3D's tensor library, which is imported only here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from drp_slam.atomic import replacing
from drp_slam.datatypes import Camera, Frame
from drp_slam.errors import SlamError, pip_install
from drp_slam.geometry import inverse

log = logging.getLogger(__name__)

BLOCK = 16
"""Voxels along a block's edge."""
BYTES_PER_VOXEL = 12
"""TSDF (float32), weight and colour (uint16 each)."""
TRUNCATION_VOXELS = 8.0
LEAST_WEIGHT = 3.0
"""Voxels seen by fewer frames are noise and are left out."""
SUFFIXES = {"mesh": (".ply", ".glb"), "cloud": (".ply", ".pcd")}

Posed = Iterable[tuple[Frame, np.ndarray]]
"""Frames with depth, each with its (4, 4) `T_world_camera`."""


@dataclass(frozen=True)
class DenseMap:
    """`vertices_m` (V, 3) float32, `triangles` (T, 3) int32, `vertex_rgb` (V, 3) uint8 in the world's frame;
    `points_m` (N, 3) float32 and `points_rgb` (N, 3) uint8 are the surface as a cloud. `voxel_m` is the
    resolution that fitted into memory, `frames` how many were fused."""

    vertices_m: np.ndarray
    triangles: np.ndarray
    vertex_rgb: np.ndarray
    points_m: np.ndarray
    points_rgb: np.ndarray
    voxel_m: float
    frames: int

    def write(self, path: Path, kind: str) -> None:
        """Writes the `mesh` or the `cloud`, in the format of the suffix. Raises SlamError."""
        if path.suffix not in SUFFIXES[kind]:
            raise SlamError(f"{path}: a {kind} is written as {', '.join(SUFFIXES[kind])}")
        o3d = require_open3d()
        if kind == "mesh":
            shape = o3d.t.geometry.TriangleMesh(_tensor(self.vertices_m), _tensor(self.triangles))
            shape.vertex.colors = _tensor(self.vertex_rgb / np.float32(255))
            shape.compute_vertex_normals()
            write = o3d.t.io.write_triangle_mesh
        else:
            shape = o3d.t.geometry.PointCloud(_tensor(self.points_m))
            shape.point.colors = _tensor(self.points_rgb / np.float32(255))
            write = o3d.t.io.write_point_cloud
        with replacing(path, SlamError) as temporary:
            named = temporary.with_suffix(path.suffix)  # Open3D chooses the format by it
            if not write(str(named), shape):
                raise SlamError(f"{path}: Open3D could not write the {kind}; is the disk full?")
            named.replace(temporary)


class Volume:
    """A voxel-hashed TSDF that grows with the frames fused into it, up to a limit of memory.

    Frames are undistorted; their depth is registered to the image. Raises SlamError without Open3D, and for a voxel
    that is no positive number.
    """

    def __init__(
        self,
        camera: Camera,
        voxel_m: float = 0.02,
        range_m: float = 5.0,
        memory_mb: float = 400.0,
        least_weight: float = LEAST_WEIGHT,
    ) -> None:
        """`least_weight`: voxels seen by fewer frames are not part of the surface."""
        if not 1e-3 <= voxel_m <= 1.0:
            raise SlamError(f"voxel is {voxel_m!r} m, expected 0.001 to 1")
        o3d = require_open3d()
        self.voxel_m, self.frames = voxel_m, 0
        self._least_weight = least_weight
        self._range_m, self._blocks = range_m, max(64, int(memory_mb * 1e6 / (BLOCK**3 * BYTES_PER_VOXEL)))
        self._rectify, self._K = _rectifier(camera), _tensor(camera.K)
        self._grid = o3d.t.geometry.VoxelBlockGrid(
            ("tsdf", "weight", "color"),
            (o3d.core.float32, o3d.core.uint16, o3d.core.uint16),
            (1, 1, 3),
            voxel_m,
            BLOCK,
            self._blocks,
            o3d.core.Device("CPU:0"),
        )

    def add(self, frame: Frame, T_world_camera: np.ndarray) -> bool:
        """Fuses a frame. False, and the volume stays as it is, if its blocks would exceed the memory.

        A frame without image or depth changes nothing.
        """
        if frame.depth is None or frame.image is None:
            return True
        depth, colour, scale = self._rectify(frame)
        # as a matrix of its own: Open3D reads memory in C order
        T_camera_world = _tensor(np.ascontiguousarray(inverse(T_world_camera)))
        reach = (scale, self._range_m, TRUNCATION_VOXELS)
        near = self._grid.compute_unique_block_coordinates(depth, self._K, T_camera_world, *reach)
        if self._grid.hashmap().size() + len(near) > self._blocks and self._with(near) > self._blocks:
            return False
        self._grid.integrate(near, depth, colour, self._K, self._K, T_camera_world, *reach)
        self.frames += 1
        return True

    def _with(self, near: Any) -> int:
        """Blocks that the grid would have with those of `near`."""
        known = self._grid.hashmap().find(near)[1].numpy()
        return int(self._grid.hashmap().size()) + int((~known).sum())

    def cloud(self) -> tuple[np.ndarray, np.ndarray]:
        """The surface: (N, 3) float32 points in metres of the world, and (N, 3) uint8 RGB; empty before any."""
        cloud = self._grid.extract_point_cloud(self._least_weight) if self.frames else None
        if cloud is None or "positions" not in cloud.point or not len(cloud.point.positions):
            return np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8)
        return cloud.point.positions.numpy(), _rgb(cloud.point.colors)

    def surface(self) -> DenseMap:
        """Mesh and cloud. Raises SlamError where nothing was fused, or no surface was seen by enough frames."""
        if not self.frames:
            raise SlamError("no frame with depth and image was given; a dense map needs tracked frames with depth")
        mesh = self._grid.extract_triangle_mesh(self._least_weight)
        if "positions" not in mesh.vertex or not len(mesh.vertex.positions):
            raise SlamError("no surface was seen by enough frames; give more frames, or a longer range")
        return DenseMap(
            mesh.vertex.positions.numpy(),
            mesh.triangle.indices.numpy().astype(np.int32),
            _rgb(mesh.vertex.colors),
            *self.cloud(),
            self.voxel_m,
            self.frames,
        )


def fuse(
    frames: Callable[[], Posed],
    camera: Camera,
    voxel_m: float = 0.02,
    range_m: float = 5.0,
    memory_mb: float = 400.0,
    least_weight: float = LEAST_WEIGHT,
) -> Volume:
    """A volume of frames whose depth is registered to the image. `frames()` starts a pass over them.

    Where the blocks would take more than `memory_mb`, it starts again with voxels twice as large. Raises SlamError as
    `Volume` does.
    """
    while True:
        volume = Volume(camera, voxel_m, range_m, memory_mb, least_weight)
        if all(volume.add(frame, T_world_camera) for frame, T_world_camera in frames()):
            return volume
        voxel_m *= 2.0
        log.warning("dense map: over %.0f MB; repeating with voxels of %.3f m", memory_mb, voxel_m)


def _rgb(colours: Any) -> np.ndarray:
    return np.clip(np.rint(colours.numpy() * 255), 0, 255).astype(np.uint8)


def _rectifier(camera: Camera) -> Callable[[Frame], tuple[Any, Any, float]]:
    """A function from a frame to depth, colour (Open3D images, undistorted) and depth units a metre."""
    o3d = require_open3d()
    maps = None
    if np.any(camera.distortion):
        size = (camera.width, camera.height)
        fisheye = camera.model == "equidistant"
        make = cv2.fisheye.initUndistortRectifyMap if fisheye else cv2.initUndistortRectifyMap
        maps = make(camera.K, camera.distortion, np.eye(3), camera.K, size, cv2.CV_32FC1)

    def rectify(frame: Frame) -> tuple[Any, Any, float]:
        image, depth = frame.image, frame.depth
        assert image is not None and depth is not None
        if maps is not None:
            image = cv2.remap(image, *maps, cv2.INTER_LINEAR)
            depth = cv2.remap(depth, *maps, cv2.INTER_NEAREST)
        colour = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB if image.ndim == 2 else cv2.COLOR_BGR2RGB)
        if depth.dtype != np.uint16:
            depth = np.nan_to_num(depth, nan=0.0, posinf=0.0, neginf=0.0)
            colour = colour.astype(np.float32) / 255.0  # Open3D takes float with float, in 0 to 1
        return o3d.t.geometry.Image(_tensor(depth)), o3d.t.geometry.Image(_tensor(colour)), 1.0 / frame.depth_unit_m

    return rectify


def _tensor(array: np.ndarray) -> Any:
    return require_open3d().core.Tensor(np.ascontiguousarray(array))


def require_open3d() -> Any:
    try:
        import open3d
    except (ImportError, OSError) as error:  # the package, or a system library that it links
        raise SlamError(
            f"the dense map needs Open3D ({error}); {pip_install('drp_slam[dense]')} and, on Debian, libusb-1.0-0"
        ) from error
    # its notes would go to standard output, which is the result's
    open3d.utility.set_verbosity_level(open3d.utility.VerbosityLevel.Error)
    return open3d
