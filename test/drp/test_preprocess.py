# SPDX-License-Identifier: Apache-2.0
"""The tensor is XFeat's normalised grey image, quantised as ONNX would."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drp_slam.card import Card, Head, Quantisation
from drp_slam.config import DrpConfig
from drp_slam.device import CpuDevice, EmulatedDevice, NullDevice
from drp_slam.drp.preprocess import Preprocess
from drp_slam.errors import DrpError

INT8 = Card("test", Path("test.onnx"), "int8", Quantisation(0.03, 5), {"descriptors": Head(0, 64, Quantisation())}, {})
FLOAT = dataclasses.replace(INT8, dtype="float32", input=Quantisation())
DEVICE = CpuDevice("drp")


def image(height: int, width: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (7, 7), 2)


def definition(grey: np.ndarray) -> np.ndarray:
    """Instance normalisation of a rounded grey image, in float64."""
    x = grey.astype(np.float64)
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5)


def grey_of(bgr: np.ndarray) -> np.ndarray:
    return np.rint(bgr.sum(axis=2) / 3)


@settings(max_examples=20, deadline=None)
@given(h=st.integers(1, 6), w=st.integers(1, 6), seed=st.integers(0, 2**32 - 1))
def test_float_tensor_is_the_definition(h, w, seed):
    bgr = image(32 * h, 32 * w, seed)
    tensor, _ = Preprocess(DEVICE, FLOAT, DrpConfig())(bgr)
    assert tensor.dtype == np.float32 and tensor.flags.c_contiguous
    np.testing.assert_allclose(tensor, definition(grey_of(bgr)), atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(0.005, 0.1), zero_point=st.integers(-20, 20), seed=st.integers(0, 999))
def test_int8_tensor_is_the_quantised_definition(scale, zero_point, seed):
    card = dataclasses.replace(INT8, input=Quantisation(scale, zero_point))
    bgr = image(64, 96, seed)
    tensor, _ = Preprocess(DEVICE, card, DrpConfig())(bgr)
    exact = np.clip(definition(grey_of(bgr)) / scale + zero_point, -128, 127)
    assert tensor.dtype == np.int8 and tensor.shape == (64, 96)
    # rounding: half a step, and float noise where the value lies between two steps
    assert np.abs(tensor - exact).max() <= 0.5 + 1e-6


def test_agrees_with_pytorchs_instance_norm_of_the_float_grey():
    torch = pytest.importorskip("torch")
    bgr = image(96, 128)
    x = torch.tensor(bgr).permute(2, 0, 1)[None].float().mean(dim=1, keepdim=True)
    expected = torch.nn.InstanceNorm2d(1)(x)[0, 0].numpy()
    tensor, _ = Preprocess(DEVICE, FLOAT, DrpConfig())(bgr)
    # the grey is rounded to 8 bit: a third of a grey value, in units of the deviation
    assert np.abs(tensor - expected).max() < 0.4 / bgr.mean(axis=2).std()


def test_size_becomes_the_next_lower_multiple_of_32():
    tensor, runs = Preprocess(DEVICE, INT8, DrpConfig())(image(370, 1000))
    assert tensor.shape == (352, 992)
    resized = cv2.resize(grey_of(image(370, 1000)).astype(np.uint8), (992, 352))
    expected, _ = Preprocess(DEVICE, INT8, DrpConfig())(resized)
    np.testing.assert_array_equal(tensor, expected)
    assert all(run.work.counters["ops"] > 0 for run in runs)


def test_grey_and_colour_of_the_same_grey_agree():
    grey = image(64, 64)[..., 0].copy()
    stage = Preprocess(DEVICE, INT8, DrpConfig())
    np.testing.assert_array_equal(stage(grey)[0], stage(cv2.merge([grey] * 3))[0])


def test_a_view_is_read_as_its_copy():
    wide = image(64, 128)
    stage = Preprocess(DEVICE, INT8, DrpConfig())
    np.testing.assert_array_equal(stage(wide[:, 32:96])[0], stage(wide[:, 32:96].copy())[0])


def test_a_constant_image_is_zero_not_nan():
    tensor, _ = Preprocess(DEVICE, FLOAT, DrpConfig())(np.full((32, 32), 77, np.uint8))
    assert np.array_equal(tensor, np.zeros((32, 32)))


def test_every_device_gives_the_same_tensor_and_null_its_shape():
    bgr = image(70, 100)
    devices = (DEVICE, EmulatedDevice("drp"), NullDevice("drp"))
    cpu, emulated, null = (Preprocess(d, INT8, DrpConfig())(bgr) for d in devices)
    np.testing.assert_array_equal(cpu[0], emulated[0])
    assert (null[0].shape, null[0].dtype) == (cpu[0].shape, cpu[0].dtype)
    works = [[run.work for run in runs] for _, runs in (cpu, emulated, null)]
    assert len({tuple(tuple(w.counters.items()) for w in some) for some in works}) == 1
    assert [{w.unit for w in some} for some in works] == [{"cpu"}, {"drp"}, {"null"}]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((64, 64), np.float32), "float32"),
        (np.zeros((64, 64, 4), np.uint8), r"\(64, 64, 4\)"),
        (np.zeros((64,), np.uint8), r"\(64,\)"),
        (np.zeros((31, 64), np.uint8), "64 x 31"),
    ],
)
def test_wrong_images_are_errors(bad, message):
    with pytest.raises(DrpError, match=message):
        Preprocess(DEVICE, INT8, DrpConfig())(bad)
