# SPDX-License-Identifier: Apache-2.0
"""The dense map and the occupancy grid, on a room whose walls are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from drp_slam.datatypes import Camera, Frame
from drp_slam.errors import SlamError
from drp_slam.slam import dense
from drp_slam.slam.dense_keyframes import DenseKeyframes, packed
from drp_slam.slam.occupancy import FREE, OCCUPIED, UNKNOWN, Occupancy

CAMERA = Camera(160, 120, 120.0, 120.0, 79.5, 59.5)
WALL_M = 2.0


def turned(degrees: float) -> np.ndarray:
    """`T_world_camera` of a camera at the origin, turned about its y axis."""
    angle = np.deg2rad(degrees)
    T = np.eye(4)
    T[:3, :3] = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    return T


def wall(index: int, T_world_camera: np.ndarray, raw: type = np.uint16) -> Frame:
    """Depth of the plane z = 2 m of the world, in millimetres or in metres, and a picture of one colour."""
    v, u = np.mgrid[0 : CAMERA.height, 0 : CAMERA.width]
    rays = np.stack([(u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy, np.ones(u.shape)], -1)
    z = WALL_M / (rays @ T_world_camera[2, :3])
    depth = np.rint(z * 1000).astype(raw) if raw is np.uint16 else z.astype(raw)
    image = np.full((CAMERA.height, CAMERA.width, 3), (10, 120, 240), np.uint8)
    return Frame(index, index, image, CAMERA, depth, 0.001 if raw is np.uint16 else 1.0)


POSES = [turned(d) for d in np.linspace(-25, 25, 8)]


class TestDense:
    @pytest.fixture(autouse=True)
    def _open3d(self) -> None:
        pytest.importorskip("open3d", reason="the dense map needs Open3D")

    @pytest.mark.parametrize("raw", [np.uint16, np.float32])
    def test_a_wall_becomes_a_plane_of_its_colour(self, raw: type, tmp_path: Path) -> None:
        found = dense.fuse(lambda: ((wall(i, T, raw), T) for i, T in enumerate(POSES)), CAMERA, 0.02).surface()
        assert found.frames == len(POSES) and found.voxel_m == 0.02 and len(found.vertices_m) > 1000
        assert np.abs(found.vertices_m[:, 2] - WALL_M).max() < 0.01
        assert np.abs(found.points_m[:, 2] - WALL_M).max() < 0.01
        assert np.abs(np.median(found.vertex_rgb, axis=0) - (240, 120, 10)).max() <= 2
        assert np.ptp(found.vertices_m[:, 0]) > 2.5
        for kind, suffixes in dense.SUFFIXES.items():
            for suffix in suffixes:
                found.write(tmp_path / f"{kind}{suffix}", kind)
                assert (tmp_path / f"{kind}{suffix}").stat().st_size > 10_000
        assert len(list(tmp_path.iterdir())) == sum(map(len, dense.SUFFIXES.values()))

    def test_voxels_grow_until_the_map_fits_into_memory(self) -> None:
        found = dense.fuse(
            lambda: ((wall(i, T), T) for i, T in enumerate(POSES)), CAMERA, 0.005, memory_mb=10.0
        ).surface()
        assert found.voxel_m > 0.005 and np.abs(found.vertices_m[:, 2] - WALL_M).max() < found.voxel_m

    def test_bad_input_is_one_line(self, tmp_path: Path) -> None:
        with pytest.raises(SlamError, match="no frame with depth"):
            dense.fuse(lambda: [(Frame(0, 0, None, CAMERA), np.eye(4))], CAMERA).surface()
        with pytest.raises(SlamError, match="voxel is 0"):
            dense.fuse(lambda: [], CAMERA, 0)
        found = dense.fuse(lambda: ((wall(i, T), T) for i, T in enumerate(POSES)), CAMERA, 0.05).surface()
        with pytest.raises(SlamError, match=r"written as \.ply"):
            found.write(tmp_path / "mesh.xyz", "mesh")

    def test_keyframes_are_fused_again_where_a_loop_has_moved_them(self) -> None:
        kept = DenseKeyframes(most=len(POSES))
        for i, T in enumerate(POSES):
            kept.add(wall(i, T))
        kept.place(dict(enumerate(POSES)))
        ahead = np.eye(4)
        ahead[2, 3] = 0.3
        for T_correction, at_m in ((np.eye(4), WALL_M), (ahead, WALL_M + 0.3)):
            kept.place({i: T_correction @ T for i, T in enumerate(POSES)})
            points, rgb = dense.fuse(kept.posed, kept.camera, 0.02).cloud()
            assert len(points) > 1000 and np.abs(points[:, 2] - at_m).max() < 0.01
            assert np.abs(np.median(rgb, axis=0) - (240, 120, 10)).max() <= 4


@pytest.mark.parametrize("raw", [np.uint16, np.float32])
def test_a_packed_keyframe_is_halved_and_stays_where_it_is(raw: type) -> None:
    wide = Camera(641, 481, 480.0, 480.0, 320.0, 240.0)
    v, u = np.mgrid[0 : wide.height, 0 : wide.width]
    z = 1.0 + 0.5 * (u / wide.width)
    depth = np.rint(z * 5000).astype(raw) if raw is np.uint16 else z.astype(raw)
    image = np.dstack([(u / 3).astype(np.uint8), (v / 3).astype(np.uint8), np.full(u.shape, 90, np.uint8)])
    small = packed(Frame(7, 1234, image, wide, depth, 0.0002 if raw is np.uint16 else 1.0)).frame()
    assert (small.stamp_ns, small.camera.width, small.camera.height) == (1234, 320, 240)
    assert small.depth.dtype == np.uint16 and small.image.shape == (240, 320, 3)
    v, u = 100, 250
    ray = (u - small.camera.cx) / small.camera.fx
    u_wide = ray * wide.fx + wide.cx  # the same ray in the image before
    assert small.depth[v, u] * small.depth_unit_m == pytest.approx(1.0 + 0.5 * u_wide / wide.width, abs=1.5e-3)
    assert int(small.image[v, u, 0]) == pytest.approx(u_wide / 3, abs=3)


def test_the_oldest_keyframes_and_those_that_left_the_map_are_dropped() -> None:
    kept = DenseKeyframes(most=3)
    for i in range(5):
        kept.add(wall(i, np.eye(4)))
    assert len(kept) == 3
    kept.place({2: np.eye(4), 4: np.eye(4)})  # 3 was culled
    assert kept.placed() == [2, 4] and len(kept) == 2
    kept.add(wall(9, np.eye(4)))
    kept.place({2: np.eye(4), 4: np.eye(4)})  # a keyframe newer than the poses waits for its own
    assert kept.placed() == [2, 4] and len(kept) == 3


Z_UP = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
"""`T_ground_world`: the world is the first camera's optical frame."""


def test_a_wall_is_occupied_and_the_way_to_it_is_free(tmp_path: Path) -> None:
    occupancy = Occupancy(CAMERA, 0.1, (-0.2, 0.2))
    for i, T in enumerate(POSES):
        occupancy.add(wall(i, T), Z_UP @ T)
    grid = occupancy.grid()
    assert grid.cells.shape[1] * grid.cell_m + grid.origin_m[0] == pytest.approx(2.1, abs=0.11)

    def at(x_m: float, y_m: float) -> int:
        column, row = np.floor((np.array([x_m, y_m]) - grid.origin_m) / grid.cell_m).astype(int)
        return int(grid.cells[row, column])

    for y_m in (-0.8, 0.0, 0.8):
        assert at(2.03, y_m) == OCCUPIED and at(1.55, y_m * 0.5) == FREE and at(0.95, 0.0) == FREE
    assert at(0.05, 1.0) == UNKNOWN
    grid.write(tmp_path / "map.yaml")
    text = (tmp_path / "map.yaml").read_text()
    assert "image: map.pgm" in text and "resolution: 0.1" in text
    head = (tmp_path / "map.pgm").read_bytes().split(b"\n")
    assert head[1].split() == [str(s).encode() for s in grid.cells.shape[::-1]]


def test_what_stands_above_or_below_the_slice_is_not_in_the_way() -> None:
    above = Occupancy(CAMERA, 0.1, (3.0, 4.0))
    above.add(wall(0, np.eye(4)), Z_UP)
    with pytest.raises(SlamError, match="no depth crossed the slice"):
        above.grid()
    with pytest.raises(SlamError, match="slice"):
        Occupancy(CAMERA, 0.1, (1.0, 0.0))
