# SPDX-License-Identifier: Apache-2.0
"""Files are complete or absent, and nothing outside is written."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from drp_slam import atomic
from drp_slam.errors import DataError


def test_a_block_that_fails_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "file"
    atomic.write_text(path, "old", DataError)
    with pytest.raises(RuntimeError), atomic.replacing(path, DataError) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file"]


def test_a_planted_link_is_replaced_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("keep")
    path = tmp_path / "file"
    for name in ("file", f"file.part{os.getpid()}"):
        (tmp_path / name).symlink_to(victim)
    atomic.write_text(path, "new", DataError)
    assert victim.read_text() == "keep" and path.read_text() == "new" and not path.is_symlink()


@pytest.mark.parametrize("folder", ["/sys", "/proc/self", "/no/such/folder", "/dev/null"])
def test_errors_of_the_operating_system_become_one_error(folder, tmp_path):
    with pytest.raises(DataError, match="cannot write: .*--out"):
        atomic.write_text(Path(folder) / "file", "text", DataError)


def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        atomic.write_text(tmp_path / "file", "text", DataError)
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_a_signal_waits_until_the_work_is_done(tmp_path):
    with atomic.uninterrupted() as interrupts:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        atomic.write_text(tmp_path / "file", "text", DataError)
    assert interrupts.count == 2 and (tmp_path / "file").read_text() == "text"
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        signal.sigtimedwait([], 1)
