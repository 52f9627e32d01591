# SPDX-License-Identifier: Apache-2.0
"""Two views of known geometry: which of them tell the camera's motion, and what they tell."""

from __future__ import annotations

import numpy as np
import pytest

from drp_slam import geometry
from drp_slam.slam.matching import Matches
from drp_slam.slam.optimize import Noise
from drp_slam.slam.two_view import MEDIAN_DEPTH, Start, start

FOCAL_PX, SIGMA_PX = 500.0, 0.7
NOISE = Noise(FOCAL_PX / 1.2, FOCAL_PX / 1.2, 1e-9)
BOUNDS = np.array([[-0.64, -0.48], [0.64, 0.48]])
SIDEWAYS = np.array([0.15, 0.0, 0.0, 0.0, 0.02, 0.0])
DIAGONAL = np.array([0.1, 0.1, 0.1, 0.1, -0.05, 0.02])
FORWARD = np.array([0.02, 0.0, -0.4, 0.0, 0.02, 0.01])
FAR = np.array([0.4, 0.0, 0.0, 0.0, 0.02, 0.0])
PAST = np.array([0.4, 0.0, 0.0, 0.0, -0.2, 0.0])
TURN = np.array([0.0, 0.0, 0.0, 0.05, 0.1, 0.02])


def seen(
    xi: np.ndarray, plane: bool = False, wrong: float = 0.1, moving: float = 0.0, seed: int = 0, count: int = 600
) -> Start | None:
    """What matches say of a motion `exp(xi)`, of which a part is `wrong` and another belongs to a thing that moves."""
    rng = np.random.default_rng(seed)
    T = geometry.exp(xi)
    xy = rng.uniform(BOUNDS[0], BOUNDS[1], (count, 2))
    normal = np.array([0.3, 0.2, -1.0]) / np.linalg.norm([0.3, 0.2, -1.0])
    z = -2.0 / (np.c_[xy, np.ones(count)] @ normal) if plane else rng.uniform(1.0, 5.0, count)
    xyz = np.c_[xy * z[:, None], z]
    p = geometry.apply(T, xyz)
    thing = (xy[:, 0] > -0.24) & (xy[:, 0] < -0.24 + 1.28 * moving)
    p[thing] = geometry.apply(T @ geometry.exp(np.array([-0.1, 0.3, 0.0, 0.0, 0.0, 0.0])), xyz[thing])
    a, b = (v + rng.normal(0.0, SIGMA_PX / FOCAL_PX, v.shape) for v in (xy, p[:, :2] / p[:, 2:]))
    random = int(wrong * count)
    b[:random] = rng.uniform(BOUNDS[0], BOUNDS[1], (random, 2))
    each = np.arange(count)
    return start(Matches(each, each, np.ones(count), 0.0), a, b, BOUNDS, NOISE)[0]


def off_deg(found: Start, xi: np.ndarray) -> tuple[float, float]:
    """Errors of the rotation and of the direction of the translation."""
    T = geometry.exp(xi)
    turn = np.linalg.norm(geometry.rotation_vector(found.T_b_a[:3, :3] @ T[:3, :3].T))
    cosine = found.T_b_a[:3, 3] @ T[:3, 3] / np.linalg.norm(found.T_b_a[:3, 3]) / np.linalg.norm(T[:3, 3])
    return float(np.degrees(turn)), float(np.degrees(np.arccos(min(cosine, 1.0))))


@pytest.mark.parametrize("wrong", (0.1, 0.4))
@pytest.mark.parametrize(
    ("plane", "xi"), ((False, SIDEWAYS), (False, DIAGONAL), (False, FORWARD), (True, FAR), (True, PAST))
)
def test_the_motion_is_found_in_a_room_and_before_a_wall(plane: bool, xi: np.ndarray, wrong: float) -> None:
    for seed in range(3):
        found = seen(xi, plane, wrong, seed=seed)
        assert found is not None
        turn_deg, direction_deg = off_deg(found, xi)
        assert turn_deg < 0.7
        assert direction_deg < 5.0
        assert np.median(found.xyz[:, 2]) == pytest.approx(MEDIAN_DEPTH)


def test_a_room_gives_an_essential_matrix_and_a_wall_a_homography() -> None:
    """Both models are tried on both scenes; of an exact plane only the homography gives the motion reliably."""
    assert all(
        found is not None and not found.planar for found in (seen(SIDEWAYS, wrong=0.4, seed=s) for s in range(3))
    )
    assert any(found is not None and found.planar for found in (seen(FAR, True, seed=s) for s in range(3)))


@pytest.mark.parametrize("plane", (False, True))
@pytest.mark.parametrize("xi", (TURN, np.zeros(6), np.array([0.01, 0.0, 0.0, 0.0, 0.0, 0.0])))
def test_a_camera_that_turns_or_stands_still_does_not_start(plane: bool, xi: np.ndarray) -> None:
    assert all(seen(xi, plane, seed=seed) is None for seed in range(3))


def test_two_motions_that_explain_the_same_are_not_chosen_between() -> None:
    """Towards a wall, its two motions are equally good."""
    assert seen(FORWARD, plane=True) is None


@pytest.mark.parametrize("share", (0.3, 0.4))
def test_a_thing_that_moves_does_not_start_a_still_or_turning_camera(share: float) -> None:
    for seed in range(3):
        assert seen(np.zeros(6), moving=share, seed=seed) is None
        assert seen(TURN, moving=share, seed=seed) is None


@pytest.mark.parametrize("xi", (SIDEWAYS, DIAGONAL, FORWARD))
def test_a_thing_that_moves_does_not_take_the_motion_along(xi: np.ndarray) -> None:
    found = seen(xi, moving=0.3)
    assert found is not None
    assert off_deg(found, xi)[1] < 2.0


def test_few_matches_do_not_start() -> None:
    assert seen(SIDEWAYS, count=90) is None


def test_the_same_views_give_the_same_start() -> None:
    one, two = seen(DIAGONAL), seen(DIAGONAL)
    assert one is not None and two is not None
    assert one.T_b_a.tobytes() == two.T_b_a.tobytes() and one.xyz.tobytes() == two.xyz.tobytes()
