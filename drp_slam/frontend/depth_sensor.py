# SPDX-License-Identifier: Apache-2.0
"""Depth of a camera: none to compute with depth images, stereo matching with a pair."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from drp_slam.config import DrpConfig
from drp_slam.data.camera_info import raw_rectification
from drp_slam.datatypes import Camera, Features, Frame
from drp_slam.device import Run, StageRun, open_device, stage_run
from drp_slam.drp.conditions import MODE_SGM_DRP
from drp_slam.drp.kernels import Grey
from drp_slam.drp.opencva import OpenCva
from drp_slam.drp.stereo import DisparityDepth, MatchRows
from drp_slam.errors import ConfigError, DrpError
from drp_slam.frontend.front_end import Stage

STEREO = Stage("stereo", "drp")
"""Depth from a pair: rectification, and matching of every pixel or of the keypoints."""
SMOOTHNESS = ((640, 80), (1280, 50), (1920, 30))
"""Widest image -> largest P2 that the OpenCV Accelerator's StereoSGBM supports."""


class Sensor:
    """An RGB-D camera: its depth comes with the frame. `camera` is the camera of the features."""

    def __init__(self, camera: Camera) -> None:
        self.camera = camera

    def before(self, frame: Frame) -> tuple[Frame, tuple[Run, ...]]:
        """The frame for the front end, and the run."""
        return frame, ()

    def after(self, frame: Frame, features: Features) -> tuple[Features, tuple[Run, ...]]:
        """The features, with depth if it is measured at them, and the run."""
        return features, ()


class StereoSensor(Sensor):
    """A stereo pair, rectified first if it is raw.

    `drp.stereo` chooses `keypoints` (sparse, along the row of each) or `dense` (StereoSGBM as in the OpenCV
    Accelerator). Raises ConfigError for a number of disparities that the DRP does not support.
    """

    def __init__(self, camera: Camera, config: DrpConfig) -> None:
        if config.disparities % 16 or (camera.width > 1280 and config.disparities > 128):
            raise ConfigError(
                f"drp.disparities is {config.disparities}, expected a multiple of 16, at most 256, and 128 for images "
                "wider than 1280 pixels"
            )
        self._maps, camera = rectification(camera)
        super().__init__(camera)
        self._device = open_device(config.backend, "drp")
        self._grey, self._remap = Grey(), OpenCva("remap", interpolation=cv2.INTER_LINEAR)
        self._dense = config.stereo == "dense"
        self._rows = MatchRows(config.disparities)
        assert camera.baseline_m is not None
        focal_baseline = camera.fx * camera.baseline_m
        self._depth = DisparityDepth(focal_baseline)
        self._focal_baseline = np.float32(focal_baseline)
        if self._dense:
            smooth = next((p2 for width, p2 in SMOOTHNESS if camera.width <= width), 0)
            arguments = {"numDisparities": config.disparities, "blockSize": 5, "P1": 10, "P2": smooth}
            self._matcher = OpenCva("StereoSGBM", **arguments, uniquenessRatio=10, mode=MODE_SGM_DRP)

    def before(self, frame: Frame) -> tuple[Frame, tuple[Run, ...]]:
        if frame.right is None or frame.image is None:
            raise DrpError(f"frame {frame.index} of a stereo camera has no right image; give both of each pair")
        runs: list[Run] = []
        pair = [frame.image, frame.right]
        for side, table in enumerate(self._maps):
            pair[side] = self._run(runs, self._remap, pair[side], table)
        frame = replace(frame, image=pair[0], right=pair[1], camera=self.camera)
        if self._dense:
            frame = replace(frame, depth=self._dense_depth(pair, runs), depth_unit_m=1.0)
        return frame, tuple(runs)

    def after(self, frame: Frame, features: Features) -> tuple[Features, tuple[Run, ...]]:
        if self._dense or frame.image is None or frame.right is None:
            return features, ()
        runs: list[Run] = []
        left, right = (self._in_grey(image, runs) for image in (frame.image, frame.right))
        disparity = self._run(runs, self._rows, left, right, features.uv)
        depth_m = np.zeros(len(disparity), np.float32)
        np.divide(self._focal_baseline, disparity, out=depth_m, where=disparity > 0)
        return replace(features, depth_m=depth_m), tuple(runs)

    def _dense_depth(self, pair: list[np.ndarray], runs: list[Run]) -> np.ndarray:
        """(H, W) float32 metres. The DRP requires widths that are multiples of 4: the last columns have no depth."""
        height, width = pair[0].shape[:2]
        wide = width // 4 * 4
        left, right = (np.ascontiguousarray(self._in_grey(image, runs)[:, :wide]) for image in pair)
        depth = np.zeros((height, width), np.float32)
        depth[:, :wide] = self._run(runs, self._depth, self._run(runs, self._matcher, left, right))
        return depth

    def _in_grey(self, image: np.ndarray, runs: list[Run]) -> np.ndarray:
        return image if image.ndim == 2 else self._run(runs, self._grey, image)

    def _run(self, runs: list[Run], program: Any, *inputs: np.ndarray) -> np.ndarray:
        runs.append(self._device.run(program, *inputs))
        return runs[-1].outputs[0]


def open_sensor(camera: Camera, config: DrpConfig) -> Sensor:
    """The sensor for a camera: stereo if it has a baseline."""
    return Sensor(camera) if camera.baseline_m is None else StereoSensor(camera, config)


def sensor_run(runs: tuple[Run, ...]) -> tuple[StageRun, ...]:
    """The stage of a sensor's programs; empty if it ran none."""
    return (stage_run(STEREO.name, STEREO.unit, runs),) if runs else ()


def rectification(camera: Camera) -> tuple[tuple[np.ndarray, ...], Camera]:
    """Tables (H, W, 2) float32 for `remap` of left and right, and the left camera of the rectified pair.

    No tables for a rectified pair. Both images keep their size; only pixels that both cameras see
    remain. Raises DrpError unless the cameras are side by side.
    """
    right = camera.right
    if right is None:
        return (), camera
    size = (camera.width, camera.height)
    (R1, R2), (P1, P2) = raw_rectification(camera)
    fisheye = camera.model == "equidistant"
    table: Any = cv2.fisheye.initUndistortRectifyMap if fisheye else cv2.initUndistortRectifyMap
    fx, baseline_m = float(P1[0, 0]), float(-P2[0, 3] / P2[0, 0])
    if not (fx > 0 and baseline_m > 0):
        raise DrpError(
            f"the rectified pair would have a focal length of {fx:g} px and a baseline of {baseline_m:g} m; expected "
            "the right camera to the right of the left one: check T_BS of both"
        )
    sides = zip((camera, right), (R1, R2), (P1, P2))
    maps = [np.dstack(table(c.K, c.distortion, turn, P, size, cv2.CV_32FC1)) for c, turn, P in sides]
    left = replace(
        camera,
        fx=fx,
        fy=float(P1[1, 1]),
        cx=float(P1[0, 2]),
        cy=float(P1[1, 2]),
        distortion=np.zeros(5),
        model="plumb_bob",
        baseline_m=baseline_m,
        right=None,
        T_right_left=None,
    )
    return tuple(maps), left
