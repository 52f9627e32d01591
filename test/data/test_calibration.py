# SPDX-License-Identifier: Apache-2.0
"""Calibration files."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drp_slam import resources
from drp_slam.data.calibration import REQUIRED, read_calibration, save_camera
from drp_slam.datatypes import Camera
from drp_slam.errors import DataError

GOOD = {
    "width": 64,
    "height": 48,
    "fx": 50.0,
    "fy": 50,
    "cx": 31.5,
    "cy": 23.5,
    "distortion": [0, 0, 0, 0, 0],
    "depth_scale": 5000.0,
    "fps": 30,
}


def write(path: Path, **changes: object) -> Path:
    values = {k: v for k, v in {**GOOD, **changes}.items() if v is not ...}
    path.write_text("".join(f"{key}: {value}\n" for key, value in values.items()))
    return path


finite = st.floats(-1e6, 1e6)
positive = st.floats(1e-6, 1e6)
cameras = st.builds(
    Camera,
    st.integers(1, 65536),
    st.integers(1, 65536),
    positive,
    positive,
    finite,
    finite,
    st.lists(finite, min_size=5, max_size=5).map(np.array),
    positive,
    positive,
    st.none() | positive,
)


@settings(max_examples=60, deadline=None)
@given(cameras)
def test_files_keep_every_bit(tmp_path_factory: pytest.TempPathFactory, camera: Camera) -> None:
    path = tmp_path_factory.mktemp("c") / "camera.yaml"
    save_camera(path, camera)
    read = read_calibration(path).camera
    for f in fields(Camera):
        assert np.array_equal(getattr(read, f.name), getattr(camera, f.name)), f.name


@pytest.mark.parametrize("key", REQUIRED)
def test_nothing_is_guessed(tmp_path: Path, key: str) -> None:
    path = write(tmp_path / "camera.yaml", **{key: ...})
    with pytest.raises(DataError, match=f"camera.yaml: lacks {key};"):
        read_calibration(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fx": -1.0}, "fx is -1.0, expected a number above 0"),
        ({"fx": "'wide'"}, "fx is 'wide'"),
        ({"cx": ".nan"}, "cx is nan, expected a finite number"),
        ({"width": 640.5}, "width is 640.5"),
        ({"width": True}, "width is True"),
        ({"height": 0}, "height is 0"),
        ({"distortion": [0, 0, 0, 0]}, "plumb_bob has 5 numbers: k1 k2 p1 p2 k3"),
        ({"distortion": [0, 0, 0]}, "expected 5 numbers: k1 k2 p1 p2 k3"),
        ({"model": "fov"}, "model is 'fov'"),
        ({"model": "equidistant"}, "equidistant has 4 numbers"),
        ({"depth_scale": 0}, "depth_scale is 0"),
        ({"baseline_m": -0.1}, "baseline_m is -0.1"),
        ({"fX": 1}, "unknown fX"),
    ],
)
def test_bad_values_are_named(tmp_path: Path, changes: dict, words: str) -> None:
    with pytest.raises(DataError) as error:
        read_calibration(write(tmp_path / "camera.yaml", **changes))
    assert words in str(error.value) and str(tmp_path) in str(error.value)


@pytest.mark.parametrize("text", ["", "- 1\n", "a: [1\n", "\x00"])
def test_files_that_are_no_calibration_are_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "camera.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=r"camera\.yaml"):
        read_calibration(path)


def test_every_shipped_camera_loads() -> None:
    shipped = sorted((resources.share() / "config" / "cameras").glob("*.yaml"))
    assert {path.stem for path in shipped} >= {"tum_fr1", "tum_fr2", "tum_fr3"}
    for path in shipped:
        assert read_calibration(path).camera.depth_scale == 5000.0
        assert "Source" in path.read_text()


def test_the_shipped_camera_is_that_of_the_real_sequence(tum_fr1_xyz: Path) -> None:
    own, shipped = (
        read_calibration(tum_fr1_xyz / "camera.yaml").camera,
        read_calibration(resources.camera_file("tum_fr1")).camera,
    )
    assert np.array_equal(own.K, shipped.K) and np.array_equal(own.distortion, shipped.distortion)
