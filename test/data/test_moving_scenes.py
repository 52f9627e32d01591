# SPDX-License-Identifier: Apache-2.0
"""Generated scenes in which things move: sound, the same every time, and of every kind."""

from __future__ import annotations

import numpy as np
import pytest

from drp_slam.data import moving
from drp_slam.data.composing import composed
from drp_slam.data.moving_scenes import FRAMES, KINDS, scenes
from drp_slam.data.sequence import Sequence
from drp_slam.data.synthetic import Parameters, render
from drp_slam.errors import DataError


@pytest.fixture(scope="module")
def room() -> Sequence:
    drawn = render(Parameters(frames=FRAMES + 2, width=96))
    frames = list(drawn)
    return Sequence("room", drawn.camera, drawn.stamps_ns, drawn.ground_truth, lambda: iter(frames))


def part(room: Sequence, start: int, frames: int | None) -> Sequence:
    """So many frames from one on."""
    chosen = list(room)[start : None if frames is None else start + frames]
    stamps_ns = np.array([f.stamp_ns for f in chosen])
    numbered = [f.__class__(k, f.stamp_ns, f.image, f.camera, f.depth, f.depth_unit_m) for k, f in enumerate(chosen)]
    return Sequence("part", room.camera, stamps_ns, room.ground_truth, lambda: iter(numbered))


def test_every_kind_shows_something_that_moves(room: Sequence) -> None:
    for scene in scenes(lambda start, frames: part(room, start, frames), len(KINDS), 3, room):
        assert scene.kind == KINDS[scene.number % len(KINDS)] and len(scene.clean) == FRAMES
        shown, middles = [], []
        for (frame, mask), clean in zip(scene.frames(), scene.clean):
            assert frame.image is not None and clean.image is not None and frame.depth is not None
            same = ~mask
            np.testing.assert_array_equal(frame.image[same], clean.image[same])
            np.testing.assert_array_equal(frame.depth[same], clean.depth[same])
            shown.append(mask.mean())
            middles += [np.argwhere(mask).mean(axis=0)] if mask.any() else []
        assert max(shown) > 0.03, scene.kind
        moved = np.ptp(np.array(middles), axis=0).max() > 3 or np.ptp(shown) > 0.02
        assert moved, scene.kind


def test_scenes_are_the_same_for_one_seed_and_differ_for_another(room: Sequence) -> None:
    def last(seed: int) -> np.ndarray:
        scene = next(scenes(lambda start, frames: part(room, start, frames), 1, seed))
        return np.stack([frame.image for frame, _ in scene.frames()][20:40:5])  # type: ignore[arg-type]

    np.testing.assert_array_equal(last(1), last(1))
    assert (last(1) != last(2)).any()


def test_a_board_that_has_turned_is_a_plane_seen_obliquely(room: Sequence) -> None:
    scene = moving.still(room, 0, 2)
    picture, way = np.full((40, 40, 3), 200, np.uint8), [(0.0, 0.0, 0.0), (9.0, 0.0, 0.0)]
    board = moving.panel(scene.camera, picture, (0.3, 0.3), 0.4, way, yaw_rad=[0.6, 0.6])
    frame, mask = next(composed(scene, [board]))
    assert frame.depth is not None
    rows, columns = np.nonzero(mask)
    z = frame.depth[rows, columns] * frame.depth_unit_m
    xyz = np.stack(
        [(columns - scene.camera.cx) * z / scene.camera.fx, (rows - scene.camera.cy) * z / scene.camera.fy, z]
    )
    centred = xyz - xyz.mean(axis=1, keepdims=True)
    normal = np.linalg.svd(centred)[0][:, 2]
    assert np.abs(normal @ centred).max() < 0.003
    assert abs(normal[2]) == pytest.approx(np.cos(0.6), abs=0.03) and np.ptp(z) > 0.03


def test_a_short_recording_is_refused(room: Sequence) -> None:
    with pytest.raises(DataError, match="needs 70"):
        next(scenes(lambda start, frames: part(room, 0, 20), 1, 0))
