# SPDX-License-Identifier: Apache-2.0
"""Decodes ROS image messages, raw and compressed, of bags and of live topics.

Messages come from rclpy or the `rosbags` typestore: any object with the fields of sensor_msgs/Image or
sensor_msgs/CompressedImage. Pixels are views into the message where their byte order allows it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from drp_slam.data.rvl import decode_rvl, is_rvl
from drp_slam.decoding import decode, is_known
from drp_slam.errors import DataError

LARGEST_FILE = 1 << 28
"""Bytes of an image file."""


@dataclass(frozen=True)
class Layout:
    """How an encoding stores a pixel: bytes per channel, channels, OpenCV's conversion to BGR (None: none needed)."""

    item: int
    channels: int
    to_bgr: int | None = None


COLOUR = {
    "mono8": Layout(1, 1),
    "8uc1": Layout(1, 1),
    "bgr8": Layout(1, 3),
    "8uc3": Layout(1, 3),
    "rgb8": Layout(1, 3, cv2.COLOR_RGB2BGR),
    "bgra8": Layout(1, 4, cv2.COLOR_BGRA2BGR),
    "8uc4": Layout(1, 4, cv2.COLOR_BGRA2BGR),
    "rgba8": Layout(1, 4, cv2.COLOR_RGBA2BGR),
    "yuv422": Layout(1, 2, cv2.COLOR_YUV2BGR_UYVY),
    "uyvy": Layout(1, 2, cv2.COLOR_YUV2BGR_UYVY),
    "yuv422_yuy2": Layout(1, 2, cv2.COLOR_YUV2BGR_YUY2),
    "yuyv": Layout(1, 2, cv2.COLOR_YUV2BGR_YUY2),
    "nv12": Layout(1, 1, cv2.COLOR_YUV2BGR_NV12),
    "nv21": Layout(1, 1, cv2.COLOR_YUV2BGR_NV21),
    "nv24": Layout(1, 1, cv2.COLOR_YUV2BGR_NV12),  # after `_halved`
    # OpenCV names a Bayer pattern by its second row, second and third column
    "bayer_rggb8": Layout(1, 1, cv2.COLOR_BayerBG2BGR),
    "bayer_bggr8": Layout(1, 1, cv2.COLOR_BayerRG2BGR),
    "bayer_gbrg8": Layout(1, 1, cv2.COLOR_BayerGR2BGR),
    "bayer_grbg8": Layout(1, 1, cv2.COLOR_BayerGB2BGR),
    "mono16": Layout(2, 1),
    "16uc1": Layout(2, 1),
    "bgr16": Layout(2, 3),
    "16uc3": Layout(2, 3),
    "rgb16": Layout(2, 3, cv2.COLOR_RGB2BGR),
    "bgra16": Layout(2, 4, cv2.COLOR_BGRA2BGR),
    "rgba16": Layout(2, 4, cv2.COLOR_RGBA2BGR),
    "bayer_rggb16": Layout(2, 1, cv2.COLOR_BayerBG2BGR),
    "bayer_bggr16": Layout(2, 1, cv2.COLOR_BayerRG2BGR),
    "bayer_gbrg16": Layout(2, 1, cv2.COLOR_BayerGR2BGR),
    "bayer_grbg16": Layout(2, 1, cv2.COLOR_BayerGB2BGR),
}
"""Readable encodings of sensor_msgs/image_encodings.hpp, in lower case."""
ROWS = {"nv12": 1.5, "nv21": 1.5, "nv24": 3}
"""Encodings with rows of chroma after the rows of luma: rows of both for a row of pixels."""
DEPTH = {"16uc1": ("u2", 0.001), "mono16": ("u2", 0.001), "16sc1": ("i2", 0.001), "32fc1": ("f4", 1.0)}
"""Encodings of depth -> dtype and unit in metres (REP-118)."""
DEPTH_HEAD = struct.Struct("<iff")
"""Header of compressed_depth_image_transport: an enumeration and the quantisation parameters a, b."""
VIDEO = ("h264", "h265", "hevc", "avc", "av1", "vp8", "vp9", "theora", "ffmpeg", "mjpeg2000")
UNKNOWN = "republish it as JPEG or PNG (ros2 run image_transport republish), or take the raw topic"


def colour_of(message: Any, where: str) -> np.ndarray:
    """(H, W, 3) BGR or (H, W) grey, uint8, of an Image or CompressedImage.

    16-bit pixels are shifted to 8 by the bits of the brightest one. Raises DataError, whose message begins with
    `where`.
    """
    if hasattr(message, "format"):
        flags = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
        pixels = _to_8_bits(decompress(message, flags, where))
        pattern = COLOUR.get(str(message.format).split(";")[0].strip().lower(), COLOUR["mono8"])
        if pixels.ndim == 2 and pattern.channels == 1 and pattern.to_bgr is not None:  # PNG of a Bayer pattern
            return cv2.cvtColor(pixels, pattern.to_bgr)
        return pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels[..., :3])
    name = encoding_of(message)
    if name not in COLOUR:
        raise DataError(
            f"{where}: encoding {message.encoding!r} is not an image encoding; publish one of {', '.join(COLOUR)}"
        )
    layout = COLOUR[name]
    rows = int(message.height * ROWS.get(name, 1))
    pixels = _to_8_bits(raster(message, f"u{layout.item}", layout.channels, where, rows))
    if layout.to_bgr is None:
        return pixels
    try:
        if name == "nv24":
            pixels = _halved(pixels)
        return cv2.cvtColor(pixels, layout.to_bgr)
    except cv2.error as error:
        size = f"{message.width}x{message.height}"
        raise DataError(f"{where}: {size} pixels cannot be {message.encoding!r}; expected even sides") from error


def _halved(pixels: np.ndarray) -> np.ndarray:
    """NV24 to NV12, (H, W) to (H / 2, W): every second chroma of both directions, as OpenCV has no NV24."""
    height, width = pixels.shape[0] // 3, pixels.shape[1]
    chroma = pixels[height:].reshape(height, width, 2)[: height // 2 * 2 : 2, : width // 2 * 2 : 2]
    return np.vstack([pixels[:height], chroma.reshape(height // 2, -1)]) if not width % 2 else pixels


def depth_of(message: Any, where: str) -> tuple[np.ndarray, float]:
    """(H, W) uint16 or float32 of an Image or CompressedImage, and its unit in metres. Raises DataError."""
    if hasattr(message, "format"):
        return _compressed_depth(message, where)
    name = encoding_of(message)
    if name not in DEPTH:
        raise DataError(
            f"{where}: encoding {message.encoding!r} is not a depth encoding; publish 16UC1 in millimetres or 32FC1 in "
            "metres (REP-118)"
        )
    code, unit_m = DEPTH[name]
    values = raster(message, code, 1, where)
    return (np.maximum(values, 0).astype(np.uint16) if code == "i2" else values), unit_m


def encoding_of(message: Any) -> str:
    """The encoding of an Image as spelled in `COLOUR` and `DEPTH`."""
    return str(message.encoding).strip().lower()


def raster(message: Any, code: str, channels: int, where: str, rows: int | None = None) -> np.ndarray:
    """(H, W) or (H, W, C) view of an Image without the padding of its rows, in this machine's byte order.

    `code` is numpy's, such as `u2`; `rows` is the height of the array if it differs from the image's. Raises DataError
    if the sizes disagree.
    """
    dtype = np.dtype(code).newbyteorder(">" if message.is_bigendian else "<")
    height, width, step = rows or message.height, message.width, message.step
    row, need = width * channels * dtype.itemsize, height * step
    if height < 1 or width < 1 or step < row:
        raise DataError(
            f"{where}: {width}x{height} {message.encoding} with step {step}; expected at least 1x1 and step {row}"
        )
    if len(message.data) < need:
        raise DataError(f"{where}: truncated: {len(message.data)} bytes, but height x step is {need}")
    shape = (height, width) + ((channels,) if channels > 1 else ())
    strides = (step, channels * dtype.itemsize) + ((dtype.itemsize,) if channels > 1 else ())
    view = np.ndarray(shape, dtype, message.data, 0, strides)
    return view if dtype.isnative or dtype.itemsize == 1 else view.astype(dtype.newbyteorder("="))


def _to_8_bits(pixels: np.ndarray) -> np.ndarray:
    """uint8 unchanged; uint16 shifted by the bits of its brightest pixel, because cameras send 10, 12 or 16 bits."""
    if pixels.dtype == np.uint8:
        return pixels
    bits = max(int(pixels.max()).bit_length(), 8)
    return np.right_shift(pixels, bits - 8, dtype=np.uint16).astype(np.uint8)


def decompress(message: Any, flags: int, where: str) -> np.ndarray:
    """Decodes a CompressedImage with OpenCV. Raises DataError that distinguishes an unknown codec from damage."""
    data, form = memoryview(message.data).cast("B"), str(message.format)[:80]
    if len(data) and not is_known(data):
        video = any(name in form.lower() for name in VIDEO)
        kind = "a video codec, whose images depend on earlier ones" if video else "not a readable codec"
        raise DataError(f"{where}: format {form!r} is {kind}; {UNKNOWN}")
    return decode(data, flags, f"{where}: {len(data)} bytes of {form!r}", remedy="check the publisher")


def is_compressed_depth(message: Any, topic: str) -> bool:
    """Whether a CompressedImage is of compressed_depth_image_transport: by its topic, format or header."""
    data, form, head = memoryview(message.data).cast("B"), str(message.format).lower(), DEPTH_HEAD.size
    named = "compresseddepth" in form or topic.endswith("/compressedDepth")
    return named or "rvl" in form or (not is_known(data) and is_known(data[head:]))


def _compressed_depth(message: Any, where: str) -> tuple[np.ndarray, float]:
    """Decodes PNG, TIFF or the format of compressed_depth_image_transport: a header, then PNG or RVL."""
    data, form = memoryview(message.data).cast("B"), str(message.format)
    head = DEPTH_HEAD.size
    if len(data) > head and is_known(data[head:]):
        raw = decode(data[head:], cv2.IMREAD_UNCHANGED, where, remedy="check the publisher")
    elif "rvl" in form.lower():
        head = 0 if is_rvl(data) else head
        raw = decode_rvl(data[head:], where)
    else:
        raw, head = decompress(message, cv2.IMREAD_UNCHANGED, where), 0
    if raw.ndim != 2 or raw.dtype not in (np.uint16, np.float32):
        raise DataError(
            f"{where}: {raw.dtype} with shape {raw.shape} in {form[:80]!r} is not depth: expected a channel of 16 bits"
        )
    if raw.dtype == np.float32:
        return raw, 1.0
    if not (head and form.strip().upper().startswith("32FC1")):
        return raw, 0.001
    _, a, b = DEPTH_HEAD.unpack(data[:head])
    return np.where(raw > 0, a / np.maximum(raw - np.float32(b), 1e-6), 0).astype(np.float32), 1.0
