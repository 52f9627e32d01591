# SPDX-License-Identifier: Apache-2.0
"""Reserves a results folder for one run: locks it, checks that it can be written, removes an earlier run's files."""

from __future__ import annotations

import fcntl
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from drp_slam.errors import ProfilerError
from drp_slam.reporting import folder as files


@contextmanager
def claimed(out: Path, recording: str | None = None) -> Iterator[str]:
    """Holds the folder `out` for one run: locks it, removes an earlier run's results, yields a new run id.

    Raises ProfilerError if another run holds it, it cannot be written, or it is the recording
    itself, whose `groundtruth.txt` has the name of a result.
    """
    if recording and os.path.exists(recording) and os.path.samefile(recording, out):
        raise ProfilerError(f"--out {out}: is the recording; name another folder")
    lock = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ProfilerError(f"--out {out}: another run writes there; wait for it or name another folder") from None
        probe(out)
        clear(out)
        yield uuid.uuid4().hex
    finally:
        os.close(lock)


def probe(out: Path) -> None:
    """Raises ProfilerError if nothing can be written into `out`."""
    try:
        with tempfile.TemporaryFile(dir=out) as file:
            file.write(bytes(4096))
            file.flush()
    except OSError as refused:
        raise ProfilerError(
            f"--out {out}: cannot write there: {refused.strerror}; free the disk or name another folder"
        ) from refused


def clear(out: Path) -> None:
    """Removes the results of an earlier run, so that a report does not mix them with new ones. Raises ProfilerError."""
    for name in (*files.OWN, *(str(p.relative_to(out)) for p in out.glob(f"{files.MOMENTS}/*.jpg"))):
        try:
            for path in (out / name, *out.glob(f"{name}.part*")):
                path.unlink(missing_ok=True)
        except OSError as refused:
            raise ProfilerError(
                f"--out {out}: cannot remove {name} of an earlier run: {refused.strerror}; name another folder"
            ) from refused
