# SPDX-License-Identifier: Apache-2.0
"""Each fault of images, depth and calibration is found when it is injected, its siblings too; healthy data has none."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from drp_slam.data.dataset import open_sequence
from drp_slam.datatypes import Camera, Frame
from drp_slam.doctor.examine import Examiner
from drp_slam.doctor.recordings import diagnose
from drp_slam.nodes.examination import Examination

ROOM = "synthetic:frames=64,width=320"
DATA = os.environ.get("DRP_SLAM_DATA", "")
TOPICS = {"image": "/image", "depth": "/depth", "right": "/right", "camera_info": "/camera_info"}


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return list(open_sequence(ROOM))


def names(frames: list[Frame]) -> set[str]:
    examiner = Examiner(TOPICS, 60)
    for frame in frames:
        examiner.follow(frame)
        if frame.index % 4 == 0:
            examiner.sample(frame)
    return {finding.check.name for finding in examiner.findings()}


def of_images(change: Callable[[np.ndarray, np.random.Generator], np.ndarray]) -> Callable[[Frame], Frame]:
    def changed(frame: Frame) -> Frame:
        assert frame.image is not None
        image = change(frame.image, np.random.default_rng(frame.index))
        return dataclasses.replace(frame, image=np.clip(image, 0, 255).astype(np.uint8))

    return changed


def of_depth(change: Callable[[np.ndarray], np.ndarray], unit_m: float | None = None) -> Callable[[Frame], Frame]:
    def changed(frame: Frame) -> Frame:
        assert frame.depth is not None
        return dataclasses.replace(frame, depth=change(frame.depth), depth_unit_m=unit_m or frame.depth_unit_m)

    return changed


def of_camera(**factors: float) -> Callable[[Frame], Frame]:
    def changed(frame: Frame) -> Frame:
        values = {name: getattr(frame.camera, name) * factor for name, factor in factors.items()}
        return dataclasses.replace(frame, camera=dataclasses.replace(frame.camera, **values))

    return changed


def warped(scale: float, dx: float, dy: float) -> Callable[[np.ndarray], np.ndarray]:
    """The view of a depth camera beside the colour camera, with another lens."""

    def change(depth: np.ndarray) -> np.ndarray:
        h, w = depth.shape
        move = np.array([[scale, 0, (1 - scale) * w / 2 + dx], [0, scale, (1 - scale) * h / 2 + dy]])
        return cv2.warpAffine(depth, move, (w, h), flags=cv2.INTER_NEAREST)

    return change


def dotted(count: int, still: bool) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    """The pattern of a projector: everywhere anew, or always at the same pixels."""

    def change(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        rng = np.random.default_rng(7) if still else rng
        out, (h, w) = image.copy(), image.shape[:2]
        for x, y in (rng.random((count, 2)) * (w - 2, h - 2) + 1).astype(int).tolist():
            out[y, x - 1 : x + 2] = out[y - 1 : y + 2, x] = 255
        return out

    return change


def noise(image: np.ndarray, rng: np.random.Generator, sigma: float) -> np.ndarray:
    return image + rng.normal(0, sigma, image.shape)


FAULTS = {
    "an eighth of the light": ("dark", of_images(lambda i, r: noise(i / 8, r, 1))),
    "lens cap": ("dark", of_images(lambda i, r: noise(i * 0, r, 1) + 2)),
    "overexposed": ("overexposed", of_images(lambda i, r: i * 3.0 + 70)),
    "out of focus": ("blurred", of_images(lambda i, r: cv2.GaussianBlur(i, (0, 0), 2.5))),
    "out of focus, with noise": ("blurred", of_images(lambda i, r: noise(cv2.GaussianBlur(i, (0, 0), 2.5), r, 1.5))),
    "fog": ("textureless", of_images(lambda i, r: noise(0.03 * i + 150, r, 1))),
    "IR dots": ("ir_dots", of_images(dotted(1200, False))),
    "IR dots that stay": ("ir_dots", of_images(dotted(500, True))),
    "no depth": ("no_depth", of_depth(lambda d: d * 0)),
    "constant depth": ("no_depth", of_depth(lambda d: np.full_like(d, 5000))),
    "depth of a few pixels": ("no_depth", of_depth(lambda d: d * (np.arange(d.shape[1]) % 12 == 0))),
    "metres in 16 bits": ("depth_unit", of_depth(lambda d: np.rint(d / 5000).astype(np.uint16), 0.001)),
    "centimetres in 16 bits": ("depth_unit", of_depth(lambda d: np.rint(d / 50).astype(np.uint16), 0.001)),
    "tenths of a millimetre": ("depth_unit", of_depth(lambda d: d * 2, 0.001)),
    "5000 a metre taken for millimetres": ("depth_unit", of_depth(lambda d: d, 0.001)),
    "millimetres in a float": ("depth_unit", of_depth(lambda d: d.astype(np.float32) / 5, 1.0)),
    "depth shifted": ("unregistered", of_depth(warped(1.0, 12, 0))),
    "depth camera with a wider lens": ("unregistered", of_depth(warped(0.8, 5, 3))),
    "depth camera with a narrower lens": ("unregistered", of_depth(warped(1.2, -5, 0))),
    "depth mirrored": ("unregistered", of_depth(lambda d: np.ascontiguousarray(d[:, ::-1]))),
    "depth upside down": ("unregistered", of_depth(lambda d: np.ascontiguousarray(d[::-1]))),
    "small depth": ("size_mismatch", of_depth(lambda d: np.ascontiguousarray(d[::2, ::2]))),
    "focal length too long": ("wrong_calibration", of_camera(fx=1.15, fy=1.15)),
    "focal length too short": ("wrong_calibration", of_camera(fx=0.85, fy=0.85)),
    "principal point off": ("wrong_calibration", of_camera(cx=1.15)),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_and_nothing_else(frames, name):
    expected, change = FAULTS[name]
    assert names([change(frame) for frame in frames]) == {expected}


def test_healthy_frames(frames):
    assert names(frames) == set()
    as_float = of_depth(lambda d: np.where(d > 0, d / np.float32(5000), np.nan).astype(np.float32), 1.0)
    assert names([as_float(frame) for frame in frames]) == set()
    grey = [dataclasses.replace(f, image=cv2.cvtColor(f.image, cv2.COLOR_BGR2GRAY)) for f in frames]
    assert names(grey) == set()


def test_a_view_alone_says_nothing_of_registration() -> None:
    """Depth edges of one view fit elsewhere by chance: a camera that stands still, or a recording that is played
    slowly, shows it often."""
    frames = list(open_sequence("synthetic:seed=2,frames=60,width=320"))[36:52]
    rng = np.random.default_rng(0)
    for frame in frames[2:11:8]:
        noisy = of_depth(lambda d: d + rng.integers(0, 3, d.shape, np.uint16) * (d > 0))
        assert names([dataclasses.replace(noisy(frame), index=4 * k) for k in range(20)]) <= {"frozen"}
    slow, clock_s = Examination(TOPICS, now=lambda: clock_s), 0.0
    for frame in frames:
        clock_s += 1.6
        slow.offer(frame)
        while not slow.idle:
            time.sleep(0.001)
    slow.close()
    assert slow.looks == 2 and not slow.findings, "half a second of the recording lies between two looks"


def test_a_frozen_camera(frames):
    assert names([dataclasses.replace(frame, image=frames[0].image) for frame in frames]) >= {"frozen"}


@pytest.mark.parametrize("name", ["tum_fr1_xyz", "icl_office3", "kitti_clip"])
def test_healthy_recordings(name):
    folder = Path(DATA, name)
    if not DATA or not folder.is_dir():
        pytest.skip("set DRP_SLAM_DATA to the folder of recordings")
    diagnosis = diagnose(str(folder), frames=60)
    assert not diagnosis.findings and diagnosis.examined == min(60, diagnosis.frames)


@pytest.mark.parametrize(
    ("rows", "swap", "expected"), [(0, False, None), (4, False, "wrong_pair"), (0, True, "wrong_pair")]
)
def test_a_stereo_pair(frames, rows, swap, expected):
    """A right image from the depth: right, lower by some rows, or swapped with the left one."""
    camera = dataclasses.replace(frames[0].camera, baseline_m=0.15)
    made = [pair(frame, camera, rows, swap) for frame in frames[::8]]
    examiner = Examiner(TOPICS, 60)
    for frame in made:
        examiner.sample(frame)
    assert {f.check.name for f in examiner.findings()} == ({expected} if expected else set())


def pair(frame: Frame, camera: Camera, rows: int, swap: bool) -> Frame:
    assert frame.image is not None and frame.depth is not None and camera.baseline_m
    h, w = frame.depth.shape
    z = np.where(frame.depth > 0, frame.depth * frame.depth_unit_m, 3.0).astype(np.float32)
    u, v = np.meshgrid(np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32))
    # the depth of the left image stands for that of the right one: enough for where points lie
    right = cv2.remap(frame.image, u + np.float32(camera.fx * camera.baseline_m) / z, v + rows, cv2.INTER_LINEAR)
    left = frame.image
    if swap:
        left, right = right, left
    return dataclasses.replace(frame, image=left, right=right, depth=None, camera=camera)
