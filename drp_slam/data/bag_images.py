# SPDX-License-Identifier: Apache-2.0
"""Creates image and camera messages of the `rosbags` typestore from arrays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from drp_slam.data.camera_info import raw_rectification
from drp_slam.data.image_codec import LARGEST_FILE, colour_of
from drp_slam.datatypes import Camera
from drp_slam.errors import DataError
from drp_slam.resources import read_regular

MAGIC = {"jpeg": b"\xff\xd8\xff", "png": b"\x89PNG\r\n\x1a\n"}
"""First bytes of a file."""


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


def compressed_depth(types: Any, header: Any, depth: np.ndarray) -> Any:
    """CompressedImage of (H, W) uint16 depth, as compressed_depth_image_transport writes it."""
    png = cv2.imencode(".png", depth, (cv2.IMWRITE_PNG_COMPRESSION, 1))[1]
    data = np.concatenate([np.zeros(12, np.uint8), png.ravel()])
    return types["sensor_msgs/msg/CompressedImage"](header=header, format="16UC1; compressedDepth png", data=data)


def compressed(types: Any, header: Any, pixels: np.ndarray) -> Any:
    """CompressedImage: JPEG of quality 95."""
    data = cv2.imencode(".jpg", pixels, (cv2.IMWRITE_JPEG_QUALITY, 95))[1]
    return _compressed(types, header, pixels, "jpeg", data.ravel())


def as_recorded(types: Any, header: Any, pixels: np.ndarray, file: Path) -> Any | None:
    """CompressedImage with the bytes of `file`; None if readers would not decode them to `pixels`."""
    data = read_regular(file, LARGEST_FILE, DataError)
    form = next((form for form, magic in MAGIC.items() if data.startswith(magic)), None)
    if form is None:
        return None
    message = _compressed(types, header, pixels, form, np.frombuffer(data, np.uint8))
    try:
        return message if np.array_equal(colour_of(message, str(file)), pixels) else None
    except DataError:
        return None


def _compressed(types: Any, header: Any, pixels: np.ndarray, form: str, data: np.ndarray) -> Any:
    encoding = f"bgr8; {form} compressed bgr8" if pixels.ndim == 3 else f"mono8; {form} compressed "
    return types["sensor_msgs/msg/CompressedImage"](header=header, format=encoding, data=data)
