# SPDX-License-Identifier: Apache-2.0
"""Files of bags that were renamed, split, compressed or lost their metadata.yaml."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rosbags.rosbag2")

from bag_messages import STORE, messages, refused, write
from rosbags import rosbag2

from drp_slam.data import bag_storage, bag_writer
from drp_slam.data.dataset import open_sequence
from drp_slam.data.sequence import Sequence

pytestmark = pytest.mark.skipif(bag_storage.reads_folders_only(), reason="rosbags is an old one")


def complete(room: Sequence, path: Path, *words: str) -> None:
    """All frames are read; the notes have the words."""
    read = open_sequence(str(path))
    assert [f.stamp_ns for f in read] == room.stamps_ns.tolist()
    assert all(word in " ".join(read.notes) for word in words), read.notes


@pytest.mark.parametrize("storage", bag_writer.FORMATS)
@pytest.mark.parametrize(
    "wrong",
    [
        ("storage_identifier: *\\S+", "storage_identifier: ''"),
        ("version: 8", "version: 99"),
        ("- bag", "- old"),
        ("", "["),
    ],
)
def test_metadata_that_is_wrong_is_not_needed(
    room: Sequence, tmp_path: Path, storage: str, wrong: tuple[str, str]
) -> None:
    bag_writer.write_bag(tmp_path / "bag", room, storage)
    path = tmp_path / "bag" / "metadata.yaml"
    path.write_text(re.sub(wrong[0], wrong[1], path.read_text(), count=1))
    complete(room, tmp_path / "bag", "metadata.yaml")


@pytest.mark.parametrize("storage", bag_writer.FORMATS)
@pytest.mark.parametrize("name", ["renamed.mcap", "renamed.db3", "recording", "recording.bak"])
def test_a_file_that_was_renamed_is_known_by_its_first_bytes(
    room: Sequence, tmp_path: Path, storage: str, name: str
) -> None:
    bag_writer.write_bag(tmp_path / "bag", room, storage)
    file = next(f for f in (tmp_path / "bag").iterdir() if f.name != "metadata.yaml")
    file.rename(file.with_name(name))
    complete(room, tmp_path / "bag")
    complete(room, tmp_path / "bag" / name)


def compressed(room: Sequence, path: Path, mode: str) -> Path:
    with rosbag2.Writer(path, version=8, storage_plugin=rosbag2.StoragePlugin.SQLITE3) as writer:
        pass
    shutil.rmtree(path)
    writer = rosbag2.Writer(path, version=8, storage_plugin=rosbag2.StoragePlugin.SQLITE3)
    writer.set_compression(rosbag2.CompressionMode[mode], rosbag2.CompressionFormat.ZSTD)
    with writer:
        topics = {}
        for topic, log_ns, message in messages(room):
            kind = message.__msgtype__
            if topic not in topics:
                topics[topic] = writer.add_connection(topic, kind, typestore=STORE)
            writer.write(topics[topic], log_ns, STORE.serialize_cdr(message, kind))
    return path


@pytest.mark.parametrize("mode", ["FILE", "MESSAGE"])
def test_zstd_with_and_without_metadata(room: Sequence, tmp_path: Path, mode: str) -> None:
    path = compressed(room, tmp_path / "bag", mode)
    complete(room, path)
    (path / "metadata.yaml").unlink()
    complete(room, path)
    complete(room, next(path.iterdir()))


@pytest.mark.parametrize("storage", ["MCAP", "SQLITE3"])
def test_parts_of_a_split_bag_are_joined_in_time(room: Sequence, tmp_path: Path, storage: str) -> None:
    """Named so that the order of the names is not that of time."""
    recorded = messages(room)
    (tmp_path / "bag").mkdir()
    for name, part in (("b_0", recorded[:9]), ("a_1", recorded[9:])):
        folder = write(tmp_path / name, part, storage)
        file = next(f for f in folder.iterdir() if f.name != "metadata.yaml")
        shutil.copy(file, tmp_path / "bag" / file.name)
    complete(room, tmp_path / "bag")
    assert np.array_equal(list(open_sequence(str(tmp_path / "bag")))[4].image, list(room)[4].image)


def test_a_bag_of_ros_1_says_how_to_convert_it(tmp_path: Path) -> None:
    (tmp_path / "old.bag").write_bytes(b"#ROSBAG V2.0\n" + bytes(4096))
    words = f"rosbags-convert --src {tmp_path / 'old.bag'} --dst {tmp_path / 'old'}"
    refused(tmp_path / "old.bag", "ROS 1", words)
    refused(tmp_path, "ROS 1", words)


def test_an_empty_file_is_not_called_a_bag_of_another_kind(tmp_path: Path) -> None:
    for name in ("a.mcap", "a.db3", "a.bag", "a.db3.zstd"):
        (tmp_path / name).write_bytes(b"")
        refused(tmp_path / name, name, "damaged")


def cut(bag: Path, size: int | None = None, zeros_from: int | None = None) -> Path:
    """An MCAP file as a recorder leaves it that was killed, without metadata.yaml, or filled up with zeros."""
    file = next(bag.glob("*.mcap"))
    data = file.read_bytes()
    end = len(data) if size is None else size
    data = data[:end] if zeros_from is None else data[:zeros_from] + bytes(end - zeros_from)
    file.write_bytes(data)
    (bag / "metadata.yaml").unlink(missing_ok=True)
    return file


@pytest.mark.parametrize("compression", [None, rosbag2.CompressionMode.STORAGE], ids=["plain", "zstd"])
@pytest.mark.parametrize("missing_bytes", [1, 8, 37, 200])
def test_an_mcap_file_without_footer_or_index_is_read_whole(
    room: Sequence, tmp_path: Path, compression: object, missing_bytes: int
) -> None:
    """The log times go back, as those of several publishers do."""
    recorded = messages(room)
    recorded[1], recorded[2] = recorded[2], recorded[1]
    bag = write(tmp_path / "bag", recorded, compression=compression)
    file = cut(bag, next(bag.glob("*.mcap")).stat().st_size - missing_bytes)
    complete(room, bag)
    complete(room, file)


@pytest.mark.parametrize("zeros", [False, True], ids=["cut", "zeros"])
def test_frames_before_the_end_of_an_interrupted_mcap_file_are_read(
    room: Sequence, tmp_path: Path, zeros: bool
) -> None:
    bag = write(tmp_path / "bag", messages(room))
    size = next(bag.glob("*.mcap")).stat().st_size
    kept = int(size * 0.6)
    cut(bag, size if zeros else kept, kept if zeros else None)
    read = open_sequence(str(bag))
    frames = list(read)
    assert 2 <= len(frames) < len(room) and not read.skipped
    for found, true in zip(frames, room):
        assert found.stamp_ns == true.stamp_ns and np.array_equal(found.image, true.image)
        assert np.array_equal(found.depth, true.depth)
    assert any("truncated" in note for note in read.notes)


def test_an_mcap_file_without_a_whole_message_names_the_repair(room: Sequence, tmp_path: Path) -> None:
    bag = write(tmp_path / "bag", messages(room))
    file = cut(bag, 150)
    refused(bag, "no whole message", f"mcap recover {file}")


def test_messages_in_the_log_of_a_killed_recorder_are_named(room: Sequence, tmp_path: Path) -> None:
    bag_writer.write_bag(tmp_path / "bag", room, "sqlite3")
    (tmp_path / "bag" / "bag.db3-wal").write_bytes(bytes(4096))
    complete(room, tmp_path / "bag", "bag.db3-wal", "wal_checkpoint")
    complete(room, tmp_path / "bag" / "bag.db3", "bag.db3-wal", "wal_checkpoint")
