# SPDX-License-Identifier: Apache-2.0
"""Bags that are damaged: what is sound is read, else one line names the repair; nothing half written stays."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rosbags.rosbag2")

from bag_messages import TYPES, messages, refused, write
from test_bag import OLD

from drp_slam.data import bag_images, bag_writer
from drp_slam.data.dataset import open_sequence
from drp_slam.data.sequence import Sequence
from drp_slam.errors import DataError


def recorded(room: Sequence, path: Path) -> Path:
    """An sqlite3 bag without metadata.yaml, as a recorder leaves it that was killed; a folder that the reader names."""
    bag_writer.write_bag(path, room, "sqlite3")
    if not OLD:
        (path / "metadata.yaml").unlink()
    return path / f"{path.name}.db3"


@pytest.mark.parametrize("kept", [0.0, 0.1])
def test_an_sqlite3_bag_without_a_whole_message_names_the_repair(room: Sequence, tmp_path: Path, kept: float) -> None:
    file = recorded(room, tmp_path / "bag")
    os.truncate(file, int(file.stat().st_size * kept))
    for name in (file.parent,) if OLD else (file.parent, file):
        refused(name, str(name), "truncated", f"sqlite3 {file} .recover | sqlite3 recovered.db3")


def frames_of_damaged(room: Sequence, path: Path) -> list[int]:
    """Numbers of the frames that are read; each is as it was."""
    read, true = open_sequence(str(path)), {f.stamp_ns: f for f in room}
    stamps = []
    for frame in read:
        assert np.array_equal(frame.image, true[frame.stamp_ns].image)
        whole = true[frame.stamp_ns]
        assert np.allclose(frame.depth * frame.depth_unit_m, whole.depth * whole.depth_unit_m, atol=1e-3)
        stamps.append(list(true).index(frame.stamp_ns))
    assert not read.skipped and any("whole messages are used" in note for note in read.notes)
    return stamps


@pytest.mark.skipif(OLD, reason="an old rosbags reads what is there and says nothing of the rest")
@pytest.mark.parametrize("kept", [0.5, 0.7, 0.99])
@pytest.mark.parametrize("metadata", [False, True])
def test_frames_before_the_end_of_a_truncated_sqlite3_bag_are_read(
    room: Sequence, tmp_path: Path, kept: float, metadata: bool
) -> None:
    bag = tmp_path / "bag"
    bag_writer.write_bag(bag, room, "sqlite3")
    if not metadata:
        (bag / "metadata.yaml").unlink()
    os.truncate(bag / "bag.db3", int((bag / "bag.db3").stat().st_size * kept))
    found = frames_of_damaged(room, bag)
    assert found == list(range(len(found))) and len(room) * kept - 2 < len(found) <= len(room)


@pytest.mark.skipif(OLD, reason="as above")
def test_frames_around_a_lost_page_of_an_sqlite3_bag_are_read(room: Sequence, tmp_path: Path) -> None:
    file = recorded(room, tmp_path / "bag")
    data = bytearray(file.read_bytes())
    leaves = [at for at in range(8 * 4096, len(data), 4096) if data[at] == 0x0D]  # pages with messages' first bytes
    data[leaves[-1] : leaves[-1] + 4096] = bytes(4096)
    file.write_bytes(data)
    found = frames_of_damaged(room, file)
    assert len(room) // 2 <= len(found) < len(room)


def test_a_damaged_image_is_left_out_and_counted(room: Sequence, tmp_path: Path) -> None:
    recorded = []
    for k, (topic, stamp_ns, message) in enumerate(messages(room)):
        if topic.endswith("color/image_raw"):
            pixels = message.data.reshape(48, 64, 3)
            message = bag_images.compressed(TYPES, message.header, pixels)
            if k == 7:  # the third image
                message = dataclasses.replace(message, data=message.data[:-30])
            if k == 10:  # as cameras fill up their buffers
                message = dataclasses.replace(message, data=np.append(message.data, np.zeros(900, np.uint8)))
            topic += "/compressed"
        recorded.append((topic, stamp_ns, message))
    read = open_sequence(str(write(tmp_path / "bag", recorded)))
    for _ in range(2):
        assert [f.index for f in read] == [0, 1, 3, 4, 5]
        assert len(read.skipped) == 1
        assert "frame 2 of /camera/color/image_raw/compressed" in read.skipped[0] and "truncated" in read.skipped[0]


def test_nothing_is_overwritten_and_nothing_half_written(room: Sequence, tmp_path: Path) -> None:
    (tmp_path / "bag").mkdir()
    with pytest.raises(DataError, match="exists already"):
        bag_writer.write_bag(tmp_path / "bag", room)

    def breaks_off():
        yield next(iter(room))
        raise DataError("frame 1: damaged")

    with pytest.raises(DataError, match="frame 1"):
        bag_writer.write_bag(tmp_path / "other", dataclasses.replace(room, source=breaks_off))
    assert [p.name for p in tmp_path.iterdir()] == ["bag"]


@pytest.mark.parametrize("topic", ["/camera/color/image_raw", "/camera/color/camera_info"])
@pytest.mark.parametrize("kept", [0, 3, 11, 25])
def test_a_message_cut_short_names_the_repair(room: Sequence, tmp_path: Path, topic: str, kept: int) -> None:
    path = write(tmp_path / "bag", messages(room), "SQLITE3")
    with contextlib.closing(sqlite3.connect(path / "bag.db3")) as database, database:
        database.execute(
            "UPDATE messages SET data = substr(data, 1, ?) WHERE topic_id = (SELECT id FROM topics WHERE name = ?)",
            (kept, topic),
        )
    refused(path, str(path), "damaged", "sqlite3")
