# SPDX-License-Identifier: Apache-2.0
"""Streams with wrong stamps: what fits is used, one wrong stamp costs one frame, none locks out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drp_slam.data.stamps import CONFIRMING, StampGate
from drp_slam.datatypes import Camera, Frame

STEP = 33_333_333
T0 = 1_305_031_102_175_304_001
YEAR = 365 * 86_400 * 10**9
GOOD = [T0 + i * STEP for i in range(100)]
"""What an honest camera sends."""
rng = np.random.default_rng(7)


def with_one(stamp_ns: int, at: int = 30) -> list[int]:
    """One wrong stamp among good ones."""
    return GOOD[:at] + [stamp_ns] + GOOD[at:]


def jittered(sigma_s: float) -> list[int]:
    return [t + round(1e9 * x) for t, x in zip(GOOD, rng.normal(0, sigma_s, len(GOOD)))]


PATTERNS: dict[str, tuple[list[int], int, int]] = {
    # name: stamps, frames that may be left out at most, new epochs
    "good": (GOOD, 0, 0),
    "a year ahead": (with_one(T0 + YEAR), 1, 0),
    "a year ahead, the first frame": (with_one(T0 + YEAR, 0), 0, 1),
    "10 s ahead": (with_one(T0 + 10 * 10**9), 1, 0),
    "1 s ahead": (with_one(T0 + 2 * 10**9), 0, 1),
    "a year behind": (with_one(T0 - YEAR), 1, 0),
    "zero": (with_one(0), 1, 0),
    "zero, the first frame": (with_one(0, 0), 0, 1),
    "overflow of int32 seconds": (with_one((2**31 - 1) * 10**9 + 999_999_999), 1, 0),
    "negative": (with_one(-1), 1, 0),
    "most negative": (with_one(-(2**31) * 10**9, 0), 1, 0),
    "two wrong in a row": (GOOD[:30] + [T0 + YEAR, T0 + YEAR + STEP] + GOOD[30:], 2, 0),
    "one frame twice": (with_one(GOOD[29]), 1, 0),
    "every frame twice": ([t for t in GOOD for _ in (0, 1)], 100, 0),
    "one stamp for ever, then good": ([T0] * 50 + GOOD[1:], 49, 0),
    "all stamps zero, then good": ([0] * 50 + GOOD, 50, 1),
    "neighbours swapped": ([GOOD[i ^ 1] for i in range(100)], 50, 0),
    "a loop of 3": (GOOD * 3, 0, 2),
    "simulated time starts anew": (GOOD + [i * STEP for i in range(100)], 0, 1),
    "clock set back by 0.5 s": (GOOD + [GOOD[-1] - 500_000_000 + i * STEP for i in range(100)], 0, 1),
    "clock set ahead by an hour": (GOOD + [t + 3_600 * 10**9 for t in GOOD], 0, 1),
    "3 s gaps": ([t + (i // 25) * 3 * 10**9 for i, t in enumerate(GOOD)], 0, 0),
    "60 s of silence": (GOOD[:50] + [t + 60 * 10**9 for t in GOOD[50:]], 0, 1),
    "a frame every 10 s": ([T0 + i * 10**10 for i in range(100)], 0, 1),
    "30 % lost": ([t for t in GOOD if rng.random() > 0.3], 0, 0),
    "jitter of 3 ms": (jittered(0.003), 0, 0),
    "jitter as large as the interval": (jittered(0.033), 55, 20),
    "backwards, then good": (GOOD[::-1] + [t + YEAR for t in GOOD], 99, 1),
    "two clocks in turn": ([t for i in range(100) for t in (GOOD[i], GOOD[i] + YEAR)], 100, 0),
    "every second stamp is noise": ([t for i in range(100) for t in (GOOD[i], int(rng.integers(2**62)))], 100, 0),
}


def play(stamps: list[int]) -> tuple[StampGate[int], list[int], list[str]]:
    """The gate after a stream, what it let through, and what it said."""
    gate: StampGate[int] = StampGate("image")
    out, said = [], []
    for index, stamp_ns in enumerate(stamps):
        admission = gate.admit(stamp_ns, index)
        out += admission.items
        said += [admission.problem] if admission.problem else []
    return gate, out, said


@pytest.mark.parametrize("name", PATTERNS)
def test_no_pattern_locks_the_camera_out(name):
    stamps, left_out, epochs = PATTERNS[name]
    gate, out, said = play(stamps)
    assert len(out) >= len(stamps) - left_out and gate.epoch <= epochs
    assert out == sorted(out), "frames stay in the order in which they came"
    assert all("image: " in words and "\n" not in words for words in said)
    assert bool(said) == (gate.refused > 0 or gate.epoch > 0)
    # whatever was before, a good camera is used again at once or after the confirming frames
    later = [stamps[-1] + YEAR + i * STEP for i in range(10)]
    _, after, _ = play(stamps + later)
    assert len([i for i in after if i >= len(stamps)]) == 10


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=40), st.integers(0, 2**62))
def test_after_any_stamps_a_good_stream_is_used(wrong, start_ns):
    gate, _, _ = play(wrong)
    good = [start_ns + i * STEP for i in range(10)]
    used, epochs = [], 0
    for stamp_ns in good:
        admission = gate.admit(stamp_ns, stamp_ns)
        used += admission.items
        epochs += admission.new_epoch
    assert set(good[CONFIRMING:]) <= set(used) and epochs <= 2


@given(st.lists(st.integers(0, 2**40), max_size=60))
def test_within_an_epoch_stamps_increase(stamps):
    gate: StampGate[int] = StampGate("image")
    last = -1
    for stamp_ns in stamps:
        admission = gate.admit(stamp_ns, stamp_ns)
        if admission.new_epoch:
            last = -1
        for used in admission.items:
            assert used > last
            last = used
    assert gate.refused + gate.epoch * CONFIRMING <= len(stamps)


def test_a_recording_is_streamed_with_its_epochs(caplog):
    camera = Camera(8, 8, 8.0, 8.0, 4.0, 4.0)
    stamps = [*GOOD[:5], T0 + YEAR, *GOOD[5:10], *GOOD[:10]]
    gate: StampGate[Frame] = StampGate("sequence")
    streamed = list(gate.stream(Frame(i, s, None, camera) for i, s in enumerate(stamps)))
    assert [frame.stamp_ns for frame, _ in streamed] == GOOD[:10] * 2
    assert [k for k, (_, new_epoch) in enumerate(streamed) if new_epoch] == [10]
    assert gate.refused == 1 and any("far ahead" in record.message for record in caplog.records)
