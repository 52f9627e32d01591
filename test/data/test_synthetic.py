# SPDX-License-Identifier: Apache-2.0
"""The synthetic room: geometry against brute force, determinism, the sensor, the cache."""

from __future__ import annotations

import os
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from drp_slam.data import room as rm
from drp_slam.data import synthetic as sy
from drp_slam.data.renderer import NEAR_M, Renderer
from drp_slam.data.sensor import FAR_M, RgbdSensor
from drp_slam.errors import DataError

WIDTH = 96


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    camera = sy.camera(sy.Parameters(width=WIDTH))
    rng = np.random.default_rng(1)
    return Renderer(rm.furnish(rng), rng, (camera.width, camera.height), camera.K)


def nearest_hit(room: list[rm.Rectangle], origin: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Brute force: length of each ray (N, 3) to the first rectangle it meets, and which."""
    best, which = np.full(len(rays), np.inf), np.full(len(rays), -1)
    for k, r in enumerate(room):
        slope = rays @ r.normal
        t = ((r.origin - origin) @ r.normal) / np.where(slope < -1e-9, slope, np.inf)
        at = origin + t[:, None] * rays - r.origin
        x, y = at @ r.right, at @ r.down
        inside = (x >= 0) & (x <= r.width_m) & (y >= 0) & (y <= r.height_m)
        closer = inside & (t > NEAR_M) & (t < best)
        best, which = np.where(closer, t, best), np.where(closer, k, which)
    return best, which


@pytest.mark.parametrize("time_s", [0.0, 2.5, 5.8, 9.9])
def test_depth_is_that_of_the_first_rectangle_on_the_ray(renderer: Renderer, time_s: float) -> None:
    pose = sy.poses(np.array([time_s]), 0)[0]
    _, z, _, _ = renderer.render(pose)
    v, u = np.mgrid[: WIDTH * 3 // 4, :WIDTH]
    rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(renderer.K).T @ pose[:3, :3].T
    exact, which = nearest_hit(renderer.room, pose[:3, 3], rays.reshape(-1, 3))
    wrong = np.abs(exact.reshape(z.shape) / z - 1) > 1e-3
    # a pixel on an outline may belong to either side; all others are right
    which = which.reshape(z.shape).astype(np.float32)
    outline = cv2.dilate(which, np.ones((3, 3))) != cv2.erode(which, np.ones((3, 3)))
    assert outline.mean() < 0.4
    assert not (wrong & ~outline).any()
    assert wrong.mean() < 0.06


def test_a_point_looks_the_same_from_two_places(renderer: Renderer) -> None:
    a, b = sy.poses(np.array([0.0, 0.2]), 0)
    seen, z, _, _ = renderer.render(a)
    other, z_other, _, _ = renderer.render(b)
    v, u = np.mgrid[: WIDTH * 3 // 4, :WIDTH].astype(np.float64)
    rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(renderer.K).T
    point = rays * z[..., None] @ a[:3, :3].T + a[:3, 3]
    there = (point - b[:3, 3]) @ b[:3, :3]
    uv = (there @ renderer.K.T)[..., :2] / there[..., 2:]
    warped = cv2.remap(other, uv.astype(np.float32), None, cv2.INTER_LINEAR)
    depth = cv2.remap(z_other, uv.astype(np.float32), None, cv2.INTER_LINEAR)
    visible = np.abs(depth - there[..., 2]) < 0.02
    difference = np.abs(warped.astype(float) - seen).mean(-1)[visible]
    assert visible.mean() > 0.5
    assert np.median(difference) < 12 < np.median(np.abs(np.roll(seen, 9, 1).astype(float) - seen))


def test_the_same_parameters_give_the_same_bits() -> None:
    first, second = (list(sy.render(sy.Parameters(frames=3, width=64))) for _ in range(2))
    other = next(iter(sy.render(sy.Parameters(seed=1, frames=1, width=64))))
    for a, b in zip(first, second, strict=True):
        assert a.stamp_ns == b.stamp_ns
        assert np.array_equal(a.image, b.image) and np.array_equal(a.depth, b.depth)
    assert not np.array_equal(first[0].image, other.image)


def test_a_short_sequence_is_the_beginning_of_a_long_one(tmp_path: Path) -> None:
    short, long = (sy.trajectory(sy.Parameters(frames=n)) for n in (60, 360))
    assert np.array_equal(short.T_world_camera, long.T_world_camera[:60])
    assert np.array_equal(short.stamps_ns, long.stamps_ns[:60])
    # so a few frames need no others; the whole, once it is there, serves them too
    name = "synthetic:frames=5,width=64"
    alone = sy.open_synthetic(name, 1, 2, tmp_path)
    assert [len(list(folder.glob("rgb/*"))) for folder in tmp_path.iterdir()] == [3]
    whole = sy.open_synthetic(name, cache=tmp_path)
    again = sy.open_synthetic(name, 1, 2, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2 and len(whole) == 5
    for a, b, c in zip(alone, again, list(whole)[1:3], strict=True):
        assert a.stamp_ns == b.stamp_ns == c.stamp_ns
        assert np.array_equal(a.image, b.image) and np.array_equal(a.depth, b.depth)
        assert np.array_equal(b.image, c.image)


@pytest.mark.parametrize("seed", [0, 7])
def test_the_path_is_a_loop_with_fast_turns_inside_the_room(seed: int) -> None:
    poses = sy.trajectory(sy.Parameters(seed=seed, frames=361)).T_world_camera
    R = poses[:, :3, :3]
    assert np.abs(poses[360] - poses[0]).max() < 1e-9
    assert np.abs(R @ R.transpose(0, 2, 1) - np.eye(3)).max() < 1e-12
    assert np.all(np.abs(poses[:, :3, 3]) < np.array(rm.SIZE_M) / (2, 2, 1) - 0.5)
    turn = np.einsum("nji,njk->nik", R[:-1], R[1:])
    degrees = np.degrees(np.arccos(np.clip((np.trace(turn, axis1=1, axis2=2) - 1) / 2, -1, 1)))
    assert 80 < degrees.max() * sy.FPS < 150
    step_m = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1)
    assert 0.3 < step_m.max() * sy.FPS < 1.5


def test_texture_is_rich_but_for_the_bare_wall(renderer: Renderer) -> None:
    contrast = {}
    for time_s in (0.0, 2.5, 4.5, 6.3, 8.2, 10.0):
        image = renderer.render(sy.poses(np.array([time_s]), 0)[0])[0]
        grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        contrast[time_s] = float(np.abs(cv2.Laplacian(grey, cv2.CV_32F)).mean())
    bare = contrast.pop(6.3)
    assert min(contrast.values()) > 3 * bare, contrast


def test_the_sensor_loses_depth_where_a_real_one_does() -> None:
    z = np.full((48, 64), 2.0, np.float32)
    z[:, 32:] = 3.0
    cosine, solid = np.ones_like(z), np.ones(z.shape, bool)
    cosine[40:], solid[:8], z[20:24, 48:] = 0.1, False, FAR_M + 0.1
    measured = RgbdSensor(0, (64, 48), 50.0).depth(0, z, cosine, solid)
    for gone in (measured[40:], measured[:8], measured[20:24, 48:], measured[10:18, 31:33]):
        assert not gone.any()
    assert (measured[10:18, 4:28] > 0).mean() > 0.9


def test_depth_noise_grows_with_the_square_of_the_distance() -> None:
    sensor = RgbdSensor(0, (256, 192), 200.0)
    whole = np.ones((192, 256), np.float32)
    spread = []
    for metres in (1.0, 2.0, 4.0):
        z = sensor.depth(1, metres * whole, whole, whole > 0)
        spread.append(float((z[z > 0] - metres).std()))
        assert abs(np.median(z[z > 0]) - metres) < 0.01 * metres**2
    assert spread[0] < 0.006 and 2.5 < spread[1] / spread[0] < 5 and 2.5 < spread[2] / spread[1] < 5.5


def test_fast_turns_blur() -> None:
    scene = np.zeros((48, 64, 3), np.uint8)
    scene[:, ::8] = 255
    still, turning = (RgbdSensor(0, (64, 48), 525.0).colour(0, scene, np.array([0.0, turn, 0.0])) for turn in (0, 1.8))
    assert turning.std() < 0.7 * still.std()


def test_the_cache_is_written_once_and_read_afterwards(tmp_path: Path) -> None:
    name = "synthetic:seed=3,frames=3,width=64"
    first = sy.open_synthetic(name, cache=tmp_path)
    (folder,) = tmp_path.iterdir()
    written = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    second = sy.open_synthetic(name, start=1, cache=tmp_path)
    assert written == {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    assert (len(first), len(second), first.name) == (3, 2, "synthetic")
    assert np.array_equal(first.ground_truth.T_world_camera[:, :3, 3], first.ground_truth.positions_m)
    exact = sy.trajectory(sy.parse(name))
    assert np.array_equal(first.ground_truth.positions_m, exact.positions_m)
    sy.open_synthetic("synthetic:seed=4,frames=3,width=64", cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_the_cache_keeps_what_was_opened_last(tmp_path: Path) -> None:
    names = [tmp_path / f"synthetic-{i}" for i in range(6)]
    for i, folder in enumerate(names):
        folder.mkdir()
        (folder / "rgb.txt").write_text("")
        os.utime(folder, (i, i))
    (tmp_path / "other").mkdir()
    opened = "synthetic:frames=1,width=64"
    mine = sy.cache_folder(sy.parse(opened), tmp_path)
    sy.open_synthetic(opened, cache=tmp_path)
    assert all(folder.is_dir() for folder in [*names, mine])  # there is room
    os.utime(mine, (0, 0))
    sy.open_synthetic(opened, cache=tmp_path)  # opened again: the newest now
    sy.forget(tmp_path, 3)
    assert {p.name for p in tmp_path.iterdir()} == {"synthetic-4", "synthetic-5", mine.name, "other"}


def test_a_sequence_that_is_being_read_stays_in_the_cache(tmp_path: Path) -> None:
    """A graph that plays it again and again may run for hours beside others."""
    frames = iter(sy.open_synthetic("synthetic:frames=3,width=64", cache=tmp_path))
    next(frames)
    sy.forget(tmp_path, 0)
    assert len(list(frames)) == 2
    sy.forget(tmp_path, 0)
    assert not list(tmp_path.iterdir())


def test_a_sequence_removed_from_the_cache_is_rendered_again(tmp_path: Path) -> None:
    """Other processes that open many sequences may remove it between opening and reading."""
    opened = sy.open_synthetic("synthetic:frames=2,width=64", cache=tmp_path)
    before = [frame.image for frame in opened]
    sy.forget(tmp_path, 0)
    assert not list(tmp_path.iterdir())
    assert all(np.array_equal(a, frame.image) for a, frame in zip(before, opened, strict=True))


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        sy.open_synthetic("synthetic:frames=1,width=64", cache=tmp_path / "file")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("synthetic:colour=1", ("'colour'", "seed, frames, width")),
        ("synthetic:frames=0", ("frames is '0'", "1 to 3600")),
        ("synthetic:frames=many", ("frames is 'many'",)),
        ("synthetic:width=66", ("width is '66'", "steps of 4")),
        ("synthetic:seed", ("seed is ''",)),
    ],
)
def test_bad_parameters_are_named(name: str, words: tuple[str, ...]) -> None:
    with pytest.raises(DataError) as error:
        sy.parse(name)
    assert all(word in str(error.value) for word in words)


def test_the_cache_leaves_alone_what_another_process_is_writing(tmp_path: Path) -> None:
    now = time.time()
    for name, age_s in (
        ("synthetic-a", 10),
        ("synthetic-b", 20),
        ("synthetic-c.part7", 600),
        ("synthetic-d.part8", 7 * 3600),
    ):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (now - age_s, now - age_s))
    sy.forget(tmp_path, 1)
    assert {p.name for p in tmp_path.iterdir()} == {"synthetic-a", "synthetic-c.part7"}
