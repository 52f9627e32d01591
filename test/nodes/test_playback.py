# SPDX-License-Identifier: Apache-2.0
"""Playback without ROS: order, loops, real time, pause, and damaged frames."""

from __future__ import annotations

import dataclasses
import threading
import time

import numpy as np
import pytest

from drp_slam.data.sequence import Sequence
from drp_slam.datatypes import Camera, Frame
from drp_slam.errors import DataError, GraphError
from drp_slam.nodes.options import rate
from drp_slam.nodes.playback import Playback

CAMERA = Camera(8, 8, 8.0, 8.0, 4.0, 4.0, fps=10.0)


def sequence(count: int, step_ns: int = 100_000_000, broken_at: int = -1) -> Sequence:
    def source():
        for i in range(count):
            if i == broken_at:
                raise DataError("frame.png: truncated")
            yield Frame(i, 1_000 + i * step_ns, np.zeros((8, 8), np.uint8), CAMERA)

    stamps = 1_000 + np.arange(count, dtype=np.int64) * step_ns
    return Sequence("made", CAMERA, stamps, None, source)


def drain(playback: Playback, more: threading.Event, count: int) -> list[int]:
    """Stamps of the next frames, as they come."""
    out: list[int] = []
    while len(out) < count and not playback.exhausted:
        more.wait(5.0)
        more.clear()
        while (frame := playback.take()) is not None:
            out.append(frame.stamp_ns)
    return out


def started(*args) -> tuple[Playback, threading.Event]:
    more = threading.Event()
    playback = Playback(*args, lambda frame: frame, more.set)
    playback.start()
    return playback, more


def test_every_frame_in_order_then_the_end():
    playback, more = started(sequence(25), 0.0, False)
    assert playback.take() is None and not playback.playing  # nothing before `play`
    playback.play()
    assert drain(playback, more, 99) == [1_000 + i * 100_000_000 for i in range(25)]
    assert playback.exhausted and playback.error is None
    playback.stop()


def test_loops_have_later_stamps():
    playback, more = started(sequence(3), 0.0, True)
    playback.play()
    stamps = drain(playback, more, 10)
    playback.stop()
    assert np.all(np.diff(stamps) == 100_000_000)


def test_a_damaged_frame_ends_it_after_the_frames_before():
    playback, more = started(sequence(9, broken_at=4), 0.0, False)
    playback.play()
    assert len(drain(playback, more, 99)) == 4
    assert isinstance(playback.error, DataError)
    playback.stop()


def test_real_time_is_never_early():
    playback, more = started(sequence(6), 2.0, False)
    start = time.monotonic()
    playback.play()
    assert len(drain(playback, more, 99)) == 6
    assert time.monotonic() - start >= 5 * 0.1 / 2.0
    playback.stop()


def test_in_real_time_frames_without_credit_are_dropped_unprepared():
    prepared, more = [], threading.Event()
    wanted = iter(
        [True, False, False, False, True, True]
    )  # frame 0; 1 before and when due; 2 before, wanted when due; 3

    def prepare(frame: Frame) -> Frame:
        prepared.append(frame.index)
        return frame

    playback = Playback(sequence(4, 1_000_000), 1.0, False, prepare, more.set, lambda: next(wanted))
    playback.start()
    playback.play()
    assert drain(playback, more, 99) == [1_000, 2_001_000, 3_001_000]
    assert prepared == [0, 2, 3] and playback.dropped == 1
    playback.stop()


def test_at_rate_max_every_frame_is_played():
    more = threading.Event()
    playback = Playback(sequence(5), 0.0, False, lambda frame: frame, more.set, lambda: False)
    playback.start()
    playback.play()
    assert len(drain(playback, more, 99)) == 5 and playback.dropped == 0
    playback.stop()


def test_pause_holds_the_frames():
    playback, more = started(sequence(500), 0.0, False)
    playback.play()
    seen = drain(playback, more, 3)
    playback.pause()
    more.wait(0.05)
    for _ in range(50):  # what was decoded ahead
        playback.take()
        time.sleep(0.002)
    assert playback.take() is None and not playback.exhausted and seen
    playback.play()
    assert drain(playback, more, 3)
    playback.stop()


@pytest.mark.parametrize("playing", [True, False])
def test_stop_ends_the_thread_whatever_it_waits_for(playing):
    playback, _ = started(sequence(10**6), 0.001, True)
    if playing:
        playback.play()
    playback.stop()
    assert playback.ended


def test_whatever_ends_the_sequence_early_is_kept():
    """Not only errors that name a remedy: the end of a run must not look like success."""
    broken = dataclasses.replace(sequence(3), source=lambda: (Frame(0, 1_000, None, CAMERA) for _ in range(1 // 0)))
    playback, more = started(broken, 0.0, False)
    playback.play()
    assert drain(playback, more, 9) == [] and isinstance(playback.error, ZeroDivisionError)
    playback.stop()


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "fast", ""])
def test_an_invalid_rate_is_refused(text: str) -> None:
    with pytest.raises(GraphError, match="expected max or a number above 0"):
        rate(text)
    assert rate("max") == 0.0 and rate("0.5") == 0.5
