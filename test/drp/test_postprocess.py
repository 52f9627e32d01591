# SPDX-License-Identifier: Apache-2.0
"""Keypoints and descriptors are XFeat's `detectAndCompute`; PyTorch is the oracle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drp_slam.card import Card, Head, Quantisation
from drp_slam.config import DrpConfig
from drp_slam.device import CpuDevice, EmulatedDevice, NullDevice
from drp_slam.drp.keypoints import Refine
from drp_slam.drp.postprocess import Postprocess, original_pixels
from drp_slam.errors import DrpError

DEVICE = CpuDevice("drp")
SPANS = {"descriptors": (0, 64), "keypoints": (64, 129), "reliability": (129, 130)}
SCALES = {
    "descriptors": Quantisation(0.05, 3),
    "keypoints": Quantisation(0.16, -7),
    "reliability": Quantisation(0.05, 11),
}


def card(dtype: str) -> Card:
    heads = {n: Head(*s, SCALES[n] if dtype == "int8" else Quantisation()) for n, s in SPANS.items()}
    return Card("test", Path("test.onnx"), dtype, Quantisation(), heads, {})


def make_heads(h: int, w: int, seed: int = 0) -> np.ndarray:
    """(h, w, 130) float32 with the spread of XFeat's own heads."""
    rng = np.random.default_rng(seed)
    heads = rng.standard_normal((h, w, 130), dtype=np.float32) * 1.9
    heads[..., 64:129] = heads[..., 64:129] * 1.4 - 4
    heads[..., 128] += 8
    return heads


def quantise(heads: np.ndarray) -> np.ndarray:
    stored = np.empty(heads.shape, np.int8)
    for name, (first, last) in SPANS.items():
        q = np.rint(heads[..., first:last] / SCALES[name].scale) + SCALES[name].zero_point
        stored[..., first:last] = np.clip(q, -128, 127)
    return stored


def dequantise(stored: np.ndarray) -> np.ndarray:
    heads = np.empty(stored.shape, np.float32)
    for name, (first, last) in SPANS.items():
        value = stored[..., first:last].astype(np.float32) - SCALES[name].zero_point
        heads[..., first:last] = value * SCALES[name].scale
    return heads


def detect(heads: np.ndarray, config: DrpConfig):
    """XFeat's `detectAndCompute` after its network: uv, score, descriptors, best first."""
    torch = pytest.importorskip("torch")
    sample = torch.nn.functional.grid_sample
    x = torch.tensor(heads).permute(2, 0, 1)[None]
    dense = torch.nn.functional.normalize(x[:, :64], dim=1)
    cells = torch.softmax(x[:, 64:129], 1)[:, :64]
    _, _, h, w = cells.shape
    heat = cells.permute(0, 2, 3, 1).reshape(h, w, 8, 8).permute(0, 2, 1, 3).reshape(8 * h, 8 * w)
    largest = torch.nn.functional.max_pool2d(heat[None, None], config.nms_px, 1, config.nms_px // 2)
    y, x_px = ((heat == largest[0, 0]) & (heat > config.threshold)).nonzero().T
    pixels = torch.stack((x_px, y), 1)
    grid = 2.0 * (pixels / torch.tensor([8 * w - 1, 8 * h - 1], dtype=torch.float32)) - 1.0
    grid = grid[None, :, None]
    reliability = sample(torch.sigmoid(x[:, 129:130]), grid, mode="bilinear", align_corners=False)
    score = heat[y, x_px] * reliability[0, 0, :, 0]
    best = torch.argsort(-score, stable=True)[: config.top_k]
    found = sample(dense, grid, mode="bicubic", align_corners=False)[0, :, :, 0].T
    found = torch.nn.functional.normalize(found, dim=-1)
    return pixels[best].numpy(), score[best].numpy(), found[best].numpy()


def same_features(features, expected, top_k: int) -> None:
    pixels, score, descriptor = expected
    at = {tuple(p): i for i, p in enumerate(features.uv.astype(int))}
    oracle = {tuple(p): i for i, p in enumerate(pixels)}
    assert len(at) == len(features) == min(len(oracle), top_k)
    # a keypoint may differ only where its score ties with the last one kept
    for p in set(oracle) - set(at):
        assert score[oracle[p]] - features.score[-1] < 1e-6
    common = [(at[p], oracle[p]) for p in at if p in oracle]
    assert len(common) >= 0.99 * len(oracle)
    mine, theirs = np.array(common).T
    np.testing.assert_allclose(features.score[mine], score[theirs], atol=1e-5)
    np.testing.assert_allclose(features.descriptor[mine], descriptor[theirs], atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((30, 40), {}),
        ((12, 20), {"top_k": 100}),
        ((16, 12), {"nms_px": 3, "threshold": 0.2}),
        ((9, 7), {"nms_px": 1, "threshold": 0.02, "top_k": 64}),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_agrees_with_xfeat(shape, options, dtype):
    config = DrpConfig(**options, subpixel=False)
    heads = make_heads(*shape)
    stored = quantise(heads) if dtype == "int8" else heads
    reference = dequantise(stored) if dtype == "int8" else heads
    height, width = 8 * shape[0], 8 * shape[1]
    features, _ = Postprocess(DEVICE, card(dtype), config)(stored, (height, width))
    assert len(features) > 20
    same_features(features, detect(reference, config), config.top_k)


@settings(max_examples=15, deadline=None)
@given(h=st.integers(1, 12), w=st.integers(1, 12), seed=st.integers(0, 2**32 - 1))
def test_what_every_result_has_in_common(h, w, seed):
    config = DrpConfig(top_k=64)
    stage = Postprocess(DEVICE, card("int8"), config)
    stored = quantise(make_heads(h, w, seed))
    features, runs = stage(stored, (8 * h, 8 * w))
    again, _ = stage(stored, (8 * h, 8 * w))
    for a, b in zip((features.uv, features.score, features.descriptor), (again.uv, again.score, again.descriptor)):
        assert a.dtype == np.float32 and np.array_equal(a, b)
    assert len(features) <= 64 and np.all(np.diff(features.score) <= 0)
    assert np.all((features.score > 0) & (features.score <= 1))
    assert np.all((features.uv >= 0) & (features.uv <= (8 * w - 1, 8 * h - 1)))
    np.testing.assert_allclose(np.linalg.norm(features.descriptor, axis=1), 1, atol=1e-5)
    assert len(features) == 0 or all(run.work.counters["ops"] > 0 for run in runs)


@pytest.mark.parametrize("window", [3, 5, 9])
def test_keypoints_keep_their_distance(window):
    """Float logits do not tie, so that no two maxima share a window."""
    config = DrpConfig(nms_px=window, subpixel=False)
    features, _ = Postprocess(DEVICE, card("float32"), config)(make_heads(12, 16), (96, 128))
    gap = np.abs(features.uv[:, None] - features.uv[None]).max(axis=2)
    assert len(features) > 20
    assert gap[~np.eye(len(gap), dtype=bool)].min() == window // 2 + 1


def test_results_of_one_frame_survive_the_next():
    stage = Postprocess(DEVICE, card("int8"), DrpConfig())
    first, _ = stage(quantise(make_heads(12, 16, 1)), (96, 128))
    kept = first.uv.copy(), first.score.copy(), first.descriptor.copy()
    stage(quantise(make_heads(12, 16, 2)), (96, 128))
    for before, now in zip(kept, (first.uv, first.score, first.descriptor)):
        assert np.array_equal(before, now)


def test_subpixel_moves_a_keypoint_to_its_centre_of_mass():
    rng = np.random.default_rng(5)
    heat = rng.random((40, 48), dtype=np.float32)
    pixels = np.array([[20, 10], [2, 2], [45, 37], [1, 20], [20, 39]])
    (uv,) = Refine(5).compute(heat, pixels)
    for (x, y), found in zip(pixels[:3], uv[:3]):
        window = heat[y - 2 : y + 3, x - 2 : x + 3].astype(np.float64)
        mass_y, mass_x = np.mgrid[y - 2 : y + 3, x - 2 : x + 3]
        expected = (window * mass_x).sum(), (window * mass_y).sum()
        np.testing.assert_allclose(found, np.array(expected) / window.sum(), atol=1e-4)
    np.testing.assert_array_equal(uv[3:], pixels[3:])
    assert Refine(5).compute(heat, np.zeros((0, 2), np.int64))[0].shape == (0, 2)


def test_subpixel_changes_where_and_nothing_else():
    heads = make_heads(12, 16)
    on, off = (Postprocess(DEVICE, card("float32"), DrpConfig(subpixel=s))(heads, (96, 128))[0] for s in (True, False))
    assert np.array_equal(on.score, off.score) and np.array_equal(on.descriptor, off.descriptor)
    assert 0 < np.abs(on.uv - off.uv).max() < 2
    assert np.array_equal(off.uv, np.rint(off.uv))


def test_an_image_without_keypoints_gives_none():
    heads = np.zeros((8, 8, 130), np.float32)
    heads[..., 128] = 20
    features, _ = Postprocess(DEVICE, card("float32"), DrpConfig())(heads, (64, 64))
    assert len(features) == 0 and features.uv.shape == (0, 2) and features.descriptor.shape == (0, 64)


def test_extreme_logits_stay_finite():
    stored = np.full((8, 8, 130), -128, np.int8)
    stored[4, 4, 64 + 27] = 127
    features, _ = Postprocess(DEVICE, card("int8"), DrpConfig())(stored, (64, 64))
    assert (4 * 8 + 3, 4 * 8 + 3) in {tuple(p) for p in features.uv.astype(int)}
    assert np.isfinite(features.score).all() and np.isfinite(features.descriptor).all()


def test_extreme_reliability_is_no_warning():
    heads = make_heads(8, 8)
    heads[:4, :, 129], heads[4:, :, 129] = -1e4, 1e4
    features, _ = Postprocess(DEVICE, card("float32"), DrpConfig())(heads, (64, 64))
    assert len(features) > 10 and features.score.max() <= 1
    assert features.uv[np.argmax(features.score), 1] > 30


def test_pixels_map_centre_to_centre():
    pixels = np.array([[0, 0], [639, 479], [319, 239]])
    np.testing.assert_array_equal(original_pixels(pixels, (480, 640), (480, 640)), pixels)
    doubled = original_pixels(pixels, (480, 640), (960, 1280))
    np.testing.assert_allclose(doubled, [[0.5, 0.5], [1278.5, 958.5], [638.5, 478.5]])


def test_every_device_gives_the_same_features_and_null_none():
    stored = quantise(make_heads(12, 16))
    devices = (DEVICE, EmulatedDevice("drp"), NullDevice("drp"))
    cpu, emulated, null = (Postprocess(d, card("int8"), DrpConfig())(stored, (96, 128)) for d in devices)
    assert np.array_equal(cpu[0].uv, emulated[0].uv) and len(cpu[0]) > 20
    assert np.array_equal(cpu[0].descriptor, emulated[0].descriptor)
    assert len(null[0]) == 0 and {run.work.unit for run in null[1]} == {"null"}
    assert {run.work.place for run in emulated[1]} == {"preruntime", "custom", "cpu"}
    assert {run.work.place for run in cpu[1]} == {run.work.unit for run in cpu[1]} == {"cpu"}
    assert [run.work.counters for run in emulated[1]] == [run.work.counters for run in cpu[1]]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((8, 8, 130), np.float32), "float32"),
        (np.zeros((8, 8, 129), np.int8), r"\(8, 8, 129\)"),
        (np.zeros((8, 130), np.int8), r"\(8, 130\)"),
    ],
)
def test_wrong_heads_are_errors(bad, message):
    with pytest.raises(DrpError, match=message):
        Postprocess(DEVICE, card("int8"), DrpConfig())(bad, (64, 64))


def test_an_even_window_is_an_error():
    with pytest.raises(DrpError, match="nms_px is 4"):
        Postprocess(DEVICE, card("int8"), DrpConfig(nms_px=4))
