# SPDX-License-Identifier: Apache-2.0
"""Calibration files of other programs, as they write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from drp_slam.data.calibration import read_calibration, save_camera
from drp_slam.data.dataset import open_sequence
from drp_slam.datatypes import Camera
from drp_slam.errors import DataError

OST = """image_width: 64
image_height: 48
camera_name: narrow_stereo
camera_matrix:
  rows: 3
  cols: 3
  data: [52.5, 0., 31.5, 0., 52.4, 23.5, 0., 0., 1.]
distortion_model: {model}
distortion_coefficients:
  rows: 1
  cols: {count}
  data: {d}
rectification_matrix: {{rows: 3, cols: 3, data: [1, 0, 0, 0, 1, 0, 0, 0, 1]}}
projection_matrix: {{rows: 3, cols: 4, data: [50, 0, 30, 0, 0, 50, 20, 0, 0, 0, 1, 0]}}
"""
ORB2 = """%YAML:1.0

#--------------------------------------------------------------------------------------------
# Camera Parameters. Adjust them!
Camera.fx: 52.5
Camera.fy: 52.4
Camera.cx: 31.5
Camera.cy: 23.5

Camera.k1: 0.262383
Camera.k2: -0.953104
Camera.p1: -0.005358
Camera.p2: 0.002628
Camera.k3: 1.163314

Camera.width: 64
Camera.height: 48
Camera.fps: 30.0
# IR projector baseline times fx (aprox.)
Camera.bf: 40.0
Camera.RGB: 1
ThDepth: 40.0
DepthMapFactor: 5000.0
"""
ORB3 = """%YAML:1.0

File.version: "1.0"
Camera.type: "{kind}"
Camera1.fx: 52.5
Camera1.fy: 52.4
Camera1.cx: 31.5
Camera1.cy: 23.5
Camera1.k1: 0.1
Camera1.k2: -0.2
{rest}
Camera.width: 64
Camera.height: 48
Camera.fps: 15
Camera.RGB: 1
"""
KALIBR = """cam0:
  camera_model: pinhole
  distortion_coeffs: [0.1, -0.2, 0.01, 0.02]
  distortion_model: radtan
  intrinsics: [52.5, 52.4, 31.5, 23.5]
  resolution: [64, 48]
  rostopic: /cam0/image_raw
"""


def read(tmp_path: Path, text: str):
    path = tmp_path / "some.yaml"
    path.write_text(text)
    given = read_calibration(path)
    camera = given.camera
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (52.5, 52.4, 31.5, 23.5)
    return given


@pytest.mark.parametrize(
    ("model", "d", "wanted"),
    [
        ("plumb_bob", [0.1, -0.2, 0.01, 0.02, 0.3], "plumb_bob"),
        ("rational_polynomial", [0.1, -0.2, 0.01, 0.02, 0.3, 0.5, 0.6, 0.7], "rational_polynomial"),
        ("equidistant", [0.1, -0.2, 0.01, 0.02], "equidistant"),
    ],
)
def test_camera_calibration(tmp_path: Path, model: str, d: list[float], wanted: str) -> None:
    given = read(tmp_path, OST.format(model=model, count=len(d), d=d))
    assert given.camera.model == wanted and given.camera.distortion.tolist() == d
    assert (given.camera.width, given.camera.height) == (64, 48)
    assert "depth_scale" not in given.stated and "unit of depth" in given.notes[0]


def test_orb_slam2_rgbd(tmp_path: Path) -> None:
    given = read(tmp_path, ORB2)
    assert given.camera.distortion.tolist() == [0.262383, -0.953104, -0.005358, 0.002628, 1.163314]
    assert given.camera.depth_scale == 5000 and given.camera.baseline_m is None and not given.notes


@pytest.mark.parametrize(
    ("kind", "rest", "model", "d", "baseline_m"),
    [
        ("PinHole", "Camera1.p1: 0.01\nRGBD.DepthMapFactor: 1000.0", "plumb_bob", [0.1, -0.2, 0.01, 0, 0], None),
        (
            "KannalaBrandt8",
            "Camera1.k3: 0.3\nCamera1.k4: 0.4\nStereo.b: 0.1",
            "equidistant",
            [0.1, -0.2, 0.3, 0.4],
            0.1,
        ),
        ("Rectified", "Stereo.b: 0.2\nStereo.ThDepth: 60", "plumb_bob", [0, 0, 0, 0, 0], 0.2),
        (
            "PinHole",
            "Camera.bf: 21\nStereo.T_c1_c2: !!opencv-matrix\n  rows: 2\n  cols: 1\n  dt: f\n  data: [1, 0]",
            "plumb_bob",
            [0.1, -0.2, 0, 0, 0],
            0.4,
        ),
    ],
)
def test_orb_slam3(tmp_path: Path, kind: str, rest: str, model: str, d: list[float], baseline_m: float | None) -> None:
    camera = read(tmp_path, ORB3.format(kind=kind, rest=rest)).camera
    assert camera.model == model and camera.distortion.tolist() == d and camera.fps == 15
    assert camera.baseline_m == (None if baseline_m is None else pytest.approx(baseline_m))


def test_kalibr_and_euroc(tmp_path: Path) -> None:
    camera = read(tmp_path, KALIBR).camera
    assert camera.model == "plumb_bob" and camera.distortion.tolist() == [0.1, -0.2, 0.01, 0.02, 0.0]


def test_this_packages_own_form_is_read_alike(tmp_path: Path) -> None:
    save_camera(tmp_path / "c.yaml", Camera(64, 48, 52.5, 52.4, 31.5, 23.5, depth_scale=5000))
    given = read_calibration(tmp_path / "c.yaml")
    assert given.camera.depth_scale == 5000 and {"depth_scale", "fps"} <= given.stated


def test_a_file_without_a_size_takes_that_of_the_images(room_folder: Path, tmp_path: Path) -> None:
    text = "".join(line + "\n" for line in ORB2.splitlines() if "width" not in line and "height" not in line)
    path = tmp_path / "orb.yaml"
    path.write_text(text)
    read = open_sequence(str(room_folder), str(path))
    assert (read.camera.width, read.camera.height) == (64, 48) and len(list(read)) == 6
    assert any("--camera is used instead" in note for note in read.notes)


def test_what_a_file_does_not_state_stays_as_recorded(room_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "ost.yaml"
    path.write_text(OST.format(model="plumb_bob", count=5, d=[0.1, 0, 0, 0, 0]))
    camera = open_sequence(str(room_folder), str(path)).camera
    assert camera.distortion[0] == 0.1 and (camera.depth_scale, camera.fps) == (5000, 30)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("data: [52.5, 0.,", "data: [52.5,"),
        ("[52.5,", "[.nan,"),
        ("[52.5,", "[-1,"),
        ("image_width: 64", "image_width: wide"),
    ],
)
def test_a_damaged_file_is_one_line_that_names_it(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "ost.yaml"
    path.write_text(OST.format(model="plumb_bob", count=5, d=[0.0] * 5).replace(old, new))
    with pytest.raises(DataError, match=r"ost\.yaml") as error:
        read_calibration(path)
    assert "\n" not in str(error.value)


def test_another_model_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ost.yaml"
    path.write_text(OST.format(model="fov", count=1, d=np.array([0.9]).tolist()))
    with pytest.raises(DataError, match="'fov' with 1 numbers"):
        read_calibration(path)
