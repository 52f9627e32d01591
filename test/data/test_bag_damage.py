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

from test_bag import OLD, TYPES, messages, refused, write

from drp_slam.data import bag_images, bag_writer
from drp_slam.data.dataset import open_sequence
from drp_slam.data.sequence import Sequence
from drp_slam.errors import DataError


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.7, 0.99])
def test_truncated_sqlite3_bag_names_the_repair(room: Sequence, tmp_path: Path, kept: float) -> None:
    path = tmp_path / "bag"
    bag_writer.write_bag(path, room, "sqlite3")
    file = path / "bag.db3"
    os.truncate(file, int(file.stat().st_size * kept))
    if OLD and kept == 0.99:
        pytest.skip("an old rosbags reads what is there and says nothing of the rest")
    for name in (path,) if OLD else (path, file):
        refused(name, str(name), "truncated", f"sqlite3 {file} .recover | sqlite3 recovered.db3")


def test_a_damaged_image_is_left_out_and_counted(room: Sequence, tmp_path: Path) -> None:
    recorded = []
    for k, (topic, stamp_ns, message) in enumerate(messages(room)):
        if topic.endswith("color/image_raw"):
            pixels = message.data.reshape(48, 64, 3)
            message = bag_images.compressed(TYPES, message.header, pixels, depth=False)
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
