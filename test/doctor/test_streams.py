# SPDX-License-Identifier: Apache-2.0
"""Faults of stamps are found in any stream; a healthy stream of any rate and jitter has none."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drp_slam.doctor.checks import Level
from drp_slam.doctor.findings import Finding
from drp_slam.doctor.intrinsics import Stated, check_calibration
from drp_slam.doctor.streams import Stream, check_pairs, check_stream

few = settings(max_examples=8, deadline=None)
rates = st.floats(6.0, 120.0)
starts = st.integers(1, 2_000_000_000)
jitters = st.floats(0.0, 0.2)


def stream(hz: float, start_s: int, jitter: float = 0.0, count: int = 200, role: str = "image") -> Stream:
    rng = np.random.default_rng(0)
    stamps_s = np.arange(count) / hz + rng.uniform(-jitter, jitter, count) / hz
    stamps_ns = start_s * 10**9 + np.round(stamps_s * 1e9).astype(np.int64)
    return Stream(f"/{role}", role, stamps_ns, stamps_ns + 5_000_000)


def names(findings: list[Finding]) -> set[str]:
    return {finding.check.name for finding in findings}


def changed(base: Stream, stamps_ns: np.ndarray) -> Stream:
    return dataclasses.replace(base, stamps_ns=stamps_ns)


@few
@given(rates, starts, jitters)
def test_a_healthy_stream(hz, start_s, jitter):
    assert not check_stream(stream(hz, start_s, jitter))


@few
@given(rates, starts, st.integers(0, 199), st.integers(20, 10**9))
def test_one_stamp_far_ahead(hz, start_s, k, ahead_s):
    base = stream(hz, start_s)
    stamps_ns = base.stamps_ns.copy()
    stamps_ns[max(k, 1)] += ahead_s * 10**9
    assert names(check_stream(changed(base, stamps_ns))) == {"stamps_ahead"}


@few
@given(rates, starts, st.integers(1, 198), st.floats(1.1, 3.0))
def test_stamps_that_go_back(hz, start_s, k, intervals):
    base = stream(hz, start_s)
    stamps_ns = base.stamps_ns.copy()
    stamps_ns[k] -= int(intervals * 1e9 / hz)
    assert "stamps_backwards" in names(check_stream(changed(base, stamps_ns)))


@few
@given(rates, starts)
def test_repeated_zero_and_constant_stamps(hz, start_s):
    base = stream(hz, start_s)
    assert names(check_stream(changed(base, np.repeat(base.stamps_ns[:100], 2)))) == {"stamps_backwards"}
    assert names(check_stream(changed(base, base.stamps_ns * 0))) == {"stamps_zero"}
    assert names(check_stream(changed(base, np.full_like(base.stamps_ns, start_s)))) == {"stamps_zero"}


@few
@given(rates, starts, st.floats(1.5, 1e6))
def test_a_clock_that_is_ahead_or_behind(hz, start_s, off_s):
    base = stream(hz, start_s)
    ahead = dataclasses.replace(base, arrived_ns=base.stamps_ns - int(off_s * 1e9))
    assert names(check_stream(ahead)) == {"stamps_ahead"}
    behind = dataclasses.replace(base, arrived_ns=base.stamps_ns + int(off_s * 1e9))
    assert names(check_stream(behind)) == ({"stamps_behind"} if off_s > 10.01 else set()) or 9.9 < off_s < 10.1


@few
@given(rates, starts, st.floats(0.1, 0.35), st.integers(0, 2**32 - 1))
def test_dropped_frames(hz, start_s, share, seed):
    base = stream(hz, start_s)
    kept = base.stamps_ns[np.random.default_rng(seed).random(200) >= share]
    rest = dataclasses.replace(base, stamps_ns=kept, arrived_ns=None)
    assert names(check_stream(rest)) == {"frames_dropped"} or len(kept) > 185


@pytest.mark.parametrize(("hz", "expected"), [(4.0, {"low_rate"}), (1.0, {"low_rate"}), (7.5, set())])
def test_rates(hz, expected):
    assert names(check_stream(stream(hz, 10))) == expected


@pytest.mark.parametrize("offset_ms", [-33, -25, -19, 0, 12, 19, 25, 40])
def test_depth_beside_colour(offset_ms):
    colour, depth = stream(10.0, 100), stream(10.0, 100, role="depth")
    found = check_pairs(colour, changed(depth, depth.stamps_ns + offset_ms * 1_000_000))
    assert names(found) == ({"unsynchronised"} if abs(offset_ms) > 17 else set())
    for finding in found:
        assert f"{offset_ms:+.1f} ms" in finding.seen
        assert finding.level is (Level.ERROR if abs(offset_ms) > 20 else Level.WARN)


def test_depth_of_another_clock():
    (found,) = check_pairs(stream(10.0, 100), stream(10.0, 5000, role="depth"))
    assert found.level is Level.ERROR and "never overlap" in found.seen


K = np.array([[525.0, 0, 319.5], [0, 525.0, 239.5], [0, 0, 1]])
P = np.hstack([K, np.zeros((3, 1))])
SOUND = Stated((640, 480), K, np.zeros(5), P)


def calibration(K: np.ndarray = K, **values) -> set[str]:
    return names(check_calibration(dataclasses.replace(SOUND, K=K, P=None, **values), "/camera_info", (640, 480)))


def with_k(fx=525.0, fy=525.0, cx=319.5, cy=239.5) -> np.ndarray:
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])


@pytest.mark.parametrize(
    ("K", "expected"),
    [
        (with_k(), set()),
        (with_k(cx=600, cy=183, fx=700, fy=700), {"principal_point"}),
        (with_k(cx=239.5, cy=319.5), {"principal_point"}),
        (with_k(fx=319.5, fy=239.5, cx=525, cy=525), {"principal_point", "wrong_calibration"}),
        (with_k(262.5, 262.5, 159.75, 119.75), {"principal_point"}),
        (with_k(1050, 1050, 639, 479), {"principal_point"}),
        (with_k().T, {"principal_point"}),
        (with_k(fy=262.0), {"wrong_calibration"}),
        (with_k(fx=5000, fy=5000), {"wrong_calibration"}),
        (with_k(fx=0, fy=0), {"not_calibrated"}),
        (with_k(fx=np.nan), {"not_calibrated"}),
    ],
)
def test_calibrations(K, expected):
    assert calibration(K) == expected


def test_sizes_rectification_and_distortion():
    assert names(check_calibration(SOUND, "/camera_info", (1280, 720))) == {"size_mismatch"}
    bent = dataclasses.replace(SOUND, D=np.array([0.1, -0.2, 0.0, 0.0, 0.0]))
    assert not check_calibration(bent, "/camera_info", (640, 480))
    assert names(check_calibration(dataclasses.replace(bent, rectified=True), "/camera_info")) == {"rectification"}
    other = dataclasses.replace(SOUND, P=np.hstack([with_k(fx=430, fy=430), np.zeros((3, 1))]))
    assert names(check_calibration(other, "/camera_info")) == {"rectification"}
    assert not check_calibration(dataclasses.replace(other, D=bent.D, rectified=True), "/camera_info")
    alone = dataclasses.replace(SOUND, K=np.zeros((3, 3)), P=np.hstack([with_k(), np.zeros((3, 1))]))
    assert not check_calibration(alone, "/camera_info", (640, 480))  # a driver that fills P alone
    without = dataclasses.replace(SOUND, P=np.zeros((3, 4)), rectified=True)
    assert not check_calibration(without, "/camera_info")
    assert names(check_calibration(dataclasses.replace(without, D=bent.D), "/camera_info")) == {"rectification"}
    assert calibration(D=np.array([-1.5, 0.0, 0.0, 0.0, 0.0])) == {"wrong_calibration"}
    assert calibration(D=np.array([0.2624, -0.9531, -0.0054, 0.0026, 1.1633])) == set()  # freiburg1
