# SPDX-License-Identifier: Apache-2.0
"""Creates image and camera messages of the `rosbags` typestore from arrays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from drp_slam.data.camera_info import raw_rectification
from drp_slam.datatypes import Camera


def camera_info(types: Any, header: Any, camera: Camera) -> Any:
    """CameraInfo of a camera."""
    K = camera.K
    P = np.hstack([K, np.zeros((3, 1))])
    P[0, 3] = -camera.fx * (camera.baseline_m or 0.0)
    roi = types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    return types["sensor_msgs/msg/CameraInfo"](
        header=header,
        height=camera.height,
        width=camera.width,
        distortion_model=camera.model,
        d=np.asarray(camera.distortion, np.float64),
        k=K.ravel(),
        r=np.eye(3).ravel(),
        p=P.ravel(),
        binning_x=0,
        binning_y=0,
        roi=roi,
    )


def pair_infos(types: Any, header: Any, camera: Camera) -> tuple[Any, Any]:
    """CameraInfo of both cameras of a pair: of a raw one with the rotations (R) and baseline (P) that rectify it."""
    if camera.right is None:
        return camera_info(types, header, replace(camera, baseline_m=None)), camera_info(types, header, camera)
    alone = (replace(camera, baseline_m=None, right=None, T_right_left=None), camera.right)
    infos = tuple(camera_info(types, header, one) for one in alone)
    for info, R, P in zip(infos, *raw_rectification(camera)):
        info.r[:], info.p[:] = R.ravel(), P.ravel()
    return infos[0], infos[1]


def image(types: Any, header: Any, pixels: np.ndarray, encoding: str) -> Any:
    """Image of contiguous pixels."""
    height, width = pixels.shape[:2]
    data = np.ascontiguousarray(pixels).reshape(-1).view(np.uint8)
    return types["sensor_msgs/msg/Image"](
        header=header,
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=len(data) // height,
        data=data,
    )


def compressed(types: Any, header: Any, pixels: np.ndarray, depth: bool) -> Any:
    """CompressedImage: colour as JPEG of quality 95, depth as compressed_depth_image_transport."""
    if depth:
        png = cv2.imencode(".png", pixels, (cv2.IMWRITE_PNG_COMPRESSION, 1))[1]
        data, form = np.concatenate([np.zeros(12, np.uint8), png]), "16UC1; compressedDepth png"
    else:
        data = cv2.imencode(".jpg", pixels, (cv2.IMWRITE_JPEG_QUALITY, 95))[1]
        form = "bgr8; jpeg compressed bgr8" if pixels.ndim == 3 else "mono8; jpeg compressed "
    return types["sensor_msgs/msg/CompressedImage"](header=header, format=form, data=data.ravel())
