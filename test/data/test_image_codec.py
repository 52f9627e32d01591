# SPDX-License-Identifier: Apache-2.0
"""Pixels of image messages: against OpenCV's own conversions, and RVL against an encoder."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drp_slam.data import image_codec
from drp_slam.data.rvl import decode_rvl
from drp_slam.decoding import read_image
from drp_slam.errors import DataError

RNG = np.random.default_rng(4)
SMOOTH = cv2.GaussianBlur(RNG.integers(0, 256, (24, 32, 3), np.uint8), (0, 0), 4)
BAYER = {"rggb": "rg/gb", "bggr": "bg/gr", "gbrg": "gb/rg", "grbg": "gr/bg"}


def image(values: np.ndarray, encoding: str, pad: int = 0, big: bool = False, height: int = 0) -> Any:
    """An Image as a camera publishes it."""
    values = values.astype(values.dtype.newbyteorder(">" if big else "<"))
    rows = np.ascontiguousarray(values).reshape(len(values), -1).view(np.uint8)
    rows = np.hstack([rows, np.full((len(rows), pad), 171, np.uint8)])
    shape = {"height": height or len(values), "width": values.shape[1]}
    return SimpleNamespace(encoding=encoding, step=rows.shape[1], is_bigendian=int(big), data=rows.ravel(), **shape)


def compressed(data: bytes, form: str) -> Any:
    return SimpleNamespace(format=form, data=np.frombuffer(data, np.uint8))


def mosaic(bgr: np.ndarray, pattern: str) -> np.ndarray:
    """The pixels that a sensor with this pattern of filters sees."""
    out = np.empty(bgr.shape[:2], bgr.dtype)
    for v, row in enumerate(BAYER[pattern].split("/")):
        for u, letter in enumerate(row):
            out[v::2, u::2] = bgr[v::2, u::2, "bgr".index(letter)]
    return out


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("pattern", BAYER)
@pytest.mark.parametrize("big", [False, True])
def test_every_bayer_pattern_gives_its_colours_back(pattern: str, bits: int, big: bool) -> None:
    values = mosaic(SMOOTH, pattern)
    values = values if bits == 8 else values.astype(np.uint16) << 8
    found = image_codec.colour_of(image(values, f"bayer_{pattern}{bits}", 6, big), "here")
    assert found.shape == SMOOTH.shape and np.abs(found.astype(int) - SMOOTH)[2:-2, 2:-2].mean() < 4


@pytest.mark.parametrize(
    ("encoding", "order"), [("yuv422_yuy2", (0, 1)), ("yuyv", (0, 1)), ("YUV422", (1, 0)), ("uyvy", (1, 0))]
)
def test_yuv_422_in_both_orders(encoding: str, order: tuple[int, int]) -> None:
    """The same picture through OpenCV's own 4:2:0, whose luma and chroma are those of 4:2:2."""
    planar = cv2.cvtColor(SMOOTH, cv2.COLOR_BGR2YUV_I420)
    y, u, v = planar[:24], planar[24:30].reshape(12, 16), planar[30:].reshape(12, 16)
    values = np.empty((24, 32, 2), np.uint8)
    values[..., order[0]] = y
    values[:, 0::2, order[1]], values[:, 1::2, order[1]] = np.repeat(u, 2, 0), np.repeat(v, 2, 0)
    found = image_codec.colour_of(image(values, encoding, 5), "here")
    assert np.abs(found.astype(int) - SMOOTH).mean() < 4


@pytest.mark.parametrize("encoding", ["nv12", "nv21"])
def test_luma_before_chroma(encoding: str) -> None:
    planar = cv2.cvtColor(SMOOTH, cv2.COLOR_BGR2YUV_I420)
    chroma = [planar[24:30].reshape(12, 16), planar[30:].reshape(12, 16)][:: 1 if encoding == "nv12" else -1]
    values = np.vstack([planar[:24], np.stack(chroma, -1).reshape(12, 32)])
    found = image_codec.colour_of(image(values, encoding, height=24), "here")
    assert found.shape == SMOOTH.shape and np.abs(found.astype(int) - SMOOTH).mean() < 4


def test_chroma_of_every_pixel_after_luma() -> None:
    planar = cv2.cvtColor(SMOOTH, cv2.COLOR_BGR2YUV_I420)
    chroma = [np.kron(plane.reshape(12, 16), np.ones((2, 2), np.uint8)) for plane in (planar[24:30], planar[30:])]
    values = np.vstack([planar[:24], np.stack(chroma, -1).reshape(48, 32)])
    found = image_codec.colour_of(image(values, "nv24", height=24), "here")
    assert found.shape == SMOOTH.shape and np.abs(found.astype(int) - SMOOTH).mean() < 4
    with pytest.raises(DataError, match="even sides"):
        image_codec.colour_of(image(np.zeros((12, 5), np.uint8), "nv24", height=4), "here")


@pytest.mark.parametrize("shift", [2, 4, 8])
@pytest.mark.parametrize("big", [False, True])
def test_16_bits_are_shifted_by_the_brightest_pixel(shift: int, big: bool) -> None:
    grey = SMOOTH[..., 0].copy()
    grey[0, 0] = 255
    found = image_codec.colour_of(image(grey.astype(np.uint16) << shift, "mono16", 2, big), "here")
    assert np.array_equal(found, grey)
    found = image_codec.colour_of(image(SMOOTH[..., ::-1].astype(np.uint16) << 8, "rgb16", 0, big), "here")
    assert np.abs(found.astype(int) - SMOOTH).max() <= (0 if SMOOTH.max() > 127 else 255)


@pytest.mark.parametrize("order", ["rgba8", "bgra8", "8UC4"])
def test_a_fourth_channel_is_dropped(order: str) -> None:
    four = np.dstack([SMOOTH[..., ::-1] if order == "rgba8" else SMOOTH, np.full((24, 32), 9, np.uint8)])
    assert np.array_equal(image_codec.colour_of(image(four, order, 3), "here"), SMOOTH)


def test_signed_depth_has_no_negative_values() -> None:
    values, unit_m = image_codec.depth_of(image(np.array([[-5, 0, 1200]], np.int16), "16SC1"), "here")
    assert values.dtype == np.uint16 and values.tolist() == [[0, 0, 1200]] and unit_m == 0.001


@pytest.mark.parametrize("pattern", BAYER)
def test_png_of_a_bayer_pattern(pattern: str) -> None:
    data = cv2.imencode(".png", mosaic(SMOOTH, pattern))[1].tobytes()
    found = image_codec.colour_of(compressed(data, f"bayer_{pattern}8; png compressed "), "here")
    assert np.array_equal(found, image_codec.colour_of(image(mosaic(SMOOTH, pattern), f"bayer_{pattern}8"), "here"))


def test_uneven_sizes_of_a_halved_chroma_are_refused_in_one_line() -> None:
    with pytest.raises(DataError, match="even sides"):
        image_codec.colour_of(image(np.zeros((4, 5, 2), np.uint8), "yuyv"), "here")


def vle(numbers: list[int]) -> bytes:
    """Numbers as RVL's nibbles, in words of 32 bits."""
    nibbles = []
    for number in numbers:
        while True:
            rest = number >> 3
            nibbles.append((number & 7) | (8 if rest else 0))
            number = rest
            if not number:
                break
    nibbles += [0] * (-len(nibbles) % 8)
    words = [int("".join(f"{n:x}" for n in nibbles[k : k + 8]), 16) for k in range(0, len(nibbles), 8)]
    return struct.pack(f"<{len(words)}I", *words)


def encode_rvl(depth: np.ndarray) -> bytes:
    """As Wilson's paper has it, pixel by pixel."""
    values, numbers, at, previous = depth.ravel().tolist(), [], 0, 0
    while at < len(values):
        zeros = next((k for k in range(at, len(values)) if values[k]), len(values))
        others = next((k for k in range(zeros, len(values)) if not values[k]), len(values))
        numbers += [zeros - at, others - zeros]
        for value in values[zeros:others]:
            delta = value - previous
            numbers.append((delta << 1) ^ (delta >> 63))
            previous = value
        at = others
    return struct.pack("<ii", depth.shape[1], depth.shape[0]) + vle(numbers)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_rvl_is_lossless(height: int, width: int, share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    depth = (rng.integers(0, 65536, (height, width)) * (rng.random((height, width)) < share)).astype(np.uint16)
    data = encode_rvl(depth)
    assert np.array_equal(decode_rvl(data, "here"), depth)
    for header in (bytes(12), struct.pack("<iff", 1, 1000.0, -10.0), b""):  # some drivers leave it out
        message = compressed(header + data, "16UC1; compressedDepth rvl")
        found, unit_m = image_codec.depth_of(message, "here")
        assert np.array_equal(found, depth) and unit_m == 0.001


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 40))
def test_damaged_rvl_is_refused_in_one_line(tail: bytes, kept: int) -> None:
    depth = np.arange(1000, 1060, dtype=np.uint16).reshape(6, 10)
    for data in (encode_rvl(depth)[:kept], encode_rvl(depth)[:8] + tail, tail):
        try:
            assert decode_rvl(data, "here").dtype == np.uint16
        except DataError as error:
            assert "here" in str(error) and "\n" not in str(error)


def test_inverse_depth_in_rvl() -> None:
    raw = np.array([[0, 100, 2000], [30000, 60000, 5]], np.uint16)
    a, b = 1000.0, -10.0
    message = compressed(struct.pack("<iff", 1, a, b) + encode_rvl(raw), "32FC1; compressedDepth rvl")
    found, unit_m = image_codec.depth_of(message, "here")
    assert unit_m == 1.0 and found[0, 0] == 0
    assert np.allclose(found[raw > 0], a / (raw[raw > 0] - np.float64(b)), rtol=1e-6)


@pytest.mark.parametrize(
    ("form", "data", "words"),
    [
        ("h264", b"\0\0\0\1gabcdefgh", "video codec"),
        ("bgr8; theora", b"OggSabcdefgh", "video codec"),
        ("jxl", b"\xff\x0aabcdefgh", "not a readable codec"),
        ("jpeg", b"\xff\xd8\xff\xe0", "damaged or truncated"),
        ("png", b"", "damaged or truncated"),
    ],
)
def test_an_unknown_codec_is_not_called_damaged(form: str, data: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words) as error:
        image_codec.colour_of(compressed(data, form), "here")
    assert ("damaged" in str(error.value)) == ("damaged" in words)


@pytest.mark.parametrize("form", ["16UC1; png compressed ", "png", ""])
def test_depth_is_known_by_its_header_whatever_the_format_says(form: str) -> None:
    depth = np.arange(1000, 1060, dtype=np.uint16).reshape(6, 10)
    data = cv2.imencode(".png", depth)[1].tobytes()
    with_header, plain = compressed(bytes(12) + data, form), compressed(data, form)
    assert np.array_equal(image_codec.depth_of(with_header, "here")[0], depth)
    assert image_codec.is_compressed_depth(with_header, "/depth/compressed")
    assert not image_codec.is_compressed_depth(plain, "/depth/compressed")


def test_jpeg_of_depth_is_refused() -> None:
    jpeg = cv2.imencode(".jpg", SMOOTH[..., 0])[1].tobytes()
    with pytest.raises(DataError, match="is not depth"):
        image_codec.depth_of(compressed(jpeg, "16UC1; jpeg compressed"), "here")


def test_an_odd_colour_profile_changes_nothing_and_is_not_complained_of(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    png = cv2.imencode(".png", SMOOTH)[1].tobytes()
    profile = b"iCCP" + b"odd\0\0" + zlib.compress(bytes(200))
    chunk = struct.pack(">I", len(profile) - 4) + profile + struct.pack(">I", zlib.crc32(profile))
    file = tmp_path / "odd.png"
    file.write_bytes(png[:33] + chunk + png[33:])  # behind the header
    cv2.imread(str(file))
    assert "iCCP" in capfd.readouterr().err, "OpenCV alone warns"
    assert np.array_equal(read_image(file, DataError), SMOOTH)
    assert np.array_equal(read_image(file, DataError, grey=True), cv2.imdecode(np.frombuffer(png, np.uint8), 0))
    assert not capfd.readouterr().err
    with pytest.raises(DataError, match=r"none\.png: cannot read"):
        read_image(tmp_path / "none.png", DataError)
