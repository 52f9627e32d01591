# SPDX-License-Identifier: Apache-2.0
"""Recordings made harder: what changes, what stays, and that it is the same every time."""

from __future__ import annotations

import numpy as np
import pytest

from drp_slam.data import moving
from drp_slam.data.composing import with_movers
from drp_slam.data.disturbances import CASES, cases
from drp_slam.data.sequence import Sequence
from drp_slam.data.synthetic import Parameters, render
from drp_slam.data.trajectory import associate
from drp_slam.datatypes import Trajectory
from drp_slam.errors import DataError


@pytest.fixture(scope="module")
def sequence() -> Sequence:
    drawn = render(Parameters(frames=40, width=160))
    frames = list(drawn)
    return Sequence("room", drawn.camera, drawn.stamps_ns, drawn.ground_truth, lambda: iter(frames))


@pytest.mark.parametrize("name", CASES)
def test_every_case_is_a_sound_sequence_and_always_the_same(name: str, sequence: Sequence) -> None:
    harder = CASES[name](sequence)
    first, again = list(harder)[:20], list(harder)[:20]
    assert [f.index for f in first] == list(range(len(first)))
    assert [f.stamp_ns for f in first] == harder.stamps_ns[: len(first)].tolist()
    assert (np.diff(harder.stamps_ns) > 0).all() and harder.ground_truth is not None
    found, _ = associate(harder.stamps_ns, harder.ground_truth.stamps_ns, 0.001)
    assert len(found) == len(harder)
    for a, b in zip(first, again):
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.depth, b.depth)


def test_reversed_poses_belong_to_reversed_images(sequence: Sequence) -> None:
    harder = CASES["reversed"](sequence)
    frames, back = list(sequence), list(harder)
    np.testing.assert_array_equal(back[0].image, frames[-1].image)
    assert harder.ground_truth is not None and sequence.ground_truth is not None
    np.testing.assert_allclose(harder.ground_truth.T_world_camera[0], sequence.ground_truth.T_world_camera[-1])


def test_a_mover_hides_what_is_behind_it_and_nothing_nearer(sequence: Sequence) -> None:
    camera = sequence.camera
    picture = np.full((40, 40, 3), 200, np.uint8)
    scene = moving.still(sequence, 0, 6)
    clean = next(iter(scene))
    assert clean.depth is not None and clean.image is not None
    near_m = float(np.percentile(clean.depth[clean.depth > 0], 30)) * clean.depth_unit_m
    board = moving.panel(camera, picture, (0.5, 0.5), near_m, [(0.0, 0.0, 0.0), (0.2, 0.0, 0.0)])
    frame = next(iter(with_movers(scene, [board], "board")))
    assert frame.depth is not None and frame.image is not None
    changed = (frame.image != clean.image).any(axis=2)
    inside = np.zeros_like(changed)
    inside[28:93, 38:123] = True
    assert not changed[~inside].any() and changed.sum() > 500
    metres = frame.depth * frame.depth_unit_m
    hidden = (clean.depth * clean.depth_unit_m > near_m + 0.1) & inside
    assert np.abs(metres[hidden][5:-5] - near_m).max() < 0.05 or np.median(np.abs(metres[hidden] - near_m)) < 0.02
    nearer = (clean.depth > 0) & (clean.depth * clean.depth_unit_m < near_m - 0.1)
    np.testing.assert_array_equal(frame.depth[nearer], clean.depth[nearer])
    later = list(with_movers(scene, [board], "board"))[-1]
    np.testing.assert_array_equal(later.image, list(scene)[-1].image)  # it has gone


def test_a_mover_at_rest_stays_where_it_is_in_the_world(sequence: Sequence) -> None:
    """Its middle, seen by every camera, is the same point."""
    camera, truth = sequence.camera, sequence.ground_truth
    assert truth is not None
    board = moving.panel(camera, np.full((8, 8, 3), 255, np.uint8), (0.2, 0.2), 0.4, [(0.0, 0, 0), (9.0, 0, 0)])
    seen = []
    for frame, clean in zip(with_movers(sequence, [board], "rest"), sequence):
        assert frame.depth is not None and clean.depth is not None
        rows, columns = np.nonzero(frame.depth != clean.depth)
        if not len(rows) or rows.min() < 2 or columns.min() < 2 or rows.max() > 117 or columns.max() > 157:
            continue  # it is not seen whole
        v, u, z = rows.mean(), columns.mean(), frame.depth[rows, columns].mean() * frame.depth_unit_m
        point = np.array([(u - camera.cx) / camera.fx * z, (v - camera.cy) / camera.fy * z, z, 1.0])
        seen.append((truth.T_world_camera[frame.index] @ point)[:3])
    assert len(seen) > 5 and np.ptp(np.array(seen), axis=0).max() < 0.03


def test_cases_are_chosen_by_words() -> None:
    assert list(cases("dark, kidnap")) == ["kidnap", "dark"] and cases("") == CASES
    with pytest.raises(DataError, match="people walk across"):
        cases("nothing")


def test_slow_recordings_keep_their_ground_truth() -> None:
    """Every third frame of a 10 Hz recording is 0.3 s apart: poses are taken, not interpolated over such gaps."""
    drawn = render(Parameters(frames=12, width=64))
    stamps_ns = drawn.stamps_ns[0] + np.arange(12) * 100_000_000
    assert drawn.ground_truth is not None
    truth = Trajectory(stamps_ns, drawn.ground_truth.T_world_camera)
    slow = Sequence("slow", drawn.camera, stamps_ns, truth, drawn.source)
    thinned = CASES["every third frame"](slow)
    assert thinned.ground_truth is not None
    np.testing.assert_allclose(thinned.ground_truth.T_world_camera, truth.T_world_camera[::3])
