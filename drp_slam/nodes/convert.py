# SPDX-License-Identifier: Apache-2.0
"""Converts ROS messages of camera and tensors to and from numpy, as views where possible.

Every function that reads a message checks it and raises GraphError, so that a bad message never
ends a node.
"""

from __future__ import annotations

import array
from dataclasses import dataclass

import numpy as np
from builtin_interfaces.msg import Time
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from drp_slam.data.image_codec import raster
from drp_slam.datatypes import Camera
from drp_slam.errors import GraphError

DTYPES = {"8U": np.uint8, "8S": np.int8, "16U": np.uint16, "32F": np.float32}


def stamp_ns(header: Header) -> int:
    """The stamp as integer nanoseconds."""
    return header.stamp.sec * 1_000_000_000 + header.stamp.nanosec


def header(ns: int, frame_id: str) -> Header:
    """A header with that stamp."""
    return Header(stamp=Time(sec=ns // 1_000_000_000, nanosec=ns % 1_000_000_000), frame_id=frame_id)


def bytes_of(values: np.ndarray) -> array.array:
    """The array's memory in the form that is fastest to assign to a uint8[] field (a list takes a second)."""
    data = array.array("B")
    data.frombytes(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
    return data


def image_message(head: Header, values: np.ndarray, encoding: str) -> Image:
    """(H, W) or (H, W, C) array as an Image."""
    height, width = values.shape[:2]
    return Image(
        header=head, height=height, width=width, encoding=encoding, step=values.nbytes // height, data=bytes_of(values)
    )


@dataclass(frozen=True)
class SharedImage:
    """An image that stays in this process: the fields of sensor_msgs/Image, `data` a read-only view of the array."""

    header: Header
    height: int
    width: int
    encoding: str
    step: int
    data: memoryview
    is_bigendian: int = 0

    @classmethod
    def of(cls, head: Header, values: np.ndarray, encoding: str) -> SharedImage:
        """As `image_message`, without a copy if the array is contiguous."""
        height, width = values.shape[:2]
        data = np.ascontiguousarray(values).reshape(-1).view(np.uint8).data.toreadonly()
        return cls(head, height, width, encoding, values.nbytes // height, data)

    def message(self) -> Image:
        """A copy as an Image message, for DDS."""
        data = bytes_of(np.frombuffer(self.data, np.uint8))
        size = {"height": self.height, "width": self.width, "step": self.step}
        return Image(header=self.header, encoding=self.encoding, data=data, **size)


def colour_encoding(values: np.ndarray) -> str:
    """An image message of (H, W, 3) BGR or (H, W) grey uint8."""
    return "bgr8" if values.ndim == 3 else "mono8"


def rep118(depth: np.ndarray, unit_m: float) -> tuple[np.ndarray, str]:
    """(H, W) raw depth in a REP-118 encoding: 16UC1 in millimetres where exact, else 32FC1 in metres.

    Metres are rounded to the nearest float32 of raw x unit, as the tracker rounds a recording's raw
    depth, so both give the same trajectory.
    """
    if depth.dtype == np.uint16 and unit_m == 0.001:
        return depth, "16UC1"
    metres = np.empty(depth.shape, np.float32)
    np.multiply(depth, np.float64(unit_m), out=metres, casting="unsafe", dtype=np.float64)
    return metres, "32FC1"


def check_depth(values: np.ndarray, topic: str = "depth") -> None:
    """Raises GraphError if no pixel has depth. Checks a few pixels first."""
    for some in (values[::8, ::8], values):
        if np.any((some > 0) & (some < np.inf)):
            return
    raise GraphError(
        f"{topic}: no pixel holds a depth (all 0 or NaN); check the sensor, its range and that the "
        "encoding matches the unit"
    )


def tensor_encoding(values: np.ndarray) -> str:
    """OpenCV's name of the array's pixel type, such as `8SC130`."""
    names = {np.dtype(dtype): name for name, dtype in DTYPES.items()}
    return f"{names[values.dtype]}C{values.shape[2] if values.ndim == 3 else 1}"


def tensor(message: Image, topic: str) -> np.ndarray:
    """(H, W) or (H, W, C) array of an `8SC<n>` or `32FC<n>` image. Raises GraphError."""
    kind, _, channels = message.encoding.partition("C")
    if kind not in ("8S", "32F") or not channels.isdecimal() or not 1 <= int(channels) <= 4096:
        raise GraphError(f"{topic}: encoding {message.encoding!r}, expected 8SC<n> or 32FC<n>")
    return raster(message, np.dtype(DTYPES[kind]).str[1:], int(channels), topic)


def camera_info(camera: Camera, head: Header) -> CameraInfo:
    """The calibration as CameraInfo of the raw image."""
    K = camera.K
    P = np.hstack([K, np.zeros((3, 1))])
    return CameraInfo(
        header=head,
        width=camera.width,
        height=camera.height,
        distortion_model=camera.model,
        d=[float(d) for d in camera.distortion],
        k=K.ravel(),
        r=np.eye(3).ravel(),
        p=P.ravel(),
    )


def spelled(camera: Camera) -> str:
    """A calibration in words."""
    return f"{camera.width}x{camera.height} with f {camera.fx:.6g}, {camera.fy:.6g}"
