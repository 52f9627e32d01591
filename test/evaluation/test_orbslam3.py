# SPDX-License-Identifier: Apache-2.0
"""ORB-SLAM3 beside the tracker: its settings, its process, and what is said without it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from drp_slam.data.dataset import open_sequence
from drp_slam.datatypes import Camera
from drp_slam.errors import DataError
from drp_slam.evaluation import orbslam3

CAMERA = Camera(640, 480, 520.0, 522.0, 320.0, 240.0, np.array([0.2, -0.4, 0.001, -0.002, 0.3]), 30.0)
SEQUENCE = "synthetic:frames=12,width=320"
STAND_IN = """
import sys
from types import SimpleNamespace
import numpy as np

class Sensor:
    MONOCULAR, STEREO, RGBD = range(3)

class Slam:
    def __init__(self, vocabulary, settings, sensor):
        assert sensor == Sensor.RGBD and open(settings).readline().strip() == "%YAML:1.0"
        print("ORB-SLAM3 prints a lot")
        self.stamps = []
        if "broken" in open(vocabulary).read():
            sys.exit("Wrong path to vocabulary")

    def track_rgbd(self, image, depth, stamp_s):
        assert depth.dtype == np.float32 and image.shape[:2] == depth.shape and 0.1 < np.median(depth) < 10.0
        self.stamps.append(stamp_s)
        return SimpleNamespace(pose_valid=len(self.stamps) > 2, pose_wc=np.eye(4))

    def shutdown(self):
        pass

    def save_trajectory_tum(self, path):
        with open(path, "w") as file:
            stamps = self.stamps[6:] + self.stamps[2:7]
            file.writelines(f"{stamp:.6f} 0 0 0 0 0 0 1\\n" for stamp in stamps)
"""
"""A package of the same interface, whose camera never moves; the first two frames are lost."""


def test_settings_are_read_by_opencv(tmp_path: Path) -> None:
    """As ORB-SLAM3 reads them: a number without a point would be an integer, which it refuses."""
    file = tmp_path / "settings.yaml"
    for camera, features, bf in ((CAMERA, 1000, 520.0 * 0.08), (replace(CAMERA, baseline_m=0.5), 2000, 260.0)):
        file.write_text(orbslam3.settings(camera))
        read = cv2.FileStorage(str(file), cv2.FILE_STORAGE_READ)
        assert read.getNode("Camera.fy").isReal() and read.getNode("Camera.fy").real() == 522.0
        assert read.getNode("Camera.bf").real() == pytest.approx(bf)
        assert read.getNode("ORBextractor.nFeatures").isInt() and read.getNode("ThDepth").isReal()
        assert read.getNode("ORBextractor.nFeatures").real() == features
        assert read.getNode("Camera.k3").real() == (0.0 if camera.baseline_m else 0.3)


def test_other_cameras_and_a_missing_vocabulary_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="plumb_bob cameras and rectified pairs, not equidistant"):
        orbslam3.settings(replace(CAMERA, model="equidistant", distortion=np.zeros(4)))
    what = "no vocabulary" if importlib.util.find_spec(orbslam3.PACKAGE) else "pip install 'pyorbslam3'"
    with pytest.raises(DataError, match=what):
        orbslam3.check(tmp_path / "none.txt")


def row(tmp_path: Path, vocabulary: str) -> dict[str, object]:
    """`orbslam3.row` in an interpreter that finds the stand-in."""
    (tmp_path / "pyorbslam3.py").write_text(STAND_IN)
    (tmp_path / "vocabulary.txt").write_text(vocabulary)
    script = (
        "import json, pathlib; from drp_slam.evaluation import orbslam3; "
        "file = pathlib.Path('vocabulary.txt'); orbslam3.check(file); "
        f"print(json.dumps(orbslam3.row({SEQUENCE!r}, 'as recorded', None, file)))"
    )
    root = str(Path(__file__).parents[2])
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join([root, str(tmp_path)])}
    words = [sys.executable, "-c", script]
    done = subprocess.run(words, cwd=tmp_path, env=paths, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_its_poses_are_measured_like_ours(tmp_path: Path) -> None:
    found, truth = row(tmp_path, "words"), open_sequence(SEQUENCE).ground_truth
    assert truth is not None
    assert (found["frames"], found["tracked"], found["ended"]) == (12, 10, "")
    still_m = np.sqrt(truth.positions_m[2:].var(axis=0).sum())
    assert found["live_m"] == pytest.approx(still_m, rel=1e-3) and found["ate_m"] == pytest.approx(still_m, rel=1e-3)


def test_its_end_is_told(tmp_path: Path) -> None:
    found = row(tmp_path, "broken")
    assert found["tracked"] == 0 and found["live_m"] is None
    assert found["ended"] == "exit 1: Wrong path to vocabulary"
