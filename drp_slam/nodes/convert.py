# SPDX-License-Identifier: Apache-2.0
"""Converts ROS messages of camera and tensors to and from numpy, as views where possible.

Every function that reads a message checks it and raises GraphError, so that a bad message never
ends a node.
"""

from __future__ import annotations

import array
from dataclasses import dataclass
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from drp_slam.data.decoding import decode
from drp_slam.datatypes import DISTORTION, Camera
from drp_slam.errors import GraphError

DTYPES = {"8U": np.uint8, "8S": np.int8, "16U": np.uint16, "32F": np.float32}
COLOUR = {"bgr8": 3, "rgb8": 3, "mono8": 1, "bgra8": 4, "rgba8": 4, "8UC1": 1, "8UC3": 3}
DEPTH_UNIT_M = {"16UC1": 0.001, "mono16": 0.001, "32FC1": 1.0}
LARGEST_PX = 16384
"""Longest side of an accepted image."""
MOST_FOCAL = 100.0
"""Largest accepted ratio of focal length to the image's longer side, and of the side to the focal length."""
MOST_DISTORTION = 1e4


def stamp_ns(header: Header) -> int:
    """The stamp as integer nanoseconds."""
    return header.stamp.sec * 1_000_000_000 + header.stamp.nanosec


def header(ns: int, frame_id: str) -> Header:
    """A header with that stamp."""
    return Header(stamp=Time(sec=ns // 1_000_000_000, nanosec=ns % 1_000_000_000), frame_id=frame_id)


def bytes_of(values: np.ndarray) -> array.array:
    """The array's memory in the form that a uint8[] field takes fastest (a list takes a second)."""
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
        """As `image_message`, without a copy where the array is contiguous."""
        height, width = values.shape[:2]
        data = np.ascontiguousarray(values).reshape(-1).view(np.uint8).data.toreadonly()
        return cls(head, height, width, encoding, values.nbytes // height, data)

    def message(self) -> Image:
        """A copy that DDS takes."""
        data = bytes_of(np.frombuffer(self.data, np.uint8))
        size = {"height": self.height, "width": self.width, "step": self.step}
        return Image(header=self.header, encoding=self.encoding, data=data, **size)


def colour_encoding(values: np.ndarray) -> str:
    """Of (H, W, 3) BGR or (H, W) grey uint8."""
    return "bgr8" if values.ndim == 3 else "mono8"


def pixels(message: Image, topic: str, dtype: Any, channels: int) -> np.ndarray:
    """(H, W) or (H, W, C) view of an Image's memory. Raises GraphError if its sizes disagree."""
    item = np.dtype(dtype).itemsize
    row = message.width * channels * item
    if message.height < 1 or message.width < 1 or message.step < row or message.step % item:
        raise GraphError(
            f"{topic}: {message.width}x{message.height} {message.encoding} with step "
            f"{message.step}; expected at least 1x1 and step {row}"
        )
    if len(message.data) < message.step * message.height:
        raise GraphError(
            f"{topic}: truncated: {len(message.data)} bytes, but height x step is "
            f"{message.height * message.step}; fix the publisher"
        )
    if message.is_bigendian and item > 1:
        raise GraphError(f"{topic}: big-endian {message.encoding}; publish little-endian")
    shape = (message.height, message.width) + ((channels,) if channels > 1 else ())
    strides = (message.step, channels * item) + ((item,) if channels > 1 else ())
    return np.ndarray(shape, dtype, message.data, 0, strides)


def colour(message: Image, topic: str = "image") -> np.ndarray:
    """(H, W, 3) BGR or (H, W) grey uint8. Raises GraphError for another encoding."""
    channels = COLOUR.get(message.encoding)
    if channels is None:
        raise GraphError(
            f"{topic}: encoding {message.encoding!r} is no colour image; publish one of {', '.join(COLOUR)}"
        )
    view = pixels(message, topic, np.uint8, channels)
    if message.encoding in ("rgb8", "rgba8"):
        return np.ascontiguousarray(view[..., 2::-1])
    return np.ascontiguousarray(view[..., :3]) if channels == 4 else view


def depth(message: Image, topic: str = "depth") -> tuple[np.ndarray, float]:
    """(H, W) uint16 or float32 and its unit in metres (REP-118). Raises GraphError."""
    unit_m = DEPTH_UNIT_M.get(message.encoding)
    if unit_m is None:
        raise GraphError(
            f"{topic}: encoding {message.encoding!r} is no depth; publish 32FC1 in metres or 16UC1 in millimetres"
        )
    dtype = np.float32 if message.encoding == "32FC1" else np.uint16
    return pixels(message, topic, dtype, 1), unit_m


def check_depth(values: np.ndarray, topic: str = "depth") -> None:
    """Raises GraphError where no pixel holds a depth. Checks a few pixels first."""
    for some in (values[::8, ::8], values):
        if np.any((some > 0) & (some < np.inf)):
            return
    raise GraphError(
        f"{topic}: no pixel holds a depth (all 0 or NaN); check the sensor, its range and that the "
        "encoding says the unit"
    )


def decompress(message: CompressedImage, topic: str) -> np.ndarray:
    """JPEG or PNG as (H, W[, 3]), BGR, in its own depth. Raises GraphError for damaged data."""
    import cv2

    data = memoryview(message.data)
    flags = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    where = f"{topic}: cannot decode {len(data)} bytes of {message.format[:80]!r}"
    if data[:4] != b"\x89PNG" and data[:2] != b"\xff\xd8":
        raise GraphError(f"{where}; publish JPEG or PNG")
    return decode(data, flags, where, GraphError, "publish JPEG or PNG")


def tensor_encoding(values: np.ndarray) -> str:
    """OpenCV's name of the array's pixel type, such as `8SC130`."""
    names = {np.dtype(dtype): name for name, dtype in DTYPES.items()}
    return f"{names[values.dtype]}C{values.shape[2] if values.ndim == 3 else 1}"


def tensor(message: Image, topic: str) -> np.ndarray:
    """(H, W) or (H, W, C) array of an `8SC<n>` or `32FC<n>` image. Raises GraphError."""
    kind, _, channels = message.encoding.partition("C")
    if kind not in ("8S", "32F") or not channels.isdecimal() or not 1 <= int(channels) <= 4096:
        raise GraphError(f"{topic}: encoding {message.encoding!r}, expected 8SC<n> or 32FC<n>")
    return pixels(message, topic, DTYPES[kind], int(channels))


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


def camera(message: CameraInfo, topic: str = "camera_info", rectified: bool = False) -> Camera:
    """The calibration of a CameraInfo: P for `rectified` images, K and D for raw ones.

    Raises GraphError for a model this package does not have, and for numbers out of range.
    """
    d = np.array(message.d, np.float64)
    model = message.distortion_model or "plumb_bob"
    if model == "rational_polynomial" and not d[5:].any():
        model, d = "plumb_bob", d[:5]  # as drivers often leave it
    short = model == "plumb_bob" and len(d) in (0, 4)
    if model not in DISTORTION or (len(d) != DISTORTION[model] and not short):
        known = ", ".join(f"{m} with {count}" for m, count in DISTORTION.items())
        raise GraphError(
            f"{topic}: distortion model {message.distortion_model!r} with {len(d)} numbers; expected {known}: rectify "
            "the images"
        )
    K = np.array(message.k, np.float64).reshape(3, 3)
    if rectified:
        K, d, model = np.array(message.p, np.float64).reshape(3, 4)[:, :3], np.zeros(5), "plumb_bob"
    fx, fy, cx, cy = (float(K[i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2)))
    size_px = np.array([message.width, message.height], np.float64)
    if not (size_px.min() >= 1 and size_px.max() <= LARGEST_PX):
        raise GraphError(
            f"{topic}: an image of {message.width}x{message.height}; expected 1 to {LARGEST_PX} pixels a side"
        )
    focal_px, centre_px = np.array([fx, fy]), np.array([cx, cy])
    # Written so that NaN is refused, too.
    if not np.all((focal_px >= size_px.max() / MOST_FOCAL) & (focal_px <= size_px.max() * MOST_FOCAL)):
        raise GraphError(
            f"{topic}: focal lengths {fx:g}, {fy:g} for {message.width}x{message.height}: not calibrated; run a "
            "camera calibration"
        )
    if not np.all(np.abs(centre_px) <= 2 * size_px.max()) or not np.all(np.abs(d) <= MOST_DISTORTION):
        raise GraphError(
            f"{topic}: principal point {cx:g}, {cy:g}, distortion {np.round(d, 4).tolist()}: out of range; run a "
            "camera calibration"
        )
    distortion = np.concatenate([d, np.zeros(5)])[: DISTORTION[model]]
    return Camera(message.width, message.height, fx, fy, cx, cy, distortion, model=model)


def is_rectified(topic: str) -> bool:
    """Whether a topic carries rectified images, by image_proc's names: `image_rect`, `image_rect_color`."""
    return "rect" in topic.removesuffix("/compressed").rpartition("/")[2]


def spelled(camera: Camera) -> str:
    """A calibration in words."""
    return f"{camera.width}x{camera.height} with f {camera.fx:.6g}, {camera.fy:.6g}"
