# SPDX-License-Identifier: Apache-2.0
"""ROS image and camera messages <-> arrays, for messages of the `rosbags` typestore.

Pixels are views into the message where their byte order allows it.
"""

from __future__ import annotations

import struct
from typing import Any

import cv2
import numpy as np

from drp_slam.data.decoding import decode
from drp_slam.datatypes import Camera
from drp_slam.errors import DataError

COLOURS = {
    "bgr8": (3, None),
    "rgb8": (3, cv2.COLOR_RGB2BGR),
    "mono8": (1, None),
    "bgra8": (4, cv2.COLOR_BGRA2BGR),
    "rgba8": (4, cv2.COLOR_RGBA2BGR),
    "8UC3": (3, None),
    "8UC1": (1, None),
}
DEPTHS = {"16UC1": ("u2", 0.001), "mono16": ("u2", 0.001), "32FC1": ("f4", 1.0)}
"""Encoding -> dtype and unit in metres (REP-118)."""


def colour_of(message: Any, where: str) -> np.ndarray:
    """(H, W, 3) BGR or (H, W) grey, uint8, of an Image or CompressedImage."""
    if hasattr(message, "format"):
        flags = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_IGNORE_ORIENTATION
        return decode(memoryview(message.data), flags, where)
    if message.encoding not in COLOURS:
        raise DataError(f"{where}: colour encoding is {message.encoding!r}, supported: {', '.join(COLOURS)}")
    channels, conversion = COLOURS[message.encoding]
    pixels = _pixels(message, np.dtype("u1"), channels, where)
    return pixels if conversion is None else cv2.cvtColor(pixels, conversion)


def depth_of(message: Any, where: str) -> tuple[np.ndarray, float]:
    """(H, W) uint16 or float32 of an Image or CompressedImage, and its unit in metres."""
    if hasattr(message, "format"):
        return _compressed_depth(message, where)
    if message.encoding not in DEPTHS:
        raise DataError(f"{where}: depth encoding is {message.encoding!r}, supported: {', '.join(DEPTHS)} (REP-118)")
    code, unit_m = DEPTHS[message.encoding]
    dtype = np.dtype(code).newbyteorder(">" if message.is_bigendian else "<")
    depth = _pixels(message, dtype, 1, where)
    return depth.astype(dtype.newbyteorder("="), copy=False), unit_m


def _pixels(message: Any, dtype: np.dtype, channels: int, where: str) -> np.ndarray:
    """A view of the rows without their padding."""
    row = message.width * channels * dtype.itemsize
    if message.step < row or len(message.data) < message.step * message.height:
        raise DataError(
            f"{where}: {len(message.data)} bytes in rows of {message.step} cannot hold "
            f"{message.width}x{message.height} {message.encoding}; record the topic again"
        )
    rows = message.data[: message.step * message.height].reshape(message.height, message.step)
    pixels = np.ascontiguousarray(rows[:, :row]).view(dtype)
    return pixels.reshape(message.height, message.width, channels) if channels > 1 else pixels


def _compressed_depth(message: Any, where: str) -> tuple[np.ndarray, float]:
    """Decodes a PNG of 16UC1, or the format of compressed_depth_image_transport for 16UC1 and 32FC1."""
    data = memoryview(message.data)
    # the transport puts 12 bytes before the PNG: an enumeration and the two quantisation numbers
    headed = data[:4] != b"\x89PNG"
    raw = decode(data[12:] if headed else data, cv2.IMREAD_UNCHANGED, where)
    if raw.dtype != np.uint16 or raw.ndim != 2:
        raise DataError(f"{where}: compressed depth is {raw.dtype}, expected 16-bit grey PNG")
    if not (headed and message.format.startswith("32FC1")):
        return raw, 0.001
    _, a, b = struct.unpack("<iff", data[:12])
    return np.where(raw > 0, a / np.maximum(raw - np.float32(b), 1e-6), 0).astype(np.float32), 1.0


def camera_of(info: Any, depth_scale: float, fps: float, where: str) -> Camera | None:
    """Camera of a CameraInfo; None where it says that it is not calibrated (K is 0)."""
    if not info.k[0]:
        return None
    coefficients = np.zeros(8)
    coefficients[: min(len(info.d), 8)] = info.d[:8]
    if info.distortion_model not in ("", "plumb_bob", "rational_polynomial") or coefficients[5:].any():
        raise DataError(
            f"{where}: distortion model {info.distortion_model!r} is not supported, "
            "only plumb_bob (k1 k2 p1 p2 k3); rectify the images first"
        )
    k = [float(value) for value in info.k]
    baseline_m = -float(info.p[3]) / float(info.p[0]) if info.p[0] and info.p[3] else None
    return Camera(
        int(info.width), int(info.height), k[0], k[4], k[2], k[5], coefficients[:5], depth_scale, fps, baseline_m
    )


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
        distortion_model="plumb_bob",
        d=np.asarray(camera.distortion, np.float64),
        k=K.ravel(),
        r=np.eye(3).ravel(),
        p=P.ravel(),
        binning_x=0,
        binning_y=0,
        roi=roi,
    )


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
