# SPDX-License-Identifier: Apache-2.0
"""ORB-SLAM3 on the same frames, by the package `pyorbslam3`: read `beside` first.

Neither the package (GPL-3.0) nor a vocabulary is part of drp_slam. ORB-SLAM3 runs in a process of its own, because it
prints to the terminal, and ends its process on some errors. Its parameters are those of its authors' files for
TUM RGB-D and KITTI; the camera is the sequence's.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from drp_slam import geometry
from drp_slam.data.accuracy import mirror_image
from drp_slam.data.dataset import open_sequence
from drp_slam.data.disturbances import CASES
from drp_slam.data.sequence import Sequence
from drp_slam.data.trajectory import read_tum, write_tum
from drp_slam.datatypes import Camera, Frame, Trajectory
from drp_slam.errors import DataError, pip_install
from drp_slam.evaluation.robustness import errors_of, is_static
from drp_slam.offline import decoded_ahead

PACKAGE = "pyorbslam3"
LIVE, FINAL, COUNTED = "live.txt", "final.txt", "orbslam3.json"
RGBD_BASELINE_M, FAR_BASELINES, FAR_BASELINES_STEREO = 0.08, 40.0, 35.0
"""Of a Kinect, and from how many baselines on a point is far: `TUM1.yaml` and `KITTI04-12.yaml`."""
FEATURES, FEATURES_STEREO = 1000, 2000
FAST, FAST_STEREO, FAST_LEAST = 20, 12, 7
VIEWER = {
    "KeyFrameSize": 0.05,
    "KeyFrameLineWidth": 1.0,
    "GraphLineWidth": 0.9,
    "PointSize": 2.0,
    "CameraSize": 0.08,
    "CameraLineWidth": 3.0,
    "ViewpointX": 0.0,
    "ViewpointY": -0.7,
    "ViewpointZ": -1.8,
    "ViewpointF": 500.0,
}
"""ORB-SLAM3 reads these even when nothing is shown."""


@dataclass(frozen=True)
class Run:
    """What ORB-SLAM3 made of a sequence.

    `live` are the poses that it returned frame by frame, `final` those that it saved at the end. `wall_s` and
    `cpu_s` are for all frames, without reading the vocabulary. `ended`: why its process ended early, "" if it did not.
    """

    frames: int
    live: Trajectory
    final: Trajectory
    wall_s: float
    cpu_s: float
    ended: str = ""


def check(vocabulary: Path) -> None:
    """Raises DataError without the package or the file."""
    if importlib.util.find_spec(PACKAGE) is None:
        raise DataError(
            f"--orbslam3-vocabulary needs the Python package {PACKAGE} (GPL-3.0), which is not installed; "
            + pip_install(PACKAGE)
        )
    if not vocabulary.is_file():
        raise DataError(f"no vocabulary {vocabulary}; ORB-SLAM3's repository has it as Vocabulary/ORBvoc.txt.tar.gz")


def beside(name: str, case: str, frames: int | None, vocabulary: Path) -> Run:
    """Runs a case of `disturbances.CASES` of the sequence `name` through ORB-SLAM3, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        words = [name, case, str(frames or 0), str(vocabulary), folder]
        child = subprocess.run(
            [sys.executable, "-m", __name__, *words], capture_output=True, text=True, errors="replace"
        )
        nothing = Trajectory.of([])
        if child.returncode:
            said = (child.stderr.strip() or child.stdout.strip() or "it said nothing").splitlines()[-1]
            how = f"signal {-child.returncode}" if child.returncode < 0 else f"exit {child.returncode}"
            return Run(0, nothing, nothing, 0.0, 0.0, f"{how}: {said}")
        counted = json.loads((Path(folder) / COUNTED).read_text())
        live, final = read_tum(Path(folder) / LIVE), saved(Path(folder) / FINAL)
        return Run(counted["frames"], live, final, counted["wall_s"], counted["cpu_s"])


def row(name: str, case: str, frames: int | None, vocabulary: Path, mirrored: bool = False) -> dict[str, Any]:
    """`beside` as plain values, with the errors that `robustness.Row` has; None where there are none.

    `mirrored`: measured against the mirror image of the ground truth, as the row beside.
    """
    sequence = CASES[case](open_sequence(name, frames=frames))
    run, truth = beside(name, case, frames, vocabulary), sequence.ground_truth
    ate_m = live_m = None
    if truth is not None and len(truth) and len(run.live):
        if is_static(truth):
            away = geometry.inverse(run.live.T_world_camera[0]) @ run.live.T_world_camera
            live_m = float(np.linalg.norm(away[:, :3, 3], axis=1).max())
        else:
            truth = mirror_image(truth) if mirrored else truth
            found = errors_of(run.live, run.final if len(run.final) else run.live, truth, sequence.camera.mono)
            ate_m, live_m = (found[1], found[0].rmse_m) if found else (None, None)
    counts = {"frames": run.frames, "tracked": len(run.live), "wall_s": run.wall_s, "cpu_s": run.cpu_s}
    return {**counts, "ate_m": ate_m, "live_m": live_m, "ended": run.ended}


def saved(path: Path) -> Trajectory:
    """The trajectory that ORB-SLAM3 saved, empty without one: after a second map its stamps are not in order."""
    if not path.is_file() or not path.stat().st_size:
        return Trajectory.of([])
    rows = np.loadtxt(path, ndmin=2)
    rows = rows[np.unique(rows[:, 0], return_index=True)[1]]
    poses = np.tile(np.eye(4), (len(rows), 1, 1))
    poses[:, :3, :3], poses[:, :3, 3] = geometry.rotation(rows[:, 4:8]), rows[:, 1:4]
    return Trajectory(np.rint(rows[:, 0] * 1e9).astype(np.int64), poses)


def settings(camera: Camera) -> str:
    """The settings file of a camera. Raises DataError for one that ORB-SLAM3 cannot be given here."""
    if camera.model != "plumb_bob" or camera.right is not None:
        raise DataError(
            f"ORB-SLAM3 is compared with plumb_bob cameras and rectified pairs, not {camera.model}; rectify the images"
        )
    stereo = camera.baseline_m is not None
    baseline_m = camera.baseline_m or RGBD_BASELINE_M
    # a rectified pair is without distortion; the newer form of these files crashes on it
    distortion = np.zeros(5) if stereo else camera.distortion
    lines: dict[str, str | int | float] = {
        "Camera.type": '"PinHole"',
        **{f"Camera.{key}": float(getattr(camera, key)) for key in ("fx", "fy", "cx", "cy")},
        **{f"Camera.{key}": float(k) for key, k in zip(("k1", "k2", "p1", "p2", "k3"), distortion)},
        "Camera.width": camera.width,
        "Camera.height": camera.height,
        "Camera.fps": float(camera.fps),
        "Camera.bf": float(camera.fx * baseline_m),
        "Camera.RGB": 0,
        "ThDepth": FAR_BASELINES_STEREO if stereo else FAR_BASELINES,
        "DepthMapFactor": 1.0,
        "ORBextractor.nFeatures": FEATURES_STEREO if stereo else FEATURES,
        "ORBextractor.scaleFactor": 1.2,
        "ORBextractor.nLevels": 8,
        "ORBextractor.iniThFAST": FAST_STEREO if stereo else FAST,
        "ORBextractor.minThFAST": FAST_LEAST,
        **{f"Viewer.{key}": value for key, value in VIEWER.items()},
    }
    return "%YAML:1.0\n" + "".join(f"{key}: {value}\n" for key, value in lines.items())


def track(sequence: Sequence, vocabulary: Path, folder: Path) -> None:
    """Runs a sequence through ORB-SLAM3 in this process; writes what `beside` reads into `folder`."""
    import pyorbslam3  # type: ignore[import-not-found,import-untyped,unused-ignore]

    sensors, camera = pyorbslam3.Sensor, sequence.camera
    sensor = sensors.MONOCULAR if camera.mono else sensors.STEREO if camera.baseline_m else sensors.RGBD
    file = folder / "settings.yaml"
    file.write_text(settings(camera))
    slam = pyorbslam3.Slam(str(vocabulary), str(file), sensor)
    poses: list[tuple[int, np.ndarray]] = []
    frames, start, cpu = 0, time.perf_counter(), time.process_time()
    for frame in decoded_ahead(sequence):
        found = _tracked(slam, frame, camera)
        frames += 1
        if found.pose_valid:
            poses.append((frame.stamp_ns, np.array(found.pose_wc, dtype=np.float64)))
    wall_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu
    slam.shutdown()
    write_tum(folder / LIVE, Trajectory.of(poses))
    if not camera.mono and poses:
        slam.save_trajectory_tum(str(folder / FINAL))
    (folder / COUNTED).write_text(json.dumps({"frames": frames, "wall_s": wall_s, "cpu_s": cpu_s}))


def _tracked(slam: Any, frame: Frame, camera: Camera) -> Any:
    stamp_s = frame.stamp_ns * 1e-9
    if camera.mono:
        return slam.track_monocular(frame.image, stamp_s)
    if camera.baseline_m:
        return slam.track_stereo(frame.image, frame.right, stamp_s)
    if frame.depth is None:
        depth_m = np.zeros((camera.height, camera.width), np.float32)
    else:
        depth_m = np.nan_to_num(frame.depth.astype(np.float32) * np.float32(frame.depth_unit_m), posinf=0.0)
    return slam.track_rgbd(frame.image, depth_m, stamp_s)


def main(words: list[str]) -> None:
    """The process of `beside`."""
    p = argparse.ArgumentParser()
    for name in ("sequence", "case", "frames", "vocabulary", "folder"):
        p.add_argument(name)
    args = p.parse_args(words)
    sequence = CASES[args.case](open_sequence(args.sequence, frames=int(args.frames) or None))
    track(sequence, Path(args.vocabulary), Path(args.folder))


if __name__ == "__main__":
    main(sys.argv[1:])
