# SPDX-License-Identifier: Apache-2.0
"""The ORB front end: where its keypoints lie, how they are spread, and a sequence tracked with them."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from drp_slam import cli
from drp_slam.config import Config
from drp_slam.config.config_file import override
from drp_slam.datatypes import Camera, Frame
from drp_slam.drp.orb_kernels import Spread
from drp_slam.errors import DrpError
from drp_slam.frontend.front_end import open_front_end

CAMERA = Camera(320, 240, 250.0, 250.0, 159.5, 119.5)
CONFIG = override(Config(), {"features": "orb", "drp.top_k": 400})


def textured(seed: int = 0, shape: tuple[int, int] = (240, 320)) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 2.5)


def test_keypoints_move_with_the_image_and_keep_their_descriptor() -> None:
    front = open_front_end(CONFIG)
    wide = textured(shape=(240, 330))
    one, runs = front(Frame(0, 0, np.ascontiguousarray(wide[:, :320]), CAMERA))
    two, _ = front(Frame(1, 1, np.ascontiguousarray(wide[:, 10:]), CAMERA))
    assert one.descriptor.dtype == np.uint8 and one.descriptor.shape == (len(one), front.descriptor.length)
    assert 300 < len(one) <= 400 and (np.diff(one.score) <= 0).all()
    matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(one.descriptor, two.descriptor)
    moved = np.array([two.uv[m.trainIdx] - one.uv[m.queryIdx] for m in matches if m.distance < 40])
    assert len(moved) > 100
    assert np.abs(np.median(moved, axis=0) - (-10, 0)).max() < 0.3
    names = [work.name for run in runs for work in run.works]
    assert names.count("orb_fast") == 8 and names.count("orb_resize") == 7
    assert {w.place for r in runs for w in r.works} == {"custom", "cpu"}


def test_levels_agree_on_where_a_corner_lies() -> None:
    """A square's corner is found on several levels; pixel centres map to pixel centres."""
    image = np.full((240, 320), 60, np.uint8)
    cv2.rectangle(image, (100, 80), (220, 180), 200, -1)
    features, _ = open_front_end(CONFIG)(Frame(0, 0, image, CAMERA))
    near = features.uv[np.linalg.norm(features.uv - (100, 80), axis=1) < 6]
    assert len(near) >= 3 and np.abs(near.mean(axis=0) - (100, 80)).max() < 3.0


def test_the_selection_is_spread_and_prefers_strong_corners() -> None:
    rng = np.random.default_rng(3)
    crowd = rng.integers(0, 40, (900, 2))  # many corners in one place
    lone = np.stack(np.meshgrid(np.arange(50, 300, 25), np.arange(50, 220, 25)), -1).reshape(-1, 2)
    pixels = np.concatenate([crowd, lone])
    response = np.r_[rng.integers(100, 250, len(crowd)), np.full(len(lone), 30)].astype(np.uint8)
    (kept,) = Spread(120).compute(pixels, response)
    assert len(kept) == len(set(kept.tolist())) == 120
    assert (kept >= len(crowd)).sum() > 0.9 * len(lone)
    assert Spread(5000).compute(pixels, response)[0].tolist() == list(range(len(pixels)))
    assert Spread(10).compute(pixels[:0], response[:0])[0].shape == (0,)


def test_a_small_image_is_refused_and_a_flat_one_has_no_feature() -> None:
    front = open_front_end(CONFIG)
    with pytest.raises(DrpError, match="ORB needs 39"):
        front(Frame(0, 0, np.zeros((100, 120), np.uint8), CAMERA))
    features, _ = front(Frame(0, 0, np.full((240, 320, 3), 90, np.uint8), CAMERA))
    assert len(features) == 0 and features.descriptor.shape == (0, 32)


def test_a_sequence_is_tracked_without_any_network(wall: Path, tmp_path: Path) -> None:
    assert cli.main(["run", str(wall), "--features", "orb", "--network", "no-such", "--out", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["tracked"] == report["frames"] and report["ate_rmse_m"] < 0.01
    assert report["network"] is None and list(report["stages"]) == ["orb", "track"]
    assert {k["place"] for k in report["kernels"]} == {"custom", "cpu"}
